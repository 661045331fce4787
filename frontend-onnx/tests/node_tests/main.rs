//! ONNX's own operator tests, lowered and evaluated by the reference interpreter.
//!
//! `GRADC_ONNX_NODE_TESTS` names the folder that holds one folder for each test (`model.onnx` and
//! `test_data_set_0`); without it nothing is tested. `GRADC_ONNX_NODE_FILTER` restricts the tests to names that
//! contain it. The outcome of each test is listed in a file whose path is printed.

use gradc_frontend_onnx::lower::{LowerOptions, Lowered, lower};
use gradc_frontend_onnx::model::read_tensor_proto;
use gradc_frontend_onnx::{Error, ExternalData, Model};
use gradc_ir::{DType, Literal, eval};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

mod change;

/// Numbers that look random and are the same on every run (xorshift).
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// As ONNX's own runner compares.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;

/// Tests whose expected numbers hold rounding errors of their own where the exact result is 0, and their size.
const NOISY: &[(&str, f64)] = &[("test_dft_inverse", 1e-6)];

enum Outcome {
    /// The outputs are right. Says what had to be known beforehand.
    Passed(&'static str),
    /// The outputs are wrong, or the interpreter refused the graph.
    Wrong(String),
    /// Not lowered.
    Refused(Error),
    Panicked(String),
}

#[test]
fn node_tests() {
    let Some(folder) = std::env::var_os("GRADC_ONNX_NODE_TESTS") else {
        eprintln!("skipped: GRADC_ONNX_NODE_TESTS does not name the folder of ONNX's node tests");
        return;
    };
    let filter = std::env::var("GRADC_ONNX_NODE_FILTER").unwrap_or_default();
    let mut tests: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of node tests can be read")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.join("model.onnx").is_file() && name(path).contains(&filter))
        .collect();
    tests.sort();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<String, Outcome>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(path))).unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or(panic.downcast_ref::<&str>().map(|text| text.to_string()));
                        Outcome::Panicked(text.unwrap_or_default())
                    });
                    outcomes.lock().expect("no panic inside").insert(name(path), outcome);
                }
            });
        }
    });
    report(&outcomes.into_inner().expect("no panic inside"));
}

