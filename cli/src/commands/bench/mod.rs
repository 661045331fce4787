//! `gradc bench`: how fast a model and its gradients run, and what the time goes to.

mod kernels;
mod scaling;
mod timing;
mod trace;

use crate::args::{
    BuildArguments, DerivativeArguments, GoalArguments, InputArguments, ModelArguments, ShapeArguments,
};
use crate::arrays;
use crate::commands::inspect;
use crate::failure::{Failure, Result};
use crate::inputs::Inputs;
use crate::problem::{self, Goal};
use crate::terminal::Terminal;
use crate::words::{bytes, count, duration, grouped, some_of, table};
use clap::Args;
use gradc::formats::Limits;
use gradc::{Compile, CompiledModel, Model, Optimizer, Roof, Session, StepReport, Target};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use kernels::Line;
use scaling::Scaled;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use timing::{Budget, Timing};

/// Measure the time of a model and its gradients, in all and kernel by kernel
#[derive(Args, Debug)]
#[command(
    after_long_help = "Inputs without a value get random numbers. Without a target, the first output's sum is differentiated.

Examples:
  gradc bench resnet18.onnx --dim N=1 --target logits:argmax --threads 2
  gradc bench mlp.onnx --input x=@x.npy --loss ce --labels @y.npy --wrt params --top 10
  gradc bench bert.onnx --input @inputs.npz --wrt '*.weight' --seconds 5 --trace run.json
  gradc bench mlp.onnx --input x=@x.npy --loss ce --labels @y.npy --train adamw
  gradc bench mlp.onnx --dim N=64 --json | jq .gradient.p50_ms
  gradc bench bert.onnx --input @inputs.npz --top 0 --simulate 2,4,8,16

The trace opens in Perfetto (ui.perfetto.dev) and in chrome://tracing."
)]
pub struct Bench {
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    pub shapes: ShapeArguments,
    #[command(flatten)]
    pub inputs: InputArguments,
    #[command(flatten)]
    pub goal: GoalArguments,
    #[command(flatten)]
    pub derivatives: DerivativeArguments,
    /// Only the forward pass
    #[arg(long, help_heading = "Gradient", conflicts_with_all = ["target", "loss", "wrt", "seed_grad"])]
    pub forward: bool,
    /// Measure steps of training the parameters in place of gradients: sgd, momentum, adam or adamw
    #[arg(long, value_name = "OPTIMIZER", conflicts_with = "forward", help_heading = "Gradient")]
    pub train: Option<String>,
    #[command(flatten)]
    pub build: BuildArguments,
    /// Run for so long, each of forward and gradient
    #[arg(long, value_name = "S", default_value_t = 1.0, help_heading = "Measurement")]
    pub seconds: f64,
    /// Run so often, in place of --seconds
    #[arg(long, value_name = "N", help_heading = "Measurement")]
    pub runs: Option<usize>,
    /// Show so many kernels; 0 leaves their measurement out
    #[arg(long, value_name = "N", default_value_t = 12, help_heading = "Measurement")]
    pub top: usize,
    /// Reckon what so many threads would take, on one core: how the work is divided, not what cores share
    #[arg(long, value_name = "N,N", value_delimiter = ',', help_heading = "Measurement")]
    pub simulate: Vec<usize>,
    /// Write a timeline of compiling and of one run, for Perfetto
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub trace: Option<PathBuf>,
    /// Keep a file that exists
    #[arg(long, help_heading = "Output")]
    pub no_clobber: bool,
}

/// All that was measured.
struct Measured {
    compiled: CompiledModel,
    /// From the file to the model, to compiled code, to the first result.
    start: [Duration; 3],
    forward: Timing,
    gradient: Option<Timing>,
    roof: Option<Roof>,
    kernels: Vec<Line>,
    scaled: Vec<Scaled>,
}

