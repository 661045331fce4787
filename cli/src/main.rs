//! The `gradc` command.
fn main() {}
