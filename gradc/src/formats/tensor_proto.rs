//! ONNX's format for one tensor, as in the folders of test data beside models.

use super::error::{FormatError, Result};
use super::{Limits, read_file};
use gradc_frontend_onnx::model::read_tensor_proto;
use gradc_ir::Literal;
use std::path::Path;

/// Reads a file: the name that it gives the tensor, often empty, and the tensor; elements of few bits as
/// their codes.
pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<(String, Literal)> {
    let path = path.as_ref();
    let bytes = read_file(path, limits.array_bytes)?;
    let file = path.display().to_string();
    let tensor = read_tensor_proto(bytes)
        .map_err(|error| FormatError::damaged(&file, "an ONNX tensor", error.to_string()))?;
    let literal = tensor.to_held().map_err(|_| FormatError::ElementType {
        file,
        found: format!("elements of type {}", tensor.dtype()),
    })?;
    Ok((tensor.name().to_owned(), literal))
}
