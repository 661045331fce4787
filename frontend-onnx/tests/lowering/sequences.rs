//! Sequences and optionals, whose lengths are known; and operators of old opsets.

use super::*;
use gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimValue;
use gradc_frontend_onnx::proto::{TypeProto, ValueInfoProto, type_proto};

fn sequence(name: &str) -> ValueInfoProto {
    let element = value(name).r#type;
    let ty = type_proto::Sequence { elem_type: element.map(Box::new) };
    let ty = TypeProto { value: Some(type_proto::Value::SequenceType(Box::new(ty))), denotation: None };
    ValueInfoProto { name: text(name), r#type: Some(ty), ..Default::default() }
}

fn optional(name: &str) -> ValueInfoProto {
    let ty = type_proto::Optional { elem_type: value(name).r#type.map(Box::new) };
    let ty = TypeProto { value: Some(type_proto::Value::OptionalType(Box::new(ty))), denotation: None };
    ValueInfoProto { name: text(name), r#type: Some(ty), ..Default::default() }
}

fn made(inputs: Vec<ValueInfoProto>, outputs: &str, nodes: Vec<NodeProto>) -> ModelProto {
    let mut graph = graph("", outputs, nodes);
    graph.input = inputs;
    graph.initializer = vec![scalar("one", 1), scalar("last", -1), i64_tensor("sizes", &[1, 2])];
    model(graph)
}

fn scalar(name: &str, value: i64) -> TensorProto {
    TensorProto { dims: vec![], ..i64_tensor(name, &[value]) }
}

fn lengths(lengths: &[(&str, usize)]) -> LowerOptions {
    let shape = |&(name, length): &(&str, usize)| (name.to_owned(), vec![length]);
    LowerOptions { input_shapes: lengths.iter().map(shape).collect(), ..LowerOptions::default() }
}

/// The outputs with their names, for inputs that count on through all of them from 1.
fn run(proto: &ModelProto, options: &LowerOptions) -> Vec<(String, Vec<f64>)> {
    let lowered = lower_with(proto, options).expect("lowered");
    let names: Vec<String> = lowered.outputs.iter().map(|(name, _)| name.clone()).collect();
    let mut next = 0;
    let inputs: Vec<Literal> = (lowered.inputs.iter())
        .map(|input| {
            let shape = lowered.builder.ty(input.value).shape;
            let numbers: Vec<f32> = (0..shape.elements()).map(|n| (next + n + 1) as f32).collect();
            next += numbers.len();
            Literal::new(shape, &numbers)
        })
        .collect();
    let outputs = eval(&finish(lowered), &inputs).expect("evaluated");
    names.into_iter().zip(outputs.iter().map(Literal::to_f64)).collect()
}

fn named(name: &str, values: &[f64]) -> (String, Vec<f64>) {
    (name.to_owned(), values.to_vec())
}

#[test]
fn sequences_are_made_changed_and_joined() {
    let nodes = vec![
        node("SequenceConstruct", "c", "x y", "s1"),
        node("SequenceInsert", "i", "s1 x one", "s2"),
        node("SequenceErase", "e", "s2 last", "s3"),
        node("SequenceLength", "l", "s3", "length"),
        node("SequenceAt", "a", "s2 last", "at"),
        node("ConcatFromSequence", "j", "s2", "all").with(int("axis", 0)),
    ];
    let proto = made(vec![value("x"), value("y")], "s3 length at all", nodes);
    let outputs = run(&proto, &lengths(&[("x", 1), ("y", 1)]));
    let wanted = [
        named("s3[0]", &[1.0]),
        named("s3[1]", &[1.0]),
        named("length", &[2.0]),
        named("at", &[2.0]),
        named("all", &[1.0, 1.0, 2.0]),
    ];
    assert_eq!(outputs, wanted);
}

#[test]
fn positions_outside_of_a_sequence_are_refused() {
    let nodes = vec![node("SequenceConstruct", "c", "x", "s"), node("SequenceAt", "a", "s one", "y")];
    let result = lower_with(&made(vec![value("x")], "y", nodes), &lengths(&[("x", 1)]));
    refused(result, "GC0310", "SequenceAt «a»: position 1 is outside of a sequence of 1");
    let nodes = vec![node("SequenceConstruct", "c", "x", "s"), node("Relu", "r", "s", "y")];
    let result = lower_with(&made(vec![value("x")], "y", nodes), &lengths(&[("x", 1)]));
    refused(result, "GC0310", "Relu «r»: input 0 is a sequence");
    let nodes = vec![node("SequenceEmpty", "c", "", "s"), node("ConcatFromSequence", "j", "s", "y")];
    let result = lower_with(&made(vec![value("x")], "y", nodes), &lengths(&[("x", 1)]));
    let message = "ConcatFromSequence «j»: an empty sequence has no shape to make a tensor of";
    refused(result, "GC0310", message);
}

#[test]
fn tensors_are_split_into_sequences() {
    let split = |inputs: &str| node("SplitToSequence", "s", inputs, "y");
    let run = |node: NodeProto| run(&made(vec![value("x")], "y", vec![node]), &lengths(&[("x", 3)]));
    let one_each = [named("y[0]", &[1.0]), named("y[1]", &[2.0]), named("y[2]", &[3.0])];
    assert_eq!(run(split("x")), one_each);
    assert_eq!(run(split("x").with(int("keepdims", 0))), one_each);
    assert_eq!(run(split("x sizes")), [named("y[0]", &[1.0]), named("y[1]", &[2.0, 3.0])]);
    let result = lower_with(&made(vec![value("x")], "y", vec![split("x sizes")]), &lengths(&[("x", 4)]));
    refused(result, "GC0310", "SplitToSequence «s»: parts of [1, 2] do not make up an axis of 4");
}

#[test]
fn sequences_come_in_by_their_elements() {
    let mut body_graph = graph("e t", "o", vec![node("Add", "add", "e t", "o")]);
    body_graph.name = text("b");
    let map = node("SequenceMap", "m", "s t", "y").with(body("body", body_graph));
    let mut t = graph("t", "", vec![]).input;
    let mut inputs = vec![sequence("s")];
    inputs.append(&mut t);
    let proto = made(inputs, "y", vec![map]);
    let options = LowerOptions { dims: dims(&[("N", 1)]), ..lengths(&[("s[0]", 1), ("s[1]", 1)]) };
    assert_eq!(run(&proto, &options), [named("y[0]", &[4.0]), named("y[1]", &[5.0])]);
    let unknown = LowerOptions { dims: dims(&[("N", 1)]), ..LowerOptions::default() };
    let message = "input «s»: it is a sequence: give the shape of each element, such as of «name[0]»";
    refused(lower_with(&proto, &unknown), "GC0314", message);
    let gap = LowerOptions { dims: dims(&[("N", 1)]), ..lengths(&[("s[1]", 1)]) };
    refused(lower_with(&proto, &gap), "GC0202", "«s[1]» is not an input");
    let empty = LowerOptions { empty_inputs: names(&["s"]), ..unknown };
    assert_eq!(run(&proto, &empty), []);
}

#[test]
fn optionals_are_what_they_hold() {
    let nodes =
        || vec![node("OptionalHasElement", "h", "o", "has"), node("OptionalGetElement", "g", "o", "y")];
    let proto = made(vec![optional("o")], "has y", nodes());
    let wanted = [named("has", &[1.0]), named("y", &[1.0, 2.0])];
    assert_eq!(run(&proto, &lengths(&[("o", 2)])), wanted);
    let empty = LowerOptions { empty_inputs: names(&["o"]), ..LowerOptions::default() };
    let result = lower_with(&proto, &empty);
    refused(result, "GC0310", "OptionalGetElement «g»: the optional has no element");
    let asked = made(vec![optional("o")], "has", nodes()[..1].to_vec());
    assert_eq!(run(&asked, &empty), [named("has", &[0.0])]);
}

#[test]
fn loops_carry_sequences() {
    let nodes = vec![node("SequenceInsert", "i", "s x", "next"), node("Identity", "c", "cond", "goes")];
    let mut inner = graph("", "", nodes);
    inner.input = vec![typed_value("n", 7, vec![]), typed_value("cond", 9, vec![]), sequence("s")];
    inner.output = vec![typed_value("goes", 9, vec![]), sequence("next")];
    let repeat = node("Loop", "l", "trip _ start", "y").with(body("body", inner));
    let mut proto = made(vec![value("x")], "y", vec![node("SequenceEmpty", "e", "", "start"), repeat]);
    proto.graph.as_mut().expect("a graph").initializer.push(scalar("trip", 3));
    let outputs = run(&proto, &lengths(&[("x", 1)]));
    assert_eq!(outputs, ["y[0]", "y[1]", "y[2]"].map(|name| named(name, &[1.0])));
}

#[test]
fn operands_of_old_opsets_are_aligned_by_an_axis() {
    let old = |node: NodeProto, shapes: [&[i64]; 2]| {
        let mut graph = graph("", "y", vec![node]);
        let shaped = |name: &str, shape: &[i64]| {
            typed_value(name, 1, shape.iter().map(|&length| dim(DimValue(length))).collect())
        };
        graph.input = vec![shaped("x", shapes[0]), shaped("b", shapes[1])];
        ModelProto { opset_import: vec![opset("", 6)], ..model(graph) }
    };
    let add = || node("Add", "a", "x b", "y").with(int("broadcast", 1)).with(int("axis", 0));
    let outputs = run(&old(add(), [&[2, 2], &[2]]), &LowerOptions::default());
    assert_eq!(outputs, [named("y", &[1.0 + 5.0, 2.0 + 5.0, 3.0 + 6.0, 4.0 + 6.0])]);
    let prelu = node("PRelu", "p", "x b", "y");
    let lowered = lower_with(&old(prelu, [&[1, 2, 2], &[2]]), &LowerOptions::default()).expect("lowered");
    let inputs = [Literal::new([1, 2, 2], &[-1.0f32, 2.0, -3.0, 4.0]), Literal::new([2], &[10.0f32, 100.0])];
    assert_eq!(eval(&finish(lowered), &inputs).expect("evaluated")[0].to_f64(), [-10.0, 2.0, -300.0, 4.0]);
}
