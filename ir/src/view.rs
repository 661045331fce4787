//! Graphs as petgraph sees them, and as pictures.

use crate::{Graph, Node, Op, Value};
use petgraph::visit::{
    Data, EdgeCount, EdgeIndexable, EdgeRef, GraphBase, GraphProp, IntoEdgeReferences, IntoEdges,
    IntoEdgesDirected, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, IntoNodeReferences,
    NodeCompactIndexable, NodeCount, NodeIndexable, VisitMap, Visitable,
};
use petgraph::{Directed, Direction};
use std::fmt::Write;
use std::iter::{Copied, Map};
use std::slice::Iter;

/// A graph with the users of every value at hand: `&GraphView` implements petgraph's visit traits.
///
/// Nodes are the graph's values; edges go from producer to user, one for each operand position.
#[derive(Clone, Debug)]
pub struct GraphView<'g> {
    graph: &'g Graph,
    values: Vec<Value>,
    /// By user and position; those of user `i` are `incoming_start[i]..incoming_start[i + 1]`.
    incoming: Vec<Edge>,
    incoming_start: Vec<usize>,
    /// By producer, then by user and position.
    outgoing: Vec<Edge>,
    outgoing_start: Vec<usize>,
}

/// The use of a value as an operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Edge {
    /// The value used.
    pub producer: Value,
    /// The node that uses it.
    pub user: Value,
    /// The operand's position there.
    pub position: usize,
}

/// The set of visited nodes that petgraph's walks keep.
#[derive(Clone, Debug, Default)]
pub struct Visited(Vec<bool>);

impl Graph {
    /// The view that petgraph's algorithms take. Costs one pass over the graph.
    pub fn view(&self) -> GraphView<'_> {
        GraphView::new(self)
    }

    /// The graph in Graphviz's DOT language: a box for each node with its operator, type and origin, arrows from
    /// producers to users, and a box for each output.
    pub fn to_dot(&self) -> String {
        let mut text =
            format!("digraph \"{}\" {{\n  rankdir=TB;\n  node [shape=box];\n", escape(self.name()));
        for (value, node) in self.iter() {
            let _ = writeln!(text, "  n{} [label=\"{}\"];", value.index(), escape(&self.label(value, node)));
        }
        for (user, node) in self.iter() {
            for (position, producer) in node.operands.iter().enumerate() {
                let _ = write!(text, "  n{} -> n{}", producer.index(), user.index());
                let label =
                    if node.operands.len() > 1 { format!(" [label=\"{position}\"]") } else { String::new() };
                let _ = writeln!(text, "{label};");
            }
        }
        for (position, output) in self.outputs().iter().enumerate() {
            let _ = writeln!(text, "  out{position} [label=\"output {position}\", shape=ellipse];");
            let _ = writeln!(text, "  n{} -> out{position};", output.index());
        }
        text.push_str("}\n");
        text
    }

    fn label(&self, value: Value, node: &Node) -> String {
        let types: Vec<String> = node.types.iter().map(ToString::to_string).collect();
        let mut label = match &node.op {
            Op::Input(position) => format!("%{}", self.inputs()[*position as usize].name),
            op => format!("{value} {}", op.name()),
        };
        let _ = write!(label, "\n{}", types.join(", "));
        if let Some(origin) = self.origin(value) {
            let _ = write!(label, "\n{} ({})", origin.name, origin.operator);
        }
        label
    }
}

/// Text for a quoted string of DOT: line breaks stay breaks, other controls become spaces.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

impl<'g> GraphView<'g> {
    /// The view of a graph.
    pub fn new(graph: &'g Graph) -> GraphView<'g> {
        let incoming: Vec<Edge> = graph
            .iter()
            .flat_map(|(user, node)| {
                let operands = node.operands.iter().enumerate();
                operands.map(move |(position, &producer)| Edge { producer, user, position })
            })
            .collect();
        let mut outgoing = incoming.clone();
        outgoing.sort_unstable();
        GraphView {
            graph,
            values: graph.values().collect(),
            incoming_start: starts(graph.len(), &incoming, |edge| edge.user),
            outgoing_start: starts(graph.len(), &outgoing, |edge| edge.producer),
            incoming,
            outgoing,
        }
    }

    /// The graph seen.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The operand positions where a value is used, in order.
    pub fn uses(&self, value: Value) -> &[Edge] {
        &self.outgoing[self.outgoing_start[value.index()]..self.outgoing_start[value.index() + 1]]
    }

    /// The operands of a node as edges, in order.
    pub fn operands(&self, value: Value) -> &[Edge] {
        &self.incoming[self.incoming_start[value.index()]..self.incoming_start[value.index() + 1]]
    }

    fn directed(&self, value: Value, direction: Direction) -> &[Edge] {
        match direction {
            Direction::Outgoing => self.uses(value),
            Direction::Incoming => self.operands(value),
        }
    }
}

/// For edges sorted by an end, where those of each node start, and one more.
fn starts(nodes: usize, edges: &[Edge], end: impl Fn(&Edge) -> Value) -> Vec<usize> {
    let mut starts = vec![0; nodes + 1];
    edges.iter().for_each(|edge| starts[end(edge).index() + 1] += 1);
    (0..nodes).for_each(|index| starts[index + 1] += starts[index]);
    starts
}

impl EdgeRef for Edge {
    type NodeId = Value;
    type EdgeId = (Value, usize);
    type Weight = usize;
    fn source(&self) -> Value {
        self.producer
    }
    fn target(&self) -> Value {
        self.user
    }
    /// The operand position.
    fn weight(&self) -> &usize {
        &self.position
    }
    fn id(&self) -> (Value, usize) {
        (self.user, self.position)
    }
}

impl VisitMap<Value> for Visited {
    fn visit(&mut self, value: Value) -> bool {
        !std::mem::replace(&mut self.0[value.index()], true)
    }
    fn is_visited(&self, value: &Value) -> bool {
        self.0[value.index()]
    }
    fn unvisit(&mut self, value: Value) -> bool {
        std::mem::replace(&mut self.0[value.index()], false)
    }
}

impl GraphBase for GraphView<'_> {
    type NodeId = Value;
    type EdgeId = (Value, usize);
}

