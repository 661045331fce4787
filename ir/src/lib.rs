//! The dataflow IR of gradc: what a program is.
//!
//! A [`Graph`] is a list of [`Node`]s, each an [`Op`] on earlier [`Value`]s. It is made by a [`Builder`], most
//! comfortably through [`Expr`] handles. This crate knows nothing of ONNX, of machine code or of files.

mod builder;
mod check;
mod decompose;
mod eval;
mod expr;
mod graph;
mod infer;
mod literal;
mod names;
mod op;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod text;
mod types;
mod view;

pub use builder::{Builder, inline, inline_all, rebuild};
pub use check::{CheckError, CheckFault};
pub use decompose::decompose;
pub use eval::{EvalError, Limits, eval, eval_op, eval_op_with, eval_with};
pub use expr::Expr;
pub use graph::{Graph, Input, Node, Origin, Types, Value};
pub use infer::{Fault, TypeError, infer};
pub use literal::{Element, Literal};
pub use op::*;
pub use text::{ParseError, ParseErrorKind, ShortDisplay, parse, parse_all, print};
pub use types::{DType, Shape, TensorType};
pub use view::{Edge, GraphView, Visited};
