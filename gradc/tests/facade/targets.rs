//! Each kind of target against its definition.

use crate::support::*;
use gradc::{Compile, CompiledModel, DType, Literal, Model, Target, Wrt};

const X: [f32; 6] = [0.5, 3.0, -2.0, 4.0, 1.0, 4.0];

fn gradient(target: Target) -> (f64, Vec<f64>) {
    let model = identity("2,3").model();
    let mut answers = Vec::new();
    for interpreter in [false, true] {
        let compiled = Compile::new(&model).target(target.clone()).interpreter(interpreter).build().unwrap();
        let mut session = compiled.session();
        session.set("x", &X).unwrap();
        session.run_grad().unwrap();
        let gradient = session.grad::<f32>("x").unwrap();
        assert_eq!(gradient.shape(), [2, 3]);
        let gradient = gradient.as_slice().iter().map(|&g| f64::from(g)).collect::<Vec<_>>();
        answers.push((session.target_value().unwrap(), gradient));
    }
    let interpreted = answers.pop().unwrap();
    assert_close(&answers[0].1, &interpreted.1, 1e-6);
    interpreted
}

#[test]
fn an_element() {
    assert_eq!(gradient(Target::element("y", &[0, 2])), (-2.0, vec![0., 0., 1., 0., 0., 0.]));
    assert_eq!(gradient(Target::element("y", &[-1, -2])), (1.0, vec![0., 0., 0., 0., 1., 0.]));
}

#[test]
fn the_greatest_of_each_row_the_first_of_equals() {
    assert_eq!(gradient(Target::argmax("y")), (7.0, vec![0., 1., 0., 1., 0., 0.]));
}

#[test]
fn the_greatest_is_chosen_anew_at_each_run() {
    let model = identity("3").model();
    let compiled = Compile::new(&model).target(Target::argmax("y")).build().unwrap();
    let mut session = compiled.session();
    for (x, expected) in [([1f32, 2., 0.], [0f32, 1., 0.]), ([5., 2., 0.], [1., 0., 0.])] {
        session.set("x", &x).unwrap();
        session.run_grad().unwrap();
        assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), expected);
    }
}

#[test]
fn a_label() {
    assert_eq!(gradient(Target::label("y", 2)), (2.0, vec![0., 0., 1., 0., 0., 1.]));
}

#[test]
fn sum_mean_and_norm() {
    assert_eq!(gradient(Target::sum("y")), (10.5, vec![1.; 6]));
    let (value, mean) = gradient(Target::mean("y"));
    assert_close(&[value], &[10.5 / 6.0], 1e-6);
    assert_close(&mean, &[1.0 / 6.0; 6], 1e-6);
    let (value, norm) = gradient(Target::norm("y"));
    let length = X.iter().map(|&x| f64::from(x * x)).sum::<f64>().sqrt();
    assert_close(&[value], &[length], 1e-6);
    assert_close(&norm, &X.map(|x| f64::from(x) / length), 1e-6);
}

#[test]
fn the_norm_of_zeros_has_a_gradient_of_zero() {
    let compiled = Compile::new(&identity("2").model()).target(Target::norm("y")).build().unwrap();
    let mut session = compiled.session();
    session.set("x", &[0f32; 2]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), [0.0; 2]);
    assert_eq!(session.target_value(), Some(0.0));
}

#[test]
fn seeds_are_given_at_run_time_and_add_up() {
    let model = Onnx::new()
        .input("x", "3")
        .node("Mul", "x x", "square")
        .node("Neg", "x", "minus")
        .output("square", "3")
        .output("minus", "3")
        .model();
    let compiled =
        Compile::new(&model).target(Target::seed("square")).target(Target::seed("minus")).build().unwrap();
    let names: Vec<&str> = compiled.inputs().iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["x", "seed:square", "seed:minus"]);
    let mut session = compiled.session();
    session.set("x", &[1f32, 2., 3.]).unwrap();
    session.set("seed:square", &[1f32, 10., 100.]).unwrap();
    session.set("seed:minus", &[5f32, 0., 1.]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), [2. - 5., 40., 600. - 1.]);
    assert_eq!(session.target_value(), Some(1. + 40. + 900. - 5. - 3.));
}

#[test]
fn several_targets_add_up() {
    let model = identity("3").model();
    let targets = Compile::new(&model).target(Target::sum("y")).target(Target::element("x", &[1]));
    let compiled = targets.build().unwrap();
    assert_eq!(compiled.target(), "y:sum + x[1]");
    let mut session = compiled.session();
    session.set("x", &[1f32, 2., 3.]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.target_value(), Some(8.0));
    assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), [1., 2., 1.]);
}

#[test]
fn the_only_scalar_is_the_default() {
    let model = Onnx::new()
        .input("x", "3")
        .node("ReduceSum", "x", "total")
        .node("Neg", "x", "minus")
        .output("minus", "3")
        .output("total", "1,1")
        .model();
    let compiled = Compile::new(&model).build().unwrap();
    assert_eq!(compiled.target(), "total");
}

#[test]
fn a_name_that_looks_like_more_is_a_name_where_the_model_has_it() {
    let model = Onnx::new().input("x", "1").node("Neg", "x", "y:sum").output("y:sum", "1").model();
    let compiled = Compile::new(&model).target(Target::parse("y:sum").unwrap()).build().unwrap();
    assert_eq!(compiled.target(), "y:sum");
}

