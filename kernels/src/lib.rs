//! The loops where the time goes: matrix products and convolutions, in vector instructions chosen when the
//! program starts.
//!
//! The crate knows nothing of graphs or of the IR. A problem is a plain struct of sizes ([`Gemm`], [`Conv`]);
//! data come as pointers; memory for packing comes from the caller, who asks for the size beforehand; threads
//! come from a [`Team`]. Nothing is allocated while a kernel runs, and no result depends on the number of
//! threads.

mod conv;
mod cpu;
mod element;
mod gemm;
pub mod measure;
mod simd;
mod team;
#[cfg(test)]
mod testing;
mod transpose;
mod wide;

pub use conv::{Conv, ConvForm, Packing};
pub use cpu::Tier;
pub use element::Element;
pub use gemm::{Epilogue, EpilogueFunction, Finish, Gemm, PackedOperand};
pub use team::Team;
pub use transpose::transpose_f32;
pub use wide::{WideFunction, WidePointer, bf16_from_f32, f16_from_f32, f32_from_bf16, f32_from_f16};
