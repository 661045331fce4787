//! The only way to make a graph.

use crate::{Expr, Graph, Input, Literal, Node, Op, Origin, TensorType, TypeError, Types, Value, infer};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// A graph in the making.
///
/// Equal nodes are made once, so common subexpressions never exist. Methods take `&self`, so that any number of
/// [`Expr`] handles can build at the same time.
pub struct Builder {
    name: Arc<str>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    inputs: Vec<Input>,
    nodes: Vec<Arc<Node>>,
    /// Ids by the hash of (op, operands); equality is checked against the arena.
    interned: HashMap<u64, SmallVec<[Value; 1]>>,
    hasher: RandomState,
    origins: BTreeMap<Value, Origin>,
    origin: Option<Origin>,
}

impl Builder {
    /// An empty graph of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Builder {
        Builder { name: name.into(), state: RefCell::default() }
    }

    /// Adds an input. Names must differ; an equal one gets a suffix.
    pub fn input(&self, name: &str, ty: TensorType) -> Value {
        let mut state = self.state.borrow_mut();
        let taken = |candidate: &str| state.inputs.iter().any(|input| &*input.name == candidate);
        let mut unique = name.to_string();
        let mut suffix = 1;
        while taken(&unique) {
            suffix += 1;
            unique = format!("{name}_{suffix}");
        }
        let index = state.inputs.len() as u32;
        state.inputs.push(Input { name: unique.into(), ty: ty.clone() });
        state.add(Op::Input(index), SmallVec::new(), SmallVec::from_elem(ty, 1))
    }

    /// Adds a node, or finds the equal one. The types are checked: this is the entry for untrusted graphs.
    pub fn push(&self, op: Op, operands: &[Value]) -> Result<Value, TypeError> {
        let mut state = self.state.borrow_mut();
        let key = state.hasher.hash_one((&op, operands));
        if let Some(found) = state.interned.get(&key).and_then(|candidates| {
            candidates.iter().find(|candidate| {
                let node = &state.nodes[candidate.index()];
                node.op == op && node.operands[..] == *operands
            })
        }) {
            return Ok(*found);
        }
        let types = {
            let nodes: SmallVec<[&Node; 4]> =
                operands.iter().map(|operand| &*state.nodes[operand.index()]).collect();
            infer(&op, &nodes)?
        };
        let value = state.add(op, SmallVec::from_slice(operands), types);
        state.interned.entry(key).or_default().push(value);
        Ok(value)
    }

    /// A tensor known at compile time.
    pub fn constant(&self, literal: Literal) -> Expr<'_> {
        self.build(Op::Constant(literal), &[])
    }

    /// As [`Builder::push`], for the compiler's own code, where a type error is a bug: it panics.
    pub fn build(&self, op: Op, operands: &[Value]) -> Expr<'_> {
        match self.push(op, operands) {
            Ok(value) => self.expr(value),
            Err(error) => panic!("the compiler built an ill-typed node: {error}"),
        }
    }

    /// A handle on a value.
    pub fn expr(&self, value: Value) -> Expr<'_> {
        Expr::new(self, value)
    }

    /// The node with this id.
    pub fn node(&self, value: Value) -> Arc<Node> {
        self.state.borrow().nodes[value.index()].clone()
    }

    /// The type of a value that is one tensor.
    pub fn ty(&self, value: Value) -> TensorType {
        self.state.borrow().nodes[value.index()].ty().clone()
    }

    /// The inputs so far.
    pub fn inputs(&self) -> Vec<Input> {
        self.state.borrow().inputs.clone()
    }

    /// Number of nodes so far.
    pub fn len(&self) -> usize {
        self.state.borrow().nodes.len()
    }

    /// Whether there is no node yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on new nodes come from this node of the user's file.
    pub fn set_origin(&self, origin: Option<Origin>) {
        self.state.borrow_mut().origin = origin;
    }

    /// Where a value came from.
    pub fn origin(&self, value: Value) -> Option<Origin> {
        self.state.borrow().origins.get(&value).cloned()
    }

    /// The graph that yields `outputs`. All inputs stay, in order; other nodes stay where an output needs them.
    pub fn finish(self, outputs: &[Value]) -> Graph {
        self.finish_renamed(outputs).0
    }

    /// As [`Builder::finish`], with the new id of every value so far; `None` for those that were left out.
    pub fn finish_renamed(self, outputs: &[Value]) -> (Graph, Vec<Option<Value>>) {
        let State { inputs, nodes, origins, .. } = self.state.into_inner();
        let mut live = vec![false; nodes.len()];
        outputs.iter().for_each(|output| live[output.index()] = true);
        for (index, node) in nodes.iter().enumerate().rev() {
            if live[index] {
                node.operands.iter().for_each(|operand| live[operand.index()] = true);
            }
        }
        let mut renamed = vec![Value(u32::MAX); nodes.len()];
        let mut kept: Vec<Node> = Vec::new();
        let is_input = |node: &Node| matches!(node.op, Op::Input(_));
        let order = (0..nodes.len())
            .filter(|&index| is_input(&nodes[index]))
            .chain((0..nodes.len()).filter(|&index| live[index] && !is_input(&nodes[index])));
        for index in order {
            let mut node = Arc::unwrap_or_clone(nodes[index].clone());
            node.operands.iter_mut().for_each(|operand| *operand = renamed[operand.index()]);
            renamed[index] = Value::from_index(kept.len());
            kept.push(node);
        }
        let origins = origins
            .into_iter()
            .map(|(value, origin)| (renamed[value.index()], origin))
            .filter(|(value, _)| value.0 != u32::MAX)
            .collect();
        let outputs = outputs.iter().map(|output| renamed[output.index()]).collect();
        let graph = Graph { name: self.name, inputs, nodes: kept, outputs, origins };
        (graph, renamed.into_iter().map(|value| (value.0 != u32::MAX).then_some(value)).collect())
    }
}

