//! Operators computed straight from the bytes of literals: what folding weights asks for, at the speed of memory.
//!
//! The results are those of the interpreter, bit for bit (a NaN is a NaN): the same numbers in the same order, read
//! from the elements and written back one by one, instead of whole tensors at a time.

use super::element::{float_function, float_function_of_two};
use super::tensor::Number;
use crate::{BinaryOp, DType, Element, Literal, Op, ReduceOp, Shape, TensorType, UnaryOp};
use half::{bf16, f16};

/// Edge of the square blocks in which axes are exchanged, in elements.
const BLOCK: usize = 16;

/// The result of an operator whose types were checked, or `None` where only the interpreter knows it.
pub(super) fn compute(op: &Op, operands: &[Literal], ty: &TensorType) -> Option<Literal> {
    let x = operands.first()?;
    if ty.shape.elements() == 0 || x.shape().elements() == 0 {
        return None;
    }
    match op {
        Op::Mark(_) | Op::Reshape { .. } => x.reshaped(ty.shape.clone()),
        Op::Broadcast { dims, .. } => {
            let mut steps = vec![0; ty.shape.rank()];
            for (axis, stride) in x.shape().strides().into_iter().enumerate() {
                steps[dims[axis]] = if x.shape()[axis] == 1 { 0 } else { stride as isize };
            }
            moved(x, 0, &steps, ty)
        }
        Op::Transpose { permutation } => {
            let strides = x.shape().strides();
            let steps: Vec<isize> = permutation.iter().map(|&axis| strides[axis] as isize).collect();
            moved(x, 0, &steps, ty)
        }
        Op::Reverse { axes } => {
            let mut steps: Vec<isize> = x.shape().strides().iter().map(|&stride| stride as isize).collect();
            let mut first = 0;
            for &axis in axes {
                first += (x.shape()[axis] - 1) * steps[axis] as usize;
                steps[axis] = -steps[axis];
            }
            moved(x, first, &steps, ty)
        }
        Op::Slice { start, step, .. } => {
            let strides = x.shape().strides();
            let first = start.iter().zip(&strides).map(|(start, stride)| start * stride).sum();
            let steps: Vec<isize> =
                step.iter().zip(&strides).map(|(step, stride)| (step * stride) as isize).collect();
            moved(x, first, &steps, ty)
        }
        Op::Concat { axis } => Some(concat(operands, *axis, ty)),
        Op::Unary(op) => unary(*op, x, ty),
        Op::Binary(op) => binary(*op, x, &operands[1], ty),
        Op::Cast(_) => cast(x, ty),
        Op::Reduce { op, axes } => reduce(*op, axes, x, ty),
        Op::Input(_) | Op::Project(_) | Op::Scan(_) | Op::Fused(_) | Op::Constant(_) | Op::Iota { .. } => {
            None
        }
        Op::Compare(_) | Op::Select | Op::Bitcast(_) | Op::ArgReduce { .. } | Op::Cumulative { .. } => None,
        Op::ArgSort { .. } | Op::Dot(_) | Op::Conv(_) | Op::Window(_) | Op::Pad { .. } => None,
        Op::Gather { .. } | Op::Scatter { .. } | Op::Softmax { .. } | Op::LogSoftmax { .. } => None,
    }
}

/// The elements that lie `first`, and these steps along each axis, from the start.
fn moved(x: &Literal, first: usize, steps: &[isize], ty: &TensorType) -> Option<Literal> {
    fn gather<const SIZE: usize>(x: &Literal, first: usize, steps: &[isize], shape: &Shape) -> Vec<u8> {
        pick(x.bytes().as_chunks::<SIZE>().0, first, steps, shape).into_flattened()
    }
    let bytes = match ty.dtype.size() {
        1 => gather::<1>(x, first, steps, &ty.shape),
        2 => gather::<2>(x, first, steps, &ty.shape),
        4 => gather::<4>(x, first, steps, &ty.shape),
        _ => gather::<8>(x, first, steps, &ty.shape),
    };
    Literal::from_bytes(ty.clone(), bytes.into())
}

/// Axes of length 1 left out, and those united that are one axis of the source too: lengths and steps.
fn united(shape: &Shape, steps: &[isize]) -> Vec<(usize, isize)> {
    let mut axes: Vec<(usize, isize)> = Vec::new();
    for (&length, &step) in shape.iter().zip(steps).filter(|&(&length, _)| length != 1) {
        match axes.last_mut() {
            Some(last) if last.1 == step * length as isize => *last = (last.0 * length, step),
            _ => axes.push((length, step)),
        }
    }
    axes
}

