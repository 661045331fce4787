//! From the names of the graph to the names of the loops: element types, operations, constants.

use crate::loops::{BinaryOp, CompareOp, Constant, ReduceOp, Scalar, UnaryOp, UpdateOp};
use gradc_ir as ir;
use gradc_ir::{DType, Literal};

/// The element type in memory.
pub(super) fn scalar(dtype: DType) -> Scalar {
    match dtype {
        DType::F64 => Scalar::F64,
        DType::F32 => Scalar::F32,
        DType::F16 => Scalar::F16,
        DType::BF16 => Scalar::BF16,
        DType::I64 => Scalar::I64,
        DType::I32 => Scalar::I32,
        DType::I16 => Scalar::I16,
        DType::I8 => Scalar::I8,
        DType::U64 => Scalar::U64,
        DType::U32 => Scalar::U32,
        DType::U16 => Scalar::U16,
        DType::U8 => Scalar::U8,
        DType::Bool => Scalar::Bool,
    }
}

/// The operation of one operand. The two vocabularies spell it alike.
pub(super) fn unary(op: ir::UnaryOp) -> UnaryOp {
    UnaryOp::from_word(op.name()).unwrap_or_else(|| panic!("loops know `{}`", op.name()))
}

/// The operation of two operands; of bools, greatest and least are or and and.
pub(super) fn binary(op: ir::BinaryOp, dtype: DType) -> BinaryOp {
    match (op, dtype) {
        (ir::BinaryOp::Max, DType::Bool) => return BinaryOp::Or,
        (ir::BinaryOp::Min, DType::Bool) => return BinaryOp::And,
        _ => {}
    }
    BinaryOp::from_word(op.name()).unwrap_or_else(|| panic!("loops know `{}`", op.name()))
}

/// The comparison.
pub(super) fn compare(op: ir::CompareOp) -> CompareOp {
    CompareOp::from_word(op.name()).unwrap_or_else(|| panic!("loops know `{}`", op.name()))
}

/// The reduction; of bools, greatest and least are or and and.
pub(super) fn reduce(op: ir::ReduceOp, dtype: DType) -> ReduceOp {
    match (op, dtype) {
        (ir::ReduceOp::Sum, _) => ReduceOp::Sum,
        (ir::ReduceOp::Prod, _) => ReduceOp::Prod,
        (ir::ReduceOp::Max, DType::Bool) => ReduceOp::Or,
        (ir::ReduceOp::Min, DType::Bool) => ReduceOp::And,
        (ir::ReduceOp::Max, _) => ReduceOp::Max,
        (ir::ReduceOp::Min, _) => ReduceOp::Min,
    }
}

/// What the empty reduction gives.
pub(super) fn identity(op: ir::ReduceOp, dtype: DType) -> Constant {
    match op {
        ir::ReduceOp::Sum => number(dtype, 0.0),
        ir::ReduceOp::Prod => number(dtype, 1.0),
        ir::ReduceOp::Max => least(dtype),
        ir::ReduceOp::Min => greatest(dtype),
    }
}

/// The combination of a scattered update with what is there; `None` for plain stores.
pub(super) fn update(op: ir::ScatterOp) -> Option<UpdateOp> {
    match op {
        ir::ScatterOp::Set => None,
        ir::ScatterOp::Add => Some(UpdateOp::Add),
        ir::ScatterOp::Mul => Some(UpdateOp::Mul),
        ir::ScatterOp::Max => Some(UpdateOp::Max),
        ir::ScatterOp::Min => Some(UpdateOp::Min),
    }
}

/// The least value of a type.
pub(super) fn least(dtype: DType) -> Constant {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Constant::Float(f64::NEG_INFINITY),
        DType::I64 => Constant::Int(i64::MIN),
        DType::I32 => Constant::Int(i32::MIN.into()),
        DType::I16 => Constant::Int(i16::MIN.into()),
        DType::I8 => Constant::Int(i8::MIN.into()),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => Constant::Int(0),
        DType::Bool => Constant::Bool(false),
    }
}

/// The greatest value of a type.
pub(super) fn greatest(dtype: DType) -> Constant {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Constant::Float(f64::INFINITY),
        DType::I64 => Constant::Int(i64::MAX),
        DType::I32 => Constant::Int(i32::MAX.into()),
        DType::I16 => Constant::Int(i16::MAX.into()),
        DType::I8 => Constant::Int(i8::MAX.into()),
        DType::U64 => Constant::Int(u64::MAX as i64),
        DType::U32 => Constant::Int(u32::MAX.into()),
        DType::U16 => Constant::Int(u16::MAX.into()),
        DType::U8 => Constant::Int(u8::MAX.into()),
        DType::Bool => Constant::Bool(true),
    }
}

/// A small number of any type.
pub(super) fn number(dtype: DType, value: f64) -> Constant {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Constant::Float(value),
        DType::Bool => Constant::Bool(value != 0.0),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => Constant::Int(value as i64),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => Constant::Int(value as i64),
    }
}

/// The one value of a literal whose elements are all equal.
pub(super) fn splat(literal: &Literal) -> Option<Constant> {
    if !literal.is_splat() {
        return None;
    }
    match literal.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => literal.splat_value().map(Constant::Float),
        DType::Bool => literal.splat_value().map(|value| Constant::Bool(value != 0.0)),
        DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8 => literal.to_i64().map(|values| Constant::Int(values[0])),
    }
}
