//! Compositions at infinities, NaN and kinks.

use super::*;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[track_caller]
fn check(node: NodeProto, x: &[f64], wanted: &[f64]) {
    let name = node.op_type.clone().unwrap_or_default();
    let dims = dims(&[("N", x.len())]);
    let lowered =
        lower(&one_node(node), &LowerOptions { dims, float: Some(DType::F64), ..LowerOptions::default() });
    let outputs = eval(&finish(lowered.expect("lowered")), &[Literal::new([x.len()], x)]).expect("evaluated");
    let got = outputs[0].to_f64();
    assert_eq!(got.len(), wanted.len(), "{name}");
    for (position, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        let same = got == wanted || (got.is_nan() && wanted.is_nan()) || (got - wanted).abs() < 1e-12;
        assert!(same, "{name} of {}: {got}, expected {wanted}", x[position.min(x.len() - 1)]);
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

#[test]
fn nan_passes_activations() {
    for op in
        ["Relu", "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Shrink"]
    {
        check(node(op, "n", "x", "y"), &[NAN], &[NAN]);
    }
    for op in ["Gelu", "Mish", "Softplus", "Softsign", "Sigmoid", "Tanh", "Abs", "Sign", "Round"] {
        let node = node(op, "n", "x", "y");
        let proto = ModelProto { opset_import: vec![opset("", 20)], ..model(graph("x", "y", vec![node])) };
        let options = LowerOptions { dims: dims(&[("N", 1)]), ..LowerOptions::default() };
        let graph = finish(lower_with(&proto, &options).expect("lowered"));
        let outputs = eval(&graph, &[Literal::new([1], &[f32::NAN])]).expect("evaluated");
        assert!(outputs[0].to_f64()[0].is_nan(), "{op}");
    }
}

#[test]
fn activations_at_their_ends() {
    check(node("Relu", "n", "x", "y"), &[-INF, -0.0, INF], &[0.0, 0.0, INF]);
    check(node("Elu", "n", "x", "y"), &[-INF, 0.0, 1000.0, INF], &[-1.0, 0.0, 1000.0, INF]);
    check(node("Softplus", "n", "x", "y"), &[-INF, 1000.0, INF], &[0.0, 1000.0, INF]);
    check(
        node("HardSigmoid", "n", "x", "y").with(float("alpha", 0.5)),
        &[-INF, -1.0, 1.0, INF],
        &[0.0, 0.0, 1.0, 1.0],
    );
    check(node("HardSwish", "n", "x", "y"), &[-3.0, 3.0, INF], &[0.0, 3.0, INF]);
}

#[test]
fn reductions_of_infinities_and_zeros() {
    check(node("ReduceLogSumExp", "n", "x", "y"), &[-INF, -INF], &[-INF]);
    check(node("ReduceLogSumExp", "n", "x", "y"), &[1000.0, -INF], &[1000.0]);
    check(node("ReduceLogSumExp", "n", "x", "y"), &[0.0, INF], &[INF]);
    check(node("ReduceL2", "n", "x", "y"), &[0.0, 0.0], &[0.0]);
    check(node("ReduceL2", "n", "x", "y"), &[3.0, 4.0], &[5.0]);
    check(node("ReduceMax", "n", "x", "y"), &[1.0, NAN], &[NAN]);
}

#[test]
fn clip_takes_the_upper_bound_where_bounds_cross() {
    let proto = |low: f32, high: f32| {
        let scalar = |name: &str, value: f32| TensorProto { dims: vec![], ..f32_tensor(name, &[value]) };
        let initializer = vec![scalar("low", low), scalar("high", high)];
        model(GraphProto { initializer, ..graph("x", "y", vec![node("Clip", "c", "x low high", "y")]) })
    };
    let x = Literal::new([3], &[-5.0f32, 0.5, 5.0]);
    for (low, high, wanted) in [(-1.0, 1.0, [-1.0, 0.5, 1.0]), (2.0, 1.0, [1.0, 1.0, 1.0])] {
        let graph = finish(lower_with(&proto(low, high), &options()).expect("lowered"));
        assert_eq!(eval(&graph, std::slice::from_ref(&x)).expect("evaluated")[0].to_f64(), wanted);
    }
}

#[test]
fn indices_out_of_range_stay_out_of_range() {
    let mut proto = graph("", "y", vec![node("GatherElements", "g", "x i", "y").with(int("axis", 1))]);
    use gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimValue;
    proto.input = vec![
        typed_value("x", 1, vec![dim(DimValue(2)), dim(DimValue(2))]),
        typed_value("i", 7, vec![dim(DimValue(2)), dim(DimValue(1))]),
    ];
    let graph = finish(lower_with(&model(proto), &LowerOptions::default()).expect("lowered"));
    let x = Literal::new([2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
    let run = |index: [i64; 2]| eval(&graph, &[x.clone(), Literal::new([2, 1], &index)]);
    assert_eq!(run([1, -1]).expect("evaluated")[0].to_f64(), [2.0, 4.0]);
    // 2 in the first row would be the first element of the second one.
    assert!(run([2, 0]).is_err() && run([0, -3]).is_err());
}
