//! Cases 20 to 22: indices that occur more than once, and how updates meet what is there.

use crate::harness::{Problem, noise};
use crate::support::{I64, Onnx, int, text};
use gradc::DType;

/// pytorch #1631, #1528: of repeated indices only the last handed its gradient back.
#[test]
fn famous_20_gather_with_repeated_indices() {
    let model = Onnx::new().input("x", "3,2").indices("i", &[1, 1, 0, 1, -2]).node("Gather", "x i", "y");
    let model = model.output("y", "5,2");
    Problem::new(model).at("x", &noise(6, 1)).expect(&[("x", &[1.0, 1.0, 4.0, 4.0, 0.0, 0.0])]);
    // An embedding whose indices are given at run time, each of five rows a thousand times.
    let model = Onnx::new().input("x", "7,3").typed_input("i", I64, "5000").node("Gather", "x i", "y");
    let model = model.output("y", "5000,3");
    let index: Vec<f64> = (0..5000).map(|place| (place * 3 % 5) as f64).collect();
    let mut wanted = [1000.0; 21];
    wanted[15..].fill(0.0);
    // In bf16, a sum of a thousand ones would stand still at 256.
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let at = Problem::new(model.clone()).dtype(dtype).at("x", &[0.5]).at("i", &index);
        at.expect(&[("x", &wanted)]);
    }
    let model = Onnx::new().input("x", "2,3").typed_input("i", I64, "2,4");
    let model = model.node_with("GatherElements", "x i", "y", &[int("axis", 1)]).output("y", "2,4");
    let at = Problem::new(model).at("x", &noise(6, 2)).at("i", &[0.0, 0.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    at.seed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).expect(&[("x", &[7.0, 0.0, 3.0, 0.0, 26.0, 0.0])]);
}

fn scatter(operator: &str, reduction: &str, indices: &str) -> Onnx {
    let model = Onnx::new().input("x", "3").typed_input("i", I64, indices).input("u", "4");
    model.node_with(operator, "x i u", "y", &[text("reduction", reduction)]).output("y", "3")
}

/// pytorch #473, #146299, #162242, #57006, #57101: updates at one place were counted twice, or all of them where only
/// the last had been written.
#[test]
fn famous_21_scatter_with_repeated_indices() {
    let cases: [(&str, [f64; 3], [f64; 4]); 5] = [
        ("none", [0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]),
        ("add", [1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        ("mul", [280.0, 1.0, 6.0], [56.0, 3.0, 40.0, 35.0]),
        ("max", [0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]),
        ("min", [1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
    ];
    for (reduction, by_x, by_u) in cases {
        for (operator, indices) in [("ScatterElements", "4"), ("ScatterND", "4,1")] {
            let at = Problem::new(scatter(operator, reduction, indices)).at("i", &[0.0, 2.0, 0.0, 0.0]);
            let at = at.at("x", &[1.0, 2.0, 3.0]).at("u", &[5.0, 6.0, 7.0, 8.0]);
            at.expect(&[("x", &by_x), ("u", &by_u)]);
        }
    }
}

/// burn #4063, #4064: the gradient of a scatter that overwrites was that of one that adds.
#[test]
fn famous_22_scatter_that_writes_is_not_scatter_that_adds() {
    for (reduction, by_x) in [("none", [1.0, 0.0, 1.0]), ("add", [1.0, 1.0, 1.0])] {
        let model = Onnx::new().input("x", "3").indices("i", &[1]).input("u", "1");
        let model = model.node_with("ScatterElements", "x i u", "y", &[text("reduction", reduction)]);
        let at = Problem::new(model.output("y", "3")).at("x", &[1.0, 2.0, 3.0]).at("u", &[9.0]);
        at.seed(&[2.0]).expect(&[("x", &by_x.map(|x| 2.0 * x)), ("u", &[2.0])]);
    }
}
