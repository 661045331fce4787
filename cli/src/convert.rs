//! Arrays of one element type from those of another.

use gradc_ir::{DType, Literal, TensorType};
use half::{bf16, f16};

/// A converted array and what was lost.
pub struct Converted {
    /// The array.
    pub array: Literal,
    /// The largest difference of an element to the original.
    pub largest_error: f64,
}

/// Converts an array; `None` where an element is out of the range of the other type (NaN and the infinities are in the
/// range of floats only). Floats become integers only where they are whole.
pub fn convert(array: &Literal, dtype: DType) -> Option<Converted> {
    if array.dtype() == dtype {
        return Some(Converted { array: array.clone(), largest_error: 0.0 });
    }
    // Integers of 64 bits do not fit f64.
    if let (Some(integers), false) = (array.to_i64(), dtype.is_float()) {
        let unsigned = array.dtype() == DType::U64;
        let wide = integers.into_iter().map(|x| if unsigned { i128::from(x as u64) } else { i128::from(x) });
        let mut bytes = Vec::with_capacity(array.shape().elements() * dtype.size());
        for value in wide {
            write_integer(dtype, value, &mut bytes)?;
        }
        let array = Literal::from_bytes(TensorType::new(dtype, array.shape().clone()), bytes.into())?;
        return Some(Converted { array, largest_error: 0.0 });
    }
    let values = array.to_f64();
    let mut bytes = Vec::with_capacity(values.len() * dtype.size());
    let mut largest_error = 0f64;
    for value in values {
        let stored = write_float(dtype, value, &mut bytes)?;
        if value.is_finite() {
            largest_error = largest_error.max((stored - value).abs());
        }
    }
    let array = Literal::from_bytes(TensorType::new(dtype, array.shape().clone()), bytes.into())?;
    Some(Converted { array, largest_error })
}

/// Floats as an array of this element type, rounded; what is out of range saturates.
pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Literal {
    let mut bytes = Vec::with_capacity(values.len() * dtype.size());
    for &value in values {
        bytes.extend_from_slice(Literal::scalar_of(dtype, value).bytes());
    }
    match Literal::from_bytes(TensorType::new(dtype, shape), bytes.into()) {
        Some(array) => array,
        None => unreachable!("as many values as the shape has elements"),
    }
}

fn write_float(dtype: DType, value: f64, bytes: &mut Vec<u8>) -> Option<f64> {
    let stored = match dtype {
        DType::F64 => value,
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::Bool if value == 0.0 || value == 1.0 => value,
        DType::Bool => return None,
        DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8 => {
            if value.fract() != 0.0 || value.abs() >= 2f64.powi(63) {
                return None;
            }
            write_integer(dtype, value as i128, bytes)?;
            return Some(value);
        }
    };
    if value.is_finite() != stored.is_finite() {
        return None;
    }
    bytes.extend_from_slice(Literal::scalar_of(dtype, value).bytes());
    Some(stored)
}

fn write_integer(dtype: DType, value: i128, bytes: &mut Vec<u8>) -> Option<()> {
    match dtype {
        DType::I64 => bytes.extend(i64::try_from(value).ok()?.to_le_bytes()),
        DType::I32 => bytes.extend(i32::try_from(value).ok()?.to_le_bytes()),
        DType::I16 => bytes.extend(i16::try_from(value).ok()?.to_le_bytes()),
        DType::I8 => bytes.extend(i8::try_from(value).ok()?.to_le_bytes()),
        DType::U64 => bytes.extend(u64::try_from(value).ok()?.to_le_bytes()),
        DType::U32 => bytes.extend(u32::try_from(value).ok()?.to_le_bytes()),
        DType::U16 => bytes.extend(u16::try_from(value).ok()?.to_le_bytes()),
        DType::U8 => bytes.extend(u8::try_from(value).ok()?.to_le_bytes()),
        DType::Bool => bytes.push(u8::from(value != 0)),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let array = |array: &Literal, dtype| convert(array, dtype).map(|converted| converted.array);
        assert_eq!(array(&Literal::scalar(300i64), DType::U8), None);
        assert_eq!(array(&Literal::scalar(u64::MAX), DType::I64), None);
        assert_eq!(array(&Literal::scalar(-1i8), DType::I64), Some(Literal::scalar(-1i64)));
        assert_eq!(array(&Literal::scalar(1e300), DType::F32), None);
        assert_eq!(array(&Literal::scalar(f64::INFINITY), DType::F32), Some(Literal::scalar(f32::INFINITY)));
        assert_eq!(array(&Literal::scalar(0.5), DType::I32), None);
        assert_eq!(array(&Literal::scalar(2.0f32), DType::I32), Some(Literal::scalar(2i32)));
        assert_eq!(array(&Literal::scalar(true), DType::F32), Some(Literal::scalar(1f32)));
        assert!(convert(&Literal::scalar(0.1), DType::F32).is_some_and(|c| c.largest_error > 1e-9));
    }
}
