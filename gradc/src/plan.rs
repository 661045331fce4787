//! What a compiled model takes.

use gradc_passes::Report;
use std::time::Duration;

/// The memory and the work of a compiled model.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Bytes of intermediate results. Of the interpreter this is not known, and 0.
    pub arena: usize,
    /// Bytes of the inputs given at run time.
    pub inputs: usize,
    /// Bytes of the weights and all other constants.
    pub weights: usize,
    /// Bytes of outputs and gradients.
    pub outputs: usize,
    /// How many steps compute again what was dropped to stay within the limit of memory.
    pub repeats: usize,
    /// Their arithmetic, as a part of the rest.
    pub repeated: f64,
    /// Number of nodes before and after the passes.
    pub nodes: [usize; 2],
    /// Number of kernels that a run calls, those in loops counted once.
    pub kernels: usize,
    /// How many of these are of which kind, by name.
    pub kernel_kinds: Vec<(&'static str, usize)>,
    /// What the passes did, in order.
    pub passes: Vec<Report>,
    /// How long compiling took.
    pub times: Times,
}

/// How long the parts of compiling took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From the model to a graph.
    pub lower: Duration,
    /// Targets and gradients.
    pub differentiate: Duration,
    /// The passes.
    pub passes: Duration,
    /// Loops, memory planning, machine code.
    pub codegen: Duration,
    /// All of it.
    pub total: Duration,
}

impl Plan {
    /// Bytes in use during a run: all of the above.
    pub fn peak(&self) -> usize {
        self.arena + self.inputs + self.weights + self.outputs
    }
}
