//! Operators that move elements, with constant positions or with such as are data.

use super::sample::{Dress, Family, Operand, Sample, operand, sample};
use gradc_ir::{Expr, Literal, Op, ScatterOp, Shape};

const RANGE: [f64; 2] = [-2.0, 2.0];

/// Shapes that are moved around, plain and dressed.
fn shapes() -> Vec<(Vec<usize>, Dress)> {
    let plain: [&[usize]; 13] = [
        &[1],
        &[7],
        &[16],
        &[131],
        &[4099],
        &[2, 3],
        &[1, 6],
        &[5, 7, 3],
        &[3, 259],
        &[70, 67],
        &[2, 1, 3, 1, 2],
        &[2, 3, 4, 5],
        &[33, 2],
    ];
    let mut all: Vec<(Vec<usize>, Dress)> = plain.map(|shape| (shape.to_vec(), Dress::Plain)).to_vec();
    for dress in Dress::ALL {
        all.push((vec![4, 5], dress));
    }
    for dress in [Dress::Transposed, Dress::Sliced, Dress::Lacks(2), Dress::Repeats(2), Dress::Reversed] {
        all.push((vec![3, 2, 4], dress));
    }
    all
}

fn dressed(shape: &[usize], dress: Dress) -> Operand {
    operand(shape, RANGE).wearing(dress)
}

/// A movement of one operand, for each shape and its number in the list; empty shapes and scalars too where it has any.
fn moved(
    operator: &'static str,
    extremes: bool,
    build: impl for<'b> Fn(Expr<'b>, usize) -> Expr<'b> + Copy + 'static,
) -> Family {
    let extreme: &[&[usize]] = if extremes { &[&[], &[0], &[3, 0, 2]] } else { &[] };
    let all = shapes().into_iter().chain(extreme.iter().map(|shape| (shape.to_vec(), Dress::Plain)));
    let samples = all.enumerate().map(|(index, (shape, dress))| {
        let label = format!("{shape:?} {dress:?}");
        sample(label, vec![dressed(&shape, dress)], move |_, x| {
            let y = build(x[0], index);
            y * y
        })
    });
    Family { operator, samples: samples.collect() }
}

fn node(x: Expr<'_>, op: Op) -> Expr<'_> {
    x.builder().build(op, &[x.value()])
}

fn views() -> Vec<Family> {
    let broadcast = |x: Expr<'_>, index: usize| -> Vec<usize> {
        let mut lengths = x.shape().to_vec();
        lengths.insert(index % (x.rank() + 1), 1 + index % 4);
        lengths
    };
    vec![
        moved("broadcast", true, move |x, index| {
            let place = index % (x.rank() + 1);
            let dims = (0..x.rank()).map(|axis| axis + usize::from(axis >= place)).collect();
            node(x, Op::Broadcast { shape: Shape::new(&broadcast(x, index)), dims })
        }),
        moved("reshape", true, |x, index| {
            let count = x.shape().elements();
            let shape = match index % 3 {
                0 => vec![count],
                1 => vec![1, count, 1],
                _ => x.shape().iter().rev().copied().collect(),
            };
            node(x, Op::Reshape { shape: Shape::new(&shape) })
        }),
        moved("transpose", true, |x, index| {
            let mut permutation: Vec<usize> = (0..x.rank()).collect();
            permutation
                .rotate_left(usize::from(x.rank() > 0) * (1 + index % x.rank().max(1)) % x.rank().max(1));
            if index % 2 == 0 {
                permutation.reverse();
            }
            node(x, Op::Transpose { permutation })
        }),
        moved("reverse", true, |x, index| {
            let axes = (0..x.rank()).filter(|axis| (axis + index) % 2 == 0 || x.rank() == 1).collect();
            node(x, Op::Reverse { axes })
        }),
        moved("slice", true, |x, index| {
            let shape = x.shape();
            let step: Vec<usize> = (0..x.rank()).map(|axis| 1 + (axis + index) % 3).collect();
            let start: Vec<usize> = shape.iter().map(|&length| (index % 2).min(length)).collect();
            let limit: Vec<usize> = shape.iter().map(|&length| length - usize::from(length > 2)).collect();
            let start: Vec<usize> =
                start.iter().zip(&limit).map(|(&start, &limit)| start.min(limit)).collect();
            node(x, Op::Slice { start, limit, step })
        }),
    ]
}

