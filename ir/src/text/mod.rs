//! The text form of graphs: `parse(print(graph)) == graph`. The grammar stands in `docs/gir.md`.

mod attributes;
mod construct;
mod elements;
mod error;
mod lex;
mod name;
mod parse;
mod print;

pub use error::{ParseError, ParseErrorKind};
pub use parse::{parse, parse_all};
pub use print::{ShortDisplay, print};
