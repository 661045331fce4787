//! What runs spent their time on.

use crate::engine::{Engine, Scratch};
use crate::session::{Ran, Session};
use gradc_codegen::program::Step;
use std::time::Duration;

/// A step of a run, with the time that all runs so far have spent in it.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// What it is: `loops`, `gemm`, `conv`, `sort`, `copy`, or a `loop` of such.
    pub kind: &'static str,
    /// The kernel, where it is one of loops: operations that it computes.
    pub kernel: String,
    /// The operator of the model that it serves, and that node's name; a gradient serves the node that it belongs to.
    pub node: Option<(String, String)>,
    /// Calls of kernels in a run.
    pub calls: u64,
    /// Floating-point operations in a run.
    pub operations: u64,
    /// Bytes read and written in a run, as if each element moved once a call.
    pub bytes: u64,
    /// The time of all runs.
    pub time: Duration,
}

impl Session {
    /// The steps of the function that ran last, in order. Times are 0 without [`Compile::profile`](crate::Compile::profile);
    /// the interpreter has no steps.
    pub fn steps(&self) -> Vec<StepReport> {
        let full = self.ran >= Ran::Trained || self.model.shared.extra() == 0;
        let Ok(function) = self.model.shared.function(full) else { return Vec::new() };
        let (Engine::Native(executable), Some(Scratch::Native(workspace))) =
            (&function.engine, &self.scratch[usize::from(full)])
        else {
            return Vec::new();
        };
        let program = executable.program();
        let steps = program.steps.iter().zip(workspace.nanoseconds()).enumerate();
        let report = |(position, (step, nanoseconds)): (usize, (&Step, &u64))| {
            let work = program.work(step);
            let node = program.labels.0.get(position).cloned().flatten();
            StepReport {
                kind: step.kind(),
                kernel: match step {
                    Step::Kernel { kernel, .. } => program.kernels[*kernel].name.clone(),
                    Step::Gemm { gemm, .. } => {
                        format!("{}x{}x{}x{}", gemm.batch, gemm.m, gemm.n, gemm.k)
                    }
                    Step::Conv { form, .. } => format!("{form:?}"),
                    Step::ArgSort { lines, length, .. } => format!("{lines}x{length}"),
                    Step::Pack { gemm, .. } => format!("{}x{}", gemm.k, gemm.n),
                    Step::Copy { .. } | Step::Zero { .. } => String::new(),
                    Step::Loop { trip, body, .. } => match body.last() {
                        Some(Step::Loop { trip: inner, .. }) => format!("{trip} times {inner} rounds"),
                        _ => format!("{trip} rounds"),
                    },
                    Step::Parts { parts, body, .. } => format!("{parts} times {} steps", body.len()),
                },
                node: node.map(|node| (node.operator.to_string(), node.name.to_string())),
                calls: work.calls,
                operations: work.operations,
                bytes: work.bytes,
                time: Duration::from_nanos(*nanoseconds),
            }
        };
        steps.map(report).collect()
    }
}
