//! Views: the same elements under other positions.

use super::site::Site;
use super::{Rule, rule};
use gradc_ir::{Expr, Op, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("identity_view", identity_view),
    rule("reshape_of_reshape", reshape_of_reshape),
    rule("reshape_of_broadcast", reshape_of_broadcast),
    rule("reshape_of_transpose", reshape_of_transpose),
    rule("transpose_of_reshape", transpose_of_reshape),
    rule("transpose_of_transpose", transpose_of_transpose),
    rule("transpose_of_unit_axes", transpose_of_unit_axes),
    rule("transpose_of_broadcast", transpose_of_broadcast),
    rule("broadcast_of_broadcast", broadcast_of_broadcast),
    rule("broadcast_of_unit_axes", broadcast_of_unit_axes),
    rule("broadcast_of_reshape", broadcast_of_reshape),
    rule("reverse_of_reverse", reverse_of_reverse),
    rule("reverse_of_unit_axes", reverse_of_unit_axes),
    rule("reverse_of_broadcast", reverse_of_broadcast),
];

/// A view that changes nothing is its operand.
fn identity_view(site: &Site) -> Option<Value> {
    let same = match site.op {
        Op::Reshape { .. } | Op::Slice { .. } | Op::Broadcast { .. } => true,
        Op::Cast(_) | Op::Bitcast(_) => true,
        Op::Concat { .. } => site.operands.len() == 1,
        Op::Reduce { axes, .. } => axes.is_empty(),
        Op::Reverse { axes } => axes.is_empty(),
        Op::Transpose { permutation } => permutation.is_sorted(),
        Op::Pad { low, high, .. } => low.iter().chain(high).all(|&count| count == 0),
        _ => false,
    };
    (same && site.operand(0).ty() == *site.ty()).then(|| site.operands[0])
}

fn reshape_of_reshape(site: &Site) -> Option<Value> {
    let Op::Reshape { shape } = site.op else { return None };
    let inner = site.node(0);
    matches!(inner.op, Op::Reshape { .. }).then(|| site.expr(inner.operands[0]).reshape(shape).value())
}

/// Where only axes of length 1 come or go, the broadcast makes the other shape itself.
fn reshape_of_broadcast(site: &Site) -> Option<Value> {
    let Op::Reshape { shape } = site.op else { return None };
    let inner = site.node(0);
    let Op::Broadcast { shape: wide, dims } = &inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    if x.shape().elements() == 1 {
        return Some(x.reshape(&Shape::scalar()).broadcast(shape, &[]).value());
    }
    if long_lengths(wide) != long_lengths(shape) || wide.contains(&0) {
        return None;
    }
    let (from, to) = (long_axes(wide), long_axes(shape));
    let place = |axis: &usize| from.iter().position(|wide| wide == axis).map(|position| to[position]);
    let own = x.shape();
    let dims: Option<Vec<usize>> =
        (0..own.rank()).filter(|&axis| own[axis] != 1).map(|axis| place(&dims[axis])).collect();
    Some(x.reshape(&without_unit_axes(&own)).broadcast(shape, &dims?).value())
}

/// Axes of length 1 come and go outside of a transpose, which then meets what else moves the others.
fn reshape_of_transpose(site: &Site) -> Option<Value> {
    let Op::Reshape { shape } = site.op else { return None };
    let inner = site.node(0);
    let Op::Transpose { permutation } = &inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    let has_unit_axes = x.shape().contains(&1);
    let fits = has_unit_axes && long_lengths(shape) == long_lengths(&inner.ty().shape);
    fits.then(|| transposed_long(x, permutation).reshape(shape).value())
}

/// Two transposes with a change of axes of length 1 between them are one.
fn transpose_of_reshape(site: &Site) -> Option<Value> {
    let Op::Transpose { permutation } = site.op else { return None };
    let inner = site.node(0);
    let x = site.expr(*inner.operands.first()?);
    let source = site.builder.node(x.value());
    let fits = matches!(inner.op, Op::Reshape { .. })
        && matches!(source.op, Op::Transpose { .. })
        && long_lengths(&x.shape()) == long_lengths(&inner.ty().shape);
    if !fits {
        return None;
    }
    Some(transposed_long(site.operand(0), permutation).reshape(site.shape()).value())
}

/// The transpose of a value without its axes of length 1.
fn transposed_long<'b>(x: Expr<'b>, permutation: &[usize]) -> Expr<'b> {
    let long = long_axes(&x.shape());
    let order: Vec<usize> =
        permutation.iter().filter_map(|axis| long.iter().position(|other| other == axis)).collect();
    x.reshape(&without_unit_axes(&x.shape())).transpose(&order)
}