impl GraphProp for GraphView<'_> {
    type EdgeType = Directed;
}

impl Data for GraphView<'_> {
    type NodeWeight = Node;
    type EdgeWeight = usize;
}

impl NodeCount for GraphView<'_> {
    fn node_count(&self) -> usize {
        self.values.len()
    }
}

impl EdgeCount for GraphView<'_> {
    fn edge_count(&self) -> usize {
        self.incoming.len()
    }
}

impl NodeIndexable for GraphView<'_> {
    fn node_bound(&self) -> usize {
        self.values.len()
    }
    fn to_index(&self, value: Value) -> usize {
        value.index()
    }
    fn from_index(&self, index: usize) -> Value {
        Value::from_index(index)
    }
}

impl NodeCompactIndexable for GraphView<'_> {}

impl EdgeIndexable for GraphView<'_> {
    fn edge_bound(&self) -> usize {
        self.incoming.len()
    }
    fn to_index(&self, (user, position): (Value, usize)) -> usize {
        self.incoming_start[user.index()] + position
    }
    fn from_index(&self, index: usize) -> (Value, usize) {
        self.incoming[index].id()
    }
}

impl Visitable for GraphView<'_> {
    type Map = Visited;
    fn visit_map(&self) -> Visited {
        Visited(vec![false; self.values.len()])
    }
    fn reset_map(&self, map: &mut Visited) {
        *map = self.visit_map();
    }
}

impl<'v> IntoNodeIdentifiers for &'v GraphView<'_> {
    type NodeIdentifiers = Copied<Iter<'v, Value>>;
    fn node_identifiers(self) -> Self::NodeIdentifiers {
        self.values.iter().copied()
    }
}

impl<'g> IntoNodeReferences for &GraphView<'g> {
    type NodeRef = (Value, &'g Node);
    type NodeReferences = std::vec::IntoIter<(Value, &'g Node)>;
    fn node_references(self) -> Self::NodeReferences {
        self.graph.iter().collect::<Vec<_>>().into_iter()
    }
}

impl<'v> IntoEdgeReferences for &'v GraphView<'_> {
    type EdgeRef = Edge;
    type EdgeReferences = Copied<Iter<'v, Edge>>;
    fn edge_references(self) -> Self::EdgeReferences {
        self.incoming.iter().copied()
    }
}

impl<'v> IntoNeighbors for &'v GraphView<'_> {
    type Neighbors = Map<Copied<Iter<'v, Edge>>, fn(Edge) -> Value>;
    fn neighbors(self, value: Value) -> Self::Neighbors {
        self.neighbors_directed(value, Direction::Outgoing)
    }
}

impl<'v> IntoNeighborsDirected for &'v GraphView<'_> {
    type NeighborsDirected = Map<Copied<Iter<'v, Edge>>, fn(Edge) -> Value>;
    fn neighbors_directed(self, value: Value, direction: Direction) -> Self::NeighborsDirected {
        let other: fn(Edge) -> Value = match direction {
            Direction::Outgoing => |edge| edge.user,
            Direction::Incoming => |edge| edge.producer,
        };
        self.directed(value, direction).iter().copied().map(other)
    }
}

impl<'v> IntoEdges for &'v GraphView<'_> {
    type Edges = Copied<Iter<'v, Edge>>;
    fn edges(self, value: Value) -> Self::Edges {
        self.uses(value).iter().copied()
    }
}

impl<'v> IntoEdgesDirected for &'v GraphView<'_> {
    type EdgesDirected = Copied<Iter<'v, Edge>>;
    fn edges_directed(self, value: Value, direction: Direction) -> Self::EdgesDirected {
        self.directed(value, direction).iter().copied()
    }
}
