//! NumPy's format for one array.

use super::error::{FormatError, Result};
use super::npy_header::{self, Header};
use super::{Limits, read_file};
use bytes::Bytes;
use gradc_ir::{DType, Literal, TensorType};
use half::bf16;
use std::io::{self, Write};
use std::path::Path;

/// Reads a file.
pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<Literal> {
    let path = path.as_ref();
    let bytes = read_file(path, limits.array_bytes.saturating_add(npy_header::LONGEST as u64))?;
    parse(&path.display().to_string(), bytes)
}

/// Reads an array from memory; `file` is its name in errors. The data is a slice of the bytes where it is in row-major
/// order and little-endian.
///
/// The bytes must be the array and nothing more. Arrays of Python objects are refused.
pub fn parse(file: &str, bytes: Bytes) -> Result<Literal> {
    let header = npy_header::parse(file, &bytes)?;
    let (wanted, found) = (header.data_bytes(), bytes.len() - header.size);
    if wanted != found {
        let ty = TensorType::new(header.dtype, header.shape);
        let what = format!("{ty} takes {wanted} bytes, the file has {found} after its header");
        return Err(FormatError::damaged(file, "an npy array", what));
    }
    let data = normalize(&header, bytes.slice(header.size..));
    let ty = TensorType::new(header.dtype, header.shape);
    Literal::from_bytes(ty, data)
        .ok_or_else(|| FormatError::damaged(file, "an npy array", "its size is wrong"))
}

/// The data little-endian, in row-major order, with truth values 0 and 1.
fn normalize(header: &Header, mut data: Bytes) -> Bytes {
    let size = header.dtype.size();
    if header.big_endian {
        let mut swapped = data.to_vec();
        swapped.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        data = swapped.into();
    }
    if header.fortran_order && header.shape.rank() > 1 && !data.is_empty() {
        data = row_major(&header.shape, size, &data).into();
    }
    if header.dtype == DType::Bool && data.iter().any(|&byte| byte > 1) {
        data = data.iter().map(|&byte| u8::from(byte != 0)).collect();
    }
    data
}

/// Elements in row-major order from column-major ones.
fn row_major(shape: &[usize], size: usize, data: &[u8]) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &length in shape {
        strides.push(stride);
        stride *= length;
    }
    let mut result = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    while result.len() < data.len() {
        result.extend_from_slice(&data[position..position + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    result
}

/// What [`write()`] writes in place of an array: itself, or for bf16, which npy lacks, the same values as f32.
pub fn storable(array: &Literal) -> Literal {
    match array.elements::<bf16>() {
        Some(elements) => {
            let wide: Vec<f32> = elements.into_iter().map(bf16::to_f32).collect();
            Literal::new(array.shape().clone(), &wide)
        }
        None => array.clone(),
    }
}

/// Writes an array; bf16 as f32 (see [`storable`]).
pub fn write(writer: &mut dyn Write, array: &Literal) -> io::Result<()> {
    let array = storable(array);
    let header = npy_header::write(array.dtype(), array.shape())
        .ok_or_else(|| io::Error::other("its shape does not fit the format"))?;
    writer.write_all(&header)?;
    writer.write_all(array.bytes())
}
