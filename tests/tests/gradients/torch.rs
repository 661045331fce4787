//! Values and gradients as PyTorch finds them, in f64: of one operator at a time, and of whole models.
//!
//! `tests/fixtures/make_torch_fixtures.py` made the numbers; no Python runs here. The models are too large to be kept
//! beside the tests: where `GRADC_BENCH_MODELS` names their folder,
//!
//! ```text
//! GRADC_BENCH_MODELS=FOLDER cargo test --release -p gradc-tests --test gradients torch -- --nocapture
//! ```

use crate::harness::Engine;
use bytes::Bytes;
use gradc::formats::{Limits, npz::Npz, safetensors};
use gradc::{Compile, DType, ExternalData, Literal, Model, Target, Wrt};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::path::Path;

const OPERATORS: &[u8] = include_bytes!("../../fixtures/torch.safetensors");
const MODELS: &[u8] = include_bytes!("../../fixtures/torch_models.safetensors");

/// Arrays by the two parts of their names: what stands before the first `/`, and the rest.
fn arrays(file: &'static [u8]) -> BTreeMap<String, BTreeMap<String, Literal>> {
    let mut cases: BTreeMap<String, BTreeMap<String, Literal>> = BTreeMap::new();
    for (name, array) in safetensors::parse("fixtures", Bytes::from_static(file)).unwrap() {
        let (case, part) = name.split_once('/').expect("names have two parts");
        cases.entry(case.to_owned()).or_default().insert(part.to_owned(), array);
    }
    cases
}

/// The first element that is farther away than a part of the greatest, in words.
fn apart(what: &str, got: &Literal, wanted: &Literal, part: f64) -> Result<(), String> {
    if got.shape() != wanted.shape() {
        return Err(format!("{what} is {}, should be {}", got.ty(), wanted.ty()));
    }
    let (got, wanted) = (got.to_f64(), wanted.to_f64());
    let size = wanted.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
    for (place, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
        let near = (got - wanted).abs() <= part * size.max(1e-3);
        if !near && got != wanted && !(got.is_nan() && wanted.is_nan()) {
            return Err(format!("{what}[{place}] is {got:e}, PyTorch says {wanted:e}"));
        }
    }
    Ok(())
}

const ENGINES: [(Engine, DType, f64); 4] = [
    (Engine::Interpreter, DType::F64, 1e-11),
    (Engine::Compiled { level: 0, threads: 1 }, DType::F64, 1e-11),
    (Engine::Compiled { level: 3, threads: 2 }, DType::F64, 1e-11),
    (Engine::Compiled { level: 3, threads: 1 }, DType::F32, 1e-4),
];

/// Answers how many tensors agree.
fn check(case: &BTreeMap<String, Literal>) -> Result<usize, String> {
    let of = |kind: &'static str| {
        case.iter()
            .filter_map(move |(name, array)| Some((name.strip_prefix(kind)?.strip_prefix('/')?, array)))
    };
    let model =
        Model::from_bytes(case["model"].bytes().clone(), ExternalData::None).map_err(|e| e.to_string())?;
    let mut agreed = 0;
    for (engine, dtype, part) in ENGINES {
        let told = |what: &dyn std::fmt::Display| format!("{engine:?}, {dtype}: {what}");
        let mut compile = Compile::new(&model).dtype(dtype).wrt(Wrt::names(of("grad").map(|(name, _)| name)));
        for (name, array) in of("in") {
            compile = compile.input_hint(name, array.clone());
        }
        for (name, _) in of("seed") {
            compile = compile.target(Target::seed(name));
        }
        let compile = match engine {
            Engine::Interpreter => compile.interpreter(true),
            Engine::Compiled { level, threads } => compile.optimization(level).threads(threads),
        };
        let compiled = compile.build().map_err(|error| told(&error))?;
        let mut session = compiled.session();
        let seeds = of("seed").map(|(name, array)| (format!("seed:{name}"), array));
        for (name, array) in of("in").map(|(name, array)| (name.to_owned(), array)).chain(seeds) {
            let ty = compiled.inputs().iter().find(|input| input.name == name).map(|input| input.ty.clone());
            let array = match ty {
                Some(ty) if ty.dtype != array.dtype() => crate::harness::literal(&ty, &array.to_f64()),
                _ => array.clone(),
            };
            session.set_literal(&name, &array).map_err(|error| told(&error))?;
        }
        session.run_grad().map_err(|error| told(&error))?;
        for (name, wanted) in of("out") {
            let got = session.output_literal(name).map_err(|error| told(&error))?;
            apart(name, &got, wanted, part).map_err(|error| told(&error))?;
            agreed += 1;
        }
        for (name, wanted) in of("grad") {
            let got = session.grad_literal(name).map_err(|error| told(&error))?;
            apart(&format!("the gradient by {name}"), &got, wanted, part).map_err(|error| told(&error))?;
            agreed += 1;
        }
    }
    Ok(agreed)
}

