//! Models as people see them: what is in a file.

use crate::{Result, TensorInfo};
use bytes::Bytes;
use gradc_frontend_onnx::error::{Escaped, UnsupportedOperator};
use gradc_frontend_onnx::lower::{OperatorInfo, operators, unsupported};
use gradc_frontend_onnx::model::{DataType, Dim, GraphModel, ValueInfo, ValueType, inline_functions};
use gradc_frontend_onnx::{self as frontend, ExternalData, ReadOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A model that was read and checked. Copies are cheap: they share the file's weights.
#[derive(Clone, Debug)]
pub struct Model {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    onnx: frontend::Model,
    /// How many functions the file defines (they are inlined).
    functions: usize,
    bytes: Option<u64>,
}

/// An input or output as the file declares it; prints as `f32[N,3,224,224]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The element type, where the file gives one.
    pub dtype: Option<DataType>,
    /// The dimensions, where the file gives their number.
    pub dims: Option<Vec<Dim>>,
    /// What it is if it is no tensor, such as `sequence`.
    pub other: Option<&'static str>,
}

/// A constant tensor of the file.
#[derive(Clone, PartialEq, Debug)]
pub struct Initializer {
    /// Its name.
    pub name: String,
    /// The element type.
    pub dtype: DataType,
    /// The lengths of the axes.
    pub dims: Vec<usize>,
    /// Number of elements.
    pub elements: usize,
    /// Bytes in the file.
    pub bytes: usize,
}

/// How often a model uses an operator.
#[derive(Clone, PartialEq, Debug)]
pub struct OperatorCount {
    /// The domain; empty for `ai.onnx`.
    pub domain: String,
    /// The operator.
    pub operator: String,
    /// Number of nodes, those of inner graphs included.
    pub count: usize,
    /// What is known of the operator; `None` where it is not supported.
    pub info: Option<&'static OperatorInfo>,
}

