//! Samples where differences say nothing: infinite derivatives, ties, what is scaled against overflow.

use super::samples::Sample;
use crate::harness::{Build, Random, index, tensor};
use gradc_ir::{BinaryOp, Literal, Mark, Op, ScatterOp, Shape, UnaryOp, WindowKind, WindowOp};

/// Each point is tried with these cotangents. One of 0 yields 0, however large the derivative is.
const COTANGENTS: [f64; 3] = [0.0, 1.0, -2.0];

/// The gradient that a cotangent of 0 does not spoil.
fn guarded(cotangent: f64, slope: f64) -> f64 {
    if cotangent == 0.0 && !slope.is_finite() { 0.0 } else { cotangent * slope }
}

/// All samples.
pub fn samples() -> Vec<Sample> {
    let mut found = Vec::new();
    type Slope = fn(f64) -> f64;
    let unary: [(UnaryOp, &[f64], Slope); 13] = [
        (UnaryOp::Sqrt, &[0.0, -1.0, 4.0, 0.25], |x| 0.5 / x.sqrt()),
        (UnaryOp::Log, &[0.0, -0.5, 2.0, 1e-200], |x| 1.0 / x),
        (UnaryOp::Log1p, &[-1.0, -1.5, 2.0, 0.0], |x| 1.0 / (1.0 + x)),
        (UnaryOp::Asin, &[1.0, -1.0, 2.0, 0.5], |x| 1.0 / ((1.0 - x) * (1.0 + x)).sqrt()),
        (UnaryOp::Acos, &[1.0, -1.0, 2.0, 0.5], |x| -1.0 / ((1.0 - x) * (1.0 + x)).sqrt()),
        (UnaryOp::Acosh, &[1.0, 0.5, 2.0, 1.5], |x| 1.0 / ((x - 1.0) * (x + 1.0)).sqrt()),
        (UnaryOp::Atanh, &[1.0, -1.0, 0.5, -0.25], |x| 1.0 / ((1.0 - x) * (1.0 + x))),
        (UnaryOp::Exp, &[1000.0, -1000.0, 1.0, 0.0], f64::exp),
        (UnaryOp::Expm1, &[1000.0, -1000.0, 1.0, 0.0], f64::exp),
        (UnaryOp::Sinh, &[1000.0, -1000.0, 1.0, 0.0], f64::cosh),
        (UnaryOp::Cosh, &[1000.0, -1000.0, 1.0, 0.0], f64::sinh),
        (UnaryOp::Abs, &[0.0, -0.0, 3.0, -2.0], |x| if x == 0.0 { 0.0 } else { x.signum() }),
        (UnaryOp::Softplus, &[0.0, 1000.0, -1000.0, 1.0], |x| 1.0 / (1.0 + (-x).exp())),
    ];
    for (op, points, slope) in unary {
        let pairs = || points.iter().flat_map(|&x| COTANGENTS.map(|w| (x, w)));
        let x: Vec<f64> = pairs().map(|(x, _)| x).collect();
        let w: Vec<f64> = pairs().map(|(_, w)| w).collect();
        let wanted = pairs().map(|(x, w)| guarded(w, slope(x))).collect();
        let shape = [x.len()];
        found.push(Sample::known(
            op.name(),
            vec![tensor(&shape, &x)],
            tensor(&shape, &w),
            vec![wanted],
            &|_, x| x[0].unary(op),
        ));
    }
    type Slopes = fn(f64, f64) -> [f64; 2];
    type Case = (BinaryOp, &'static [(f64, f64)], Slopes);
    let binary: [Case; 7] = [
        (
            BinaryOp::Div,
            &[(1.0, 0.0), (0.0, 0.0), (-1.0, 0.0), (1.0, 2.0), (0.0, 1.0), (1e200, 1e-200), (1.0, 1e-200)],
            |a, b| [1.0 / b, -(a / b / b)],
        ),
        (
            BinaryOp::Pow,
            &[
                (0.0, -1.0),
                (0.0, 0.5),
                (0.0, 0.0),
                (0.0, 2.0),
                (0.0, 1.0),
                (-1.0, 3.0),
                (2.0, 3.0),
                (-2.0, 0.5),
            ],
            |a, b| {
                let base = if a == 0.0 && b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) };
                let exponent = if a == 0.0 && b >= 0.0 { 0.0 } else { a.powf(b) * a.ln() };
                [base, exponent]
            },
        ),
        (BinaryOp::Rem, &[(5.0, 3.0), (-5.0, 3.0), (5.0, 0.0), (5.0, -3.0), (0.37, 0.1)], |a, b| {
            [1.0, -((a - a % b) / b).round()]
        }),
        (
            BinaryOp::Atan2,
            &[
                (0.0, 0.0),
                (1e-200, 3e-200),
                (-2e-200, 1e-200),
                (3e200, -1e200),
                (1.0, 2.0),
                (0.0, 1.0),
                (1.0, 0.0),
                (1e200, 1.0),
                (1.0, -1e200),
                (1e-200, 1.0),
                (-1.0, 1e-200),
            ],
            |a, b| {
                let scale = a.abs().max(b.abs());
                if scale == 0.0 {
                    return [0.0, 0.0];
                }
                let (p, q) = (a / scale, b / scale);
                [q / (p * p + q * q) / scale, -(p / (p * p + q * q) / scale)]
            },
        ),
        (BinaryOp::Max, &[(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)], |a, b| {
            if a == b { [0.5, 0.5] } else { [f64::from(a > b), f64::from(b > a)] }
        }),
        (BinaryOp::Min, &[(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)], |a, b| {
            if a == b { [0.5, 0.5] } else { [f64::from(a < b), f64::from(b < a)] }
        }),
        (BinaryOp::Mul, &[(0.0, 3.0), (2.0, 0.0), (2.0, 3.0)], |a, b| [b, a]),
    ];
    for (op, points, slopes) in binary {
        let triples = || points.iter().flat_map(|&(a, b)| COTANGENTS.map(|w| (a, b, w)));
        let a: Vec<f64> = triples().map(|(a, _, _)| a).collect();
        let b: Vec<f64> = triples().map(|(_, b, _)| b).collect();
        let w: Vec<f64> = triples().map(|(_, _, w)| w).collect();
        let wanted = [0, 1]
            .map(|side| triples().map(|(a, b, w)| guarded(w, slopes(a, b)[side])).collect::<Vec<f64>>());
        let shape = [a.len()];
        let inputs = vec![tensor(&shape, &a), tensor(&shape, &b)];
        let name = op.name();
        found.push(Sample::known(name, inputs, tensor(&shape, &w), wanted.to_vec(), &|_, x| {
            x[0].binary(op, x[1])
        }));
    }
    found.extend(products_with_infinite_factors());
    found.extend(lines());
    found.extend(constant_powers());
    found.push(windows_over_nothing());
    found.extend([ties(ScatterOp::Max, 0.0), ties(ScatterOp::Min, 9.0)]);
    found.extend(smooth());
    found
}

