//! Operators that pick elements by index.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, Op};

pub(in crate::lower) const OPERATORS: &[Operator] = &[Operator::new("Gather", 1, Gradient::Smooth, gather)];

fn gather<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis_attribute(0, x.rank())?;
    let index = wrap(context, context.integer(1)?, x.shape()[axis])?;
    Ok(vec![context.push(Op::Gather { axis }, &[x, index])?])
}

/// Counts negative indices from the end of an axis of this length. Those out of range stay out of range.
pub(in crate::lower) fn wrap<'b>(
    context: &Context<'_, 'b>,
    index: Expr<'b>,
    length: usize,
) -> Result<Expr<'b>> {
    let index = if index.dtype() == DType::I32 { index } else { index.cast(DType::I64) };
    if context
        .known_value(index)
        .is_some_and(|known| known.to_i64().is_some_and(|all| all.iter().all(|&i| i >= 0)))
    {
        return Ok(index);
    }
    Ok(index.lt(index.splat(0.0)).select(index + length as f64, index))
}
