//! The `gradc` command from outside: what it prints, writes and returns.

mod bench;
mod cache;
mod commands;
mod demo;
mod documents;
mod flags;
mod folder;
mod mistakes;
mod outputs;
mod robustness;
#[path = "../../../gradc/tests/support/mod.rs"]
mod support;
