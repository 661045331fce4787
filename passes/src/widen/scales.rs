//! A product of dequantized numbers is a product of whole numbers, for which there are faster kernels, and which is exact;
//! the scales follow.

use super::range::Range;
use super::{DEPTH, EXACT_IN_F32};
use gradc_ir::{BinaryOp, Builder, ConvForm, ConvOp, DType, DotDims, Expr, Op, Shape, Value};

/// Whole numbers, each times the scale of its position along one axis, or of all.
struct Scaled<'b> {
    whole: Expr<'b>,
    /// A scalar, or a vector and its axis.
    scale: Expr<'b>,
    axis: Option<usize>,
}

/// The product of two operands that are dequantized, the right one constant, with the scales behind it.
pub(super) fn after(builder: &Builder, dims: &DotDims, operands: &[Value]) -> Option<Value> {
    let [left, right] = both(builder, operands)?;
    // Where an axis of an operand is in the result; summed ones are nowhere.
    let rank = left.whole.rank();
    let (batch, left_free) = (dims.lhs_batch.len(), dims.lhs_free(rank));
    let right_free = dims.rhs_free(right.whole.rank());
    let find = |axes: &[usize], axis: usize| axes.iter().position(|&other| other == axis);
    let of_left = |axis| find(&dims.lhs_batch, axis).or_else(|| Some(batch + find(&left_free, axis)?));
    let of_right = |axis| {
        find(&dims.rhs_batch, axis).or_else(|| Some(batch + left_free.len() + find(&right_free, axis)?))
    };
    let place = |axis: Option<usize>, of: &dyn Fn(usize) -> Option<usize>| match axis {
        None => Some(Vec::new()),
        Some(axis) => of(axis).map(|axis| vec![axis]),
    };
    let places = [place(left.axis, &of_left)?, place(right.axis, &of_right)?];
    let product = left.whole.dot(right.whole, dims.clone());
    let shape = product.shape();
    let [left, right] =
        [(left, &places[0]), (right, &places[1])].map(|(s, at)| s.scale.broadcast(&shape, at));
    Some((product * (left * right)).value())
}

/// A convolution of an operand that is dequantized with weights that are, too, with the scales behind it.
pub(super) fn after_convolution(builder: &Builder, conv: &ConvOp, operands: &[Value]) -> Option<Value> {
    if conv.form != ConvForm::Forward || conv.groups != 1 {
        return None;
    }
    let [x, weights] = both(builder, operands)?;
    // Scales of input channels do not follow; those of output channels are at axis 1 then.
    let by_channel: &[usize] = match (x.axis, weights.axis) {
        (None, None) => &[],
        (None, Some(0)) => &[1],
        _ => return None,
    };
    let product = builder.build(Op::Conv(conv.clone()), &[x.whole.value(), weights.whole.value()]);
    let shape = product.shape();
    Some((product * (x.scale.broadcast(&shape, &[]) * weights.scale.broadcast(&shape, by_channel))).value())
}

/// Two operands that are dequantized, if the second one is constant and the products of their whole numbers are exact.
fn both<'b>(builder: &'b Builder, operands: &[Value]) -> Option<[Scaled<'b>; 2]> {
    let right = Scaled::of(builder, operands[1])?;
    let left = Scaled::of(builder, operands[0])?;
    let is_small = |range: Range| range.low >= -128 && range.high <= 127;
    let is_exact = |range: Range| i128::from(range.largest()) * 128 <= EXACT_IN_F32;
    let fits = is_constant(builder, right.whole.value(), DEPTH)
        && Range::of(builder, right.whole.value(), DEPTH).is_some_and(is_small)
        && Range::of(builder, left.whole.value(), DEPTH).is_some_and(is_exact);
    fits.then_some([left, right])
}

impl<'b> Scaled<'b> {
    /// Whole numbers times their scales, also transposed.
    fn of(builder: &'b Builder, value: Value) -> Option<Scaled<'b>> {
        let node = builder.node(value);
        if let Op::Transpose { permutation } = &node.op {
            let inner = Scaled::product(builder, node.operands[0])?;
            let axis = match inner.axis {
                None => None,
                Some(axis) => Some(permutation.iter().position(|&from| from == axis)?),
            };
            return Some(Scaled { whole: inner.whole.transpose(permutation), axis, ..inner });
        }
        Scaled::product(builder, value)
    }

    fn product(builder: &'b Builder, value: Value) -> Option<Scaled<'b>> {
        let node = builder.node(value);
        if node.op != Op::Binary(BinaryOp::Mul) || node.ty().dtype != DType::F32 {
            return None;
        }
        [[0, 1], [1, 0]].into_iter().find_map(|[whole, scale]| {
            let repeated = builder.node(node.operands[scale]);
            let Op::Broadcast { dims, .. } = &repeated.op else { return None };
            let scale = builder.expr(repeated.operands[0]);
            let (scale, axis) = match dims[..] {
                _ if scale.shape().elements() == 1 => (scale.reshape(&Shape::scalar()), None),
                [axis] => (scale, Some(axis)),
                _ => return None,
            };
            let whole = builder.expr(node.operands[whole]);
            Range::of(builder, whole.value(), DEPTH)?;
            Some(Scaled { whole, scale, axis })
        })
    }
}

/// Whether a value is computed of constants alone, in so many steps.
fn is_constant(builder: &Builder, value: Value, depth: usize) -> bool {
    let node = builder.node(value);
    match &node.op {
        Op::Constant(_) => true,
        Op::Cast(_) | Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Binary(_) => {
            depth > 0 && node.operands.iter().all(|&operand| is_constant(builder, operand, depth - 1))
        }
        _ => false,
    }
}
