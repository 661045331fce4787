//! Operators of numbers, on integers and truth values: what they give, by hand.

use super::*;
use gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimValue;
use gradc_ir::Element;

/// The last node's `y` of `x`.
#[track_caller]
fn check<T: Element>(nodes: Vec<NodeProto>, element: i32, shape: &[usize], x: &[T], wanted: &[T]) {
    let mut graph = graph("", "y", nodes);
    graph.input = vec![typed_value("x", element, shape.iter().map(|&n| dim(DimValue(n as i64))).collect())];
    let proto = ModelProto { opset_import: vec![opset("", 22)], ..model(graph) };
    let lowered = lower_with(&proto, &LowerOptions::default()).expect("lowered");
    let y = eval(&finish(lowered), &[Literal::new(shape, x)]).expect("evaluated").remove(0);
    assert_eq!(y, Literal::new(&y.shape()[..], wanted));
}

const I64: i32 = 7;
const BOOL: i32 = 9;
const U64: i32 = 13;
/// f64 does not have it.
const ODD: i64 = (1 << 53) + 1;

#[test]
fn erf_is_rounded_towards_zero() {
    check(vec![node("Erf", "n", "x", "y")], I64, &[5], &[-7i64, -1, 0, 1, 7], &[-1, 0, 0, 0, 1]);
}

/// Columns `[a, b]` and `[c, d]` make the image `[a, b + c, d]`.
#[test]
fn col2im_sums_exactly() {
    let shape =
        |name: &str, values: &[i64]| node("Constant", name, "", name).with(tensor(i64_tensor("", values)));
    let nodes =
        || vec![shape("image", &[1, 3]), shape("block", &[1, 2]), node("Col2Im", "n", "x image block", "y")];
    let shape = [1, 2, 2];
    check(nodes(), I64, &shape, &[ODD, ODD, -3, i64::MIN], &[ODD, ODD - 3, i64::MIN]);
    check(nodes(), U64, &shape, &[u64::MAX, u64::MAX, 2, 1 << 63], &[u64::MAX, 1, 1 << 63]);
    check(nodes(), BOOL, &shape, &[true, true, true, false], &[true, true, false]);
    check(nodes(), BOOL, &shape, &[true, false, false, true], &[true, false, true]);
}

/// Half way between two elements, on the first, and outside.
#[test]
fn grid_sample_of_integers() {
    let nodes = |mode: &str| {
        let grid = f32_tensor("", &[0.0, 0.0, -1.0, 0.0, 9.0, 0.0]);
        let grid = TensorProto { dims: vec![1, 1, 3, 2], ..grid };
        let mode =
            AttributeProto { s: Some(mode.to_owned().into()), ..attribute("mode", AttributeType::String) };
        vec![
            node("Constant", "g", "", "grid").with(tensor(grid)),
            node("GridSample", "n", "x grid", "y").with(mode).with(int("align_corners", 1)),
        ]
    };
    let shape = [1, 1, 1, 2];
    check(nodes("linear"), I64, &shape, &[10i64, 21], &[15, 10, 0]);
    check(nodes("linear"), I64, &shape, &[-10i64, -21], &[-15, -10, 0]);
    check(nodes("linear"), BOOL, &shape, &[true, false], &[true, true, false]);
    check(nodes("nearest"), I64, &shape, &[ODD, 5], &[ODD, ODD, 0]);
    check(nodes("nearest"), BOOL, &shape, &[true, false], &[true, true, false]);
}
