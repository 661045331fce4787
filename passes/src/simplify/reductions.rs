//! Reductions.

use super::site::Site;
use super::views::{long_axes, without_unit_axes};
use super::{Rule, rule};
use gradc_ir::{DType, Literal, Op, ReduceOp, UnaryOp, Value, WindowKind, WindowOp};

pub(super) const RULES: &[Rule] = &[
    rule("reduce_of_unit_axes", reduce_of_unit_axes),
    rule("reduce_of_broadcast", reduce_of_broadcast),
    rule("reduce_of_reduce", reduce_of_reduce),
    rule("reduce_of_transpose", reduce_of_transpose),
    rule("reduce_of_reshape", reduce_of_reshape),
    rule("reduce_of_negation", reduce_of_negation),
    rule("window_along_axes", window_along_axes),
];

fn reduce<'s>(site: &'s Site) -> Option<(ReduceOp, &'s [usize])> {
    match site.op {
        Op::Reduce { op, axes } => Some((*op, axes)),
        _ => None,
    }
}

/// One element combined with nothing is itself.
fn reduce_of_unit_axes(site: &Site) -> Option<Value> {
    let (_, axes) = reduce(site)?;
    let x = site.operand(0);
    axes.iter().all(|&axis| x.shape()[axis] == 1).then(|| x.reshape(site.shape()).value())
}

/// Equal terms: their sum is a product, the greatest of them is each of them.
fn reduce_of_broadcast(site: &Site) -> Option<Value> {
    let (op, axes) = reduce(site)?;
    let inner = site.node(0);
    let Op::Broadcast { shape, dims } = &inner.op else { return None };
    let repeated: Vec<usize> = axes.iter().copied().filter(|axis| !dims.contains(axis)).collect();
    let count: usize = repeated.iter().map(|&axis| shape[axis]).product();
    if repeated.is_empty() || count == 0 {
        return None;
    }
    let factor = match op {
        ReduceOp::Sum if count > 1 => Some(count as f64),
        ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min => None,
        ReduceOp::Prod => return None,
    };
    if factor.is_some_and(|factor| Literal::scalar_of(site.dtype(), factor).splat_value() != Some(factor)) {
        return None;
    }
    let own: Vec<usize> = (0..dims.len()).filter(|&axis| axes.contains(&dims[axis])).collect();
    let reduced = site.expr(inner.operands[0]).reduce(op, &own);
    let scaled = factor.map_or(reduced, |factor| reduced * factor);
    let left: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
    let kept: Vec<usize> = left
        .iter()
        .enumerate()
        .filter(|(_, axis)| dims.contains(axis))
        .map(|(position, _)| position)
        .collect();
    Some(scaled.broadcast(site.shape(), &kept).value())
}

/// Two steps in one, where the first is not needed by itself. Sums of small floats are rounded between the two: those
/// stay.
fn reduce_of_reduce(site: &Site) -> Option<Value> {
    let (op, axes) = reduce(site)?;
    let inner = site.node(0);
    let Op::Reduce { op: first, axes: inner_axes } = &inner.op else { return None };
    let rounds = matches!(op, ReduceOp::Sum | ReduceOp::Prod) && is_small_float(site.dtype());
    if *first != op || rounds || !site.is_used_once(site.operands[0]) {
        return None;
    }
    let x = site.expr(inner.operands[0]);
    let left: Vec<usize> = (0..x.rank()).filter(|axis| !inner_axes.contains(axis)).collect();
    let mut all = inner_axes.clone();
    all.extend(axes.iter().map(|&axis| left[axis]));
    Some(x.reduce(op, &all).value())
}

/// Where the order of what is left differs, less is transposed after than before.
fn reduce_of_transpose(site: &Site) -> Option<Value> {
    let (op, axes) = reduce(site)?;
    let inner = site.node(0);
    let Op::Transpose { permutation } = &inner.op else { return None };
    let own: Vec<usize> = axes.iter().map(|&axis| permutation[axis]).collect();
    let left: Vec<usize> =
        (0..permutation.len()).filter(|axis| !axes.contains(axis)).map(|axis| permutation[axis]).collect();
    let rank = |axis: usize| left.iter().filter(|&&other| other < axis).count();
    let order: Vec<usize> = left.iter().map(|&axis| rank(axis)).collect();
    Some(site.expr(inner.operands[0]).reduce(op, &own).transpose(&order).value())
}

/// Axes of length 1 come and go after the reduction.
fn reduce_of_reshape(site: &Site) -> Option<Value> {
    let (op, axes) = reduce(site)?;
    let inner = site.node(0);
    let Op::Reshape { shape: middle } = &inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    if without_unit_axes(&x.shape()) != without_unit_axes(middle) {
        return None;
    }
    let (from, to) = (long_axes(&x.shape()), long_axes(middle));
    let own: Vec<usize> =
        to.iter().zip(&from).filter(|(axis, _)| axes.contains(axis)).map(|(_, &axis)| axis).collect();
    Some(x.reduce(op, &own).reshape(site.shape()).value())
}

/// Less is negated after a reduction than before: the sum of the negated, the greatest of them.
fn reduce_of_negation(site: &Site) -> Option<Value> {
    let (op, axes) = reduce(site)?;
    let inner = site.node(0);
    let opposite = match op {
        ReduceOp::Sum => ReduceOp::Sum,
        ReduceOp::Max if site.dtype().is_float() => ReduceOp::Min,
        ReduceOp::Min if site.dtype().is_float() => ReduceOp::Max,
        ReduceOp::Max | ReduceOp::Min | ReduceOp::Prod => return None,
    };
    let fits = inner.op == Op::Unary(UnaryOp::Neg);
    fits.then(|| (-site.expr(inner.operands[0]).reduce(opposite, axes)).value())
}

fn is_small_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Where windows overlap on several axes, what they share along the last one is combined once: of five by five elements
/// ten are looked at, not 25.
fn window_along_axes(site: &Site) -> Option<Value> {
    let Op::Window(all) = &site.op else { return None };
    if !matches!(all.kind, WindowKind::Sum | WindowKind::Max) || is_small_float(site.dtype()) {
        return None;
    }
    let last = all.window.iter().rposition(|&length| length > 1)?;
    let (along, others): (usize, usize) = (all.window[last], all.window[..last].iter().product());
    let lines: usize = all.stride[..last].iter().product();
    if others * along < 2 * (others + along * lines) {
        return None;
    }
    let part = |is_mine: &dyn Fn(usize) -> bool| {
        let own = |values: &[usize]| {
            (0..).zip(values).map(|(axis, &value)| if is_mine(axis) { value } else { 1 }).collect()
        };
        let pads = |values: &[i64]| {
            (0..).zip(values).map(|(axis, &value)| if is_mine(axis) { value } else { 0 }).collect()
        };
        Op::Window(WindowOp {
            kind: all.kind.clone(),
            window: own(&all.window),
            stride: own(&all.stride),
            dilation: own(&all.dilation),
            pad_low: pads(&all.pad_low),
            pad_high: pads(&all.pad_high),
        })
    };
    let first = site.builder.build(part(&|axis| axis == last), &[site.operands[0]]);
    Some(site.builder.build(part(&|axis| axis != last), &[first.value()]).value())
}
