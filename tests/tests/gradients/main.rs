//! Gradients as they are computed by what a user runs: the compiled program, at the lowest and the highest level of
//! optimization, with one thread and with two; and the interpreter as the second opinion.

#[path = "../common/mod.rs"]
mod common;
mod famous;
mod harness;
mod kinks;
mod matrix;
#[path = "../../../gradc/tests/support/mod.rs"]
mod support;
mod torch;
