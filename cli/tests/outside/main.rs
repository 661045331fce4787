//! The `gradc` command from outside: what it prints, writes and returns.

mod bench;
mod commands;
mod demo;
mod folder;
mod mistakes;
mod outputs;
#[path = "../../../gradc/tests/support/mod.rs"]
mod support;
