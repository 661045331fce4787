//! A model as the rest of the compiler sees it: parsed, validated, in order.

mod attribute;
mod dtype;
mod graph;
mod tensor;

pub use attribute::{Attribute, Attributes};
pub use dtype::DataType;
pub use graph::{Dim, Function, FunctionId, GraphModel, Initializer, Node, ValueInfo, ValueType};
pub use tensor::TensorData;

use crate::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model: its graph, its functions, and what the file says about itself.
///
/// Cheap to keep: weights are slices of the mapped file.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Model {
    /// The version of the file format.
    pub ir_version: i64,
    /// The program that wrote the file.
    pub producer_name: String,
    /// Its version.
    pub producer_version: String,
    /// The model's own domain, such as a reversed host name; often empty.
    pub domain: String,
    /// The model's own version.
    pub model_version: i64,
    /// The model's description; often empty.
    pub doc: String,
    /// Pairs of key and value, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// The opset versions by domain; `ai.onnx` is the empty domain. Domains that no node uses may be among them.
    pub opsets: BTreeMap<String, i64>,
    /// The model-local functions; none after inlining.
    pub functions: Vec<Function>,
    /// The graph.
    pub graph: GraphModel,
}

/// Where tensors that a model stores outside of itself are looked up.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ExternalData {
    /// Nowhere: such a tensor is an error.
    #[default]
    None,
    /// In files of this folder, which are mapped.
    Directory(PathBuf),
    /// In memory, by the names that the model uses.
    Memory(BTreeMap<String, Bytes>),
}

/// What is read, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Follow symbolic links and accept hard links to external data. They can lead out of the folder.
    pub allow_symlinks: bool,
    /// The most nodes, counted after inlining with those of all bodies.
    pub max_nodes: usize,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { allow_symlinks: false, max_nodes: 1_000_000 }
    }
}
