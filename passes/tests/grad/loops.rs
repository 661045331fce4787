//! Loops: against differences, against the unrolled loop, and how much work is left after merging.

use crate::harness::*;
use gradc_ir::{Builder, DType, Expr, Graph, Literal, Op, ScanOp, Shape, TensorType, Value, eval, inline};
use gradc_passes::{Gradient, merge_scans, vjp};
use std::sync::Arc;

fn f64s(shape: &[usize]) -> TensorType {
    TensorType::new(DType::F64, shape)
}

/// The body of a loop over inputs of these types.
fn body(
    types: &[TensorType],
    step: &dyn for<'b> Fn(&'b Builder, &[Expr<'b>]) -> Vec<Expr<'b>>,
) -> Arc<Graph> {
    let builder = Builder::new("step");
    let inputs: Vec<Value> = types.iter().map(|ty| builder.input("x", ty.clone())).collect();
    let inputs: Vec<Expr> = inputs.into_iter().map(|value| builder.expr(value)).collect();
    let outputs: Vec<Value> = step(&builder, &inputs).iter().map(|output| output.value()).collect();
    Arc::new(builder.finish(&outputs))
}

fn scan<'b>(op: &ScanOp, operands: &[Expr<'b>]) -> Expr<'b> {
    let values: Vec<Value> = operands.iter().map(|operand| operand.value()).collect();
    operands[0].builder().build(Op::Scan(op.clone()), &values)
}

/// The loop, step by step: final carries, then stacked outputs.
fn unrolled<'b>(op: &ScanOp, operands: &[Expr<'b>]) -> Vec<Expr<'b>> {
    let builder = operands[0].builder();
    let (constants, rest) = operands.split_at(op.constants);
    let (carries, sequences) = rest.split_at(op.carries);
    let mut carries = carries.to_vec();
    let outputs = op.body.outputs().len() - op.carries;
    let mut slices: Vec<Vec<Expr<'b>>> = vec![Vec::new(); outputs];
    for step in 0..op.trip {
        let position = if op.reverse { op.trip - 1 - step } else { step };
        let taken = sequences.iter().map(|sequence| {
            let shape = sequence.shape();
            sequence.slice_axis(0, position, position + 1).reshape(&Shape::new(&shape[1..]))
        });
        let arguments: Vec<Value> =
            constants.iter().chain(&carries).copied().chain(taken).map(|x| x.value()).collect();
        let mut results: Vec<Expr<'b>> =
            inline(builder, &op.body, &arguments).into_iter().map(|value| builder.expr(value)).collect();
        for (slices, slice) in slices.iter_mut().zip(results.split_off(op.carries)) {
            slices.push(slice.insert_axis(0));
        }
        carries = results;
    }
    let stacked = slices.into_iter().map(|mut slices| {
        if op.reverse {
            slices.reverse();
        }
        builder.concat(0, &slices)
    });
    carries.into_iter().chain(stacked).collect()
}

/// A recurrent cell: constants W[3,3], U[2,3], b[3]; carry h[3]; sequence x[t,2]; stacked h and something of its own.
fn recurrent(trip: usize, reverse: bool) -> ScanOp {
    let types = [f64s(&[3, 3]), f64s(&[2, 3]), f64s(&[3]), f64s(&[3]), f64s(&[2])];
    let body = body(&types, &|_, x| {
        let row = |x: Expr<'_>| x.insert_axis(0).value();
        let builder = x[0].builder();
        let product = |v: Expr<'_>, m: Expr<'_>| {
            builder.expr(row(v)).matmul(builder.expr(m.value())).reshape(&Shape::from([3])).value()
        };
        let sum = builder.expr(product(x[3], x[0])) + builder.expr(product(x[4], x[1])) + x[2];
        let next = sum.tanh();
        vec![next, next, (next * x[3]).sum(&[0]) + x[4].exp().sum(&[0])]
    });
    ScanOp { body, trip, constants: 3, carries: 1, reverse }
}

fn recurrent_inputs(trip: usize) -> Vec<Literal> {
    let mut r = Random::new(trip as u64 + 77);
    let mut t = |shape: &[usize]| r.tensor(shape, -0.8, 0.8);
    vec![t(&[3, 3]), t(&[2, 3]), t(&[3]), t(&[3]), t(&[trip, 2])]
}

fn everything<'b>(parts: &[Expr<'b>]) -> Expr<'b> {
    let total = parts.iter().enumerate().map(|(i, part)| (part.sin() * (i as f64 + 0.7)).sum_all());
    total.reduce(|a, b| a + b).unwrap()
}