/// Whatever is changed in a model, lowering it answers or refuses.
#[test]
fn changed_models_do_not_panic() {
    let Some(folder) = std::env::var_os("GRADC_ONNX_NODE_TESTS") else {
        eprintln!("skipped: GRADC_ONNX_NODE_TESTS does not name the folder of ONNX's node tests");
        return;
    };
    let rounds: u64 =
        std::env::var("GRADC_ONNX_NODE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let filter = std::env::var("GRADC_ONNX_NODE_FILTER").unwrap_or_default();
    let mut tests: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of node tests can be read")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| name(path).contains(&filter))
        .collect();
    tests.sort();
    let (mut lowered, mut refused, mut panicked) = (0, 0, 0);
    for folder in &tests {
        let Ok(bytes) = std::fs::read(folder.join("model.onnx")) else { continue };
        let Ok(model) = Model::from_bytes(bytes, ExternalData::None) else { continue };
        let values = tensors(folder, "input").unwrap_or_default();
        for round in 0..rounds {
            let mut random = Random(round * 0x9e37_79b9 + 88_172_645_463_325_252);
            let mut changed = model.clone();
            for _ in 0..=random.below(2) {
                change::model(&mut changed, &mut random);
            }
            let options = LowerOptions {
                input_values: changed
                    .graph
                    .inputs
                    .iter()
                    .map(|input| input.name.clone())
                    .zip(values.iter().cloned())
                    .filter(|(_, value)| value.shape().elements() <= 64)
                    .filter_map(|(name, value)| Some((name, change::literal(value, &mut random)?)))
                    .collect(),
                ..LowerOptions::default()
            };
            match catch_unwind(AssertUnwindSafe(|| lower(&changed, &options).map(|_| ()))) {
                Ok(Ok(())) => lowered += 1,
                Ok(Err(_)) => refused += 1,
                Err(_) => {
                    panicked += 1;
                    eprintln!("PANICKED {} in round {round}", name(folder));
                }
            }
        }
    }
    eprintln!("changed models: {lowered} lowered, {refused} refused, {panicked} panicked");
    assert_eq!(panicked, 0, "changed models that panicked");
}

fn report(outcomes: &BTreeMap<String, Outcome>) {
    let (mut passed, mut wrong, mut refused, mut panicked) = (0, 0, 0, 0);
    let mut list = String::new();
    for (name, outcome) in outcomes {
        let line = match outcome {
            Outcome::Passed(known) => {
                passed += 1;
                format!("passed   {name} {known}")
            }
            Outcome::Wrong(what) => {
                wrong += 1;
                format!("WRONG    {name}: {what}")
            }
            Outcome::Refused(error) => {
                refused += 1;
                format!("refused  {name}: {}: {error}", error.code())
            }
            Outcome::Panicked(what) => {
                panicked += 1;
                format!("PANICKED {name}: {what}")
            }
        };
        if matches!(outcome, Outcome::Wrong(_) | Outcome::Panicked(_)) {
            eprintln!("{line}");
        }
        writeln!(list, "{line}").expect("a string takes all");
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node_tests.txt");
    std::fs::write(&path, list).expect("the list can be written");
    eprintln!("{passed} passed, {wrong} failed (wrong), {refused} unsupported/refused, {panicked} panicked");
    eprintln!("listed in {}", path.display());
    assert_eq!((wrong, panicked), (0, 0), "wrong results or panics");
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn run(folder: &Path) -> Outcome {
    match attempt(folder) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Refused(error),
    }
}

fn attempt(folder: &Path) -> Result<Outcome, Error> {
    let bytes = std::fs::read(folder.join("model.onnx")).expect("the model can be read");
    let model = Model::from_bytes(bytes, ExternalData::None)?;
    let inputs = tensors(folder, "input")?;
    let expected = tensors(folder, "output")?;
    let given: BTreeMap<String, Literal> =
        model.graph.inputs.iter().map(|input| input.name.clone()).zip(inputs).collect();
    let (double, _) = lower_knowing_little(&model, &given, Some(DType::F64))?;
    let types = double.values.iter().map(|(name, &value)| (name, double.builder.ty(value).dtype));
    if let Some((name, dtype)) = types.into_iter().find(|(_, dtype)| dtype.is_float() && *dtype != DType::F64)
    {
        return Ok(Outcome::Wrong(format!("{name} is {dtype} where all should be f64")));
    }
    let (lowered, known) = lower_knowing_little(&model, &given, None)?;
    let values: Vec<_> = lowered.outputs.iter().map(|(_, value)| *value).collect();
    let inputs: Vec<Literal> = lowered.inputs.iter().map(|input| given[&input.name].clone()).collect();
    let graph = lowered.builder.finish(&values);
    let outputs = match eval(&graph, &inputs) {
        Ok(outputs) => outputs,
        Err(error) => return Ok(Outcome::Wrong(format!("evaluation: {error}"))),
    };
    if outputs.len() != expected.len() {
        return Ok(Outcome::Wrong(format!("{} outputs, expected {}", outputs.len(), expected.len())));
    }
    let noisy = NOISY.iter().find(|(test, _)| name(folder).starts_with(test));
    let absolute = noisy.map_or(ABSOLUTE, |(_, noise)| *noise);
    for ((got, wanted), (name, _)) in outputs.iter().zip(&expected).zip(&lowered.outputs) {
        if let Some(difference) = difference(got, wanted, absolute) {
            return Ok(Outcome::Wrong(format!("{name}: {difference}")));
        }
    }
    Ok(Outcome::Passed(known))
}

/// Lowers with the shapes of the inputs alone where that suffices, then with small integers, then with all that is small.
fn lower_knowing_little(
    model: &Model,
    given: &BTreeMap<String, Literal>,
    float: Option<DType>,
) -> Result<(Lowered, &'static str), Error> {
    let lower_with = |known: &dyn Fn(&Literal) -> bool| {
        let options = LowerOptions {
            input_shapes: given.iter().map(|(name, value)| (name.clone(), value.shape().to_vec())).collect(),
            input_values: given
                .iter()
                .filter(|(_, value)| known(value))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            float,
            ..LowerOptions::default()
        };
        lower(model, &options)
    };
    let first = match lower_with(&|_| false) {
        Ok(lowered) => return Ok((lowered, "")),
        Err(error) => error,
    };
    let small_integers = |value: &Literal| !value.dtype().is_float() && value.shape().elements() <= 64;
    let integers = lower_with(&small_integers).map(|lowered| (lowered, "(integers known)"));
    let small = |value: &Literal| value.shape().elements() <= 64;
    integers.or_else(|_| lower_with(&small).map(|lowered| (lowered, "(values known)"))).map_err(|_| first)
}

fn tensors(folder: &Path, kind: &str) -> Result<Vec<Literal>, Error> {
    let path = |position: usize| folder.join(format!("test_data_set_0/{kind}_{position}.pb"));
    (0..)
        .map(path)
        .take_while(|path| path.is_file())
        .map(|path| read_tensor_proto(std::fs::read(path).expect("the tensor can be read"))?.to_literal())
        .collect()
}

/// What is different, where something is.
fn difference(got: &Literal, wanted: &Literal, absolute: f64) -> Option<String> {
    if got.ty() != wanted.ty() {
        return Some(format!("is {}, expected {}", got.ty(), wanted.ty()));
    }
    if got.bytes() == wanted.bytes() {
        return None;
    }
    let pairs: Vec<(f64, f64)> = got.to_f64().into_iter().zip(wanted.to_f64()).collect();
    let close = |got: f64, wanted: f64| {
        got == wanted
            || (got.is_nan() && wanted.is_nan())
            || (got - wanted).abs() <= absolute + RELATIVE * wanted.abs()
    };
    let bad: Vec<usize> = (0..pairs.len()).filter(|&at| !close(pairs[at].0, pairs[at].1)).collect();
    let &first = bad.first()?;
    let (x, y) = pairs[first];
    Some(format!("{} of {} differ, first at {first}: {x}, expected {y}", bad.len(), pairs.len()))
}
