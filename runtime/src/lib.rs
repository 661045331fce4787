//! The functions that compiled code calls, by the symbols that it calls them by.
//!
//! A JIT module gets their addresses from [`symbols`]. An object file is linked with this crate's static library,
//! `libgradc_runtime.a`. Both are the same functions, so a program computes the same bits either way.
//!
//! No function unwinds into generated frames: those that could panic are `extern "C"`, which ends the process instead.

mod calls;
mod frame;
mod object;
pub mod scalar;
mod sort;
mod special;
pub mod wide;

pub use frame::{Frame, KernelFunction, Ticks};
pub use object::{ENTER_STATUSES, gradc_rt_enter, gradc_team_free, gradc_team_new};
pub use sort::{SortKey, sort_scratch_bytes};

/// Every function: its symbol and its address.
pub fn symbols() -> Vec<(&'static str, *const u8)> {
    let mut all = scalar::symbols();
    all.extend(calls::symbols());
    all.extend(wide::symbols());
    all
}
