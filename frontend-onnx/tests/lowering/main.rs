//! Lowering, on models made here: dimensions, weights, shape arithmetic, branches, and what is refused.

mod branches;
#[allow(dead_code, reason = "shared with the tests of reading")]
#[path = "../model/build.rs"]
mod build;
mod few_bits;
mod integers;
mod loops;
mod sequences;
mod special_values;

use build::*;
use gradc_frontend_onnx::lower::{
    InputKind, LowerOptions, Lowered, WeightPolicy, lower, operators, unsupported,
};
use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use gradc_frontend_onnx::{Error, Model};
use gradc_ir::{DType, Graph, Literal, Mark, Op, TensorType, eval};
use std::collections::{BTreeMap, BTreeSet};

fn one_node(node: NodeProto) -> Model {
    read(&model(graph("x", "y", vec![node]))).expect("a model")
}

fn options() -> LowerOptions {
    LowerOptions { dims: dims(&[("N", 3)]), ..LowerOptions::default() }
}

fn dims(dims: &[(&str, usize)]) -> BTreeMap<String, usize> {
    dims.iter().map(|&(name, length)| (name.to_owned(), length)).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn i64_tensor(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(7),
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn tensor(tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..attribute("value", AttributeType::Tensor) }
}

fn lower_with(proto: &ModelProto, options: &LowerOptions) -> Result<Lowered, Error> {
    lower(&read(proto).expect("a model"), options)
}

fn finish(lowered: Lowered) -> Graph {
    let outputs: Vec<_> = lowered.outputs.iter().map(|(_, value)| *value).collect();
    lowered.builder.finish(&outputs)
}

/// The operators of the graph but for inputs, in order.
fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.iter().map(|(_, node)| node.op.name()).filter(|name| *name != "input").collect()
}

#[track_caller]
fn refused(result: Result<Lowered, Error>, code: &str, message: &str) {
    expect(result.map(|_| ()), code, message);
}

#[test]
fn dimensions_are_bound_by_name_or_by_shape() {
    let model = one_node(node("Relu", "r", "x", "y"));
    let unbound = lower(&model, &LowerOptions::default());
    refused(unbound, "GC0203", "dimension «N» of input «x» is not bound");
    let by_name = lower(&model, &options()).expect("lowered");
    assert_eq!(by_name.builder.ty(by_name.inputs[0].value), TensorType::new(DType::F32, [3]));
    let shapes = |length| BTreeMap::from([("x".to_owned(), vec![length])]);
    let by_shape = LowerOptions { input_shapes: shapes(4), ..LowerOptions::default() };
    assert_eq!(lower(&model, &by_shape).expect("lowered").dims, dims(&[("N", 4)]));
    let both = LowerOptions { input_shapes: shapes(4), ..options() };
    refused(lower(&model, &both), "GC0201", "dimension «N» is 3, but input «x» makes it 4");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let model = one_node(node("Relu", "r", "x", "y"));
    let shapes = |name: &str, shape: &[usize]| LowerOptions {
        input_shapes: BTreeMap::from([(name.to_owned(), shape.to_vec())]),
        ..LowerOptions::default()
    };
    let wrong = lower(&model, &shapes("x", &[1, 2]));
    refused(wrong, "GC0201", "input «x» has shape [1,2], the model wants [N]");
    refused(lower(&model, &shapes("z", &[1])), "GC0202", "«z» is not an input");
    refused(
        lower(&model, &shapes("x", &[1 << 62])),
        "GC0308",
        "tensor «x»: its shape [4611686018427387904] is too large",
    );
}

#[test]
fn a_question_mark_is_no_name() {
    let mut graph = graph("", "y", vec![node("Add", "a", "x z", "y")]);
    let unnamed =
        || dim(gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimParam("?".to_owned()));
    graph.input = vec![typed_value("x", 1, vec![unnamed()]), typed_value("z", 1, vec![unnamed()])];
    let options = LowerOptions {
        input_shapes: BTreeMap::from([("x".to_owned(), vec![1]), ("z".to_owned(), vec![5])]),
        ..LowerOptions::default()
    };
    assert!(lower_with(&model(graph.clone()), &options).expect("lowered").dims.is_empty());
    let unbound = lower_with(&model(graph), &LowerOptions::default());
    refused(unbound, "GC0203", "the length of axis 0 of input «x» is not bound");
}

