//! The text form of graphs: `parse(print(graph)) == graph`. The grammar stands in `docs/gir.md`.

mod attributes;
mod elements;
mod name;
mod print;

pub use print::{ShortDisplay, print};