impl Bench {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        let limits = Limits::default();
        if !self.seconds.is_finite() || self.seconds < 0.0 || self.seconds > 86_400.0 {
            return Err(Failure::usage("--seconds is no time to run for", "such as --seconds 5"));
        }
        scaling::check(&self.simulate)?;
        if let Some(path) = &self.trace {
            arrays::check_place(path, self.no_clobber)?;
        }
        let begun = Instant::now();
        let model = problem::load(&self.model)?;
        let loaded = begun.elapsed();
        let mut goal = Goal::new(&model, &self.goal, &limits)?.with(&model, &self.derivatives, &limits)?;
        let mut inputs = Inputs::gather(terminal, &model, &self.shapes, &self.inputs, &limits)?;
        inputs.fill_random(&model, 0);
        if goal.is_empty() && !self.forward {
            goal.targets.extend(self.default_target(&model, &inputs)?);
        }
        let started = Instant::now();
        let compiled = self.compile(&model, &inputs, &goal)?.build()?;
        let built = started.elapsed();
        compiled.warnings().iter().for_each(|warning| terminal.warn(&warning.message));
        let mut session = compiled.session();
        problem::set_inputs(terminal, &model, &inputs, &goal, &mut session)?;
        let started = Instant::now();
        whole_run(&mut session)?;
        let start = [loaded, built, started.elapsed()];

        let budget = Budget { seconds: self.seconds, runs: self.runs };
        terminal.progress("measuring");
        let forward = Timing::measure(&budget, || session.run())?;
        let gradient = match self.forward {
            true => None,
            false => Some(Timing::measure(&budget, || whole_run(&mut session))?),
        };
        drop(session);
        let (mut roof, mut kernels) = (None, Vec::new());
        if (self.top > 0 || self.trace.is_some()) && !self.build.interpreter {
            let profiled = self.compile(&model, &inputs, &goal)?.profile(true).build()?;
            let mut session = profiled.session();
            problem::set_inputs(terminal, &model, &inputs, &goal, &mut session)?;
            whole_run(&mut session)?;
            let steps = profile(&budget, &mut session)?;
            let team = self.build.threads.unwrap_or(1);
            let measured = Roof::measure(&gradc::Team::new(team));
            kernels = kernels::lines(&steps.0, steps.1, &measured);
            roof = Some(measured);
            if let Some(path) = &self.trace {
                let before = session.steps();
                whole_run(&mut session)?;
                let text = trace::events(&model_name(&self), &profiled, &before, &session.steps());
                arrays::save_text(path, self.no_clobber, &text.to_string())?;
            }
        }
        let scaled = scaling::simulate(&self, terminal, &model, &inputs, &goal)?;
        let measured = Measured { compiled, start, forward, gradient, roof, kernels, scaled };
        terminal.answer(|| self.json(&measured), || self.text(&measured))?;
        Ok(ExitCode::SUCCESS)
    }

    fn compile<'m>(&self, model: &'m Model, inputs: &Inputs, goal: &Goal) -> Result<Compile<'m>> {
        let mut compile = goal.apply(problem::prepare(model, inputs, &self.build)?);
        if let Some(name) = &self.train {
            compile = compile.train(optimizer(name)?);
            if let Some(wrt) = &goal.wrt {
                compile = compile.wrt(wrt.clone());
            }
        }
        Ok(if self.forward { compile.forward_only() } else { compile })
    }

    /// The sum of the first output of floats; nothing where it is one number.
    fn default_target(&self, model: &Model, inputs: &Inputs) -> Result<Option<Target>> {
        let forward = problem::prepare(model, inputs, &self.build)?.forward_only().build()?;
        match forward.outputs().iter().find(|output| output.ty.dtype.is_float()) {
            Some(output) if output.ty.shape.elements() == 1 => Ok(None),
            Some(output) => Ok(Some(Target::sum(&output.name))),
            None => Err(Failure::new(
                "GC0401",
                "no output of the model is of floats",
                "choose a tensor with --target, or measure the --forward pass alone",
            )),
        }
    }

    fn json(&self, measured: &Measured) -> Json {
        let compiled = &measured.compiled;
        let times = compiled.plan().times;
        let [load, compile, first] = measured.start.map(|time| time.as_secs_f64() * 1e3);
        let names: Vec<&str> = compiled.gradients().iter().map(|info| info.name.as_str()).collect();
        json!({
            "schema": "gradc.bench/1",
            "model": model_name(self),
            "target": compiled.target(),
            "gradients": names,
            "dims": compiled.dims(),
            "train": self.train,
            "threads": self.build.threads.unwrap_or(1),
            "forward": measured.forward.json(),
            "gradient": measured.gradient.as_ref().map(Timing::json),
            "load_ms": load,
            "compile_ms": compile,
            "compile_parts_ms": {
                "lower": times.lower.as_secs_f64() * 1e3,
                "differentiate": times.differentiate.as_secs_f64() * 1e3,
                "passes": times.passes.as_secs_f64() * 1e3,
                "codegen": times.codegen.as_secs_f64() * 1e3,
                "cache": times.cache.as_secs_f64() * 1e3,
            },
            "cached": compiled.plan().cached,
            "first_run_ms": first,
            "first_result_ms": load + compile + first,
            "memory": inspect::memory(compiled.plan()),
            "roof": measured.roof.as_ref().map(kernels::roof_json),
            "kernels": measured.kernels.iter().map(Line::json).collect::<Vec<_>>(),
            "simulated": scaling::json(&measured.scaled),
        })
    }

    fn text(&self, measured: &Measured) -> String {
        let compiled = &measured.compiled;
        let plan = compiled.plan();
        let mut facts = vec![Escaped(&model_name(self)).to_string()];
        facts.extend(compiled.dims().iter().map(|(dim, length)| format!("{}={length}", Escaped(dim))));
        facts.push(count(self.build.threads.unwrap_or(1), "thread", "threads"));
        if !compiled.gradients().is_empty() {
            let names: Vec<String> =
                compiled.gradients().iter().map(|info| Escaped(&info.name).to_string()).collect();
            facts.push(format!("d {} / d {}", Escaped(compiled.target()), some_of(&names, 4)));
        }
        let mut text = format!("bench    {}\n", facts.join(" · "));
        let mut rows =
            vec![["", "min", "p50", "p90", "p99", "runs", "heap calls a run"].map(str::to_owned).to_vec()];
        rows.push(measured.forward.row("forward"));
        let whole = if self.train.is_some() { "training step" } else { "value + gradient" };
        rows.extend(measured.gradient.as_ref().map(|timing| timing.row(whole)));
        text += &table(&rows);
        let [load, compile, first] = measured.start;
        text += &format!(
            "start    first result after {}: read {} · compile {}{} · first run {}\n",
            duration(load + compile + first),
            duration(load),
            duration(compile),
            if plan.cached { " (cached)" } else { "" },
            duration(first)
        );
        text += &format!(
            "memory   arena {} · with weights, inputs and outputs {}\n",
            bytes(plan.arena as u64),
            bytes(plan.peak() as u64)
        );
        if let Some(roof) = &measured.roof {
            text += &kernels::roof_text(roof);
        }
        if self.top > 0 && !measured.kernels.is_empty() {
            text += &table(&kernels::rows(&measured.kernels, self.top));
            let rest = measured.kernels.len().saturating_sub(self.top);
            if rest > 0 {
                let share: f64 = measured.kernels[self.top..].iter().map(|line| line.share).sum();
                text += &format!(
                    "and {} more with {:.1} % (--top {})\n",
                    grouped(rest),
                    share * 100.0,
                    measured.kernels.len()
                );
            }
        }
        text + &scaling::text(&measured.scaled)
    }
}

