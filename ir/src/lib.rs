//! The dataflow IR of gradc: what a program is.
//!
//! A [`Graph`] is a list of [`Node`]s, each an [`Op`] on earlier [`Value`]s. It is made by a [`Builder`], most
//! comfortably through [`Expr`] handles. This crate knows nothing of ONNX, of machine code or of files.

mod builder;
mod expr;
mod graph;
mod infer;
mod literal;
mod names;
mod op;
mod text;
mod types;

pub use builder::{Builder, inline, inline_all, rebuild};
pub use expr::Expr;
pub use graph::{Graph, Input, Node, Origin, Types, Value};
pub use infer::{Fault, TypeError, infer};
pub use literal::{Element, Literal};
pub use op::*;
pub use text::{ShortDisplay, print};
pub use types::{DType, Shape, TensorType};
