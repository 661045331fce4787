//! `gradc inspect`: what is in a model.

use crate::args::{BuildArguments, ModelArguments, ShapeArguments};
use crate::commands::ops;
use crate::failure::Result;
use crate::inputs::Inputs;
use crate::terminal::Terminal;
use crate::words::{bytes, count, grouped, table, wrap};
use crate::{problem, sha256};
use clap::Args;
use gradc::formats::Limits;
use gradc::{Declared, GradientKind, Model, OperatorCount, Plan};
use gradc_frontend_onnx::error::Escaped;
use gradc_frontend_onnx::model::Dim;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// Show what is in a model: inputs, outputs, operators, and what a run would take
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc inspect resnet18.onnx
  gradc inspect resnet18.onnx --dim N=1
  gradc inspect bert.onnx --json | jq .inputs")]
pub struct Inspect {
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    pub shapes: ShapeArguments,
}

impl Inspect {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        let model = problem::load(&self.model)?;
        let inputs = Inputs::gather(terminal, &model, &self.shapes, &Default::default(), &Limits::default())?;
        let bound = |input: &Declared| {
            let known = |dim: &Dim| match dim {
                Dim::Known(_) => true,
                Dim::Symbol(symbol) => inputs.dims.contains_key(symbol),
                Dim::Unknown => inputs.shapes.contains_key(&input.name),
            };
            input.dims.as_ref().is_some_and(|dims| dims.iter().all(known))
                || inputs.shapes.contains_key(&input.name)
        };
        let asked = !self.shapes.dim.is_empty() || !self.shapes.shape.is_empty();
        let plan = match model.inputs().iter().all(bound) {
            true => {
                let build = BuildArguments::default();
                match problem::prepare(&model, &inputs, &build)?.forward_only().build() {
                    Ok(compiled) => Some(compiled.plan().clone()),
                    Err(error) if asked => return Err(error.into()),
                    Err(error) => {
                        terminal.note(&format!("it cannot be compiled as it is: {error}"));
                        None
                    }
                }
            }
            false => None,
        };
        // The model was read already: a file that has gone in the meantime only lacks its hash.
        let sha256 = sha256::of_file(&self.model.model).ok();
        let sha256 = sha256.as_deref();
        terminal.answer(
            || as_json(&model, sha256, plan.as_ref()),
            || as_text(&self.model, &model, sha256, &inputs, plan.as_ref()),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

fn parameter_sum(model: &Model) -> (usize, usize) {
    let floats = model.initializers().filter(|initializer| initializer.elements > 1);
    floats.fold((0, 0), |(elements, bytes), initializer| {
        (elements + initializer.elements, bytes + initializer.bytes)
    })
}

fn operator_name(operator: &OperatorCount) -> String {
    match operator.domain.as_str() {
        "" => Escaped(&operator.operator).to_string(),
        domain => format!("{}.{}", Escaped(domain), Escaped(&operator.operator)),
    }
}

fn as_text(
    arguments: &ModelArguments,
    model: &Model,
    sha256: Option<&str>,
    inputs: &Inputs,
    plan: Option<&Plan>,
) -> String {
    let file = arguments.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut facts = vec![format!("ONNX opset {}", model.opset())];
    if !model.producer().is_empty() {
        facts.push(Escaped(&model.producer()).to_string());
    }
    facts.extend(model.file_bytes().map(bytes));
    facts.extend(sha256.map(|hash| format!("sha256 {}…", &hash[..12])));
    let mut text = format!("{}  {}\n", Escaped(&file), facts.join(" · "));
    let open: Vec<String> =
        model.symbols().into_iter().filter(|symbol| !inputs.dims.contains_key(symbol)).collect();
    let mut rows = Vec::new();
    let mut add = |label: &str, values: Vec<Declared>| {
        for (position, value) in values.iter().enumerate() {
            let label = if position == 0 { label } else { "" };
            let own = |dim: &Dim| matches!(dim, Dim::Symbol(symbol) if open.first() == Some(symbol));
            let first = label == "inputs"
                || (label.is_empty() && rows.iter().all(|row: &Vec<String>| row[0] != "outputs"));
            let hint = match open.first() {
                Some(symbol) if first && value.dims.iter().flatten().any(own) => {
                    let symbol = Escaped(symbol);
                    format!("{symbol} is symbolic: bind with --dim {symbol}=1")
                }
                _ => String::new(),
            };
            rows.push(vec![format!("{label:<7}"), Escaped(&value.name).to_string(), value.to_string(), hint]);
        }
    };
    add("inputs", model.inputs());
    add("outputs", model.outputs());
    text += &table(&rows);
    let (elements, size) = parameter_sum(model);
    let kernels = plan.map_or(String::new(), |plan| {
        format!(" → {} after fusion", count(plan.kernels, "kernel", "kernels"))
    });
    text += &format!(
        "nodes    {}{kernels}   params {} ({})\n",
        grouped(model.node_count()),
        grouped(elements),
        bytes(size as u64)
    );
    let operators = model.operators();
    let names: Vec<String> =
        operators.iter().map(|operator| format!("{}×{}", operator_name(operator), operator.count)).collect();
    text += &format!("ops      {}\n", wrap(&names.join(" "), 100, 9, "         "));
    text += &format!("support  {}\n", wrap(&support(model, &operators), 100, 9, "         "));
    if let Some(plan) = plan {
        let dims: Vec<String> =
            inputs.dims.iter().map(|(dim, length)| format!("{}={length}", Escaped(dim))).collect();
        let dims = if dims.is_empty() { String::new() } else { format!("{}: ", dims.join(" ")) };
        text += &format!(
            "memory   {dims}forward {} + weights {}\n",
            bytes((plan.peak() - plan.weights) as u64),
            bytes(plan.weights as u64)
        );
    }
    text
}

fn support(model: &Model, operators: &[OperatorCount]) -> String {
    let unsupported = model.unsupported();
    if !unsupported.is_empty() {
        let list: Vec<String> = unsupported.iter().map(ToString::to_string).collect();
        return format!("{} not supported: {}", count(list.len(), "op type", "op types"), list.join(", "));
    }
    let without: Vec<String> = operators
        .iter()
        .filter(|operator| operator.info.is_some_and(|info| info.gradient == GradientKind::Zero))
        .map(operator_name)
        .collect();
    match without.is_empty() {
        true => "all supported, all differentiable".to_owned(),
        false => format!("all supported; no gradient passes {}", without.join(" ")),
    }
}

fn as_json(model: &Model, sha256: Option<&str>, plan: Option<&Plan>) -> Json {
    let declared = |value: &Declared| {
        let dims = value.dims.as_ref().map(|dims| {
            dims.iter()
                .map(|dim| match dim {
                    Dim::Known(length) => json!(length),
                    Dim::Symbol(symbol) => json!(symbol),
                    Dim::Unknown => Json::Null,
                })
                .collect::<Vec<_>>()
        });
        json!({ "name": value.name, "dtype": value.dtype.map(|dtype| dtype.name()), "shape": dims, "kind": value.other })
    };
    let operator = |operator: &OperatorCount| {
        json!({
            "name": operator_name(operator),
            "count": operator.count,
            "supported": operator.info.is_some(),
            "gradient": operator.info.map(|info| ops::gradient(info.gradient).0),
        })
    };
    let (elements, size) = parameter_sum(model);
    json!({
        "schema": "gradc.inspect/1",
        "name": model.name(),
        "producer": model.producer(),
        "ir_version": model.ir_version(),
        "opsets": model.opsets(),
        "file_bytes": model.file_bytes(),
        "sha256": sha256,
        "inputs": model.inputs().iter().map(declared).collect::<Vec<_>>(),
        "outputs": model.outputs().iter().map(declared).collect::<Vec<_>>(),
        "symbols": model.symbols(),
        "nodes": model.node_count(),
        "functions": model.function_count(),
        "operators": model.operators().iter().map(operator).collect::<Vec<_>>(),
        "unsupported": model.unsupported().iter().map(|operator| json!({
            "domain": operator.domain, "name": operator.op_type, "nodes": operator.nodes,
        })).collect::<Vec<_>>(),
        "parameters": { "elements": elements, "bytes": size, "names": model.parameters() },
        "memory": plan.map(memory),
    })
}

/// The memory of a plan for machines.
pub fn memory(plan: &Plan) -> Json {
    json!({
        "arena": plan.arena,
        "inputs": plan.inputs,
        "weights": plan.weights,
        "outputs": plan.outputs,
        "peak": plan.peak(),
    })
}
