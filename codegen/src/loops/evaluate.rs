//! Scalar operations on values, with the functions of `std`.

use super::{BinaryOp, CompareOp, Constant, Scalar, UnaryOp};
use crate::emit::runtime;
use half::{bf16, f16};

/// A register's value. Integers of every type are sign- or zero-extended to an `i64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    F32(f32),
    F64(f64),
    Int(i64),
    Bool(bool),
}

impl Value {
    /// The integer of an integer register.
    pub(super) fn int(self) -> i64 {
        match self {
            Value::Int(value) => value,
            other => panic!("not an integer in a validated kernel: {other:?}"),
        }
    }
}

/// Keeps the low bits of an integer and extends them again.
fn wrap(scalar: Scalar, value: i64) -> Value {
    Value::Int(match scalar {
        Scalar::I8 => i64::from(value as i8),
        Scalar::I16 => i64::from(value as i16),
        Scalar::I32 => i64::from(value as i32),
        Scalar::U8 => i64::from(value as u8),
        Scalar::U16 => i64::from(value as u16),
        Scalar::U32 => i64::from(value as u32),
        Scalar::I64 | Scalar::U64 => value,
        Scalar::F32 | Scalar::F64 | Scalar::F16 | Scalar::BF16 | Scalar::Bool => {
            panic!("integer operation on {scalar} in a validated kernel")
        }
    })
}

pub(super) fn constant(value: Constant, scalar: Scalar) -> Value {
    match value {
        Constant::Float(value) if scalar == Scalar::F64 => Value::F64(value),
        Constant::Float(value) => Value::F32(value as f32),
        Constant::Int(value) => wrap(scalar, value),
        Constant::Bool(value) => Value::Bool(value),
    }
}

macro_rules! float_unary {
    ($op:expr, $x:expr, $value:path, $runtime:ident) => {{
        let x = $x;
        $value(match $op {
            UnaryOp::Neg => -x,
            UnaryOp::Abs => x.abs(),
            UnaryOp::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }
            UnaryOp::Floor => x.floor(),
            UnaryOp::Ceil => x.ceil(),
            UnaryOp::Round => x.round_ties_even(),
            UnaryOp::Sqrt => x.sqrt(),
            UnaryOp::Exp => x.exp(),
            UnaryOp::ExpM1 => x.exp_m1(),
            UnaryOp::Log => x.ln(),
            UnaryOp::Log1P => x.ln_1p(),
            UnaryOp::Sin => x.sin(),
            UnaryOp::Cos => x.cos(),
            UnaryOp::Tan => x.tan(),
            UnaryOp::Asin => x.asin(),
            UnaryOp::Acos => x.acos(),
            UnaryOp::Atan => x.atan(),
            UnaryOp::Sinh => x.sinh(),
            UnaryOp::Cosh => x.cosh(),
            UnaryOp::Tanh => x.tanh(),
            UnaryOp::Asinh => runtime::$runtime::asinh(x),
            UnaryOp::Acosh => runtime::$runtime::acosh(x),
            UnaryOp::Atanh => runtime::$runtime::atanh(x),
            UnaryOp::Erf => runtime::$runtime::erf(x),
            UnaryOp::Sigmoid => runtime::$runtime::sigmoid(x),
            UnaryOp::Softplus => runtime::$runtime::softplus(x),
            UnaryOp::Not | UnaryOp::RoundF16 | UnaryOp::RoundBf16 => {
                panic!("{} of this type in a validated kernel", $op)
            }
            UnaryOp::IsNan => return Value::Bool(x.is_nan()),
        })
    }};
}

pub(super) fn unary(op: UnaryOp, scalar: Scalar, x: Value) -> Value {
    match x {
        Value::F32(x) if op == UnaryOp::RoundF16 => Value::F32(f16::from_f32(x).to_f32()),
        Value::F32(x) if op == UnaryOp::RoundBf16 => Value::F32(bf16::from_f32(x).to_f32()),
        Value::F32(x) => float_unary!(op, x, Value::F32, f32),
        Value::F64(x) => float_unary!(op, x, Value::F64, f64),
        Value::Bool(x) => Value::Bool(!x),
        Value::Int(x) => match op {
            UnaryOp::Neg => wrap(scalar, x.wrapping_neg()),
            UnaryOp::Abs if scalar.is_signed() => wrap(scalar, x.wrapping_abs()),
            UnaryOp::Sign if scalar.is_signed() => Value::Int(x.signum()),
            UnaryOp::Sign => Value::Int(i64::from(x != 0)),
            UnaryOp::Abs => Value::Int(x),
            UnaryOp::Not => wrap(scalar, !x),
            _ => panic!("{op} of an integer in a validated kernel"),
        },
    }
}

macro_rules! float_binary {
    ($op:expr, $a:expr, $b:expr, $value:path) => {{
        let (a, b) = ($a, $b);
        $value(match $op {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
            BinaryOp::Div => a / b,
            BinaryOp::Pow => a.powf(b),
            BinaryOp::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            BinaryOp::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            BinaryOp::Rem => a % b,
            BinaryOp::Atan2 => a.atan2(b),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
                panic!("bit operation on floats in a validated kernel")
            }
        })
    }};
}

