//! `gradc run`: the outputs of a model.

use crate::args::{
    BuildArguments, InputArguments, ModelArguments, NanArguments, SaveArguments, ShapeArguments,
};
use crate::arrays;
use crate::failure::{Failure, Result};
use crate::inputs::Inputs;
use crate::interrupt;
use crate::problem::{self, Goal};
use crate::terminal::Terminal;
use crate::words::{bytes, count, duration, json_number, significant, table};
use clap::Args;
use gradc::Model;
use gradc::formats::{Limits, tensor_proto};
use gradc_frontend_onnx::error::Escaped;
use gradc_ir::Literal;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Compute a model's outputs
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc run mlp.onnx --input x=@x.npy
  gradc run bert.onnx --input @inputs.npz -o outputs.npz
  gradc run model.onnx --test-data test_data_set_0")]
pub struct Run {
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    pub shapes: ShapeArguments,
    #[command(flatten)]
    pub inputs: InputArguments,
    /// Compute these tensors in place of the model's outputs: any of the model, by name (may be repeated)
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub output_name: Vec<String>,
    /// The relative tolerance for --test-data
    #[arg(long, value_name = "X", default_value_t = 1e-3, help_heading = "Numerics")]
    pub rtol: f64,
    /// The absolute tolerance for --test-data
    #[arg(long, value_name = "X", default_value_t = 1e-7, help_heading = "Numerics")]
    pub atol: f64,
    #[command(flatten)]
    pub nan: NanArguments,
    #[command(flatten)]
    pub build: BuildArguments,
    #[command(flatten)]
    pub save: SaveArguments,
}

impl Run {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        interrupt::deadline(*terminal, self.build.timeout);
        let limits = Limits::default();
        if let Some(output) = &self.save.output {
            arrays::check_output(output, self.save.no_clobber)?;
        }
        if let Some(trace) = &self.nan.trace_nan {
            arrays::check_output(trace, false)?;
        }
        let model = problem::load(&self.model)?;
        let inputs = Inputs::gather(terminal, &model, &self.shapes, &self.inputs, &limits)?;
        inputs.demand_all(&model)?;
        let mut compile = problem::prepare(&model, &inputs, &self.build)?.forward_only();
        if !self.output_name.is_empty() {
            compile = compile.outputs(&self.output_name);
        }
        let compiled = compile.build()?;
        compiled.warnings().iter().for_each(|warning| terminal.note(&warning.message));
        let mut session = compiled.session();
        problem::set_inputs(terminal, &model, &inputs, &Goal::default(), &mut session)?;
        let started = Instant::now();
        session.run()?;
        let run_time = started.elapsed();
        problem::check_finite(terminal, &session, &self.nan)?;
        let mut outputs = Vec::new();
        for output in compiled.outputs() {
            outputs.push((output.name.clone(), session.output_literal(&output.name)?));
        }
        let compared = match &self.inputs.test_data {
            Some(folder) => Some(self.compare(&model, &outputs, folder, &limits)?),
            None => None,
        };
        let written = match &self.save.output {
            Some(path) => {
                Some(arrays::save(terminal, path, self.save.no_clobber, &outputs, &BTreeMap::new())?)
            }
            None => None,
        };
        let to_stdout = self.save.output.as_deref() == Some(Path::new("-"));
        let passed = compared.iter().flatten().all(|comparison| comparison.passed);
        if !to_stdout {
            let times = [compiled.plan().times.total, run_time];
            let cached = if compiled.plan().cached { " (cached)" } else { "" };
            let file = self.save.output.as_deref().zip(written);
            terminal.answer(
                || {
                    json!({
                        "schema": "gradc.run/1",
                        "outputs": outputs.iter().map(|(name, array)| describe(name, array)).collect::<Vec<_>>(),
                        "compile_ms": times[0].as_secs_f64() * 1e3,
                        "cached": compiled.plan().cached,
                        "run_ms": times[1].as_secs_f64() * 1e3,
                        "wrote": file.map(|(path, _)| path.display().to_string()),
                        "test_data": compared.as_ref().map(|all| all.iter().map(Comparison::json).collect::<Vec<_>>()),
                    })
                },
                || {
                    let mut rows: Vec<Vec<String>> = outputs.iter().map(|(name, array)| row(name, array)).collect();
                    for comparison in compared.iter().flatten() {
                        rows.push(comparison.row());
                    }
                    let mut text = table(&rows);
                    let times = format!("compile {}{cached} · run {}", duration(times[0]), duration(times[1]));
                    match file {
                        Some((path, size)) => {
                            let arrays = count(outputs.len(), "tensor", "tensors");
                            text += &format!("wrote    {} ({arrays}, {})   {times}\n", path.display(), bytes(size));
                        }
                        None => text += &format!("time     {times}\n"),
                    }
                    text
                },
            )?;
        }
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn compare(
        &self,
        model: &Model,
        outputs: &[(String, Literal)],
        folder: &Path,
        limits: &Limits,
    ) -> Result<Vec<Comparison>> {
        let mut comparisons = Vec::new();
        for (position, declared) in model.outputs().iter().enumerate() {
            let path = folder.join(format!("output_{position}.pb"));
            let Some((_, got)) = outputs.iter().find(|(name, _)| *name == declared.name) else { continue };
            if !path.exists() {
                continue;
            }
            let (_, wanted) = tensor_proto::read(&path, limits)?;
            comparisons.push(Comparison::new(&declared.name, got, &wanted, self.rtol, self.atol));
        }
        if comparisons.is_empty() {
            let what = format!("{} holds no output_0.pb", folder.display());
            return Err(Failure::new("GC0209", what, "name a folder such as test_data_set_0"));
        }
        Ok(comparisons)
    }
}

