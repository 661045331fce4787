//! What a machine can do, and what a program asks of it: yardsticks for measurements.

mod heap;
mod roof;

pub use heap::{CountingHeap, heap_calls};
pub use roof::{Roof, RoofLevel};
