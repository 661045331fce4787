//! A case as a model with inputs.

use super::super::*;
use super::table::{Case, Input, Signature, Tensor, dtype, tensor};
use bytes::Bytes;
use gradc::DataType;
use gradc_frontend_onnx::proto::ValueInfoProto;
use gradc_frontend_onnx::proto::tensor_shape_proto::dimension;
use gradc_ir::{DType, TensorType};
use std::collections::BTreeMap;

/// A type for each variable.
pub type Types = BTreeMap<&'static str, DType>;

/// The opset of `ai.onnx` beside operators of other domains.
const USUAL_OPSET: i64 = 26;
/// The oldest opset that is read.
const OLDEST_OPSET: i64 = 7;

/// A model with the values of its inputs.
pub struct Subject {
    pub model: Model,
    pub inputs: Vec<(String, Literal)>,
}

/// The model of a case in these types. Its values are those that `like` can hold.
pub fn subject(case: &Case, signature: &Signature, types: &Types, like: DType) -> Subject {
    let mut making = Making { types, like, inputs: Vec::new(), nodes: Vec::new() };
    let mut operands = Vec::new();
    for (position, input) in case.inputs.iter().enumerate() {
        let own = signature.input(position);
        let name = format!("x{position}");
        match input {
            Input::LeftOut => operands.push("_".to_owned()),
            Input::Tensor(tensor) => operands.push(making.input(name, tensor, own)),
            Input::Outer(tensor) => drop(making.input(name, tensor, own)),
            Input::Optional(tensor) => {
                let given = making.input(format!("{name}_given"), tensor, own);
                making.nodes.push(node("Optional", "", &given, &name));
                operands.push(name);
            }
            Input::Sequence(tensors) => {
                let element = |(at, tensor)| making.input(format!("{name}_{at}"), tensor, own);
                let elements: Vec<String> = tensors.iter().enumerate().map(element).collect();
                making.nodes.push(node("SequenceConstruct", "", &elements.join(" "), &name));
                operands.push(name);
            }
        }
    }
    if case.squares {
        making.nodes.push(node("Mul", "", "x0 x0", "square"));
    }
    let mut outputs = (0..case.outputs).map(|at| format!("y{at}")).collect::<Vec<_>>().join(" ");
    let mut subject = node(case.name, "subject", &operands.join(" "), &outputs).of(case.domain);
    subject.attribute = case.attributes.iter().map(|(name, text)| making.attribute(name, text)).collect();
    making.nodes.push(subject);
    if let Some(then) = case.then {
        making.nodes.push(node(then, "", "y0", "z"));
        outputs = "z".to_owned();
    }
    let untyped = |name: &str| ValueInfoProto { name: text(name), ..Default::default() };
    let declared = |(name, value): &(String, Literal)| {
        let lengths = value.shape().iter().map(|&length| dim(dimension::Value::DimValue(length as i64)));
        typed_value(name, DataType::from_ir(value.dtype()).number(), lengths.collect())
    };
    let mut graph = graph("", "", making.nodes);
    graph.input = making.inputs.iter().map(declared).collect();
    graph.output = outputs.split(' ').map(untyped).collect();
    let mut proto = model(graph);
    proto.opset_import = match case.domain {
        "" => vec![opset("", signature.version.max(OLDEST_OPSET))],
        domain => vec![opset("", USUAL_OPSET), opset(domain, signature.version)],
    };
    let model = load(&proto);
    Subject { model, inputs: making.inputs }
}

struct Making<'t> {
    types: &'t Types,
    like: DType,
    inputs: Vec<(String, Literal)>,
    nodes: Vec<NodeProto>,
}

impl Making<'_> {
    fn dtype(&self, name: &str) -> DType {
        let own = self.types.get(name).copied().or_else(|| dtype(name));
        own.unwrap_or_else(|| panic!("{name} is neither a type nor a variable"))
    }

    fn input(&mut self, name: String, tensor: &Tensor, own: &str) -> String {
        let dtype = self.dtype(tensor.ty.unwrap_or(own));
        // The other variables keep their types, and with them their values.
        let is_wide = |other: DType| other == DType::I64 && !self.like.is_float() && dtype == DType::I64;
        let like = if is_wide(dtype) { self.like } else { dtype };
        let value = filled(tensor, dtype, like, self.inputs.len());
        self.inputs.push((name.clone(), value));
        name
    }

    fn attribute(&self, name: &str, text: &'static str) -> AttributeProto {
        let inner = |kind: &str| text.strip_prefix(kind).and_then(|text| text.strip_suffix(')'));
        if let Some(variable) = text.strip_prefix('@') {
            return int(name, i64::from(DataType::from_ir(self.dtype(variable)).number()));
        }
        if let Some(of) = inner("tensor(") {
            let tensor = tensor(of);
            let dtype = self.dtype(tensor.ty.expect("the tensor of an attribute has a type"));
            let value = filled(&tensor, dtype, dtype, 0);
            let t = TensorProto {
                data_type: Some(DataType::from_ir(dtype).number()),
                dims: value.shape().iter().map(|&length| length as i64).collect(),
                raw_data: Some(value.bytes().clone()),
                ..Default::default()
            };
            return AttributeProto { t: Some(t), ..attribute(name, AttributeType::Tensor) };
        }
        match inner("graph(") {
            Some(graph) => body(name, body_graph(graph)),
            None => plain_attribute(name, text),
        }
    }
}