fn pads() -> Family {
    let all = shapes().into_iter().chain([(vec![], Dress::Plain), (vec![0], Dress::Plain)]);
    let samples = all.enumerate().map(|(index, (shape, dress))| {
        let rank = shape.len();
        let low: Vec<i64> = (0..rank).map(|axis| (axis + index) as i64 % 4 - 1).collect();
        let interior: Vec<usize> = (0..rank).map(|axis| (axis + index) % 2 + index % 3).collect();
        // Never more taken away than there is.
        let high: Vec<i64> =
            low.iter().map(|&low| if low < 0 { 2 } else { i64::from(index % 5 == 0) }).collect();
        let operands = vec![dressed(&shape, dress), operand(&[], RANGE)];
        sample(format!("{shape:?} {dress:?}"), operands, move |builder, x| {
            let op = Op::Pad { low: low.clone(), high: high.clone(), interior: interior.clone() };
            let y = builder.build(op, &[x[0].value(), x[1].value()]);
            y * y
        })
    });
    Family { operator: "pad", samples: samples.collect() }
}

fn concats() -> Family {
    let samples = shapes().into_iter().enumerate().map(|(index, (shape, dress))| {
        let axis = index % shape.len();
        let mut other = shape.clone();
        other[axis] = index % 4;
        let operands = vec![dressed(&shape, dress), operand(&other, RANGE)];
        sample(format!("{shape:?} {dress:?}"), operands, move |builder, x| {
            let parts = [x[0].value(), x[1].value(), x[0].value()];
            let y = builder.build(Op::Concat { axis }, &parts[..2 + index % 2]);
            y * y
        })
    });
    Family { operator: "concat", samples: samples.collect() }
}

/// Positions below `limit`, some of them more than once.
fn positions(shape: &[usize], limit: usize, seed: usize) -> Literal {
    let count: usize = shape.iter().product();
    let elements: Vec<i64> = (0..count).map(|place| ((place * 5 + seed) / 2 % limit) as i64).collect();
    Literal::new(Shape::new(shape), &elements)
}

fn index_shape(number: usize) -> Vec<usize> {
    [vec![5], vec![2, 3], vec![], vec![1], vec![0], vec![37]][number % 6].clone()
}

fn gathers() -> Family {
    let samples = shapes().into_iter().enumerate().map(|(number, (shape, dress))| {
        let axis = number % shape.len();
        let index = positions(&index_shape(number), shape[axis], number);
        sample(
            format!("{shape:?} at {:?} {dress:?}", index.shape()),
            vec![dressed(&shape, dress)],
            move |builder, x| {
                let y = x[0].gather(axis, builder.constant(index.clone()));
                y * y
            },
        )
    });
    let mut samples: Vec<Sample> = samples.collect();
    samples.push(sample(
        "positions from data",
        vec![operand(&[6], [0.1, 5.9]), operand(&[6, 2], RANGE)],
        |_, x| x[1].gather(0, x[0].cast(gradc_ir::DType::I32)) * x[0].broadcast(&Shape::from([6, 2]), &[0]),
    ));
    Family { operator: "gather", samples }
}

fn scatters(op: ScatterOp) -> Family {
    let operator = match op {
        ScatterOp::Set => "scatter",
        ScatterOp::Add => "scatter_add",
        ScatterOp::Mul => "scatter_mul",
        ScatterOp::Max => "scatter_max",
        ScatterOp::Min => "scatter_min",
    };
    let range = if op == ScatterOp::Mul { [0.7, 1.4] } else { RANGE };
    let samples = shapes().into_iter().enumerate().map(|(number, (shape, dress))| {
        let axis = number % shape.len();
        let indexed = index_shape(number);
        let index = positions(&indexed, shape[axis], number);
        let update = [&shape[..axis], &indexed, &shape[axis + 1..]].concat();
        let operands = vec![operand(&shape, range).wearing(dress), operand(&update, range)];
        sample(format!("{shape:?} at {:?} {dress:?}", index.shape()), operands, move |builder, x| {
            let y = x[0].scatter(axis, op, builder.constant(index.clone()), x[1]);
            y * y
        })
    });
    Family { operator, samples: samples.collect() }
}

pub fn families() -> Vec<Family> {
    let mut all = views();
    all.extend([pads(), concats(), gathers()]);
    all.extend(
        [ScatterOp::Set, ScatterOp::Add, ScatterOp::Mul, ScatterOp::Max, ScatterOp::Min].map(scatters),
    );
    all
}