/// `a exp(c)`: where the exponential is infinite, and the cotangent 0.
fn products_with_infinite_factors() -> [Sample; 2] {
    let (a, c, w) = ([1.0, 1.0, 2.0, 0.0], [1000.0, 1000.0, 0.5, 1.0], [0.0, 1.0, -2.0, 3.0]);
    let by_a = (0..4).map(|i| guarded(w[i], f64::exp(c[i]))).collect::<Vec<f64>>();
    let by_c = (0..4).map(|i| guarded(w[i] * a[i], f64::exp(c[i]))).collect::<Vec<f64>>();
    let (left, right) = (vec![tensor(&[4], &a), tensor(&[4], &c)], vec![tensor(&[4], &c), tensor(&[4], &a)]);
    [
        Sample::known("times exp", left, tensor(&[4], &w), vec![by_a.clone(), by_c.clone()], &|_, x| {
            x[0] * x[1].exp()
        }),
        Sample::known("exp times", right, tensor(&[4], &w), vec![by_c, by_a], &|_, x| x[0].exp() * x[1]),
    ]
}

/// Lines without a value.
fn lines() -> Vec<Sample> {
    let infinite = f64::NEG_INFINITY;
    let x = tensor(&[2, 2], &[infinite, infinite, 0.0, 0.0]);
    let w = tensor(&[2, 2], &[1.0, 2.0, 1.0, 2.0]);
    let softmax = vec![vec![0.0, 0.0, -0.25, 0.25]];
    let log_softmax = vec![vec![0.0, 0.0, -0.5, 0.5]];
    let sample = |name: &str, op: Op, wanted: Vec<Vec<f64>>| {
        Sample::known(name, vec![x.clone()], w.clone(), wanted, &|builder, x| {
            builder.build(op.clone(), &[x[0].value()])
        })
    };
    vec![
        sample("softmax", Op::Softmax { axis: 1 }, softmax),
        sample("log_softmax", Op::LogSoftmax { axis: 1 }, log_softmax),
    ]
}

