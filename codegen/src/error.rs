//! What can go wrong when compiling and when running.

use crate::emit::EmitError;
use cranelift_module::ModuleError;
use gradc_ir::{Graph, Origin, Value};

/// Why a graph could not be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodegenError {
    /// The graph holds something that has no code.
    #[error("{what} is not supported{}", at(.origin))]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// The node of the user's file.
        origin: Option<Origin>,
    },
    /// A kernel could not be emitted: a bug of the compiler.
    #[error("cannot emit a kernel: {0}")]
    Emit(#[from] EmitError),
    /// The code generator refused: a bug of the compiler.
    #[error("cannot generate code: {0}")]
    Module(#[from] Box<ModuleError>),
}

impl From<ModuleError> for CodegenError {
    fn from(error: ModuleError) -> CodegenError {
        CodegenError::Module(Box::new(error))
    }
}

impl CodegenError {
    pub(crate) fn unsupported(graph: &Graph, value: Value, what: &'static str) -> CodegenError {
        CodegenError::Unsupported { what, origin: graph.origin(value).cloned() }
    }
}

/// Why a run failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A buffer has another size than its tensor.
    #[error("{} {position} takes {wanted} bytes, got {got}", side(.is_input))]
    Size {
        /// Of an input, or of an output.
        is_input: bool,
        /// Which.
        position: usize,
        /// The tensor's size.
        wanted: usize,
        /// The buffer's size.
        got: usize,
    },
    /// A buffer's address is not a multiple of its element size.
    #[error("{} {position} must be aligned to {wanted} bytes", side(.is_input))]
    Alignment {
        /// Of an input, or of an output.
        is_input: bool,
        /// Which.
        position: usize,
        /// The alignment needed.
        wanted: usize,
    },
    /// An index in the data points outside of the tensor that it selects from.
    #[error("index {value} is out of range{}", at(.origin))]
    IndexOutOfRange {
        /// The index.
        value: i64,
        /// The node of the user's file.
        origin: Option<Origin>,
    },
}

fn side(is_input: &bool) -> &'static str {
    if *is_input { "input" } else { "output" }
}

fn at(origin: &Option<Origin>) -> String {
    origin.as_ref().map_or_else(String::new, |origin| format!(" in {} «{}»", origin.operator, origin.name))
}
