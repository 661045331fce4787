//! Rules of reductions, running reductions and softmax.

use super::rules::wide;
use gradc_ir::{Builder, CumulativeOp, DType, Expr, Op, ScanOp, Shape, TensorType};
use std::sync::Arc;

/// Equal extrema share the cotangent; they are counted in i64, and the share is formed in a wide float.
pub(super) fn extremum<'b>(x: Expr<'b>, axes: &[usize], y: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let shape = x.shape();
    let wins = x.eq(y.unreduce(&shape, axes));
    let share = shared(g, wins.cast(DType::I64).sum(axes));
    wins.select(share.unreduce(&shape, axes), x.splat(0.0))
}

/// `g / count`, formed in a wide float, for an integer count.
pub(super) fn shared<'b>(g: Expr<'b>, count: Expr<'b>) -> Expr<'b> {
    let wide = wide(g.dtype());
    (g.cast(wide) / count.cast(wide)).cast(g.dtype())
}

/// The product of all others: those before times those after, either of which may be beyond what a small float holds.
pub(super) fn product<'b>(x: Expr<'b>, axes: &[usize], g: Expr<'b>) -> Expr<'b> {
    let dtype = x.dtype();
    let (x, g) = (x.cast(wide(dtype)), g.cast(wide(dtype)));
    let shape = x.shape();
    let g = g.unreduce(&shape, axes);
    if let [axis] = axes {
        return (g * others(x, *axis)).cast(dtype);
    }
    // Several axes become one, the last.
    let kept: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
    let order = [&kept[..], axes].concat();
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let flat: Shape = kept.iter().map(|&axis| shape[axis]).chain([count]).collect();
    let moved = x.transpose(&order);
    let others = others(moved.reshape(&flat), kept.len()).reshape(&moved.shape());
    (g * super::movement::transpose(&order, others)).cast(dtype)
}

fn others(x: Expr<'_>, axis: usize) -> Expr<'_> {
    running(x, CumulativeOp::Prod, axis, true, false) * running(x, CumulativeOp::Prod, axis, true, true)
}

fn running(x: Expr<'_>, op: CumulativeOp, axis: usize, exclusive: bool, reverse: bool) -> Expr<'_> {
    x.builder().build(Op::Cumulative { op, axis, exclusive, reverse }, &[x.value()])
}

/// The running sum in the other direction.
pub(super) fn running_sum(axis: usize, exclusive: bool, reverse: bool, g: Expr<'_>) -> Expr<'_> {
    running(g, CumulativeOp::Sum, axis, exclusive, !reverse)
}

/// `dx[k] = (product before k) * s[k]`, where `s[k] = g[k] + x[k+1] s[k+1]` (and, exclusive,
/// `s[k] = g[k+1] + x[k+1] s[k+1]`): exact where elements are 0. Small floats are added up in a wide one.
pub(super) fn running_product<'b>(
    x: Expr<'b>,
    axis: usize,
    exclusive: bool,
    reverse: bool,
    g: Expr<'b>,
) -> Expr<'b> {
    let dtype = x.dtype();
    let (x, g) = (x.cast(wide(dtype)), g.cast(wide(dtype)));
    let shape = x.shape();
    let order: Vec<usize> =
        std::iter::once(axis).chain((0..shape.rank()).filter(|&other| other != axis)).collect();
    let slice = TensorType { dtype: x.dtype(), shape: shape.without(&[axis]) };
    let step = Builder::new("running_product_gradient");
    let carry = step.expr(step.input("s", slice.clone()));
    let (factor, cotangent) =
        (step.expr(step.input("x", slice.clone())), step.expr(step.input("g", slice.clone())));
    let (next, out) = if exclusive {
        (cotangent + factor * carry, carry)
    } else {
        (factor * (cotangent + carry), cotangent + carry)
    };
    let outputs = [next.value(), out.value()];
    let scan = ScanOp {
        body: Arc::new(step.finish(&outputs)),
        trip: shape[axis],
        constants: 0,
        carries: 1,
        reverse: !reverse,
    };
    let operands = [x.builder().splat(&slice, 0.0), x.transpose(&order), g.transpose(&order)];
    let sums = x.builder().build(Op::Scan(scan), &operands.map(Expr::value)).project(1);
    let before = running(x, CumulativeOp::Prod, axis, true, reverse);
    (before * super::movement::transpose(&order, sums)).cast(dtype)
}

/// `y (g - sum(g y))`, and 0 on a line without a value (all -inf).
pub(super) fn softmax<'b>(axis: usize, y: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let y = y.eq(y).select(y, y.splat(0.0));
    y * (g - (g * y).sum(&[axis]).unreduce(&y.shape(), &[axis]))
}

/// `g - exp(y) sum(g)`, and 0 on a line without a value (all -inf).
pub(super) fn log_softmax<'b>(axis: usize, y: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let total = g.sum(&[axis]).unreduce(&y.shape(), &[axis]);
    y.eq(y).select(g - y.exp() * total, g.splat(0.0))
}
