//! Model-local functions replaced by their bodies.

use super::attribute::{Attribute, Attributes};
use super::graph::{Function, FunctionId, GraphModel, Node, ValueInfo};
use super::order::{Place, settle};
use super::parse::MAX_BODY_DEPTH;
use super::{Model, ReadOptions};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// How deep functions may call each other.
const MAX_CALL_DEPTH: usize = 100;
/// How much text, for names and the like, a node may take on average: functions can multiply that too.
const BYTES_PER_NODE: usize = 1024;

/// The model without functions: each call of a model-local function is replaced by the function's nodes.
///
/// What a function defines is renamed, with the name of the calling node as a prefix; the model's own names stay.
/// Each node keeps the opset version that held where it stood. Fails where functions call themselves, where a call does
/// not fit the function, and beyond `options.max_nodes` nodes.
pub fn inline_functions(model: &Model, options: &ReadOptions) -> Result<Model> {
    if model.functions.is_empty() {
        return Ok(model.clone());
    }
    let functions = model.functions.iter().map(|function| (&function.id, function)).collect();
    let mut inliner = Inliner {
        functions,
        used: HashMap::new(),
        calls: Vec::new(),
        nodes_left: options.max_nodes,
        bytes_left: options.max_nodes.saturating_mul(BYTES_PER_NODE),
        options,
        opset: model.opsets.get("").copied().unwrap_or(0),
    };
    inliner.note_names(&model.graph);
    let mut graph = GraphModel { nodes: Vec::new(), ..model.graph.clone() };
    inliner.nodes(&model.graph.nodes, &mut Scope::default(), 0, &mut graph.nodes)?;
    settle(&mut graph, Place::Outer)?;
    Ok(Model { functions: Vec::new(), graph, ..model.clone() })
}

/// What names mean at one place: in the model itself (by default, all mean themselves) or in one call of a function.
#[derive(Default)]
struct Scope {
    /// The names of the callers, each with a slash; `None` in the model itself.
    prefix: Option<String>,
    /// From names of the function to those of the model, innermost body last. `None`: an input that is left out.
    names: Vec<HashMap<String, Option<String>>>,
    /// The names that the caller wants for outputs that are not yet defined.
    wanted: HashMap<String, String>,
    /// The function's attributes in this call.
    attributes: Attributes,
}

impl Scope {
    fn lookup(&self, name: &str) -> Option<String> {
        let known = self.names.iter().rev().find_map(|names| names.get(name));
        known.cloned().unwrap_or_else(|| Some(name.to_owned()))
    }
}

struct Inliner<'m> {
    functions: HashMap<&'m FunctionId, &'m Function>,
    /// All names of values, each with the last number that made a new one of it.
    used: HashMap<String, usize>,
    calls: Vec<&'m FunctionId>,
    nodes_left: usize,
    bytes_left: usize,
    options: &'m ReadOptions,
    opset: i64,
}

impl<'m> Inliner<'m> {
    fn nodes(&mut self, nodes: &[Node], scope: &mut Scope, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        for node in nodes {
            self.charge(1, node_bytes(node))?;
            if depth > 0 && crate::lower::names_tensors(node) {
                return Err(node.error("names tensors, which is not supported inside of a function"));
            }
            let mut attributes = Attributes::default();
            for (name, attribute) in node.attributes.iter() {
                if let Some(attribute) = self.attribute(attribute, scope, depth)? {
                    attributes.insert(name, attribute);
                }
            }
            let prefix = scope.prefix.as_deref().unwrap_or_default();
            self.charge(0, prefix.len())?;
            let name = format!("{prefix}{}", node.name);
            let inputs = node.inputs.iter().map(|input| scope.lookup(input.as_deref()?)).collect();
            let mut outputs = Vec::with_capacity(node.outputs.len());
            for output in &node.outputs {
                let output = output.as_deref().map(|output| self.define(output, scope)).transpose()?;
                outputs.push(output);
            }
            let mut node = Node { name, inputs, outputs, attributes, ..node.clone_head() };
            while node.inputs.last().is_some_and(Option::is_none) {
                node.inputs.pop();
            }
            let id = FunctionId {
                domain: node.domain.clone(),
                name: node.op_type.clone(),
                overload: node.overload.clone(),
            };
            match self.functions.get_key_value(&id) {
                Some((&id, &function)) => self.call(id, function, node, depth, out)?,
                None => out.push(node),
            }
        }
        Ok(())
    }