fn plain_attribute(name: &str, text: &str) -> AttributeProto {
    let bytes = |text: &str| text.trim_matches('\'').as_bytes().to_vec();
    let number = |text: &str| text.parse::<f32>().expect("a float");
    let whole = |text: &str| text.parse::<i64>().expect("an integer");
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let items = list.split(',');
        return match list {
            _ if list.starts_with('\'') => {
                let strings = items.map(bytes).collect();
                AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
            }
            _ if list.contains('.') => {
                let floats = items.map(number).collect();
                AttributeProto { floats, ..attribute(name, AttributeType::Floats) }
            }
            _ => ints(name, &items.map(whole).collect::<Vec<i64>>()),
        };
    }
    match text {
        _ if text.starts_with('\'') => {
            AttributeProto { s: Some(bytes(text)), ..attribute(name, AttributeType::String) }
        }
        _ if text.contains('.') => float(name, number(text)),
        _ => int(name, whole(text)),
    }
}

/// The bodies only move elements, as any type can be moved.
fn body_graph(name: &str) -> GraphProto {
    let (inputs, outputs, nodes) = match name {
        "first" => ("", "b", vec![node("Identity", "", "x1", "b")]),
        "second" => ("", "b", vec![node("Transpose", "", "x2", "b")]),
        "loop" => (
            "i c v",
            "on next scanned",
            vec![
                node("Identity", "", "c", "on"),
                node("Transpose", "", "v", "next"),
                node("Identity", "", "v", "scanned"),
            ],
        ),
        "scan" => (
            "s x",
            "next scanned",
            vec![node("Identity", "", "x", "next"), node("Identity", "", "s", "scanned")],
        ),
        "map" => ("a", "b", vec![node("Transpose", "", "a", "b")]),
        "second_of_two" => ("a other", "b", vec![node("Identity", "", "other", "b")]),
        name => panic!("{name} is no body"),
    };
    let untyped = |name: &str| ValueInfoProto { name: text(name), ..Default::default() };
    let mut graph = graph("", "", nodes);
    graph.input = inputs.split_whitespace().map(untyped).collect();
    graph.output = outputs.split_whitespace().map(untyped).collect();
    graph
}

/// A tensor of this type, whose values the type `like` holds exactly.
fn filled(tensor: &Tensor, dtype: DType, like: DType, which: usize) -> Literal {
    let count = tensor.shape.iter().product();
    let value = |at: usize| match tensor.values.len() {
        0 => some_number(like, tensor.range, at, which),
        length => tensor.values[at % length],
    };
    let values: Vec<f64> = (0..count).map(value).collect();
    literal(&tensor.shape, dtype, &values)
}

/// A tensor of this type with these numbers.
pub fn literal(shape: &[usize], dtype: DType, values: &[f64]) -> Literal {
    let bytes: Vec<u8> =
        values.iter().flat_map(|&value| Literal::scalar_of(dtype, value).bytes().to_vec()).collect();
    let ty = TensorType { dtype, shape: shape.into() };
    Literal::from_bytes(ty, Bytes::from(bytes)).expect("as many bytes as elements")
}

/// A number that every type of the kind of `like` holds exactly: odd sixteenths between -2 and 2, or small integers.
fn some_number(like: DType, range: &str, at: usize, which: usize) -> f64 {
    let mixed = at * 7 + which * 11 + 3;
    if like == DType::Bool {
        return f64::from(u8::from((at * 5 + which).is_multiple_of(3)));
    }
    if like.is_float() {
        let odd = ((mixed % 32) * 2) as f64 - 31.0;
        return match range {
            "pos" => odd.abs() / 16.0,
            "unit" => odd / 32.0,
            "gt1" => 1.0 + odd.abs() / 16.0,
            _ => odd / 16.0,
        };
    }
    let is_signed = matches!(like, DType::I64 | DType::I32 | DType::I16 | DType::I8);
    match range {
        "pos" => (mixed % 5) as f64 + 1.0,
        "low" => (mixed % 4) as f64,
        "high" => (mixed % 4) as f64 + 4.0,
        _ if is_signed => (mixed % 9) as f64 - 4.0,
        _ => (mixed % 8) as f64,
    }
}
