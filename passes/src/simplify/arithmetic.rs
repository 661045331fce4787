//! Arithmetic and logic.
//!
//! Constants stand on the right of commutative operators; the rules after that one look only there.

use super::site::Site;
use super::{Rule, rule};
use gradc_ir::{BinaryOp, CompareOp, DType, Literal, Node, Op, UnaryOp, Value};

pub(super) const RULES: &[Rule] = &[
    rule("constant_to_the_right", constant_to_the_right),
    rule("add_zero", add_zero),
    rule("subtract_from_zero", subtract_from_zero),
    rule("multiply_by_one", multiply_by_one),
    rule("multiply_by_minus_one", multiply_by_minus_one),
    rule("divide_by_power_of_two", divide_by_power_of_two),
    rule("small_power", small_power),
    rule("negation_of_negation", negation_of_negation),
    rule("negation_of_difference", negation_of_difference),
    rule("add_negation", add_negation),
    rule("product_of_negations", product_of_negations),
    rule("negation_times_constant", negation_times_constant),
    rule("absolute_of_negation", absolute_of_negation),
    rule("one_of_two_equals", one_of_two_equals),
    rule("logic_with_constant", logic_with_constant),
    rule("not_of_comparison", not_of_comparison),
];

fn binary(site: &Site) -> Option<BinaryOp> {
    match site.op {
        Op::Binary(op) => Some(*op),
        _ => None,
    }
}

/// The operand of this node, where it is this function.
fn argument(node: &Node, op: UnaryOp) -> Option<Value> {
    (node.op == Op::Unary(op)).then(|| node.operands[0])
}

fn constant_to_the_right(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    let commutes = matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Mul
            | BinaryOp::Max
            | BinaryOp::Min
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor
    );
    let [left, right] = [site.operands[0], site.operands[1]];
    let swaps = commutes && site.splat(left).is_some() && site.splat(right).is_none();
    swaps.then(|| site.expr(right).binary(op, site.expr(left)).value())
}

/// `x + 0` and `x - 0` are x. (Of -0 the first would make 0.)
fn add_zero(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    let zero = matches!(op, BinaryOp::Add | BinaryOp::Sub) && site.number(site.operands[1]) == Some(0.0);
    zero.then(|| site.operands[0])
}

/// `0 - x` is `-x`. (Of 0 the first would make 0, the second makes -0.)
fn subtract_from_zero(site: &Site) -> Option<Value> {
    let zero = binary(site)? == BinaryOp::Sub && site.number(site.operands[0]) == Some(0.0);
    zero.then(|| (-site.operand(1)).value())
}

fn multiply_by_one(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    let one = matches!(op, BinaryOp::Mul | BinaryOp::Div) && site.number(site.operands[1]) == Some(1.0);
    one.then(|| site.operands[0])
}

fn multiply_by_minus_one(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    let minus = matches!(op, BinaryOp::Mul | BinaryOp::Div) && site.number(site.operands[1]) == Some(-1.0);
    (minus && site.dtype().is_float()).then(|| (-site.operand(0)).value())
}

/// The reciprocal of a power of two is exact, so the product is the quotient.
fn divide_by_power_of_two(site: &Site) -> Option<Value> {
    if binary(site)? != BinaryOp::Div || !site.dtype().is_float() {
        return None;
    }
    let divisor = site.number(site.operands[1])?;
    let reciprocal = 1.0 / divisor;
    let is_power = divisor.is_normal() && divisor.to_bits() << 12 == 0;
    let exact = Literal::scalar_of(site.dtype(), reciprocal).splat_value() == Some(reciprocal);
    (is_power && exact).then(|| (site.operand(0) * reciprocal).value())
}

/// `x^1`, `x^2`, `x^3`, `x^-1` and `x^0` without a power.
fn small_power(site: &Site) -> Option<Value> {
    if binary(site)? != BinaryOp::Pow {
        return None;
    }
    let x = site.operand(0);
    let exponent = site.number(site.operands[1])?;
    let power = match exponent {
        1.0 => x,
        2.0 => x * x,
        3.0 => x * x * x,
        0.0 => site.filled(1.0),
        -1.0 if site.dtype().is_float() => 1.0 / x,
        _ => return None,
    };
    Some(power.value())
}

/// Functions that undo themselves.
fn negation_of_negation(site: &Site) -> Option<Value> {
    let Op::Unary(op @ (UnaryOp::Neg | UnaryOp::Not)) = site.op else { return None };
    argument(&site.node(0), *op)
}

