//! The library from outside, on small models made here.

mod cache;
mod cpu;
mod data;
mod derivatives;
mod errors;
mod kinks;
mod losses;
mod object;
mod running;
mod straight;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod training;
