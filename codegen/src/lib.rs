//! Machine code from graphs.
//!
//! [`lower`] turns a graph into a [`program`]: steps over places in memory, some of them [`loops`] kernels, the
//! others calls of hand-written kernels. [`emit`] turns loop kernels into machine code, and [`compile`] puts it all
//! together into an [`Executable`].

pub mod emit;
mod error;
mod exec;
pub mod loops;
mod lower;
mod memory;
pub mod program;
mod recompute;
mod stored;
mod work;

pub use error::{CodegenError, RunError};
pub use exec::{
    Aligned, CompileOptions, Executable, Image, ObjectFile, ObjectOptions, Workspace, as_bytes, as_bytes_mut,
    assembly, baseline_clif, clif, compile, compile_with, define_program, from_bytes, from_bytes_mut,
    machine, object,
};
pub use lower::{lower, lower_within};
pub use work::Work;
