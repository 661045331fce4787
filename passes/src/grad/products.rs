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
        let contract = (g_rhs.clone(), rhs_free.clone());
        let product = dot_of(g, rhs, (batch.clone(), dims.rhs_batch.clone()), contract);
        let contracted = in_order_of(&dims.lhs_contract, &dims.rhs_contract);
        restore(product, [&dims.lhs_batch[..], &lhs_free, &contracted].concat())
    };
    let for_rhs = || {
        let contract = (g_lhs.clone(), lhs_free.clone());
        let product = dot_of(g, lhs, (batch.clone(), dims.lhs_batch.clone()), contract);
        let contracted = in_order_of(&dims.rhs_contract, &dims.lhs_contract);
        restore(product, [&dims.rhs_batch[..], &rhs_free, &contracted].concat())
    };
    site.both(for_lhs, for_rhs)
}

fn dot_of<'b>(
    lhs: Expr<'b>,
    rhs: Expr<'b>,
    (lhs_batch, rhs_batch): (Vec<usize>, Vec<usize>),
    (lhs_contract, rhs_contract): (Vec<usize>, Vec<usize>),
) -> Expr<'b> {
    lhs.dot(rhs, DotDims { lhs_batch, rhs_batch, lhs_contract, rhs_contract })
}

/// `axes`, sorted by the axes that go with them.
fn in_order_of(axes: &[usize], keys: &[usize]) -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = keys.iter().copied().zip(axes.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, axis)| axis).collect()
}

/// Transposes a tensor whose axis `i` stands for axis `axes[i]`.
fn restore(product: Expr<'_>, axes: Vec<usize>) -> Expr<'_> {
    super::movement::transpose(&axes, product)
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