fn model_name(bench: &Bench) -> String {
    bench.model.model.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The learning rate of steps that are only measured.
const RATE: f64 = 1e-5;

/// A step of training, or a run with gradients, where there are any.
fn whole_run(session: &mut Session) -> gradc::Result<()> {
    if session.model().is_trained() {
        session.train_step(RATE)
    } else if session.model().gradients().is_empty() {
        session.run()
    } else {
        session.run_grad()
    }
}

fn optimizer(name: &str) -> Result<Optimizer> {
    Optimizer::parse(name).ok_or_else(|| {
        let what = format!("unknown optimizer {}", Quoted(name));
        let known = Optimizer::NAMES;
        let help = match gradc::names::nearest(name, known) {
            Some(nearest) => format!("did you mean {nearest}? Known: {}", known.join(", ")),
            None => format!("known: {}", known.join(", ")),
        };
        Failure::new("GC0102", what, help)
    })
}

/// The steps with the time of some runs, and how many runs: a fifth of the budget.
fn profile(budget: &Budget, session: &mut Session) -> Result<(Vec<StepReport>, usize)> {
    let before = session.steps();
    let budget = Budget { seconds: budget.seconds / 5.0, runs: budget.runs.map(|runs| runs.div_ceil(5)) };
    let timing = Timing::measure(&budget, || whole_run(session))?;
    Ok((trace::since(&before, session.steps()), timing.all_runs()))
}
