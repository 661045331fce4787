//! Choices and conversions.

use super::site::Site;
use super::{Rule, rule};
use gradc_ir::{DType, Op, UnaryOp, Value};

pub(super) const RULES: &[Rule] = &[
    rule("select_by_constant", select_by_constant),
    rule("select_of_equals", select_of_equals),
    rule("select_by_not", select_by_not),
    rule("select_of_bools", select_of_bools),
    rule("select_in_select", select_in_select),
    rule("cast_of_cast", cast_of_cast),
    rule("float_through_byte", float_through_byte),
];

/// The condition and the two arms.
fn select(site: &Site) -> Option<[Value; 3]> {
    match site.op {
        Op::Select => Some([site.operands[0], site.operands[1], site.operands[2]]),
        _ => None,
    }
}

fn select_by_constant(site: &Site) -> Option<Value> {
    let [condition, then, otherwise] = select(site)?;
    site.number(condition).map(|holds| if holds != 0.0 { then } else { otherwise })
}

fn select_of_equals(site: &Site) -> Option<Value> {
    let [_, then, otherwise] = select(site)?;
    (then == otherwise).then_some(then)
}

fn select_by_not(site: &Site) -> Option<Value> {
    let [_, then, otherwise] = select(site)?;
    let condition = site.node(0);
    (condition.op == Op::Unary(UnaryOp::Not))
        .then(|| site.expr(condition.operands[0]).select(site.expr(otherwise), site.expr(then)).value())
}

/// A choice between true and false is the condition, or its opposite.
fn select_of_bools(site: &Site) -> Option<Value> {
    let [condition, then, otherwise] = select(site)?;
    if site.dtype() != DType::Bool {
        return None;
    }
    match (site.number(then)?, site.number(otherwise)?) {
        (1.0, 0.0) => Some(condition),
        (0.0, 1.0) => Some(site.expr(condition).logical_not().value()),
        _ => None,
    }
}

/// A choice by a condition that was decided outside.
fn select_in_select(site: &Site) -> Option<Value> {
    let [condition, then, otherwise] = select(site)?;
    let arm = |value: Value, position: usize| {
        let node = site.builder.node(value);
        (node.op == Op::Select && node.operands[0] == condition).then(|| node.operands[position])
    };
    let (inner_then, inner_otherwise) = (arm(then, 1), arm(otherwise, 2));
    if inner_then.is_none() && inner_otherwise.is_none() {
        return None;
    }
    let then = site.expr(inner_then.unwrap_or(then));
    let otherwise = site.expr(inner_otherwise.unwrap_or(otherwise));
    Some(site.expr(condition).select(then, otherwise).value())
}

/// A detour through a wider type.
fn cast_of_cast(site: &Site) -> Option<Value> {
    let Op::Cast(to) = *site.op else { return None };
    let inner = site.node(0);
    let Op::Cast(middle) = inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    let from = x.dtype();
    let direct = from == to
        || from.is_float() == middle.is_float()
            && (from.is_float() || !matches!(to, DType::F16 | DType::BF16));
    (keeps_all(from, middle) && direct).then(|| x.cast(to).value())
}

/// Floats that become bytes and floats again stay floats, for which there are vectors: truncated, within the type, 0 where
/// they are no numbers.
fn float_through_byte(site: &Site) -> Option<Value> {
    let Op::Cast(to @ (DType::F32 | DType::F64)) = *site.op else { return None };
    let inner = site.node(0);
    let Op::Cast(byte @ (DType::U8 | DType::I8)) = inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    if x.dtype() != to {
        return None;
    }
    let (low, high) = if byte == DType::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
    let zero = x.splat(0.0);
    // Above -1 it is 0, not -0.
    let below = match byte {
        DType::U8 => zero,
        _ => x.le(x.splat(-1.0)).select(x.ceil().max(x.splat(low)), zero),
    };
    Some(x.gt(zero).select(x.floor().min(x.splat(high)), below).value())
}

/// Whether every value of the first type is one of the second.
fn keeps_all(from: DType, to: DType) -> bool {
    let bits = |dtype: DType| dtype.size() * 8;
    let significand = match to {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 0,
    };
    match from {
        _ if from == to => true,
        DType::Bool => true,
        DType::F16 | DType::BF16 => matches!(to, DType::F32 | DType::F64),
        DType::F32 => to == DType::F64,
        DType::F64 => false,
        _ if to.is_float() => {
            bits(from) - from.is_signed_integer() as usize <= significand && bits(from) <= 32
        }
        _ if from.is_signed_integer() => to.is_signed_integer() && bits(to) > bits(from),
        _ => to.is_integer() && bits(to) > bits(from),
    }
}
