//! Operators that are kept whole for the sake of their gradients, in terms of simpler ones.

use crate::{Builder, DType, Expr, Op, Value};

/// The same value in simpler operators, for [`Op::Softmax`] and [`Op::LogSoftmax`]; `None` for all others. Those of
/// 16-bit floats are computed in f32 and rounded once.
pub fn decompose<'b>(builder: &'b Builder, op: &Op, operands: &[Value]) -> Option<Expr<'b>> {
    let (Op::Softmax { axis } | Op::LogSoftmax { axis }) = op else { return None };
    let x = builder.expr(operands[0]);
    let dtype = x.dtype();
    let wide = if matches!(dtype, DType::F16 | DType::BF16) { x.cast(DType::F32) } else { x };
    let shape = wide.shape();
    let widen = |line: Expr<'b>| line.unreduce(&shape, &[*axis]);
    let shifted = wide - widen(wide.reduce_max(&[*axis]));
    let exponential = shifted.exp();
    let sum = exponential.sum(&[*axis]);
    let result = match op {
        Op::LogSoftmax { .. } => shifted - widen(sum.log()),
        _ => exponential * widen(1.0 / sum),
    };
    Some(result.cast(dtype))
}
