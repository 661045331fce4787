//! Runs: from many threads, with the caller's buffers, with handles, and what the compiler tells of itself.

use crate::support::*;
use gradc::{Compile, CompiledModel, Emit, Inputs, Literal, Outputs, Session, Target, Team, Wrt};
use std::cell::RefCell;
use std::sync::Arc;

fn compiled(threads: usize) -> CompiledModel {
    let model = classifier().model();
    Compile::new(&model)
        .bind("N", 64)
        .target(Target::norm("scores"))
        .wrt(Wrt::all())
        .threads(threads)
        .build()
        .unwrap()
}

fn is_shared<T: Send + Sync + Clone>(_: &T) {}
fn is_sent<T: Send>(_: &T) {}

/// Bits of the outputs and of all gradients.
fn run(compiled: &CompiledModel, x: &[f32]) -> Vec<u32> {
    run_in(compiled.session(), x)
}

fn run_in(mut session: Session, x: &[f32]) -> Vec<u32> {
    let compiled = session.model().clone();
    is_sent(&session);
    session.set("x", x).unwrap();
    session.run_grad().unwrap();
    let mut bits: Vec<u32> =
        session.output::<f32>("scores").unwrap().as_slice().iter().map(|value| value.to_bits()).collect();
    for gradient in compiled.gradients() {
        let view = session.grad::<f32>(&gradient.name).unwrap();
        bits.extend(view.as_slice().iter().map(|value| value.to_bits()));
    }
    bits
}

#[test]
fn many_threads_share_one_compiled_model_and_agree_to_the_bit() {
    let compiled = compiled(2);
    is_shared(&compiled);
    let inputs: Vec<Vec<f32>> = (0..8).map(|seed| noise(64 * 4, seed)).collect();
    let expected: Vec<Vec<u32>> = inputs.iter().map(|x| run(&compiled, x)).collect();
    std::thread::scope(|scope| {
        for (x, expected) in inputs.iter().zip(&expected) {
            let compiled = compiled.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(&run(&compiled, x), expected);
                    let (mut scores, mut gradient) = ([0f32; 64 * 3], [0f32; 64 * 4]);
                    let mut outputs = Outputs::new().gradient("x", &mut gradient).with("scores", &mut scores);
                    compiled.call(Inputs::new().with("x", x), &mut outputs).unwrap();
                    assert!(outputs.target_value().is_some());
                    drop(outputs);
                    let bits: Vec<u32> =
                        scores.iter().chain(&gradient).map(|value| value.to_bits()).collect();
                    assert_eq!(bits, expected[..bits.len()]);
                }
            });
        }
    });
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let x = noise(64 * 4, 5);
    assert_eq!(run(&compiled(1), &x), run(&compiled(3), &x));
}

/// Models may share a team; one that is only reckoned with computes the same.
#[test]
fn sessions_run_on_the_team_that_they_are_given() {
    let (two, four) = (compiled(2), compiled(4));
    let x = noise(64 * 4, 3);
    let expected = run(&two, &x);
    let team = Arc::new(Team::new(2));
    for compiled in [&two, &four] {
        assert_eq!(run_in(compiled.session_on(team.clone()).unwrap(), &x), expected);
    }
    let simulated = Arc::new(Team::simulated(4));
    assert_eq!(run_in(four.session_on(simulated.clone()).unwrap(), &x), expected);
    let Err(error) = two.session_on(simulated) else { panic!("the team is too large") };
    assert_eq!(error.to_string(), "the team has 4 threads, but the model was compiled for 2");
}

#[test]
fn a_session_outlives_the_compiled_model() {
    let mut session = compiled(1).session();
    session.set("x", &noise(256, 1)).unwrap();
    session.run().unwrap();
    let forward = session.output_literal("scores").unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.output_literal("scores").unwrap(), forward);
}

#[test]
fn handles_find_the_same_tensors() {
    let compiled = compiled(1);
    let (x, scores) = (compiled.input::<f32>("x").unwrap(), compiled.output::<f32>("scores").unwrap());
    let gradient = compiled.grad::<f32>("dense.bias").unwrap();
    assert!(compiled.input::<f64>("x").is_err());
    let mut session = compiled.session();
    session.at_mut(x).copy_from_slice(&noise(256, 3));
    session.run_grad().unwrap();
    assert_eq!(session.at(scores).as_slice(), session.output::<f32>("scores").unwrap().as_slice());
    assert_eq!(session.at(gradient).as_slice(), session.grad::<f32>("dense.bias").unwrap().as_slice());
    assert_eq!(session.at(scores).strides()[..], [3, 1]);
}

#[test]
fn weights_keep_the_files_values_until_set() {
    let compiled = compiled(1);
    let mut session = compiled.session();
    assert!(session.is_unchanged("dense.weight"));
    session.set("x", &noise(256, 3)).unwrap();
    session.run_grad().unwrap();
    let before = session.target_value().unwrap();
    session.input_mut::<f32>("head.weight").unwrap().fill(0.0);
    session.input_mut::<f32>("head.bias").unwrap().fill(2.0);
    session.run_grad().unwrap();
    let norm = (64.0 * 3.0 * 4.0f64).sqrt();
    assert_close(&[session.target_value().unwrap()], &[norm], 1e-6);
    // Others still see the file's.
    let mut other = compiled.session();
    other.set("x", &noise(256, 3)).unwrap();
    other.run_grad().unwrap();
    assert_eq!(other.target_value().unwrap(), before);
}

