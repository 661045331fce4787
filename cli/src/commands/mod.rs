//! The subcommands, one a file.

pub mod bench;
pub mod check;
pub mod compile;
pub mod completions;
pub mod demo;
pub mod explain_error;
pub mod grad;
pub mod inspect;
pub mod man;
pub mod ops;
pub mod run;
pub mod version;
