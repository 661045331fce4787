//! Products of narrow numbers become products of wide ones, for which there are fast kernels.

mod range;
mod scales;

use crate::Pass;
use gradc_ir::{BinaryOp, Builder, DType, DotDims, Expr, Graph, Op, Shape, Value, rebuild};
use range::Range;

/// Products and convolutions of 16-bit floats are computed in f32 and rounded once. Products of integers are computed in f32
/// or f64 where all sums are known to be integers that these hold exactly; a long sum in several that f32 holds. Products of
/// dequantized numbers are those of the whole numbers that they stand for, scaled. Other passes can then convert constants, and fuse the conversions with what is around them. (Without this pass, code
/// generation converts the operands of convolutions by itself, and computes other such products in loops.)
pub struct WidenProducts;

/// All integers up to these are exact.
const EXACT_IN_F32: i128 = 1 << 24;
const EXACT_IN_F64: i128 = 1 << 53;
/// So many operands are followed to find out how large an integer can be.
const DEPTH: usize = 8;

impl Pass for WidenProducts {
    fn name(&self) -> &'static str {
        "widen_products"
    }

    fn run(&self, graph: &Graph) -> Graph {
        rebuild(graph, |builder, _, node, operands| {
            if !matches!(node.op, Op::Dot(_) | Op::Conv(_)) {
                return None;
            }
            match (&node.op, node.ty().dtype) {
                (_, dtype @ (DType::F16 | DType::BF16)) => {
                    let wide = widened(builder, operands, DType::F32);
                    let product = builder.build(node.op.clone(), &wide.map(Expr::value));
                    Some(product.cast(dtype).value())
                }
                (Op::Dot(dims), dtype @ (DType::I32 | DType::I64)) => {
                    integers(builder, dtype, dims, operands)
                }
                (Op::Dot(dims), DType::F32) => scales::after(builder, dims, operands),
                (Op::Conv(conv), DType::F32) => scales::after_convolution(builder, conv, operands),
                _ => None,
            }
        })
    }
}

fn widened<'b>(builder: &'b Builder, operands: &[Value], dtype: DType) -> [Expr<'b>; 2] {
    [operands[0], operands[1]].map(|operand| as_float(builder, operand, dtype, DEPTH))
}

/// A value as floats of a type that holds its integers exactly. What is behind it is computed in floats as well, where all
/// is exact, so many operands deep.
fn as_float<'b>(builder: &'b Builder, value: Value, dtype: DType, depth: usize) -> Expr<'b> {
    let Some(depth) = depth.checked_sub(1) else { return builder.expr(value).cast(dtype) };
    let node = builder.node(value);
    let own = node.ty().dtype;
    let operand = |position: usize| as_float(builder, node.operands[position], dtype, depth);
    // Whether the operator goes beyond nothing that its type holds.
    let is_exact = || match (Range::computed(builder, value, DEPTH), Range::of_type(own)) {
        (Some(found), Some(own)) => found.low >= own.low && found.high <= own.high,
        (found, None) => found.is_some(),
        (None, Some(_)) => false,
    };
    match &node.op {
        Op::Broadcast { shape, dims } => operand(0).broadcast(shape, dims),
        Op::Reshape { shape } => operand(0).reshape(shape),
        Op::Binary(BinaryOp::Sub) if !own.is_float() && is_exact() => operand(0) - operand(1),
        Op::Cast(DType::U8) if builder.ty(node.operands[0]).dtype == DType::F32 => {
            // Truncated, within the type, and 0 where it is no number.
            let x = builder.expr(node.operands[0]);
            let zero = x.splat(0.0);
            x.gt(zero).select(x.floor().min(x.splat(255.0)), zero).cast(dtype)
        }
        Op::Cast(_) if !own.is_float() && !builder.ty(node.operands[0]).dtype.is_float() && is_exact() => {
            operand(0)
        }
        _ => builder.expr(value).cast(dtype),
    }
}

/// A product of integers, as one of floats if that is exact.
fn integers(builder: &Builder, dtype: DType, dims: &DotDims, operands: &[Value]) -> Option<Value> {
    let largest =
        |operand: usize| Some(i128::from(Range::of(builder, operands[operand], DEPTH)?.largest()).max(1));
    let term = largest(0)?.checked_mul(largest(1)?)?;
    let lengths = builder.ty(operands[0]).shape;
    let length: usize = dims.lhs_contract.iter().map(|&axis| lengths[axis]).product();
    let sum = term.checked_mul(length as i128)?;
    let most = if dtype == DType::I32 { i128::from(i32::MAX) } else { EXACT_IN_F64 };
    if sum > most {
        return None;
    }
    if sum <= EXACT_IN_F32 {
        let [left, right] = widened(builder, operands, DType::F32);
        return Some(left.dot(right, dims.clone()).cast(dtype).value());
    }
    if let [axis] = dims.lhs_contract[..]
        && let Some(parts) = (2..=length / 32)
            .find(|&parts| length.is_multiple_of(parts) && term * (length / parts) as i128 <= EXACT_IN_F32)
    {
        return Some(in_parts(builder, dims, operands, [axis, dims.rhs_contract[0]], parts, dtype));
    }
    let [left, right] = widened(builder, operands, DType::F64);
    Some(left.dot(right, dims.clone()).cast(dtype).value())
}

/// A product whose sums are computed in so many parts of the contracted axis.
fn in_parts(
    builder: &Builder,
    dims: &DotDims,
    operands: &[Value],
    contracted: [usize; 2],
    parts: usize,
    dtype: DType,
) -> Value {
    let split = |operand: Expr<'_>, axis: usize| {
        let mut lengths = operand.shape().to_vec();
        lengths.splice(axis..=axis, [parts, lengths[axis] / parts]);
        Shape::new(&lengths)
    };
    // The axes behind the one that is divided move on by one.
    let moved = |axes: &[usize], divided: usize| -> Vec<usize> {
        axes.iter().map(|&axis| if axis < divided { axis } else { axis + 1 }).collect()
    };
    let [left, right] = widened(builder, operands, DType::F32);
    let [left, right] =
        [left.reshape(&split(left, contracted[0])), right.reshape(&split(right, contracted[1]))];
    let batch = |axes: &[usize], divided: usize| [moved(axes, divided), vec![divided]].concat();
    let dims = DotDims {
        lhs_batch: batch(&dims.lhs_batch, contracted[0]),
        rhs_batch: batch(&dims.rhs_batch, contracted[1]),
        lhs_contract: vec![contracted[0] + 1],
        rhs_contract: vec![contracted[1] + 1],
    };
    let part = dims.lhs_batch.len() - 1;
    left.dot(right, dims).cast(dtype).sum(&[part]).value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradc_ir::TensorType;

    #[test]
    fn long_chains_of_views_are_followed_a_few_steps_only() {
        let builder = Builder::new("long");
        let start = builder.input("x", TensorType::new(DType::U8, [4, 6]));
        let shapes = [Shape::new(&[4, 6]), Shape::new(&[6, 4])];
        let x = (0..200_000).fold(builder.expr(start), |x, step| x.reshape(&shapes[step % 2]));
        let product = x.cast(DType::I32).matmul(builder.expr(start).cast(DType::I32)).value();
        let wide = WidenProducts.run(&builder.finish(&[product]));
        let is_wide =
            |dtype| wide.iter().any(|(_, node)| matches!(node.op, Op::Dot(_)) && node.ty().dtype == dtype);
        assert!(is_wide(DType::F32) && !is_wide(DType::I32));
    }
}