impl State {
    fn add(&mut self, op: Op, operands: SmallVec<[Value; 3]>, types: Types) -> Value {
        let value = Value::from_index(self.nodes.len());
        self.nodes.push(Arc::new(Node { op, operands, types }));
        if let Some(origin) = self.origin.clone() {
            self.origins.insert(value, origin);
        }
        value
    }
}

/// Rewrites a graph node by node, in order: the one traversal of all rewriting passes.
///
/// `rule` gets the old node and its operands in the new graph, and answers the value that stands for it; `None` keeps
/// the node as it is. Inputs are kept. New nodes inherit the origin of the one they stand for.
pub fn rebuild(
    graph: &Graph,
    mut rule: impl FnMut(&Builder, Value, &Node, &[Value]) -> Option<Value>,
) -> Graph {
    let builder = Builder::new(graph.name.clone());
    let mut renamed: Vec<Value> = Vec::with_capacity(graph.len());
    for (value, node) in graph.iter() {
        builder.set_origin(graph.origin(value).cloned());
        let operands: SmallVec<[Value; 8]> =
            node.operands.iter().map(|operand| renamed[operand.index()]).collect();
        renamed.push(match &node.op {
            Op::Input(position) => {
                let input = &graph.inputs[*position as usize];
                builder.input(&input.name, input.ty.clone())
            }
            _ => rule(&builder, value, node, &operands)
                .unwrap_or_else(|| builder.build(node.op.clone(), &operands).value()),
        });
    }
    let outputs: Vec<Value> = graph.outputs.iter().map(|output| renamed[output.index()]).collect();
    builder.finish(&outputs)
}

/// Copies a graph into a builder: its inputs become `arguments`. Answers the values of its outputs.
///
/// Panics where the arguments are not of the inputs' number and types.
pub fn inline(builder: &Builder, graph: &Graph, arguments: &[Value]) -> Vec<Value> {
    let renamed = inline_all(builder, graph, arguments);
    graph.outputs.iter().map(|output| renamed[output.index()]).collect()
}

/// As [`inline`], but answers the new value of every node of the graph.
pub fn inline_all(builder: &Builder, graph: &Graph, arguments: &[Value]) -> Vec<Value> {
    assert_eq!(graph.inputs.len(), arguments.len(), "one argument for each input");
    let mut renamed: Vec<Value> = Vec::with_capacity(graph.len());
    for (_, node) in graph.iter() {
        let operands: SmallVec<[Value; 8]> =
            node.operands.iter().map(|operand| renamed[operand.index()]).collect();
        renamed.push(match &node.op {
            Op::Input(position) => {
                let argument = arguments[*position as usize];
                assert_eq!(&builder.ty(argument), node.ty(), "an argument has the type of its input");
                argument
            }
            op => builder.build(op.clone(), &operands).value(),
        });
    }
    renamed
}
