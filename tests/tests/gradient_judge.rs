//! Whether the judge of gradients can tell right ones from wrong ones: small models with answers of both kinds.

use gradc::{Literal, formats::npz};
use gradc_frontend_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use gradc_frontend_onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use gradc_tests::gradients::{Case, Class, Exchange, examine};
use prost::Message;
use std::fs::{File, create_dir_all, write};
use std::path::{Path, PathBuf};

fn value(name: &str, length: usize) -> ValueInfoProto {
    let dim = Dimension { value: Some(dimension::Value::DimValue(length as i64)), denotation: None };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: vec![dim] }) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty), ..Default::default() }
}

/// A test of one node in a folder of its own.
fn case(name: &str, operator: &str, inputs: &[(&str, &[f32])]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gradient-judge").join(name);
    create_dir_all(folder.join("test_data_set_0")).unwrap();
    for (position, (name, elements)) in inputs.iter().enumerate() {
        let tensor = TensorProto {
            name: Some(name.to_string()),
            data_type: Some(1),
            dims: vec![elements.len() as i64],
            raw_data: Some(elements.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()),
            ..Default::default()
        };
        write(folder.join(format!("test_data_set_0/input_{position}.pb")), tensor.encode_to_vec()).unwrap();
    }
    let node = NodeProto {
        op_type: Some(operator.to_owned()),
        input: inputs.iter().map(|(name, _)| name.to_string()).collect(),
        output: vec!["y".to_owned()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: Some("test".to_owned()),
        node: vec![node],
        input: inputs.iter().map(|(name, elements)| value(name, elements.len())).collect(),
        output: vec![value("y", inputs[0].1.len())],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(18) };
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![opset],
        graph: Some(graph),
        ..Default::default()
    };
    write(folder.join("model.onnx"), model.encode_to_vec()).unwrap();
    folder
}

/// How gradients end that are the cotangents times these factors.
fn judged(folder: &Path, factors: &[(&str, &[f64])]) -> Class {
    let case = Case::load(folder).unwrap().unwrap();
    let answers = folder.parent().unwrap().join("answers");
    create_dir_all(&answers).unwrap();
    let gradient = |(name, factors): &(&str, &[f64])| {
        let cotangent = case.cotangent(0, factors.len());
        let elements: Vec<f64> = cotangent.iter().zip(*factors).map(|(c, f)| c * f).collect();
        (format!("gradient:{name}"), Literal::new([factors.len()], &elements))
    };
    let arrays: Vec<(String, Literal)> = factors.iter().map(gradient).collect();
    npz::write(File::create(answers.join(format!("{}.npz", case.name))).unwrap(), &arrays).unwrap();
    let exchange = Exchange { answers: Some(answers), ..Exchange::default() };
    examine(folder, &exchange).expect("floats come in and go out").class
}

#[track_caller]
fn fails(class: Class) {
    assert!(matches!(class, Class::Failed(_)), "{class:?}");
}

#[test]
fn smooth() {
    let x = [0.5f32, -1.25, 3.0];
    let folder = case("smooth", "Exp", &[("x", &x)]);
    let right = x.map(|x| f64::from(x).exp());
    assert_eq!(judged(&folder, &[("x", &right)]), Class::Passed);
    fails(judged(&folder, &[("x", &right.map(|g| g * (1.0 + 1e-5)))]));
    fails(judged(&folder, &[("x", &[right[0], right[1] * 1.001, right[2]])]));
    fails(judged(&folder, &[("x", &[f64::NAN, right[1], right[2]])]));
    fails(judged(&folder, &[("x", &[f64::INFINITY, right[1], right[2]])]));
    fails(judged(&folder, &[]));
}

#[test]
fn ties() {
    let folder = case("ties", "Max", &[("a", &[1.0, 2.0, 5.0]), ("b", &[1.0, 3.0, 5.0])]);
    let (half, first) = ([0.5, 0.0, 0.5], [1.0, 0.0, 1.0]);
    assert_eq!(judged(&folder, &[("a", &half), ("b", &[0.5, 1.0, 0.5])]), Class::Kink);
    assert_eq!(judged(&folder, &[("a", &first), ("b", &[0.0, 1.0, 0.0])]), Class::Kink);
    // Each may be a share, but both together are more than the whole.
    fails(judged(&folder, &[("a", &first), ("b", &[1.0, 1.0, 1.0])]));
    fails(judged(&folder, &[("a", &[0.5, 0.0, 1.5]), ("b", &[0.5, 1.0, -0.5])]));
    fails(judged(&folder, &[("a", &[0.0, 0.0, 0.0]), ("b", &[0.0, 1.0, 0.0])]));
}

#[test]
fn steps() {
    let folder = case("steps", "Floor", &[("x", &[0.5, 2.0, -1.5])]);
    assert_eq!(judged(&folder, &[("x", &[0.0; 3])]), Class::Zero);
    fails(judged(&folder, &[("x", &[1.0; 3])]));
    fails(judged(&folder, &[("x", &[0.0, 1.0, 0.0])]));
}

#[test]
fn poles() {
    let folder = case("poles", "Sqrt", &[("x", &[0.0, 4.0])]);
    assert_eq!(judged(&folder, &[("x", &[f64::INFINITY, 0.25])]), Class::Kink);
    fails(judged(&folder, &[("x", &[f64::NEG_INFINITY, 0.25])]));
    fails(judged(&folder, &[("x", &[7.0, 0.25])]));
    fails(judged(&folder, &[("x", &[f64::INFINITY, 0.2501])]));
}
