//! Transforms and passes over the IR of gradc: gradients, simplification, fusion, the memory plan.

mod canonical;
mod decompose;
mod fold;
mod fuse;
mod grad;
mod merge_scans;
mod pass;
mod patch_dot;
mod pipeline;
mod simplify;
mod strip_marks;
mod widen;

pub use canonical::CanonicalDot;
pub use decompose::Decompose;
pub use fold::Fold;
pub use fuse::{Frame, Fuse};
pub use grad::{GradError, Gradient, jacobian, jvp, vjp};
pub use merge_scans::{MergeScans, merge_scans};
pub use pass::{Pass, Report, Selection, run_passes};
pub use patch_dot::PatchDot;
pub use pipeline::{by_name, names, pipeline};
pub use simplify::{Simplify, simplify_counting, simplify_rules};
pub use strip_marks::StripMarks;
pub use widen::WidenProducts;
