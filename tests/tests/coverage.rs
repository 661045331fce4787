//! Every operator is compiled and compared with the interpreter, and every operator that carries a gradient is
//! differentiated and compared with differences: random graphs are drawn until each occurred often enough.

mod common;

use common::{difference, difference_within, run_compiled, tolerances};
use gradc_ir::testing::{Random, RandomOptions, operator_names, random_graph};
use gradc_ir::{Builder, DType, Graph, Literal, Mark, Op, TensorType, Value, eval, inline};
use gradc_passes::{Gradient, Selection, pipeline, run_passes, vjp};
use std::collections::{BTreeMap, BTreeSet};

/// In how many graphs each operator must occur.
const OFTEN: usize = 3;
/// How many graphs are drawn, at most.
const MOST_GRAPHS: u64 = 2000;

type Counts = BTreeMap<&'static str, usize>;

fn lacking(counts: &Counts, wanted: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    wanted.iter().copied().filter(|name| counts.get(name).copied().unwrap_or(0) < OFTEN).collect()
}

/// The operators of a graph and of the bodies in it.
fn operators(graph: &Graph, found: &mut BTreeSet<&'static str>) {
    for (_, node) in graph.iter() {
        found.insert(node.op.name());
        match &node.op {
            Op::Scan(scan) => operators(&scan.body, found),
            Op::Fused(fused) => operators(&fused.body, found),
            _ => {}
        }
    }
}

#[test]
fn every_operator_is_compiled() {
    let wanted = operator_names();
    let mut counts = Counts::new();
    for seed in 0..MOST_GRAPHS {
        let missing = lacking(&counts, &wanted);
        if missing.is_empty() {
            return;
        }
        let options = RandomOptions { operations: 24, ..RandomOptions::default() };
        let (graph, inputs) = random_graph(seed + 100_000, &options);
        let mut present = BTreeSet::new();
        operators(&graph, &mut present);
        if present.is_disjoint(&missing) {
            continue;
        }
        let expected = eval(&graph, &inputs).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        if let Some(difference) =
            difference_within(&run_compiled(&graph, &inputs, 2), &expected, &tolerances(&graph))
        {
            panic!("seed {seed}: {difference}\n{graph}");
        }
        present.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    }
    panic!("not compiled often enough: {:?}", lacking(&counts, &wanted));
}

/// Operators that carry no gradient: they have no operand of floats, or no result of floats, or exist to stop it.
const WITHOUT_GRADIENT: [&str; 21] = [
    "input",
    "constant",
    "iota",
    "bitcast",
    "stop_gradient",
    "not",
    "and",
    "or",
    "xor",
    "shl",
    "shr",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "arg_max",
    "arg_min",
    "arg_sort",
    "window_arg_max",
];

#[test]
fn every_operator_is_differentiated() {
    let mut wanted = operator_names();
    // Groups are fused after differentiation; differences are too coarse for conversions (see the test below), and see
    // the value of a surrogate, not the function that is differentiated in its place.
    ["fused", "cast", "surrogate"]
        .iter()
        .for_each(|name| assert!(wanted.remove(name), "{name} is no operator"));
    WITHOUT_GRADIENT.iter().for_each(|name| assert!(wanted.remove(name), "{name} is no operator"));
    let mut counts = Counts::new();
    for seed in 0..MOST_GRAPHS {
        let missing = lacking(&counts, &wanted);
        if missing.is_empty() {
            return;
        }
        let options = RandomOptions {
            dtypes: vec![DType::F64, DType::I64, DType::Bool],
            operations: 12,
            elements: 64,
            fused: false,
            accepts: |op| !matches!(op, Op::Mark(Mark::StopGradient | Mark::Surrogate)),
            ..RandomOptions::default()
        };
        let (graph, inputs) = random_graph(seed + 200_000, &options);
        let present = on_the_way(&graph);
        if present.is_disjoint(&missing) || !differentiate(seed, &graph, &inputs) {
            continue;
        }
        present.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    }
    panic!("not differentiated often enough: {:?}", lacking(&counts, &wanted));
}

#[test]
fn conversions_are_differentiated() {
    let builder = Builder::new("conversions");
    let x = builder.expr(builder.input("x", TensorType::new(DType::F64, [3])));
    let y = (x.cast(DType::F32) * 2.0).cast(DType::F64);
    let seed = builder.input("seed", y.ty());
    let found = vjp(&builder, &[(y.value(), seed)], &[x.value()]);
    let Ok([Gradient::Value(gradient)]) = found.as_deref() else { panic!("{found:?}") };
    let graph = builder.finish(&[*gradient]);
    let graph = run_passes(graph, &pipeline(2), &Selection::default(), |_, _| {});
    let inputs = [Literal::new([3], &[0.1, 0.2, 0.3]), Literal::new([3], &[1.0, -0.5, 0.25])];
    assert_eq!(run_compiled(&graph, &inputs, 1)[0].to_f64(), [2.0, -1.0, 0.5], "{graph}");
}

