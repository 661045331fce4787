//! What a compiled model takes.

use crate::InputInfo;
use crate::compiled::Store;
use crate::engine::{Engine, Function};
use gradc_passes::Report;
use std::collections::BTreeMap;
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
    /// Whether the compiled function was in the cache, so that no pass ran and no code was generated.
    pub cached: bool,
    /// What the passes did, in order. Empty where the function was in the cache.
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
    /// Looking into the cache, and writing to it.
    pub cache: Duration,
    /// All of it.
    pub total: Duration,
}

impl Plan {
    /// What a function takes; the times are left open.
    pub(crate) fn of(function: &Function, inputs: &[InputInfo], stores: &[Option<Store>]) -> Plan {
        let bytes = |weights: bool| -> usize {
            let some = inputs.iter().zip(stores).filter(|(_, store)| store.is_some() == weights);
            some.map(|(input, _)| input.ty.bytes()).sum()
        };
        let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
        if let Engine::Native(executable) = &function.engine {
            count(&executable.program().steps, &mut kinds);
        }
        let (repeats, repeated) = function.repeats();
        Plan {
            arena: function.arena(),
            repeats,
            repeated,
            inputs: bytes(false),
            weights: bytes(true) + function.constants(),
            outputs: function.graph.output_types().into_iter().map(gradc_ir::TensorType::bytes).sum(),
            nodes: [function.graph.len(), function.nodes],
            kernels: kinds.values().sum(),
            kernel_kinds: kinds.into_iter().collect(),
            passes: function.reports.clone(),
            cached: function.cached,
            times: Times::default(),
        }
    }

    /// Bytes in use during a run: all of the above.
    pub fn peak(&self) -> usize {
        self.arena + self.inputs + self.weights + self.outputs
    }
}

fn count(steps: &[gradc_codegen::program::Step], kinds: &mut BTreeMap<&'static str, usize>) {
    for step in steps {
        match step.inner() {
            [] => *kinds.entry(step.kind()).or_default() += 1,
            inner => count(inner, kinds),
        }
    }
}