fn parts<'b>(op: &ScanOp, operands: &[Expr<'b>]) -> Vec<Expr<'b>> {
    let tuple = scan(op, operands);
    (0..op.body.outputs().len()).map(|part| tuple.project(part)).collect()
}

#[test]
pub fn recurrent_cells() {
    let mut checks = 0;
    for (trip, reverse) in [(0, false), (1, false), (4, false), (5, true)] {
        let op = recurrent(trip, reverse);
        let inputs = recurrent_inputs(trip);
        checks += check("all parts", &inputs, &|_, x| everything(&parts(&op, x)));
        checks += check("final carry", &inputs, &|_, x| parts(&op, x)[0]);
        checks += check("stacked carries", &inputs, &|_, x| parts(&op, x)[1]);
        checks += check("stacked sums", &inputs, &|_, x| parts(&op, x)[2]);
        // The same operand as carry, bias and more.
        checks += check("shared operands", &inputs, &|_, x| {
            everything(&parts(&op, &[x[0], x[1], x[2], x[2], x[4]])) * x[2].sum(&[0]) + x[3].sum(&[0])
        });
    }
    eprintln!("recurrent cells: {checks} comparisons");
}

#[test]
pub fn equals_the_unrolled_loop() {
    for reverse in [false, true] {
        let op = recurrent(4, reverse);
        let inputs = recurrent_inputs(4);
        let looped = gradient(&inputs, &|_, x| everything(&parts(&op, x)));
        let straight = gradient(&inputs, &|_, x| everything(&unrolled(&op, x)));
        for (a, b) in looped.iter().flatten().zip(straight.iter().flatten()) {
            assert!((a - b).abs() < 1e-13 * b.abs().max(1.0), "{a} {b}");
        }
    }
}

/// Carries that need no cotangent (a counter, a running maximum as an integer), one that is replaced in each step, one
/// that is handed on, and outputs that are inputs.
#[test]
pub fn unusual_carries() {
    let types = [f64s(&[2]), TensorType::scalar(DType::I64), f64s(&[2]), f64s(&[2]), f64s(&[2]), f64s(&[2])];
    let body = body(&types, &|builder, x| {
        let (constant, counter, replaced, kept, product, slice) = (x[0], x[1], x[2], x[3], x[4], x[5]);
        let one = builder.constant(Literal::scalar(1i64));
        let weight = counter.cast(DType::F64).broadcast(&Shape::from([2]), &[]) + 1.0;
        let next = product * slice * weight + replaced * constant;
        vec![counter + one, slice * 2.0, kept, next, kept, slice, product, constant.sin() * slice]
    });
    let op = ScanOp { body, trip: 3, constants: 1, carries: 4, reverse: false };
    let inputs = [random(&[2]), random(&[2]), random(&[2]), random(&[2]), random(&[3, 2])];
    let mut checks = 0;
    for part in [1, 2, 3, 4, 5, 6, 7] {
        checks += check(&format!("part {part}"), &inputs, &|builder, x| {
            let counter = builder.constant(Literal::scalar(0i64));
            // Every input takes part, so that every gradient exists.
            let all = (x[0] + x[1] + x[2] + x[3]) * 0.1 + x[4].sum(&[0]);
            let y = scan(&op, &[x[0], counter, x[1], x[2], x[3], x[4]]).project(part);
            y * y.splat(1.3) + if y.rank() == 1 { all } else { all.broadcast(&y.shape(), &[1]) }
        });
    }
    eprintln!("unusual carries: {checks} comparisons");
}

/// A loop in a loop: the inner one starts from the outer carry and uses an outer constant.
#[test]
pub fn nested_loops() {
    let inner_body = body(&[f64s(&[2]), f64s(&[2]), f64s(&[])], &|_, x| {
        let next = (x[1] * x[0]).sin() + x[2].broadcast(&Shape::from([2]), &[]);
        vec![next, (next * x[1]).sum(&[0])]
    });
    let inner = ScanOp { body: inner_body, trip: 2, constants: 1, carries: 1, reverse: false };
    let outer_body = body(&[f64s(&[2]), f64s(&[2]), f64s(&[2])], &|_, x| {
        let tuple = scan(&inner, &[x[0].exp(), x[1], x[2]]);
        vec![tuple.project(0) * 0.9, tuple.project(1).exp()]
    });
    let outer = ScanOp { body: outer_body, trip: 3, constants: 1, carries: 1, reverse: true };
    let mut r = Random::new(4);
    let inputs = [r.tensor(&[2], -0.5, 0.5), r.tensor(&[2], -0.5, 0.5), r.tensor(&[3, 2], -0.5, 0.5)];
    let checks = check("nested", &inputs, &|_, x| everything(&parts(&outer, x)));
    let straight = gradient(&inputs, &|_, x| everything(&unrolled(&outer, x)));
    let looped = gradient(&inputs, &|_, x| everything(&parts(&outer, x)));
    for (a, b) in looped.iter().flatten().zip(straight.iter().flatten()) {
        assert!((a - b).abs() < 1e-13 * b.abs().max(1.0), "{a} {b}");
    }
    eprintln!("nested loops: {checks} comparisons");
}

