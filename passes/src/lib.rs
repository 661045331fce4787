//! Transforms and passes over the IR of gradc: gradients, simplification, fusion, the memory plan.

mod fuse;
mod grad;
mod merge_scans;
mod pass;

pub use fuse::{Frame, Fuse};
pub use grad::{GradError, Gradient, jvp, vjp};
pub use merge_scans::{MergeScans, merge_scans};
pub use pass::{Pass, Report, Selection, run_passes};
