//! `Scan` and `Loop`.

use super::*;
use gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimValue;

fn scalar(name: &str, elem_type: i32) -> gradc_frontend_onnx::proto::ValueInfoProto {
    typed_value(name, elem_type, vec![])
}

/// Running sums of x times a captured scalar.
fn running_sums(backwards: bool) -> ModelProto {
    let nodes = vec![
        node("Mul", "m", "x_t w", "p"),
        node("Add", "a", "s p", "next"),
        node("Identity", "i", "next", "out"),
    ];
    let mut body_graph = graph("", "", nodes);
    body_graph.input = vec![scalar("s", 1), scalar("x_t", 1)];
    body_graph.output = vec![scalar("next", 1), scalar("out", 1)];
    let directions = ints("scan_input_directions", &[i64::from(backwards)]);
    let scan = node("Scan", "scan", "zero x", "last y")
        .with(body("body", body_graph))
        .with(int("num_scan_inputs", 1));
    let initializer = ["zero", "w"].map(|name| TensorProto {
        dims: vec![],
        ..f32_tensor(name, &[if name == "zero" { 0.0 } else { 2.0 }])
    });
    model(GraphProto {
        initializer: initializer.to_vec(),
        ..graph("x", "last y", vec![scan.with(directions)])
    })
}

fn run(lowered: Lowered, inputs: &[Literal]) -> Vec<Vec<f64>> {
    let outputs = eval(&finish(lowered), inputs).expect("evaluated");
    outputs.iter().map(Literal::to_f64).collect()
}

#[test]
fn scan_captures_weights() {
    let weights = WeightPolicy::Names(names(&["w"]));
    let lowered = lower_with(&running_sums(false), &LowerOptions { weights, ..options() }).expect("lowered");
    assert_eq!(lowered.inputs.len(), 2);
    let x = Literal::new([3], &[1.0f32, 2.0, 3.0]);
    assert_eq!(run(lowered, &[x, Literal::scalar(10.0f32)]), [vec![60.0], vec![10.0, 30.0, 60.0]]);
}

#[test]
fn scan_runs_backwards() {
    let lowered = lower_with(&running_sums(true), &options()).expect("lowered");
    let x = Literal::new([3], &[1.0f32, 2.0, 3.0]);
    assert_eq!(run(lowered, &[x]), [vec![12.0], vec![6.0, 10.0, 12.0]]);
}

/// `state = state * w` or what `step` says, `trip` times; each state is stacked.
fn repeated(step: Vec<NodeProto>, condition: NodeProto, initial: TensorProto, trip: i64) -> ModelProto {
    let mut nodes = step;
    nodes.push(condition);
    nodes.push(node("Identity", "i", "next", "out"));
    let mut inner = graph("", "", nodes);
    inner.input = vec![scalar("k", 7), scalar("go", 9), value("s")];
    inner.output = vec![scalar("on", 9), value("next"), value("out")];
    let repeat = node("Loop", "loop", "trip _ initial", "last y").with(body("body", inner));
    let trip = TensorProto { dims: vec![], ..i64_tensor("trip", &[trip]) };
    model(GraphProto { initializer: vec![trip, initial], ..graph("x", "last", vec![repeat]) })
}

fn constant_weight() -> NodeProto {
    node("Constant", "c", "", "w").with(tensor(f32_tensor("", &[2.0])))
}

#[test]
fn a_uniform_loop_is_a_scan() {
    let step = vec![constant_weight(), node("Mul", "m", "s w", "next")];
    let proto = repeated(step, node("Identity", "t", "go", "on"), f32_tensor("initial", &[1.0]), 5);
    let weights = WeightPolicy::Names(names(&["w"]));
    let lowered = lower_with(&proto, &LowerOptions { weights, ..options() }).expect("lowered");
    assert_eq!(lowered.inputs.len(), 2);
    let (x, w) = (Literal::new([3], &[0.0f32; 3]), Literal::new([1], &[3.0f32]));
    assert_eq!(run(lowered, &[x, w]), [vec![243.0]]);
    assert!(ops(&finish(lower_with(&proto, &options()).expect("lowered"))).contains(&"scan"));
}

#[test]
fn a_loop_whose_state_grows_is_unrolled_with_its_weights_once() {
    let step = vec![constant_weight(), node("Concat", "m", "s w", "next").with(int("axis", 0))];
    let condition = node("Less", "l", "k two", "on");
    let mut proto = repeated(step, condition, f32_tensor("initial", &[1.0]), 100);
    let two = TensorProto { dims: vec![], ..i64_tensor("two", &[2]) };
    let graph = proto.graph.as_mut().expect("a graph");
    graph.initializer.push(two);
    graph.node[0].output.truncate(1);
    let inner = graph.node[0].attribute[0].g.as_mut().expect("a body");
    inner.output.truncate(2);
    let weights = WeightPolicy::Names(names(&["w"]));
    let lowered = lower_with(&proto, &LowerOptions { weights, ..options() }).expect("lowered");
    assert_eq!(lowered.inputs.len(), 2);
    let (x, w) = (Literal::new([3], &[0.0f32; 3]), Literal::new([1], &[3.0f32]));
    assert_eq!(run(lowered, &[x, w]), [vec![1.0, 3.0, 3.0, 3.0]]);
}

#[test]
fn a_loop_must_not_depend_on_run_time_values() {
    let step = vec![constant_weight(), node("Mul", "m", "s w", "next")];
    let nodes = |condition| repeated(step.clone(), condition, f32_tensor("initial", &[1.0]), 5);
    let mut proto = nodes(node("Cast", "t", "first", "on").with(int("to", 9)));
    let graph = proto.graph.as_mut().expect("a graph");
    graph.input = vec![typed_value("first", 1, vec![]), typed_value("x", 1, vec![dim(DimValue(1))])];
    let message = "Loop «loop»: whether to go on depends on the run-time values of «on»";
    refused(lower_with(&proto, &options()), "GC0313", message);
}
