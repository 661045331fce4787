//! Gradients against central differences, at kinks, and on the famous wrong gradients.

mod cases;
mod elementwise;
mod forward_mode;
mod harness;
mod indexing;
mod jacobians;
mod kinks;
mod loops;
mod mutation;
mod paths;
mod precision;
mod random;
mod structure;
