//! Why there is no gradient.

use super::Gradient;
use super::flow::{self, Flow};
use super::walk;
use gradc_ir::{Builder, TensorType, Value};

/// What there is in place of a gradient of type `ty` where none arrived from the targets at the sources.
pub(super) fn explain(builder: &Builder, sources: &[Value], targets: &[Value], ty: &TensorType) -> Gradient {
    let nodes = walk::nodes(builder);
    let is_source = |index: usize| sources.contains(&Value::from_index(index));
    let flows =
        flow::forward(nodes.iter().map(|node| &**node), |index| Flow::Passes.only_if(is_source(index)));
    let mut leads_to_target = vec![false; nodes.len()];
    targets.iter().for_each(|target| leads_to_target[target.index()] = true);
    for (index, node) in nodes.iter().enumerate().rev() {
        if leads_to_target[index] {
            node.operands.iter().for_each(|operand| leads_to_target[operand.index()] = true);
        }
    }
    let ends = |&index: &usize| {
        let arriving = nodes[index].operands.iter().map(|&operand| flow::best(&flows, operand)).max();
        leads_to_target[index] && arriving > Some(flow::best(&flows, Value::from_index(index)))
    };
    let ended_at = (0..nodes.len()).filter(ends).map(Value::from_index).collect();
    let zeros = || builder.splat(ty, 0.0).value();
    match targets.iter().map(|&target| flow::best(&flows, target)).max() {
        Some(Flow::Passes) => Gradient::Value(zeros()),
        Some(Flow::Zero) => Gradient::Zero { value: zeros(), ended_at },
        Some(Flow::Blocked | Flow::Nothing) | None => Gradient::NoPath { ended_at },
    }
}