fn count(graph: &Graph, wanted: &dyn Fn(&Op) -> bool) -> usize {
    let own = graph.iter().filter(|(_, node)| wanted(&node.op)).count();
    let bodies = graph.iter().filter_map(|(_, node)| match &node.op {
        Op::Scan(scan) => Some(count(&scan.body, wanted)),
        _ => None,
    });
    own + bodies.sum::<usize>()
}

/// Loss and gradients of a recurrent cell in one graph.
fn training(op: &ScanOp, inputs: &[Literal]) -> Graph {
    let builder = Builder::new("training");
    let tensors: Vec<Value> = inputs.iter().map(|x| builder.input("x", x.ty().clone())).collect();
    let x: Vec<Expr> = tensors.iter().map(|&value| builder.expr(value)).collect();
    let loss = everything(&parts(op, &x));
    let found = vjp(&builder, &[(loss.value(), loss.splat(1.0).value())], &tensors).unwrap();
    let mut outputs = vec![loss.value()];
    outputs.extend(values(&builder, &found));
    builder.finish(&outputs)
}

#[test]
pub fn the_forward_loop_runs_once() {
    let inputs = recurrent_inputs(4);
    let graph = training(&recurrent(4, false), &inputs);
    let merged = merge_scans(&graph);
    merged.check().unwrap();
    let scans = |op: &Op| matches!(op, Op::Scan(_));
    assert_eq!((count(&graph, &scans), count(&merged, &scans)), (3, 2));
    assert_eq!(eval(&graph, &inputs).unwrap(), eval(&merged, &inputs).unwrap());
    // The backward loop computes no hyperbolic tangent: what the forward has, it takes.
    assert_eq!(count(&merged, &|op| matches!(op, Op::Unary(gradc_ir::UnaryOp::Tanh))), 1);
    // Two products forward, two each for their gradients.
    assert_eq!(count(&merged, &|op| matches!(op, Op::Dot(_))), 6);
}

#[test]
pub fn merging_keeps_different_loops_apart() {
    let inputs = recurrent_inputs(4);
    let builder = Builder::new("different");
    let tensors: Vec<Value> = inputs.iter().map(|x| builder.input("x", x.ty().clone())).collect();
    let x: Vec<Expr> = tensors.iter().map(|&value| builder.expr(value)).collect();
    let forward = parts(&recurrent(4, false), &x);
    let backward = parts(&recurrent(4, true), &x);
    let outputs = [forward[2].value(), backward[2].value()];
    let graph = builder.finish(&outputs);
    let merged = merge_scans(&graph);
    assert_eq!(count(&merged, &|op| matches!(op, Op::Scan(_))), 2);
    assert_eq!(eval(&graph, &inputs).unwrap(), eval(&merged, &inputs).unwrap());
    // The stacked carries that nothing uses are gone.
    let widths = merged.iter().filter(|(_, node)| node.is_tuple()).map(|(_, node)| node.types.len());
    assert_eq!(widths.collect::<Vec<_>>(), [2, 2]);
}

#[test]
pub fn loop_invariants_are_computed_before_the_loop() {
    let types = [f64s(&[2, 2]), f64s(&[2, 2])];
    let body = body(&types, &|_, x| vec![x[1].matmul(x[0].matmul(x[0])).sin()]);
    let op = ScanOp { body, trip: 3, constants: 1, carries: 1, reverse: false };
    let inputs = [random(&[2, 2]), random(&[2, 2])];
    let graph = merge_scans(&training(&op, &inputs));
    let outside = graph.iter().filter(|(_, node)| matches!(node.op, Op::Dot(_))).count();
    assert_eq!(outside, 1);
    check("invariant", &inputs, &|_, x| scan(&op, x).project(0));
}

