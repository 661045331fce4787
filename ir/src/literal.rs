//! Constant tensors: a type and its elements as little-endian bytes, shared and never copied.

use crate::{DType, Shape, TensorType};
use bytes::Bytes;
use half::{bf16, f16};
use std::fmt;
use std::hash::{Hash, Hasher};

/// A tensor known at compile time.
///
/// The bytes hold the elements in row-major order, little-endian, exactly `ty.bytes()` of them; they may be a slice
/// of a mapped file, so they have no alignment. Equality is by type and bytes (so `0.0` and `-0.0` differ).
#[derive(Clone)]
pub struct Literal {
    ty: TensorType,
    bytes: Bytes,
}

/// A Rust type that is the element type of a tensor.
pub trait Element: Copy + Send + Sync + 'static {
    /// The IR's name of this type.
    const DTYPE: DType;
    /// Appends the little-endian bytes.
    fn write(self, bytes: &mut Vec<u8>);
    /// Reads from exactly `DTYPE.size()` little-endian bytes.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),*) => { $(
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
            fn write(self, bytes: &mut Vec<u8>) { bytes.extend_from_slice(&self.to_le_bytes()); }
            fn read(bytes: &[u8]) -> $rust {
                let mut raw = [0; size_of::<$rust>()];
                raw.copy_from_slice(bytes);
                <$rust>::from_le_bytes(raw)
            }
        }
    )* };
}
elements!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i16 => I16, i8 => I8,
          u64 => U64, u32 => U32, u16 => U16, u8 => U8);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(self as u8);
    }
    fn read(bytes: &[u8]) -> bool {
        bytes[0] != 0
    }
}

impl Literal {
    /// A literal over shared bytes, or `None` where their number is not the type's.
    pub fn from_bytes(ty: TensorType, bytes: Bytes) -> Option<Literal> {
        (bytes.len() == ty.bytes()).then_some(Literal { ty, bytes })
    }

    /// A literal from elements in row-major order. Panics where their number is not the shape's.
    pub fn new<T: Element>(shape: impl Into<Shape>, elements: &[T]) -> Literal {
        let ty = TensorType::new(T::DTYPE, shape);
        assert_eq!(ty.shape.elements(), elements.len(), "a literal has as many elements as its shape");
        let mut bytes = Vec::with_capacity(ty.bytes());
        elements.iter().for_each(|element| element.write(&mut bytes));
        Literal { ty, bytes: bytes.into() }
    }

    /// A scalar literal.
    pub fn scalar<T: Element>(element: T) -> Literal {
        Literal::new(Shape::scalar(), &[element])
    }

    /// A scalar of any element type, from a float (rounded to it; NaN is 0 for integers, bool is `!= 0`).
    pub fn scalar_of(dtype: DType, value: f64) -> Literal {
        match dtype {
            DType::F64 => Literal::scalar(value),
            DType::F32 => Literal::scalar(value as f32),
            DType::F16 => Literal::scalar(f16::from_f64(value)),
            DType::BF16 => Literal::scalar(bf16::from_f64(value)),
            DType::I64 => Literal::scalar(value as i64),
            DType::I32 => Literal::scalar(value as i32),
            DType::I16 => Literal::scalar(value as i16),
            DType::I8 => Literal::scalar(value as i8),
            DType::U64 => Literal::scalar(value as u64),
            DType::U32 => Literal::scalar(value as u32),
            DType::U16 => Literal::scalar(value as u16),
            DType::U8 => Literal::scalar(value as u8),
            DType::Bool => Literal::scalar(value != 0.0),
        }
    }

    /// The type.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// The axis lengths.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// The raw little-endian elements.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements, where `T` is the element type.
    pub fn elements<T: Element>(&self) -> Option<Vec<T>> {
        (T::DTYPE == self.ty.dtype).then(|| self.bytes.chunks_exact(T::DTYPE.size()).map(T::read).collect())
    }

