//! Small floats: gradients that many terms make up are added in a wide type.

use crate::harness::*;
use gradc_ir::{Builder, CumulativeOp, DType, Literal, Op, ReduceOp, ScanOp, ScatterOp, Shape, TensorType};
use std::sync::Arc;

fn near(got: f64, wanted: f64, tolerance: f64) {
    assert!((got - wanted).abs() <= tolerance * wanted.abs(), "{got} is not {wanted}");
}

#[test]
pub fn f16_gather_of_one_element_many_times() {
    // Adding 1 to 2048 in f16 is lost.
    let x = Literal::scalar_of(DType::F16, 1.0).reshaped([1]).unwrap();
    let found = gradient(&[x], &|builder, x| x[0].gather(0, index(builder, &[5000], &[0; 5000])));
    near(found[0][0], 5000.0, 1e-3);
}

#[test]
pub fn bf16_constant_of_a_long_loop() {
    let scalar = TensorType::scalar(DType::BF16);
    let step = Builder::new("step");
    let (c, x) = (step.expr(step.input("c", scalar.clone())), step.expr(step.input("x", scalar.clone())));
    let outputs = [(c * x).value()];
    let body = Arc::new(step.finish(&outputs));
    let op = ScanOp { body, trip: 3000, constants: 1, carries: 0, reverse: false };
    let found = gradient(&[Literal::scalar_of(DType::BF16, 1.0)], &|builder, x| {
        let ones = builder.splat(&TensorType::new(DType::BF16, [3000]), 1.0);
        builder.build(Op::Scan(op.clone()), &[x[0].value(), ones.value()]).project(0)
    });
    near(found[0][0], 3000.0, 1e-2);
}

#[test]
pub fn f16_ties_beyond_the_range_of_f16() {
    for op in [ReduceOp::Max, ReduceOp::Min] {
        let one = Literal::scalar_of(DType::F16, 1.0);
        let found = gradient(&[one], &|_, x| x[0].broadcast(&Shape::from([2, 70_000]), &[]).reduce(op, &[1]));
        near(found[0][0], 2.0, 1e-2);
    }
}

#[test]
pub fn f16_scattered_ties() {
    let zero = Literal::scalar_of(DType::F16, 0.0).reshaped([1]).unwrap();
    let found = gradient(&[zero], &|builder, x| {
        let updates = x[0].reshape(&Shape::scalar()).broadcast(&Shape::from([70_000]), &[]);
        let target = builder.splat(&TensorType::new(DType::F16, [1]), -1.0);
        target.scatter(0, ScatterOp::Max, index(builder, &[70_000], &[0; 70_000]), updates)
    });
    near(found[0][0], 1.0, 1e-2);
}

#[test]
pub fn bf16_running_product_of_many() {
    // The last of the terms of each sum would be lost from 256 on.
    let ones = Literal::from_bytes(TensorType::new(DType::BF16, [1000]), [0x80, 0x3f].repeat(1000).into());
    for reverse in [false, true] {
        let found = gradient(&[ones.clone().unwrap()], &|builder, x| {
            let op = CumulativeOp::Prod;
            builder.build(Op::Cumulative { op, axis: 0, exclusive: false, reverse }, &[x[0].value()])
        });
        for (place, &found) in found[0].iter().enumerate() {
            near(found, if reverse { place + 1 } else { 1000 - place } as f64, 4e-3);
        }
    }
}

#[test]
pub fn f16_product_whose_parts_are_beyond_the_range_of_f16() {
    let factors = [512.0, 512.0, 1.0 / 512.0, 1.0 / 512.0];
    let bytes = factors.iter().flat_map(|&x| Literal::scalar_of(DType::F16, x).bytes().to_vec());
    let x = Literal::from_bytes(TensorType::new(DType::F16, [4]), bytes.collect::<Vec<u8>>().into()).unwrap();
    let found = gradient(&[x], &|_, x| x[0].reduce(ReduceOp::Prod, &[0]));
    for (found, factor) in found[0].iter().zip(factors) {
        near(*found, 1.0 / factor, 1e-3);
    }
}

#[test]
pub fn every_float_type() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = Literal::scalar_of(dtype, 0.75);
        let found = gradient(&[x], &|_, x| {
            let y = x[0].broadcast(&Shape::from([4]), &[]);
            y.exp() * y.log()
                + y.pow(y.splat(1.5)) / y.sqrt()
                + y.reduce(ReduceOp::Prod, &[0]).unreduce(&y.shape(), &[0])
        });
        let e = 0.75f64.exp();
        near(found[0][0], 4.0 * (e * 0.75f64.ln() + e / 0.75 + 1.0 + 4.0 * 0.75f64.powi(3)), 2e-2);
    }
}
