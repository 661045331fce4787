//! What computes: machine code, or the interpreter.

use crate::goal::LABELS;
use crate::{Error, Result};
use gradc_codegen::{CodegenError, CompileOptions, Executable, RunError, Workspace};
use gradc_ir::{EvalError, Graph, Limits, Literal, Op, Origin};
use gradc_kernels::Team;
use gradc_passes::{Report, Selection, pipeline, run_passes};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How functions are compiled.
#[derive(Clone)]
pub(crate) struct Settings {
    pub level: u8,
    pub passes: Selection,
    pub threads: usize,
    pub profile: bool,
    pub interpreter: bool,
    pub max_memory: Option<usize>,
}

impl Settings {
    /// What the limit of memory leaves for intermediate results.
    pub fn arena_limit(&self, graph: &Graph) -> Option<usize> {
        let inputs: usize = graph.inputs().iter().map(|input| input.ty.bytes()).sum();
        let outputs: usize = graph.output_types().iter().map(|ty| ty.bytes()).sum();
        self.max_memory.map(|limit| limit.saturating_sub(inputs + outputs + constants(graph)))
    }
}

/// Bytes of the tensors known at compile time.
fn constants(graph: &Graph) -> usize {
    let constant = |(_, node): (_, &gradc_ir::Node)| match &node.op {
        Op::Constant(literal) => literal.bytes().len(),
        _ => 0,
    };
    graph.iter().map(constant).sum()
}

/// A compiled graph.
pub(crate) struct Function {
    /// Before the passes.
    pub graph: Graph,
    /// After them.
    pub optimized: Graph,
    pub reports: Vec<Report>,
    pub engine: Engine,
    /// Passes, code generation.
    pub times: [Duration; 2],
}

pub(crate) enum Engine {
    Native(Box<Executable>),
    Interpreter,
}

/// The memory of one run at a time.
pub(crate) enum Scratch {
    Native(Workspace),
    Interpreter,
}

impl Function {
    pub fn new(
        graph: Graph,
        settings: &Settings,
        mut observe: impl FnMut(&Report, &Graph),
    ) -> Result<Function> {
        let started = Instant::now();
        let mut reports = Vec::new();
        let optimized = if settings.interpreter {
            graph.clone()
        } else {
            let optimized =
                run_passes(graph.clone(), &pipeline(settings.level), &settings.passes, |report, graph| {
                    reports.push(report.clone());
                    observe(report, graph);
                });
            // What code generation cannot do without runs also where passes were stopped short.
            let needed = if settings.passes.limit.is_some() { pipeline(0) } else { Vec::new() };
            run_passes(optimized, &needed, &Selection::default(), |_, _| {})
        };
        let passed = Instant::now();
        let engine = if settings.interpreter {
            Engine::Interpreter
        } else {
            let arena_limit = settings.arena_limit(&optimized);
            let options =
                CompileOptions { threads: settings.threads, profile: settings.profile, arena_limit };
            let executable = gradc_codegen::compile_with(&optimized, &options).map_err(refused)?;
            Engine::Native(Box::new(executable))
        };
        let times = [passed - started, passed.elapsed()];
        Ok(Function { graph, optimized, reports, engine, times })
    }

    pub fn scratch(&self, team: &Arc<Team>) -> Scratch {
        match &self.engine {
            Engine::Native(executable) => Scratch::Native(executable.workspace(team.clone())),
            Engine::Interpreter => Scratch::Interpreter,
        }
    }

    /// Bytes of intermediate results; 0 where that is not known.
    pub fn arena(&self) -> usize {
        match &self.engine {
            Engine::Native(executable) => executable.program().arena,
            Engine::Interpreter => 0,
        }
    }

    /// How many steps compute again what was dropped to save memory, and their part of the arithmetic.
    pub fn repeats(&self) -> (usize, f64) {
        let Engine::Native(executable) = &self.engine else { return (0, 0.0) };
        let program = executable.program();
        let operations = |step: &gradc_codegen::program::Step| program.work(step).operations as f64;
        let again: f64 = program.repeats.iter().map(|&step| operations(&program.steps[step])).sum();
        let all: f64 = program.steps.iter().map(operations).sum();
        (program.repeats.len(), again / (all - again).max(1.0))
    }

