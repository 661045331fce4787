//! Tensors of the interpreter: exact numbers, whatever the element type.

use crate::{DType, Literal, Shape, TensorType};
use half::{bf16, f16};
use std::cmp::Ordering;
use std::rc::Rc;

/// A tensor in the interpreter. Every element is a value of the element type; the data is shared.
#[derive(Clone)]
pub(super) struct Tensor {
    pub ty: TensorType,
    pub data: Rc<Data>,
}

/// Elements in row-major order. Every float is an f64 and every integer an i128 (bool: 0 or 1): both hold their
/// narrower kin exactly, so arithmetic is written twice instead of thirteen times.
#[derive(Clone)]
pub(super) enum Data {
    Float(Vec<f64>),
    Integer(Vec<i128>),
}

/// Computes with the elements of one tensor, of either kind; the result is of the same kind.
macro_rules! each {
    ($tensor:expr, $elements:ident => $result:expr) => {
        match &*$tensor.data {
            Data::Float($elements) => Data::Float($result),
            Data::Integer($elements) => Data::Integer($result),
        }
    };
}

/// Computes with the elements of two tensors of one kind; the result is of the same kind.
macro_rules! both {
    ($left:expr, $right:expr, ($x:ident, $y:ident) => $result:expr) => {
        match (&*$left.data, &*$right.data) {
            (Data::Float($x), Data::Float($y)) => Data::Float($result),
            (Data::Integer($x), Data::Integer($y)) => Data::Integer($result),
            (Data::Float(_), Data::Integer(_)) | (Data::Integer(_), Data::Float(_)) => {
                unreachable!("the type rules demand equal element types")
            }
        }
    };
}
pub(super) use {both, each};

impl Tensor {
    /// Elements that are values of the element type already: moved, not computed.
    pub fn moved(ty: TensorType, data: Data) -> Tensor {
        debug_assert_eq!(data.len(), ty.shape.elements(), "as many elements as the type says");
        Tensor { ty, data: Rc::new(data) }
    }

    /// Computed elements, each rounded (or wrapped) once to the element type.
    pub fn computed(ty: TensorType, mut data: Data) -> Tensor {
        match (&mut data, ty.dtype) {
            (Data::Float(_), DType::F64) => {}
            (Data::Float(x), dtype) => x.iter_mut().for_each(|x| *x = round(*x, dtype)),
            (Data::Integer(x), dtype) => x.iter_mut().for_each(|x| *x = wrap(*x, dtype)),
        }
        Tensor::moved(ty, data)
    }

    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// The elements of an integer or bool tensor.
    pub fn integers(&self) -> &[i128] {
        match &*self.data {
            Data::Integer(elements) => elements,
            Data::Float(_) => unreachable!("the type rules demand integers or bool"),
        }
    }

    pub fn from_literal(literal: &Literal) -> Tensor {
        fn unpack<const SIZE: usize, S>(literal: &Literal, convert: impl Fn([u8; SIZE]) -> S) -> Vec<S> {
            literal.bytes().as_chunks().0.iter().map(|&raw| convert(raw)).collect()
        }
        macro_rules! unpack {
            ($kind:ident, $element:ty) => {
                Data::$kind(unpack(literal, |raw| <$element>::from_le_bytes(raw).into()))
            };
        }
        let data = match literal.dtype() {
            DType::F64 => unpack!(Float, f64),
            DType::F32 => unpack!(Float, f32),
            DType::F16 => unpack!(Float, f16),
            DType::BF16 => unpack!(Float, bf16),
            DType::I64 => unpack!(Integer, i64),
            DType::I32 => unpack!(Integer, i32),
            DType::I16 => unpack!(Integer, i16),
            DType::I8 => unpack!(Integer, i8),
            DType::U64 => unpack!(Integer, u64),
            DType::U32 => unpack!(Integer, u32),
            DType::U16 => unpack!(Integer, u16),
            DType::U8 => unpack!(Integer, u8),
            DType::Bool => Data::Integer(unpack(literal, |[raw]| (raw != 0).into())),
        };
        Tensor::moved(literal.ty().clone(), data)
    }

    pub fn to_literal(&self) -> Literal {
        fn pack<const SIZE: usize, S: Copy>(elements: &[S], convert: impl Fn(S) -> [u8; SIZE]) -> Vec<u8> {
            let raw: Vec<[u8; SIZE]> = elements.iter().map(|&element| convert(element)).collect();
            raw.into_flattened()
        }
        let bytes = match (&*self.data, self.ty.dtype) {
            (Data::Float(x), DType::F64) => pack(x, f64::to_le_bytes),
            (Data::Float(x), DType::F32) => pack(x, |x| (x as f32).to_le_bytes()),
            (Data::Float(x), DType::F16) => pack(x, |x| f16::from_f32(x as f32).to_le_bytes()),
            (Data::Float(x), DType::BF16) => pack(x, |x| bf16::from_f32(x as f32).to_le_bytes()),
            (Data::Integer(x), DType::I64) => pack(x, |x| (x as i64).to_le_bytes()),
            (Data::Integer(x), DType::I32) => pack(x, |x| (x as i32).to_le_bytes()),
            (Data::Integer(x), DType::I16) => pack(x, |x| (x as i16).to_le_bytes()),
            (Data::Integer(x), DType::I8) => pack(x, |x| (x as i8).to_le_bytes()),
            (Data::Integer(x), DType::U64) => pack(x, |x| (x as u64).to_le_bytes()),
            (Data::Integer(x), DType::U32) => pack(x, |x| (x as u32).to_le_bytes()),
            (Data::Integer(x), DType::U16) => pack(x, |x| (x as u16).to_le_bytes()),
            (Data::Integer(x), DType::U8 | DType::Bool) => pack(x, |x| [x as u8]),
            (Data::Float(_) | Data::Integer(_), dtype) => unreachable!("the data is not of kind {dtype}"),
        };
        Literal::from_bytes(self.ty.clone(), bytes.into()).expect("as many elements as the type says")
    }
}

