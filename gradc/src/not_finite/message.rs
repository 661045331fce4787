//! What is said of numbers that are not finite.

use super::{NotFinite, NotFiniteSource};
use crate::error::node_name;
use gradc_frontend_onnx::error::Quoted;
use std::fmt;

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.source {
            NotFiniteSource::Input { name } => format!("the input {}", Quoted(name)),
            NotFiniteSource::Constant { name: Some(name) } => format!("the constant {}", Quoted(name)),
            NotFiniteSource::Constant { name: None } => "a constant of the model".to_owned(),
            NotFiniteSource::Node { node: Some(node), backward: true, .. } => {
                format!("the gradient of {}", node_name(node))
            }
            NotFiniteSource::Node { node: Some(node), .. } => format!("the result of {}", node_name(node)),
            NotFiniteSource::Node { node: None, .. } | NotFiniteSource::Unknown => self.seen_in.clone(),
        };
        let index: Vec<String> = self.index.iter().map(ToString::to_string).collect();
        write!(f, "first {} in {place} at [{}]", self.kind, index.join(","))
    }
}

impl NotFinite {
    /// The arithmetic that did it, and in which result it was seen.
    pub(crate) fn at(&self) -> String {
        let seen = format!("seen in {}", self.seen_in);
        match &self.source {
            NotFiniteSource::Node { why, tensor, backward, .. } => {
                let name =
                    tensor.as_ref().map_or_else(String::new, |name| format!(", which is {}", Quoted(name)));
                let verb = if *backward { "its derivative computed" } else { "it computed" };
                format!("{verb} {why}{name}; {seen}")
            }
            NotFiniteSource::Input { .. } | NotFiniteSource::Constant { .. } => seen,
            NotFiniteSource::Unknown => "only optimized code yields it".to_owned(),
        }
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> String {
        match &self.source {
            NotFiniteSource::Input { .. } => "give it finite numbers".to_owned(),
            NotFiniteSource::Constant { .. } => {
                "the weights in the file are damaged, or training diverged: export it anew".to_owned()
            }
            NotFiniteSource::Node { .. } => {
                "add --nan-check warn --trace-nan nan.npz to go on and write the numbers that met there; \
                 an epsilon in the model keeps them apart"
                    .to_owned()
            }
            NotFiniteSource::Unknown => "add -O0 to compute without optimizations".to_owned(),
        }
    }
}
