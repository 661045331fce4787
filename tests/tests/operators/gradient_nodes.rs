//! Nodes of the operator `Gradient`: they ask for the gradient of a part of the model that they stand in.

use super::*;

const TRAINING: &str = "ai.onnx.preview.training";

fn gradient(inputs: &str, outputs: &str, xs: &[&str], zs: &[&str], y: &str) -> NodeProto {
    let list = |name: &str, values: &[&str]| AttributeProto {
        strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
        ..attribute(name, AttributeType::Strings)
    };
    let target = AttributeProto { s: Some(y.as_bytes().to_vec()), ..attribute("y", AttributeType::String) };
    node("Gradient", "gradient", inputs, outputs)
        .of(TRAINING)
        .with(list("xs", xs))
        .with(list("zs", zs))
        .with(target)
}

fn with_training(inputs: &str, outputs: &str, nodes: Vec<NodeProto>) -> ModelProto {
    let mut proto = model(graph(inputs, outputs, nodes));
    proto.opset_import.push(opset(TRAINING, 1));
    proto
}

fn run(proto: &ModelProto, inputs: &[(&str, &[f32])]) -> gradc::Result<Vec<Vec<f64>>> {
    let inputs: Vec<(&str, Literal)> =
        inputs.iter().map(|(name, values)| (*name, Literal::new([values.len()], values))).collect();
    Ok(outputs(&load(proto), &inputs)?.iter().map(Literal::to_f64).collect())
}

#[test]
fn the_gradient_is_taken_at_the_operands() {
    // y = a * a * b, at another point than that of the model.
    let nodes = || vec![node("Mul", "", "a a", "s"), node("Mul", "", "s b", "y")];
    let own = [nodes(), vec![gradient("a b", "da db", &["a", "b"], &[], "y")]].concat();
    let inputs: &[(&str, &[f32])] = &[("a", &[1.0, 2.0]), ("b", &[3.0, -1.0])];
    let answers = run(&with_training("a b", "da db", own), inputs).expect("it runs");
    assert_eq!(answers, [[6.0, -4.0], [1.0, 4.0]]);
    let other = [nodes(), vec![gradient("c b", "da db", &["a", "b"], &[], "y")]].concat();
    let inputs = &[inputs, &[("c", &[10.0, 0.5][..])]].concat();
    let answers = run(&with_training("a b c", "y da db", other), inputs).expect("it runs");
    assert_eq!(answers, [[3.0, -4.0], [60.0, -1.0], [100.0, 0.25]]);
}

/// What `zs` names counts as given, also where it depends on what is differentiated by.
#[test]
fn the_gradient_is_cut_at_what_is_given() {
    let nodes = vec![
        node("Mul", "", "a a", "s"),
        node("Mul", "", "s a", "y"),
        gradient("a s", "cut", &["a"], &["s"], "y"),
        gradient("a", "whole", &["a"], &[], "y"),
        gradient("s", "inner", &["s"], &[], "y"),
    ];
    let answers = run(&with_training("a", "cut whole inner", nodes), &[("a", &[2.0, 3.0])]).expect("it runs");
    assert_eq!(answers, [[4.0, 9.0], [12.0, 27.0], [2.0, 3.0]]);
}

#[test]
fn gradients_of_gradients() {
    let nodes = vec![
        node("Mul", "", "a a", "s"),
        node("Mul", "", "s a", "y"),
        gradient("a", "first", &["a"], &[], "y"),
        gradient("a", "second", &["a"], &[], "first"),
    ];
    let answers = run(&with_training("a", "first second", nodes), &[("a", &[2.0, 3.0])]).expect("it runs");
    assert_eq!(answers, [[12.0, 27.0], [12.0, 18.0]]);
}

/// Equal tensors under two names stay two.
#[test]
fn equal_tensors_have_gradients_of_their_own() {
    let nodes = vec![
        node("Neg", "", "a", "b"),
        node("Neg", "", "a", "c"),
        node("Mul", "", "b c", "s"),
        node("Mul", "", "s c", "y"),
        gradient("b c", "db dc", &["b", "c"], &[], "y"),
    ];
    let answers = run(&with_training("a", "db dc", nodes), &[("a", &[2.0])]).expect("it runs");
    assert_eq!(answers, [[4.0], [8.0]]);
}

#[test]
fn what_cannot_be_differentiated_is_refused() {
    let refused = |node: NodeProto, message: &str| {
        let nodes = vec![super::node("Mul", "", "a a", "y"), super::node("Floor", "floor", "a", "f"), node];
        let error = run(&with_training("a", "d", nodes), &[("a", &[2.0])]).expect_err("it is refused");
        assert!(error.to_string().contains(message), "{error}");
    };
    refused(gradient("a", "d", &["a"], &[], "nowhere"), "«nowhere» is defined nowhere");
    refused(gradient("a a", "d", &["a"], &[], "y"), "has 2 inputs for 1 names");
    refused(gradient("a a", "d", &["a", "a"], &[], "y"), "names «a» twice");
}
