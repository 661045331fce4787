//! Models made of protobuf types, in few words.

use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use gradc_frontend_onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use gradc_frontend_onnx::{Error, ExternalData, Model, ReadOptions};
use prost::Message;

pub fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub fn dim(value: dimension::Value) -> Dimension {
    Dimension { value: Some(value), denotation: None }
}

/// An f32 value of rank 1.
pub fn value(name: &str) -> ValueInfoProto {
    typed_value(name, 1, vec![dim(dimension::Value::DimParam("N".to_owned()))])
}

pub fn typed_value(name: &str, elem_type: i32, dims: Vec<Dimension>) -> ValueInfoProto {
    let tensor =
        type_proto::Tensor { elem_type: Some(elem_type), shape: Some(TensorShapeProto { dim: dims }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: text(name), r#type: Some(ty), ..Default::default() }
}

/// `op "name": inputs -> outputs`, all separated by spaces; `_` is a value left out.
pub fn node(op_type: &str, name: &str, inputs: &str, outputs: &str) -> NodeProto {
    let names = |list: &str| {
        list.split_whitespace().map(|name| name.trim_start_matches('_').to_owned()).collect::<Vec<_>>()
    };
    NodeProto {
        op_type: text(op_type),
        name: text(name),
        input: names(inputs),
        output: names(outputs),
        ..Default::default()
    }
}

pub trait NodeExt {
    fn with(self, attribute: AttributeProto) -> Self;
    fn of(self, domain: &str) -> Self;
}

impl NodeExt for NodeProto {
    fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }
    fn of(mut self, domain: &str) -> NodeProto {
        self.domain = text(domain);
        self
    }
}

pub fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: text(name), r#type: Some(ty as i32), ..Default::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

pub fn reference(name: &str, to: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: text(to), ..attribute(name, ty) }
}

pub fn f32_tensor(name: &str, values: &[f32]) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(1),
        dims: vec![values.len() as i64],
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn graph(inputs: &str, outputs: &str, nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        name: text("g"),
        input: inputs.split_whitespace().map(value).collect(),
        output: outputs.split_whitespace().map(value).collect(),
        node: nodes,
        ..Default::default()
    }
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: text(domain), version: Some(version) }
}

pub fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset("", 18)],
        graph: Some(graph),
        ..Default::default()
    }
}

/// A function of the domain `f`, whose nodes are of opset 18.
pub fn function(name: &str, inputs: &str, outputs: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    let names = |list: &str| list.split_whitespace().map(str::to_owned).collect();
    FunctionProto {
        name: text(name),
        domain: text("f"),
        input: names(inputs),
        output: names(outputs),
        node: nodes,
        opset_import: vec![opset("", 18), opset("f", 1)],
        ..Default::default()
    }
}

/// Through bytes, as a file would come.
pub fn read(proto: &ModelProto) -> Result<Model, Error> {
    Model::from_bytes(proto.encode_to_vec(), ExternalData::None)
}

pub fn read_limited(proto: &ModelProto, max_nodes: usize) -> Result<Model, Error> {
    let options = ReadOptions { max_nodes, ..ReadOptions::default() };
    Model::from_bytes_with(proto.encode_to_vec(), ExternalData::None, &options)
}

/// Checks code and message of an error.
#[track_caller]
pub fn expect<T: std::fmt::Debug>(result: Result<T, Error>, code: &str, message: &str) {
    let error = result.expect_err("an error");
    assert_eq!(error.to_string(), message);
    assert_eq!(error.code(), code);
    assert!(!error.help().is_empty());
}
