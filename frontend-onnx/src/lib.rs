//! Reads ONNX models.
//!
//! A file goes through three forms: the protobuf types of [`proto`] (generated, as the file has them), a [`Model`]
//! (validated, in order, free of the format's quirks), and, by lowering, a graph of the IR.
//!
//! Everything in a file is untrusted: sizes are checked before they are used, depths and counts have limits
//! ([`ReadOptions`]), and whatever is wrong becomes an [`Error`] with a code and a help text.

#![deny(unsafe_code)]

pub mod error;
pub mod lower;
pub mod model;
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
pub mod proto;

pub use error::{Error, Result};
pub use lower::{LowerOptions, Lowered, lower};
pub use model::{ExternalData, Model, ReadOptions};
