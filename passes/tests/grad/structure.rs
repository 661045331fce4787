//! Operators that move, reduce and multiply.

use crate::harness::*;
use gradc_ir::{
    ConvForm, ConvOp, CumulativeOp, DotDims, Expr, Mark, Op, ReduceOp, Shape, WindowKind, WindowOp,
};

fn apply<'b>(op: Op, operands: &[Expr<'b>]) -> Expr<'b> {
    operands[0].builder().build(op, &operands.iter().map(|operand| operand.value()).collect::<Vec<_>>())
}

#[test]
pub fn reductions() {
    let mut checks = 0;
    let cases: [(&[usize], &[usize]); 10] = [
        (&[5], &[0]),
        (&[1], &[0]),
        (&[2, 3, 4], &[0]),
        (&[2, 3, 4], &[1]),
        (&[2, 3, 4], &[2]),
        (&[2, 3, 4], &[0, 2]),
        (&[2, 3, 4], &[0, 1, 2]),
        (&[2, 0, 3], &[0]),
        (&[2, 0, 3], &[1]),
        (&[0], &[0]),
    ];
    for (shape, axes) in cases {
        for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
            // Squares of an infinite extremum of nothing have no difference: the empty ones only at first order.
            let empty = axes.iter().any(|&axis| shape[axis] == 0);
            let build: Build = &|_, x| (x[0] * 0.7).reduce(op, axes);
            if empty && matches!(op, ReduceOp::Max | ReduceOp::Min) {
                assert!(gradient(&[random(shape)], build)[0].is_empty());
                continue;
            }
            checks += check(&format!("{op:?} over {axes:?} of {shape:?}"), &[random(shape)], build);
            checks += check("squared", &[random(shape)], &|_, x| {
                let y = x[0].reduce(op, axes);
                y * y
            });
        }
    }
    eprintln!("reductions: {checks} comparisons");
}

#[test]
pub fn products_with_zeros() {
    let mut checks = 0;
    for zeros in [&[0.3, 0.0, -2.0, 1.5][..], &[0.0, 0.0, -2.0, 1.5], &[0.0, 0.0, 0.0, 1.5]] {
        checks += check("product", &[tensor(&[4], zeros)], &|_, x| x[0].reduce(ReduceOp::Prod, &[0]));
        checks += check("product", &[tensor(&[2, 2], zeros)], &|_, x| x[0].reduce(ReduceOp::Prod, &[0, 1]));
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            let op = Op::Cumulative { op: CumulativeOp::Prod, axis: 0, exclusive, reverse };
            checks += check("running", &[tensor(&[4], zeros)], &|_, x| apply(op.clone(), x));
        }
    }
    eprintln!("products with zeros: {checks} comparisons");
}

#[test]
pub fn running_reductions() {
    let mut checks = 0;
    for (shape, axis) in
        [(&[5][..], 0), (&[1], 0), (&[0], 0), (&[3, 4], 0), (&[3, 4], 1), (&[2, 3, 2], 1), (&[2, 0], 0)]
    {
        for op in [CumulativeOp::Sum, CumulativeOp::Prod] {
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                let op = Op::Cumulative { op, axis, exclusive, reverse };
                checks +=
                    check(&format!("{op:?} of {shape:?}"), &[random(shape)], &|_, x| apply(op.clone(), x));
            }
        }
    }
    eprintln!("running reductions: {checks} comparisons");
}

#[test]
pub fn softmaxes() {
    let mut checks = 0;
    for (shape, axis) in
        [(&[5][..], 0), (&[1], 0), (&[3, 4], 0), (&[3, 4], 1), (&[2, 3, 2], 1), (&[0, 3], 1), (&[3, 0], 1)]
    {
        checks += check("softmax", &[random(shape)], &|_, x| apply(Op::Softmax { axis }, x));
        checks += check("log softmax", &[random(shape)], &|_, x| apply(Op::LogSoftmax { axis }, x));
    }
    eprintln!("softmaxes: {checks} comparisons");
}

