//! From a [`Model`] to the IR: every shape concrete, every operator written with those of the IR.
//!
//! What depends on constants and shapes alone is computed here, so that shape arithmetic leaves no trace in the graph.

mod codes;
mod context;
mod control;
mod coverage;
mod cut;
mod flex_attention;
mod gradient;
mod inputs;
mod known;
mod loops;
mod ops;
mod scope;
mod sequences;
mod straight;
mod table;

pub(crate) use context::{Context, Outputs};
pub use coverage::{Coverage, Derivative, Support, coverage};
pub(crate) use gradient::names_tensors;
pub use straight::ROUNDING;
pub use table::{Gradient, OperatorInfo, operators, unsupported};
pub(crate) use table::{Operator, operator};

use crate::model::{DataType, GraphModel, Initializer, Node, inline_functions};
use crate::{Error, Model, ReadOptions, Result};
use gradc_ir::{Builder, DType, Expr, Literal, Mark, Op, Origin, Value};
use known::Known;
use scope::{Bound, Tensor};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a model is lowered.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// Lengths of named dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Shapes of inputs, by name; they bind the named dimensions that they stand for.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs that are fixed at compile time, by name: they become constants, so that shapes and the
    /// branches of an `If` may depend on them. Those that [`weights`](LowerOptions::weights) names become weights, and
    /// can be differentiated by: what shapes follow from their values stays.
    pub input_values: BTreeMap<String, Literal>,
    /// The inputs that are sequences without elements, or optionals without one. Other sequences have the elements
    /// `name[0]`, `name[1]` and so on for which shapes or values are given.
    pub empty_inputs: BTreeSet<String>,
    /// The type that every float tensor of the file takes, weights and targets of casts among them; `None` keeps the
    /// types of the file.
    pub float: Option<DType>,
    /// Names of tensors that get an identity of their own ([`Mark::Tag`], numbered in the order of this set), so
    /// that they can be differentiated by themselves.
    pub tags: BTreeSet<String>,
    /// Which constants of the model become inputs of the graph.
    pub weights: WeightPolicy,
    /// Operators, or names of nodes, that round and are to be differentiated as if they did not: those of
    /// [`ROUNDING`]. Values do not change.
    pub straight_through: BTreeSet<String>,
    /// How nodes that ask for gradients get them; without it they are refused.
    pub differentiate: Option<Differentiate>,
    /// Lower only what these tensors need; `None` lowers everything. Outputs that need more are left out.
    pub only: Option<BTreeSet<String>>,
    /// The most nodes that the graph may have.
    pub node_limit: usize,
}

/// Adds the gradients of the sum of a tensor by others to the graph, or says why there are none.
pub type Differentiate = fn(&Builder, Value, &[Value]) -> std::result::Result<Vec<Value>, String>;

impl Default for LowerOptions {
    fn default() -> LowerOptions {
        LowerOptions {
            dims: BTreeMap::new(),
            input_shapes: BTreeMap::new(),
            input_values: BTreeMap::new(),
            empty_inputs: BTreeSet::new(),
            float: None,
            tags: BTreeSet::new(),
            weights: WeightPolicy::default(),
            straight_through: BTreeSet::new(),
            differentiate: None,
            only: None,
            node_limit: 4_000_000,
        }
    }
}

/// Which constants of the model (initializers and outputs of `Constant` nodes alike) become inputs of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightPolicy {
    /// Those with these names; all others are constants of the graph.
    Names(BTreeSet<String>),
}

impl Default for WeightPolicy {
    fn default() -> WeightPolicy {
        WeightPolicy::Names(BTreeSet::new())
    }
}

impl WeightPolicy {
    fn takes(&self, name: &str) -> bool {
        match self {
            WeightPolicy::Names(names) => names.contains(name),
        }
    }
}

/// A lowered model: a graph that is complete but for the choice of its outputs.
pub struct Lowered {
    /// The graph in the making: finish it with the values of `outputs`, or differentiate first.
    pub builder: Builder,
    /// The inputs of the graph: those given at run time, in the order of the model, then the weights.
    pub inputs: Vec<LoweredInput>,
    /// The model's outputs, in order; those that are sequences by their elements, `name[0]` and so on.
    pub outputs: Vec<(String, Value)>,
    /// Every named tensor of the model's graph and of the branches that were taken.
    pub values: BTreeMap<String, Value>,
    /// The element types of those of `values` that hold codes ([`DataType::held_as`]).
    pub codes: BTreeMap<String, DataType>,
    /// The inputs whose values were fixed ([`LowerOptions::input_values`]): the result holds for these values only.
    pub fixed: BTreeMap<String, Literal>,
    /// The lengths of all named dimensions.
    pub dims: BTreeMap<String, usize>,
    /// What is worth telling the user, as sentences.
    pub notes: Vec<String>,
}

