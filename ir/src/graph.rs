//! Graphs: nodes in an arena, named by small ids.

use crate::{Op, TensorType};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The id of a node and of the tensor it yields; prints as `%7`.
///
/// Ids are positions in the arena, and a node's operands always have smaller ids: definition order is a topological
/// order, the print order and the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// The position in the arena.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The value at a position of the arena.
    pub fn from_index(index: usize) -> Value {
        Value(u32::try_from(index).unwrap_or_else(|_| panic!("a graph has at most 2^32 nodes")))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The types that a node yields: one, but for the nodes that yield a tuple.
pub type Types = SmallVec<[TensorType; 1]>;

/// One operation, its operands and the type of its result.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// From what.
    pub operands: SmallVec<[Value; 3]>,
    /// What comes out: one type, or one for each part of a tuple.
    pub types: Types,
}

impl Node {
    /// The type of the only result. Panics for a node that yields a tuple of other than one part.
    pub fn ty(&self) -> &TensorType {
        assert_eq!(self.types.len(), 1, "{:?} yields a tuple: take a part with `project`", self.op);
        &self.types[0]
    }

    /// Whether the node yields a tuple, of which parts are taken by [`Op::Project`].
    pub fn is_tuple(&self) -> bool {
        matches!(self.op, Op::Scan(_) | Op::Fused(_))
    }
}

/// The node of the user's file that a node came from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The name in the file.
    pub name: Arc<str>,
    /// The operator in the file, such as `Conv`.
    pub operator: Arc<str>,
}

/// A tensor handed to the graph at each run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Input {
    /// Its name; unique in the graph.
    pub name: Arc<str>,
    /// Its type.
    pub ty: TensorType,
}

/// A program: pure, acyclic and well-typed by construction.
///
/// The first nodes are the inputs, in order. Made by a [`Builder`](crate::Builder), which drops what no output needs.
/// Equality regards name, inputs, nodes and outputs, not [origins](Graph::origin).
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) name: Arc<str>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<Value>,
    pub(crate) origins: BTreeMap<Value, Origin>,
}

impl Graph {
    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs; input `i` is the value of index `i`.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// What the graph yields, in order. A value may stand more than once and may be an input.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// Number of nodes, inputs included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node with this id.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.index()]
    }

    /// The type of a value that is one tensor.
    pub fn ty(&self, value: Value) -> &TensorType {
        self.node(value).ty()
    }

    /// All ids in definition order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = Value> + ExactSizeIterator + use<> {
        (0..self.nodes.len()).map(Value::from_index)
    }

    /// All nodes with their ids, in definition order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Value, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (Value::from_index(index), node))
    }

    /// The node of the user's file that this one came from.
    pub fn origin(&self, value: Value) -> Option<&Origin> {
        self.origins.get(&value)
    }

    /// The types of the outputs, in order.
    pub fn output_types(&self) -> Vec<&TensorType> {
        self.outputs.iter().map(|&output| self.ty(output)).collect()
    }

    /// For each value, how many operand positions and outputs refer to it.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.nodes.len()];
        for value in self.nodes.iter().flat_map(|node| &node.operands).chain(&self.outputs) {
            counts[value.index()] += 1;
        }
        counts
    }

    /// For each value, the nodes that use it, in order (once for each operand position).
    pub fn users(&self) -> Vec<Vec<Value>> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        for (value, node) in self.iter() {
            for operand in &node.operands {
                users[operand.index()].push(value);
            }
        }
        users
    }
}

impl PartialEq for Graph {
    fn eq(&self, other: &Graph) -> bool {
        self.name == other.name
            && self.inputs == other.inputs
            && self.nodes == other.nodes
            && self.outputs == other.outputs
    }
}

impl Eq for Graph {}

impl std::hash::Hash for Graph {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inputs.hash(state);
        self.nodes.hash(state);
        self.outputs.hash(state);
    }
}
