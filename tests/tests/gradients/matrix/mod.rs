//! Every operator of the IR in every float type at many samples: compiled first and second derivatives against central
//! differences, against each other, against the interpreter, and those of small floats against those of f64.
//!
//! A test run takes one part of the samples, another for each operator. All of them, and the figure that
//! `docs/conformance.md` shows:
//!
//! ```text
//! GRADC_GRADCHECKS=all GRADC_BLESS=1 cargo test --release -p gradc-tests --test gradients matrix -- --nocapture
//! ```

mod check;
mod elementwise;
mod movement;
mod products;
mod reductions;
mod sample;

use gradc_ir::DType;
use gradc_ir::testing::operator_names;
use sample::{Family, Sample};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];
/// How many samples every operator has, at least.
const FEWEST: usize = 26;
/// In a usual run, one of so many samples is taken.
const PART: usize = 12;

fn families() -> Vec<Family> {
    let mut all = elementwise::families();
    all.extend(reductions::families());
    all.extend(movement::families());
    all.extend(products::families());
    all
}

#[test]
fn matrix_has_every_operator_and_enough_samples() {
    let families = families();
    let named: BTreeSet<&str> = families.iter().map(|family| family.operator).collect();
    assert_eq!(named.len(), families.len(), "an operator has two families");
    assert_eq!(named, operator_names(), "the operators of the IR");
    for Family { operator, samples } in &families {
        assert!(samples.len() >= FEWEST, "{operator} has {} samples", samples.len());
        let labels: BTreeSet<&str> = samples.iter().map(|sample| sample.label.as_str()).collect();
        assert_eq!(labels.len(), samples.len(), "{operator}: two samples have one label");
    }
}

#[derive(Default)]
struct Outcome {
    operators: usize,
    samples: usize,
    checks: usize,
    failures: Vec<String>,
}

/// The families whose number leaves this remainder.
fn run(everything: bool, [remainder, divisor]: [usize; 2], only: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for (number, Family { operator, samples }) in families().into_iter().enumerate() {
        if number % divisor != remainder || !only.is_empty() && operator != only {
            continue;
        }
        outcome.operators += 1;
        for (index, sample) in samples.iter().enumerate() {
            let small = |dtype: &DType| everything || index % (2 * PART) == number % PART || dtype.size() > 2;
            if !everything && index % PART != number % PART {
                continue;
            }
            outcome.samples += 1;
            for dtype in DTYPES.into_iter().filter(small) {
                let label = || format!("{operator}, {dtype}, {}", sample.label);
                match catch_unwind(AssertUnwindSafe(|| check::check(operator, sample, dtype, everything))) {
                    Ok(Ok(checks)) => outcome.checks += checks,
                    Ok(Err(message)) => outcome.failures.push(format!("{}: {message}", label())),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                        outcome.failures.push(format!("{}: {}", label(), text.unwrap_or_default()));
                    }
                }
            }
        }
    }
    outcome
}

#[test]
fn matrix_of_operators_types_and_samples() {
    let asked = std::env::var("GRADC_GRADCHECKS").unwrap_or_default();
    let everything = !asked.is_empty();
    let only = if asked == "all" { "" } else { &asked };
    let threads = if everything { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(everything, [thread, threads], only)))
            .collect();
        started.into_iter().map(|thread| thread.join().expect("failures are caught")).collect()
    });
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let (operators, samples) = (sum(|one| one.operators), sum(|one| one.samples));
    let failures: Vec<&String> = outcomes.iter().flat_map(|one| &one.failures).collect();
    let line = format!(
        "{operators} operators x {} types x {} samples each, {samples} in all: {} checks passed",
        DTYPES.len(),
        samples / operators.max(1),
        sum(|one| one.checks),
    );
    eprintln!("{line}");
    let some: Vec<&str> =
        failures.iter().take(60).map(|failure| &failure[..failure.len().min(900)]).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), some.join("\n"));
    if asked == "all" && std::env::var_os("GRADC_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/gradchecks.txt");
        std::fs::write(&path, line + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What a check compares can differ: the gradient of another function is refused.
#[test]
fn matrix_refuses_what_is_wrong() {
    let kink = sample::sample("a kink", vec![sample::operand(&[2], [-1e-9, 1e-9])], |_, x| x[0].abs());
    let told = check::check("abs", &Sample { step: 1e-3, ..kink }, DType::F64, false);
    assert!(told.is_err_and(|message| message.contains("differences")));
    let none = sample::sample("another operator", vec![sample::operand(&[2], [0.5, 1.0])], |_, x| x[0].sin());
    assert!(check::check("cos", &none, DType::F64, false).is_err());
}