    /// Bytes of the tensors known at compile time, as runs read them.
    pub fn constants(&self) -> usize {
        match &self.engine {
            Engine::Native(executable) => executable.program().constants(),
            Engine::Interpreter => constants(&self.optimized),
        }
    }

    /// Runs once. Buffers come in order and have their tensors' sizes.
    pub fn run<'i, 'o>(
        &self,
        scratch: &mut Scratch,
        inputs: impl Iterator<Item = &'i [u8]>,
        outputs: impl Iterator<Item = &'o mut [u8]>,
        max_memory: Option<usize>,
    ) -> Result<()> {
        match (&self.engine, scratch) {
            (Engine::Native(executable), Scratch::Native(workspace)) => {
                executable.run(workspace, inputs, outputs).map_err(|error| self.failed(error))
            }
            _ => self.interpret(inputs, outputs, max_memory),
        }
    }

    fn interpret<'i, 'o>(
        &self,
        inputs: impl Iterator<Item = &'i [u8]>,
        outputs: impl Iterator<Item = &'o mut [u8]>,
        max_memory: Option<usize>,
    ) -> Result<()> {
        let wrong_size = || Error::internal("a buffer does not have its tensor's size");
        let literals: Option<Vec<Literal>> = (self.graph.inputs().iter().zip(inputs))
            .map(|(input, bytes)| Literal::from_bytes(input.ty.clone(), bytes.to_vec().into()))
            .collect();
        let limits = max_memory.map_or_else(Limits::default, |max_bytes| Limits { max_bytes });
        let results = gradc_ir::eval_with(&self.graph, &literals.ok_or_else(wrong_size)?, &limits);
        let results = results.map_err(|error| self.not_evaluated(error))?;
        for (literal, buffer) in results.iter().zip(outputs) {
            if literal.bytes().len() != buffer.len() {
                return Err(wrong_size());
            }
            buffer.copy_from_slice(literal.bytes());
        }
        Ok(())
    }

    fn failed(&self, error: RunError) -> Error {
        match error {
            RunError::IndexOutOfRange { value, origin } => self.out_of_range(value, origin.as_ref()),
            other => Error::internal(other),
        }
    }

    fn not_evaluated(&self, error: EvalError) -> Error {
        match error {
            EvalError::Index { value, path, .. } => {
                let origin = path.first().and_then(|&value| self.graph.origin(value));
                self.out_of_range(value, origin)
            }
            EvalError::TooLarge { bytes, limit } => {
                Error::Memory { needed: bytes, limit, arena: bytes, inputs: 0, outputs: 0 }
            }
            other => Error::internal(other),
        }
    }

    fn out_of_range(&self, value: i64, origin: Option<&Origin>) -> Error {
        match origin {
            Some(origin) if &*origin.operator == LABELS => {
                let classes = self.classes(origin).unwrap_or(0);
                Error::LabelOutOfRange { value, output: origin.name.to_string(), classes }
            }
            origin => Error::IndexOutOfRange { value, node: origin.map(node_of) },
        }
    }

    /// The number of classes that the labels of a loss choose from: the length of the table they are looked up in.
    fn classes(&self, origin: &Origin) -> Option<usize> {
        let of_loss =
            |(value, _): &(gradc_ir::Value, &gradc_ir::Node)| self.graph.origin(*value) == Some(origin);
        self.graph.iter().filter(of_loss).find_map(|(_, node)| match node.op {
            Op::Gather { .. } => self.graph.ty(node.operands[0]).shape.first().copied(),
            _ => None,
        })
    }
}

pub(crate) fn node_of(origin: &Origin) -> (String, String) {
    (origin.operator.to_string(), origin.name.to_string())
}

pub(crate) fn refused(error: CodegenError) -> Error {
    match error {
        CodegenError::Unsupported { what, origin } => {
            Error::NoCode { what: what.to_owned(), node: origin.as_ref().map(node_of) }
        }
        other => Error::internal(other),
    }
}