#[test]
pub fn movements() {
    let mut checks = 0;
    let broadcasts: [(&[usize], &[usize], &[usize]); 8] = [
        (&[], &[3], &[]),
        (&[], &[], &[]),
        (&[3], &[3, 2], &[0]),
        (&[3], &[2, 3], &[1]),
        (&[2, 3], &[2, 4, 3], &[0, 2]),
        (&[2, 3], &[4, 2, 3, 5], &[1, 2]),
        (&[2], &[0, 2], &[1]),
        (&[1], &[1, 1], &[0]),
    ];
    for (from, to, dims) in broadcasts {
        let op = Op::Broadcast { shape: Shape::new(to), dims: dims.to_vec() };
        checks += check("broadcast", &[random(from)], &|_, x| apply(op.clone(), &[x[0].sin()]).exp());
    }
    checks += check("broadcast_to", &[random(&[2, 1, 3])], &|_, x| {
        x[0].broadcast_to(&Shape::from([5, 2, 4, 3])) * 2.0
    });
    checks += check("reshape", &[random(&[2, 6])], &|_, x| x[0].reshape(&Shape::from([3, 1, 4])).sin());
    checks += check("reshape", &[random(&[1])], &|_, x| x[0].reshape(&Shape::scalar()).sin());
    checks += check("reshape", &[random(&[0, 3])], &|_, x| x[0].reshape(&Shape::from([5, 0])).sin());
    checks += check("transpose", &[random(&[2, 3, 4])], &|_, x| x[0].transpose(&[2, 0, 1]).sin());
    checks += check("transpose", &[random(&[2, 0, 4])], &|_, x| x[0].transpose(&[1, 2, 0]).sin());
    checks += check("reverse", &[random(&[2, 3])], &|_, x| x[0].reverse(&[1]) * x[0]);
    checks += check("reverse", &[random(&[2, 3])], &|_, x| x[0].reverse(&[0, 1]) * x[0]);
    let slices: [(&[usize], [&[usize]; 3]); 6] = [
        (&[7], [&[2], &[5], &[1]]),
        (&[7], [&[0], &[7], &[3]]),
        (&[7], [&[1], &[6], &[2]]),
        (&[7], [&[3], &[3], &[2]]),
        (&[4, 5], [&[1, 0], &[4, 5], &[2, 4]]),
        (&[0], [&[0], &[0], &[1]]),
    ];
    for (shape, [start, limit, step]) in slices {
        checks += check("slice", &[random(shape)], &|_, x| x[0].slice(start, limit, step).sin());
    }
    for count in 1..4 {
        let inputs = [random(&[2, 3]), random(&[2, 1]), random(&[2, 0])];
        checks += check("concat", &inputs[..count], &|builder, x| builder.concat(1, x).sin());
    }
    checks += check("concat with itself", &[random(&[2, 3])], &|builder, x| {
        builder.concat(0, &[x[0], x[0] * x[0], x[0]])
    });
    checks += check("mark", &[random(&[3])], &|_, x| apply(Op::Mark(Mark::Tag(3)), x) * x[0]);
    checks += check("surrogate", &[random(&[3])], &|_, x| {
        let still = x[0].stop_gradient();
        (still * still).with_surrogate(x[0] * x[0]) * x[0].sin()
    });
    eprintln!("movements: {checks} comparisons");
}

#[test]
pub fn pads() {
    let mut checks = 0;
    type Case<'a> = (&'a [usize], [&'a [i64]; 2], &'a [usize]);
    let cases: [Case; 11] = [
        (&[3], [&[2], &[1]], &[0]),
        (&[3], [&[0], &[0]], &[2]),
        (&[3], [&[1], &[2]], &[1]),
        (&[5], [&[-1], &[-2]], &[0]),
        (&[5], [&[-1], &[3]], &[1]),
        (&[5], [&[-3], &[-3]], &[2]),
        (&[3], [&[-3], &[2]], &[0]),
        (&[3], [&[-5], &[5]], &[0]),
        (&[0], [&[2], &[1]], &[3]),
        (&[1], [&[2], &[0]], &[3]),
        (&[2, 3], [&[1, -1], &[0, 2]], &[1, 0]),
    ];
    for (shape, [low, high], interior) in cases {
        let name = format!("pad {shape:?} low {low:?} high {high:?} interior {interior:?}");
        checks +=
            check(&name, &[random(shape), random(&[])], &|_, x| x[0].pad(x[1], low, high, interior).sin());
    }
    eprintln!("pads: {checks} comparisons");
}

