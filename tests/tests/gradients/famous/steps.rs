//! Cases 8 to 12: kinks of elementwise functions.

use crate::harness::Problem;
use crate::support::Onnx;
use gradc::DType;

fn unary(operator: &str, length: usize) -> Onnx {
    let length = length.to_string();
    Onnx::new().input("x", &length).node(operator, "x", "y").output("y", &length)
}

/// pytorch #7002, #7049, #184572, #184574, #185831: what a clamp does at its border was 0, then 1, then 0 again. Here
/// it is 0, and a border that is a tensor gets what lies strictly outside.
#[test]
fn famous_08_clamp_at_its_border() {
    let clip = Onnx::new().input("x", "5").input("low", "").input("high", "");
    let clip = clip.node("Clip", "x low high", "y").output("y", "5");
    let at = Problem::new(clip).at("x", &[-2.0, -1.0, 0.5, 1.0, 3.0]).at("low", &[-1.0]).at("high", &[1.0]);
    at.expect(&[("x", &[0.0, 0.0, 1.0, 0.0, 0.0]), ("low", &[1.0]), ("high", &[1.0])]);
    let constant = Onnx::new().input("x", "3").weight("low", &[], &[0.0]).weight("high", &[], &[6.0]);
    let constant = constant.node("Clip", "x low high", "y").output("y", "3");
    Problem::new(constant).at("x", &[0.0, 6.0, 3.0]).expect(&[("x", &[0.0, 0.0, 1.0])]);
}

/// jax #37821: `maximum(x, 0)` answers ½ at 0 where relu answers 0, by convention; but flushing subnormals to 0 made
/// the kink as wide as ±1.2e-38.
#[test]
fn famous_09_relu_and_maximum_at_0_and_at_subnormals() {
    let maximum = || {
        let model = Onnx::new().input("x", "6").weight("zero", &[], &[0.0]);
        model.node("Max", "x zero", "y").output("y", "6")
    };
    for (dtype, tiny) in
        [(DType::F64, 5e-324), (DType::F64, 1e-310), (DType::F32, 1e-45), (DType::F32, 1e-39)]
    {
        let x = [0.0, -0.0, tiny, -tiny, 1.0, -1.0];
        let relu = Problem::new(unary("Relu", 6)).dtype(dtype).at("x", &x);
        relu.expect(&[("x", &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0])]);
        let maximum = Problem::new(maximum()).dtype(dtype).at("x", &x);
        maximum.expect(&[("x", &[0.5, 0.5, 1.0, 0.0, 1.0, 0.0])]);
        let abs = Problem::new(unary("Abs", 6)).dtype(dtype).at("x", &x);
        abs.expect(&[("x", &[0.0, 0.0, 1.0, -1.0, 1.0, -1.0])]);
    }
}

/// jax #37820: 1 there, 0 in pytorch and here, for either zero.
#[test]
fn famous_10_absolute_value_at_0() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let at = Problem::new(unary("Abs", 4)).dtype(dtype).at("x", &[0.0, -0.0, 2.0, -2.0]);
        at.expect(&[("x", &[0.0, 0.0, 1.0, -1.0])]);
    }
}

/// jax #2107: softplus written with abs and max had the slope 0 at 0, not ½.
#[test]
fn famous_11_softplus_at_0() {
    Problem::new(unary("Softplus", 2)).at("x", &[0.0, -0.0]).expect(&[("x", &[0.5])]);
    let written = Onnx::new().input("x", "1").weight("one", &[], &[1.0]).node("Exp", "x", "e");
    let written = written.node("Add", "e one", "s").node("Log", "s", "y").output("y", "1");
    Problem::new(written).at("x", &[0.0]).expect(&[("x", &[0.5])]);
}

/// pytorch #61568, #55587, #56484: beyond a threshold of 20 the backward took softplus for linear while the forward did
/// not. Here there is no threshold: the slope is the sigmoid, to the last digits.
#[test]
fn famous_12_softplus_has_no_threshold() {
    let x: [f64; 9] = [-100.0, -40.0, -20.1, -1.0, 19.9, 20.0, 20.1, 30.0, 100.0];
    let wanted = x.map(|x| 1.0 / (1.0 + (-x).exp()));
    for dtype in [DType::F64, DType::F32] {
        let x = x.map(|x| if dtype == DType::F32 { x as f32 as f64 } else { x });
        let wanted = if dtype == DType::F32 { x.map(|x| 1.0 / (1.0 + (-x).exp())) } else { wanted };
        let skip = usize::from(dtype == DType::F32); // sigmoid(-100) is below the numbers of f32
        let at = Problem::new(unary("Softplus", 9 - skip)).dtype(dtype).at("x", &x[skip..]);
        at.expect(&[("x", &wanted[skip..])]);
    }
}
