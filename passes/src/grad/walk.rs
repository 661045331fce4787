//! The reverse walk: the only place where cotangents are added up.

use super::GradError;
use super::flow::{self, Flow};
use super::rules::{self, Site};
use gradc_ir::{Builder, Node, Op, Value};
use std::sync::Arc;

/// All nodes that the builder holds now.
pub(super) fn nodes(builder: &Builder) -> Vec<Arc<Node>> {
    (0..builder.len()).map(|index| builder.node(Value::from_index(index))).collect()
}

/// The cotangent that arrives at each `wrt` value; `None` where none does. Types are already checked.
pub(super) fn pull(
    builder: &Builder,
    seeds: &[(Value, Value)],
    wrt: &[Value],
) -> Result<Vec<Option<Value>>, GradError> {
    let nodes = nodes(builder);
    let mut sources = vec![false; nodes.len()];
    wrt.iter().for_each(|value| sources[value.index()] = true);
    let flows = flow::forward(nodes.iter().map(|node| &**node), |index| Flow::Passes.only_if(sources[index]));
    let passes = |value: Value| flow::best(&flows, value) == Flow::Passes;

    let mut pending: Vec<Vec<Option<Value>>> =
        nodes.iter().map(|node| vec![None; node.types.len()]).collect();
    let accumulate = |slot: &mut Option<Value>, cotangent: Value| {
        *slot = Some(match *slot {
            Some(sum) => (builder.expr(sum) + builder.expr(cotangent)).value(),
            None => cotangent,
        });
    };
    for &(target, seed) in seeds.iter().filter(|(target, _)| passes(*target)) {
        accumulate(&mut pending[target.index()][0], seed);
    }
    for (index, node) in nodes.iter().enumerate().rev() {
        let needed: Vec<bool> = node.operands.iter().map(|&operand| passes(operand)).collect();
        if pending[index].iter().all(Option::is_none) || !needed.contains(&true) {
            continue;
        }
        let value = Value::from_index(index);
        builder.set_origin(builder.origin(value));
        let site = Site::new(builder, value, node, &needed, &pending[index]);
        let part = if let Op::Project(part) = node.op { part } else { 0 };
        for (operand, cotangent) in node.operands.iter().zip(rules::vjp(&site)?) {
            if let Some(cotangent) = cotangent.filter(|_| passes(*operand)) {
                accumulate(&mut pending[operand.index()][part], cotangent.value());
            }
        }
    }
    builder.set_origin(None);
    Ok(wrt.iter().map(|value| pending[value.index()][0]).collect())
}
