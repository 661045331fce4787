//! `gradc compile`: what the compiler makes of a model, and what it costs.

use crate::args::{
    BuildArguments, DerivativeArguments, GoalArguments, InputArguments, ModelArguments, ShapeArguments,
};
use crate::arrays;
use crate::commands::inspect;
use crate::failure::{Failure, Result};
use crate::inputs::Inputs;
use crate::interrupt;
use crate::problem::{self, Goal};
use crate::terminal::{self, Terminal};
use crate::words::{bytes, count, duration, grouped, some_of, table};
use clap::Args;
use gradc::formats::Limits;
use gradc::{Compile, CompiledModel, Emit};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use serde_json::json;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Compile a model and report on passes, kernels, memory and time; write what the compiler made
#[derive(Args, Debug)]
#[command(
    name = "compile",
    after_long_help = "Examples:
  gradc compile resnet18.onnx --dim N=1
  gradc compile mlp.onnx --dim N=1 --target logits:argmax --wrt inputs --time-passes
  gradc compile mlp.onnx --dim N=1 --emit ir,loops,mem -o artefacts/
  gradc compile mlp.onnx --dim N=1 --target logits:argmax --emit obj -o mlp.o
  gradc compile plant.onnx --dim N=1 --jacobian next --wrt state,control --emit obj -o plant.o"
)]
pub struct CompileCommand {
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
    #[command(flatten)]
    pub build: BuildArguments,
    /// Write forms of the program: ir, ir-opt, loops, mem, clif, asm, dot; or obj, an object file and its C header
    #[arg(long, value_name = "FORM,...", value_delimiter = ',', help_heading = "Compile")]
    pub emit: Vec<String>,
    /// Print the graph after this pass to standard error, such as --print-after simplify
    #[arg(long, value_name = "PASS", help_heading = "Compile")]
    pub print_after: Vec<String>,
    /// List the passes with their times (nothing that is taken from the cache has any)
    #[arg(long, help_heading = "Compile")]
    pub time_passes: bool,
    /// Write the forms to files in this folder instead of standard output; of obj, the object file to write
    #[arg(short, long, value_name = "DIR|FILE.o", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Keep files that exist
    #[arg(long, help_heading = "Output")]
    pub no_clobber: bool,
}

