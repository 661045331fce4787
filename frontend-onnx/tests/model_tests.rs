//! Whole models, lowered, and evaluated by the reference interpreter where that is asked for.
//!
//! `GRADC_ONNX_MODELS` names folders (separated by `:`), each of which holds one folder for each model: `model.onnx`
//! or `model_loss.onnx`, `inputs.npz`, and what is expected in `outputs.npz` or `loss.npz`-like members of
//! `expected.npz`. Without it nothing is tested. `GRADC_ONNX_MODELS_EVALUATE` lists the models to evaluate,
//! separated by commas.

use gradc_frontend_onnx::Model;
use gradc_frontend_onnx::lower::{InputKind, LowerOptions, Lowered, WeightPolicy, lower};
use gradc_ir::{DType, Literal, TensorType, eval};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Models that hold tensors in 8 bits: a number at a tie, to within the rounding of what it is computed from, may
/// become the neighbouring one, off by one of 255 steps. Here it is one of those that the last product takes, after
/// equal products of integers and three LSTMs that agree within 1e-6; its weights add up to 57 of 65900, or 8.7e-3 of 10.
const COARSE: &[(&str, f64)] = &[("tashkeel_int8", 1e-3)];

#[test]
fn models() {
    let Some(folders) = std::env::var_os("GRADC_ONNX_MODELS") else {
        eprintln!("skipped: GRADC_ONNX_MODELS names no folder of models");
        return;
    };
    let evaluated = std::env::var("GRADC_ONNX_MODELS_EVALUATE").unwrap_or_default();
    let evaluated: BTreeSet<&str> = evaluated.split(',').collect();
    let mut failures = 0;
    for folder in std::env::split_paths(&folders) {
        let mut models: Vec<PathBuf> = std::fs::read_dir(&folder)
            .expect("the folder of models can be read")
            .map(|entry| entry.expect("the folder can be listed").path())
            .filter(|path| path.join("inputs.npz").is_file())
            .collect();
        models.sort();
        for model in models {
            for file in ["model.onnx", "model_loss.onnx"] {
                if model.join(file).is_file() {
                    let name = model.file_name().map(|name| name.to_string_lossy().into_owned());
                    let name = name.unwrap_or_default();
                    match run(&model, file, evaluated.contains(name.as_str())) {
                        Ok(words) => eprintln!("ok     {name}/{file}: {words}"),
                        Err(words) => {
                            failures += 1;
                            eprintln!("FAILED {name}/{file}: {words}");
                        }
                    }
                }
            }
        }
    }
    assert_eq!(failures, 0, "models that failed");
}

fn run(folder: &Path, file: &str, evaluate: bool) -> Result<String, String> {
    let model = Model::open(folder.join(file)).map_err(|error| error.to_string())?;
    let given = read_npz(&folder.join("inputs.npz"));
    let start = Instant::now();
    let lowered = lower_model(&model, &given, false)?;
    let time = start.elapsed();
    let constants = weight_names(&model);
    let with_weights = lower_with(&model, &given, lowered.1, constants, None)?;
    let double = lower_with(&model, &given, lowered.1, BTreeSet::new(), Some(DType::F64))?;
    let mut floats = double.values.values().map(|&value| double.builder.ty(value).dtype);
    if floats.any(|dtype| dtype.is_float() && dtype != DType::F64) {
        return Err("in f64 something is still of another float type".to_owned());
    }
    let weights =
        with_weights.inputs.iter().filter(|input| matches!(input.kind, InputKind::Weight(_))).count();
    let mut inputs = Vec::new();
    for input in &lowered.0.inputs {
        inputs.push(given.get(&input.name).cloned().ok_or(format!("no value for {}", input.name))?);
    }
    let values: Vec<_> = lowered.0.outputs.iter().map(|(_, value)| *value).collect();
    let names: Vec<String> = lowered.0.outputs.iter().map(|(name, _)| name.clone()).collect();
    let graph = lowered.0.builder.finish(&values);
    let mut words = format!(
        "{} nodes of {}, {weights} weights, {} ms{}",
        graph.len(),
        model.graph.nodes.len(),
        time.as_millis(),
        if lowered.1 { ", integers known" } else { "" }
    );
    if evaluate {
        let outputs = eval(&graph, &inputs).map_err(|error| error.to_string())?;
        let expected =
            folder.join(if folder.join("outputs.npz").is_file() { "outputs.npz" } else { "expected.npz" });
        let expected = read_npz(&expected);
        for (name, got) in names.iter().zip(&outputs) {
            let wanted = expected.get(name).or(expected.get(&format!("out/{name}")));
            let Some(wanted) = wanted else {
                words += &format!("; nothing expected of {name}");
                continue;
            };
            if got.ty() != wanted.ty() {
                return Err(format!("{name} is {}, expected {}", got.ty(), wanted.ty()));
            }
            let error = relative_error(&got.to_f64(), &wanted.to_f64());
            words += &format!("; {name} relative error {error:.1e}");
            let coarse = COARSE.iter().find(|(coarse, _)| folder.ends_with(coarse));
            let tolerance = match coarse {
                Some((_, tolerance)) => *tolerance,
                None if got.dtype() == DType::F16 => 4e-3,
                None => 1e-4,
            };
            if error.is_nan() || error > tolerance {
                return Err(words);
            }
        }
    }
    Ok(words)
}

