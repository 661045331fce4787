//! Softmax and its relatives.

use super::shape::sides;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, DType, Expr, Op, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Hardmax", 1, Gradient::Zero, |c| along_axis(c, hardmax)),
    Operator::new("LogSoftmax", 1, Gradient::Smooth, |c| {
        along_axis(c, |context, x, axis| context.push(Op::LogSoftmax { axis }, &[x]))
    }),
    Operator::new("Softmax", 1, Gradient::Smooth, |c| {
        along_axis(c, |context, x, axis| context.push(Op::Softmax { axis }, &[x]))
    }),
];

/// Before opset 13 all axes from the one named on are taken as one.
fn along_axis<'b>(
    context: &Context<'_, 'b>,
    rule: for<'a> fn(&Context<'a, 'b>, Expr<'b>, usize) -> Result<Expr<'b>>,
) -> Outputs<'b> {
    let x = context.float(0)?;
    let shape = x.shape();
    if context.opset() >= 13 {
        let axis = context.axis_attribute(-1, shape.rank())?;
        return Ok(vec![rule(context, x, axis)?]);
    }
    let axis = context.axis_attribute(1, shape.rank())?;
    if axis + 1 == shape.rank() {
        return Ok(vec![rule(context, x, axis)?]);
    }
    let (outer, inner) = sides(&shape, axis);
    let flat = rule(context, context.reshape(x, &[outer, inner])?, 1)?;
    Ok(vec![context.reshape(flat, &shape)?])
}

/// 1 at the first greatest element, 0 elsewhere.
fn hardmax<'b>(context: &Context<'_, 'b>, x: Expr<'b>, axis: usize) -> Result<Expr<'b>> {
    let found = context.push(Op::ArgReduce { op: ArgOp::Max, axis, last: false }, &[x])?;
    let counts = context.builder().iota(TensorType::new(DType::I64, x.shape()), axis);
    Ok(counts.eq(found.unreduce(&x.shape(), &[axis])).cast(x.dtype()))
}