/// An output against what it should be.
struct Comparison {
    name: String,
    passed: bool,
    /// What is wrong, or the largest difference.
    what: String,
}

impl Comparison {
    fn new(name: &str, got: &Literal, wanted: &Literal, rtol: f64, atol: f64) -> Comparison {
        let name = name.to_owned();
        if got.ty() != wanted.ty() {
            return Comparison {
                name,
                passed: false,
                what: format!("is {}, wanted {}", got.ty(), wanted.ty()),
            };
        }
        let (mut wrong, mut largest) = (0, 0f64);
        let pairs = got.to_f64().into_iter().zip(wanted.to_f64());
        for (a, b) in pairs {
            let same = a == b || (a.is_nan() && b.is_nan());
            if !same {
                largest = largest.max((a - b).abs());
                // A difference that is NaN is wrong too.
                let near = (a - b).abs() <= atol + rtol * b.abs() && b.is_finite();
                wrong += usize::from(!near);
            }
        }
        let difference = significant(largest, 2);
        let what = match wrong {
            0 => format!("largest difference {difference}"),
            _ => format!("{}, by up to {difference}", count(wrong, "element differs", "elements differ")),
        };
        Comparison { name, passed: wrong == 0, what }
    }

    fn row(&self) -> Vec<String> {
        let verdict = if self.passed { "ok" } else { "MISMATCH" };
        vec!["test".to_owned(), Escaped(&self.name).to_string(), verdict.to_owned(), self.what.clone()]
    }

    fn json(&self) -> Json {
        json!({ "name": self.name, "passed": self.passed, "what": self.what })
    }
}

/// What there is to say of an array in JSON.
fn describe(name: &str, array: &Literal) -> Json {
    let values = array.to_f64();
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
    json!({
        "name": name,
        "dtype": array.dtype().name(),
        "shape": array.shape().to_vec(),
        "min": json_number(finite().fold(f64::INFINITY, f64::min)),
        "max": json_number(finite().fold(f64::NEG_INFINITY, f64::max)),
        "mean": json_number(mean),
        "finite": finite().count() == values.len(),
        "values": (values.len() <= 64).then(|| values.iter().copied().map(json_number).collect::<Vec<_>>()),
    })
}

fn row(name: &str, array: &Literal) -> Vec<String> {
    let values = array.to_f64();
    let numbers: Vec<String> = values.iter().take(6).map(|&value| significant(value, 6)).collect();
    let more = if values.len() > 6 { ", …" } else { "" };
    let label = format!("{} {}", Escaped(name), array.ty());
    vec!["output".to_owned(), label, format!("{}{more}", numbers.join(", "))]
}
