//! Writes composed operators in simpler ones, so that they can be fused with what stands around them.

use crate::Pass;
use gradc_ir::{Graph, rebuild};

/// Replaces softmax and log-softmax by their definition (see [`gradc_ir::decompose`]). Their gradients are better
/// taken before.
pub struct Decompose;

impl Pass for Decompose {
    fn name(&self) -> &'static str {
        "decompose"
    }

    fn run(&self, graph: &Graph) -> Graph {
        rebuild(graph, |builder, _, node, operands| {
            gradc_ir::decompose(builder, &node.op, operands).map(|simpler| simpler.value())
        })
    }
}
