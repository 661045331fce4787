//! Rules of matrix products, convolutions and windows.

use super::rules::{Cotangents, Site, wide};
use gradc_ir::{
    ConvForm, ConvOp, DType, DotDims, Expr, Op, ScatterOp, Shape, TensorType, WindowKind, WindowOp,
};

/// A product of the cotangent with the other operand, over the other operand's free axes.
pub(super) fn dot<'b>(dims: &DotDims, site: &Site<'b, '_>) -> Cotangents<'b> {
    let (lhs, rhs, g) = (site.operands[0], site.operands[1], site.cotangent());
    let (lhs_free, rhs_free) = (dims.lhs_free(lhs.rank()), dims.rhs_free(rhs.rank()));
    let batch: Vec<usize> = (0..dims.lhs_batch.len()).collect();
    let g_lhs: Vec<usize> = (batch.len()..batch.len() + lhs_free.len()).collect();
    let g_rhs: Vec<usize> = (batch.len() + lhs_free.len()..g.rank()).collect();
    let for_lhs = || {
        let contracted = in_order_of(&dims.lhs_contract, &dims.rhs_contract);
        let other = Factor { value: rhs, batch: &dims.rhs_batch, contract: &rhs_free };
        let axes = [&dims.lhs_batch[..], &lhs_free, &contracted];
        product(Factor { value: g, batch: &batch, contract: &g_rhs }, other, axes)
    };
    let for_rhs = || {
        let contracted = in_order_of(&dims.rhs_contract, &dims.lhs_contract);
        let other = Factor { value: lhs, batch: &dims.lhs_batch, contract: &lhs_free };
        let axes = [&dims.rhs_batch[..], &rhs_free, &contracted];
        product(Factor { value: g, batch: &batch, contract: &g_lhs }, other, axes)
    };
    site.both(for_lhs, for_rhs)
}

#[derive(Clone, Copy)]
struct Factor<'b, 'a> {
    value: Expr<'b>,
    batch: &'a [usize],
    contract: &'a [usize],
}

/// The product of two factors whose result axes stand for `axes` (batch, free axes of the first, of the second),
/// brought into order; in the order of factors that needs no transposition, if one does.
fn product<'b>(
    first: Factor<'b, '_>,
    second: Factor<'b, '_>,
    [batch, free, other]: [&[usize]; 3],
) -> Expr<'b> {
    let swapped = [batch, other, free].concat();
    let multiply = |lhs: Factor<'b, '_>, rhs: Factor<'b, '_>| {
        let (lhs_batch, rhs_batch) = (lhs.batch.to_vec(), rhs.batch.to_vec());
        let (lhs_contract, rhs_contract) = (lhs.contract.to_vec(), rhs.contract.to_vec());
        lhs.value.dot(rhs.value, DotDims { lhs_batch, rhs_batch, lhs_contract, rhs_contract })
    };
    if swapped.is_sorted() {
        multiply(second, first)
    } else {
        super::movement::transpose(&[batch, free, other].concat(), multiply(first, second))
    }
}

/// `axes`, sorted by the axes that go with them.
fn in_order_of(axes: &[usize], keys: &[usize]) -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = keys.iter().copied().zip(axes.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, axis)| axis).collect()
}

/// The other two maps of the same trilinear form.
pub(super) fn convolution<'b>(conv: &ConvOp, site: &Site<'b, '_>) -> Cotangents<'b> {
    let (a, b, g) = (site.operands[0], site.operands[1], site.cotangent());
    let map = |form: ConvForm, first: Expr<'b>, second: Expr<'b>| {
        let op = Op::Conv(ConvOp { form, ..conv.clone() });
        site.builder.build(op, &[first.value(), second.value()])
    };
    match conv.form {
        ConvForm::Forward => site.both(|| map(ConvForm::Input, g, b), || map(ConvForm::Weight, a, g)),
        ConvForm::Input => site.both(|| map(ConvForm::Forward, g, b), || map(ConvForm::Weight, g, a)),
        ConvForm::Weight => site.both(|| map(ConvForm::Input, b, g), || map(ConvForm::Forward, a, g)),
    }
}

fn window<'b>(op: &WindowOp, kind: WindowKind, operand: Expr<'b>) -> Expr<'b> {
    operand.builder().build(Op::Window(WindowOp { kind, ..op.clone() }), &[operand.value()])
}

/// Each cotangent goes to every element of its window.
pub(super) fn window_sum<'b>(op: &WindowOp, x: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    window(op, WindowKind::Spread { shape: x.shape() }, g)
}

/// Each element gets the cotangents of the windows it was spread over.
pub(super) fn window_spread<'b>(op: &WindowOp, g: Expr<'b>) -> Expr<'b> {
    window(op, WindowKind::Sum, g)
}

/// The element that won a window gets its cotangent; windows overlap, so cotangents are added.
pub(super) fn window_max<'b>(op: &WindowOp, x: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let (shape, count) = (x.shape(), x.shape().elements());
    if count == 0 {
        return x.splat(0.0);
    }
    let winner = window(op, WindowKind::ArgMax, x);
    let g = if has_empty_window(op, &shape) {
        let inside = window(op, WindowKind::Sum, x.splat_of(DType::F32, 1.0));
        inside.eq(inside.splat(0.0)).select(g.splat(0.0), g)
    } else {
        g
    };
    let flat = Shape::from([g.shape().elements()]);
    let zeros = x.builder().splat(&TensorType::new(wide(x.dtype()), [count]), 0.0);
    let sums =
        zeros.scatter(0, ScatterOp::Add, winner.reshape(&flat), g.reshape(&flat).cast(wide(x.dtype())));
    sums.cast(x.dtype()).reshape(&shape)
}

/// Whether some window lies wholly outside a tensor of this shape.
fn has_empty_window(op: &WindowOp, shape: &Shape) -> bool {
    let Ok(windows) = op.output_shape(shape) else { return true };
    (0..shape.rank()).any(|axis| {
        let inside = |position: i128| (0..shape[axis] as i128).contains(&position);
        (0..windows[axis]).any(|output| {
            let first = output as i128 * op.stride[axis] as i128 - op.pad_low[axis] as i128;
            !(0..op.window[axis]).any(|element| inside(first + element as i128 * op.dilation[axis] as i128))
        })
    })
}
