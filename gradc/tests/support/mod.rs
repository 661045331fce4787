//! Small ONNX models, made in few words.
#![allow(dead_code, reason = "each test uses some of it")]

use gradc::{ExternalData, Model};
use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use gradc_frontend_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use prost::Message;

/// Element types of the format.
pub const F32: i32 = 1;
pub const I64: i32 = 7;

/// A model in the making.
#[derive(Clone)]
pub struct Onnx {
    graph: GraphProto,
}

fn value(name: &str, element: i32, dims: &str) -> ValueInfoProto {
    let dim = |text: &str| {
        let value = match text.parse() {
            Ok(length) => dimension::Value::DimValue(length),
            Err(_) => dimension::Value::DimParam(text.to_owned()),
        };
        Dimension { value: Some(value), denotation: None }
    };
    let dims = dims.split(',').filter(|text| !text.is_empty()).map(dim).collect();
    let tensor = type_proto::Tensor { elem_type: Some(element), shape: Some(TensorShapeProto { dim: dims }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty), ..Default::default() }
}

pub fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(ty as i32), ..Default::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

pub fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(F32),
        dims: dims.to_vec(),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..Default::default()
    }
}

impl Onnx {
    pub fn new() -> Onnx {
        Onnx { graph: GraphProto { name: Some("test".to_owned()), ..Default::default() } }
    }

    /// An input of floats; `dims` such as `N,3`.
    pub fn input(self, name: &str, dims: &str) -> Onnx {
        self.typed_input(name, F32, dims)
    }

    pub fn typed_input(mut self, name: &str, element: i32, dims: &str) -> Onnx {
        self.graph.input.push(value(name, element, dims));
        self
    }

    /// An input that is a sequence of tensors of floats.
    pub fn sequence_input(mut self, name: &str, dims: &str) -> Onnx {
        let element = value(name, F32, dims).r#type.map(Box::new);
        let sequence = type_proto::Value::SequenceType(Box::new(type_proto::Sequence { elem_type: element }));
        let ty = TypeProto { value: Some(sequence), denotation: None };
        self.graph.input.push(ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(ty),
            ..Default::default()
        });
        self
    }

    pub fn output(self, name: &str, dims: &str) -> Onnx {
        self.typed_output(name, F32, dims)
    }

    pub fn typed_output(mut self, name: &str, element: i32, dims: &str) -> Onnx {
        self.graph.output.push(value(name, element, dims));
        self
    }

    pub fn weight(mut self, name: &str, dims: &[i64], values: &[f32]) -> Onnx {
        self.graph.initializer.push(tensor(name, dims, values));
        self
    }

    /// A weight whose bytes stand in another file, at its start.
    pub fn external_weight(mut self, name: &str, dims: &[i64], location: &str) -> Onnx {
        let entry =
            StringStringEntryProto { key: Some("location".to_owned()), value: Some(location.to_owned()) };
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(F32),
            dims: dims.to_vec(),
            external_data: vec![entry],
            data_location: Some(1),
            ..Default::default()
        });
        self
    }

    pub fn indices(mut self, name: &str, values: &[i64]) -> Onnx {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(I64),
            dims: vec![values.len() as i64],
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// Integers of up to 32 bits (2: u8, 3: i8, 6: i32).
    pub fn integers(mut self, name: &str, element: i32, dims: &[i64], values: &[i32]) -> Onnx {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(element),
            dims: dims.to_vec(),
            int32_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// `operator`, its inputs and outputs separated by spaces, `_` for an input that is left out; the node is named
    /// after its first output.
    pub fn node(self, operator: &str, inputs: &str, outputs: &str) -> Onnx {
        self.node_with(operator, inputs, outputs, &[])
    }

    pub fn node_with(mut self, op: &str, inputs: &str, outputs: &str, attributes: &[AttributeProto]) -> Onnx {
        let name = |name: &str| if name == "_" { String::new() } else { name.to_owned() };
        let names = |list: &str| list.split_whitespace().map(name).collect::<Vec<_>>();
        self.graph.node.push(NodeProto {
            op_type: Some(op.to_owned()),
            name: Some(format!("/{}", outputs.split_whitespace().next().unwrap_or_default())),
            input: names(inputs),
            output: names(outputs),
            attribute: attributes.to_vec(),
            ..Default::default()
        });
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        ModelProto {
            ir_version: Some(9),
            producer_name: Some("gradc tests".to_owned()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(18) }],
            graph: Some(self.graph),
            ..Default::default()
        }
        .encode_to_vec()
    }

    pub fn model(self) -> Model {
        Model::from_bytes(self.bytes(), ExternalData::None).unwrap()
    }
}

/// Numbers between -1 and 1 that look random and are always the same.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Two dense layers: x f32[N,4] -> hidden f32[N,5] -> scores f32[N,3].
pub fn classifier() -> Onnx {
    Onnx::new()
        .input("x", "N,4")
        .weight("dense.weight", &[5, 4], &noise(20, 1))
        .weight("dense.bias", &[5], &noise(5, 2))
        .weight("head.weight", &[3, 5], &noise(15, 3))
        .weight("head.bias", &[3], &noise(3, 4))
        .node_with("Gemm", "x dense.weight dense.bias", "hidden", &[int("transB", 1)])
        .node("Tanh", "hidden", "active")
        .node_with("Gemm", "active head.weight head.bias", "scores", &[int("transB", 1)])
        .output("scores", "N,3")
}

/// `y = x` for one tensor, under two names.
pub fn identity(dims: &str) -> Onnx {
    Onnx::new().input("x", dims).node("Identity", "x", "y").output("y", dims)
}

#[track_caller]
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (position, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "element {position}: {got}, expected {expected}"
        );
    }
}