/// The difference in Euclidean norm; elements that are equally infinite or NaN do not count.
fn relative_error(got: &[f64], wanted: &[f64]) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (&x, &y) in got.iter().zip(wanted) {
        if x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan()) {
            difference += (x - y).powi(2);
        }
        if y.is_finite() {
            size += y * y;
        }
    }
    if difference == 0.0 { 0.0 } else { (difference / size).sqrt() }
}

fn weight_names(model: &Model) -> BTreeSet<String> {
    let initializers = model.graph.initializers.iter();
    let initializers =
        initializers.filter(|initializer| initializer.tensor.dtype().to_ir().is_some_and(DType::is_float));
    initializers.map(|initializer| initializer.name().to_owned()).collect()
}

fn lower_model(
    model: &Model,
    given: &BTreeMap<String, Literal>,
    integers: bool,
) -> Result<(Lowered, bool), String> {
    match lower_with(model, given, integers, BTreeSet::new(), None) {
        Ok(lowered) => Ok((lowered, integers)),
        Err(error) if integers => Err(error),
        Err(error) => {
            lower_model(model, given, true).map_err(|known| format!("{error}; integers known: {known}"))
        }
    }
}

fn lower_with(
    model: &Model,
    given: &BTreeMap<String, Literal>,
    integers: bool,
    weights: BTreeSet<String>,
    float: Option<DType>,
) -> Result<Lowered, String> {
    let is_input = |name: &str| model.graph.inputs.iter().any(|input| input.name == name);
    let shapes = given.iter().filter(|(name, _)| is_input(name));
    let known = |value: &Literal| integers && !value.dtype().is_float() && value.shape().elements() <= 16;
    let options = LowerOptions {
        input_shapes: shapes.map(|(name, value)| (name.clone(), value.shape().to_vec())).collect(),
        input_values: given
            .iter()
            .filter(|(name, value)| is_input(name) && known(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        weights: WeightPolicy::Names(weights),
        float,
        ..LowerOptions::default()
    };
    lower(model, &options).map_err(|error| format!("{}: {error}", error.code()))
}

/// Reads an archive of arrays that are stored without compression, as `numpy.savez` makes them.
fn read_npz(path: &Path) -> BTreeMap<String, Literal> {
    let bytes = std::fs::read(path).expect("the archive can be read");
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0usize, |number, &byte| number << 8 | usize::from(byte))
    };
    let end = bytes.windows(4).rposition(|window| window == b"PK\x05\x06").expect("an archive has an end");
    let mut entry = number(end + 16, 4);
    let mut arrays = BTreeMap::new();
    for _ in 0..number(end + 10, 2) {
        assert_eq!(number(entry + 10, 2), 0, "members are stored without compression");
        let (size, name_size) = (number(entry + 24, 4), number(entry + 28, 2));
        let name = String::from_utf8_lossy(&bytes[entry + 46..entry + 46 + name_size]).into_owned();
        let local = number(entry + 42, 4);
        let data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let name = name.strip_suffix(".npy").expect("members are arrays").to_owned();
        arrays.insert(name, read_npy(&bytes[data..data + size]));
        entry += 46 + name_size + number(entry + 30, 2) + number(entry + 32, 2);
    }
    arrays
}

fn read_npy(bytes: &[u8]) -> Literal {
    let (start, size) = match bytes[6] {
        1 => (10, usize::from(bytes[8]) | usize::from(bytes[9]) << 8),
        _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
    };
    let header = String::from_utf8_lossy(&bytes[start..start + size]).into_owned();
    let after = |key: &str| header.split_once(key).expect("the header names it").1.to_owned();
    assert!(after("'fortran_order':").trim_start().starts_with("False"));
    let descr = after("'descr':");
    let dtype = match descr.split('\'').nth(1).expect("the type is a text") {
        "<f8" => DType::F64,
        "<f4" => DType::F32,
        "<f2" => DType::F16,
        "<i8" => DType::I64,
        "<i4" => DType::I32,
        "|b1" => DType::Bool,
        "|u1" => DType::U8,
        other => panic!("arrays of {other} are not read here"),
    };
    let shape = after("'shape':");
    let shape = shape.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("a tuple").0;
    let shape: Vec<usize> = shape
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.trim().parse().expect("a length"))
        .collect();
    let data = bytes::Bytes::copy_from_slice(&bytes[start + size..]);
    Literal::from_bytes(TensorType::new(dtype, shape.as_slice()), data)
        .expect("as many bytes as the type takes")
}