/// The operators of floats that lie between an input and an output.
fn on_the_way(graph: &Graph) -> BTreeSet<&'static str> {
    let mut from_input = vec![false; graph.len()];
    let mut found = BTreeSet::new();
    let mut to_output = vec![false; graph.len()];
    graph.outputs().iter().for_each(|output| to_output[output.index()] = true);
    let is_float = |value: Value| graph.node(value).types.iter().any(|ty| ty.dtype.is_float());
    for (value, node) in graph.iter() {
        let reached = node.operands.iter().any(|operand| from_input[operand.index()]);
        from_input[value.index()] = is_float(value) && (reached || matches!(node.op, Op::Input(_)));
    }
    for (value, node) in graph.iter().rev() {
        if !to_output[value.index()] || !is_float(value) {
            continue;
        }
        node.operands.iter().for_each(|operand| to_output[operand.index()] = true);
        if from_input[value.index()] {
            found.insert(node.op.name());
        }
    }
    found
}

/// Compares the gradient along a random direction with differences, and the optimized and compiled gradient with the
/// interpreted one. False where there is no gradient, or the function is not smooth there.
fn differentiate(seed: u64, graph: &Graph, inputs: &[Literal]) -> bool {
    let mut random = Random::new(seed);
    let is_float = |ty: &TensorType| ty.dtype.is_float();
    let builder = Builder::new("gradient");
    let arguments: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let outputs = inline(&builder, graph, &arguments);
    let mut all = inputs.to_vec();
    let mut seeds: Vec<(Value, Value)> = Vec::new();
    for output in outputs.into_iter().filter(|&output| is_float(&builder.ty(output))) {
        let ty = builder.ty(output);
        all.push(common::random_literal(&ty, &mut random, [0.5, 1.5]));
        seeds.push((output, builder.input("weight", ty)));
    }
    let wrt: Vec<Value> =
        arguments.iter().copied().filter(|&argument| is_float(&builder.ty(argument))).collect();
    let found = vjp(&builder, &seeds, &wrt).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}"));
    let zeros = |value: Value| builder.splat(&builder.ty(value), 0.0).value();
    let gradients: Vec<Value> = (found.into_iter().zip(&wrt))
        .map(|(gradient, &wrt)| match gradient {
            Gradient::Value(value) | Gradient::Zero { value, .. } => value,
            Gradient::NoPath { .. } => zeros(wrt),
        })
        .collect();
    let gradient = builder.finish(&gradients);
    let values = eval(&gradient, &all).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{gradient}"));

    let direction: Vec<Vec<f64>> = values
        .iter()
        .map(|value| value.to_f64().iter().map(|_| random.unit() * 2.0 - 1.0).collect())
        .collect();
    let weights = &all[inputs.len()..];
    let at = |scale: f64| -> f64 {
        let mut directions = direction.iter();
        let moved = inputs.iter().map(|input| match input.dtype().is_float() {
            false => input.clone(),
            true => {
                let steps = directions.next().into_iter().flatten();
                let sums: Vec<f64> =
                    input.to_f64().into_iter().zip(steps).map(|(x, d)| x + scale * d).collect();
                Literal::new(input.shape().clone(), &sums)
            }
        });
        let outputs =
            eval(graph, &moved.collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        let floats = outputs.iter().filter(|output| output.dtype().is_float());
        let weighted = |(output, weight): (&Literal, &Literal)| -> f64 {
            output.to_f64().iter().zip(weight.to_f64()).map(|(y, w)| y * w).sum()
        };
        floats.zip(weights).map(weighted).sum()
    };
    let step = 1e-6;
    let (here, above, below, near) = (at(0.0), at(step), at(-step), at(step / 2.0));
    // Closer than what is asked for below, so that no kink passes for a wrong gradient.
    let agree = |a: f64, b: f64| (a - b).abs() <= 1e-5 * (1.0 + a.abs());
    let slope = (above - here) / step;
    // A kink has two slopes; a jump has another with each distance.
    if !agree(slope, (here - below) / step) || !agree(slope, (near - here) / (step / 2.0)) {
        return false;
    }
    let expected = (above - below) / (2.0 * step);
    let got: f64 = values
        .iter()
        .zip(&direction)
        .flat_map(|(g, d)| g.to_f64().into_iter().zip(d))
        .map(|(g, d)| g * d)
        .sum();
    let tolerance = 1e-5 * (1.0 + got.abs() + here.abs());
    assert!((got - expected).abs() < tolerance, "seed {seed}: {got}, differences say {expected}\n{graph}");

    let optimized = run_passes(gradient, &pipeline(2), &Selection::default(), |_, _| {});
    if let Some(difference) = difference(&run_compiled(&optimized, &all, 2), &values) {
        panic!("seed {seed}, optimized and compiled: {difference}\n{graph}\n{optimized}");
    }
    true
}
