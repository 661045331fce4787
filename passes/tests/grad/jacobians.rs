//! Whole Jacobians against central differences, in both modes.

use crate::harness::*;
use gradc_ir::{Builder, CumulativeOp, DType, Expr, Graph, Literal, Op, Shape, TensorType, Value, eval};
use gradc_passes::{GradError, Gradient, jacobian, merge_scans};

/// The function and its Jacobians.
fn derived(inputs: &[Literal], build: Build) -> Graph {
    let builder = Builder::new("jacobians");
    let x: Vec<Expr> = inputs.iter().map(|x| builder.expr(builder.input("x", x.ty().clone()))).collect();
    let y = build(&builder, &x);
    let wrt: Vec<Value> = x.iter().map(|x| x.value()).collect();
    let found = values(&builder, &jacobian(&builder, y.value(), &wrt).unwrap());
    let outputs = [&[y.value()], &found[..]].concat();
    merge_scans(&builder.finish(&outputs))
}

/// Compares every element with a central difference. `trips` are the loops' numbers of rounds.
fn check(name: &str, inputs: &[Literal], build: Build, trips: &[usize]) {
    let graph = derived(inputs, build);
    graph.check().unwrap();
    let loops = graph.iter().filter_map(|(_, node)| match &node.op {
        Op::Scan(scan) if scan.body.name() == "jacobian" => Some(scan.trip),
        _ => None,
    });
    assert_eq!(loops.collect::<Vec<_>>(), trips, "{name}\n{graph}");
    let results = eval(&graph, inputs).unwrap();
    let rows = results[0].shape().elements();
    for (position, input) in inputs.iter().enumerate() {
        let found = &results[1 + position];
        let shape: Vec<usize> = results[0].shape().iter().chain(input.shape().iter()).copied().collect();
        assert_eq!(found.shape(), &Shape::new(&shape), "{name}");
        let (found, columns) = (found.to_f64(), input.shape().elements());
        for column in 0..columns {
            let at = |step: f64| {
                let mut moved = inputs.to_vec();
                let mut elements = input.to_f64();
                elements[column] += step;
                moved[position] = Literal::new(input.shape().clone(), &elements);
                eval(&graph, &moved).unwrap()[0].to_f64()
            };
            let (above, below) = (at(1e-6), at(-1e-6));
            for row in 0..rows {
                let (wanted, got) = ((above[row] - below[row]) / 2e-6, found[row * columns + column]);
                let close = (got - wanted).abs() < 1e-6 + 1e-5 * wanted.abs();
                assert!(close, "{name}: {got} for {wanted} at {row}, {column} of input {position}");
            }
        }
    }
}

#[test]
fn few_outputs_take_cotangents() {
    check("sums", &[random(&[3, 4])], &|_, x| (x[0].sin() * x[0]).sum(&[1]), &[3]);
    let weights = random(&[4, 2]);
    check(
        "layer",
        &[random(&[1, 4]), random(&[3])],
        &|builder, x| {
            let wide = x[0].matmul(builder.constant(weights.clone())).tanh();
            wide * x[1].sum(&[0]).broadcast(&Shape::new(&[1, 2]), &[])
        },
        &[2],
    );
    check(
        "softmax",
        &[random(&[5])],
        &|builder, x| builder.build(Op::Softmax { axis: 0 }, &[x[0].value()]),
        &[5],
    );
}

#[test]
fn few_inputs_take_tangents() {
    let weights = random(&[2, 6]);
    check(
        "layer",
        &[random(&[1, 2])],
        &|builder, x| x[0].matmul(builder.constant(weights.clone())).tanh(),
        &[2],
    );
    check(
        "two inputs",
        &[random(&[2]), random(&[3])],
        &|_, x| {
            let wide = Shape::new(&[2, 3]);
            x[0].broadcast(&wide, &[0]).sin() * x[1].broadcast(&wide, &[1]).exp()
        },
        &[2, 3],
    );
}

#[test]
fn loops_within() {
    let product = |builder: &Builder, x: Value| {
        let op = Op::Cumulative { op: CumulativeOp::Prod, axis: 0, exclusive: false, reverse: false };
        builder.build(op, &[x]).value()
    };
    check(
        "running product",
        &[random(&[4])],
        &|builder, x| builder.expr(product(builder, x[0].value())),
        &[4],
    );
    check(
        "more results",
        &[random(&[3])],
        &|builder, x| {
            let wide = x[0].broadcast(&Shape::new(&[2, 3]), &[1]).sin().reshape(&Shape::new(&[6]));
            builder.expr(product(builder, wide.value()))
        },
        &[3],
    );
}

#[test]
fn one_element_and_none() {
    check("number", &[random(&[3])], &|_, x| x[0].sin().sum(&[0]), &[]);
    check("of a number", &[random(&[])], &|_, x| x[0].sin().broadcast(&Shape::new(&[3]), &[]), &[]);
    check("nothing", &[random(&[3])], &|_, x| x[0].sin().slice(&[0], &[0], &[1]), &[]);
    check("the same", &[random(&[3])], &|_, x| x[0], &[3]);
}

#[test]
fn what_has_no_gradient_says_so() {
    let builder = Builder::new("none");
    let x = builder.expr(builder.input("x", TensorType::new(DType::F64, [2])));
    let y = builder.expr(builder.input("y", TensorType::new(DType::F64, [2])));
    let found = jacobian(&builder, x.round().value(), &[x.value(), y.value()]).unwrap();
    let [Gradient::Zero { value, .. }, Gradient::NoPath { .. }] = found[..] else { panic!("{found:?}") };
    assert_eq!(builder.ty(value).shape, Shape::new(&[2, 2]));
    let whole = x.cast(DType::I64).value();
    assert!(matches!(jacobian(&builder, whole, &[x.value()]), Err(GradError::Target { .. })));
    assert!(matches!(jacobian(&builder, x.value(), &[whole]), Err(GradError::Wrt { .. })));
}
