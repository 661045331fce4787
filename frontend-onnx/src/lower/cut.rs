//! The part of a model that some of its tensors need.

use crate::model::{GraphModel, Node};
use std::collections::{BTreeSet, HashSet};

/// What a node reads: its operands, and what its inner graphs take from outside.
fn reads(node: &Node) -> impl Iterator<Item = &str> {
    let inner = node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs());
    let captured = inner.flat_map(|graph| &graph.captures);
    node.inputs.iter().flatten().chain(captured).map(String::as_str)
}

/// The graph without the nodes that none of these tensors needs, and without the outputs that go with them.
pub(super) fn cut(graph: &GraphModel, wanted: &BTreeSet<String>) -> GraphModel {
    let mut needed: HashSet<&str> = wanted.iter().map(String::as_str).collect();
    let mut kept: Vec<&Node> = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|output| needed.contains(output.as_str())) {
            needed.extend(reads(node));
            kept.push(node);
        }
    }
    let produced: HashSet<&str> =
        kept.iter().flat_map(|node| node.outputs.iter().flatten()).map(String::as_str).collect();
    let inner = |name: &str| {
        graph.nodes.iter().any(|node| node.outputs.iter().flatten().any(|output| output == name))
    };
    let outputs =
        graph.outputs.iter().filter(|output| produced.contains(output.name.as_str()) || !inner(&output.name));
    GraphModel {
        name: graph.name.clone(),
        inputs: graph.inputs.clone(),
        outputs: outputs.cloned().collect(),
        initializers: graph.initializers.clone(),
        nodes: kept.into_iter().rev().cloned().collect(),
        value_infos: graph.value_infos.clone(),
        captures: graph.captures.clone(),
    }
}

/// A tensor that is computed before the nodes that cannot be lowered, and that one of them reads.
pub(super) fn tensor_before(graph: &GraphModel, supported: impl Fn(&Node) -> bool) -> Option<String> {
    let mut behind: HashSet<&str> = HashSet::new();
    let mut computed: HashSet<&str> = HashSet::new();
    let mut before = None;
    for node in &graph.nodes {
        let blocked = reads(node).any(|name| behind.contains(name));
        if blocked || !supported(node) {
            if !blocked && before.is_none() {
                before = reads(node).find(|name| computed.contains(name)).map(str::to_owned);
            }
            behind.extend(node.outputs.iter().flatten().map(String::as_str));
        } else if node.op_type != "Constant" {
            computed.extend(node.outputs.iter().flatten().map(String::as_str));
        }
    }
    before
}
