//! Loop kernels and their machine code.

pub mod loops;
