//! Which gradients exist, which are zero by definition, what is an error, and what is not built.

use crate::harness::*;
use gradc_ir::{
    ArgOp, BinaryOp, Builder, DType, Expr, FusedOp, Literal, Op, Origin, Shape, TensorType, UnaryOp, Value,
    eval,
};
use gradc_passes::{GradError, Gradient, vjp};
use std::sync::Arc;

fn input<'b>(builder: &'b Builder, name: &str, shape: &[usize]) -> Expr<'b> {
    builder.expr(builder.input(name, TensorType::new(DType::F64, shape)))
}

fn of_sum<'b>(y: Expr<'b>, wrt: &[Expr<'b>]) -> Vec<Gradient> {
    let wrt: Vec<Value> = wrt.iter().map(|value| value.value()).collect();
    vjp(y.builder(), &[(y.value(), y.splat(1.0).value())], &wrt).unwrap()
}

#[test]
fn a_path_that_ends_says_where() {
    let builder = Builder::new("ends");
    let x = input(&builder, "x", &[3]);
    let stopped = x.stop_gradient();
    assert_eq!(of_sum(stopped * 2.0, &[x]), [Gradient::NoPath { ended_at: vec![stopped.value()] }]);

    let position = builder.build(Op::ArgReduce { op: ArgOp::Max, axis: 0, last: false }, &[x.value()]);
    let compared = x.lt(x.splat(0.5));
    let integer = x.cast(DType::I32);
    let y = position.cast(DType::F64).broadcast(&Shape::from([3]), &[])
        + compared.select(x.splat(1.0), x.splat(2.0))
        + integer.cast(DType::F64);
    let mut ends = vec![position.value(), compared.value(), integer.value()];
    ends.sort();
    assert_eq!(of_sum(y, &[x]), [Gradient::NoPath { ended_at: ends }]);

    let z = input(&builder, "z", &[]);
    assert_eq!(of_sum(y, &[z]), [Gradient::NoPath { ended_at: vec![] }]);
}

#[test]
fn zero_by_definition_is_zeros_and_says_why() {
    let builder = Builder::new("zero");
    let x = input(&builder, "x", &[3]);
    let rounded = (x * 4.0).round();
    let y = rounded + x.stop_gradient();
    let zeros = x.splat(0.0).value();
    let mut ends = vec![rounded.value(), x.stop_gradient().value()];
    ends.sort();
    assert_eq!(of_sum(y, &[x]), [Gradient::Zero { value: zeros, ended_at: ends }]);
    // With another path it is an ordinary gradient.
    assert!(matches!(of_sum(y + x, &[x])[..], [Gradient::Value(_)]));
}

#[test]
fn targets_and_wrt_must_be_floats() {
    let builder = Builder::new("errors");
    let x = input(&builder, "x", &[3]);
    let integer = x.cast(DType::I64);
    let found = vjp(&builder, &[(integer.value(), integer.value())], &[x.value()]);
    assert_eq!(found, Err(GradError::Target { target: integer.value(), found: "i64[3]".into() }));
    let found = vjp(&builder, &[(x.value(), x.value())], &[integer.value()]);
    assert_eq!(found, Err(GradError::Wrt { wrt: integer.value(), found: "i64[3]".into() }));
    let scalar = x.sum(&[0]);
    let found = vjp(&builder, &[(x.value(), scalar.value())], &[x.value()]);
    assert!(matches!(found, Err(GradError::Seed { .. })));
    let message = found.unwrap_err().to_string();
    assert_eq!(message, format!("the cotangent of {} must be f64[3], got f64[]", x.value()));
}

#[test]
fn fused_nodes_are_an_error() {
    let body = Builder::new("fused");
    let a = input(&body, "a", &[3]);
    let output = a.sin().value();
    let body = Arc::new(body.finish(&[output]));
    let builder = Builder::new("outer");
    let x = input(&builder, "x", &[3]);
    let fused = builder.build(Op::Fused(FusedOp { body }), &[x.value()]);
    let y = fused.project(0);
    let found = vjp(&builder, &[(y.value(), y.value())], &[x.value()]);
    assert_eq!(found, Err(GradError::Fused { node: fused.value() }));
    let found = vjp(&builder, &[(fused.value(), x.value())], &[x.value()]);
    assert_eq!(found, Err(GradError::Target { target: fused.value(), found: "a tuple of 1".into() }));
}

#[test]
fn intermediate_values_do_not_cut_off_earlier_ones() {
    let builder = Builder::new("intermediate");
    let x = input(&builder, "x", &[]);
    let h = x * x;
    let y = h * h * x;
    let found = values(&builder, &of_sum(y, &[h, x, y]));
    let found = eval(&builder.finish(&found), &[Literal::scalar(2.0)]).unwrap();
    // 2hx = 16, 5x^4 = 80, 1.
    assert_eq!(found.iter().map(|literal| literal.to_f64()[0]).collect::<Vec<_>>(), [16.0, 80.0, 1.0]);
}

#[test]
fn several_targets_add_up() {
    let builder = Builder::new("targets");
    let x = input(&builder, "x", &[]);
    let (y, z) = (x.sin(), x * 3.0);
    let two = x.splat(2.0).value();
    let seeds = [(y.value(), two), (z.value(), two), (z.value(), x.splat(1.0).value())];
    let found = values(&builder, &vjp(&builder, &seeds, &[x.value()]).unwrap());
    let found = eval(&builder.finish(&found), &[Literal::scalar(0.0)]).unwrap();
    assert_eq!(found[0].to_f64(), [11.0]);
}

#[test]
fn only_what_is_between_is_built() {
    let builder = Builder::new("pruned");
    let (x, w) = (input(&builder, "x", &[4, 4]), input(&builder, "w", &[4, 4]));
    let early = x.matmul(w).tanh();
    let late = early.matmul(w.exp());
    let y = late.pow(late.splat(3.0));
    let before = builder.len();
    let found = values(&builder, &of_sum(y, &[late]));
    assert!(builder.len() - before < 12);
    let kinds: Vec<Op> =
        (before..builder.len()).map(|i| builder.node(Value::from_index(i)).op.clone()).collect();
    assert!(!kinds.iter().any(|op| matches!(op, Op::Dot(_) | Op::Unary(UnaryOp::Log))));
    let _ = found;
    // A factor that needs no gradient computes none.
    let before = builder.len();
    values(&builder, &of_sum(late, &[early]));
    let dots =
        (before..builder.len()).filter(|&i| matches!(builder.node(Value::from_index(i)).op, Op::Dot(_)));
    assert_eq!(dots.count(), 1);
}

#[test]
fn backward_nodes_have_the_origin_of_forward_nodes() {
    let builder = Builder::new("origins");
    let x = input(&builder, "x", &[3]);
    let origin = Origin { name: "layer/tanh".into(), operator: "Tanh".into() };
    builder.set_origin(Some(origin.clone()));
    let y = x.tanh();
    builder.set_origin(None);
    let found = values(&builder, &of_sum(y, &[x]));
    assert_eq!(builder.origin(found[0]), Some(origin));
}

#[test]
fn the_same_graph_every_time() {
    let build = || {
        let builder = Builder::new("same");
        let x = input(&builder, "x", &[3]);
        let y = x.binary(BinaryOp::Atan2, x.exp()).softplus() * x;
        let found = values(&builder, &of_sum(y, &[x]));
        gradc_ir::print(&builder.finish(&found))
    };
    assert_eq!(build(), build());
}