    /// The elements as f64: exact for floats and for integers up to 2^53; bools are 0 and 1.
    pub fn to_f64(&self) -> Vec<f64> {
        fn map<T: Element>(literal: &Literal, convert: impl Fn(T) -> f64) -> Vec<f64> {
            literal.bytes.chunks_exact(T::DTYPE.size()).map(|raw| convert(T::read(raw))).collect()
        }
        match self.ty.dtype {
            DType::F64 => map(self, |x: f64| x),
            DType::F32 => map(self, |x: f32| x as f64),
            DType::F16 => map(self, f16::to_f64),
            DType::BF16 => map(self, bf16::to_f64),
            DType::I64 => map(self, |x: i64| x as f64),
            DType::I32 => map(self, |x: i32| x as f64),
            DType::I16 => map(self, |x: i16| x as f64),
            DType::I8 => map(self, |x: i8| x as f64),
            DType::U64 => map(self, |x: u64| x as f64),
            DType::U32 => map(self, |x: u32| x as f64),
            DType::U16 => map(self, |x: u16| x as f64),
            DType::U8 => map(self, |x: u8| x as f64),
            DType::Bool => map(self, |x: bool| x as u8 as f64),
        }
    }

    /// The elements in row-major order, as vectors of at most so many that share the bytes.
    pub fn pieces(&self, elements: usize) -> impl Iterator<Item = Literal> + '_ {
        let size = self.dtype().size();
        let step = elements.max(1).saturating_mul(size);
        (0..self.bytes.len()).step_by(step).map(move |start| {
            let bytes = self.bytes.slice(start..self.bytes.len().min(start.saturating_add(step)));
            Literal { ty: TensorType::new(self.dtype(), [bytes.len() / size]), bytes }
        })
    }

    /// The elements as i64, for integers and bools (u64 wraps); `None` for floats.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        fn map<T: Element>(literal: &Literal, convert: impl Fn(T) -> i64) -> Option<Vec<i64>> {
            Some(literal.bytes.chunks_exact(T::DTYPE.size()).map(|raw| convert(T::read(raw))).collect())
        }
        match self.ty.dtype {
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => None,
            DType::I64 => map(self, |x: i64| x),
            DType::I32 => map(self, |x: i32| x as i64),
            DType::I16 => map(self, |x: i16| x as i64),
            DType::I8 => map(self, |x: i8| x as i64),
            DType::U64 => map(self, |x: u64| x as i64),
            DType::U32 => map(self, |x: u32| x as i64),
            DType::U16 => map(self, |x: u16| x as i64),
            DType::U8 => map(self, |x: u8| x as i64),
            DType::Bool => map(self, |x: bool| x as i64),
        }
    }

    /// The same elements under another shape of as many elements, sharing the bytes.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Option<Literal> {
        Literal::from_bytes(TensorType::new(self.ty.dtype, shape), self.bytes.clone())
    }

    /// Whether every element has the same bits; true for a scalar, false for an empty tensor.
    pub fn is_splat(&self) -> bool {
        let size = self.ty.dtype.size();
        self.bytes.len() >= size && self.bytes[size..] == self.bytes[..self.bytes.len() - size]
    }

    /// The one value of a splat, as f64.
    pub fn splat_value(&self) -> Option<f64> {
        let first = self.bytes.slice(..self.ty.dtype.size().min(self.bytes.len()));
        self.is_splat().then(|| Literal { ty: TensorType::scalar(self.ty.dtype), bytes: first }.to_f64()[0])
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Literal) -> bool {
        let shared = self.bytes.as_ptr() == other.bytes.as_ptr() && self.bytes.len() == other.bytes.len();
        self.ty == other.ty && (shared || self.bytes == other.bytes)
    }
}

impl Eq for Literal {}

impl Hash for Literal {
    /// Hashes the type and a sample: hashing every weight of a model would cost more than compiling it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ty.hash(state);
        let sample = self.bytes.len().min(64);
        self.bytes[..sample].hash(state);
        self.bytes[self.bytes.len() - sample..].hash(state);
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ty)?;
        if self.ty.shape.elements() <= 16 { write!(f, "{:?}", self.to_f64()) } else { f.write_str("[..]") }
    }
}
