//! `gradc grad`: gradients of a target.

use crate::args::{
    BuildArguments, DerivativeArguments, GoalArguments, InputArguments, ModelArguments, NanArguments,
    SaveArguments, ShapeArguments,
};
use crate::arrays;
use crate::failure::Result;
use crate::inputs::Inputs;
use crate::interrupt;
use crate::problem::{self, Goal};
use crate::terminal::Terminal;
use crate::words::{bytes, count, duration, json_number, significant, table};
use clap::Args;
use gradc::formats::Limits;
use gradc::{Model, Session, Target};
use gradc_frontend_onnx::error::Escaped;
use gradc_ir::{Literal, Shape};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Compute gradients of an output, or of a loss, with respect to inputs, parameters or any tensor
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc grad resnet18.onnx --input input=@cat.npy --target logits:argmax -o g.safetensors
  gradc grad mlp.onnx --input x=@x.npy --loss ce --labels @y.npy --wrt params -o grads.npz
  gradc grad bert.onnx --input @inputs.npz --seed-grad pooled=@v.npy --wrt '*.weight' --dtype f64
  gradc grad plant.onnx --input @inputs.npz --jacobian next --wrt state,control -o jacobians.npz
  gradc grad energy.onnx --input q=@q.npy --target energy --hvp q=@v.npy -o curvature.npz")]
pub struct Grad {
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
    pub nan: NanArguments,
    #[command(flatten)]
    pub build: BuildArguments,
    #[command(flatten)]
    pub save: SaveArguments,
}