impl Model {
    /// Reads a file. Its weights are mapped, not copied; weights that it stores in other files are looked up in its
    /// folder. The files must not be changed while the model, or anything compiled from it, lives.
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::load_with(path, &ReadOptions::default())
    }

    /// [`Model::load`] with other limits.
    pub fn load_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Model> {
        let path = path.as_ref();
        let onnx = frontend::Model::open_with(path, options)?;
        let bytes = std::fs::metadata(path).ok().map(|metadata| metadata.len());
        Model::new(onnx, options, bytes)
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
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Model::new(frontend::Model::from_bytes_with(bytes, external, options)?, options, Some(length))
    }

    fn new(onnx: frontend::Model, options: &ReadOptions, bytes: Option<u64>) -> Result<Model> {
        let functions = onnx.functions.len();
        let onnx = if functions == 0 { onnx } else { inline_functions(&onnx, options)? };
        Ok(Model { shared: Arc::new(Shared { onnx, functions, bytes }) })
    }

    /// The model as the reader yields it, with its functions inlined.
    pub fn onnx(&self) -> &frontend::Model {
        &self.shared.onnx
    }

    /// The name of the graph; often empty.
    pub fn name(&self) -> &str {
        &self.onnx().graph.name
    }

    /// The program that wrote the file and its version, such as `pytorch 2.5.0`; may be empty.
    pub fn producer(&self) -> String {
        format!("{} {}", self.onnx().producer_name, self.onnx().producer_version).trim().to_owned()
    }

    /// The opset version of the `ai.onnx` domain; 0 where the file imports none.
    pub fn opset(&self) -> i64 {
        self.onnx().opsets.get("").copied().unwrap_or(0)
    }

    /// The opset versions by domain.
    pub fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.onnx().opsets
    }

    /// The version of the file format.
    pub fn ir_version(&self) -> i64 {
        self.onnx().ir_version
    }

    /// Pairs of key and value that the file holds, in order.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.onnx().metadata
    }

    /// The size of the file (without files that it refers to), where it is known.
    pub fn file_bytes(&self) -> Option<u64> {
        self.shared.bytes
    }

    /// The inputs that a caller has to give, in order.
    pub fn inputs(&self) -> Vec<Declared> {
        self.onnx().graph.required_inputs().map(Declared::new).collect()
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> Vec<Declared> {
        self.onnx().graph.outputs.iter().map(Declared::new).collect()
    }

    /// The names of dimensions whose length the inputs leave open, in order of first use.
    pub fn symbols(&self) -> Vec<String> {
        let mut symbols = Vec::new();
        for dim in self.onnx().graph.required_inputs().filter_map(|input| match &input.ty {
            ValueType::Tensor { dims, .. } => dims.as_ref(),
            ValueType::Sequence(_) | ValueType::Optional(_) | ValueType::Other(_) | ValueType::Unknown => {
                None
            }
        }) {
            for dim in dim {
                if let Dim::Symbol(symbol) = dim
                    && !symbols.contains(symbol)
                {
                    symbols.push(symbol.clone());
                }
            }
        }
        symbols
    }

    /// The constant tensors, in the order of the file.
    pub fn initializers(&self) -> impl Iterator<Item = Initializer> + '_ {
        self.onnx().graph.initializers.iter().map(|initializer| {
            let tensor = &initializer.tensor;
            Initializer {
                name: tensor.name().to_owned(),
                dtype: tensor.dtype(),
                dims: tensor.dims().to_vec(),
                elements: tensor.elements(),
                bytes: tensor.bytes().len(),
            }
        })
    }

    /// The names that [`Wrt::params`](crate::Wrt::params) stands for, in the order of the file.
    pub fn parameters(&self) -> Vec<String> {
        crate::catalog::Catalog::new(self).parameters()
    }

    /// Number of nodes, those of inner graphs included, after inlining of functions.
    pub fn node_count(&self) -> usize {
        self.operators().iter().map(|operator| operator.count).sum()
    }

    /// Number of functions that the file defines.
    pub fn function_count(&self) -> usize {
        self.shared.functions
    }

    /// The operators in use, the most frequent first, then by name.
    pub fn operators(&self) -> Vec<OperatorCount> {
        fn visit(graph: &GraphModel, counts: &mut BTreeMap<(String, String), usize>) {
            for node in &graph.nodes {
                *counts.entry((node.domain.clone(), node.op_type.clone())).or_default() += 1;
                let inner = node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs());
                inner.for_each(|graph| visit(graph, counts));
            }
        }
        let mut counts = BTreeMap::new();
        visit(&self.onnx().graph, &mut counts);
        let unsupported: BTreeSet<(String, String)> =
            self.unsupported().into_iter().map(|operator| (operator.domain, operator.op_type)).collect();
        let mut counts: Vec<OperatorCount> = counts
            .into_iter()
            .map(|(key, count)| {
                let known = |info: &&OperatorInfo| info.domain == key.0 && info.name == key.1;
                let info = operators().iter().find(known).filter(|_| !unsupported.contains(&key));
                OperatorCount { domain: key.0, operator: key.1, count, info }
            })
            .collect();
        counts.sort_by_key(|operator| std::cmp::Reverse(operator.count));
        counts
    }

    /// The operators that are not supported, with the nodes that use them; those of inner graphs included.
    pub fn unsupported(&self) -> Vec<UnsupportedOperator> {
        unsupported(self.onnx())
    }
}

impl Declared {
    fn new(value: &ValueInfo) -> Declared {
        let name = value.name.clone();
        match &value.ty {
            ValueType::Tensor { element, dims } => {
                Declared { name, dtype: *element, dims: dims.clone(), other: None }
            }
            ValueType::Sequence(_) => Declared { name, dtype: None, dims: None, other: Some("sequence") },
            ValueType::Optional(_) => Declared { name, dtype: None, dims: None, other: Some("optional") },
            ValueType::Other(other) => Declared { name, dtype: None, dims: None, other: Some(other) },
            ValueType::Unknown => Declared { name, dtype: None, dims: None, other: None },
        }
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(other) = self.other {
            return f.write_str(other);
        }
        f.write_str(self.dtype.map_or("?", DataType::name))?;
        let Some(dims) = &self.dims else { return f.write_str("[…]") };
        f.write_str("[")?;
        for (position, dim) in dims.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            match dim {
                Dim::Known(length) => write!(f, "{comma}{length}")?,
                Dim::Symbol(symbol) => write!(f, "{comma}{}", Escaped(symbol))?,
                Dim::Unknown => write!(f, "{comma}?")?,
            }
        }
        f.write_str("]")?;
        match self.dtype.and_then(DataType::as_code).and_then(DataType::held_as) {
            Some(held) => write!(f, ", held as {held} codes"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Escaped(&self.name), self.ty)
    }
}
