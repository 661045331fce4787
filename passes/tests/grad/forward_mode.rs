//! Directional derivatives, and Hessian-vector products.

use crate::harness::*;
use gradc_ir::{Builder, CumulativeOp, Expr, Literal, Op, ReduceOp, Value, eval};
use gradc_passes::{GradError, Gradient, jvp, merge_scans, vjp};

/// Compares the derivative in a direction with a central difference.
fn directional(name: &str, inputs: &[Literal], build: Build) {
    let mut random = Random::new(31);
    let tangents: Vec<Literal> = inputs.iter().map(|x| random.tensor(x.shape(), -1.0, 1.0)).collect();
    let builder = Builder::new("directional");
    let x: Vec<Expr> = inputs.iter().map(|x| builder.expr(builder.input("x", x.ty().clone()))).collect();
    let t: Vec<Expr> = inputs.iter().map(|x| builder.expr(builder.input("t", x.ty().clone()))).collect();
    let y = build(&builder, &x);
    let directions: Vec<(Value, Value)> = x.iter().zip(&t).map(|(x, t)| (x.value(), t.value())).collect();
    let found = values(&builder, &jvp(&builder, &[y.value()], &directions).unwrap());
    let outputs = [y.value(), found[0]];
    let graph = merge_scans(&builder.finish(&outputs));
    graph.check().unwrap();
    let at = |scale: f64| {
        let moved = inputs.iter().zip(&tangents).map(|(x, t)| {
            let sums: Vec<f64> = x.to_f64().iter().zip(t.to_f64()).map(|(x, t)| x + scale * t).collect();
            Literal::new(x.shape().clone(), &sums)
        });
        let all: Vec<Literal> = moved.chain(tangents.iter().cloned()).collect();
        eval(&graph, &all).unwrap().iter().map(Literal::to_f64).collect::<Vec<_>>()
    };
    let (here, above, below) = (at(0.0), at(1e-6), at(-1e-6));
    assert_eq!(here[0].len(), here[1].len());
    for ((wanted, above), below) in here[1].iter().zip(&above[0]).zip(&below[0]) {
        let got = (above - below) / 2e-6;
        assert!((got - wanted).abs() < 1e-6 + 1e-5 * wanted.abs(), "{name}: {wanted} for {got}");
    }
}

#[test]
fn directional_derivatives() {
    directional("chain", &[random(&[3, 4])], &|_, x| (x[0].sin() * x[0].exp()).sum(&[0]).tanh());
    directional("product", &[random(&[3, 4]), random(&[4, 2])], &|_, x| x[0].matmul(x[1]).sigmoid());
    directional("softmax", &[random(&[3, 4])], &|builder, x| {
        builder.build(Op::Softmax { axis: 1 }, &[x[0].value()])
    });
    directional("maximum", &[random(&[3, 4])], &|_, x| x[0].reduce(ReduceOp::Max, &[1]));
    directional("running product", &[random(&[5])], &|builder, x| {
        let op = Op::Cumulative { op: CumulativeOp::Prod, axis: 0, exclusive: false, reverse: false };
        builder.build(op, &[x[0].value()])
    });
    directional("gather", &[random(&[5])], &|builder, x| x[0].gather(0, index(builder, &[3], &[1, 1, 4])));
}

#[test]
fn several_outputs_of_one_type() {
    let builder = Builder::new("outputs");
    let x = builder.expr(builder.input("x", gradc_ir::TensorType::scalar(gradc_ir::DType::F64)));
    let (sine, cube, stopped) = (x.sin(), x * x * x, x.round().stop_gradient());
    let outputs = [sine.value(), cube.value(), x.round().value(), stopped.value()];
    let found = jvp(&builder, &outputs, &[(x.value(), x.splat(2.0).value())]).unwrap();
    let [Gradient::Value(a), Gradient::Value(b), Gradient::Zero { .. }, Gradient::NoPath { .. }] = found[..]
    else {
        panic!("{found:?}")
    };
    let answers = eval(&builder.finish(&[a, b]), &[Literal::scalar(3.0)]).unwrap();
    assert_eq!(answers[0].to_f64(), [2.0 * 3f64.cos()]);
    assert_eq!(answers[1].to_f64(), [54.0]);
}

#[test]
fn a_tangent_has_the_type_of_its_value() {
    let builder = Builder::new("fault");
    let x = builder.expr(builder.input("x", gradc_ir::TensorType::new(gradc_ir::DType::F64, [2])));
    let found = jvp(&builder, &[x.value()], &[(x.value(), x.sum(&[0]).value())]);
    assert!(matches!(found, Err(GradError::Seed { .. })));
}

#[test]
fn hessian_vector_products_of_rosenbrock() {
    let (a, b, u, v) = (-1.2, 1.0, 0.3, -0.7);
    let builder = Builder::new("rosenbrock");
    let x = builder.expr(builder.input("x", gradc_ir::TensorType::new(gradc_ir::DType::F64, [2])));
    let t = builder.expr(builder.input("t", gradc_ir::TensorType::new(gradc_ir::DType::F64, [2])));
    let (first, second) = (x.slice_axis(0, 0, 1), x.slice_axis(0, 1, 2));
    let valley = second - first * first;
    let loss = ((1.0 - first) * (1.0 - first) + valley * valley * 100.0).sum(&[0]);
    let gradient =
        values(&builder, &vjp(&builder, &[(loss.value(), loss.splat(1.0).value())], &[x.value()]).unwrap())
            [0];
    let reverse = values(&builder, &vjp(&builder, &[(gradient, t.value())], &[x.value()]).unwrap())[0];
    let forward = values(&builder, &jvp(&builder, &[gradient], &[(x.value(), t.value())]).unwrap())[0];
    let found =
        eval(&builder.finish(&[reverse, forward]), &[tensor(&[2], &[a, b]), tensor(&[2], &[u, v])]).unwrap();
    let wanted = [(1200.0 * a * a - 400.0 * b + 2.0) * u - 400.0 * a * v, -400.0 * a * u + 200.0 * v];
    for found in found {
        found.to_f64().iter().zip(wanted).for_each(|(x, y)| assert!((x - y).abs() < 1e-9 * y.abs()));
    }
}
