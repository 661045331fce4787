//! Which nodes are differentiated as if they did not round.

use crate::engine::node_of;
use crate::{Error, Model, Result, names};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use gradc_frontend_onnx::lower::ROUNDING;
use gradc_frontend_onnx::model::{GraphModel, Node};
use gradc_ir::{Builder, Value};
use std::collections::BTreeSet;

/// An error where a name is neither an operator that rounds and the model has, nor the name of such a node.
pub(crate) fn check(model: &Model, chosen: &BTreeSet<String>) -> Result<()> {
    if chosen.is_empty() {
        return Ok(());
    }
    let (mut operators, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    let functions = model.onnx().functions.iter().flat_map(|function| &function.nodes);
    let mut pending = vec![&model.onnx().graph];
    let mut visit = |node: &Node| {
        if ROUNDING.contains(&node.op_type.as_str()) {
            operators.insert(node.op_type.clone());
            nodes.insert(node.name.clone());
        }
    };
    for node in functions {
        visit(node);
        pending.extend(inner(node));
    }
    while let Some(graph) = pending.pop() {
        for node in &graph.nodes {
            visit(node);
            pending.extend(inner(node));
        }
    }
    let Some(unknown) = chosen.iter().find(|name| !operators.contains(*name) && !nodes.contains(*name))
    else {
        return Ok(());
    };
    let what = format!("no node of the model that rounds is {}, or is called so", Quoted(unknown));
    let listed: Vec<&str> = operators.iter().map(String::as_str).collect();
    let help = match names::nearest(unknown, operators.iter().chain(&nodes).map(String::as_str)) {
        Some(nearest) => format!("did you mean {}?", Escaped(&nearest)),
        None if listed.is_empty() => "the model has no operator that rounds".to_owned(),
        None => format!("operators of the model that round: {}", listed.join(", ")),
    };
    Err(Error::option(what, help))
}

fn inner(node: &Node) -> impl Iterator<Item = &GraphModel> {
    node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs())
}

/// Operators and names of the model's nodes that these belong to.
pub(crate) fn named_nodes(builder: &Builder, values: &[Value]) -> Vec<(String, String)> {
    let mut nodes: Vec<_> =
        values.iter().filter_map(|&node| builder.origin(node).as_ref().map(node_of)).collect();
    nodes.dedup();
    nodes
}

/// The flag that lets gradients pass the first of these nodes (operator and name) that round.
pub(crate) fn suggested(nodes: &[(String, String)]) -> Option<String> {
    let plain = |operator: &str| operator.rsplit(['.', ':']).next().unwrap_or_default().to_owned();
    let mut operators: Vec<String> = nodes.iter().map(|(operator, _)| plain(operator)).collect();
    operators.retain(|operator| ROUNDING.contains(&operator.as_str()));
    operators.sort();
    operators.dedup();
    (!operators.is_empty()).then(|| format!("--straight-through {}", operators.join(",")))
}

/// Where a gradient that is zero by definition ends, for a person.
pub(crate) fn at_node(builder: &Builder, node: Value) -> String {
    builder.origin(node).map_or_else(String::new, |origin| {
        format!(": {} {} is constant almost everywhere", origin.operator, Quoted(&origin.name))
    })
}
