//! The safetensors format: named arrays of any element type, with a few words of metadata.

use super::error::{FormatError, Result};
use super::{Limits, read_file};
use bytes::Bytes;
use gradc_ir::{DType, Literal, TensorType};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// A longer header is refused before it is parsed.
const LONGEST_HEADER: u64 = 16 << 20;
const FORMAT: &str = "a safetensors file";

/// Reads a file: its arrays in the order of their names.
pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<Vec<(String, Literal)>> {
    let path = path.as_ref();
    let bytes = read_file(path, limits.array_bytes.saturating_add(LONGEST_HEADER))?;
    parse(&path.display().to_string(), bytes)
}

/// Reads arrays from memory, of which they are slices; `file` is its name in errors.
pub fn parse(file: &str, bytes: Bytes) -> Result<Vec<(String, Literal)>> {
    let damaged = |what: String| FormatError::damaged(file, FORMAT, what);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged(format!("it has {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER || length > rest.len() as u64 {
        return Err(damaged(format!("its header claims {length} bytes, the file has {}", rest.len())));
    }
    let archive = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let mut arrays = Vec::new();
    for (name, view) in archive.iter() {
        let label = || format!("{file}:{name}");
        let dtype = element_type(view.dtype()).ok_or_else(|| FormatError::ElementType {
            file: label(),
            found: format!("elements of type {:?}", view.dtype()),
        })?;
        let mut data = bytes.slice_ref(view.data());
        if dtype == DType::Bool && data.iter().any(|&byte| byte > 1) {
            data = data.iter().map(|&byte| u8::from(byte != 0)).collect();
        }
        let array = Literal::from_bytes(TensorType::new(dtype, view.shape()), data)
            .ok_or_else(|| FormatError::damaged(&label(), FORMAT, "its size is not that of its shape"))?;
        arrays.push((name.to_owned(), array));
    }
    arrays.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(arrays)
}

fn element_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I64 => Some(DType::I64),
        Dtype::I32 => Some(DType::I32),
        Dtype::I16 => Some(DType::I16),
        Dtype::I8 => Some(DType::I8),
        Dtype::U64 => Some(DType::U64),
        Dtype::U32 => Some(DType::U32),
        Dtype::U16 => Some(DType::U16),
        Dtype::U8 => Some(DType::U8),
        Dtype::BOOL => Some(DType::Bool),
        // Types of a byte and less; the list of the crate is open.
        _ => None,
    }
}

fn spelling(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U64 => "U64",
        DType::U32 => "U32",
        DType::U16 => "U16",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}

/// Writes arrays in this order. The bytes depend on the arguments alone.
pub fn write(
    writer: &mut dyn Write,
    arrays: &[(String, Literal)],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    }
    // The format wants wide elements first, so that each array is aligned.
    let mut order: Vec<&(String, Literal)> = arrays.iter().collect();
    order.sort_by_key(|(_, array)| std::cmp::Reverse(array.dtype().size()));
    let mut offset = 0;
    for (name, array) in &order {
        let end = offset + array.bytes().len();
        let entry = serde_json::json!({
            "dtype": spelling(array.dtype()),
            "shape": array.shape().to_vec(),
            "data_offsets": [offset, end],
        });
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    writer.write_all(&(text.len() as u64).to_le_bytes())?;
    writer.write_all(&text)?;
    order.iter().try_for_each(|(_, array)| writer.write_all(array.bytes()))
}