/// Powers with a constant exponent, at 0.
fn constant_powers() -> Vec<Sample> {
    let sample = |exponent: f64| {
        let points = [0.0, 4.0, 0.25];
        let pairs = || points.iter().flat_map(|&x| COTANGENTS.map(|w| (x, w)));
        let x: Vec<f64> = pairs().map(|(x, _)| x).collect();
        let w: Vec<f64> = pairs().map(|(_, w)| w).collect();
        let slope = |x: f64| exponent * x.powf(exponent - 1.0);
        let wanted = pairs().map(|(x, w)| guarded(w, slope(x))).collect();
        let shape = [x.len()];
        Sample::known("pow", vec![tensor(&shape, &x)], tensor(&shape, &w), vec![wanted], &|_, x| {
            x[0].pow(x[0].splat(exponent))
        })
    };
    [0.5, -0.5, -1.0, 2.0, 3.0].map(sample).into()
}

/// Windows that lie wholly outside have a maximum of -inf, and no element that won.
fn windows_over_nothing() -> Sample {
    let op = Op::Window(WindowOp {
        kind: WindowKind::Max,
        window: vec![2],
        stride: vec![1],
        dilation: vec![1],
        pad_low: vec![3],
        pad_high: vec![4],
    });
    let w = tensor(&[9], &[7.0, 9.0, 1.0, 2.0, 4.0, 8.0, 3.0, 5.0, 6.0]);
    let inputs = vec![tensor(&[3], &[1.0, 3.0, 2.0])];
    Sample::known("window_max", inputs, w, vec![vec![1.0, 6.0, 8.0]], &|builder, x| {
        builder.build(op.clone(), &[x[0].value()])
    })
}

