//! Groups nodes that one kernel computes: elementwise chains, views, broadcasts, and reductions over one set of axes.
//!
//! Groups grow from their last node towards the inputs. A node joins the group of its users if all of them are in one
//! group, or if it is so cheap that each group may compute it for itself; it never joins where it would be computed
//! again and again, or where the group would have to wait for itself. Products and convolutions take the elementwise
//! work on their results with them, see [`product`]; windows and whatever moves data by index stay alone. What a group yields, and whether its loops can be shared, is told by the shapes:
//! see [`Frame`].

mod grow;
mod product;
#[cfg(test)]
mod tests;

use crate::Pass;
use gradc_ir::{Builder, FusedOp, Graph, Node, Op, Value};
use grow::grow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use grow::Frame;

/// Fuses groups of nodes; see the module.
pub struct Fuse;

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let groups = grow(graph);
        emit(graph, &groups)
    }
}

/// The members of each group, in definition order, by group.
pub(crate) struct Groups {
    /// The group of each node that is in exactly one.
    pub of: Vec<Option<usize>>,
    /// Members, without the nodes that every group computes for itself.
    pub members: Vec<Vec<Value>>,
    /// Nodes that are computed by each user for itself.
    pub duplicated: Vec<bool>,
}

fn emit(graph: &Graph, groups: &Groups) -> Graph {
    let builder = Builder::new(graph.name());
    let users = graph.users();
    let is_output: Vec<bool> = {
        let mut flags = vec![false; graph.len()];
        graph.outputs().iter().for_each(|output| flags[output.index()] = true);
        flags
    };
    let mut placed = Emitter { graph, groups, builder: &builder, users, is_output, renamed: BTreeMap::new() };
    for (position, value) in graph.values().take(graph.inputs().len()).enumerate() {
        let input = &graph.inputs()[position];
        let renamed = builder.input(&input.name, input.ty.clone());
        placed.renamed.insert(value, renamed);
    }
    let outputs: Vec<Value> = graph.outputs().iter().map(|&output| placed.value(output)).collect();
    drop(placed);
    builder.finish(&outputs)
}

struct Emitter<'a> {
    graph: &'a Graph,
    groups: &'a Groups,
    builder: &'a Builder,
    users: Vec<Vec<Value>>,
    is_output: Vec<bool>,
    renamed: BTreeMap<Value, Value>,
}

impl Emitter<'_> {
    /// The value in the new graph, made with all that it needs. An explicit stack: chains may be long.
    fn value(&mut self, wanted: Value) -> Value {
        let mut stack = vec![wanted];
        let mut waiting = BTreeSet::new();
        while let Some(&value) = stack.last() {
            if self.renamed.contains_key(&value) {
                stack.pop();
                continue;
            }
            let needs: Vec<Value> =
                self.needs(value).into_iter().filter(|need| !self.renamed.contains_key(need)).collect();
            if needs.is_empty() {
                self.make(value);
                stack.pop();
            } else {
                // Else this would go on until memory ends.
                assert!(waiting.insert(value), "no group waits for itself");
                stack.extend(needs);
            }
        }
        self.renamed[&wanted]
    }

    /// What must exist before a value: the operands of its group, or its own.
    fn needs(&self, value: Value) -> Vec<Value> {
        match self.groups.of[value.index()].filter(|&group| self.is_fused(group)) {
            Some(group) => self.body(group).1,
            None => self.graph.node(value).operands.to_vec(),
        }
    }

    /// Whether a group is more than one node, with what it computes for itself.
    fn is_fused(&self, group: usize) -> bool {
        let members = &self.groups.members[group];
        let own = |value: &Value| self.groups.duplicated[value.index()];
        members.len() > 1 || members.iter().any(|member| self.graph.node(*member).operands.iter().any(own))
    }

    /// The nodes of a group's body (those it computes for itself included) and its operands, both in order.
    fn body(&self, group: usize) -> (Vec<Value>, Vec<Value>) {
        let (mut body, mut operands): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        let mut stack = self.groups.members[group].clone();
        while let Some(value) = stack.pop() {
            if body.contains(&value) || operands.contains(&value) {
                continue;
            }
            let inside =
                self.groups.of[value.index()] == Some(group) || self.groups.duplicated[value.index()];
            if inside {
                body.push(value);
                stack.extend(self.graph.node(value).operands.iter().copied());
            } else {
                operands.push(value);
            }
        }
        body.sort_unstable();
        operands.sort_unstable();
        (body, operands)
    }

    fn make(&mut self, value: Value) {
        self.builder.set_origin(self.graph.origin(value).cloned());
        match self.groups.of[value.index()].filter(|&group| self.is_fused(group)) {
            Some(group) => self.make_group(group),
            None => {
                let node = self.graph.node(value);
                let operands: Vec<Value> =
                    node.operands.iter().map(|operand| self.renamed[operand]).collect();
                let renamed = self.builder.build(node.op.clone(), &operands).value();
                self.renamed.insert(value, renamed);
            }
        }
    }

    fn make_group(&mut self, group: usize) {
        let (body, operands) = self.body(group);
        let is_product = |value: &&Value| matches!(self.graph.node(**value).op, Op::Dot(_) | Op::Conv(_));
        if let Some(&product) = body.iter().find(is_product) {
            // What a group with a product costs is the product's.
            self.builder.set_origin(self.graph.origin(product).cloned());
        }
        let inner = Builder::new(name(self.graph, &self.groups.members[group]));
        let mut inside: BTreeMap<Value, Value> = BTreeMap::new();
        for (position, &operand) in operands.iter().enumerate() {
            inside.insert(operand, inner.input(&format!("p{position}"), self.graph.ty(operand).clone()));
        }
        for &value in &body {
            let node: &Node = self.graph.node(value);
            let own: Vec<Value> = node.operands.iter().map(|operand| inside[operand]).collect();
            inside.insert(value, inner.build(node.op.clone(), &own).value());
        }
        let outputs: Vec<Value> = (self.groups.members[group].iter().copied())
            .filter(|&member| {
                let outside = |user: &Value| self.groups.of[user.index()] != Some(group);
                self.is_output[member.index()] || self.users[member.index()].iter().any(outside)
            })
            .collect();
        let parts: Vec<Value> = outputs.iter().map(|output| inside[output]).collect();
        let body = Arc::new(inner.finish(&parts));
        let operands: Vec<Value> = operands.iter().map(|operand| self.renamed[operand]).collect();
        let tuple = self.builder.build(Op::Fused(FusedOp { body }), &operands);
        for (part, output) in outputs.into_iter().enumerate() {
            self.renamed.insert(output, tuple.project(part).value());
        }
    }
}

/// The operators of a group, shortened: `mul_add_tanh`.
fn name(graph: &Graph, members: &[Value]) -> String {
    let telling =
        |value: &&Value| !matches!(graph.node(**value).op, Op::Broadcast { .. } | Op::Reshape { .. });
    let mut names: Vec<&str> =
        members.iter().filter(telling).map(|value| graph.node(*value).op.name()).collect();
    names.dedup();
    let shown = names.len().min(5);
    let rest = if names.len() > shown { format!("_and_{}", names.len() - shown) } else { String::new() };
    names[..shown].join("_") + &rest
}