impl CompileCommand {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        interrupt::deadline(*terminal, self.build.timeout);
        let limits = Limits::default();
        let texts = self.emit.iter().filter(|name| *name != OBJECT);
        let forms = texts.map(|name| form(name)).collect::<Result<Vec<Emit>>>()?;
        let object = self.object_path(forms.is_empty())?;
        let passes = Compile::passes(3);
        if let Some(unknown) = self.print_after.iter().find(|name| !passes.contains(&name.as_str())) {
            let help = format!("the passes are {}", passes.join(", "));
            return Err(Failure::usage(format!("there is no pass {}", Quoted(unknown)), help));
        }
        let folder = self.output.as_ref().filter(|output| object.as_ref() != Some(output));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let what = format!("{} is no folder", folder.display());
            return Err(Failure::new("GC0801", what, format!("mkdir -p {}", folder.display())));
        }
        let model = problem::load(&self.model)?;
        let goal = Goal::new(&model, &self.goal, &limits)?.with(&model, &self.derivatives, &limits)?;
        let inputs = Inputs::gather(terminal, &model, &self.shapes, &self.inputs, &limits)?;
        let printed = RefCell::new(String::new());
        let mut compile = goal.apply(problem::prepare(&model, &inputs, &self.build)?);
        if goal.is_empty() && goal.wrt.is_none() {
            compile = compile.forward_only();
        }
        if !self.print_after.is_empty() {
            compile = compile.observe(|report, graph| {
                if self.print_after.iter().any(|name| name == report.name) {
                    printed.borrow_mut().push_str(&format!(
                        "// after {}\n{}\n",
                        report.name,
                        gradc_ir::print(graph)
                    ));
                }
            });
        }
        let compiled = compile.build()?;
        eprint_all(&printed.borrow());
        compiled.warnings().iter().for_each(|warning| terminal.warn(&warning.message));
        let mut written = Vec::new();
        for form in forms {
            let text = compiled.emit(form)?;
            match &self.output {
                Some(folder) => {
                    let stem = self.model.model.file_stem().unwrap_or_default().to_string_lossy();
                    let path = folder.join(format!("{stem}.{}", ending(form)));
                    arrays::save_text(&path, self.no_clobber, &text)?;
                    written.push(path.display().to_string());
                }
                None => terminal::write_out(text.as_bytes())?,
            }
        }
        if let Some(path) = object {
            let header = path.with_extension("h");
            let file = compiled.object(&identifier(&path))?;
            arrays::save_bytes(&path, self.no_clobber, &file.object)?;
            arrays::save_text(&header, self.no_clobber, &file.header)?;
            written.extend([path, header].map(|path| path.display().to_string()));
        }
        if self.output.is_none() && !self.emit.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        self.report(terminal, &compiled, &written)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Where the object file goes, if there is to be one; `alone` if no other form is wanted.
    fn object_path(&self, alone: bool) -> Result<Option<PathBuf>> {
        if !self.emit.iter().any(|name| name == OBJECT) {
            return Ok(None);
        }
        match &self.output {
            Some(folder) if folder.is_dir() => {
                let stem = self.model.model.file_stem().unwrap_or_default();
                Ok(Some(folder.join(stem).with_extension("o")))
            }
            Some(file) if alone && file.extension().is_some_and(|ending| ending == "o") => {
                Ok(Some(file.clone()))
            }
            Some(_) | None => {
                let what = "an object file is no text, and comes with a header";
                Err(Failure::usage(what, "say where: --emit obj -o model.o, or -o with a folder"))
            }
        }
    }

    fn report(&self, terminal: &Terminal, compiled: &CompiledModel, written: &[String]) -> Result<()> {
        let plan = compiled.plan();
        let times = plan.times;
        let parts = [
            ("lower", times.lower),
            ("differentiate", times.differentiate),
            ("passes", times.passes),
            ("codegen", times.codegen),
            ("cache", times.cache),
        ];
        terminal.answer(
            || {
                json!({
                    "schema": "gradc.compile/1",
                    "target": compiled.target(),
                    "dims": compiled.dims(),
                    "fixed": compiled.fixed().keys().collect::<Vec<_>>(),
                    "nodes": { "before": plan.nodes[0], "after": plan.nodes[1] },
                    "cached": plan.cached,
                    "kernels": plan.kernels,
                    "kernel_kinds": plan.kernel_kinds.iter().map(|(kind, count)| json!({ "kind": kind, "count": count })).collect::<Vec<_>>(),
                    "memory": inspect::memory(plan),
                    "passes": plan.passes.iter().map(|pass| json!({
                        "name": pass.name, "before": pass.nodes[0], "after": pass.nodes[1],
                        "ms": pass.time.as_secs_f64() * 1e3,
                    })).collect::<Vec<_>>(),
                    "times_ms": parts.iter().map(|(name, time)| ((*name).to_owned(), json!(time.as_secs_f64() * 1e3))).collect::<serde_json::Map<_, _>>(),
                    "total_ms": times.total.as_secs_f64() * 1e3,
                    "wrote": written,
                })
            },
            || {
                let file = self.model.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut facts = vec![Escaped(&file).to_string()];
                facts.extend(compiled.dims().iter().map(|(dim, length)| format!("{}={length}", Escaped(dim))));
                if !compiled.target().is_empty() {
                    let names: Vec<String> = compiled.gradients().iter().map(|info| Escaped(&info.name).to_string()).collect();
                    facts.push(format!("d {} / d {}", Escaped(compiled.target()), some_of(&names, 4)));
                }
                let mut text = format!("compile  {}\n", facts.join(" · "));
                text += &format!("nodes    {} → {}\n", grouped(plan.nodes[0]), grouped(plan.nodes[1]));
                let kinds: Vec<String> = plan.kernel_kinds.iter().map(|(kind, count)| format!("{kind}×{count}")).collect();
                text += &format!("kernels  {}   {}\n", grouped(plan.kernels), kinds.join(" "));
                text += &format!(
                    "memory   arena {} + weights {} + inputs {} + outputs {} = {}\n",
                    bytes(plan.arena as u64),
                    bytes(plan.weights as u64),
                    bytes(plan.inputs as u64),
                    bytes(plan.outputs as u64),
                    bytes(plan.peak() as u64)
                );
                if plan.repeats > 0 {
                    text += &format!(
                        "again    {} steps compute again what was dropped for --max-memory: {:.1} % more arithmetic\n",
                        grouped(plan.repeats),
                        plan.repeated * 100.0
                    );
                }
                let part = |(name, time): &(&str, Duration)| match *name {
                    "passes" | "codegen" if plan.cached => None,
                    "cache" if plan.cached => Some(format!("cached {}", duration(*time))),
                    "cache" if time.is_zero() => None,
                    name => Some(format!("{name} {}", duration(*time))),
                };
                let parts: Vec<String> = parts.iter().filter_map(part).collect();
                text += &format!("time     {}: {}\n", duration(times.total), parts.join(" · "));
                if !compiled.fixed().is_empty() {
                    let names: Vec<String> = compiled.fixed().keys().map(|name| Quoted(name).to_string()).collect();
                    text += &format!("fixed    {}: shapes depend on their values\n", names.join(", "));
                }
                if self.time_passes && !plan.cached {
                    let mut rows = vec![["pass", "nodes before", "after", "time"].map(str::to_owned).to_vec()];
                    rows.extend(plan.passes.iter().map(|pass| {
                        vec![pass.name.to_owned(), grouped(pass.nodes[0]), grouped(pass.nodes[1]), duration(pass.time)]
                    }));
                    text += &table(&rows);
                }
                if !written.is_empty() {
                    text += &format!("wrote    {} ({})\n", written.join(" · "), count(written.len(), "file", "files"));
                }
                text
            },
        )
    }
}

/// The name of the form that is no text.
const OBJECT: &str = "obj";

/// The stem of a file as a C identifier.
fn identifier(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = stem.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("m{name}") } else { name }
}

fn eprint_all(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn form(name: &str) -> Result<Emit> {
    Emit::parse(name).ok_or_else(|| {
        let known: Vec<&str> = Emit::ALL.into_iter().map(Emit::name).chain([OBJECT]).collect();
        Failure::usage(
            format!("{} is no form of a program", Quoted(name)),
            format!("the forms are {}", known.join(", ")),
        )
    })
}

/// The ending of a file that holds this form.
fn ending(form: Emit) -> String {
    match form {
        Emit::Ir => "gir".to_owned(),
        Emit::IrOptimized => "opt.gir".to_owned(),
        Emit::Loops => "loops".to_owned(),
        Emit::Clif => "clif".to_owned(),
        Emit::Asm => "s".to_owned(),
        Emit::Dot => "dot".to_owned(),
        form => format!("{}.txt", form.name()),
    }
}
