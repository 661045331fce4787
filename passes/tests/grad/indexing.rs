//! Gather and scatter, with repeated indices.

use crate::harness::*;
use gradc_ir::ScatterOp;

/// Shape of x, axis, shape of the index, index.
type Case = (&'static [usize], usize, &'static [usize], &'static [i64]);

const CASES: [Case; 9] = [
    (&[4], 0, &[3], &[2, 0, 3]),
    (&[4], 0, &[5], &[0, 0, 1, 0, 3]),
    (&[4], 0, &[], &[2]),
    (&[4], 0, &[1], &[2]),
    (&[4], 0, &[0], &[]),
    (&[3, 2], 0, &[2, 2], &[1, 1, 2, 1]),
    (&[2, 3], 1, &[4], &[0, 2, 2, 1]),
    (&[2, 3, 2], 1, &[2, 2], &[0, 2, 2, 0]),
    (&[2, 0], 0, &[3], &[0, 1, 1]),
];

#[test]
pub fn gathers() {
    let mut checks = 0;
    for (shape, axis, of, elements) in CASES {
        checks += check("gather", &[random(shape)], &|builder, x| {
            x[0].gather(axis, index(builder, of, elements)).sin()
        });
    }
    eprintln!("gathers: {checks} comparisons");
}

#[test]
pub fn scatters() {
    let mut checks = 0;
    for (shape, axis, of, elements) in CASES {
        let update = [&shape[..axis], of, &shape[axis + 1..]].concat();
        for op in [ScatterOp::Set, ScatterOp::Add, ScatterOp::Mul, ScatterOp::Max, ScatterOp::Min] {
            let name = format!("{op:?} into {shape:?} at {elements:?} along {axis}");
            let inputs = [random(shape), Random::new(9).tensor(&update, -1.7, 1.9)];
            checks += check(&name, &inputs, &|builder, x| {
                x[0].scatter(axis, op, index(builder, of, elements), x[1])
            });
            checks += check(&name, &inputs, &|builder, x| {
                x[0].scatter(axis, op, index(builder, of, elements), x[1].sin()).sin() * x[0]
            });
        }
    }
    eprintln!("scatters: {checks} comparisons");
}

#[test]
pub fn scattered_products_with_zeros() {
    let mut checks = 0;
    for updates in [[0.0, 1.5, -2.0, 0.7], [0.0, 1.5, 0.0, 0.7], [0.0, 0.0, 0.0, 0.7]] {
        let inputs = [tensor(&[3], &[0.0, 1.2, -0.4]), tensor(&[4], &updates)];
        checks += check("scatter mul", &inputs, &|builder, x| {
            x[0].scatter(0, ScatterOp::Mul, index(builder, &[4], &[0, 1, 0, 1]), x[1])
        });
    }
    eprintln!("scattered products: {checks} comparisons");
}
