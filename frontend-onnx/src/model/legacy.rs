//! Nodes of opsets before the first supported one, where they mean the same as in that.

use super::graph::Node;
use crate::error::SUPPORTED_OPSETS;
use crate::{Error, Result};

/// Makes a node of `ai.onnx` of an opset before 7 one of opset 7, or fails where that would change its meaning. Those
/// that are lowered in their own way keep their version.
///
/// Most operators did not change, or only gained: what was left are attributes that say nothing any more.
pub(super) fn modernise(node: &mut Node) -> Result<()> {
    let first = *SUPPORTED_OPSETS.start();
    if !node.domain.is_empty() || node.opset >= first {
        return Ok(());
    }
    if known_as_it_was(node) {
        return Ok(());
    }
    if !same_meaning(node)? {
        return Err(Error::Opset { domain: String::new(), version: node.opset, known: SUPPORTED_OPSETS });
    }
    for gone in ["broadcast", "consumed_inputs", "is_test"] {
        node.attributes.remove(gone);
    }
    node.opset = first;
    Ok(())
}

/// Operands were aligned by an axis, or by their number of elements.
fn known_as_it_was(node: &Node) -> bool {
    match node.op_type.as_str() {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "And" | "Or" | "Xor" | "Equal" | "Greater" | "Less" => {
            node.attribute("axis").is_some()
        }
        "PRelu" => true,
        _ => false,
    }
}

fn same_meaning(node: &Node) -> Result<bool> {
    let since = |version| node.opset >= version;
    Ok(match node.op_type.as_str() {
        // These were in training mode unless told otherwise.
        "BatchNormalization" | "Dropout" => node.flag("is_test", false)?,
        "GRU" | "LSTM" | "RNN" | "Upsample" => false,
        "Cast" | "Tile" => since(6),
        "Reshape" => since(5),
        "Concat" => since(4) || node.attribute("axis").is_some(),
        "GlobalLpPool" | "LpPool" | "Pad" | "Split" => since(2),
        _ => true,
    })
}
