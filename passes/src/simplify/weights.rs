//! Factors and shifts by channel that constant weights take in: what is left of a frozen batch normalization after a
//! convolution is a bias.

use super::site::Site;
use super::{Rule, rule};
use crate::fold::LARGE;
use gradc_ir::{BinaryOp, ConvForm, DType, Element, Expr, Op, Shape, Value};

/// Fewer whole numbers are no weights of a quantized model.
const MANY: usize = 256;

pub(super) const RULES: &[Rule] = &[
    rule("scale_of_product", scale_of_product),
    rule("scale_of_shifted_product", scale_of_shifted_product),
    rule("shift_of_shifted_product", shift_of_shifted_product),
    rule("conv_of_scaled", conv_of_scaled),
];

/// `y * c` and `y / c`, with the constant c by channel: the axis, c or its reciprocal, and y.
fn scaled<'b>(site: &Site<'b>) -> Option<(Value, usize, Expr<'b>)> {
    let Op::Binary(op @ (BinaryOp::Mul | BinaryOp::Div)) = *site.op else { return None };
    if !matches!(site.dtype(), DType::F32 | DType::F64) {
        return None;
    }
    let sides: &[[usize; 2]] = if op == BinaryOp::Mul { &[[0, 1], [1, 0]] } else { &[[0, 1]] };
    sides.iter().find_map(|&[y, c]| {
        let y = site.operands[y];
        let axis = channel_axis(site, y)?;
        let factor = by_channel(site, site.operands[c], axis)?;
        Some((y, axis, if op == BinaryOp::Div { 1.0 / factor } else { factor }))
    })
}

/// The axis of a product with constant weights along which the weights' outputs lie, also through one shift.
fn channel_axis(site: &Site, value: Value) -> Option<usize> {
    if !site.is_used_once(value) {
        return None;
    }
    let node = site.builder.node(value);
    match &node.op {
        Op::Binary(BinaryOp::Add | BinaryOp::Sub) => channel_axis(site, node.operands[0]),
        Op::Conv(conv) if conv.form == ConvForm::Forward => {
            let weights = node.operands[1];
            // There is no kernel for bytes in groups.
            (is_weight(site, weights) && (conv.groups > 1 || !are_bytes(site, weights))).then_some(1)
        }
        Op::Dot(dims) => {
            let weights = node.operands[1];
            let has_outputs = !dims.rhs_free(site.builder.ty(weights).shape.rank()).is_empty();
            (has_outputs && is_weight(site, weights) && !are_bytes(site, weights))
                .then(|| node.ty().shape.rank() - 1)
        }
        _ => None,
    }
}

/// Whether a value is a constant that can be computed anew.
fn is_weight(site: &Site, value: Value) -> bool {
    matches!(&site.builder.node(value).op, Op::Constant(literal) if literal.ty().bytes() <= LARGE)
}

/// Whether constant weights are many whole numbers of 8 bits, as far as the first ones tell: for these there are kernels.
fn are_bytes(site: &Site, value: Value) -> bool {
    let Op::Constant(literal) = &site.builder.node(value).op else { return false };
    let is_byte = |raw: &[u8]| {
        let x = f32::read(raw);
        f32::from(x as i8) == x
    };
    literal.dtype() == DType::F32
        && literal.ty().shape.elements() >= MANY
        && literal.bytes().chunks_exact(size_of::<f32>()).take(MANY).all(is_byte)
}

/// A constant that differs along this axis at most, as a vector.
fn by_channel<'b>(site: &Site<'b>, value: Value, axis: usize) -> Option<Expr<'b>> {
    let length = site.builder.ty(value).shape[axis];
    if let Some(scalar) = site.splat(value) {
        return Some(site.builder.constant(scalar).broadcast(&Shape::new(&[length]), &[]));
    }
    let node = site.builder.node(value);
    let Op::Broadcast { dims, .. } = &node.op else { return None };
    let constant = matches!(site.builder.node(node.operands[0]).op, Op::Constant(_));
    (constant && dims[..] == [axis]).then(|| site.expr(node.operands[0]))
}

/// A product whose weights are constants, and is scaled: the weights are.
fn scale_of_product(site: &Site) -> Option<Value> {
    let (y, _, factor) = scaled(site)?;
    let node = site.builder.node(y);
    let weights = site.expr(*node.operands.get(1)?);
    let axis = match &node.op {
        Op::Conv(_) => 0,
        Op::Dot(dims) => *dims.rhs_free(weights.rank()).last()?,
        _ => return None,
    };
    let weights = weights * factor.broadcast(&weights.shape(), &[axis]);
    Some(site.builder.build(node.op.clone(), &[node.operands[0], weights.value()]).value())
}

/// `(y + b) * c` is `y * c + b * c`, of which constants take in the rest.
fn scale_of_shifted_product(site: &Site) -> Option<Value> {
    let (shifted, axis, factor) = scaled(site)?;
    let node = site.builder.node(shifted);
    let Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub)) = node.op else { return None };
    let shift = by_channel(site, node.operands[1], axis)? * factor;
    let spread = |e: Expr<'_>| e.broadcast(site.shape(), &[axis]).value();
    let y = site.expr(node.operands[0]) * site.expr(spread(factor));
    Some(y.binary(op, site.expr(spread(shift))).value())
}

/// Two shifts in one.
fn shift_of_shifted_product(site: &Site) -> Option<Value> {
    let Op::Binary(outer @ (BinaryOp::Add | BinaryOp::Sub)) = *site.op else { return None };
    let inner = site.node(0);
    let Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub)) = inner.op else { return None };
    let axis = channel_axis(site, site.operands[0])?;
    let first = by_channel(site, inner.operands[1], axis)?;
    let second = by_channel(site, site.operands[1], axis)?;
    let both = if op == outer { first + second } else { first - second };
    let shift = both.broadcast(site.shape(), &[axis]);
    Some(site.expr(inner.operands[0]).binary(op, shift).value())
}

/// A scaled operand of a convolution (or of its gradient in the input) with constant weights.
fn conv_of_scaled(site: &Site) -> Option<Value> {
    let Op::Conv(conv) = site.op else { return None };
    let axis = match conv.form {
        ConvForm::Forward if conv.groups == 1 => 1,
        ConvForm::Input => 0,
        ConvForm::Forward | ConvForm::Weight => return None,
    };
    let inner = site.node(0);
    let scaled = inner.op == Op::Binary(BinaryOp::Mul) && site.is_used_once(site.operands[0]);
    let weights = site.operands[1];
    let takes_in = is_weight(site, weights) && (conv.groups > 1 || !are_bytes(site, weights));
    if !scaled || !takes_in || !matches!(site.dtype(), DType::F32 | DType::F64) {
        return None;
    }
    let (x, factor) = [[0, 1], [1, 0]].into_iter().find_map(|[x, c]| {
        by_channel(site, inner.operands[c], 1).map(|factor| (inner.operands[x], factor))
    })?;
    let weights = site.operand(1);
    let weights = weights * factor.broadcast(&weights.shape(), &[axis]);
    Some(site.builder.build(site.op.clone(), &[x, weights.value()]).value())
}
