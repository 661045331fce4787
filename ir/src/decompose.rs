//! Operators that are kept whole for the sake of their gradients, in terms of simpler ones.

use crate::{Builder, Expr, Op, Value};

/// The same value in simpler operators, for [`Op::Softmax`] and [`Op::LogSoftmax`]; `None` for all others.
pub fn decompose<'b>(builder: &'b Builder, op: &Op, operands: &[Value]) -> Option<Expr<'b>> {
    let shifted = |axis: usize| {
        let x = builder.expr(operands[0]);
        x - x.reduce_max(&[axis]).unreduce(&x.shape(), &[axis])
    };
    match op {
        Op::Softmax { axis } => {
            let exponential = shifted(*axis).exp();
            let scale = 1.0 / exponential.sum(&[*axis]);
            Some(exponential * scale.unreduce(&exponential.shape(), &[*axis]))
        }
        Op::LogSoftmax { axis } => {
            let shifted = shifted(*axis);
            Some(shifted - shifted.exp().sum(&[*axis]).log().unreduce(&shifted.shape(), &[*axis]))
        }
        _ => None,
    }
}
