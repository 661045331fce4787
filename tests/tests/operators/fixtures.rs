//! The models in `fixtures/operators`: their outputs are those that `fixtures/operators.py` wrote beside them, and their
//! gradients those of central differences, in f64.

use gradc::Model;
use gradc::formats::{Limits, npz::Npz};
use gradc_frontend_onnx::{LowerOptions, lower};
use gradc_ir::{Builder, DType, Graph, Literal, Value, eval, inline};
use gradc_passes::{Gradient, vjp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FEWEST: usize = 109;

/// How far floats may be from what was computed elsewhere.
const TOLERANCE: f64 = 1e-5;

struct Case {
    name: String,
    model: Model,
    inputs: Vec<(String, Literal)>,
    outputs: Vec<(String, Literal)>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/operators");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    paths.sort();
    assert!(paths.len() >= FEWEST, "only {} models", paths.len());
    paths.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let model = Model::load(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut archive = Npz::open(path.with_extension("npz"), &Limits::default()).expect("an archive");
    let mut values: BTreeMap<String, Literal> = BTreeMap::new();
    for member in archive.names() {
        let value = archive.get(&member).expect("an array");
        values.insert(member, value);
    }
    let pick = |prefix: &str, names: Vec<String>| {
        let own = |name: String| values.get(&format!("{prefix}/{name}")).map(|value| (name, value.clone()));
        names.into_iter().filter_map(own).collect::<Vec<_>>()
    };
    let inputs = pick("in", model.inputs().into_iter().map(|input| input.name).collect());
    let outputs = pick("out", model.outputs().into_iter().map(|output| output.name).collect());
    assert!(!inputs.is_empty() && !outputs.is_empty(), "{name} has no inputs or outputs");
    Case { name, model, inputs, outputs }
}

#[test]
fn outputs_are_those_of_other_runtimes() {
    let mut faults = Vec::new();
    for Case { name, model, inputs, outputs } in cases() {
        let inputs: Vec<(&str, Literal)> =
            inputs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let got = match super::outputs(&model, &inputs) {
            Ok(got) => got,
            Err(error) => {
                faults.push(format!("{name}: {error}"));
                continue;
            }
        };
        assert_eq!(got.len(), outputs.len(), "{name}");
        for ((output, wanted), got) in outputs.iter().zip(&got) {
            if let Some(difference) = difference(got, wanted) {
                faults.push(format!("{name}, {output}: {difference}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn difference(got: &Literal, wanted: &Literal) -> Option<String> {
    if got.ty() != wanted.ty() {
        return Some(format!("is {}, expected {}", got.ty(), wanted.ty()));
    }
    let tolerance = if wanted.dtype().is_float() { TOLERANCE } else { 0.0 };
    let close = |got: f64, wanted: f64| {
        got == wanted
            || got.is_nan() && wanted.is_nan()
            || (got - wanted).abs() <= tolerance * wanted.abs().max(1.0)
    };
    let (got, wanted) = (got.to_f64(), wanted.to_f64());
    let first = got.iter().zip(&wanted).position(|(&got, &wanted)| !close(got, wanted))?;
    Some(format!("differs at {first}: {}, expected {}", got[first], wanted[first]))
}

#[test]
fn gradients_are_those_of_differences() {
    let mut faults = Vec::new();
    for case in cases().iter().filter(|case| !case.name.ends_with("_int")) {
        if let Err(fault) = check_gradient(case) {
            faults.push(format!("{}: {fault}", case.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Compares the gradient of a weighted sum of all float outputs by every element of every float input.
fn check_gradient(case: &Case) -> Result<(), String> {
    let wide = |value: &Literal| match value.dtype().is_float() {
        true => Literal::new(value.shape().clone(), &value.to_f64()),
        false => value.clone(),
    };
    let options = || LowerOptions { float: Some(DType::F64), ..LowerOptions::default() };
    let lowered = lower(case.model.onnx(), &options()).map_err(|error| error.to_string())?;
    let given: BTreeMap<&str, Literal> =
        case.inputs.iter().map(|(name, value)| (name.as_str(), wide(value))).collect();
    let inputs: Vec<Literal> =
        lowered.inputs.iter().map(|input| given[input.name.as_str()].clone()).collect();
    let builder = lowered.builder;
    let is_float = |value: &Value| builder.ty(*value).dtype.is_float();
    let seeds: Vec<(Value, Value)> = (lowered.outputs.iter().map(|(_, value)| *value).filter(is_float))
        .map(|output| {
            let ty = builder.ty(output);
            let weights: Vec<f64> = (0..ty.shape.elements()).map(weight).collect();
            (output, builder.constant(Literal::new(ty.shape, &weights)).value())
        })
        .collect();
    let mut sum = builder.constant(Literal::scalar(0.0f64));
    for &(output, seed) in &seeds {
        sum = sum + (builder.expr(output) * builder.expr(seed)).sum_all();
    }
    let wrt: Vec<Value> = lowered.inputs.iter().map(|input| input.value).filter(is_float).collect();
    let found = vjp(&builder, &seeds, &wrt).map_err(|error| error.to_string())?;
    let zeros = |value: Value| builder.splat(&builder.ty(value), 0.0).value();
    let gradients = found.into_iter().zip(&wrt).map(|(gradient, &wrt)| match gradient {
        Gradient::Value(value) | Gradient::Zero { value, .. } => value,
        Gradient::NoPath { .. } => zeros(wrt),
    });
    let results: Vec<Value> = std::iter::once(sum.value()).chain(gradients).collect();
    let graph = builder.finish(&results);
    let run = |graph: &Graph, inputs: &[Literal]| eval(graph, inputs).map_err(|error| error.to_string());
    let results = run(&graph, &inputs)?;
    let forward = Builder::new("forward");
    let arguments: Vec<Value> =
        graph.inputs().iter().map(|input| forward.input(&input.name, input.ty.clone())).collect();
    let sum = inline(&forward, &graph, &arguments)[0];
    let forward = forward.finish(&[sum]);
    let value = |inputs: &[Literal]| Ok::<f64, String>(run(&forward, inputs)?[0].to_f64()[0]);
    let mut greatest = 0.0f64;
    let mut gradients = results[1..].iter();
    for (position, input) in inputs.iter().enumerate().filter(|(_, input)| input.dtype().is_float()) {
        let gradient = gradients.next().ok_or("a gradient is missing")?.to_f64();
        for (at, got) in gradient.iter().enumerate() {
            let moved = |step: f64| {
                let mut elements = input.to_f64();
                elements[at] += step;
                let mut inputs = inputs.clone();
                inputs[position] = Literal::new(input.shape().clone(), &elements);
                value(&inputs)
            };
            // A missing value has no neighbours.
            if input.to_f64()[at].is_nan() {
                continue;
            }
            let step = 1e-6;
            let expected = (moved(step)? - moved(-step)?) / (2.0 * step);
            if (got - expected).abs() > 1e-6 * (1.0 + expected.abs()) {
                return Err(format!("input {position} at {at}: {got}, differences say {expected}"));
            }
            greatest = greatest.max(got.abs());
        }
    }
    match (case.name.ends_with("_flat"), greatest == 0.0) {
        (true, false) => Err("has a gradient that is not zero".to_owned()),
        (false, true) => Err("has gradients of zero only".to_owned()),
        _ => Ok(()),
    }
}

fn weight(at: usize) -> f64 {
    (at as f64 * 0.7 + 0.3).cos() + 1.5
}
