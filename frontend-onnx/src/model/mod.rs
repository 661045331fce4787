//! A model as the rest of the compiler sees it: parsed, validated, in order.

mod attribute;
mod diagnose;
mod dtype;
mod external;
mod function;
mod graph;
mod inline;
mod legacy;
mod map;
mod order;
mod parse;
mod read_tensor;
mod tensor;

pub use attribute::{Attribute, Attributes};
pub use dtype::DataType;
pub use graph::{Dim, Function, FunctionId, GraphModel, Initializer, Node, ValueInfo, ValueType};
pub use inline::inline_functions;
pub use read_tensor::read_tensor_proto;
pub use tensor::TensorData;

use crate::error::{Escaped, Grouped};
use crate::proto::ModelProto;
use crate::{Error, Result};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
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

impl Model {
    /// Reads a file, which is mapped: its weights are not copied. Tensors that it stores outside of itself are looked
    /// up in its folder.
    ///
    /// The file must not be changed while the model, or anything that was made from it, lives.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        Model::open_with(path, &ReadOptions::default())
    }

    /// [`Model::open`] with other limits.
    pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Model> {
        let path = path.as_ref();
        let unreadable = |error: io::Error| Error::Read { path: path.to_owned(), why: error.to_string() };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let bytes = if metadata.is_file() {
            map::map(&file).map_err(unreadable)?
        } else {
            // A pipe, or an error for a folder.
            let mut bytes = Vec::new();
            file.take(MAX_MODEL_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            bytes.into()
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let name = Escaped(&path.display().to_string()).to_string();
        decode(bytes, &name, &ExternalData::Directory(folder), options)
    }

    /// Reads a model from memory; its weights are slices of these bytes.
    pub fn from_bytes(bytes: impl Into<Bytes>, external: ExternalData) -> Result<Model> {
        Model::from_bytes_with(bytes, external, &ReadOptions::default())
    }

    /// [`Model::from_bytes`] with other limits.
    pub fn from_bytes_with(
        bytes: impl Into<Bytes>,
        external: ExternalData,
        options: &ReadOptions,
    ) -> Result<Model> {
        decode(bytes.into(), "the model", &external, options)
    }

    /// Validates a model that is already decoded.
    pub fn from_proto(proto: ModelProto, external: ExternalData, options: &ReadOptions) -> Result<Model> {
        parse::read_model(proto, "the model", &external, options)
    }
}

/// What protobuf allows, and its tools write.
const MAX_MODEL_BYTES: u64 = (2 << 30) - 1;

fn decode(bytes: Bytes, file: &str, external: &ExternalData, options: &ReadOptions) -> Result<Model> {
    let not_onnx = |reason| Error::NotOnnx { file: file.to_owned(), reason };
    if let Some(kind) = diagnose::known_kind(&bytes) {
        return Err(not_onnx(kind));
    }
    if bytes.len() as u64 > MAX_MODEL_BYTES {
        let what = format!("{} bytes", Grouped(bytes.len() as u64));
        return Err(Error::Limit { what, limit: MAX_MODEL_BYTES });
    }
    let proto =
        ModelProto::decode(bytes.clone()).map_err(|error| not_onnx(diagnose::explain(&bytes, &error)))?;
    parse::read_model(proto, file, external, options)
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
