//! The interpreter against values computed by hand, operator by operator, edges included.

mod control;
mod direct;
mod driver;
mod element;
mod product;
mod reduce;
mod shape;
mod window;

use gradc_ir::*;

/// The only result of an operator.
fn one(op: Op, operands: &[Literal]) -> Literal {
    let mut results = eval_op(&op, operands).expect("the operator has a value");
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// The f64 elements of the only result; the operands are converted to no other type.
fn numbers(op: Op, operands: &[Literal]) -> Vec<f64> {
    one(op, operands).to_f64()
}

/// The elements of the only result, of integers or bools.
fn integers(op: Op, operands: &[Literal]) -> Vec<i64> {
    one(op, operands).to_i64().expect("integers")
}

fn f32s(shape: &[usize], elements: &[f32]) -> Literal {
    Literal::new(shape, elements)
}

fn f64s(shape: &[usize], elements: &[f64]) -> Literal {
    Literal::new(shape, elements)
}

fn i64s(shape: &[usize], elements: &[i64]) -> Literal {
    Literal::new(shape, elements)
}

/// 0, 1, 2, ... as f64.
fn counted(shape: &[usize]) -> Literal {
    let length: usize = shape.iter().product();
    f64s(shape, &(0..length).map(|i| i as f64).collect::<Vec<_>>())
}

/// Equal bit for bit, but that all NaNs are equal.
#[track_caller]
fn assert_same(got: &[f64], wanted: &[f64]) {
    let same = |(g, w): (&f64, &f64)| g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan();
    assert!(got.len() == wanted.len() && got.iter().zip(wanted).all(same), "got {got:?}, wanted {wanted:?}");
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