#[test]
fn an_intermediate_tensor_is_a_target_too() {
    let model = classifier().model();
    let compiled =
        Compile::new(&model).bind("N", 1).target(Target::parse("hidden[0,2]").unwrap()).build().unwrap();
    let mut session = compiled.session();
    session.set("x", &[0f32; 4]).unwrap();
    session.run_grad().unwrap();
    let row = &noise(20, 1)[8..12];
    assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), row);
}

fn session_value(compiled: &CompiledModel, x: &[f64]) -> f64 {
    let mut session = compiled.session();
    session.set("x", x).unwrap();
    session.run().unwrap();
    session.target_value().unwrap()
}

/// The gradient in f64 against central differences, for the model's own inputs and for an inner tensor.
#[test]
fn the_model_in_f64_agrees_with_finite_differences() {
    let model = classifier().model();
    for interpreter in [false, true] {
        let compile = |model: &Model| {
            Compile::new(model)
                .bind("N", 2)
                .dtype(DType::F64)
                .target(Target::norm("scores"))
                .wrt(Wrt::names(["x", "hidden", "dense.*"]))
                .interpreter(interpreter)
                .build()
                .unwrap()
        };
        let compiled = compile(&model);
        let x: Vec<f64> = noise(8, 9).into_iter().map(f64::from).collect();
        let mut session = compiled.session();
        session.set("x", &x).unwrap();
        session.run_grad().unwrap();
        let gradient = session.grad::<f64>("x").unwrap().as_slice().to_vec();
        let differences: Vec<f64> = (0..x.len())
            .map(|position| {
                let moved = |by: f64| {
                    let mut x = x.clone();
                    x[position] += by;
                    session_value(&compiled, &x)
                };
                (moved(1e-6) - moved(-1e-6)) / 2e-6
            })
            .collect();
        assert_close(&gradient, &differences, 1e-8);
        // The bias moves the hidden tensor of all rows alike: its gradient is the sum over the rows of the inner one.
        let hidden = session.grad::<f64>("hidden").unwrap();
        assert_eq!(hidden.shape(), [2, 5]);
        let hidden = hidden.as_slice();
        let summed: Vec<f64> = (0..5).map(|unit| hidden[unit] + hidden[5 + unit]).collect();
        assert_close(session.grad::<f64>("dense.bias").unwrap().as_slice(), &summed, 1e-13);
    }
}

#[test]
fn an_inner_gradient_agrees_with_a_shift_of_the_inner_tensor() {
    // The shift enters as an input that is zero in the model's own use.
    let model = Onnx::new()
        .input("x", "3")
        .input("shift", "3")
        .node("Exp", "x", "inner")
        .node("Add", "inner shift", "moved")
        .node("Sin", "moved", "y")
        .output("y", "3")
        .model();
    let compiled = Compile::new(&model)
        .dtype(DType::F64)
        .target(Target::sum("y"))
        .wrt(Wrt::names(["inner", "moved", "shift"]))
        .build()
        .unwrap();
    let mut session = compiled.session();
    session.set("x", &[0.1f64, -0.4, 1.0]).unwrap();
    session.set("shift", &[0.0f64; 3]).unwrap();
    session.run_grad().unwrap();
    let expected: Vec<f64> = [0.1f64, -0.4, 1.0].iter().map(|x| x.exp().cos()).collect();
    for name in ["inner", "moved", "shift"] {
        assert_close(session.grad::<f64>(name).unwrap().as_slice(), &expected, 1e-14);
    }
}

#[test]
fn two_names_of_equal_tensors_have_gradients_of_their_own() {
    let model = Onnx::new()
        .input("x", "2")
        .node("Exp", "x", "a")
        .node("Exp", "x", "b")
        .node("Mul", "a b", "product")
        .node("Add", "product b", "y")
        .output("y", "2")
        .model();
    let compiled =
        Compile::new(&model).target(Target::sum("y")).wrt(Wrt::names(["a", "b", "x"])).build().unwrap();
    let mut session = compiled.session();
    session.set("x", &[0f32, 0.]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.grad::<f32>("a").unwrap().as_slice(), [1., 1.]);
    assert_eq!(session.grad::<f32>("b").unwrap().as_slice(), [2., 2.]);
    assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), [3., 3.]);
}

#[test]
fn initializers_with_equal_data_have_gradients_of_their_own() {
    let model = Onnx::new()
        .input("x", "2")
        .weight("v", &[2], &[2.0, 3.0])
        .weight("w", &[2], &[2.0, 3.0])
        .node("Mul", "x v", "scaled")
        .node("Add", "scaled w", "y")
        .output("y", "2")
        .model();
    let compiled = Compile::new(&model).target(Target::sum("y")).wrt(Wrt::params()).build().unwrap();
    assert_eq!(compiled.gradients().iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["v", "w"]);
    let mut session = compiled.session();
    session.set("x", &[5f32, 7.]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.grad::<f32>("v").unwrap().as_slice(), [5., 7.]);
    assert_eq!(session.grad::<f32>("w").unwrap().as_slice(), [1., 1.]);
    // A weight is an input with the file's value; setting it is seen by the next run.
    assert_eq!(session.input_literal("v").unwrap(), Literal::new([2], &[2f32, 3.]));
    session.set("v", &[10f32, 10.]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.output::<f32>("y").unwrap().as_slice(), [52., 73.]);
}
