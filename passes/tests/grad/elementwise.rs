//! Elementwise operators.

use crate::harness::*;
use gradc_ir::{BinaryOp, DType, Literal, Shape, UnaryOp};

const SHAPES: [&[usize]; 6] = [&[], &[1], &[7], &[0], &[2, 3], &[3, 0, 2]];

/// Points where the function is smooth.
fn domain(op: UnaryOp) -> (f64, f64) {
    match op {
        UnaryOp::Sqrt | UnaryOp::Log => (0.3, 3.0),
        UnaryOp::Log1p => (-0.6, 3.0),
        UnaryOp::Tan => (-1.2, 1.2),
        UnaryOp::Asin | UnaryOp::Acos | UnaryOp::Atanh => (-0.8, 0.8),
        UnaryOp::Acosh => (1.2, 4.0),
        UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => (0.1, 0.4),
        _ => (-2.0, 2.0),
    }
}

#[test]
pub fn unary() {
    let mut checks = 0;
    for &op in UnaryOp::ALL.iter().filter(|op| op.accepts().0(DType::F64)) {
        for shape in SHAPES {
            let (low, high) = domain(op);
            let x = Random::new(shape.len() as u64).tensor(shape, low, high);
            checks += check(op.name(), &[x], &|_, x| x[0].unary(op));
        }
    }
    let x = Random::new(1).tensor(&[5], -0.4, -0.1);
    checks += check("abs of negatives", &[x], &|_, x| x[0].abs());
    eprintln!("unary: {checks} comparisons");
}

#[test]
pub fn binary() {
    let mut checks = 0;
    for &op in BinaryOp::ALL.iter().filter(|op| op.accepts().0(DType::F64)) {
        for shape in SHAPES {
            let mut random = Random::new(shape.len() as u64 + 20);
            let a = random.tensor(shape, 1.1, 1.9);
            let b = random.tensor(shape, 0.3, 0.9);
            checks += check(op.name(), &[a.clone(), b.clone()], &|_, x| x[0].binary(op, x[1]));
            checks += check(op.name(), &[a.clone(), b], &|_, x| x[1].binary(op, x[0]));
            // Both operands the same, and the operand used again.
            if !matches!(op, BinaryOp::Max | BinaryOp::Min | BinaryOp::Rem) {
                checks += check(op.name(), std::slice::from_ref(&a), &|_, x| x[0].binary(op, x[0]));
            }
            checks += check(op.name(), &[a], &|_, x| x[0].binary(op, x[0].sin() + 2.3) * x[0]);
        }
    }
    eprintln!("binary: {checks} comparisons");
}

#[test]
pub fn signs_of_operands() {
    let a = tensor(&[4], &[5.3, -5.3, 5.3, -5.3]);
    let b = tensor(&[4], &[3.0, 3.0, -3.0, -3.0]);
    for op in [BinaryOp::Rem, BinaryOp::Atan2, BinaryOp::Div, BinaryOp::Mul] {
        check(op.name(), &[a.clone(), b.clone()], &|_, x| x[0].binary(op, x[1]));
    }
}

#[test]
pub fn constant_exponents() {
    let mut checks = 0;
    for exponent in [0.0, 1.0, 2.0, 3.0, 0.5, -1.0, -0.5, 1.5, 2.5] {
        let x = tensor(&[3], &[0.4, 1.0, 2.2]);
        checks += check("pow", &[x], &|_, x| x[0].pow(x[0].splat(exponent)));
    }
    for exponent in [2.0, 3.0, 5.0, -1.0] {
        let x = tensor(&[3], &[-0.4, -1.0, -2.2]);
        checks += check("pow of negatives", &[x], &|_, x| x[0].pow(x[0].splat(exponent)));
    }
    eprintln!("constant exponents: {checks} comparisons");
}

#[test]
pub fn select_and_casts() {
    let mut checks = 0;
    for shape in SHAPES {
        let inputs = [random(shape), Random::new(3).tensor(shape, 0.5, 2.0)];
        checks += check("select", &inputs, &|_, x| x[0].lt(x[1]).select(x[0] * x[1], x[1].exp() - x[0]));
        checks +=
            check("one branch", &inputs, &|_, x| x[0].lt(x[1]).select(x[0].sin(), x[1].splat(2.0)) * x[1]);
    }
    // Through a narrower type the derivative is that of the identity.
    let x = Literal::new(Shape::from([3]), &[0.5, 1.25, -3.0]);
    let found = gradient(&[x], &|_, x| x[0].cast(DType::F16).cast(DType::F32).cast(DType::F64) * 3.0);
    assert_eq!(found[0], [3.0, 3.0, 3.0]);
    eprintln!("select: {checks} comparisons");
}

#[test]
pub fn many_elements() {
    // More than any tile and more than 16 bits can count.
    let x = Random::new(5).tensor(&[70_001], 0.5, 1.5);
    let checks = check_first("large", &[x], &|_, x| x[0].log() * x[0].sqrt() / (x[0] + 1.0));
    eprintln!("many elements: {checks} comparisons");
}

#[test]
pub fn tails_keep_their_relative_accuracy() {
    for x in [-30.0, -40.0, -300.0] {
        let relative = |got: f64| (got / f64::exp(x) - 1.0).abs();
        assert!(relative(slope(x, &|_, x| x[0].expm1())) < 1e-12);
        assert!(relative(slope(x, &|_, x| x[0].softplus())) < 1e-12);
        assert!(relative(slope(x, &|_, x| x[0].sigmoid())) < 1e-12);
    }
}