impl Data {
    pub fn len(&self) -> usize {
        match self {
            Data::Float(x) => x.len(),
            Data::Integer(x) => x.len(),
        }
    }

    /// No elements, of the kind of this type, with room for some.
    pub fn with_capacity(dtype: DType, capacity: usize) -> Data {
        match dtype.is_float() {
            true => Data::Float(Vec::with_capacity(capacity)),
            false => Data::Integer(Vec::with_capacity(capacity)),
        }
    }

    /// Appends a range of elements of the same kind.
    pub fn append(&mut self, from: &Data, range: std::ops::Range<usize>) {
        match (self, from) {
            (Data::Float(to), Data::Float(from)) => to.extend_from_slice(&from[range]),
            (Data::Integer(to), Data::Integer(from)) => to.extend_from_slice(&from[range]),
            (Data::Float(_), Data::Integer(_)) | (Data::Integer(_), Data::Float(_)) => {
                unreachable!("the type rules demand equal element types")
            }
        }
    }
}

/// The nearest value of a float type, ties to even. The 16-bit types are reached through f32.
pub(super) fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => x as f32 as f64,
        DType::F16 => f16::from_f32(x as f32).to_f64(),
        DType::BF16 => bf16::from_f32(x as f32).to_f64(),
        _ => x,
    }
}

/// The value of an integer type that is equal modulo two to the width; for bool whether it is not zero.
pub(super) fn wrap(x: i128, dtype: DType) -> i128 {
    match dtype {
        DType::I64 => x as i64 as i128,
        DType::I32 => x as i32 as i128,
        DType::I16 => x as i16 as i128,
        DType::I8 => x as i8 as i128,
        DType::U64 => x as u64 as i128,
        DType::U32 => x as u32 as i128,
        DType::U16 => x as u16 as i128,
        DType::U8 => x as u8 as i128,
        DType::Bool => (x != 0) as i128,
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => {
            unreachable!("integers are not of type {dtype}")
        }
    }
}

/// The two kinds of numbers that the interpreter computes with.
pub(super) trait Number: Copy + PartialEq + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The least value of an element type: what an empty maximum is.
    fn least(dtype: DType) -> Self;
    /// The greatest value of an element type: what an empty minimum is.
    fn greatest(dtype: DType) -> Self;
    fn is_nan(self) -> bool;
    /// The greater; NaN if either is; 0 is greater than -0.
    fn greater(self, other: Self) -> Self;
    /// The less; NaN if either is; -0 is less than 0.
    fn lesser(self, other: Self) -> Self;

    /// The order of numbers, with all NaNs equal and greater than the rest.
    fn order(self, other: Self) -> Ordering {
        self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
    }
}

impl Number for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    fn add(self, other: f64) -> f64 {
        self + other
    }
    fn mul(self, other: f64) -> f64 {
        self * other
    }
    fn least(_: DType) -> f64 {
        f64::NEG_INFINITY
    }
    fn greatest(_: DType) -> f64 {
        f64::INFINITY
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
    fn greater(self, other: f64) -> f64 {
        match self.partial_cmp(&other) {
            Some(Ordering::Greater) => self,
            Some(Ordering::Less) => other,
            Some(Ordering::Equal) if self.is_sign_positive() => self,
            Some(Ordering::Equal) => other,
            None => f64::NAN,
        }
    }
    fn lesser(self, other: f64) -> f64 {
        match self.partial_cmp(&other) {
            Some(Ordering::Less) => self,
            Some(Ordering::Greater) => other,
            Some(Ordering::Equal) if self.is_sign_negative() => self,
            Some(Ordering::Equal) => other,
            None => f64::NAN,
        }
    }
}

impl Number for i128 {
    const ZERO: i128 = 0;
    const ONE: i128 = 1;
    fn add(self, other: i128) -> i128 {
        self.wrapping_add(other)
    }
    fn mul(self, other: i128) -> i128 {
        self.wrapping_mul(other)
    }
    fn least(dtype: DType) -> i128 {
        match dtype {
            DType::I64 => i64::MIN as i128,
            DType::I32 => i32::MIN as i128,
            DType::I16 => i16::MIN as i128,
            DType::I8 => i8::MIN as i128,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => 0,
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => unreachable!("no integer type: {dtype}"),
        }
    }
    fn greatest(dtype: DType) -> i128 {
        match dtype {
            DType::I64 => i64::MAX as i128,
            DType::I32 => i32::MAX as i128,
            DType::I16 => i16::MAX as i128,
            DType::I8 => i8::MAX as i128,
            DType::U64 => u64::MAX as i128,
            DType::U32 => u32::MAX as i128,
            DType::U16 => u16::MAX as i128,
            DType::U8 => u8::MAX as i128,
            DType::Bool => 1,
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => unreachable!("no integer type: {dtype}"),
        }
    }
    fn is_nan(self) -> bool {
        false
    }
    fn greater(self, other: i128) -> i128 {
        self.max(other)
    }
    fn lesser(self, other: i128) -> i128 {
        self.min(other)
    }
}
