//! Reading models: every feature and every error, on models made here.

mod build;
mod errors;
mod external;
mod functions;
mod node_tests;
mod structure;
mod tensors;
