//! The conventions at kinks, one test each. What PyTorch and JAX answer stands beside where it differs.

use crate::harness::*;
use gradc_ir::{Expr, Op, ReduceOp, WindowKind, WindowOp};

const INF: f64 = f64::INFINITY;

fn relu(x: Expr<'_>) -> Expr<'_> {
    x.compare(gradc_ir::CompareOp::Gt, x.splat(0.0)).select(x, x.splat(0.0))
}

/// 0 at both bounds and outside.
fn clamp(x: Expr<'_>, low: f64, high: f64) -> Expr<'_> {
    let (low, high) = (x.splat(low), x.splat(high));
    x.le(low).select(low, x.ge(high).select(high, x))
}

/// The Euclidean norm of all elements, with derivative 0 where it is 0.
fn norm(x: Expr<'_>) -> Expr<'_> {
    root((x * x).sum_all())
}

/// A square root with derivative 0 at 0.
fn root(square: Expr<'_>) -> Expr<'_> {
    let zero = square.eq(square.splat(0.0));
    zero.select(square.splat(0.0), zero.select(square.splat(1.0), square).sqrt())
}

fn pair(a: f64, b: f64, build: Build) -> (f64, f64) {
    let found = gradient(&[tensor(&[], &[a]), tensor(&[], &[b])], build);
    (found[0][0], found[1][0])
}

#[test]
pub fn relu_at_0() {
    assert_eq!(slope(0.0, &|_, x| relu(x[0])), 0.0);
}

#[test]
pub fn clamp_at_its_bounds() {
    for x in [0.0, 6.0, -1.0, 7.0] {
        assert_eq!(slope(x, &|_, x| clamp(x[0], 0.0, 6.0)), 0.0);
    }
    assert_eq!(slope(3.0, &|_, x| clamp(x[0], 0.0, 6.0)), 1.0);
}

#[test]
pub fn maximum_of_equals() {
    assert_eq!(pair(1.5, 1.5, &|_, x| x[0].max(x[1])), (0.5, 0.5));
    assert_eq!(pair(1.5, 1.5, &|_, x| x[0].min(x[1])), (0.5, 0.5));
    assert_eq!(pair(0.0, -0.0, &|_, x| x[0].max(x[1])), (0.5, 0.5));
    assert_eq!(pair(2.0, 1.0, &|_, x| x[0].max(x[1])), (1.0, 0.0));
    assert_eq!(pair(2.0, 1.0, &|_, x| x[0].min(x[1])), (0.0, 1.0));
}

#[test]
pub fn reduce_max_of_equals() {
    let found = gradient(&[tensor(&[3], &[2.0, 2.0, 1.0])], &|_, x| x[0].reduce_max(&[0]));
    assert_eq!(found[0], [0.5, 0.5, 0.0]);
    let found = gradient(&[tensor(&[3], &[2.0, 1.0, 1.0])], &|_, x| x[0].reduce(ReduceOp::Min, &[0]));
    assert_eq!(found[0], [0.0, 0.5, 0.5]);
}

#[test]
pub fn max_pool_of_equals_takes_the_first() {
    let op = WindowOp {
        kind: WindowKind::Max,
        window: vec![2],
        stride: vec![2],
        dilation: vec![1],
        pad_low: vec![0],
        pad_high: vec![0],
    };
    let found = gradient(&[tensor(&[4], &[1.0, 1.0, 3.0, 3.0])], &|builder, x| {
        builder.build(Op::Window(op.clone()), &[x[0].value()])
    });
    assert_eq!(found[0], [1.0, 0.0, 1.0, 0.0]);
}

#[test]
pub fn max_pool_over_nothing_gives_nothing() {
    // The first and the last window lie wholly outside.
    let op = WindowOp {
        kind: WindowKind::Max,
        window: vec![2],
        stride: vec![2],
        dilation: vec![1],
        pad_low: vec![2],
        pad_high: vec![2],
    };
    let found = gradient(&[tensor(&[2], &[1.0, 3.0])], &|builder, x| {
        builder.build(Op::Window(op.clone()), &[x[0].value()])
    });
    assert_eq!(found[0], [0.0, 1.0]);
}

#[test]
pub fn top_k_of_equals_takes_the_first() {
    // Values are gathered at the positions that the forward reports.
    let found = gradient(&[tensor(&[4], &[1.0, 3.0, 3.0, 0.0])], &|builder, x| {
        let order =
            builder.build(Op::ArgSort { axis: 0, count: x[0].shape()[0], descending: true }, &[x[0].value()]);
        x[0].gather(0, order.slice_axis(0, 0, 1))
    });
    assert_eq!(found[0], [0.0, 1.0, 0.0, 0.0]);
}

#[test]
pub fn abs_at_0() {
    // JAX: 1.
    assert_eq!(slope(0.0, &|_, x| x[0].abs()), 0.0);
}

#[test]
pub fn leaky_relu_at_0() {
    // JAX: 1.
    let leaky = |x: Expr<'_>| x.compare(gradc_ir::CompareOp::Gt, x.splat(0.0)).value();
    assert_eq!(slope(0.0, &|builder, x| builder.expr(leaky(x[0])).select(x[0], x[0] * 0.1)), 0.1);
}

#[test]
pub fn elu_at_0() {
    let elu = slope(0.0, &|_, x| {
        x[0].compare(gradc_ir::CompareOp::Gt, x[0].splat(0.0)).select(x[0], x[0].expm1() * 2.0)
    });
    assert_eq!(elu, 2.0);
}

#[test]
pub fn hard_sigmoid_and_hard_swish_at_their_kinks() {
    for x in [-3.0, 3.0] {
        assert_eq!(slope(x, &|_, x| clamp(x[0] / 6.0 + 0.5, 0.0, 1.0)), 0.0);
    }
    assert_eq!(slope(-3.0, &|_, x| x[0] * clamp(x[0] / 6.0 + 0.5, 0.0, 1.0)), 0.0);
    assert_eq!(slope(3.0, &|_, x| x[0] * clamp(x[0] / 6.0 + 0.5, 0.0, 1.0)), 1.0);
}

#[test]
pub fn sqrt_at_0() {
    assert_eq!(slope(0.0, &|_, x| x[0].sqrt()), INF);
    // A cotangent of 0 stays 0.
    assert_eq!(slope(0.0, &|_, x| x[0].sqrt() * 0.0), 0.0);
}

#[test]
pub fn norm_of_zeros() {
    // JAX: NaN.
    let found = gradient(&[tensor(&[2], &[0.0, 0.0])], &|_, x| norm(x[0]));
    assert_eq!(found[0], [0.0, 0.0]);
    let found = gradient(&[tensor(&[2], &[3.0, -4.0])], &|_, x| norm(x[0]));
    assert!((found[0][0] - 0.6).abs() < 1e-15 && (found[0][1] + 0.8).abs() < 1e-15);
}

#[test]
pub fn sqrt_in_the_branch_not_taken() {
    // PyTorch and JAX: NaN.
    for x in [0.0, -1.0] {
        let build: Build = &|_, x| {
            let positive = x[0].compare(gradc_ir::CompareOp::Gt, x[0].splat(0.0));
            positive.select(x[0].sqrt(), x[0].splat(0.0))
        };
        assert_eq!(slope(x, build), 0.0);
        assert_eq!(curvature(x, build), 0.0);
    }
}

type Function = &'static dyn for<'b> Fn(Expr<'b>) -> Expr<'b>;

#[test]
pub fn other_singularities_in_the_branch_not_taken() {
    let masked = |f: Function| {
        move |x: f64| {
            let build: Build = &|_, x| {
                let regular = x[0].compare(gradc_ir::CompareOp::Gt, x[0].splat(2.0));
                regular.select(f(x[0]), x[0] * 3.0)
            };
            (slope(x, build), curvature(x, build))
        }
    };
    let functions: [(&str, Function); 16] = [
        ("log", &|x| x.log()),
        ("log of a product", &|x| (x * x).log()),
        ("reciprocal", &|x| 1.0 / x),
        ("quotient of itself", &|x| x / x),
        ("x log x", &|x| x * x.log()),
        ("x / log x", &|x| x / x.log()),
        ("exp of exp", &|x| (x * -1000.0).exp().exp() * x),
        ("power", &|x| x.pow(x.splat(-1.5))),
        ("power of itself", &|x| x.pow(x)),
        ("root of root", &|x| x.sqrt().sqrt()),
        ("log1p", &|x| (x - 1.0).log1p()),
        ("acos", &|x| (x + 1.0).unary(gradc_ir::UnaryOp::Acos)),
        ("asin", &|x| (x - 1.0).unary(gradc_ir::UnaryOp::Asin)),
        ("acosh", &|x| (x + 1.0).unary(gradc_ir::UnaryOp::Acosh)),
        ("atanh", &|x| (x + 1.0).unary(gradc_ir::UnaryOp::Atanh)),
        ("atan2", &|x| x.binary(gradc_ir::BinaryOp::Atan2, x)),
    ];
    for (name, function) in functions {
        for x in [0.0, -1.0] {
            assert_eq!(masked(function)(x), (3.0, 0.0), "{name} at {x}");
        }
    }
}

#[test]
pub fn pow_at_0_0() {
    // JAX: NaN in the base.
    assert_eq!(pair(0.0, 0.0, &|_, x| x[0].pow(x[1])), (0.0, 0.0));
    assert_eq!(slope(0.0, &|_, x| x[0].pow(x[0].splat(0.0))), 0.0);
}

#[test]
pub fn pow_of_a_negative_base() {
    let (base, exponent) = pair(-2.0, 3.0, &|_, x| x[0].pow(x[1]));
    assert_eq!(base, 12.0);
    assert!(exponent.is_nan());
    assert_eq!(slope(-2.0, &|_, x| x[0].pow(x[0].splat(3.0))), 12.0);
    assert_eq!(curvature(-2.0, &|_, x| x[0].pow(x[0].splat(3.0))), -12.0);
}

#[test]
pub fn root_as_power_at_0() {
    assert_eq!(slope(0.0, &|_, x| x[0].pow(x[0].splat(0.5))), INF);
}

#[test]
pub fn product_with_zeros() {
    let found = gradient(&[tensor(&[3], &[0.0, 2.0, 3.0])], &|_, x| x[0].reduce(ReduceOp::Prod, &[0]));
    assert_eq!(found[0], [6.0, 0.0, 0.0]);
    let found = gradient(&[tensor(&[3], &[0.0, 0.0, 3.0])], &|_, x| x[0].reduce(ReduceOp::Prod, &[0]));
    assert_eq!(found[0], [0.0, 0.0, 0.0]);
}

#[test]
pub fn softmax_of_minus_infinity() {
    // PyTorch and JAX: NaN.
    let x = tensor(&[2, 2], &[-INF, -INF, 0.0, 0.0]);
    for op in [Op::Softmax { axis: 1 }, Op::LogSoftmax { axis: 1 }] {
        let found = gradient(std::slice::from_ref(&x), &|builder, x| {
            let y = builder.build(op.clone(), &[x[0].value()]);
            y * builder.constant(tensor(&[2, 2], &[1.0, 3.0, 1.0, 3.0]))
        });
        assert_eq!(found[0][..2], [0.0, 0.0]);
        assert!(found[0][2..].iter().all(|g| g.is_finite() && *g != 0.0));
    }
}

#[test]
pub fn log_softmax_of_large_logits() {
    let found = gradient(&[tensor(&[2], &[1000.0, -1000.0])], &|builder, x| {
        builder.build(Op::LogSoftmax { axis: 0 }, &[x[0].value()]).slice_axis(0, 1, 2)
    });
    assert_eq!(found[0], [-1.0, 1.0]);
}

#[test]
pub fn deviation_of_equals() {
    // JAX: NaN.
    let found = gradient(&[tensor(&[3], &[2.0, 2.0, 2.0])], &|_, x| {
        let centered = x[0] - x[0].mean(&[0]).unreduce(&x[0].shape(), &[0]);
        root((centered * centered).mean(&[0]))
    });
    assert_eq!(found[0], [0.0, 0.0, 0.0]);
}

#[test]
pub fn atan2_at_0_0() {
    // JAX: NaN.
    let atan2: Build = &|_, x| x[0].binary(gradc_ir::BinaryOp::Atan2, x[1]);
    assert_eq!(pair(0.0, 0.0, atan2), (0.0, 0.0));
    // No overflow and no underflow of the squares.
    let (y, x) = pair(3e200, 4e200, atan2);
    assert!((y * 4e200 - 0.64).abs() < 1e-12 && (x * 3e200 + 0.36).abs() < 1e-12);
    let (y, x) = pair(3e-200, 4e-200, atan2);
    assert!((y * 4e-200 - 0.64).abs() < 1e-12 && (x * 3e-200 + 0.36).abs() < 1e-12);
}

#[test]
pub fn true_singularities() {
    assert!(slope(0.0, &|_, x| x[0] / x[0]).is_nan());
    assert_eq!(slope(1.0, &|_, x| x[0].unary(gradc_ir::UnaryOp::Acos)), -INF);
    assert_eq!(slope(0.0, &|_, x| x[0].log()), INF);
}

#[test]
pub fn steps_are_flat() {
    for x in [0.0, 0.5, 2.0] {
        assert_eq!(slope(x, &|_, x| x[0].sign()), 0.0);
        assert_eq!(slope(x, &|_, x| x[0].round()), 0.0);
        assert_eq!(slope(x, &|_, x| x[0].floor()), 0.0);
        assert_eq!(slope(x, &|_, x| x[0].ceil()), 0.0);
        assert_eq!(slope(x, &|_, x| x[0] - x[0].floor()), 1.0);
    }
}

#[test]
pub fn remainder() {
    assert_eq!(pair(5.0, 3.0, &|_, x| x[0] % x[1]), (1.0, -1.0));
    assert_eq!(pair(-5.0, 3.0, &|_, x| x[0] % x[1]), (1.0, 1.0));
    assert_eq!(pair(6.0, 3.0, &|_, x| x[0] % x[1]), (1.0, -2.0));
}

#[test]
pub fn softplus_and_sigmoid_far_out() {
    assert_eq!(slope(0.0, &|_, x| x[0].softplus()), 0.5);
    assert_eq!(slope(1000.0, &|_, x| x[0].softplus()), 1.0);
    assert_eq!(slope(-1000.0, &|_, x| x[0].softplus()), 0.0);
    assert_eq!(slope(-1000.0, &|_, x| x[0].sigmoid()), 0.0);
    assert_eq!(slope(1000.0, &|_, x| x[0].sigmoid()), 0.0);
    assert_eq!(slope(1000.0, &|_, x| x[0].tanh()), 0.0);
}

#[test]
pub fn repeated_gather() {
    let found = gradient(&[tensor(&[2], &[5.0, 6.0])], &|builder, x| {
        x[0].gather(0, index(builder, &[3], &[0, 0, 1]))
    });
    assert_eq!(found[0], [2.0, 1.0]);
}

#[test]
pub fn second_derivatives_where_the_first_cotangent_is_0() {
    // A guard that hid the cotangent's own derivative would answer 0.
    assert_eq!(curvature(1.0, &|_, x| x[0].log() * x[0].log()), 2.0);
    assert_eq!(curvature(0.0, &|_, x| x[0].expm1() * x[0].expm1()), 2.0);
    let at_one = curvature(1.0, &|_, x| {
        let t = x[0].sqrt() - 1.0;
        t * t
    });
    assert_eq!(at_one, 0.5);
    assert_eq!(curvature(0.0, &|_, x| x[0].pow(x[0].splat(2.0))), 2.0);
    assert_eq!(curvature(-3.0, &|_, x| x[0].pow(x[0].splat(2.0))), 2.0);
}