    /// Appends the nodes of a function for one call, whose names are those of the model already.
    fn call(
        &mut self,
        id: &'m FunctionId,
        function: &'m Function,
        node: Node,
        depth: usize,
        out: &mut Vec<Node>,
    ) -> Result<()> {
        if let Some(first) = self.calls.iter().position(|&caller| caller == id) {
            let chain: Vec<String> =
                self.calls[first..].iter().chain([&id]).map(|id| id.to_string()).collect();
            return Err(Error::invalid(format!("a function calls itself: {}", chain.join(" → "))));
        }
        if self.calls.len() == MAX_CALL_DEPTH {
            let what = format!("functions that call each other more than {MAX_CALL_DEPTH} deep");
            return Err(Error::Limit { what, limit: MAX_CALL_DEPTH as u64 });
        }
        for (kind, given, formal) in [
            ("inputs", node.inputs.len(), function.inputs.len()),
            ("outputs", node.outputs.len(), function.outputs.len()),
        ] {
            if given > formal {
                return Err(node.error(format!("it has {given} {kind}, function {id} has {formal}")));
            }
        }
        let mut scope = Scope { prefix: Some(format!("{}/", node.name)), ..Scope::default() };
        let mut names = HashMap::new();
        for (position, formal) in function.inputs.iter().enumerate() {
            names.insert(formal.clone(), node.inputs.get(position).cloned().flatten());
        }
        // An output that is an input too, or two outputs at once, need a copy: a name cannot be two.
        let mut copies = Vec::new();
        for (formal, actual) in function.outputs.iter().zip(&node.outputs) {
            let Some(actual) = actual.clone() else { continue };
            if names.contains_key(formal) || scope.wanted.contains_key(formal) {
                copies.push((formal, actual));
            } else {
                scope.wanted.insert(formal.clone(), actual);
            }
        }
        scope.names.push(names);
        for name in &function.attributes {
            if let Some(value) = node.attributes.get(name) {
                scope.attributes.insert(name, value.clone());
            }
        }
        for (name, default) in function.defaults.iter() {
            scope.attributes.insert(name, node.attributes.get(name).unwrap_or(default).clone());
        }

        self.calls.push(id);
        self.nodes(&function.nodes, &mut scope, depth, out)?;
        self.calls.pop();
        for (formal, actual) in copies {
            self.charge(1, formal.len() + actual.len() + node.name.len())?;
            let Some(source) = scope.lookup(formal) else {
                return Err(
                    node.error(format!("output {formal} of function {id} is an input that is left out"))
                );
            };
            out.push(Node {
                name: format!("{}/{formal}", node.name),
                op_type: "Identity".to_owned(),
                opset: function.opsets.get("").copied().unwrap_or(self.opset),
                inputs: vec![Some(source)],
                outputs: vec![Some(actual)],
                ..Node::default()
            });
        }
        Ok(())
    }

    /// The attribute as it is in this call; `None` where it refers to one that is not given.
    fn attribute(
        &mut self,
        attribute: &Attribute,
        scope: &mut Scope,
        depth: usize,
    ) -> Result<Option<Attribute>> {
        Ok(Some(match attribute {
            Attribute::Reference(name) => match scope.attributes.get(name) {
                Some(value) => {
                    // Bodies are shared between their places, but whoever walks them meets each again.
                    for graph in value.graphs() {
                        self.charge_graph(graph, depth + 1)?;
                    }
                    value.clone()
                }
                None => return Ok(None),
            },
            Attribute::Graph(graph) => Attribute::Graph(Arc::new(self.body(graph, scope, depth + 1)?)),
            Attribute::Graphs(graphs) => Attribute::Graphs(
                graphs.iter().map(|graph| self.body(graph, scope, depth + 1)).collect::<Result<_>>()?,
            ),
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
            | Attribute::Types(_) => attribute.clone(),
        }))
    }

    fn body(&mut self, graph: &GraphModel, scope: &mut Scope, depth: usize) -> Result<GraphModel> {
        check_depth(depth)?;
        self.charge(0, head_bytes(graph))?;
        // What the caller wants as outputs are values of the function, not of a body with the same names.
        let wanted = std::mem::take(&mut scope.wanted);
        scope.names.push(HashMap::new());
        let mut body = GraphModel { name: graph.name.clone(), ..GraphModel::default() };
        for input in &graph.inputs {
            body.inputs.push(ValueInfo { name: self.define(&input.name, scope)?, ty: input.ty.clone() });
        }
        for initializer in &graph.initializers {
            let name = match initializer.also_input {
                true => scope.lookup(initializer.name()).unwrap_or_default(),
                false => self.define(initializer.name(), scope)?,
            };
            let mut initializer = initializer.clone();
            initializer.tensor = initializer.tensor.with_name(name);
            body.initializers.push(initializer);
        }
        self.nodes(&graph.nodes, scope, depth, &mut body.nodes)?;
        for (values, renamed) in
            [(&graph.outputs, &mut body.outputs), (&graph.value_infos, &mut body.value_infos)]
        {
            // An output may be an input of the function that the caller left out; then it stays undefined.
            renamed.extend(values.iter().filter_map(|value| {
                scope.lookup(&value.name).map(|name| ValueInfo { name, ty: value.ty.clone() })
            }));
        }
        if body.outputs.len() != graph.outputs.len() {
            return Err(Error::invalid("a body in a function returns an input that the call leaves out"));
        }
        scope.names.pop();
        scope.wanted = wanted;
        settle(&mut body, Place::Body)?;
        Ok(body)
    }