fn pick<const SIZE: usize>(
    x: &[[u8; SIZE]],
    first: usize,
    steps: &[isize],
    shape: &Shape,
) -> Vec<[u8; SIZE]> {
    let mut axes = united(shape, steps);
    let Some((length, step)) = axes.pop() else { return vec![x[first]] };
    let mut result = vec![[0; SIZE]; shape.elements()];
    // Where another axis is the one that lies together, both go in blocks: neither side is walked across its lines.
    let together = axes.iter().position(|&(_, other)| other == 1).filter(|_| step.unsigned_abs() > 1);
    let stride_of =
        |position: usize| length * axes[position + 1..].iter().map(|axis| axis.0).product::<usize>();
    let outer: Vec<(usize, isize, usize)> = (axes.iter().enumerate())
        .filter(|&(position, _)| Some(position) != together)
        .map(|(position, &(length, step))| (length, step, stride_of(position)))
        .collect();
    each(&outer, first as isize, 0, &mut |from, to| {
        let Some(other) = together else {
            return line(x, from, step, &mut result[to..to + length]);
        };
        let (width, stride) = (axes[other].0, stride_of(other));
        for row in (0..width).step_by(BLOCK) {
            for column in (0..length).step_by(BLOCK) {
                for row in row..width.min(row + BLOCK) {
                    let end = length.min(column + BLOCK);
                    let from = from + row as isize + column as isize * step;
                    let to = to + row * stride;
                    line(x, from, step, &mut result[to + column..to + end]);
                }
            }
        }
    });
    result
}

/// Calls `inner` with the positions in source and result at every index of these axes: lengths, steps and strides.
fn each(axes: &[(usize, isize, usize)], from: isize, to: usize, inner: &mut impl FnMut(isize, usize)) {
    match axes.split_first() {
        None => inner(from, to),
        Some((&(length, step, stride), rest)) => {
            (0..length).for_each(|index| each(rest, from + index as isize * step, to + index * stride, inner))
        }
    }
}

fn line<const SIZE: usize>(x: &[[u8; SIZE]], from: isize, step: isize, result: &mut [[u8; SIZE]]) {
    let start = from as usize;
    match step {
        0 => result.fill(x[start]),
        1 => result.copy_from_slice(&x[start..start + result.len()]),
        _ => {
            let mut position = from;
            for element in result {
                *element = x[position as usize];
                position += step;
            }
        }
    }
}

fn concat(operands: &[Literal], axis: usize, ty: &TensorType) -> Literal {
    let lines: usize = ty.shape[..axis].iter().product();
    let mut bytes = Vec::with_capacity(ty.bytes());
    for line in 0..lines {
        for operand in operands {
            let block = operand.bytes().len() / lines;
            bytes.extend_from_slice(&operand.bytes()[line * block..(line + 1) * block]);
        }
    }
    Literal::from_bytes(ty.clone(), bytes.into()).expect("the parts have as many elements as the whole")
}

/// A float type as the interpreter sees it: f64, rounded when written.
trait Float: Element {
    fn wide(self) -> f64;
    fn rounded(x: f64) -> Self;
    fn bytes(elements: impl Iterator<Item = Self>) -> Vec<u8>;
}

macro_rules! float {
    ($type:ty, $wide:expr, $rounded:expr) => {
        impl Float for $type {
            fn wide(self) -> f64 {
                $wide(self)
            }
            fn rounded(x: f64) -> $type {
                $rounded(x)
            }
            fn bytes(elements: impl Iterator<Item = $type>) -> Vec<u8> {
                elements.map(<$type>::to_le_bytes).collect::<Vec<_>>().into_flattened()
            }
        }
    };
}
float!(f64, |x| x, |x| x);
float!(f32, f64::from, |x| x as f32);
float!(f16, f16::to_f64, |x| f16::from_f32(x as f32));
float!(bf16, bf16::to_f64, |x| bf16::from_f32(x as f32));

/// Evaluates with the Rust type of a float type as `$type`; `None` for other types.
macro_rules! of_float {
    ($dtype:expr, $type:ident => $result:expr) => {
        match $dtype {
            DType::F64 => {
                type $type = f64;
                Some($result)
            }
            DType::F32 => {
                type $type = f32;
                Some($result)
            }
            DType::F16 => {
                type $type = f16;
                Some($result)
            }
            DType::BF16 => {
                type $type = bf16;
                Some($result)
            }
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => None,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => None,
        }
    };
}

fn read<T: Element>(x: &Literal) -> impl Iterator<Item = T> {
    x.bytes().chunks_exact(T::DTYPE.size()).map(T::read)
}

fn written<T: Float>(ty: &TensorType, elements: impl Iterator<Item = T>) -> Literal {
    let bytes = T::bytes(elements);
    Literal::from_bytes(ty.clone(), bytes.into()).expect("as many elements as the type says")
}

fn unary(op: UnaryOp, x: &Literal, ty: &TensorType) -> Option<Literal> {
    fn map<T: Float>(x: &Literal, ty: &TensorType, function: impl Fn(f64) -> f64) -> Literal {
        written(ty, read::<T>(x).map(|x| T::rounded(function(x.wide()))))
    }
    of_float!(ty.dtype, T => match op {
        UnaryOp::Neg => map::<T>(x, ty, |x| -x),
        UnaryOp::Sqrt => map::<T>(x, ty, f64::sqrt),
        _ => map::<T>(x, ty, float_function(op)),
    })
}