/// What the other tests do not have: sums with terms that are not 0, axes of equal length, other places of the greatest.
fn smooth() -> Vec<Sample> {
    let mut found = Vec::new();
    let mut add = |name: &str, inputs: &[Literal], build: Build| {
        found.extend(Sample::new(name, inputs, build));
    };
    let (a, b) = (tensor(&[4], &[1.1, 1.9, 0.6, 1.3]), tensor(&[4], &[-0.7, 2.3, -0.8, 1.7]));
    for op in BinaryOp::ALL.iter().copied().filter(|op| op.accepts().0(gradc_ir::DType::F64)) {
        let b = if op == BinaryOp::Rem { tensor(&[4], &[0.7, 0.3, 0.4, 0.9]) } else { b.clone() };
        let inputs = [a.clone(), b];
        add(op.name(), &inputs, &|_, x| x[0].binary(op, x[1]) + x[0] * x[1]);
        add(op.name(), &inputs, &|_, x| x[0].binary(op, x[0] * x[0] * 0.9) + x[1]);
    }
    for op in [BinaryOp::Max, BinaryOp::Min] {
        add(op.name(), &[a.clone(), b.clone()], &|_, x| (x[0] * x[1]).binary(op, x[0]) * x[1]);
    }
    add("times exp", &[a.clone(), b.clone()], &|_, x| x[0] * x[1].exp());
    add("exp times", &[a.clone(), b.clone()], &|_, x| x[0].exp() * x[1]);
    add("exp", &[a.clone(), b.clone()], &|_, x| (x[0].exp() + x[1].exp()) * x[0].exp());
    let square = Random::new(31).tensor(&[3, 3], -2.0, 2.0);
    for axis in [0, 1] {
        for op in [Op::Softmax { axis }, Op::LogSoftmax { axis }] {
            add(op.name(), std::slice::from_ref(&square), &|builder, x| {
                builder.build(op.clone(), &[x[0].value()])
            });
        }
        let line = tensor(&[3], &[0.3, -1.2, 0.8]);
        add("broadcast", &[line], &|_, x| x[0].broadcast(&Shape::from([3, 3]), &[axis]).sin());
    }
    let op = Op::Window(WindowOp {
        kind: WindowKind::Max,
        window: vec![1, 1, 3, 3],
        stride: vec![1, 1, 2, 2],
        dilation: vec![1; 4],
        pad_low: vec![0, 0, 1, 1],
        pad_high: vec![0, 0, 1, 1],
    });
    for seed in 40..46 {
        let x = Random::new(seed).tensor(&[1, 2, 4, 4], -2.0, 2.0);
        add("window_max", &[x], &|builder, x| builder.build(op.clone(), &[x[0].value()]));
    }
    add("tag", &[a.clone(), b.clone()], &|builder, x| {
        let tagged = builder.build(Op::Mark(Mark::Tag(3)), &[x[0].value()]);
        tagged * x[0].sin() + x[0] * x[1]
    });
    for op in [ScatterOp::Mul, ScatterOp::Set, ScatterOp::Add, ScatterOp::Max, ScatterOp::Min] {
        let updates = tensor(&[5], &[1.5, -0.7, 0.4, 2.1, -1.3]);
        add("scatter", &[a.clone(), updates.clone()], &|builder, x| {
            x[0].scatter(0, op, index(builder, &[5], &[1, 3, 1, 1, 3]), x[1])
        });
        let rows = Random::new(51).tensor(&[3, 3], -1.5, 2.5);
        for columns in [[2, 0, 0], [2, 0, 1], [2, 2, 2]] {
            add("scatter", &[square.clone(), rows.clone()], &|builder, x| {
                x[0].scatter(1, op, index(builder, &[3], &columns), x[1])
            });
        }
        let of_two_axes = Random::new(52).tensor(&[2, 2], -1.5, 2.5);
        add("scatter", &[a.clone(), of_two_axes], &|builder, x| {
            x[0].scatter(0, op, index(builder, &[2, 2], &[0, 3, 0, 1]), x[1])
        });
        let (x, deep) =
            (Random::new(53).tensor(&[2, 3, 2], -1.0, 2.0), Random::new(54).tensor(&[2, 2, 2, 2], -1.5, 2.5));
        add("scatter", &[x, deep], &|builder, x| {
            x[0].scatter(1, op, index(builder, &[2, 2], &[0, 1, 0, 2]), x[1])
        });
    }
    found
}

/// Equals share: what stands there and two updates; one update alone; nothing but what stands there.
fn ties(op: ScatterOp, weak: f64) -> Sample {
    let inputs = vec![tensor(&[3], &[1.0, 5.0, weak]), tensor(&[3], &[1.0, 1.0, 3.0])];
    let wanted = vec![vec![2.0, 1.0, 0.0], vec![2.0, 2.0, 2.0]];
    Sample::known("ties", inputs, tensor(&[3], &[6.0, 1.0, 2.0]), wanted, &|builder, x| {
        x[0].scatter(0, op, index(builder, &[3], &[0, 0, 2]), x[1])
    })
}
