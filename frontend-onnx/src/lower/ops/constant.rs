//! Constants, and control flow, whose place in the table stands here.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use crate::model::{Attribute, DataType, Node};
use gradc_ir::Literal;

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Constant", 1, Gradient::Smooth, by_the_driver),
    Operator::new("If", 1, Gradient::Control, by_the_driver),
    Operator::new("Loop", 1, Gradient::Control, by_the_driver),
    Operator::new("ConcatFromSequence", 11, Gradient::Smooth, by_the_driver),
    Operator::new("Optional", 15, Gradient::Smooth, by_the_driver),
    Operator::new("OptionalGetElement", 15, Gradient::Smooth, by_the_driver),
    Operator::new("OptionalHasElement", 15, Gradient::Integer, by_the_driver),
    Operator::new("Scan", 8, Gradient::Control, by_the_driver),
    Operator::new("SequenceAt", 11, Gradient::Smooth, by_the_driver),
    Operator::new("SequenceConstruct", 11, Gradient::Smooth, by_the_driver),
    Operator::new("SequenceEmpty", 11, Gradient::Smooth, by_the_driver),
    Operator::new("SequenceErase", 11, Gradient::Smooth, by_the_driver),
    Operator::new("SequenceInsert", 11, Gradient::Smooth, by_the_driver),
    Operator::new("SequenceLength", 11, Gradient::Integer, by_the_driver),
    Operator::new("SequenceMap", 17, Gradient::Control, by_the_driver),
    Operator::new("SplitToSequence", 11, Gradient::Smooth, by_the_driver),
    Operator::new("FlexAttention", 1, Gradient::Smooth, by_the_driver).of("ai.onnx.preview"),
    Operator::new("Gradient", 1, Gradient::Smooth, by_the_driver).of("ai.onnx.preview.training"),
];

/// These need more than a node's context.
fn by_the_driver<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Err(context.error("stands where it cannot be lowered"))
}

/// The data of a `Constant` node, and the type that they are codes of.
pub(in crate::lower) fn data(node: &Node) -> Result<(Literal, Option<DataType>)> {
    for name in ["value", "sparse_value"] {
        if let Some(Attribute::Tensor(tensor) | Attribute::SparseTensor(tensor)) = node.attribute(name) {
            return Ok((tensor.to_held()?, tensor.dtype().as_code()));
        }
    }
    literal(node).map(|literal| (literal, None))
}

fn literal(node: &Node) -> Result<Literal> {
    if let Some(value) = node.optional_float("value_float")? {
        return Ok(Literal::scalar(value));
    }
    if let Some(value) = node.optional_int("value_int")? {
        return Ok(Literal::scalar(value));
    }
    if let Some(values) = node.floats("value_floats")? {
        return Ok(Literal::new([values.len()], values));
    }
    if let Some(values) = node.ints("value_ints")? {
        return Ok(Literal::new([values.len()], values));
    }
    if node.attribute("value_string").or(node.attribute("value_strings")).is_some() {
        return Err(node.error("strings are not supported"));
    }
    Err(node.attribute_error("value", "is missing"))
}
