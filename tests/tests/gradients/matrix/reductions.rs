//! Reductions, running reductions, searches, sorting, normalizations.

use super::sample::{Dress, Family, Sample, operand, sample};
use gradc_ir::{ArgOp, CumulativeOp, Expr, Op, ReduceOp};

/// Shapes with the axes that are reduced; `empty` also those whose reduction has no elements.
fn reduced(empty: bool) -> Vec<(Vec<usize>, Vec<usize>, Dress)> {
    let plain: [(&[usize], &[usize]); 22] = [
        (&[], &[]),
        (&[3], &[]),
        (&[1], &[0]),
        (&[7], &[0]),
        (&[16], &[0]),
        (&[131], &[0]),
        (&[4099], &[0]),
        (&[2, 3], &[0]),
        (&[2, 3], &[1]),
        (&[2, 3], &[0, 1]),
        (&[5, 7, 3], &[0]),
        (&[5, 7, 3], &[1]),
        (&[5, 7, 3], &[2]),
        (&[5, 7, 3], &[0, 2]),
        (&[5, 7, 3], &[0, 1, 2]),
        (&[2, 1, 3, 1, 2], &[1, 3]),
        (&[2, 1, 3, 1, 2], &[0, 4]),
        (&[3, 259], &[0]),
        (&[3, 259], &[1]),
        (&[70, 67], &[0]),
        (&[70, 67], &[1]),
        (&[0, 3], &[1]),
    ];
    let mut all: Vec<_> =
        plain.iter().map(|(shape, axes)| (shape.to_vec(), axes.to_vec(), Dress::Plain)).collect();
    if empty {
        all.push((vec![0], vec![0], Dress::Plain));
        all.push((vec![3, 0, 2], vec![1], Dress::Plain));
    }
    for (index, dress) in Dress::ALL.into_iter().enumerate() {
        all.push((vec![4, 5], vec![index % 2], dress));
        all.push((vec![3, 2, 4], vec![[0], [1], [2]][index % 3].to_vec(), dress));
    }
    all
}

fn reduce(op: ReduceOp) -> Family {
    let (operator, sums) = match op {
        ReduceOp::Sum => ("reduce_sum", true),
        ReduceOp::Prod => ("reduce_prod", true),
        ReduceOp::Max => ("reduce_max", false),
        ReduceOp::Min => ("reduce_min", false),
    };
    let cases = reduced(sums).into_iter().map(|(shape, axes, dress)| {
        let few: usize = axes.iter().map(|&axis| shape[axis]).product();
        let range = match op {
            ReduceOp::Prod if few > 16 => [0.97, 1.03],
            ReduceOp::Prod => [0.4, 1.7],
            // A long sum that cancels is small beside its terms, and what is asked is a part of the sum.
            ReduceOp::Sum if few > 16 => [0.2, 2.0],
            ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min => [-2.0, 2.0],
        };
        let label = format!("{shape:?} over {axes:?} {dress:?}");
        sample(label, vec![operand(&shape, range).wearing(dress)], move |builder, x| {
            builder.build(Op::Reduce { op, axes: axes.clone() }, &[x[0].value()])
        })
    });
    Family { operator, samples: cases.collect() }
}

/// Shapes with one axis; `empty` also where that is empty.
fn lines(empty: bool) -> Vec<(Vec<usize>, usize, Dress)> {
    let cases = reduced(empty).into_iter().filter(|(_, axes, _)| axes.len() == 1);
    cases.map(|(shape, axes, dress)| (shape, axes[0], dress)).collect()
}

fn along(
    operator: &'static str,
    empty: bool,
    range: fn(usize) -> [f64; 2],
    build: impl for<'b> Fn(Expr<'b>, usize, usize) -> Expr<'b> + Copy + 'static,
) -> Family {
    // The derivatives of a softmax over equal elements cancel: what is left of them is rounding.
    let cancels = |axis: usize, dress: Dress| {
        let constant = [Dress::Scalar, Dress::Lacks(axis), Dress::Repeats(axis)].contains(&dress);
        operator.ends_with("softmax") && constant
    };
    let cases = lines(empty).into_iter().filter(|&(_, axis, dress)| !cancels(axis, dress));
    let cases = cases.enumerate().map(|(index, (shape, axis, dress))| {
        let operands = vec![operand(&shape, range(shape[axis])).wearing(dress)];
        sample(format!("{shape:?} along {axis} {dress:?}"), operands, move |_, x| build(x[0], axis, index))
    });
    let mut samples: Vec<Sample> = cases.collect();
    samples.push(sample("beside itself", vec![operand(&[3, 5], range(5))], move |_, x| {
        let y = build(x[0], 1, 0);
        if y.shape() == x[0].shape() { y * x[0] } else { y * x[0].sum(&[1]) }
    }));
    Family { operator, samples }
}

fn wide(_: usize) -> [f64; 2] {
    [-2.0, 2.0]
}

fn factors(length: usize) -> [f64; 2] {
    if length > 16 { [0.97, 1.03] } else { [0.4, 1.7] }
}

fn node(x: Expr<'_>, op: Op) -> Expr<'_> {
    x.builder().build(op, &[x.value()])
}

/// What stands at these positions along an axis, of each line: by a mask of equal positions.
fn at_positions<'b>(x: Expr<'b>, axis: usize, position: Expr<'b>) -> Expr<'b> {
    let shape = x.shape();
    let counted =
        x.builder().iota(gradc_ir::TensorType { dtype: position.dtype(), shape: shape.clone() }, axis);
    let chosen = counted.eq(position.unreduce(&shape, &[axis]));
    chosen.select(x * x, x.splat(0.0)).sum(&[axis])
}

fn cumulative(x: Expr<'_>, op: CumulativeOp, axis: usize, index: usize) -> Expr<'_> {
    node(x, Op::Cumulative { op, axis, exclusive: index % 2 == 1, reverse: index / 2 % 2 == 1 })
}

pub fn families() -> Vec<Family> {
    vec![
        reduce(ReduceOp::Sum),
        reduce(ReduceOp::Prod),
        reduce(ReduceOp::Max),
        reduce(ReduceOp::Min),
        along("cumulative_sum", true, wide, |x, axis, index| cumulative(x, CumulativeOp::Sum, axis, index)),
        along("cumulative_prod", true, factors, |x, axis, index| {
            cumulative(x, CumulativeOp::Prod, axis, index)
        }),
        along("softmax", true, wide, |x, axis, _| node(x, Op::Softmax { axis })),
        along("log_softmax", true, wide, |x, axis, _| node(x, Op::LogSoftmax { axis })),
        along("arg_max", false, wide, |x, axis, index| {
            at_positions(x, axis, node(x, Op::ArgReduce { op: ArgOp::Max, axis, last: index % 2 == 1 }))
        }),
        along("arg_min", false, wide, |x, axis, index| {
            at_positions(x, axis, node(x, Op::ArgReduce { op: ArgOp::Min, axis, last: index % 2 == 1 }))
        }),
        // The positions decide on weights: what is sorted keeps its gradient.
        along("arg_sort", true, wide, |x, axis, index| {
            let order = node(x, Op::ArgSort { axis, count: x.shape()[axis], descending: index % 2 == 1 });
            x * x * (order.cast(x.dtype()) * 0.0625)
        }),
    ]
}
