//! Rules of gather and scatter.

use super::reductions::shared;
use super::rules::{Cotangents, Site, wide};
use gradc_ir::{Builder, DType, Expr, Op, ScanOp, ScatterOp, Shape, TensorType, Value};
use std::sync::Arc;

/// Each slice's cotangent is added where the slice came from.
pub(super) fn gather<'b>(axis: usize, x: Expr<'b>, index: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let wide = wide(x.dtype());
    x.splat_of(wide, 0.0).scatter(axis, ScatterOp::Add, index, g.cast(wide)).cast(x.dtype())
}

/// The cotangents of x and of the updates in `scatter x, index, update`.
pub(super) fn scatter<'b>(axis: usize, op: ScatterOp, site: &Site<'b, '_>) -> Cotangents<'b> {
    let (x, index, update) = (site.operands[0], site.operands[1], site.operands[2]);
    let (y, g) = (site.result(), site.cotangent());
    let pair = |operand: &dyn Fn() -> Expr<'b>, updates: &dyn Fn() -> Expr<'b>| {
        vec![site.needed[0].then(operand), None, site.needed[2].then(updates)]
    };
    match op {
        ScatterOp::Add => pair(&|| g, &|| g.gather(axis, index)),
        ScatterOp::Set => pair(&|| g.scatter(axis, ScatterOp::Set, index, update.splat(0.0)), &|| {
            let stayed = last_updates(axis, x.shape()[axis], index, &update.shape());
            stayed.select(g.gather(axis, index), update.splat(0.0))
        }),
        ScatterOp::Mul => pair(&|| g * x.splat(1.0).scatter(axis, ScatterOp::Mul, index, update), &|| {
            g.gather(axis, index) * other_factors(axis, x, index, update)
        }),
        ScatterOp::Max | ScatterOp::Min => {
            let won = update.eq(y.gather(axis, index));
            let kept = x.eq(y);
            let count = kept.cast(DType::I64).scatter(axis, ScatterOp::Add, index, won.cast(DType::I64));
            let share = shared(g, count);
            pair(&|| kept.select(share, x.splat(0.0)), &|| {
                won.select(share.gather(axis, index), update.splat(0.0))
            })
        }
    }
}

/// Where an update is the last of those with the same index (bool, of the update's shape).
fn last_updates<'b>(axis: usize, length: usize, index: Expr<'b>, update: &Shape) -> Expr<'b> {
    let builder = index.builder();
    let count = index.shape().elements();
    let flat = index.reshape(&Shape::from([count]));
    let position = builder.iota(TensorType::new(DType::I64, [count]), 0);
    let unset = builder.splat(&TensorType::new(DType::I64, [length]), -1.0);
    let last = unset.scatter(0, ScatterOp::Set, flat, position).gather(0, flat).eq(position);
    let dims: Vec<usize> = (axis..axis + index.rank()).collect();
    last.reshape(&index.shape()).broadcast(update, &dims)
}

/// For each update, what it was multiplied with: the product before it (with x) times the product after it. Two loops
/// over the updates, exact where factors are 0.
fn other_factors<'b>(axis: usize, x: Expr<'b>, index: Expr<'b>, update: Expr<'b>) -> Expr<'b> {
    let count = index.shape().elements();
    if count == 1 {
        return x.gather(axis, index);
    }
    let builder = x.builder();
    // The index axes of the update come first and become one.
    let axes = axis..axis + index.rank();
    let order: Vec<usize> =
        axes.clone().chain((0..update.rank()).filter(|other| !axes.contains(other))).collect();
    let moved = update.transpose(&order);
    let slice = x.shape().without(&[axis]);
    let lengths: Shape = std::iter::once(count).chain(slice.iter().copied()).collect();
    let flat = index.reshape(&Shape::from([count]));
    let products = |initial: Expr<'b>, reverse: bool| {
        let body = Arc::new(factor_step(axis, &x.ty(), flat.dtype(), &slice));
        let scan = ScanOp { body, trip: count, constants: 0, carries: 1, reverse };
        let operands: [Value; 3] = [initial.value(), flat.value(), moved.reshape(&lengths).value()];
        builder.build(Op::Scan(scan), &operands).project(1)
    };
    let both = products(x, false) * products(x.splat(1.0), true);
    super::movement::transpose(&order, both.reshape(&moved.shape()))
}

/// One step: what stands at the index, and the whole with that multiplied by the update.
fn factor_step(axis: usize, whole: &TensorType, index: DType, slice: &Shape) -> gradc_ir::Graph {
    let step = Builder::new("scattered_products");
    let whole = step.expr(step.input("products", whole.clone()));
    let at = step.expr(step.input("index", TensorType::scalar(index)));
    let factor = step.expr(step.input("update", TensorType { dtype: whole.dtype(), shape: slice.clone() }));
    let outputs = [whole.scatter(axis, ScatterOp::Mul, at, factor).value(), whole.gather(axis, at).value()];
    step.finish(&outputs)
}
