//! Random graphs through each pass: the interpreter before equals the interpreter after, and the compiled code.

mod common;

use common::{difference_within, run_compiled, tolerances};
use gradc_ir::testing::{RandomOptions, random_graph};
use gradc_ir::{Graph, Literal, Op, eval};
use gradc_passes::{Fuse, Pass, Selection, by_name, names, pipeline, run_passes, simplify_counting};
use std::collections::BTreeMap;

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("GRADC_RANDOM_GRAPHS").ok().and_then(|count| count.parse().ok()) {
        Some(count) => 0..count,
        None => 0..200,
    }
}

fn options() -> RandomOptions {
    RandomOptions { operations: 24, fused: false, ..RandomOptions::default() }
}

fn interpreted(graph: &Graph, inputs: &[Literal]) -> Vec<Literal> {
    eval(graph, inputs).unwrap_or_else(|error| panic!("{error}\n{graph}"))
}

fn check(what: &str, got: &[Literal], expected: &[Literal], before: &Graph, after: &Graph) {
    if let Some(difference) = difference_within(got, expected, &tolerances(before)) {
        panic!("{what}: {difference}\nbefore:\n{before}\nafter:\n{after}");
    }
}

#[test]
fn fusing_keeps_the_meaning() {
    let mut fused = 0;
    for seed in seeds() {
        let (graph, inputs) = random_graph(seed, &options());
        let expected = interpreted(&graph, &inputs);
        let after = Fuse.run(&graph);
        after.check().unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}\n{after}"));
        fused += after.iter().filter(|(_, node)| matches!(node.op, Op::Fused(_))).count();
        let again = interpreted(&after, &inputs);
        check(&format!("seed {seed}, fused and interpreted"), &again, &expected, &graph, &after);
        for threads in [1, 2] {
            let compiled = run_compiled(&after, &inputs, threads);
            let what = format!("seed {seed}, fused and compiled, {threads} threads");
            check(&what, &compiled, &expected, &graph, &after);
        }
    }
    assert!(fused > 100, "the random graphs hold something to fuse: {fused}");
}

#[test]
fn each_pass_keeps_the_meaning() {
    for seed in seeds() {
        let (graph, inputs) = random_graph(seed, &options());
        let expected = interpreted(&graph, &inputs);
        for name in names() {
            let pass = by_name(name).expect("the names are those of passes");
            let after = pass.run(&graph);
            after.check().unwrap_or_else(|error| panic!("seed {seed}, {name}: {error}\n{graph}\n{after}"));
            let again = interpreted(&after, &inputs);
            check(&format!("seed {seed}, {name}"), &again, &expected, &graph, &after);
        }
    }
}

#[test]
fn pipelines_keep_the_meaning() {
    for seed in seeds() {
        let (graph, inputs) = random_graph(seed, &options());
        let expected = interpreted(&graph, &inputs);
        for level in 0..3 {
            let mut trail = String::new();
            let selection = Selection::default();
            let after = run_passes(graph.clone(), &pipeline(level), &selection, |report, after| {
                trail += report.name;
                let again = interpreted(after, &inputs);
                check(&format!("seed {seed}, level {level}, {trail}"), &again, &expected, &graph, after);
                trail += ", ";
            });
            let threads = 1 + (seed + level as u64) as usize % 2;
            let compiled = run_compiled(&after, &inputs, threads);
            let what = format!("seed {seed}, level {level}, compiled for {threads} threads");
            check(&what, &compiled, &expected, &graph, &after);
        }
    }
}

/// Simplification comes to an end, and ends where it has nothing to do.
#[test]
fn simplification_is_idempotent() {
    let mut total: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds() {
        let (graph, _) = random_graph(seed, &options());
        let (once, counts) = simplify_counting(&graph);
        let (twice, again) = simplify_counting(&once);
        assert!(again.is_empty(), "seed {seed}: {again:?} in a simplified graph\n{once}\n{twice}");
        assert_eq!(once, twice, "seed {seed}");
        counts.into_iter().for_each(|(name, count)| *total.entry(name).or_default() += count);
    }
    assert!(total.len() >= 20, "the random graphs hold something to simplify: {total:?}");
}
