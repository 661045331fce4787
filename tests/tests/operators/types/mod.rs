//! Every element type that the table of operators claims, tried: each operator in each type that one of its inputs (or
//! what it makes) may have, compiled and run, and differentiated where it has a gradient.
//!
//! `tests/conformance/operator_types.txt` lists what holds, and may not shrink: `GRADC_BLESS=1` adds to it.

mod check;
mod manifest;
mod subject;
mod table;

use check::{Held, check};
use gradc_frontend_onnx::lower::{Coverage, Derivative, coverage};
use gradc_ir::DType;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use subject::Types;
use table::{Case, Signature, cases, signatures};

/// A variable of a version of an operator, and one of its types.
type Claim = (String, &'static str, DType);

struct Attempt<'t> {
    case: &'t Case,
    signature: &'t Signature,
    types: Types,
    varied: &'static str,
    row: &'static Coverage,
}

impl Attempt<'_> {
    fn claim(&self) -> Claim {
        (self.signature.full_name(), self.varied, self.types[self.varied])
    }
}

#[test]
fn every_type_that_is_claimed_runs() {
    let (cases, signatures) = (cases(), signatures());
    let mut faults = Vec::new();
    let mut attempts = Vec::new();
    let mut untried = BTreeSet::new();
    let filter = std::env::var("GRADC_OPERATOR").unwrap_or_default();
    for row in coverage().iter().filter(|row| row.is_supported()) {
        let own = |signature: &&Signature| (signature.domain, signature.name) == (row.domain, row.name);
        let own: Vec<&Signature> = signatures.iter().filter(own).collect();
        if own.is_empty() {
            faults.push(format!("{}: fixtures/operator_types.tsv does not say its types", row.name));
        }
        for signature in own.into_iter().filter(|signature| signature.full_name().contains(&filter)) {
            attempts.extend(attempts_of(&cases, signature, row, &mut faults, &mut untried));
        }
    }
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(Claim, Result<Held, String>)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(attempt) = attempts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = outcome(attempt);
                    outcomes.lock().expect("no panic inside").push((attempt.claim(), outcome));
                }
            });
        }
    });
    let mut held: BTreeMap<Claim, Held> = BTreeMap::new();
    let mut open: BTreeMap<Claim, String> = BTreeMap::new();
    for (claim, outcome) in outcomes.into_inner().expect("no panic inside") {
        match outcome {
            Ok(found) => {
                let best = held.entry(claim).or_insert(found);
                *best = found.max(*best);
            }
            Err(why) => {
                let least = open.entry(claim).or_insert_with(|| why.clone());
                if why < *least {
                    *least = why;
                }
            }
        }
    }
    open.extend(untried.into_iter().map(|claim| (claim, "cases.txt has no case of it".to_owned())));
    held.retain(|claim, _| !open.contains_key(claim));
    let gradients = held.values().filter(|held| **held == Held::Gradient).count();
    eprintln!("{} attempts, {} claims hold, {gradients} of them with gradients", attempts.len(), held.len());
    if filter.is_empty() {
        faults.extend(manifest::faults(&held, &open));
    } else {
        faults.extend(open.iter().map(|(claim, why)| format!("{}: {why}", manifest::shown(claim))));
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Each type of each variable, with the usual types of the others. What no case has is untried.
fn attempts_of<'t>(
    cases: &'t [Case],
    signature: &'t Signature,
    row: &'static Coverage,
    faults: &mut Vec<String>,
    untried: &mut BTreeSet<Claim>,
) -> Vec<Attempt<'t>> {
    let mut attempts = Vec::new();
    let mut missing: BTreeSet<Claim> = BTreeSet::new();
    for (variable, types) in &signature.variables {
        if signature.inputs.iter().any(|input| input.trim_end_matches('*') == *variable) {
            missing.extend(types.iter().map(|ty| (signature.full_name(), *variable, *ty)));
        }
    }
    let own: Vec<&Case> = cases.iter().filter(|case| case.is_of(signature)).collect();
    if !cases.iter().any(|case| (case.domain, case.name) == (signature.domain, signature.name)) {
        faults.push(format!("{}: cases.txt has no case of it", signature.full_name()));
        return attempts;
    }
    for case in own {
        let types = case.types(signature);
        let usual: Types = types.iter().filter_map(|(name, types)| Some((*name, *types.first()?))).collect();
        if usual.len() < types.len() {
            continue;
        }
        for (varied, own) in &types {
            for ty in own {
                let takes = |name: &str| name == *varied || case.tied && types[name].contains(ty);
                let types = usual
                    .iter()
                    .map(|(name, usual)| (*name, if takes(name) { *ty } else { *usual }))
                    .collect();
                let attempt = Attempt { case, signature, types, varied, row };
                missing.remove(&attempt.claim());
                attempts.push(attempt);
            }
        }
    }
    untried.extend(missing);
    attempts
}

fn outcome(attempt: &Attempt<'_>) -> Result<Held, String> {
    let Attempt { case, signature, types, varied, row } = attempt;
    let differentiable = row.derivative() != Derivative::Zero && row.derivative() != Derivative::None;
    let run = || check(case, signature, types, varied, differentiable);
    let caught = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("panicked".to_owned()));
    caught.map_err(|why| format!("{why} [{}]", case.line))
}
