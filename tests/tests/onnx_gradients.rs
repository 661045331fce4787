//! Gradient conformance: ONNX's own node tests, differentiated by compiled code and held against finite differences.
//!
//! `GRADC_ONNX_TESTS` names folders (separated by `:`) as for the test `onnx_nodes`; the one called `node` is used.
//! Without it nothing is tested, and that is said. `docs/gradient-conformance.md` says what the classes mean.
//!
//! `tests/conformance/gradient.txt` lists the tests that conform, with their class. Every test listed there must
//! conform in the same class, and every test that conforms must be listed: `GRADC_BLESS=1` adds to the list and changes
//! classes, but never takes a test from it.

use gradc_tests::gradients::{Class, Exchange, Gradient, Outcome, compare_twins, examine};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn onnx_gradients() {
    let folders = std::env::var("GRADC_ONNX_TESTS").unwrap_or_default();
    let folder = folders.split(':').map(Path::new).find(|folder| folder.ends_with("node"));
    let Some(folder) = folder else {
        eprintln!("skipped: GRADC_ONNX_TESTS does not name the folder of ONNX's node tests");
        return;
    };
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    let exchange = Exchange { cases: path("GRADC_GRADIENT_CASES"), answers: path("GRADC_GRADIENT_ANSWERS") };
    let filter = std::env::var("GRADC_ONNX_FILTER").unwrap_or_default();
    let mut outcomes = run_all(folder, &filter, &exchange);
    let pairs = compare_twins(&mut outcomes);
    report(&outcomes, pairs);
    if exchange.has_answers() || !filter.is_empty() {
        return;
    }
    let faults = compare_with_manifest(&outcomes);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn run_all(folder: &Path, filter: &str, exchange: &Exchange) -> BTreeMap<String, Outcome> {
    let mut tests: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of tests can be read")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| name(path).contains(filter) && path.join("model.onnx").is_file())
        .collect();
    tests.sort();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<String, Outcome>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let panicked =
                        || Outcome { class: Class::Failed("panicked".to_string()), gradients: Vec::new() };
                    let outcome = catch_unwind(AssertUnwindSafe(|| examine(path, exchange)))
                        .unwrap_or_else(|_| Some(panicked()));
                    if let Some(outcome) = outcome {
                        outcomes.lock().expect("no panic inside").insert(name(path), outcome);
                    }
                }
            });
        }
    });
    outcomes.into_inner().expect("no panic inside")
}

/// Prints the counts, and writes the list of what does not conform.
fn report(outcomes: &BTreeMap<String, Outcome>, pairs: usize) {
    let mut list = String::new();
    for (name, outcome) in outcomes {
        match &outcome.class {
            Class::Failed(why) => writeln!(list, "failed   {name}: {why}").expect("a string takes all"),
            Class::Refused(why) => writeln!(list, "refused  {name}: {why}").expect("a string takes all"),
            Class::Kink => {
                let place = |gradient: &Gradient| {
                    let elements: Vec<&usize> = gradient.kinks.keys().take(4).collect();
                    (!elements.is_empty()).then(|| format!("{}{elements:?}", gradient.name))
                };
                let places: Vec<String> = outcome.gradients.iter().filter_map(place).collect();
                writeln!(list, "kink     {name}: {}", places.join(" ")).expect("a string takes all");
            }
            Class::Passed | Class::Zero => {}
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-gradient.txt");
    std::fs::write(&path, list).expect("the list can be written");
    let count = |fits: fn(&Class) -> bool| outcomes.values().filter(|outcome| fits(&outcome.class)).count();
    eprintln!(
        "gradient: {} passed, {} failed, {} not differentiable, {} kinks, {} refused of {}; {pairs} expanded ones compared",
        count(|class| matches!(class, Class::Passed)),
        count(|class| matches!(class, Class::Failed(_))),
        count(|class| matches!(class, Class::Zero)),
        count(|class| matches!(class, Class::Kink)),
        count(|class| matches!(class, Class::Refused(_))),
        outcomes.len(),
    );
    eprintln!("those that failed, were refused or have kinks are listed in {}", path.display());
}

fn compare_with_manifest(outcomes: &BTreeMap<String, Outcome>) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/gradient.txt");
    let text = std::fs::read_to_string(&manifest).unwrap_or_default();
    let mut listed: BTreeMap<String, String> = (text.lines())
        .filter_map(|line| line.split_once(' '))
        .map(|(class, name)| (name.trim().to_string(), class.to_string()))
        .collect();
    let conforming: BTreeMap<&String, &str> = (outcomes.iter())
        .filter_map(|(name, outcome)| outcome.class.conforms().map(|class| (name, class)))
        .collect();
    let lost = listed.keys().filter(|name| !conforming.contains_key(name));
    let mut faults: Vec<String> =
        lost.map(|name| format!("gradient of {name} conformed once, not now")).collect();
    for (&name, &class) in &conforming {
        let before = listed.insert(name.clone(), class.to_string());
        if std::env::var_os("GRADC_BLESS").is_none() && before.as_deref() != Some(class) {
            let before = before.as_deref().unwrap_or("not listed");
            faults.push(format!("gradient of {name}: {class}, was {before}: bless the manifest"));
        }
    }
    if std::env::var_os("GRADC_BLESS").is_some() {
        let text: String = listed.iter().map(|(name, class)| format!("{class:<6} {name}\n")).collect();
        std::fs::write(&manifest, text).expect("the manifest can be written");
    }
    faults
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