#[test]
pub fn dots() {
    let dims = |lhs_batch: &[usize], rhs_batch: &[usize], lhs: &[usize], rhs: &[usize]| DotDims {
        lhs_batch: lhs_batch.to_vec(),
        rhs_batch: rhs_batch.to_vec(),
        lhs_contract: lhs.to_vec(),
        rhs_contract: rhs.to_vec(),
    };
    let cases: [(&[usize], &[usize], DotDims); 13] = [
        (&[3], &[3], dims(&[], &[], &[0], &[0])),
        (&[2], &[3], dims(&[], &[], &[], &[])),
        (&[], &[], dims(&[], &[], &[], &[])),
        (&[2, 3], &[3, 4], dims(&[], &[], &[1], &[0])),
        (&[3, 2], &[4, 3], dims(&[], &[], &[0], &[1])),
        (&[2, 3, 4], &[4, 2, 5], dims(&[0], &[1], &[2], &[0])),
        (&[2, 3, 4], &[5, 4, 3], dims(&[], &[], &[1, 2], &[2, 1])),
        (&[4, 2, 3, 5], &[3, 4, 6, 2], dims(&[1, 0], &[3, 1], &[2], &[0])),
        (&[2, 3], &[2, 3], dims(&[0, 1], &[0, 1], &[], &[])),
        (&[2, 3, 4], &[4, 3, 2], dims(&[], &[], &[2, 0, 1], &[0, 2, 1])),
        (&[0, 3], &[3, 2], dims(&[], &[], &[1], &[0])),
        (&[2, 0], &[0, 2], dims(&[], &[], &[1], &[0])),
        (&[1, 1], &[1, 1], dims(&[], &[], &[1], &[0])),
    ];
    let mut checks = 0;
    for (lhs, rhs, dims) in cases {
        let name = format!("dot {lhs:?} {rhs:?} {dims:?}");
        checks += check(&name, &[random(lhs), random(rhs)], &|_, x| x[0].dot(x[1], dims.clone()));
    }
    checks += check("gram", &[random(&[3, 3])], &|_, x| x[0].matmul(x[0].transpose(&[1, 0])));
    checks += check("power", &[random(&[3, 3])], &|_, x| x[0].matmul(x[0]).matmul(x[0]));
    eprintln!("dots: {checks} comparisons");
}

/// A convolution and the shapes of its x and w.
fn convolution(
    input: &[usize],
    kernel: &[usize],
    (stride, dilation): (&[usize], &[usize]),
    (low, high): (&[i64], &[i64]),
    groups: usize,
) -> ConvOp {
    let output = (0..input.len()).map(|axis| {
        let reach = (kernel[axis] - 1) * dilation[axis] + 1;
        (input[axis] as i64 + low[axis] + high[axis] - reach as i64) as usize / stride[axis] + 1
    });
    ConvOp {
        form: ConvForm::Forward,
        input: input.to_vec(),
        kernel: kernel.to_vec(),
        output: output.collect(),
        stride: stride.to_vec(),
        dilation: dilation.to_vec(),
        pad_low: low.to_vec(),
        groups,
    }
}

