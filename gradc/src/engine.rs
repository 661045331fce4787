//! What computes: machine code, or the interpreter.

use crate::cache::Cache;
use crate::goal::LABELS;
use crate::{Error, Result, cpu};
use gradc_codegen::{CodegenError, CompileOptions, Executable, Image, RunError, Workspace};
use gradc_ir::{EvalError, Graph, Limits, Literal, Op, Origin};
use gradc_kernels::Team;
use gradc_passes::{Report, Selection, pipeline, run_passes};
use std::sync::{Arc, OnceLock};
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
    pub cache: Option<Arc<Cache>>,
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
    /// After them, once somebody asked.
    optimized: OnceLock<Graph>,
    /// The number of nodes after them.
    pub nodes: usize,
    /// Empty where the function was in the cache.
    pub reports: Vec<Report>,
    pub engine: Engine,
    /// Passes, code generation, the cache.
    pub times: [Duration; 3],
    /// Whether it was in the cache.
    pub cached: bool,
    /// Why the cache could not be used.
    pub not_cached: Option<String>,
    settings: Settings,
}

/// What sees the graph after each pass.
pub(crate) type Watch<'a> = Option<&'a mut dyn FnMut(&Report, &Graph)>;

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
    /// Takes what is made of a graph from the cache, if nobody watches the passes, or compiles it.
    pub fn new(graph: Graph, settings: &Settings, watch: Watch<'_>) -> Result<Function> {
        cpu::settle();
        let started = Instant::now();
        let nowhere = |_: &Image, _: &Graph, _: usize| {};
        let Some(cache) = settings.cache.as_ref().filter(|_| !settings.interpreter) else {
            return Function::compile(graph, settings, watch, nowhere);
        };
        let slot = match cache.slot(&graph, settings) {
            Ok(slot) => slot,
            Err(why) => {
                let function = Function::compile(graph, settings, watch, nowhere)?;
                return Ok(Function { not_cached: Some(why), ..function });
            }
        };
        if let Some(found) = watch.is_none().then(|| slot.find(&graph)).flatten() {
            return Ok(Function {
                graph,
                optimized: OnceLock::new(),
                nodes: found.nodes,
                reports: Vec::new(),
                engine: Engine::Native(Box::new(found.executable)),
                times: [Duration::ZERO, Duration::ZERO, started.elapsed()],
                cached: true,
                not_cached: None,
                settings: settings.clone(),
            });
        }
        let looked = started.elapsed();
        let (mut kept, mut not_cached) = (Duration::ZERO, None);
        let function = Function::compile(graph, settings, watch, |image, graph, nodes| {
            let started = Instant::now();
            not_cached = slot.keep(image, graph, nodes).err();
            kept = started.elapsed();
        })?;
        let [passes, codegen, _] = function.times;
        Ok(Function { times: [passes, codegen.saturating_sub(kept), looked + kept], not_cached, ..function })
    }

    /// Compiles a graph. `keep` sees what was made of it, and the number of nodes after the passes.
    fn compile(
        graph: Graph,
        settings: &Settings,
        watch: Watch<'_>,
        keep: impl FnOnce(&Image, &Graph, usize),
    ) -> Result<Function> {
        let started = Instant::now();
        let mut reports = Vec::new();
        let optimized = match settings.interpreter {
            true => graph.clone(),
            false => optimize(&graph, settings, &mut reports, watch),
        };
        let (passed, nodes) = (Instant::now(), optimized.len());
        let engine = if settings.interpreter {
            Engine::Interpreter
        } else {
            let arena_limit = settings.arena_limit(&optimized);
            let options =
                CompileOptions { threads: settings.threads, profile: settings.profile, arena_limit };
            let image = Image::new(&optimized, &options).map_err(refused)?;
            keep(&image, &graph, nodes);
            Engine::Native(Box::new(image.load().map_err(refused)?))
        };
        let times = [passed - started, passed.elapsed(), Duration::ZERO];
        let (optimized, settings) = (optimized.into(), settings.clone());
        Ok(Function {
            graph,
            optimized,
            nodes,
            reports,
            engine,
            times,
            cached: false,
            not_cached: None,
            settings,
        })
    }

    /// The graph after the passes.
    pub fn optimized(&self) -> &Graph {
        self.optimized.get_or_init(|| match self.settings.interpreter {
            true => self.graph.clone(),
            false => optimize(&self.graph, &self.settings, &mut Vec::new(), None),
        })
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
            Engine::Interpreter => constants(self.optimized()),
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

/// Runs the passes.
fn optimize(graph: &Graph, settings: &Settings, reports: &mut Vec<Report>, mut watch: Watch<'_>) -> Graph {
    let passes = pipeline(settings.level);
    let optimized = run_passes(graph.clone(), &passes, &settings.passes, |report, graph| {
        reports.push(report.clone());
        if let Some(watch) = &mut watch {
            watch(report, graph);
        }
    });
    // What code generation cannot do without runs also where passes were stopped short.
    let needed = if settings.passes.limit.is_some() { pipeline(0) } else { Vec::new() };
    run_passes(optimized, &needed, &Selection::default(), |_, _| {})
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