/// `-(x - y)` is `y - x`. (Of equals the first would make -0.)
fn negation_of_difference(site: &Site) -> Option<Value> {
    let Op::Unary(UnaryOp::Neg) = site.op else { return None };
    let inner = site.node(0);
    let fits = inner.op == Op::Binary(BinaryOp::Sub) && site.is_used_once(site.operands[0]);
    fits.then(|| (site.expr(inner.operands[1]) - site.expr(inner.operands[0])).value())
}

/// `x + -y` is `x - y`, `x - -y` is `x + y`.
fn add_negation(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    let [left, right] = [0, 1].map(|side| argument(&site.node(side), UnaryOp::Neg));
    let [x, y] = [site.operand(0), site.operand(1)];
    match (op, left, right) {
        (BinaryOp::Add, _, Some(right)) => Some((x - site.expr(right)).value()),
        (BinaryOp::Add, Some(left), None) => Some((y - site.expr(left)).value()),
        (BinaryOp::Sub, _, Some(right)) => Some((x + site.expr(right)).value()),
        _ => None,
    }
}

fn product_of_negations(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    let exact = op == BinaryOp::Mul || op == BinaryOp::Div && site.dtype().is_float();
    let [left, right] = [0, 1].map(|side| argument(&site.node(side), UnaryOp::Neg));
    let (true, Some(left), Some(right)) = (exact, left, right) else { return None };
    Some(site.expr(left).binary(op, site.expr(right)).value())
}

/// The sign goes into the constant.
fn negation_times_constant(site: &Site) -> Option<Value> {
    let op = binary(site)?;
    if !matches!(op, BinaryOp::Mul | BinaryOp::Div) || !site.dtype().is_float() {
        return None;
    }
    let constant = site.number(site.operands[1])?;
    let x = argument(&site.node(0), UnaryOp::Neg)?;
    Some(site.expr(x).binary(op, site.filled(-constant)).value())
}

fn absolute_of_negation(site: &Site) -> Option<Value> {
    let Op::Unary(UnaryOp::Abs) = site.op else { return None };
    let inner = site.node(0);
    let x = argument(&inner, UnaryOp::Neg).filter(|_| !site.dtype().is_unsigned_integer());
    match (x, inner.op == Op::Unary(UnaryOp::Abs)) {
        (Some(x), _) => Some(site.expr(x).abs().value()),
        (None, true) => Some(site.operands[0]),
        (None, false) => None,
    }
}

/// `max(x, x)` and the like.
fn one_of_two_equals(site: &Site) -> Option<Value> {
    let chooses = matches!(binary(site)?, BinaryOp::Max | BinaryOp::Min | BinaryOp::And | BinaryOp::Or);
    (chooses && site.operands[0] == site.operands[1]).then(|| site.operands[0])
}

/// Logic of bools with a constant.
fn logic_with_constant(site: &Site) -> Option<Value> {
    let op = binary(site).filter(|_| site.dtype() == DType::Bool)?;
    let constant = site.number(site.operands[1])? != 0.0;
    match (op, constant) {
        (BinaryOp::And | BinaryOp::Min, true) | (BinaryOp::Or | BinaryOp::Max | BinaryOp::Xor, false) => {
            Some(site.operands[0])
        }
        (BinaryOp::And | BinaryOp::Min, false) | (BinaryOp::Or | BinaryOp::Max, true) => {
            Some(site.operands[1])
        }
        (BinaryOp::Xor, true) => Some(site.operand(0).logical_not().value()),
        _ => None,
    }
}

/// The opposite comparison; of floats only equality has one, because of NaN.
fn not_of_comparison(site: &Site) -> Option<Value> {
    let Op::Unary(UnaryOp::Not) = site.op else { return None };
    let inner = site.node(0);
    let Op::Compare(op) = inner.op else { return None };
    let total = !site.builder.ty(inner.operands[0]).dtype.is_float();
    let opposite = match op {
        CompareOp::Eq => CompareOp::Ne,
        CompareOp::Ne => CompareOp::Eq,
        CompareOp::Lt if total => CompareOp::Ge,
        CompareOp::Le if total => CompareOp::Gt,
        CompareOp::Gt if total => CompareOp::Le,
        CompareOp::Ge if total => CompareOp::Lt,
        _ => return None,
    };
    let [x, y] = [inner.operands[0], inner.operands[1]].map(|operand| site.expr(operand));
    site.is_used_once(site.operands[0]).then(|| x.compare(opposite, y).value())
}
