//! Elementwise functions: what each means for floats (in f64) and for integers (in i128).

use super::erf::erf;
use super::tensor::{Data, Number, Tensor, both, each};
use crate::*;

pub(super) fn iota(ty: &TensorType, axis: usize) -> Tensor {
    let stride = ty.shape.strides()[axis];
    let counts = (0..ty.shape.elements()).map(|position| position / stride % ty.shape[axis]);
    let data = match ty.dtype.is_float() {
        true => Data::Float(counts.map(|count| count as f64).collect()),
        false => Data::Integer(counts.map(|count| count as i128).collect()),
    };
    Tensor::computed(ty.clone(), data)
}

pub(super) fn unary(op: UnaryOp, x: &Tensor) -> Tensor {
    let data = match &*x.data {
        Data::Float(elements) => Data::Float(elements.iter().copied().map(float_function(op)).collect()),
        Data::Integer(elements) => {
            let function: fn(i128) -> i128 = match (op, x.ty.dtype) {
                (UnaryOp::Not, DType::Bool) => |x| 1 - x,
                _ => integer_function(op),
            };
            Data::Integer(elements.iter().copied().map(function).collect())
        }
    };
    Tensor::computed(x.ty.clone(), data)
}

pub(super) fn binary(op: BinaryOp, x: &Tensor, y: &Tensor) -> Tensor {
    fn zip<T: Copy>(x: &[T], y: &[T], function: fn(T, T) -> T) -> Vec<T> {
        x.iter().zip(y).map(|(&x, &y)| function(x, y)).collect()
    }
    let data = match (&*x.data, &*y.data) {
        (Data::Float(x), Data::Float(y)) => Data::Float(zip(x, y, float_function_of_two(op))),
        (Data::Integer(a), Data::Integer(b)) => {
            let width = x.ty.dtype.size() as i128 * 8;
            Data::Integer(match op {
                BinaryOp::Shl => a.iter().zip(b).map(|(&x, &y)| shift_left(x, y, width)).collect(),
                BinaryOp::Shr => a.iter().zip(b).map(|(&x, &y)| shift_right(x, y, width)).collect(),
                _ => zip(a, b, integer_function_of_two(op)),
            })
        }
        (Data::Float(_), Data::Integer(_)) | (Data::Integer(_), Data::Float(_)) => {
            unreachable!("the type rules demand equal element types")
        }
    };
    Tensor::computed(x.ty.clone(), data)
}

pub(super) fn compare(op: CompareOp, x: &Tensor, y: &Tensor) -> Tensor {
    fn zip<T: PartialOrd>(op: CompareOp, x: &[T], y: &[T]) -> Vec<i128> {
        let test: fn(&T, &T) -> bool = match op {
            CompareOp::Eq => T::eq,
            CompareOp::Ne => T::ne,
            CompareOp::Lt => T::lt,
            CompareOp::Le => T::le,
            CompareOp::Gt => T::gt,
            CompareOp::Ge => T::ge,
        };
        x.iter().zip(y).map(|(x, y)| test(x, y) as i128).collect()
    }
    let truths = match (&*x.data, &*y.data) {
        (Data::Float(x), Data::Float(y)) => zip(op, x, y),
        (Data::Integer(x), Data::Integer(y)) => zip(op, x, y),
        (Data::Float(_), Data::Integer(_)) | (Data::Integer(_), Data::Float(_)) => {
            unreachable!("the type rules demand equal element types")
        }
    };
    Tensor::moved(x.ty.with_dtype(DType::Bool), Data::Integer(truths))
}

pub(super) fn select(condition: &Tensor, x: &Tensor, y: &Tensor) -> Tensor {
    fn pick<T: Copy>(condition: &[i128], x: &[T], y: &[T]) -> Vec<T> {
        (0..condition.len()).map(|i| if condition[i] != 0 { x[i] } else { y[i] }).collect()
    }
    let condition = condition.integers();
    Tensor::moved(x.ty.clone(), both!(x, y, (x, y) => pick(condition, x, y)))
}

pub(super) fn cast(dtype: DType, x: &Tensor) -> Tensor {
    let ty = x.ty.with_dtype(dtype);
    if dtype == x.ty.dtype {
        return x.clone();
    }
    let data = match (&*x.data, dtype) {
        (Data::Float(x), DType::Bool) => Data::Integer(x.iter().map(|&x| (x != 0.0) as i128).collect()),
        (Data::Float(x), _) if dtype.is_float() => Data::Float(x.clone()),
        (Data::Float(x), _) => {
            let (least, greatest) = (i128::least(dtype), i128::greatest(dtype));
            Data::Integer(x.iter().map(|&x| (x as i128).clamp(least, greatest)).collect())
        }
        // Straight to f32: on the way through f64 a 64-bit integer would be rounded twice.
        (Data::Integer(x), DType::F32 | DType::F16 | DType::BF16) => {
            Data::Float(x.iter().map(|&x| x as f32 as f64).collect())
        }
        (Data::Integer(x), DType::F64) => Data::Float(x.iter().map(|&x| x as f64).collect()),
        (Data::Integer(x), _) => Data::Integer(x.clone()),
    };
    Tensor::computed(ty, data)
}

/// The same bytes under another element type.
pub(super) fn bitcast(x: &Tensor, ty: &TensorType) -> Tensor {
    match Literal::from_bytes(ty.clone(), x.to_literal().bytes().clone()) {
        Some(literal) => Tensor::from_literal(&literal),
        None => unreachable!("the type rules demand elements of one size"),
    }
}