impl Grad {
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
        let goal = Goal::new(&model, &self.goal, &limits)?.with(&model, &self.derivatives, &limits)?;
        let inputs = Inputs::gather(terminal, &model, &self.shapes, &self.inputs, &limits)?;
        inputs.demand_all(&model)?;
        let compile = goal.apply(problem::prepare(&model, &inputs, &self.build)?);
        let compiled = compile.outputs(shown_outputs(&model, &goal)).build()?;
        compiled.warnings().iter().for_each(|warning| terminal.warn(&warning.message));
        let mut session = compiled.session();
        problem::set_inputs(terminal, &model, &inputs, &goal, &mut session)?;
        let started = Instant::now();
        session.run_grad()?;
        let run_time = started.elapsed();
        problem::check_finite(terminal, &session, &self.nan)?;
        let target = label(&session, &goal);
        let value = session.target_value();
        let mut gradients = session.into_gradients()?;
        let (plain, products) = gradients.split_at_mut(compiled.gradients().len());
        let summaries: Vec<Summary> =
            plain.iter().map(|(name, array)| Summary::new("d/", name, array)).collect();
        let mut product_summaries = Vec::new();
        for (name, array) in products {
            product_summaries.push(Summary::new("hvp:", name, array));
            *name = format!("hvp:{name}");
        }
        let mut metadata = BTreeMap::from([
            ("producer".to_owned(), format!("gradc {}", env!("CARGO_PKG_VERSION"))),
            ("target".to_owned(), target.clone()),
        ]);
        metadata.extend(value.map(|value| ("target_value".to_owned(), value.to_string())));
        let written = match &self.save.output {
            Some(path) => Some(arrays::save(terminal, path, self.save.no_clobber, &gradients, &metadata)?),
            None => None,
        };
        if self.save.output.as_deref() == Some(Path::new("-")) {
            return Ok(ExitCode::SUCCESS);
        }
        let times = [compiled.plan().times.total, run_time];
        let cached = if compiled.plan().cached { " (cached)" } else { "" };
        let file = self.save.output.as_deref().zip(written);
        terminal.answer(
            || {
                json!({
                    "schema": "gradc.grad/1",
                    "target": target,
                    "value": value.map(json_number),
                    "gradients": summaries.iter().map(Summary::json).collect::<Vec<_>>(),
                    "hessian_products": product_summaries.iter().map(Summary::json).collect::<Vec<_>>(),
                    "compile_ms": times[0].as_secs_f64() * 1e3,
                    "cached": compiled.plan().cached,
                    "run_ms": times[1].as_secs_f64() * 1e3,
                    "warnings": compiled.warnings().iter().map(|warning| warning.message.clone()).collect::<Vec<_>>(),
                    "wrote": file.map(|(path, _)| path.display().to_string()),
                })
            },
            || {
                let mut text = match value {
                    Some(value) => format!("target   {} = {}\n", Escaped(&target), significant(value, 6)),
                    None => format!("target   {}, each element\n", Escaped(&target)),
                };
                text += &table(&summaries.iter().chain(&product_summaries).map(Summary::row).collect::<Vec<_>>());
                let times = format!("compile {}{cached} · run {}", duration(times[0]), duration(times[1]));
                match file {
                    Some((path, size)) => {
                        let arrays = count(gradients.len(), "tensor", "tensors");
                        text += &format!("wrote    {} ({arrays}, {})   {times}\n", path.display(), bytes(size));
                    }
                    None => text += &format!("time     {times}\n"),
                }
                text
            },
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The tensors whose values are needed to say what was differentiated.
fn shown_outputs(model: &Model, goal: &Goal) -> Vec<String> {
    let argmax = |target: &Target| match target {
        Target::Argmax(name) if problem::has_tensor(model, name) => Some(name.clone()),
        _ => None,
    };
    goal.targets.iter().filter_map(argmax).collect()
}

/// The target in words: of `logits:argmax` the element that was the greatest.
fn label(session: &Session, goal: &Goal) -> String {
    let one = |target: &Target| -> Option<String> {
        let Target::Argmax(name) = target else { return None };
        let scores = session.output_literal(name).ok()?;
        let lines = if scores.shape().rank() < 2 { 1 } else { scores.shape()[0] };
        let index = index_of(scores.shape(), greatest(&scores.to_f64())?);
        (lines == 1).then(|| format!("{name}{}", brackets(&index)))
    };
    match &goal.targets[..] {
        [] => session.model().target().to_owned(),
        targets => {
            let words: Vec<String> =
                targets.iter().map(|target| one(target).unwrap_or_else(|| target.to_string())).collect();
            words.join(" + ")
        }
    }
}

fn greatest(values: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (position, value) in values.iter().enumerate() {
        if best.is_none_or(|best| *value > values[best]) {
            best = Some(position);
        }
    }
    best
}

/// The index of an element at a row-major position.
pub fn index_of(shape: &Shape, position: usize) -> Vec<usize> {
    shape
        .strides()
        .iter()
        .zip(shape.iter())
        .map(|(&stride, &length)| position / stride % length.max(1))
        .collect()
}

/// An index as it is written.
pub fn brackets(index: &[usize]) -> String {
    format!("[{}]", index.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// How many elements of a tensor are summed up at a time.
const PIECE: usize = 1 << 14;

/// What there is to say of a gradient.
pub struct Summary {
    /// What stands before the name for people.
    label: &'static str,
    name: String,
    ty: gradc_ir::TensorType,
    l1: f64,
    l2: f64,
    max: f64,
    max_at: Vec<usize>,
    zeros: f64,
    not_finite: usize,
}

impl Summary {
    pub fn new(label: &'static str, name: &str, array: &Literal) -> Summary {
        let (mut l1, mut max, mut max_position) = (0.0, 0.0, 0);
        let (mut elements, mut zeros, mut not_finite) = (0_usize, 0_usize, 0);
        // The sum of squares is that of the sizes over `scale`, the greatest so far: it stays in range where gradients
        // are tiny or huge.
        let (mut scale, mut squares) = (0.0_f64, 0.0_f64);
        for value in array.pieces(PIECE).flat_map(|piece| piece.to_f64()) {
            let size = value.abs();
            l1 += size;
            zeros += usize::from(value == 0.0);
            not_finite += usize::from(!value.is_finite());
            if size > scale {
                squares = squares * (scale / size).powi(2) + 1.0;
                (scale, max, max_position) = (size, value, elements);
            } else if size != 0.0 {
                squares += (size / scale).powi(2);
            }
            elements += 1;
        }
        Summary {
            label,
            name: name.to_owned(),
            ty: array.ty().clone(),
            l1,
            l2: if scale > 0.0 && scale.is_finite() { scale * squares.sqrt() } else { l1 },
            max,
            max_at: if elements > 0 { index_of(array.shape(), max_position) } else { Vec::new() },
            zeros: zeros as f64 / elements.max(1) as f64,
            not_finite,
        }
    }

    pub fn row(&self) -> Vec<String> {
        vec![
            format!("{}{}", self.label, Escaped(&self.name)),
            self.ty.to_string(),
            format!("|g|₁ {}", significant(self.l1, 4)),
            format!("|g|₂ {}", significant(self.l2, 4)),
            format!("max {} at {}", significant(self.max, 3), brackets(&self.max_at)),
            format!("zeros {:.1} %", self.zeros * 100.0),
            match self.not_finite {
                0 => "finite ✓".to_owned(),
                count => format!("{count} NOT FINITE ✗"),
            },
        ]
    }

    pub fn json(&self) -> Json {
        json!({
            "name": self.name,
            "dtype": self.ty.dtype.name(),
            "shape": self.ty.shape.to_vec(),
            "l1": json_number(self.l1),
            "l2": json_number(self.l2),
            "max": json_number(self.max),
            "max_at": self.max_at,
            "zeros": json_number(self.zeros),
            "finite": self.not_finite == 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: &[f64]) -> Summary {
        Summary::new("d/", "x", &Literal::new([values.len()], values))
    }

    #[test]
    fn norms_stay_in_range() {
        for scale in [1e-200, 1.0, 1e200] {
            let summary = summary(&[3.0 * scale, 0.0, -4.0 * scale]);
            assert!((summary.l2 / (5.0 * scale) - 1.0).abs() < 1e-15, "{}", summary.l2);
            assert!((summary.l1 / (7.0 * scale) - 1.0).abs() < 1e-15, "{}", summary.l1);
            assert_eq!((summary.max, &summary.max_at[..]), (-4.0 * scale, &[2][..]));
            assert_eq!((summary.zeros, summary.not_finite), (1.0 / 3.0, 0));
        }
    }

    #[test]
    fn pieces_are_one_tensor() {
        let mut values = vec![1.0; 2 * PIECE + 3];
        values[PIECE + 7] = -2.0;
        let summary = summary(&values);
        assert_eq!((summary.max, &summary.max_at[..]), (-2.0, &[PIECE + 7][..]));
        assert_eq!(summary.l1, (values.len() + 1) as f64);
        assert!((summary.l2 - ((values.len() + 3) as f64).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn nothing_and_what_is_not_finite() {
        assert_eq!((summary(&[0.0, -0.0]).l2, summary(&[0.0]).max_at), (0.0, vec![0]));
        assert_eq!((summary(&[]).l1, summary(&[]).zeros), (0.0, 0.0));
        let infinite = summary(&[1.0, f64::NEG_INFINITY, f64::INFINITY]);
        assert_eq!((infinite.l2, infinite.not_finite), (f64::INFINITY, 2));
        let unknown = summary(&[f64::NAN, 1.0]);
        assert!(unknown.l1.is_nan() && unknown.l2.is_nan() && unknown.not_finite == 1);
    }
}