pub(super) fn binary(op: BinaryOp, scalar: Scalar, a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => float_binary!(op, a, b, Value::F32),
        (Value::F64(a), Value::F64(b)) => float_binary!(op, a, b, Value::F64),
        (Value::Int(a), Value::Int(b)) => wrap(scalar, integer_binary(op, scalar, a, b)),
        (Value::Bool(a), Value::Bool(b)) => Value::Bool(match op {
            BinaryOp::And => a && b,
            BinaryOp::Or => a || b,
            _ => a != b,
        }),
        (a, b) => panic!("{op} of {a:?} and {b:?} in a validated kernel"),
    }
}

fn integer_binary(op: BinaryOp, scalar: Scalar, a: i64, b: i64) -> i64 {
    let signed = scalar.is_signed();
    let width = 8 * scalar.bytes() as i64;
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div | BinaryOp::Rem if b == 0 => 0,
        BinaryOp::Div if signed => a.wrapping_div(b),
        BinaryOp::Div => (a as u64 / b as u64) as i64,
        BinaryOp::Rem if signed => a.wrapping_rem(b),
        BinaryOp::Rem => (a as u64 % b as u64) as i64,
        BinaryOp::Pow => runtime::integer_power(a, b, signed),
        BinaryOp::Max if signed => a.max(b),
        BinaryOp::Max => (a as u64).max(b as u64) as i64,
        BinaryOp::Min if signed => a.min(b),
        BinaryOp::Min => (a as u64).min(b as u64) as i64,
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl | BinaryOp::Shr if b < 0 || b >= width => 0,
        BinaryOp::Shl => a << b,
        BinaryOp::Shr if signed => a >> b,
        BinaryOp::Shr => (a as u64 >> b) as i64,
        BinaryOp::Atan2 => panic!("atan2 of integers in a validated kernel"),
    }
}

pub(super) fn mul_add(a: Value, b: Value, c: Value) -> Value {
    match (a, b, c) {
        (Value::F32(a), Value::F32(b), Value::F32(c)) => Value::F32(a.mul_add(b, c)),
        (Value::F64(a), Value::F64(b), Value::F64(c)) => Value::F64(a.mul_add(b, c)),
        other => panic!("muladd of {other:?} in a validated kernel"),
    }
}

pub(super) fn compare(op: CompareOp, scalar: Scalar, a: Value, b: Value) -> bool {
    let order = match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.partial_cmp(&b),
        (Value::F64(a), Value::F64(b)) => a.partial_cmp(&b),
        (Value::Int(a), Value::Int(b)) if scalar == Scalar::U64 => Some((a as u64).cmp(&(b as u64))),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(&b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(&b)),
        (a, b) => panic!("{op} of {a:?} and {b:?} in a validated kernel"),
    };
    match (op, order) {
        (_, None) => op == CompareOp::Ne,
        (CompareOp::Eq, Some(order)) => order.is_eq(),
        (CompareOp::Ne, Some(order)) => order.is_ne(),
        (CompareOp::Lt, Some(order)) => order.is_lt(),
        (CompareOp::Le, Some(order)) => order.is_le(),
        (CompareOp::Gt, Some(order)) => order.is_gt(),
        (CompareOp::Ge, Some(order)) => order.is_ge(),
    }
}

macro_rules! from_float {
    ($x:expr, $to:expr) => {{
        let x = $x;
        match $to {
            Scalar::F32 => Value::F32(x as f32),
            Scalar::F64 => Value::F64(f64::from(x)),
            Scalar::Bool => Value::Bool(x != 0.0),
            Scalar::I8 => Value::Int(x as i8 as i64),
            Scalar::I16 => Value::Int(x as i16 as i64),
            Scalar::I32 => Value::Int(x as i32 as i64),
            Scalar::I64 => Value::Int(x as i64),
            Scalar::U8 => Value::Int(x as u8 as i64),
            Scalar::U16 => Value::Int(x as u16 as i64),
            Scalar::U32 => Value::Int(x as u32 as i64),
            Scalar::U64 => Value::Int(x as u64 as i64),
            Scalar::F16 | Scalar::BF16 => panic!("16-bit register in a validated kernel"),
        }
    }};
}

pub(super) fn cast(from: Scalar, to: Scalar, x: Value) -> Value {
    match x {
        Value::F32(x) => from_float!(x, to),
        Value::F64(x) => from_float!(x, to),
        Value::Bool(x) => cast(Scalar::I64, to, Value::Int(i64::from(x))),
        Value::Int(x) => match to {
            Scalar::F32 if from == Scalar::U64 => Value::F32(x as u64 as f32),
            Scalar::F64 if from == Scalar::U64 => Value::F64(x as u64 as f64),
            Scalar::F32 => Value::F32(x as f32),
            Scalar::F64 => Value::F64(x as f64),
            Scalar::Bool => Value::Bool(x != 0),
            _ => wrap(to, x),
        },
    }
}