/// An input of a lowered graph.
#[derive(Clone, Debug)]
pub struct LoweredInput {
    /// The name in the model.
    pub name: String,
    /// The value in the graph.
    pub value: Value,
    /// Where its data comes from.
    pub kind: InputKind,
}

/// Where the data of an input comes from.
#[derive(Clone, Debug)]
pub enum InputKind {
    /// From the caller, at each run.
    Runtime,
    /// From the model: this is what the file holds.
    Weight(Literal),
}

/// Lowers a model. Its functions are inlined where that has not been done.
pub fn lower(model: &Model, options: &LowerOptions) -> Result<Lowered> {
    let inlined;
    let model = if model.functions.is_empty() {
        model
    } else {
        inlined = inline_functions(model, &ReadOptions::default())?;
        &inlined
    };
    let part = options.only.as_ref().map(|wanted| cut::cut(&model.graph, wanted));
    let graph = part.as_ref().unwrap_or(&model.graph);
    let builder = Builder::new(model.graph.name.as_str());
    let Lowering { inputs, values, dims, notes, .. } = {
        let mut lowering = Lowering {
            builder: &builder,
            options,
            known: Known::default(),
            inputs: Vec::new(),
            values: BTreeMap::new(),
            dims: BTreeMap::new(),
            notes: Vec::new(),
            apart: gradient::names(&model.graph),
            draws: Some(Cell::new(0)),
            carriers: straight::Carriers::default(),
        };
        table::check_supported(graph)?;
        lowering.bind_inputs(graph)?;
        lowering.graph(graph)?;
        lowering.note_unused_names();
        lowering
    };
    let outputs = graph.outputs.iter().map(|output| match values.get(&output.name) {
        Some(bound) => Ok(bound.named(&output.name)),
        None => {
            Err(Error::invalid(format!("output {} is defined nowhere", crate::error::Quoted(&output.name))))
        }
    });
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let outputs = outputs.into_iter().flatten().map(|(name, tensor)| (name, tensor.value)).collect();
    let tensors: BTreeMap<String, Tensor> =
        values.iter().flat_map(|(name, bound)| bound.named(name)).collect();
    let code = |(name, tensor): (&String, &Tensor)| Some((name.clone(), tensor.code?));
    let codes = tensors.iter().filter_map(code).collect();
    let values = tensors.into_iter().map(|(name, tensor)| (name, tensor.value)).collect();
    let is_fixed = |(name, _): &(&String, &Literal)| !options.weights.takes(name);
    let fixed = options.input_values.iter().filter(is_fixed);
    let fixed = fixed.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Lowered { inputs, outputs, values, codes, dims, notes, fixed, builder })
}

/// What nodes of the graph remember of a node of the model.
fn origin(node: &Node) -> Origin {
    Origin { name: Arc::from(node.name.as_str()), operator: Arc::from(node.qualified_op_type()) }
}

/// The state of lowering.
pub(crate) struct Lowering<'b> {
    pub(crate) builder: &'b Builder,
    pub(crate) options: &'b LowerOptions,
    pub(crate) known: Known,
    inputs: Vec<LoweredInput>,
    values: BTreeMap<String, Bound>,
    dims: BTreeMap<String, usize>,
    notes: Vec<String>,
    /// Names by which a node of the model differentiates: each is kept apart from tensors of equal value.
    apart: BTreeSet<String>,
    /// How many nodes have drawn random numbers; `None` where a node is lowered once and evaluated more often.
    draws: Option<Cell<u32>>,
    /// What integers are differentiated by, where that is asked for.
    carriers: straight::Carriers,
}

