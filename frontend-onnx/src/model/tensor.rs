//! Constant tensors as a file holds them.

use super::dtype::DataType;
use crate::{Error, Result};
use bytes::Bytes;
use gradc_ir::{DType, Literal, Shape, TensorType};
use std::sync::Arc;

/// A constant tensor of any element type of the format.
///
/// The bytes are little-endian in row-major order, exactly as many as the type takes; types of less than a byte are
/// packed as the format says. They are a slice of the file wherever the file has them in this form.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData {
    name: String,
    dtype: DataType,
    dims: Vec<usize>,
    bytes: Bytes,
    strings: Arc<[Bytes]>,
}

impl TensorData {
    /// A tensor over these bytes. An error where their number is not the type's, or the dtype is `string`.
    pub fn new(
        name: impl Into<String>,
        dtype: DataType,
        dims: Vec<usize>,
        bytes: Bytes,
    ) -> Result<TensorData> {
        let name = name.into();
        if dtype == DataType::String {
            return Err(Error::tensor(&name, "strings have no fixed size"));
        }
        let wanted = byte_size(&name, dtype, &dims)?;
        if wanted != bytes.len() {
            let shape = Shape::new(&dims);
            let what = format!("{dtype}{shape} takes {wanted} bytes, its data has {}", bytes.len());
            return Err(Error::tensor(&name, what));
        }
        Ok(TensorData { name, dtype, dims, bytes, strings: Arc::default() })
    }

    /// A tensor of texts. An error where their number is not the shape's.
    pub fn from_strings(
        name: impl Into<String>,
        dims: Vec<usize>,
        strings: Vec<Bytes>,
    ) -> Result<TensorData> {
        let name = name.into();
        let wanted = element_count(&name, &dims)?;
        if wanted != strings.len() {
            let what = format!("its shape wants {wanted} strings, its data has {}", strings.len());
            return Err(Error::tensor(&name, what));
        }
        let dtype = DataType::String;
        Ok(TensorData { name, dtype, dims, bytes: Bytes::new(), strings: strings.into() })
    }

    /// The name; empty for most attributes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// The lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The elements' bytes; empty for strings.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The texts of a string tensor; empty for all others.
    pub fn strings(&self) -> &[Bytes] {
        &self.strings
    }

    /// The same data under another name.
    pub fn with_name(mut self, name: impl Into<String>) -> TensorData {
        self.name = name.into();
        self
    }

    /// The IR's constant, over the same bytes. An error where the IR has no such element type.
    pub fn to_literal(&self) -> Result<Literal> {
        let unsupported =
            || Error::tensor(&self.name, format!("elements of type {} are not supported", self.dtype));
        let dtype = self.dtype.to_ir().ok_or_else(unsupported)?;
        let mut bytes = self.bytes.clone();
        // The IR's bool is 0 or 1; a file may hold any other byte for true.
        if self.dtype == DataType::Bool && bytes.iter().any(|&byte| byte > 1) {
            bytes = bytes.iter().map(|&byte| u8::from(byte != 0)).collect();
        }
        Literal::from_bytes(TensorType::new(dtype, self.dims.as_slice()), bytes).ok_or_else(unsupported)
    }

    /// [`TensorData::to_literal`], or the codes ([`DataType::held_as`]) of elements of a type of few bits.
    pub fn to_held(&self) -> Result<Literal> {
        let (Some(_), Some(dtype)) = (self.dtype.as_code(), self.dtype.held_as()) else {
            return self.to_literal();
        };
        let narrow = self.dtype.bits() < 8;
        let bytes =
            if narrow { unpack(&self.bytes, self.dtype, self.elements()) } else { self.bytes.clone() };
        Literal::from_bytes(TensorType::new(dtype, self.dims.as_slice()), bytes)
            .ok_or_else(|| Error::tensor(&self.name, "its data does not fit its shape"))
    }
}

/// Elements of 4 or 2 bits, one a byte; those of signed types with their sign.
fn unpack(bytes: &[u8], dtype: DataType, elements: usize) -> Bytes {
    let bits = dtype.bits();
    let signed = dtype.held_as() == Some(DType::I8);
    let element = |position: usize| {
        let raw = bytes[position * bits / 8] >> (position * bits % 8) << (8 - bits);
        if signed { (raw.cast_signed() >> (8 - bits)).cast_unsigned() } else { raw >> (8 - bits) }
    };
    (0..elements).map(element).collect()
}

/// The number of elements, or an error where no memory could hold them.
pub(super) fn element_count(name: &str, dims: &[usize]) -> Result<usize> {
    match Shape::checked(dims) {
        Some(shape) => Ok(shape.elements()),
        None => Err(Error::tensor(name, format!("its shape {} is too large", Shape::new(dims)))),
    }
}

/// The number of bytes, or an error where no memory could hold them.
pub(super) fn byte_size(name: &str, dtype: DataType, dims: &[usize]) -> Result<usize> {
    let elements = element_count(name, dims)?;
    let size = dtype.packed_bytes(elements).filter(|&size| size <= isize::MAX as usize);
    size.ok_or_else(|| Error::tensor(name, format!("its shape {} is too large", Shape::new(dims))))
}
