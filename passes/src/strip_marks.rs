//! Removes marks: they matter to differentiation alone.

use crate::Pass;
use gradc_ir::{Graph, Op, rebuild};

/// Replaces every mark by its operand. After this pass a graph can no longer be differentiated by a tagged value.
pub struct StripMarks;

impl Pass for StripMarks {
    fn name(&self) -> &'static str {
        "strip_marks"
    }

    fn run(&self, graph: &Graph) -> Graph {
        rebuild(graph, |_, _, node, operands| matches!(node.op, Op::Mark(_)).then(|| operands[0]))
    }
}