fn with_weights() -> ModelProto {
    let nodes = vec![
        node("Constant", "c", "", "w3").with(tensor(f32_tensor("", &[1.0, 2.0, 3.0]))),
        node("Add", "a", "x w1", "t"),
        node("Add", "b", "t w2", "u"),
        node("Add", "d", "u w3", "y"),
    ];
    let initializer = vec![f32_tensor("w1", &[1.0, 2.0, 3.0]), f32_tensor("w2", &[1.0, 2.0, 3.0])];
    model(GraphProto { initializer, ..graph("x", "y", nodes) })
}

#[test]
fn weights_are_inputs_of_their_own_even_where_they_are_equal() {
    let weights = WeightPolicy::Names(names(&["w1", "w3", "nowhere"]));
    let lowered = lower_with(&with_weights(), &LowerOptions { weights, ..options() }).expect("lowered");
    let inputs: Vec<&str> = lowered.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, ["x", "w1", "w3"]);
    assert!(matches!(lowered.inputs[0].kind, InputKind::Runtime));
    for weight in &lowered.inputs[1..] {
        let InputKind::Weight(literal) = &weight.kind else { panic!("{} is a weight", weight.name) };
        assert_eq!(literal.to_f64(), [1.0, 2.0, 3.0]);
    }
    assert_ne!(lowered.values["w1"], lowered.values["w3"]);
    assert_eq!(lowered.notes, ["«nowhere» is no constant of the model (or stands in a branch not taken)"]);
    assert_eq!(ops(&finish(lowered)), ["constant", "add", "add", "add"]);
}

#[test]
fn constants_are_constants_where_they_are_no_weights() {
    let lowered = lower_with(&with_weights(), &options()).expect("lowered");
    let x = Literal::new([3], &[1.0f32, 1.0, 1.0]);
    let outputs = eval(&finish(lowered), &[x]).expect("evaluated");
    assert_eq!(outputs[0].to_f64(), [4.0, 7.0, 10.0]);
}

#[test]
fn everything_can_be_computed_in_another_float_type() {
    let nodes = vec![
        node("Cast", "c", "x", "t").with(int("to", 10)),
        node("Add", "a", "t w", "u"),
        node("ConstantOfShape", "z", "s", "v"),
        node("Add", "b", "u v", "y"),
    ];
    let initializer = vec![f32_tensor("w", &[0.5]), i64_tensor("s", &[1])];
    let proto = model(GraphProto { initializer, ..graph("x", "y", nodes) });
    let lowered =
        lower_with(&proto, &LowerOptions { float: Some(DType::F64), ..options() }).expect("lowered");
    let graph = finish(lowered);
    assert!(graph.iter().all(|(_, node)| node.ty().dtype == DType::F64), "{graph:?}");
}

#[test]
fn tagged_tensors_have_an_identity_of_their_own() {
    let nodes = vec![
        node("Identity", "i", "x", "t"),
        node("Relu", "r", "t", "u"),
        node("Relu", "s", "x", "v"),
        node("Add", "a", "u v", "y"),
    ];
    let tags = names(&["t", "v"]);
    let lowered =
        lower_with(&model(graph("x", "y", nodes)), &LowerOptions { tags, ..options() }).expect("lowered");
    let tag = |name: &str| match lowered.builder.node(lowered.values[name]).op {
        Op::Mark(Mark::Tag(number)) => Some(number),
        _ => None,
    };
    assert_eq!((tag("t"), tag("u"), tag("v")), (Some(0), None, Some(1)));
    let sum = lowered.builder.node(lowered.values["y"]);
    assert_eq!(sum.operands[1], lowered.values["v"]);
}

#[test]
fn shape_arithmetic_leaves_no_trace() {
    let nodes = vec![
        node("Shape", "s", "x", "shape"),
        node("Gather", "g", "shape zero", "length"),
        node("Unsqueeze", "u", "length axis", "lengths"),
        node("Concat", "c", "lengths one", "wanted").with(int("axis", 0)),
        node("Reshape", "r", "x wanted", "y"),
    ];
    let zero = TensorProto { dims: vec![], ..i64_tensor("zero", &[0]) };
    let initializer = vec![zero, i64_tensor("axis", &[0]), i64_tensor("one", &[1])];
    let proto = model(GraphProto { initializer, ..graph("x", "y", nodes) });
    let graph = finish(lower_with(&proto, &options()).expect("lowered"));
    assert_eq!(ops(&graph), ["reshape"]);
    assert_eq!(graph.output_types(), [&TensorType::new(DType::F32, [3, 1])]);
}

