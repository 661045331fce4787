//! Files that hold arrays and pictures: reading, which trusts nothing, and writing, which never leaves half a file.
//!
//! An array is a [`Literal`](gradc_ir::Literal): a type, a shape and little-endian bytes in row-major order. Readers
//! allocate what the bytes at hand justify, never what a header claims.

mod error;
pub mod jpeg;
pub mod npy;
mod npy_header;
pub mod npz;
pub mod output;
pub mod png;
pub mod safetensors;
pub mod tensor_proto;
#[cfg(test)]
mod tests;

pub use error::{FormatError, Result, ShellWord};

use bytes::Bytes;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What is read at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes of one array.
    pub array_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { array_bytes: 16 << 30 }
    }
}

/// The whole of a file, of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Bytes> {
    let file = path.display().to_string();
    let unreadable =
        |error: std::io::Error| FormatError::Unreadable { file: file.clone(), why: reason(&error) };
    let opened = File::open(path).map_err(unreadable)?;
    let size = opened.metadata().map_err(unreadable)?.len();
    if size > limit {
        return Err(FormatError::TooLarge { file, bytes: size, limit });
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(size).unwrap_or(usize::MAX);
    if bytes.try_reserve_exact(room).is_err() {
        return Err(FormatError::TooLarge { file, bytes: size, limit });
    }
    opened.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > limit {
        true => Err(FormatError::TooLarge { file, bytes: bytes.len() as u64, limit }),
        false => Ok(bytes.into()),
    }
}

/// The system's words for an error, without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let words = error.to_string();
    match words.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => words,
    }
}
