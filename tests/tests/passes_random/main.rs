//! Random graphs against each other: interpreted and compiled, before and after each pass, on any number of threads,
//! gradients and differences.
//!
//! The graphs of a thousand seeds are drawn, the same on every run. As compiling takes the time, each is compiled in some
//! of the ways, by turns. `GRADC_RANDOM_GRAPHS=50000` draws as many seeds, of two graphs each, and compiles those of every tenth
//! in all ways: `GRADC_RANDOM_GRAPHS=50000 cargo test --release -p gradc-tests --test passes_random -- --nocapture`.
//! `GRADC_RANDOM_FIRST=5000` begins there. With `GRADC_BLESS=1` the figures are written to
//! `tests/conformance/random_graphs.txt`.
//!
//! A graph that fails is shrunk while it fails in the same way; what is left is written as a `.gir` file under the
//! target folder, and the failure says where.

#[path = "../common/mod.rs"]
mod common;
mod gradient;
mod properties;
mod resize;
mod shrink;

use gradc_codegen::lower;
use gradc_codegen::program::Step;
use gradc_ir::testing::{RandomOptions, random_graph};
use gradc_ir::{DType, Graph, Literal, Mark, Node, Op, eval};
use gradc_passes::{Selection, pipeline, run_passes};
use gradient::Tally;
use properties::Property;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const USUAL: u64 = 1000;
/// After so many faults no more are looked for.
const MOST_FAULTS: usize = 8;
/// Threads of this name panic silently: what they say is part of the report.
const WORKER: &str = "random graphs";

/// A graph, what goes in, and what comes out by its meaning.
#[derive(Clone)]
struct Case {
    seed: u64,
    graph: Graph,
    inputs: Vec<Literal>,
    expected: Vec<Literal>,
}

impl Case {
    /// `None` where the graph has no value for these inputs.
    fn new(seed: u64, graph: Graph, inputs: Vec<Literal>) -> Option<Case> {
        let expected = eval(&graph, &inputs).ok()?;
        Some(Case { seed, graph, inputs, expected })
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The graphs of a seed, with what must hold of each.
fn cases(seed: u64) -> Vec<(Case, Vec<Property>)> {
    let mut found = Vec::new();
    let usual = RandomOptions { operations: 24, fused: seed % 8 == 5, ..RandomOptions::default() };
    let options = match seed % 8 {
        // Sizes at which kernels work in tiles and on several threads.
        3 => RandomOptions { operations: 10, rank: 3, length: 23, elements: 6000, ..usual },
        6 => RandomOptions { operations: 12, length: 11, elements: 700, products: true, ..usual },
        _ => usual,
    };
    let mut add = |options: &RandomOptions, properties: Vec<Property>| {
        let (graph, inputs) = random_graph(seed, options);
        let case = Case::new(seed, graph, inputs);
        let case = case.unwrap_or_else(|| panic!("seed {seed}: the generator keeps indices in range"));
        found.push((case, properties));
    };
    let thorough = number("GRADC_RANDOM_GRAPHS").is_some() && seed.is_multiple_of(10);
    add(&options, properties::of_any_graph(seed, thorough));
    let smooth = RandomOptions {
        dtypes: vec![DType::F64, DType::I64, DType::Bool],
        fused: false,
        operations: 12,
        elements: 64,
        accepts: |op| !matches!(op, Op::Mark(Mark::StopGradient | Mark::Surrogate)),
        ..RandomOptions::default()
    };
    add(&smooth, vec![Property::Differences, Property::Adjoint, Property::CompiledGradient]);
    found
}

/// What a fault is, for a person: the shortest graph that shows it, as a file.
fn report(property: &Property, case: &Case, tally: &Tally) -> String {
    let first = property.check(case, tally).err().unwrap_or_default();
    let panics = |message: &str| message.starts_with("panics");
    // A graph that shrinking made wrong may panic where the fault was another.
    let fails = |candidate: &Case| {
        let failed = property.check(candidate, &Tally::default()).err();
        failed.is_some_and(|message| panics(&message) == panics(&first))
    };
    let small = shrink::shrink(case.clone(), &fails);
    let message = property.check(&small, tally).err().unwrap_or(first);
    let path = folder().join(format!("{}-{}.gir", property.slug(), case.seed));
    let text = shrink::text(&small, &format!("{property}, seed {}", case.seed), &message);
    let written = std::fs::create_dir_all(folder()).and_then(|()| std::fs::write(&path, &text));
    let place = match written {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("not written: {error}"),
    };
    format!("seed {}, {property}: {place}\n{text}", case.seed)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("random_graphs")
}

/// Threads that are expected to panic do so silently.
fn quiet_workers() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(WORKER) {
            usual(panic);
        }
    }));
}

