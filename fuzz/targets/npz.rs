//! See `bodies.rs`.
#![no_main]

#[allow(dead_code, reason = "each target has its own")]
#[path = "../src/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::npz(data));