#[test]
fn torch_agrees_on_operators() {
    let cases = arrays(OPERATORS);
    let only = std::env::var("GRADC_TORCH").unwrap_or_default();
    let (mut failures, mut agreed, mut operators) = (Vec::new(), 0, BTreeSet::new());
    for (name, case) in cases.iter().filter(|(name, _)| name.contains(&only)) {
        match catch_unwind(|| check(case)).unwrap_or_else(|_| Err("a panic".into())) {
            Ok(count) => agreed += count,
            Err(message) => failures.push(format!("{name}: {message}")),
        }
        let model = Model::from_bytes(case["model"].bytes().clone(), ExternalData::None).unwrap();
        operators.extend(model.operators().into_iter().map(|operator| operator.operator));
    }
    eprintln!("{} cases of {} operators: {agreed} tensors agree with PyTorch", cases.len(), operators.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(!only.is_empty() || operators.len() >= 110, "operators that are compared: {}", operators.len());
}

/// Plus or minus one for each element, as the script makes them.
fn signs(count: usize, seed: u64) -> impl Iterator<Item = f64> {
    (1..=count as u64).map(move |index| {
        let mut bits = index.wrapping_add(seed * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        if bits >> 63 == 1 { 1.0 } else { -1.0 }
    })
}

/// The norm of a gradient, and its products with eight vectors of signs.
fn sketch(gradient: &[f64]) -> Vec<f64> {
    let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
    let product = |seed| gradient.iter().zip(signs(gradient.len(), seed)).map(|(x, sign)| x * sign).sum();
    [norm].into_iter().chain((0..8).map(product)).collect()
}

/// An error as large as a part of the norm moves a product with signs by about as much.
const PART: f64 = 4e-6;

fn check_model(folder: &Path, wanted: &BTreeMap<String, Literal>) -> Result<usize, String> {
    let model = Model::load(folder.join("model_loss.onnx")).map_err(|error| error.to_string())?;
    let limits = Limits::default();
    let mut inputs = Npz::open(folder.join("inputs.npz"), &limits).map_err(|error| error.to_string())?;
    let compile = Compile::new(&model).dtype(DType::F64).threads(2).target(Target::output("loss"));
    let mut compile = compile.wrt(Wrt::names(wanted.keys().cloned()));
    let mut given = Vec::new();
    for name in inputs.names() {
        let array = inputs.get(&name).map_err(|error| error.to_string())?;
        compile = compile.input_hint(&name, array.clone());
        given.push((name, array));
    }
    let compiled = compile.build().map_err(|error| error.to_string())?;
    let mut session = compiled.session();
    for (name, array) in &given {
        session.set_literal(name, array).map_err(|error| error.to_string())?;
    }
    session.run_grad().map_err(|error| error.to_string())?;
    let largest = wanted.values().fold(0.0, |largest: f64, sketch| largest.max(sketch.to_f64()[0]));
    for (name, wanted) in wanted {
        let wanted = wanted.to_f64();
        let got = sketch(&session.grad_literal(name).map_err(|error| error.to_string())?.to_f64());
        let allowed = PART * wanted[0].max(1e-6 * largest);
        let near = |(got, wanted): (&f64, &f64)| (got - wanted).abs() <= allowed;
        if !got.iter().zip(&wanted).all(near) {
            return Err(format!("{name}: {got:?}, PyTorch says {wanted:?}"));
        }
    }
    Ok(wanted.len())
}

#[test]
fn torch_agrees_on_models() {
    let models = arrays(MODELS);
    assert_eq!(models.len(), 12);
    let Some(root) = std::env::var_os("GRADC_BENCH_MODELS") else {
        eprintln!("{} models skipped: GRADC_BENCH_MODELS names no folder", models.len());
        return;
    };
    let mut failures = Vec::new();
    for (name, wanted) in &models {
        match check_model(&Path::new(&root).join(name), wanted) {
            Ok(count) => eprintln!("{name}: {count} gradients agree with PyTorch"),
            Err(message) => failures.push(format!("{name}: {message}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The sketches tell gradients apart that differ in one element, or only in order.
#[test]
fn torch_sketches_tell_gradients_apart() {
    let gradient: Vec<f64> = (0..1000).map(|place| f64::from(place % 17) - 8.0).collect();
    let far = |other: &[f64]| {
        let (one, two) = (sketch(&gradient), sketch(other));
        one.iter().zip(&two).any(|(a, b)| (a - b).abs() > PART * one[0])
    };
    let mut other = gradient.clone();
    assert!(!far(&other));
    other[500] += 1e-2;
    assert!(far(&other));
    other = gradient.iter().rev().copied().collect();
    assert!(far(&other));
}