#[test]
pub fn merging_keeps_different_carries_apart() {
    let step = |f: &dyn for<'b> Fn(Expr<'b>) -> Expr<'b>| {
        let body = body(&[f64s(&[2])], &|_, x| vec![f(x[0]), x[0] * 2.0]);
        ScanOp { body, trip: 3, constants: 0, carries: 1, reverse: false }
    };
    let builder = Builder::new("carries");
    let x = builder.expr(builder.input("x", f64s(&[2])));
    let loops = [step(&|x| x.sin()), step(&|x| x.cos()), step(&|x| x.sin())];
    let mut outputs: Vec<Value> = loops.iter().map(|op| scan(op, &[x]).project(1).value()).collect();
    outputs.push(scan(&loops[2], &[x]).project(0).value());
    let graph = builder.finish(&outputs);
    let merged = merge_scans(&graph);
    assert_eq!(eval(&graph, &[random(&[2])]).unwrap(), eval(&merged, &[random(&[2])]).unwrap());
}

/// The cotangent of a matrix used in every step is one product over all steps, where its factors are smaller than it.
#[test]
pub fn products_of_constants_are_formed_after_the_loop() {
    let types = [f64s(&[5, 5]), f64s(&[5, 3]), f64s(&[5]), f64s(&[2, 5]), f64s(&[2, 3])];
    let body = body(&types, &|_, x| {
        let bias = x[2].broadcast(&x[3].shape(), &[1]);
        // The first matrix is used twice, and once transposed; the second is too small to be worth it.
        let sum = x[3].matmul(x[0]) + x[4].matmul(x[1].transpose(&[1, 0])) + bias;
        vec![sum.tanh().matmul(x[0].transpose(&[1, 0])).sin()]
    });
    let op = ScanOp { body, trip: 3, constants: 3, carries: 1, reverse: false };
    let mut r = Random::new(8);
    let shapes: [&[usize]; 5] = [&[5, 5], &[5, 3], &[5], &[2, 5], &[3, 2, 3]];
    let inputs: Vec<Literal> = shapes.iter().map(|shape| r.tensor(shape, -0.7, 0.7)).collect();
    let mut checks = check("stacked", &inputs, &|_, x| everything(&parts(&op, x)));
    let graph = merge_scans(&training(&op, &inputs));
    let backward = graph.iter().filter_map(|(_, node)| match &node.op {
        Op::Scan(scan) if scan.reverse => Some(scan.carries),
        _ => None,
    });
    // The carry, the second matrix and the bias.
    assert_eq!(backward.collect::<Vec<_>>(), [3]);
    let looped = gradient(&inputs, &|_, x| everything(&parts(&op, x)));
    let straight = gradient(&inputs, &|_, x| everything(&unrolled(&op, x)));
    for (a, b) in looped.iter().flatten().zip(straight.iter().flatten()) {
        assert!((a - b).abs() < 1e-13 * b.abs().max(1.0), "{a} {b}");
        checks += 1;
    }
    eprintln!("products of constants: {checks} comparisons");
}

#[test]
pub fn an_initial_carry_that_the_first_step_replaces_has_no_path() {
    let answer = |trip: usize| {
        let body = body(&[f64s(&[]), f64s(&[])], &|_, x| vec![x[1].sin()]);
        let op = ScanOp { body, trip, constants: 0, carries: 1, reverse: false };
        let builder = Builder::new("replaced");
        let x =
            [builder.expr(builder.input("h", f64s(&[]))), builder.expr(builder.input("x", f64s(&[trip])))];
        let y = scan(&op, &x).project(0);
        let wrt = [x[0].value(), x[1].value()];
        let found = vjp(&builder, &[(y.value(), y.splat(1.0).value())], &wrt).unwrap();
        found.iter().map(|gradient| matches!(gradient, Gradient::Value(_))).collect::<Vec<_>>()
    };
    assert_eq!(answer(2), [false, true]);
    // Without steps the carry is handed on, and an empty sequence has a gradient without elements.
    assert_eq!(answer(0), [true, true]);
}

/// The gradient of a long chain takes time in proportion.
#[test]
pub fn long_chains() {
    let builder = Builder::new("chain");
    let x = builder.expr(builder.input("x", f64s(&[2])));
    let y = (0..20_000).fold(x, |y, i| (y * x + f64::from(i) * 1e-6).tanh());
    let found = vjp(&builder, &[(y.value(), y.splat(1.0).value())], &[x.value()]).unwrap();
    let found = values(&builder, &found);
    let graph = merge_scans(&builder.finish(&found));
    assert!(graph.len() > 100_000);
    assert!(eval(&graph, &[random(&[2])]).unwrap()[0].to_f64().iter().all(|x| x.is_finite()));
}
