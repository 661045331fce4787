//! Data movement: every operator here is a list of source positions.

use super::tensor::{Data, Number, Tensor, both, each};
use super::{EvalError, element};
use crate::*;

/// The sums of `offset(axis, index)` over all index tuples below `lengths`, in row-major order.
pub(super) fn offsets(lengths: &[usize], offset: impl Fn(usize, usize) -> usize) -> Vec<usize> {
    if lengths.contains(&0) {
        return Vec::new();
    }
    let mut sums = vec![0];
    for (axis, &length) in lengths.iter().enumerate() {
        let steps: Vec<usize> = (0..length).map(|index| offset(axis, index)).collect();
        let mut next = Vec::with_capacity(sums.len() * length);
        for sum in sums {
            next.extend(steps.iter().map(|step| sum + step));
        }
        sums = next;
    }
    sums
}

/// The positions of the elements of some axes of a shape, the others at 0.
pub(super) fn offsets_of(shape: &Shape, axes: &[usize]) -> Vec<usize> {
    let strides = shape.strides();
    let lengths: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    offsets(&lengths, |position, index| index * strides[axes[position]])
}

/// Pairs of positions in two shapes from the pairs of indices on each axis, in row-major order.
pub(super) fn pairs<P: AsRef<[(usize, usize)]>>(
    axes: &[P],
    left: &[usize],
    right: &[usize],
) -> Vec<(usize, usize)> {
    if axes.iter().any(|axis| axis.as_ref().is_empty()) {
        return Vec::new();
    }
    let mut sums = vec![(0, 0)];
    for (axis, steps) in axes.iter().enumerate() {
        let steps = steps.as_ref();
        let mut next = Vec::with_capacity(sums.len() * steps.len());
        for (l, r) in sums {
            next.extend(steps.iter().map(|step| (l + step.0 * left[axis], r + step.1 * right[axis])));
        }
        sums = next;
    }
    sums
}

/// A line of elements along one axis: how many lines lie outside, its length, and the distance of its elements.
pub(super) fn lines(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

fn take(x: &Tensor, ty: &TensorType, positions: &[usize]) -> Tensor {
    fn pick<T: Copy>(x: &[T], positions: &[usize]) -> Vec<T> {
        positions.iter().map(|&position| x[position]).collect()
    }
    Tensor::moved(ty.clone(), each!(x, x => pick(x, positions)))
}

pub(super) fn broadcast(x: &Tensor, dims: &[usize], ty: &TensorType) -> Tensor {
    if x.shape().elements() == 1 {
        return element::splat(x, ty);
    }
    let mut strides = vec![0; ty.shape.rank()];
    for (axis, stride) in x.shape().strides().into_iter().enumerate() {
        strides[dims[axis]] = stride;
    }
    take(x, ty, &offsets(&ty.shape, |axis, index| index * strides[axis]))
}

pub(super) fn transpose(x: &Tensor, permutation: &[usize], ty: &TensorType) -> Tensor {
    take(x, ty, &offsets_of(x.shape(), permutation))
}

pub(super) fn reverse(x: &Tensor, axes: &[usize], ty: &TensorType) -> Tensor {
    let strides = x.shape().strides();
    let positions = offsets(x.shape(), |axis, index| {
        let index = if axes.contains(&axis) { x.shape()[axis] - 1 - index } else { index };
        index * strides[axis]
    });
    take(x, ty, &positions)
}

pub(super) fn slice(x: &Tensor, start: &[usize], step: &[usize], ty: &TensorType) -> Tensor {
    let strides = x.shape().strides();
    take(x, ty, &offsets(&ty.shape, |axis, index| (start[axis] + index * step[axis]) * strides[axis]))
}

pub(super) fn pad(x: &Tensor, value: &Tensor, low: &[i64], interior: &[usize], ty: &TensorType) -> Tensor {
    let axes: Vec<Vec<(usize, usize)>> = (0..ty.shape.rank())
        .map(|axis| {
            let target = |index: usize| low[axis] as i128 + index as i128 * (interior[axis] as i128 + 1);
            let inside =
                |index: usize| usize::try_from(target(index)).ok().filter(|&target| target < ty.shape[axis]);
            // An empty neighbour may stand beside an axis of any length: nothing is moved then.
            let length = if x.shape().elements() == 0 { 0 } else { x.shape()[axis] };
            (0..length).filter_map(|index| inside(index).map(|target| (index, target))).collect()
        })
        .collect();
    fn place<T: Copy>(x: &[T], value: T, moves: &[(usize, usize)], length: usize) -> Vec<T> {
        let mut result = vec![value; length];
        moves.iter().for_each(|&(from, to)| result[to] = x[from]);
        result
    }
    let moves = pairs(&axes, &x.shape().strides(), &ty.shape.strides());
    let length = ty.shape.elements();
    Tensor::moved(ty.clone(), both!(x, value, (x, value) => place(x, value[0], &moves, length)))
}

pub(super) fn concat(operands: &[Tensor], axis: usize, ty: &TensorType) -> Tensor {
    let mut data = Data::with_capacity(ty.dtype, ty.shape.elements());
    let outer = if ty.shape.elements() == 0 { 0 } else { lines(&ty.shape, axis).0 };
    for line in 0..outer {
        for operand in operands {
            let (_, length, inner) = lines(operand.shape(), axis);
            let block = length * inner;
            data.append(&operand.data, line * block..(line + 1) * block);
        }
    }
    Tensor::moved(ty.clone(), data)
}

/// The elements of an index, each checked against the length of the axis that it indexes.
fn checked(index: &Tensor, axis: usize, length: usize) -> Result<Vec<usize>, EvalError> {
    let check = |&value: &i128| {
        usize::try_from(value).ok().filter(|&position| position < length).ok_or(EvalError::Index {
            value: value as i64,
            length,
            axis,
            path: Vec::new(),
        })
    };
    index.integers().iter().map(check).collect()
}

pub(super) fn gather(x: &Tensor, index: &Tensor, axis: usize, ty: &TensorType) -> Result<Tensor, EvalError> {
    let (outer, length, inner) = lines(x.shape(), axis);
    let index = checked(index, axis, length)?;
    let positions = offsets(&[outer, index.len(), inner], |axis, position| match axis {
        0 => position * length * inner,
        1 => index[position] * inner,
        _ => position,
    });
    Ok(take(x, ty, &positions))
}

pub(super) fn scatter(
    operands: &[Tensor],
    axis: usize,
    op: ScatterOp,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    fn combine<T: Number>(op: ScatterOp) -> fn(T, T) -> T {
        match op {
            ScatterOp::Set => |_, update| update,
            ScatterOp::Add => T::add,
            ScatterOp::Mul => T::mul,
            ScatterOp::Max => T::greater,
            ScatterOp::Min => T::lesser,
        }
    }
    fn update<T: Number>(x: &[T], updates: &[T], positions: &[usize], op: ScatterOp) -> Vec<T> {
        let combine = combine::<T>(op);
        let mut result = x.to_vec();
        for (&position, &update) in positions.iter().zip(updates) {
            result[position] = combine(result[position], update);
        }
        result
    }
    let (x, updates) = (&operands[0], &operands[2]);
    let (outer, length, inner) = lines(x.shape(), axis);
    let index = checked(&operands[1], axis, length)?;
    let positions = offsets(&[outer, index.len(), inner], |axis, position| match axis {
        0 => position * length * inner,
        1 => index[position] * inner,
        _ => position,
    });
    let data = both!(x, updates, (x, updates) => update(x, updates, &positions, op));
    Ok(Tensor::computed(ty.clone(), data))
}
