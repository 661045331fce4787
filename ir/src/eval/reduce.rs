//! Reductions, running reductions, searches and sorts, all along lines of a tensor.
//!
//! Floats accumulate in f64 in row-major order and are rounded once.

use super::shape::{lines, offsets_of};
use super::tensor::{Data, Number, Tensor, each};
use crate::*;
use std::cmp::Ordering;

pub(super) fn reduce(op: ReduceOp, axes: &[usize], x: &Tensor, ty: &TensorType) -> Tensor {
    fn fold<T: Number>(op: ReduceOp, x: &[T], dtype: DType, kept: &[usize], reduced: &[usize]) -> Vec<T> {
        let (identity, combine): (T, fn(T, T) -> T) = match op {
            ReduceOp::Sum => (T::ZERO, T::add),
            ReduceOp::Prod => (T::ONE, T::mul),
            ReduceOp::Max => (T::least(dtype), T::greater),
            ReduceOp::Min => (T::greatest(dtype), T::lesser),
        };
        let line =
            |base: &usize| reduced.iter().fold(identity, |result, offset| combine(result, x[base + offset]));
        kept.iter().map(line).collect()
    }
    let others: Vec<usize> = (0..x.shape().rank()).filter(|axis| !axes.contains(axis)).collect();
    let kept = offsets_of(x.shape(), &others);
    // Without lines there is nothing to reduce, and an axis of any length may stand beside.
    let reduced = if kept.is_empty() { Vec::new() } else { offsets_of(x.shape(), axes) };
    Tensor::computed(ty.clone(), each!(x, x => fold(op, x, ty.dtype, &kept, &reduced)))
}

/// Calls `each` with the position of the first element of every line along the axis, in row-major order.
fn each_line(shape: &Shape, axis: usize, mut each: impl FnMut(usize)) {
    if shape.elements() > 0 {
        let (outer, length, inner) = lines(shape, axis);
        (0..outer).for_each(|line| (0..inner).for_each(|start| each(line * length * inner + start)));
    }
}

pub(super) fn arg_reduce(op: ArgOp, axis: usize, last: bool, x: &Tensor, ty: &TensorType) -> Tensor {
    fn search<T: Number>(x: &[T], op: ArgOp, last: bool, length: usize, stride: usize) -> i128 {
        let beats = |a: T, b: T| {
            let order = match op {
                ArgOp::Max => a.order(b),
                ArgOp::Min if a.is_nan() || b.is_nan() => a.order(b),
                ArgOp::Min => b.order(a),
            };
            order == Ordering::Greater || last && order == Ordering::Equal
        };
        (1..length).fold(0, |best, i| if beats(x[i * stride], x[best * stride]) { i } else { best }) as i128
    }
    let (_, length, stride) = lines(x.shape(), axis);
    let mut positions = Vec::with_capacity(ty.shape.elements());
    each_line(x.shape(), axis, |start| {
        positions.push(match &*x.data {
            Data::Float(x) => search(&x[start..], op, last, length, stride),
            Data::Integer(x) => search(&x[start..], op, last, length, stride),
        });
    });
    Tensor::moved(ty.clone(), Data::Integer(positions))
}

pub(super) fn arg_sort(axis: usize, descending: bool, x: &Tensor, ty: &TensorType) -> Tensor {
    fn sort<T: Number>(x: &[T], descending: bool, length: usize, stride: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        order.sort_by(|&a, &b| {
            let order = x[a * stride].order(x[b * stride]);
            if descending { order.reverse() } else { order }
        });
        order
    }
    let (_, length, stride) = lines(x.shape(), axis);
    let count = ty.shape[axis];
    let mut positions = vec![0; ty.shape.elements()];
    each_line(x.shape(), axis, |start| {
        let order = match &*x.data {
            Data::Float(x) => sort(&x[start..], descending, length, stride),
            Data::Integer(x) => sort(&x[start..], descending, length, stride),
        };
        // Lines of the result are shorter, but as far apart within a line.
        let own = start / (length * stride) * count * stride + start % stride;
        for (i, from) in order.into_iter().take(count).enumerate() {
            positions[own + i * stride] = from as i128;
        }
    });
    Tensor::moved(ty.clone(), Data::Integer(positions))
}

pub(super) fn cumulative(
    op: CumulativeOp,
    axis: usize,
    exclusive: bool,
    reverse: bool,
    x: &Tensor,
) -> Tensor {
    let shape = x.shape();
    let (_, length, stride) = lines(shape, axis);
    let place = |i: usize| if reverse { length - 1 - i } else { i };
    macro_rules! accumulate {
        ($x:expr, $number:ty) => {{
            let (identity, combine): ($number, fn($number, $number) -> $number) = match op {
                CumulativeOp::Sum => (Number::ZERO, Number::add),
                CumulativeOp::Prod => (Number::ONE, Number::mul),
            };
            let mut result = $x.clone();
            each_line(shape, axis, |start| {
                let mut total = identity;
                for position in (0..length).map(|i| start + place(i) * stride) {
                    let next = combine(total, $x[position]);
                    result[position] = if exclusive { total } else { next };
                    total = next;
                }
            });
            result
        }};
    }
    let data = match &*x.data {
        Data::Float(x) => Data::Float(accumulate!(x, f64)),
        Data::Integer(x) => Data::Integer(accumulate!(x, i128)),
    };
    Tensor::computed(x.ty.clone(), data)
}

/// Softmax or its logarithm. A line without a finite greatest element (all -inf, or with +inf) is NaN.
pub(super) fn softmax(axis: usize, logarithm: bool, x: &Tensor) -> Tensor {
    let Data::Float(elements) = &*x.data else { unreachable!("the type rules demand floats") };
    let (_, length, stride) = lines(x.shape(), axis);
    let mut result = elements.clone();
    each_line(x.shape(), axis, |start| {
        let line = || (0..length).map(|i| start + i * stride);
        let greatest = line().fold(f64::NEG_INFINITY, |best, i| Number::greater(best, elements[i]));
        let total: f64 = line().map(|i| (elements[i] - greatest).exp()).sum();
        let log_total = total.ln();
        for i in line() {
            let shifted = elements[i] - greatest;
            result[i] = if logarithm { shifted - log_total } else { shifted.exp() / total };
        }
    });
    Tensor::computed(x.ty.clone(), Data::Float(result))
}