/// A copy of the tensor under another shape or identity.
pub(super) fn retyped(x: &Tensor, ty: &TensorType) -> Tensor {
    Tensor { ty: ty.clone(), data: x.data.clone() }
}

/// Repeats the only element.
pub(super) fn splat(x: &Tensor, ty: &TensorType) -> Tensor {
    Tensor::moved(ty.clone(), each!(x, x => vec![x[0]; ty.shape.elements()]))
}

pub(super) fn float_function(op: UnaryOp) -> fn(f64) -> f64 {
    match op {
        UnaryOp::Neg => |x| -x,
        UnaryOp::Abs => f64::abs,
        UnaryOp::Sign => |x| match () {
            () if x > 0.0 => 1.0,
            () if x < 0.0 => -1.0,
            () if x == 0.0 => 0.0,
            () => x,
        },
        UnaryOp::Floor => f64::floor,
        UnaryOp::Ceil => f64::ceil,
        UnaryOp::Round => f64::round_ties_even,
        UnaryOp::Sqrt => f64::sqrt,
        UnaryOp::Exp => f64::exp,
        UnaryOp::Expm1 => f64::exp_m1,
        UnaryOp::Log => f64::ln,
        UnaryOp::Log1p => f64::ln_1p,
        UnaryOp::Sin => f64::sin,
        UnaryOp::Cos => f64::cos,
        UnaryOp::Tan => f64::tan,
        UnaryOp::Asin => f64::asin,
        UnaryOp::Acos => f64::acos,
        UnaryOp::Atan => f64::atan,
        UnaryOp::Sinh => f64::sinh,
        UnaryOp::Cosh => f64::cosh,
        UnaryOp::Tanh => f64::tanh,
        UnaryOp::Asinh => f64::asinh,
        UnaryOp::Acosh => acosh,
        UnaryOp::Atanh => f64::atanh,
        UnaryOp::Erf => erf,
        UnaryOp::Sigmoid => |x| {
            let small = (-x.abs()).exp();
            if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
        },
        UnaryOp::Softplus => |x| if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() },
        UnaryOp::Not => unreachable!("the type rules admit no floats for {op:?}"),
    }
}

/// Without the cancellation near 1 that the textbook formula suffers.
fn acosh(x: f64) -> f64 {
    let above = x - 1.0;
    if x > 1e8 {
        x.ln() + std::f64::consts::LN_2
    } else {
        (above + (2.0 * above + above * above).sqrt()).ln_1p()
    }
}

fn integer_function(op: UnaryOp) -> fn(i128) -> i128 {
    match op {
        UnaryOp::Neg => |x| -x,
        UnaryOp::Abs => i128::abs,
        UnaryOp::Sign => i128::signum,
        UnaryOp::Not => |x| !x,
        UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Sqrt
        | UnaryOp::Exp
        | UnaryOp::Expm1
        | UnaryOp::Log
        | UnaryOp::Log1p
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tan
        | UnaryOp::Asin
        | UnaryOp::Acos
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Cosh
        | UnaryOp::Tanh
        | UnaryOp::Asinh
        | UnaryOp::Acosh
        | UnaryOp::Atanh
        | UnaryOp::Erf
        | UnaryOp::Sigmoid
        | UnaryOp::Softplus => unreachable!("the type rules admit floats alone for {op:?}"),
    }
}

pub(super) fn float_function_of_two(op: BinaryOp) -> fn(f64, f64) -> f64 {
    match op {
        BinaryOp::Add => |x, y| x + y,
        BinaryOp::Sub => |x, y| x - y,
        BinaryOp::Mul => |x, y| x * y,
        BinaryOp::Div => |x, y| x / y,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Max => f64::greater,
        BinaryOp::Min => f64::lesser,
        BinaryOp::Rem => |x, y| x % y,
        BinaryOp::Atan2 => f64::atan2,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
            unreachable!("the type rules admit no floats for {op:?}")
        }
    }
}

fn integer_function_of_two(op: BinaryOp) -> fn(i128, i128) -> i128 {
    match op {
        BinaryOp::Add => |x, y| x + y,
        BinaryOp::Sub => |x, y| x - y,
        BinaryOp::Mul => i128::wrapping_mul,
        BinaryOp::Div => |x, y| x.checked_div(y).unwrap_or(0),
        BinaryOp::Pow => power,
        BinaryOp::Max => i128::greater,
        BinaryOp::Min => i128::lesser,
        BinaryOp::Rem => |x, y| x.checked_rem(y).unwrap_or(0),
        BinaryOp::And => |x, y| x & y,
        BinaryOp::Or => |x, y| x | y,
        BinaryOp::Xor => |x, y| x ^ y,
        BinaryOp::Atan2 | BinaryOp::Shl | BinaryOp::Shr => {
            unreachable!("{op:?} is no function of two integers without their width")
        }
    }
}

/// By squaring, modulo 2^128. A negative exponent gives 0 except for the bases 1 and -1.
fn power(mut base: i128, mut exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let mut result = 1i128;
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent /= 2;
    }
    result
}

/// A negative distance is an unsigned one beyond the width.
fn shift_left(x: i128, distance: i128, width: i128) -> i128 {
    if (0..width).contains(&distance) { x << distance } else { 0 }
}

/// A negative distance is an unsigned one beyond the width.
fn shift_right(x: i128, distance: i128, width: i128) -> i128 {
    let beyond = if x < 0 { -1 } else { 0 };
    if (0..width).contains(&distance) { x >> distance } else { beyond }
}