#[test]
fn values_fixed_when_compiling_decide_shapes() {
    let model = Onnx::new()
        .input("x", "2,3")
        .typed_input("shape", I64, "1")
        .node("Reshape", "x shape", "y")
        .output("y", "M")
        .model();
    let shape = Literal::new([1], &[6i64]);
    let compile = || Compile::new(&model).target(Target::sum("y"));
    assert_eq!(compile().build().unwrap_err().code(), "GC0313");
    let compiled = compile().input_hint("shape", shape.clone()).build().unwrap();
    assert_eq!(compiled.fixed()["shape"], shape);
    assert_eq!(compiled.inputs().len(), 1);
    let mut session = compiled.session();
    session.set_literal("shape", &shape).unwrap();
    assert_eq!(session.set_literal("shape", &Literal::new([1], &[5i64])).unwrap_err().code(), "GC0209");
    // A hint that is not needed stays an input.
    let compiled = compile().input_value("shape", shape).input_hint("x", Literal::new([2, 3], &[0f32; 6]));
    assert_eq!(compiled.build().unwrap().inputs()[0].name, "x");
}

#[test]
fn bools_are_bytes() {
    let model = Onnx::new()
        .input("x", "3")
        .input("y", "3")
        .node("Less", "x y", "less")
        .typed_output("less", 9, "3")
        .model();
    let mut session = Compile::new(&model).forward_only().build().unwrap().session();
    session.set("x", &[1f32, 2., 3.]).unwrap();
    session.set("y", &[2f32, 2., 4.]).unwrap();
    session.run().unwrap();
    assert_eq!(session.output::<u8>("less").unwrap().as_slice(), [1, 0, 1]);
    assert_eq!(session.output_literal("less").unwrap(), Literal::new([3], &[true, false, true]));
}

#[test]
fn the_compiler_tells_of_itself() {
    let model = classifier().model();
    let seen = RefCell::new(Vec::new());
    let compiled = Compile::new(&model)
        .bind("N", 2)
        .target(Target::sum("scores"))
        .observe(|report, graph| seen.borrow_mut().push((report.name, graph.len())))
        .build()
        .unwrap();
    let names: Vec<&str> = seen.borrow().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, Compile::passes(2));
    assert_eq!(compiled.plan().passes.len(), names.len());
    for emit in Emit::ALL {
        assert_eq!(Emit::parse(emit.name()), Some(emit));
        assert!(!compiled.emit(emit).unwrap().is_empty(), "{emit:?}");
    }
    let fewer = Compile::new(&model).bind("N", 2).target(Target::sum("scores")).without_pass("fuse");
    assert!(!fewer.build().unwrap().plan().passes.iter().any(|report| report.name == "fuse"));
    let plan = compiled.plan();
    assert_eq!(plan.inputs, 2 * 4 * 4);
    assert_eq!(plan.outputs, 4 + 2 * 3 * 4 + 2 * 4 * 4);
    assert!(plan.kernels > 0);
}

#[test]
fn any_tensor_can_be_an_output() {
    let model = classifier().model();
    let compiled = Compile::new(&model).bind("N", 1).forward_only().outputs(["active", "x"]).build().unwrap();
    let mut session = compiled.session();
    session.set("x", &[1f32, 2., 3., 4.]).unwrap();
    session.run().unwrap();
    assert_eq!(session.output::<f32>("x").unwrap().as_slice(), [1., 2., 3., 4.]);
    assert_eq!(session.output::<f32>("active").unwrap().shape(), [1, 5]);
}

#[test]
fn a_model_tells_what_it_holds() {
    let model = classifier().model();
    let operators: Vec<(String, usize)> =
        model.operators().into_iter().map(|operator| (operator.operator, operator.count)).collect();
    assert_eq!(operators, [("Gemm".to_owned(), 2), ("Tanh".to_owned(), 1)]);
    assert_eq!((model.opset(), model.node_count(), model.producer()), (18, 3, "gradc tests".to_owned()));
    assert_eq!(model.initializers().map(|weight| weight.bytes).sum::<usize>(), 4 * (20 + 5 + 15 + 3));
    assert_eq!(model.parameters(), ["dense.weight", "dense.bias", "head.weight", "head.bias"]);
    assert!(model.unsupported().is_empty());
    let strange = Onnx::new().input("x", "1").node("Frobnicate", "x", "y").output("y", "1").model();
    assert_eq!(strange.unsupported()[0].op_type, "Frobnicate");
    assert!(strange.operators()[0].info.is_none());
    assert_eq!(Compile::new(&strange).build().unwrap_err().exit_code(), 5);
}
