//! The parts of a model: graphs, nodes, values, functions.

use super::attribute::Attributes;
use super::dtype::DataType;
use super::tensor::TensorData;
use std::collections::BTreeMap;

/// A graph: the model's own, or the body of an `If`, `Loop` or `Scan`.
///
/// Every name that a node or an output uses is an input, an initializer, the output of an earlier node, or one of the
/// `captures`. Names are defined once.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct GraphModel {
    /// The graph's name, often empty.
    pub name: String,
    /// The inputs in order, those that are also initializers (defaults) included.
    pub inputs: Vec<ValueInfo>,
    /// The outputs in order.
    pub outputs: Vec<ValueInfo>,
    /// The constants, in the order of the file.
    pub initializers: Vec<Initializer>,
    /// The nodes, each after all that it depends on; in the order of the file where that is one such order.
    pub nodes: Vec<Node>,
    /// What the file says about the types of inner values. Hints: not checked against the nodes.
    pub value_infos: Vec<ValueInfo>,
    /// The names that are used here or in inner graphs but defined in an outer graph, in order of first use. Empty
    /// for the model's own graph.
    pub captures: Vec<String>,
}

impl GraphModel {
    /// The inputs that a caller has to give: those without an initializer.
    pub fn required_inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        let defaults: std::collections::HashSet<&str> =
            self.initializers.iter().filter(|i| i.also_input).map(Initializer::name).collect();
        self.inputs.iter().filter(move |input| !defaults.contains(input.name.as_str()))
    }

    /// The initializer with this name. Linear in their number.
    pub fn initializer(&self, name: &str) -> Option<&Initializer> {
        self.initializers.iter().find(|initializer| initializer.name() == name)
    }
}

/// A named value and what the file says about its type.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// The name, never empty.
    pub name: String,
    /// The type.
    pub ty: ValueType,
}

/// The declared type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueType {
    /// A tensor.
    Tensor {
        /// The element type, where the file gives one.
        element: Option<DataType>,
        /// The dimensions, where the rank is known.
        dims: Option<Vec<Dim>>,
    },
    /// A sequence of values of one type.
    Sequence(Box<ValueType>),
    /// A value of a type, or nothing.
    Optional(Box<ValueType>),
    /// Another kind: `map`, `sparse tensor`, `opaque`.
    Other(&'static str),
    /// The file gives no type.
    Unknown,
}

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A length.
    Known(usize),
    /// A named length, the same wherever the name stands. Never empty.
    Symbol(String),
    /// A length that is not known and has no name (also what a negative length in a file means).
    Unknown,
}

/// A named constant of a graph: a weight, as a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// The data, under the name.
    pub tensor: TensorData,
    /// Whether the graph also lists it as an input, which makes it a default that a caller may override.
    pub also_input: bool,
}

impl Initializer {
    /// The name of the value.
    pub fn name(&self) -> &str {
        self.tensor.name()
    }
}

/// One application of an operator.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Node {
    /// The name for messages: the file's, or else made up, unique in its graph, from operator
    /// and output. Never empty in a model that was read; names in the file may repeat.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// Its domain; empty for `ai.onnx`.
    pub domain: String,
    /// Which of the overloads of a model-local function; empty as a rule.
    pub overload: String,
    /// The version of the domain's opset that holds for this node, for `ai.onnx` 7 to 28; 0 for a domain that is not
    /// imported. Nodes of older versions that mean the same in version 7 are of version 7; those that aligned their
    /// operands by an axis, and PRelu, keep their own.
    pub opset: i64,
    /// The inputs by position; `None` where an optional one is left out. Trailing ones that are left out are dropped.
    pub inputs: Vec<Option<String>>,
    /// The outputs by position; `None` where one is not wanted. Trailing ones that are not wanted are dropped.
    pub outputs: Vec<Option<String>>,
    /// The attributes by name.
    pub attributes: Attributes,
}

impl Node {
    /// The input at this position, where it is given.
    pub fn input(&self, position: usize) -> Option<&str> {
        self.inputs.get(position)?.as_deref()
    }

    /// The output at this position, where it is wanted.
    pub fn output(&self, position: usize) -> Option<&str> {
        self.outputs.get(position)?.as_deref()
    }

    /// The operator with its domain, such as `Conv` or `com.microsoft.FusedGemm`.
    pub fn qualified_op_type(&self) -> String {
        if self.domain.is_empty() {
            self.op_type.clone()
        } else {
            format!("{}.{}", self.domain, self.op_type)
        }
    }
}

/// What names a model-local function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId {
    /// The domain; empty for `ai.onnx`.
    pub domain: String,
    /// The operator that the function defines.
    pub name: String,
    /// Which of several definitions; empty as a rule.
    pub overload: String,
}

/// A model-local function: an operator defined by nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// What nodes call it by.
    pub id: FunctionId,
    /// The formal inputs.
    pub inputs: Vec<String>,
    /// The formal outputs.
    pub outputs: Vec<String>,
    /// The attributes that have no default.
    pub attributes: Vec<String>,
    /// The attributes that have one.
    pub defaults: Attributes,
    /// The opset versions that its nodes are of, by domain.
    pub opsets: BTreeMap<String, i64>,
    /// The nodes in order; their attributes may be references to the function's own.
    pub nodes: Vec<Node>,
}
