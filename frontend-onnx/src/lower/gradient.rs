//! `Gradient`: a node that asks for the gradient of a part of the graph that it stands in.

use super::scope::Bound;
use super::{Context, Lowering};
use crate::Result;
use crate::model::{GraphModel, Node};
use gradc_ir::{Mark, Op, Value};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const DOMAIN: &str = "ai.onnx.preview.training";
pub(super) const NAME: &str = "Gradient";

/// Whether a node has names of tensors in its attributes.
pub(crate) fn names_tensors(node: &Node) -> bool {
    node.domain == DOMAIN && node.op_type == NAME
}

/// The names of all tensors that nodes of a graph differentiate by.
pub(super) fn names(graph: &GraphModel) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![graph];
    while let Some(graph) = pending.pop() {
        for node in &graph.nodes {
            pending.extend(node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs()));
            if names_tensors(node) {
                let listed = ["xs", "zs"].into_iter().filter_map(|name| node.strings(name).ok().flatten());
                found.extend(listed.flatten().map(|name| String::from_utf8_lossy(name).into_owned()));
            }
        }
    }
    found
}

impl Lowering<'_> {
    /// The part of the graph from `xs` and `zs` to `y` is evaluated at the operands, and differentiated there. Where
    /// the operands are the tensors themselves, both evaluations become one later.
    pub(super) fn gradient(&mut self, node: &Node) -> Result<()> {
        self.moved_code(node)?;
        let Some(differentiate) = self.options.differentiate else {
            return Err(node.error("is not supported here"));
        };
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let list = |name: &str| -> Result<Vec<String>> {
            Ok(node.strings(name)?.unwrap_or_default().iter().map(|name| text(name)).collect())
        };
        let (xs, zs) = (node.required("xs", Some(list("xs")?).filter(|xs| !xs.is_empty()))?, list("zs")?);
        let target = node.required("y", node.optional_string("y")?)?;
        let value = |name: &str| {
            let missing = || node.error(format_args!("{} is defined nowhere", crate::error::Quoted(name)));
            let bound = self.values.get(name).ok_or_else(missing)?;
            bound.expect_plain(node, &crate::error::Quoted(name).to_string())
        };
        let target = value(target)?;
        let context = Context::new(self, node);
        if context.input_count() != xs.len() + zs.len() {
            return Err(node.error(format_args!(
                "has {} inputs for {} names",
                context.input_count(),
                xs.len() + zs.len()
            )));
        }
        let mut renamed: BTreeMap<Value, Value> = BTreeMap::new();
        let mut wrt = Vec::with_capacity(xs.len());
        for (position, name) in xs.iter().chain(&zs).enumerate() {
            let (formal, actual) = (value(name)?, context.input(position)?);
            let own = self.builder.expr(formal).ty();
            if actual.ty() != own {
                return Err(node.error(format_args!("input {position} is {}, its tensor {own}", actual.ty())));
            }
            let differentiated = position < xs.len();
            if differentiated && !own.dtype.is_float() {
                return Err(node.error(format_args!("cannot differentiate by {own}")));
            }
            let tag = (self.options.tags.len() + self.apart.len()).saturating_add(self.builder.len());
            let mark = if differentiated { Mark::Tag(tag as u32) } else { Mark::StopGradient };
            let fresh = self.builder.build(Op::Mark(mark), &[actual.value()]).value();
            if differentiated {
                wrt.push(fresh);
            }
            if renamed.insert(formal, fresh).is_some() {
                return Err(node.error(format_args!("names {} twice", crate::error::Quoted(name))));
            }
        }
        let target = self.replayed(target, renamed);
        let ty = self.builder.expr(target).ty();
        if !ty.dtype.is_float() {
            return Err(node.error(format_args!("cannot differentiate {ty}")));
        }
        let gradients = differentiate(self.builder, target, &wrt).map_err(|what| node.error(what))?;
        self.builder.set_origin(Some(super::origin(node)));
        for (name, gradient) in node.outputs.iter().zip(gradients) {
            if let Some(name) = name {
                self.bind_as(name, Bound::plain(gradient));
            }
        }
        Ok(())
    }

    /// The value with others in the place of some that it is computed from.
    fn replayed(&self, target: Value, mut renamed: BTreeMap<Value, Value>) -> Value {
        let first = renamed.keys().next().copied().unwrap_or(target);
        // Operands come before their users, and nothing before the first replaced value changes.
        let mut needed = BTreeSet::from([target]);
        let mut pending = vec![target];
        while let Some(value) = pending.pop() {
            if value > first && !renamed.contains_key(&value) {
                pending.extend(
                    self.builder.node(value).operands.iter().filter(|&&operand| needed.insert(operand)),
                );
            }
        }
        for value in needed {
            if value <= first || renamed.contains_key(&value) {
                continue;
            }
            let node = self.builder.node(value);
            let operands: Vec<Value> = node
                .operands
                .iter()
                .map(|operand| renamed.get(operand).copied().unwrap_or(*operand))
                .collect();
            if operands[..] != node.operands[..] {
                self.builder.set_origin(self.builder.origin(value));
                renamed.insert(value, self.builder.build(node.op.clone(), &operands).value());
            }
        }
        renamed.get(&target).copied().unwrap_or(target)
    }
}
