//! Elementwise arithmetic.

use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::BinaryOp;

pub(in crate::lower) const OPERATORS: &[Operator] = &[Operator::new("Add", 1, Gradient::Smooth, add)];

fn add<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![context.binary(BinaryOp::Add, context.input(0)?, context.input(1)?)?])
}
