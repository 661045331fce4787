//! Gradients of ONNX operators where they have none, or many; see `docs/conventions.md`.

use crate::support::*;
use gradc::{Compile, DType, Target, Wrt};

/// The gradient of the sum of `y` weighted with these cotangents, by both engines.
#[track_caller]
fn gradient(model: &gradc::Model, x: &[f64], cotangents: &[f64]) -> Vec<f64> {
    let answers = [false, true].map(|interpreter| {
        let compile = Compile::new(model).dtype(DType::F64).target(Target::seed("y")).wrt(Wrt::names(["x"]));
        let mut session = compile.interpreter(interpreter).build().unwrap().session();
        session.set("x", x).unwrap();
        session.set("seed:y", cotangents).unwrap();
        session.run_grad().unwrap();
        session.grad::<f64>("x").unwrap().as_slice().to_vec()
    });
    assert_close(&answers[0], &answers[1], 1e-13);
    let [native, _] = answers;
    native
}

#[test]
fn lp_normalization_of_zeros() {
    for p in [1, 2] {
        let model = Onnx::new()
            .input("x", "2,2")
            .node_with("LpNormalization", "x", "y", &[int("p", p)])
            .output("y", "2,2")
            .model();
        let gradient = gradient(&model, &[0.0, 0.0, 0.0, 4.0], &[2.0, 3.0, 5.0, 7.0]);
        assert_close(&gradient, &[0.0, 0.0, 1.25, 0.0], 1e-13);
    }
}
