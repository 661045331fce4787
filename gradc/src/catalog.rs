//! The named tensors of a model, and how they hang together.

use crate::Model;
use gradc_frontend_onnx::model::{DataType, GraphModel, Node, ValueType};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a model's tensors before it is lowered.
pub(crate) struct Catalog<'m> {
    model: &'m Model,
    tensors: BTreeMap<&'m str, Kind>,
    /// Constants that are parameters, in the order of the file.
    parameters: Vec<&'m str>,
}

/// What a tensor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Given by the caller.
    Input {
        /// Whether its elements are floats, as far as the file says.
        float: bool,
    },
    /// An initializer or the result of a `Constant` node.
    Constant {
        /// Whether its elements are floats.
        float: bool,
    },
    /// The result of a node.
    Inner,
}

fn is_float(dtype: Option<DataType>) -> bool {
    dtype.and_then(DataType::to_ir).is_some_and(|dtype| dtype.is_float())
}

/// Whether an operand only sets how a node works: its gradient is of no use, or there is none.
fn is_setting(node: &Node, position: usize) -> bool {
    match node.op_type.as_str() {
        "Resize"
        | "Upsample"
        | "Clip"
        | "Dropout"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLSTM"
        | "DynamicQuantizeMatMul"
        | "NonMaxSuppression"
        | "RoiAlign" => position > 0,
        "Pad" | "OneHot" => position > 1,
        "BatchNormalization" => position > 2,
        "Range" | "QLinearConv" | "QLinearMatMul" | "DynamicQuantizeLinear" => true,
        _ => false,
    }
}

impl<'m> Catalog<'m> {
    pub fn new(model: &'m Model) -> Catalog<'m> {
        let graph = &model.onnx().graph;
        let mut catalog = Catalog { model, tensors: BTreeMap::new(), parameters: Vec::new() };
        for input in graph.required_inputs() {
            let float = match &input.ty {
                ValueType::Tensor { element, .. } => is_float(*element),
                ValueType::Sequence(_) | ValueType::Optional(_) => false,
                ValueType::Other(_) | ValueType::Unknown => false,
            };
            catalog.tensors.insert(&input.name, Kind::Input { float });
        }
        let mut weights = BTreeSet::new();
        find_weights(graph, &mut weights);
        catalog.visit(graph, &weights);
        catalog
    }

    fn visit(&mut self, graph: &'m GraphModel, weights: &BTreeSet<&str>) {
        for initializer in &graph.initializers {
            let tensor = &initializer.tensor;
            let float = is_float(Some(tensor.dtype()));
            self.tensors.insert(tensor.name(), Kind::Constant { float });
            if float && !tensor.dims().is_empty() && tensor.elements() > 0 && weights.contains(tensor.name())
            {
                self.parameters.push(tensor.name());
            }
        }
        for node in &graph.nodes {
            let is_constant = node.op_type == "Constant" && node.domain.is_empty();
            for name in node.outputs.iter().flatten() {
                let kind = if is_constant {
                    let (float, elements) = constant_node(node);
                    if float && elements > 1 && weights.contains(name.as_str()) {
                        self.parameters.push(name);
                    }
                    Kind::Constant { float }
                } else {
                    Kind::Inner
                };
                self.tensors.entry(name).or_insert(kind);
            }
            for inner in node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs()) {
                self.visit(inner, weights);
            }
        }
    }

    /// What the tensor of this name is.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.tensors.get(name).copied()
    }

    /// The names of the inputs, in the order of the file.
    pub fn inputs(&self) -> impl Iterator<Item = &'m str> + '_ {
        self.model.onnx().graph.required_inputs().map(|input| input.name.as_str())
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'m str> + '_ {
        self.tensors.keys().copied()
    }

    /// The names of the parameters, in the order of the file.
    pub fn parameters(&self) -> Vec<String> {
        self.parameters.iter().map(|&name| name.to_owned()).collect()
    }

    /// The node that yields a tensor of the model's own graph.
    pub fn producer(&self, name: &str) -> Option<&'m Node> {
        let yields = |node: &&Node| node.outputs.iter().flatten().any(|output| output == name);
        self.model.onnx().graph.nodes.iter().find(yields)
    }

    /// The first tensor that depends on `name` and pleases: `name`'s users first, in the order of the nodes.
    pub fn first_fed(&self, name: &str, pleases: impl Fn(&str) -> bool) -> Option<String> {
        let mut reached = BTreeSet::from([name]);
        for node in &self.model.onnx().graph.nodes {
            if node.inputs.iter().flatten().any(|input| reached.contains(input.as_str())) {
                for output in node.outputs.iter().flatten() {
                    if pleases(output) {
                        return Some(output.clone());
                    }
                    reached.insert(output);
                }
            }
        }
        None
    }

    /// The nearest tensor that `name` is computed from and that pleases.
    pub fn nearest_source(&self, name: &str, pleases: impl Fn(&str) -> bool) -> Option<String> {
        let mut pending = std::collections::VecDeque::from([name]);
        let mut seen = BTreeSet::new();
        while let Some(name) = pending.pop_front() {
            for input in self.producer(name).into_iter().flat_map(|node| node.inputs.iter().flatten()) {
                if pleases(input) && !matches!(self.kind(input), Some(Kind::Constant { .. })) {
                    return Some(input.clone());
                }
                if seen.insert(input.as_str()) {
                    pending.push_back(input);
                }
            }
        }
        None
    }
}

/// Collects the names of all tensors that some node uses as more than a setting.
fn find_weights<'m>(graph: &'m GraphModel, weights: &mut BTreeSet<&'m str>) {
    for node in &graph.nodes {
        for (position, name) in node.inputs.iter().enumerate() {
            if let Some(name) = name
                && !is_setting(node, position)
            {
                weights.insert(name);
            }
        }
        let inner = node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs());
        inner.for_each(|graph| find_weights(graph, weights));
    }
}

/// Whether a `Constant` node yields floats, and how many elements.
fn constant_node(node: &Node) -> (bool, usize) {
    if let Ok(Some(tensor)) = node.tensor("value") {
        return (is_float(Some(tensor.dtype())), tensor.elements());
    }
    if let Ok(Some(tensor)) = node.sparse_tensor("sparse_value") {
        return (is_float(Some(tensor.dtype())), tensor.elements());
    }
    if let Ok(Some(floats)) = node.floats("value_floats") {
        return (true, floats.len());
    }
    (matches!(node.optional_float("value_float"), Ok(Some(_))), 1)
}
