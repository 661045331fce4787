//! Operators whose answers others have computed, random operators, and nodes that ask for gradients.

#[allow(dead_code, reason = "shared with the tests of reading")]
#[path = "../../../frontend-onnx/tests/model/build.rs"]
mod build;
mod fixtures;
mod gradient_nodes;
mod random;
mod types;

use build::*;
use gradc::{Compile, Model};
use gradc_frontend_onnx::ExternalData;
use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use gradc_ir::Literal;
use prost::Message;

fn load(proto: &ModelProto) -> Model {
    Model::from_bytes(proto.encode_to_vec(), ExternalData::None).expect("a model")
}

/// The outputs of a model, in order.
fn outputs(model: &Model, inputs: &[(&str, Literal)]) -> gradc::Result<Vec<Literal>> {
    let mut compile = Compile::new(model).forward_only();
    for (name, value) in inputs {
        compile = compile.input_hint(*name, value.clone());
    }
    let compiled = compile.build()?;
    let mut session = compiled.session();
    for (name, value) in inputs {
        if compiled.inputs().iter().any(|input| input.name == *name) {
            session.set_literal(name, value)?;
        }
    }
    session.run()?;
    compiled.outputs().iter().map(|output| session.output_literal(&output.name)).collect()
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn scalar(name: &str, value: f32) -> TensorProto {
    TensorProto { dims: vec![], ..f32_tensor(name, &[value]) }
}