fn transpose_of_transpose(site: &Site) -> Option<Value> {
    let Op::Transpose { permutation } = site.op else { return None };
    let inner = site.node(0);
    let Op::Transpose { permutation: first } = &inner.op else { return None };
    let both: Vec<usize> = permutation.iter().map(|&axis| first[axis]).collect();
    Some(site.expr(inner.operands[0]).transpose(&both).value())
}

/// A transpose that keeps the order of the longer axes moves no element.
fn transpose_of_unit_axes(site: &Site) -> Option<Value> {
    let Op::Transpose { permutation } = site.op else { return None };
    let shape = site.operand(0).shape();
    let stays = permutation.iter().filter(|&&axis| shape[axis] != 1).is_sorted();
    stays.then(|| site.operand(0).reshape(site.shape()).value())
}

/// What is repeated is transposed before.
fn transpose_of_broadcast(site: &Site) -> Option<Value> {
    let Op::Transpose { permutation } = site.op else { return None };
    let inner = site.node(0);
    let Op::Broadcast { dims, .. } = &inner.op else { return None };
    let place = |dim: usize| permutation.iter().position(|&axis| axis == dim);
    let mut placed: Vec<(usize, usize)> = dims
        .iter()
        .enumerate()
        .map(|(axis, &dim)| place(dim).map(|place| (place, axis)))
        .collect::<Option<_>>()?;
    placed.sort_unstable();
    let order: Vec<usize> = placed.iter().map(|&(_, axis)| axis).collect();
    let dims: Vec<usize> = placed.iter().map(|&(place, _)| place).collect();
    Some(site.expr(inner.operands[0]).transpose(&order).broadcast(site.shape(), &dims).value())
}

fn broadcast_of_broadcast(site: &Site) -> Option<Value> {
    let Op::Broadcast { shape, dims } = site.op else { return None };
    let inner = site.node(0);
    let Op::Broadcast { dims: first, .. } = &inner.op else { return None };
    let both: Vec<usize> = first.iter().map(|&axis| dims[axis]).collect();
    Some(site.expr(inner.operands[0]).broadcast(shape, &both).value())
}

/// A broadcast that repeats nothing. (A constant scalar stays: repeated scalars are easily recognized.)
fn broadcast_of_unit_axes(site: &Site) -> Option<Value> {
    let Op::Broadcast { shape, .. } = site.op else { return None };
    let x = site.operand(0);
    let constant = x.rank() == 0 && matches!(site.node(0).op, Op::Constant(_));
    (!constant && x.shape().elements() == shape.elements()).then(|| x.reshape(shape).value())
}

/// Axes of length 1 need not be made before a broadcast makes axes anyway.
fn broadcast_of_reshape(site: &Site) -> Option<Value> {
    let Op::Broadcast { shape, dims } = site.op else { return None };
    let inner = site.node(0);
    let Op::Reshape { shape: middle } = &inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    if x.shape() != without_unit_axes(middle) {
        return None;
    }
    let dims: Vec<usize> = long_axes(middle).into_iter().map(|axis| dims[axis]).collect();
    Some(x.broadcast(shape, &dims).value())
}

fn reverse_of_reverse(site: &Site) -> Option<Value> {
    let Op::Reverse { axes } = site.op else { return None };
    let inner = site.node(0);
    let Op::Reverse { axes: first } = &inner.op else { return None };
    let rank = site.shape().rank();
    let once: Vec<usize> = (0..rank).filter(|axis| axes.contains(axis) != first.contains(axis)).collect();
    Some(site.expr(inner.operands[0]).reverse(&once).value())
}

fn reverse_of_unit_axes(site: &Site) -> Option<Value> {
    let Op::Reverse { axes } = site.op else { return None };
    let long: Vec<usize> = axes.iter().copied().filter(|&axis| site.shape()[axis] > 1).collect();
    (long.len() < axes.len()).then(|| site.operand(0).reverse(&long).value())
}

/// Repeated axes are the same in any order.
fn reverse_of_broadcast(site: &Site) -> Option<Value> {
    let Op::Reverse { axes } = site.op else { return None };
    let inner = site.node(0);
    let Op::Broadcast { shape, dims } = &inner.op else { return None };
    let own: Vec<usize> = (0..dims.len()).filter(|&axis| axes.contains(&dims[axis])).collect();
    Some(site.expr(inner.operands[0]).reverse(&own).broadcast(shape, dims).value())
}

/// The axes that are not of length 1.
pub(super) fn long_axes(shape: &Shape) -> Vec<usize> {
    (0..shape.rank()).filter(|&axis| shape[axis] != 1).collect()
}

/// The lengths of the axes that are not of length 1.
pub(super) fn long_lengths(shape: &Shape) -> Vec<usize> {
    shape.iter().copied().filter(|&length| length != 1).collect()
}

/// The shape without its axes of length 1.
pub(super) fn without_unit_axes(shape: &Shape) -> Shape {
    long_lengths(shape).into_iter().collect()
}
