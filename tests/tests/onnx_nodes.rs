//! ONNX's own tests through the whole of gradc: read, lowered, optimized, compiled, run, compared.
//!
//! `GRADC_ONNX_TESTS` names folders (separated by `:`), each holding one folder for each test (`model.onnx` and
//! `test_data_set_0`): the folders `node`, `simple`, `pytorch-operator` and `pytorch-converted` under
//! `onnx/backend/test/data` of the unzipped wheel of onnx 1.22.0. Without it nothing is tested, and that is said.
//!
//! `tests/conformance/<folder>.txt` lists the tests that pass. Every test listed there must pass, and every test that
//! passes must be listed: `GRADC_BLESS=1` adds to the list, but never takes a test from it. All others are listed with
//! the reason in a file whose path is printed.

#[path = "common/lists.rs"]
mod lists;

use gradc::{Compile, Model};
use gradc_ir::Literal;
use lists::{Data, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As ONNX's own runner compares.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;

/// Tests whose expected numbers hold rounding errors of their own where the exact result is 0, and their size.
const NOISY: &[(&str, f64)] = &[("test_dft_inverse", 1e-5)];

/// Tests whose expected numbers were drawn with another generator. What their operators promise is checked here;
/// the distributions are tested in `random.rs`.
const RANDOM: &[&str] = &[
    "test_bernoulli",
    "test_bernoulli_double",
    "test_bernoulli_double_expanded",
    "test_bernoulli_expanded",
    "test_bernoulli_seed",
    "test_bernoulli_seed_expanded",
    "test_training_dropout",
    "test_training_dropout_default",
    "test_training_dropout_default_mask",
    "test_training_dropout_mask",
];

enum Outcome {
    Passed,
    /// Random numbers that keep what their operator promises.
    Random,
    Failed(String),
    Refused(String),
}

#[test]
fn onnx_tests() {
    let Ok(folders) = std::env::var("GRADC_ONNX_TESTS") else {
        eprintln!("skipped: GRADC_ONNX_TESTS does not name the folders of ONNX's tests");
        return;
    };
    // The light models lie there in another form: `onnx_light` runs them.
    let folders = folders.split(':').map(Path::new).filter(|folder| !folder.ends_with("light"));
    let faults: Vec<String> = folders.flat_map(check_folder).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn check_folder(folder: &Path) -> Vec<String> {
    let kind = name(folder);
    let outcomes = run_all(folder);
    let listed = |(name, outcome): (&String, &Outcome)| match outcome {
        Outcome::Passed => Some(name.clone()),
        Outcome::Random => Some(format!("{name} (random: distribution-tested)")),
        Outcome::Failed(_) | Outcome::Refused(_) => None,
    };
    let passed: BTreeSet<String> = outcomes.iter().filter_map(listed).collect();
    let count = |fits: fn(&Outcome) -> bool| outcomes.values().filter(|outcome| fits(outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let refused = count(|outcome| matches!(outcome, Outcome::Refused(_)));
    let mut list = String::new();
    for (name, outcome) in &outcomes {
        match outcome {
            Outcome::Passed | Outcome::Random => {}
            Outcome::Failed(why) => writeln!(list, "failed   {name}: {why}").expect("a string takes all"),
            Outcome::Refused(why) => writeln!(list, "refused  {name}: {why}").expect("a string takes all"),
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("onnx-{kind}.txt"));
    std::fs::write(&path, list).expect("the list can be written");
    let (random, all) = (count(|outcome| matches!(outcome, Outcome::Random)), outcomes.len());
    let exact = passed.len() - random;
    eprintln!(
        "{kind}: {exact} passed, {random} random (distribution-tested), {failed} failed, {refused} refused of {all}"
    );
    eprintln!("failed and refused ones are listed in {}", path.display());
    compare_with_manifest(&kind, &passed)
}

fn compare_with_manifest(kind: &str, passed: &BTreeSet<String>) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("conformance/{kind}.txt"));
    let text = std::fs::read_to_string(&manifest).unwrap_or_default();
    let listed: BTreeSet<String> = text.lines().map(str::to_string).collect();
    let lost = listed.difference(passed).map(|name| format!("{kind}/{name} passed once and does not now"));
    if std::env::var_os("GRADC_BLESS").is_some() {
        let text: String = listed.union(passed).map(|name| format!("{name}\n")).collect();
        std::fs::write(&manifest, text).expect("the manifest can be written");
        return lost.collect();
    }
    let gained = passed.difference(&listed).map(|name| format!("{kind}/{name} passes: bless the manifest"));
    lost.chain(gained).collect()
}

fn run_all(folder: &Path) -> BTreeMap<String, Outcome> {
    let mut tests: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of tests can be read")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    tests.sort();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<String, Outcome>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(path)))
                        .unwrap_or_else(|_| Outcome::Failed("panicked".to_string()));
                    outcomes.lock().expect("no panic inside").insert(name(path), outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no panic inside")
}

fn run(folder: &Path) -> Outcome {
    let model = match Model::load(folder.join("model.onnx")) {
        Ok(model) => model,
        Err(error) => return Outcome::Refused(format!("{}: {error}", error.code())),
    };
    let graph = &model.onnx().graph;
    let (required, declared): (Vec<_>, Vec<_>) =
        (graph.required_inputs().collect(), graph.outputs.iter().collect());
    let path = |kind: &str, position: usize| folder.join(format!("test_data_set_0/{kind}_{position}.pb"));
    let inputs = lists::read(|position| path("input", position), &required);
    let expected = lists::read(|position| path("output", position), &declared);
    let (inputs, expected) = match (inputs, expected) {
        (Ok(inputs), Ok(expected)) => (inputs, flat(expected)),
        (Err(why), _) | (_, Err(why)) => {
            let unsupported = model.unsupported();
            let operator = unsupported.first().map(|operator| format!("GC0301: {operator} is not supported"));
            return Outcome::Refused(operator.unwrap_or(why));
        }
    };
    let outputs = match outputs(&model, &inputs) {
        Ok(outputs) => outputs,
        Err(error) => return Outcome::Refused(format!("{}: {error}", error.code())),
    };
    let inputs: Vec<Literal> = flat(inputs).into_iter().map(|(literal, _)| literal).collect();
    if outputs.len() != expected.len() {
        return Outcome::Failed(format!("{} outputs, expected {}", outputs.len(), expected.len()));
    }
    if RANDOM.contains(&name(folder).as_str()) {
        return random(&inputs, &outputs, &expected).map_or(Outcome::Random, Outcome::Failed);
    }
    let noisy = NOISY.iter().find(|(test, _)| name(folder).starts_with(test));
    let absolute = noisy.map_or(ABSOLUTE, |(_, noise)| *noise);
    let wrong = outputs.iter().zip(&expected).find_map(|(got, wanted)| difference(got, wanted, absolute));
    wrong.map_or(Outcome::Passed, Outcome::Failed)
}

/// What the outputs of Bernoulli (one output of zeros and ones) or Dropout (kept elements scaled by `1 / (1 - ratio)`,
/// perhaps with a mask) do not promise, where there is something.
fn random(inputs: &[Literal], outputs: &[Tensor], expected: &[Tensor]) -> Option<String> {
    if let Some((got, wanted)) =
        outputs.iter().zip(expected).find(|(got, wanted)| got.0.ty() != wanted.0.ty())
    {
        return Some(format!("is {}, expected {}", got.0.ty(), wanted.0.ty()));
    }
    let (x, y) = (inputs[0].to_f64(), outputs[0].0.to_f64());
    if inputs.len() == 1 {
        let odd = y.iter().find(|&&y| y != 0.0 && y != 1.0);
        return odd.map(|odd| format!("{odd} is neither 0 nor 1"));
    }
    let scale = 1.0 / (1.0 - inputs[1].to_f64()[0]);
    let mask = outputs.get(1).map(|(mask, _)| mask.to_f64());
    let fits = |at: usize| {
        let kept = (y[at] - x[at] * scale).abs() <= 1e-6 * (x[at] * scale).abs();
        let said = mask.as_ref().map_or(kept, |mask| mask[at] == 1.0);
        said == kept && (kept || y[at] == 0.0)
    };
    (0..y.len()).find(|&at| !fits(at)).map(|at| format!("at {at}: {} became {}", x[at], y[at]))
}

fn flat(data: Vec<(String, Data)>) -> Vec<Tensor> {
    let tensors = data.into_iter().flat_map(|(_, data)| match data {
        Data::Tensors(tensors) => tensors,
        Data::Nothing => Vec::new(),
    });
    tensors.map(|(_, tensor)| tensor).collect()
}

fn outputs(model: &Model, inputs: &[(String, Data)]) -> gradc::Result<Vec<Tensor>> {
    let mut compile = Compile::new(model).forward_only();
    let mut given = Vec::new();
    for (name, data) in inputs {
        match data {
            Data::Tensors(tensors) => given.extend(tensors),
            Data::Nothing => compile = compile.empty_input(name),
        }
    }
    for (name, (value, _)) in &given {
        compile = compile.input_hint(name, value.clone());
    }
    let compiled = compile.build()?;
    let mut session = compiled.session();
    for (name, (value, _)) in &given {
        if compiled.inputs().iter().any(|input| input.name == *name) {
            session.set_literal(name, value)?;
        }
    }
    session.run()?;
    let outputs = compiled.outputs().iter();
    outputs.map(|output| Ok((session.output_literal(&output.name)?, compiled.code(&output.name)))).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What is different, where something is.
fn difference((got, code): &Tensor, (wanted, wanted_code): &Tensor, absolute: f64) -> Option<String> {
    if code != wanted_code {
        return Some(format!("holds codes of {code:?}, expected {wanted_code:?}"));
    }
    if got.ty() != wanted.ty() {
        return Some(format!("is {}, expected {}", got.ty(), wanted.ty()));
    }
    let close = |got: f64, wanted: f64| {
        got == wanted
            || got.is_nan() && wanted.is_nan()
            || (got - wanted).abs() <= absolute + RELATIVE * wanted.abs()
    };
    let (got, wanted) = (got.to_f64(), wanted.to_f64());
    let first = got.iter().zip(&wanted).position(|(got, wanted)| !close(*got, *wanted))?;
    Some(format!("differs at {first}: {}, expected {}", got[first], wanted[first]))
}