#[test]
fn random_graphs_keep_their_meaning() {
    let count = number("GRADC_RANDOM_GRAPHS").unwrap_or(USUAL);
    let first = number("GRADC_RANDOM_FIRST").unwrap_or(0);
    quiet_workers();
    let (next, stopped) = (AtomicU64::new(first), AtomicBool::new(false));
    let (tally, faults) = (Tally::default(), Mutex::new(BTreeMap::new()));
    let start = Instant::now();
    let work = || {
        while !stopped.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            if seed > first && (seed - first).is_multiple_of(1000) {
                eprintln!("{} seeds, {:.0} s", seed - first, start.elapsed().as_secs_f64());
            }
            for (case, properties) in cases(seed) {
                tally.graphs.fetch_add(1, Ordering::Relaxed);
                let Some(broken) = properties.iter().find(|property| property.check(&case, &tally).is_err())
                else {
                    continue;
                };
                let report = report(broken, &case, &tally);
                let mut faults = faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                faults.insert((seed, broken.slug()), report);
                stopped.fetch_or(faults.len() >= MOST_FAULTS, Ordering::Relaxed);
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, |workers| workers.get().min(8));
    std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().name(WORKER.into()).spawn_scoped(scope, work);
        (0..workers).map(spawn).for_each(|spawned| assert!(spawned.is_ok(), "a thread can be started"));
    });
    let seconds = start.elapsed().as_secs_f64();
    let faults = faults.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let figures = tally.figures(count, faults.len());
    eprintln!("{figures}{:.1} graphs a second", tally.graphs.into_inner() as f64 / seconds);
    let reports: Vec<String> = faults.into_values().collect();
    assert!(reports.is_empty(), "{} graphs are at fault\n{}", reports.len(), reports.join("\n"));
    let (smooth, kinks) = (tally.smooth.into_inner(), tally.kinks.into_inner());
    assert!(smooth > 3 * kinks, "most directions are smooth: {smooth}, not {kinks}");
    if std::env::var_os("GRADC_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/random_graphs.txt");
        std::fs::write(&path, figures).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Whatever is fused with a product is computed by the product's kernel.
#[test]
fn products_do_the_work_on_their_results() {
    let (mut groups, mut epilogues) = (0, 0);
    for seed in 0..100 {
        let floats = vec![DType::F32, DType::F64, DType::Bool];
        let options = RandomOptions {
            dtypes: floats,
            loops: false,
            fused: false,
            products: true,
            ..Default::default()
        };
        let (graph, _) = random_graph(seed, &options);
        let graph = run_passes(graph, &pipeline(2), &Selection::default(), |_, _| {});
        let is_product = |node: &Node| matches!(node.op, Op::Dot(_) | Op::Conv(_));
        let holds_product = |node: &Node| match &node.op {
            Op::Fused(fused) => fused.body.iter().any(|(_, node)| is_product(node)),
            _ => false,
        };
        groups += graph.iter().filter(|(_, node)| holds_product(node)).count();
        let program = lower(&graph, 2).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}"));
        let has_epilogue = |step: &&Step| match step {
            Step::Gemm { epilogue, bias, .. } => epilogue.is_some() || bias.is_some(),
            Step::Conv { epilogue, .. } => epilogue.is_some(),
            _ => false,
        };
        epilogues += program.steps.iter().filter(has_epilogue).count();
    }
    assert!(groups > 50 && groups == epilogues, "{groups} groups with a product, {epilogues} epilogues");
}

/// The shrinker finds the node that a fault needs, and nothing around it.
#[test]
fn what_fails_is_shrunk() {
    let (mut tried, mut nodes) = (0, 0);
    for seed in 0..60 {
        let (graph, inputs) = random_graph(seed, &RandomOptions { fused: false, ..RandomOptions::default() });
        let fails = |case: &Case| {
            case.graph.iter().any(|(_, node)| matches!(node.op, Op::Dot(_) | Op::Gather { .. }))
        };
        let Some(case) = Case::new(seed, graph, inputs).filter(fails) else { continue };
        let small = shrink::shrink(case, &fails);
        assert!(fails(&small), "seed {seed}");
        small.graph.check().unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", small.graph));
        assert!(small.graph.len() <= 3, "seed {seed}: a node and its operands are enough\n{}", small.graph);
        let lengths = small.graph.iter().map(|(_, node)| node.ty().shape.elements()).max();
        assert!(lengths <= Some(8), "seed {seed}: short axes are enough\n{}", small.graph);
        (tried, nodes) = (tried + 1, nodes + small.graph.len());
    }
    assert!(tried >= 20 && nodes <= 3 * tried, "{tried} {nodes}");
}