fn reshape_by_input() -> ModelProto {
    let mut graph = graph("x", "y", vec![node("Neg", "n", "s", "t"), node("Reshape", "r", "x t", "y")]);
    let two = dim(gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimValue(2));
    graph.input.push(typed_value("s", 7, vec![two]));
    model(graph)
}

#[test]
fn shapes_must_not_depend_on_run_time_values() {
    let result = lower_with(&reshape_by_input(), &options());
    refused(result, "GC0313", "Reshape «r»: the shape depends on the run-time values of «t»");
    let error = lower_with(&reshape_by_input(), &options()).map(|_| ()).expect_err("refused");
    assert_eq!(error.help(), "shapes must be known when compiling: fix the value of «s»");
}

#[test]
fn fixed_inputs_are_no_inputs() {
    let fixed =
        |literal| LowerOptions { input_values: BTreeMap::from([("s".to_owned(), literal)]), ..options() };
    let lowered = lower_with(&reshape_by_input(), &fixed(Literal::new([2], &[-1i64, -3]))).expect("lowered");
    assert_eq!(lowered.inputs.len(), 1);
    assert_eq!(lowered.fixed["s"].to_f64(), [-1.0, -3.0]);
    assert_eq!(finish(lowered).output_types(), [&TensorType::new(DType::F32, [1, 3])]);
    let wrong = lower_with(&reshape_by_input(), &fixed(Literal::new([2], &[1i32, 3])));
    refused(wrong, "GC0314", "input «s»: its value is of type i32, the model wants i64");
}

#[test]
fn all_unsupported_operators_are_told_at_once() {
    let nodes = vec![
        node("Foo", "f1", "x", "t"),
        node("Relu", "r", "t", "u"),
        node("Bar", "b", "u", "v").of("com.example"),
        node("Foo", "f2", "v", "y"),
    ];
    let proto = ModelProto {
        opset_import: vec![opset("", 18), opset("com.example", 1)],
        ..model(graph("x", "y", nodes))
    };
    let message = "2 op types are not supported: Foo ×2 («f1», «f2»), com.example.Bar ×1 («b»)";
    refused(lower_with(&proto, &options()), "GC0301", message);
    let told = unsupported(&read(&proto).expect("a model"));
    assert_eq!(told.iter().map(|op| op.nodes.len()).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn nodes_know_where_they_come_from() {
    let lowered = lower(&one_node(node("Relu", "r", "x", "y")), &options()).expect("lowered");
    let origin = lowered.builder.origin(lowered.outputs[0].1).expect("an origin");
    assert_eq!((&*origin.name, &*origin.operator), ("r", "Relu"));
}

#[test]
fn graphs_have_a_limit() {
    let result = lower(&one_node(node("Relu", "r", "x", "y")), &LowerOptions { node_limit: 2, ..options() });
    assert_eq!(result.map(|_| ()).expect_err("refused").code(), "GC0311");
}

#[test]
fn faults_name_the_node() {
    let squeeze = one_node(node("Transpose", "turn", "x", "y").with(ints("perm", &[0, 1])));
    refused(lower(&squeeze, &options()), "GC0310", "Transpose «turn»: axis 1 is out of range for rank 1");
    let add = model(GraphProto {
        initializer: vec![f32_tensor("w", &[1.0, 2.0])],
        ..graph("x", "y", vec![node("Add", "sum", "x w", "y")])
    });
    refused(lower_with(&add, &options()), "GC0310", "Add «sum»: shapes do not broadcast: [3] and [2]");
    let flatten = one_node(node("Flatten", "f", "x", "y").with(ints("axis", &[1])));
    refused(
        lower(&flatten, &options()),
        "GC0309",
        "Flatten «f»: attribute «axis» is a list of ints, not an int",
    );
}

#[test]
fn functions_are_inlined() {
    let twice = function("Twice", "a", "b", vec![node("Add", "s", "a a", "b")]);
    let proto = ModelProto {
        functions: vec![twice],
        opset_import: vec![opset("", 18), opset("f", 1)],
        ..model(graph("x", "y", vec![node("Twice", "t", "x", "y").of("f")]))
    };
    assert_eq!(ops(&finish(lower_with(&proto, &options()).expect("lowered"))), ["add"]);
}

#[test]
fn the_table_of_operators_is_sorted_and_complete() {
    let all = operators();
    assert!(all.windows(2).all(|pair| (pair[0].domain, pair[0].name) < (pair[1].domain, pair[1].name)));
    for name in ["Add", "Conv", "If", "LSTM", "Softmax", "Where"] {
        assert!(all.iter().any(|operator| operator.domain.is_empty() && operator.name == name), "{name}");
    }
}