fn binary(op: BinaryOp, x: &Literal, y: &Literal, ty: &TensorType) -> Option<Literal> {
    fn zip<T: Float>(
        x: &Literal,
        y: &Literal,
        ty: &TensorType,
        function: impl Fn(f64, f64) -> f64,
    ) -> Literal {
        written(ty, read::<T>(x).zip(read::<T>(y)).map(|(x, y)| T::rounded(function(x.wide(), y.wide()))))
    }
    of_float!(ty.dtype, T => match op {
        BinaryOp::Add => zip::<T>(x, y, ty, |x, y| x + y),
        BinaryOp::Sub => zip::<T>(x, y, ty, |x, y| x - y),
        BinaryOp::Mul => zip::<T>(x, y, ty, |x, y| x * y),
        BinaryOp::Div => zip::<T>(x, y, ty, |x, y| x / y),
        _ => zip::<T>(x, y, ty, float_function_of_two(op)),
    })
}

/// From floats and integers to floats.
fn cast(x: &Literal, ty: &TensorType) -> Option<Literal> {
    fn convert<T: Element, U: Float>(x: &Literal, ty: &TensorType, wide: impl Fn(T) -> f64) -> Literal {
        written(ty, read::<T>(x).map(|x| U::rounded(wide(x))))
    }
    if ty.dtype == x.dtype() {
        return Some(x.clone());
    }
    // Straight to f32: on the way through f64 a 64-bit integer would be rounded twice.
    let double = ty.dtype == DType::F64;
    of_float!(ty.dtype, U => match x.dtype() {
        DType::F64 => convert::<f64, U>(x, ty, Float::wide),
        DType::F32 => convert::<f32, U>(x, ty, Float::wide),
        DType::F16 => convert::<f16, U>(x, ty, Float::wide),
        DType::BF16 => convert::<bf16, U>(x, ty, Float::wide),
        DType::I64 => convert::<i64, U>(x, ty, |x| if double { x as f64 } else { x as f32 as f64 }),
        DType::U64 => convert::<u64, U>(x, ty, |x| if double { x as f64 } else { x as f32 as f64 }),
        DType::I32 => convert::<i32, U>(x, ty, |x| if double { x as f64 } else { x as f32 as f64 }),
        DType::U32 => convert::<u32, U>(x, ty, |x| if double { x as f64 } else { x as f32 as f64 }),
        DType::I16 => convert::<i16, U>(x, ty, f64::from),
        DType::U16 => convert::<u16, U>(x, ty, f64::from),
        DType::I8 => convert::<i8, U>(x, ty, f64::from),
        DType::U8 => convert::<u8, U>(x, ty, f64::from),
        DType::Bool => convert::<bool, U>(x, ty, f64::from),
    })
}

/// Walks the operand once: every result takes its terms in the interpreter's order, whatever lies between them.
fn reduce(op: ReduceOp, axes: &[usize], x: &Literal, ty: &TensorType) -> Option<Literal> {
    fn fold<T: Float>(
        x: &Literal,
        steps: &[isize],
        ty: &TensorType,
        identity: f64,
        combine: impl Fn(f64, f64) -> f64,
    ) -> Literal {
        let mut results = vec![identity; ty.shape.elements()];
        let mut axes = united(x.shape(), steps);
        let (length, step) = axes.pop().unwrap_or((1, 0));
        let mut outer = Vec::with_capacity(axes.len());
        let mut stride = length;
        for &(length, step) in axes.iter().rev() {
            outer.push((length, step, stride));
            stride *= length;
        }
        outer.reverse();
        let size = T::DTYPE.size();
        each(&outer, 0, 0, &mut |to, from| {
            let elements = x.bytes()[from * size..(from + length) * size].chunks_exact(size).map(T::read);
            let to = to as usize;
            match step {
                0 => results[to] = elements.fold(results[to], |result, x| combine(result, x.wide())),
                _ => {
                    let results = results[to..].iter_mut().step_by(step as usize);
                    results.zip(elements).for_each(|(result, x)| *result = combine(*result, x.wide()));
                }
            }
        });
        written(ty, results.into_iter().map(T::rounded))
    }
    // How far the result's position moves with each axis of the operand.
    let kept: Vec<usize> = (0..x.shape().rank()).filter(|axis| !axes.contains(axis)).collect();
    let lengths: Vec<usize> = kept.iter().map(|&axis| x.shape()[axis]).collect();
    let strides = Shape::new(&lengths).strides();
    let mut steps = vec![0; x.shape().rank()];
    kept.iter().zip(&strides).for_each(|(&axis, &stride)| steps[axis] = stride as isize);
    of_float!(ty.dtype, T => match op {
        ReduceOp::Sum => fold::<T>(x, &steps, ty, 0.0, |x, y| x + y),
        ReduceOp::Prod => fold::<T>(x, &steps, ty, 1.0, |x, y| x * y),
        ReduceOp::Max => fold::<T>(x, &steps, ty, f64::NEG_INFINITY, Number::greater),
        ReduceOp::Min => fold::<T>(x, &steps, ty, f64::INFINITY, Number::lesser),
    })
}