impl<'b> Lowering<'b> {
    /// Lowers the initializers and nodes of a graph. Afterwards its names are bound.
    fn graph(&mut self, graph: &GraphModel) -> Result<()> {
        for initializer in &graph.initializers {
            if !(initializer.also_input && self.values.contains_key(initializer.name())) {
                self.bind_initializer(initializer)?;
            }
        }
        for node in &graph.nodes {
            self.builder.set_origin(Some(origin(node)));
            self.node(node)?;
            self.builder.set_origin(None);
            if self.builder.len() > self.options.node_limit {
                let what = format!("{} nodes after lowering to {}", self.builder.len(), node.name);
                return Err(Error::Limit { what, limit: self.options.node_limit as u64 });
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        if self.list_node(node)? {
            return Ok(());
        }
        match (node.domain.as_str(), node.op_type.as_str()) {
            ("", "If") => return self.branch(node),
            ("", "Loop") => return self.repeat(node),
            ("", "Scan") => return self.scan(node),
            ("", "Constant") => {
                let name = node.output(0).ok_or_else(|| node.error("has no output"))?;
                return self.bind_constant(name, || ops::constant::data(node));
            }
            ("ai.onnx.preview", "FlexAttention") => return self.flex_attention(node),
            (gradient::DOMAIN, gradient::NAME) => return self.gradient(node),
            _ => {}
        }
        let Some(operator) = operator(&node.domain, &node.op_type) else {
            return Err(node.error("is not supported"));
        };
        let moved = self.moved_code(node)?;
        let context = Context::new(self, node);
        let outputs = (operator.lower)(&context)?;
        let declared = context.into_declared();
        for (position, name) in node.outputs.iter().enumerate() {
            let Some(name) = name else { continue };
            let Some(&output) = outputs.get(position) else {
                return Err(node.error(format_args!("output {position} is not supported")));
            };
            let folded = self.known.fold(output);
            let code = declared.get(&position).copied().or(moved);
            self.bind_tensor(name, folded, code);
        }
        Ok(())
    }

    fn bind_initializer(&mut self, initializer: &Initializer) -> Result<()> {
        let tensor = &initializer.tensor;
        self.bind_constant(initializer.name(), || Ok((tensor.to_held()?, tensor.dtype().as_code())))
    }

    /// A constant of the model: an input of the graph where it is chosen as a weight.
    fn bind_constant(
        &mut self,
        name: &str,
        data: impl FnOnce() -> Result<(Literal, Option<DataType>)>,
    ) -> Result<()> {
        let (literal, code) = data()?;
        let literal = match known::convert_float(literal, self.options.float) {
            Ok(literal) => literal,
            Err(what) => return Err(Error::tensor(name, what)),
        };
        if self.options.weights.takes(name) {
            // A body that is lowered more than once has its weights once.
            let same = |input: &&LoweredInput| {
                input.name == name && matches!(&input.kind, InputKind::Weight(other) if *other == literal)
            };
            let bound = self.values.contains_key(name).then(|| self.inputs.iter().find(same)).flatten();
            if let Some(input) = bound {
                self.values.insert(name.to_owned(), Bound::Tensor(Tensor { value: input.value, code }));
                return Ok(());
            }
            let value = self.builder.input(name, literal.ty().clone());
            self.known.set_weight(value, literal.clone());
            self.inputs.push(LoweredInput { name: name.to_owned(), value, kind: InputKind::Weight(literal) });
            self.values.insert(name.to_owned(), Bound::Tensor(Tensor { value, code }));
        } else {
            let value = self.builder.constant(literal);
            self.bind_tensor(name, value, code);
        }
        Ok(())
    }

    /// Gives a value its name in the model, and an identity of its own where one is wanted.
    fn bind_tensor(&mut self, name: &str, value: Expr<'b>, code: Option<DataType>) {
        let tags = &self.options.tags;
        let own = || self.apart.iter().position(|other| other == name).map(|position| tags.len() + position);
        let value = match tags.iter().position(|tag| tag == name).or_else(own) {
            Some(position) => self.builder.build(Op::Mark(Mark::Tag(position as u32)), &[value.value()]),
            None => value,
        };
        self.values.insert(name.to_owned(), Bound::Tensor(Tensor { value: value.value(), code }));
    }

    fn bind_as(&mut self, name: &str, bound: Bound) {
        match bound {
            Bound::Tensor(tensor) => self.bind_tensor(name, self.builder.expr(tensor.value), tensor.code),
            Bound::Sequence(_) | Bound::Nothing => {
                self.values.insert(name.to_owned(), bound);
            }
        }
    }

    fn note_unused_names(&mut self) {
        let WeightPolicy::Names(weights) = &self.options.weights;
        for name in weights {
            if !self.inputs.iter().any(|input| input.name == *name) {
                self.notes.push(format!(
                    "{} is no constant of the model (or stands in a branch not taken)",
                    crate::error::Quoted(name)
                ));
            }
        }
        for name in &self.options.tags {
            if !self.values.contains_key(name) {
                self.notes.push(format!(
                    "{} is no tensor of the model (or stands in a branch not taken)",
                    crate::error::Quoted(name)
                ));
            }
        }
    }
}