    /// The name in the model of what this node or body defines.
    fn define(&mut self, name: &str, scope: &mut Scope) -> Result<String> {
        let Some(prefix) = &scope.prefix else { return Ok(name.to_owned()) };
        let new = match scope.wanted.remove(name) {
            Some(wanted) => wanted,
            None => {
                self.charge(0, 2 * (prefix.len() + name.len()))?;
                unused(&mut self.used, format!("{prefix}{name}"))
            }
        };
        if let Some(names) = scope.names.last_mut() {
            names.insert(name.to_owned(), Some(new.clone()));
        }
        Ok(new)
    }

    fn note_names(&mut self, graph: &GraphModel) {
        let inputs = graph.inputs.iter().map(|input| &input.name);
        let outputs = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
        for name in inputs.chain(outputs) {
            self.used.insert(name.clone(), 1);
        }
        for initializer in &graph.initializers {
            self.used.insert(initializer.name().to_owned(), 1);
        }
        for body in bodies(graph) {
            self.note_names(body);
        }
    }

    fn charge_graph(&mut self, graph: &GraphModel, depth: usize) -> Result<()> {
        check_depth(depth)?;
        self.charge(graph.nodes.len(), 0)?;
        for body in bodies(graph) {
            self.charge_graph(body, depth + 1)?;
        }
        Ok(())
    }

    fn charge(&mut self, nodes: usize, bytes: usize) -> Result<()> {
        match (self.nodes_left.checked_sub(nodes), self.bytes_left.checked_sub(bytes)) {
            (Some(nodes), Some(bytes)) => {
                (self.nodes_left, self.bytes_left) = (nodes, bytes);
                Ok(())
            }
            (None, _) => {
                let limit = self.options.max_nodes as u64;
                let what = "too many nodes when its functions are inlined".to_owned();
                Err(Error::Limit { what, limit })
            }
            (_, None) => {
                let limit = self.options.max_nodes.saturating_mul(BYTES_PER_NODE) as u64;
                let what = "too many bytes of names when its functions are inlined".to_owned();
                Err(Error::Limit { what, limit })
            }
        }
    }
}

impl Node {
    /// The node without its name, inputs, outputs and attributes.
    fn clone_head(&self) -> Node {
        Node {
            op_type: self.op_type.clone(),
            domain: self.domain.clone(),
            overload: self.overload.clone(),
            opset: self.opset,
            ..Node::default()
        }
    }
}

fn check_depth(depth: usize) -> Result<()> {
    if depth <= MAX_BODY_DEPTH {
        return Ok(());
    }
    let what = format!("bodies nested {depth} deep when its functions are inlined");
    Err(Error::Limit { what, limit: MAX_BODY_DEPTH as u64 })
}

fn bodies(graph: &GraphModel) -> impl Iterator<Item = &GraphModel> {
    graph.nodes.iter().flat_map(|node| node.attributes.iter()).flat_map(|(_, attribute)| attribute.graphs())
}

/// The name, with a number at its end if it is taken.
fn unused(used: &mut HashMap<String, usize>, name: String) -> String {
    let Some(&last) = used.get(&name) else {
        used.insert(name.clone(), 1);
        return name;
    };
    let mut number = last;
    loop {
        number += 1;
        let candidate = format!("{name}_{number}");
        if !used.contains_key(&candidate) {
            used.insert(name, number);
            used.insert(candidate.clone(), 1);
            return candidate;
        }
    }
}

/// About as many bytes as a copy of the node takes, what is shared left out.
fn node_bytes(node: &Node) -> usize {
    let texts = [&node.name, &node.op_type, &node.domain, &node.overload];
    let values =
        node.inputs.iter().chain(&node.outputs).map(|name| 24 + name.as_ref().map_or(0, String::len));
    let attributes = node.attributes.iter().map(|(name, attribute)| {
        let own = match attribute {
            Attribute::Tensor(tensor) | Attribute::SparseTensor(tensor) => {
                tensor.name().len() + 8 * tensor.dims().len()
            }
            _ => 0,
        };
        name.len() + own
    });
    texts.iter().map(|text| text.len()).sum::<usize>() + values.sum::<usize>() + attributes.sum::<usize>()
}

/// The same for what a body has besides its nodes.
fn head_bytes(graph: &GraphModel) -> usize {
    let value = |value: &ValueInfo| {
        let rank = match &value.ty {
            super::ValueType::Tensor { dims: Some(dims), .. } => dims.len(),
            _ => 0,
        };
        64 + value.name.len() + 32 * rank
    };
    let values = graph.inputs.iter().chain(&graph.outputs).chain(&graph.value_infos).map(value);
    let initializers = graph.initializers.iter().map(|i| 64 + i.name().len() + 8 * i.tensor.dims().len());
    values.sum::<usize>() + initializers.sum::<usize>()
}
