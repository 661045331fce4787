//! How large integers can be, told by what they are computed from.

use gradc_ir::{BinaryOp, Builder, DType, Literal, Op, Value};

/// The least and the greatest integer that a value can have.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub low: i64,
    pub high: i64,
}

impl Range {
    /// The largest size of these.
    pub fn largest(self) -> u64 {
        self.low.unsigned_abs().max(self.high.unsigned_abs())
    }

    /// Of all values of a type of integers.
    pub fn of_type(dtype: DType) -> Option<Range> {
        let (low, high) = match dtype {
            DType::Bool => (0, 1),
            DType::U8 => (0, u8::MAX.into()),
            DType::I8 => (i8::MIN.into(), i8::MAX.into()),
            DType::U16 => (0, u16::MAX.into()),
            DType::I16 => (i16::MIN.into(), i16::MAX.into()),
            DType::U32 => (0, u32::MAX.into()),
            DType::I32 => (i32::MIN.into(), i32::MAX.into()),
            DType::I64 => (i64::MIN, i64::MAX),
            DType::U64 | DType::F64 | DType::F32 | DType::F16 | DType::BF16 => return None,
        };
        Some(Range { low, high })
    }

    fn of_constant(literal: &Literal) -> Option<Range> {
        let bytes = literal.bytes().iter();
        let (low, high) = match literal.dtype() {
            DType::U8 => (i64::from(*bytes.clone().min()?), i64::from(*bytes.max()?)),
            DType::I8 => {
                let signed = bytes.map(|byte| *byte as i8);
                (i64::from(signed.clone().min()?), i64::from(signed.max()?))
            }
            _ => {
                let values = literal.to_i64()?;
                (values.iter().copied().min()?, values.into_iter().max()?)
            }
        };
        Some(Range { low, high })
    }

    /// What a value can be.
    pub fn of(builder: &Builder, value: Value, depth: usize) -> Option<Range> {
        // What does not fit into the type goes round, and then anything is possible.
        match (Range::computed(builder, value, depth), Range::of_type(builder.ty(value).dtype)) {
            (Some(found), Some(own)) if found.low < own.low || found.high > own.high => Some(own),
            (found, own) => found.or(own),
        }
    }

    /// What an operator makes of its operands, as if its type held all integers.
    pub fn computed(builder: &Builder, value: Value, depth: usize) -> Option<Range> {
        let node = builder.node(value);
        let operand = |position: usize| Range::of(builder, node.operands[position], depth.checked_sub(1)?);
        match &node.op {
            Op::Constant(literal) => Range::of_constant(literal),
            Op::Cast(_) if !builder.ty(node.operands[0]).dtype.is_float() => operand(0),
            Op::Reshape { .. } | Op::Broadcast { .. } | Op::Transpose { .. } | Op::Slice { .. } => operand(0),
            Op::Reverse { .. } | Op::Mark(_) => operand(0),
            Op::Binary(BinaryOp::Sub) => match (operand(0), operand(1)) {
                (Some(a), Some(b)) => {
                    Some(Range { low: a.low.checked_sub(b.high)?, high: a.high.checked_sub(b.low)? })
                }
                _ => None,
            },
            _ => None,
        }
    }
}