#[test]
pub fn convolutions() {
    let cases = [
        (convolution(&[6], &[3], (&[1], &[1]), (&[0], &[0]), 1), 2, 2, 3),
        (convolution(&[7], &[3], (&[2], &[1]), (&[1], &[1]), 1), 1, 2, 2),
        (convolution(&[8], &[2], (&[3], &[2]), (&[2], &[0]), 2), 1, 4, 2),
        (convolution(&[5], &[2], (&[2], &[1]), (&[-1], &[0]), 1), 1, 1, 1),
        (convolution(&[4, 5], &[2, 3], (&[2, 1], &[1, 2]), (&[1, 0], &[0, 1]), 1), 2, 2, 2),
        (convolution(&[4, 4], &[3, 3], (&[1, 1], &[1, 1]), (&[1, 1], &[1, 1]), 3), 1, 3, 3),
        (convolution(&[3, 4, 3], &[2, 2, 1], (&[1, 2, 1], &[1, 1, 1]), (&[0, 0, 0], &[0, 0, 0]), 1), 1, 1, 2),
        (convolution(&[2, 1, 5], &[1, 1, 2], (&[1, 1, 2], &[1, 1, 2]), (&[0, 0, 1], &[0, 0, 1]), 1), 1, 1, 1),
        (convolution(&[], &[], (&[], &[]), (&[], &[]), 1), 2, 3, 2),
    ];
    let mut checks = 0;
    for (conv, batch, channels, features) in cases {
        let x = [&[batch, channels], &conv.input[..]].concat();
        let w = [&[features, channels / conv.groups], &conv.kernel[..]].concat();
        let y = [&[batch, features], &conv.output[..]].concat();
        let forms = [(ConvForm::Forward, &x, &w), (ConvForm::Input, &y, &w), (ConvForm::Weight, &x, &y)];
        for (form, first, second) in forms {
            let op = Op::Conv(ConvOp { form, ..conv.clone() });
            let name = format!("{op:?}");
            checks += check(&name, &[random(first), random(second)], &|_, x| apply(op.clone(), x));
        }
    }
    eprintln!("convolutions: {checks} comparisons");
}

#[test]
pub fn windows() {
    type Case<'a> = (&'a [usize], [&'a [usize]; 3], [&'a [i64]; 2]);
    let cases: [Case; 9] = [
        (&[5], [&[2], &[1], &[1]], [&[0], &[0]]),
        (&[5], [&[2], &[2], &[1]], [&[0], &[0]]),
        (&[6], [&[3], &[2], &[2]], [&[1], &[2]]),
        (&[6], [&[3], &[1], &[1]], [&[-1], &[0]]),
        (&[4, 5], [&[2, 3], &[1, 2], &[1, 1]], [&[1, 0], &[0, 1]]),
        (&[1, 2, 4, 4], [&[1, 1, 3, 3], &[1, 1, 2, 2], &[1, 1, 1, 1]], [&[0, 0, 1, 1], &[0, 0, 1, 1]]),
        (&[3], [&[2], &[1], &[1]], [&[3], &[4]]),
        (&[2], [&[4], &[1], &[1]], [&[0], &[0]]),
        (&[0], [&[1], &[1], &[1]], [&[0], &[0]]),
    ];
    let mut checks = 0;
    for (shape, [window, stride, dilation], [low, high]) in cases {
        let op = |kind: WindowKind| {
            Op::Window(WindowOp {
                kind,
                window: window.to_vec(),
                stride: stride.to_vec(),
                dilation: dilation.to_vec(),
                pad_low: low.to_vec(),
                pad_high: high.to_vec(),
            })
        };
        let name = format!("window {window:?} of {shape:?}");
        checks += check(&name, &[random(shape)], &|_, x| apply(op(WindowKind::Sum), x).sin());
        // Windows that hold nothing yield -inf: exp makes them comparable.
        checks += check(&name, &[random(shape)], &|_, x| apply(op(WindowKind::Max), x).exp());
        let spread = |x: Expr<'_>| WindowKind::Spread { shape: x.shape() };
        checks += check(&name, &[random(shape)], &|_, x| {
            let sums = apply(op(WindowKind::Sum), x);
            apply(op(spread(x[0])), &[sums.sin()])
        });
    }
    eprintln!("windows: {checks} comparisons");
}
