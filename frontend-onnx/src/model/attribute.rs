//! Attributes of nodes, and how operators ask for them.

use super::graph::{GraphModel, Node, ValueType};
use super::tensor::TensorData;
use crate::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The value of an attribute. Copies are cheap: what is large is shared.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A number.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A text; bytes, since files do not always hold UTF-8.
    String(Bytes),
    /// A tensor.
    Tensor(TensorData),
    /// A sparse tensor, made dense.
    SparseTensor(TensorData),
    /// The body of a control-flow operator.
    Graph(Arc<GraphModel>),
    /// The type of a value.
    Type(ValueType),
    /// Numbers.
    Floats(Arc<[f32]>),
    /// Integers.
    Ints(Arc<[i64]>),
    /// Texts.
    Strings(Arc<[Bytes]>),
    /// Tensors.
    Tensors(Arc<[TensorData]>),
    /// Sparse tensors, made dense.
    SparseTensors(Arc<[TensorData]>),
    /// Bodies.
    Graphs(Arc<[GraphModel]>),
    /// Types of values.
    Types(Arc<[ValueType]>),
    /// The value of an attribute of the function that the node stands in; never left after inlining.
    Reference(String),
}

impl Attribute {
    /// What kind of value this is, as a noun with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Attribute::Float(_) => "a float",
            Attribute::Int(_) => "an int",
            Attribute::String(_) => "a string",
            Attribute::Tensor(_) => "a tensor",
            Attribute::SparseTensor(_) => "a sparse tensor",
            Attribute::Graph(_) => "a graph",
            Attribute::Type(_) => "a type",
            Attribute::Floats(_) => "a list of floats",
            Attribute::Ints(_) => "a list of ints",
            Attribute::Strings(_) => "a list of strings",
            Attribute::Tensors(_) => "a list of tensors",
            Attribute::SparseTensors(_) => "a list of sparse tensors",
            Attribute::Graphs(_) => "a list of graphs",
            Attribute::Types(_) => "a list of types",
            Attribute::Reference(_) => "a reference to a function's attribute",
        }
    }

    /// The graphs in this attribute: one, several, or as a rule none.
    pub fn graphs(&self) -> &[GraphModel] {
        match self {
            Attribute::Graph(graph) => std::slice::from_ref(graph),
            Attribute::Graphs(graphs) => graphs,
            Attribute::Float(_)
            | Attribute::Int(_)
            | Attribute::String(_)
            | Attribute::Tensor(_)
            | Attribute::SparseTensor(_)
            | Attribute::Type(_)
            | Attribute::Floats(_)
            | Attribute::Ints(_)
            | Attribute::Strings(_)
            | Attribute::Tensors(_)
            | Attribute::SparseTensors(_)
            | Attribute::Types(_)
            | Attribute::Reference(_) => &[],
        }
    }
}

/// The attributes of a node, by name, in the order of their names.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Attributes(BTreeMap<String, Attribute>);

impl Attributes {
    /// The attribute with this name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    /// Sets an attribute and returns the one that it replaces.
    pub fn insert(&mut self, name: impl Into<String>, attribute: Attribute) -> Option<Attribute> {
        self.0.insert(name.into(), attribute)
    }

    /// Takes an attribute out.
    pub fn remove(&mut self, name: &str) -> Option<Attribute> {
        self.0.remove(name)
    }

    /// All attributes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, attribute)| (name.as_str(), attribute))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Attribute)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (String, Attribute)>>(attributes: I) -> Attributes {
        Attributes(attributes.into_iter().collect())
    }
}

macro_rules! getters {
    ($($(#[$doc:meta])* $getter:ident: $variant:ident $wanted:literal -> $type:ty = $value:expr;)*) => {
        $($(#[$doc])* pub fn $getter(&self, name: &str) -> Result<Option<$type>> {
            match self.attributes.get(name) {
                None => Ok(None),
                Some(Attribute::$variant(value)) => Ok(Some($value(value))),
                Some(other) => {
                    Err(self.attribute_error(name, format_args!("is {}, not {}", other.kind(), $wanted)))
                }
            }
        })*
    };
}

/// Typed access to attributes. A missing one is `None` or the default; one of another type is an error that names
/// the node and the attribute.
impl Node {
    getters! {
        /// An integer that has no default.
        optional_int: Int "an int" -> i64 = |value: &i64| *value;
        /// A number that has no default.
        optional_float: Float "a float" -> f32 = |value: &f32| *value;
        /// Integers.
        ints: Ints "a list of ints" -> &[i64] = |value| value;
        /// Numbers.
        floats: Floats "a list of floats" -> &[f32] = |value| value;
        /// Texts, as bytes.
        strings: Strings "a list of strings" -> &[Bytes] = |value| value;
        /// A tensor.
        tensor: Tensor "a tensor" -> &TensorData = |value| value;
        /// A sparse tensor, made dense.
        sparse_tensor: SparseTensor "a sparse tensor" -> &TensorData = |value| value;
        /// A body.
        optional_graph: Graph "a graph" -> &GraphModel = |value| value;
        /// A declared type.
        value_type: Type "a type" -> &ValueType = |value| value;
    }

    /// An integer.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    /// An integer used as a truth value: not 0 is true.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.optional_int(name)?.map_or(default, |value| value != 0))
    }

    /// A number.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.optional_float(name)?.unwrap_or(default))
    }

    /// A text; one that is not UTF-8 is an error.
    pub fn optional_string(&self, name: &str) -> Result<Option<&str>> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::String(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.attribute_error(name, "is not UTF-8")),
            },
            Some(other) => Err(self.attribute_error(name, format_args!("is {}, not a string", other.kind()))),
        }
    }

    /// A text; one that is not UTF-8 is an error.
    pub fn string<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.optional_string(name)?.unwrap_or(default))
    }

    /// A body, which must be there.
    pub fn graph(&self, name: &str) -> Result<&GraphModel> {
        self.required(name, self.optional_graph(name)?)
    }

    /// The value, or an error that the attribute is missing: `node.required("to", node.optional_int("to")?)`.
    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.attribute_error(name, "is missing"))
    }

    /// The attribute, of whatever type.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }

    /// An error about an attribute; `what` ends the sentence.
    pub fn attribute_error(&self, name: &str, what: impl fmt::Display) -> Error {
        Error::Attribute {
            node: self.name.clone(),
            op_type: self.qualified_op_type(),
            attribute: name.to_owned(),
            what: what.to_string(),
        }
    }

    /// An error about this node.
    pub fn error(&self, what: impl fmt::Display) -> Error {
        Error::Node { node: self.name.clone(), op_type: self.qualified_op_type(), what: what.to_string() }
    }
}
