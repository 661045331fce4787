//! What can be wrong with a request, and what is said about it.

use crate::support::*;
use gradc::{Compile, Error, Inputs, Literal, Outputs, Target, Wrt};

#[track_caller]
fn expect<T>(result: gradc::Result<T>, code: &str, exit: u8, message: &str, help: &str) -> Error {
    let error = result.err().unwrap();
    assert_eq!(error.to_string(), message);
    assert_eq!(error.help(), help);
    assert_eq!((error.code(), error.exit_code()), (code, exit));
    error
}

fn tokens() -> Onnx {
    Onnx::new()
        .typed_input("ids", I64, "3")
        .weight("table", &[4, 2], &noise(8, 1))
        .node("Gather", "table ids", "embedded")
        .node("Sigmoid", "embedded", "scores")
        .node_with("ArgMax", "scores", "classes", &[int("axis", 1), int("keepdims", 0)])
        .node("Round", "scores", "rounded")
        .output("scores", "3,2")
        .typed_output("classes", I64, "3")
        .output("rounded", "3,2")
}

#[test]
fn a_target_is_needed() {
    let error = expect(
        Compile::new(&tokens().model()).wrt(Wrt::names(["embedded"])).build(),
        "GC0101",
        2,
        "the model has 3 outputs; a gradient needs one number",
        "--target scores:argmax · scores[0,0] · scores:sum, or a weighting with --seed-grad scores=@v.npy",
    );
    assert_eq!(error.at().unwrap(), "outputs: «scores» f32[3,2], «classes» i64[3], «rounded» f32[3,2]");
}

#[test]
fn integer_targets_name_their_source() {
    expect(
        Compile::new(&tokens().model()).target(Target::output("classes")).wrt(Wrt::params()).build(),
        "GC0401",
        5,
        "target «classes» is i64 (from ArgMax «/classes»): it has no gradient",
        "its float source is «scores» f32[3,2]; try --target scores:argmax",
    );
}

#[test]
fn integer_inputs_name_what_they_feed() {
    for wrt in [Wrt::inputs(), Wrt::names(["ids"])] {
        expect(
            Compile::new(&tokens().model()).target(Target::sum("scores")).wrt(wrt).build(),
            "GC0402",
            5,
            "cannot differentiate with respect to «ids»: it is i64",
            "differentiate what it feeds instead: --wrt embedded (the first float tensor)",
        );
    }
}

#[test]
fn zero_by_definition_is_a_warning() {
    let model = tokens().model();
    let compiled = Compile::new(&model).target(Target::sum("rounded")).wrt(Wrt::params()).build().unwrap();
    let warnings: Vec<String> = compiled.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["the gradient of «table» is zero by definition: Round «/rounded» is constant almost everywhere; \
         --straight-through Round lets it pass"]
    );
    let mut session = compiled.session();
    session.set("ids", &[0i64, 1, 3]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.grad::<f32>("table").unwrap().as_slice(), [0.0; 8]);
}

#[test]
fn a_missing_path_tells_where_the_paths_end() {
    let model = Onnx::new()
        .input("x", "3")
        .input("prompt", "3")
        .node_with("Cast", "prompt", "whole", &[int("to", 7)])
        .node_with("Cast", "whole", "back", &[int("to", 1)])
        .node("Mul", "x back", "y")
        .node("Neg", "prompt", "apart")
        .output("y", "3")
        .output("apart", "3")
        .model();
    expect(
        Compile::new(&model).target(Target::sum("y")).wrt(Wrt::names(["prompt", "x"])).build(),
        "GC0403",
        5,
        "«y:sum» does not depend on «prompt» through differentiable ops: all paths end at Cast «/whole»",
        "--wrt one of: x (1 has a path), or --straight-through Cast",
    );
    // As one of a group it is zero, with a warning.
    let compiled = Compile::new(&model).target(Target::sum("y")).build().unwrap();
    assert_eq!(compiled.warnings()[0].to_string(), "«y:sum» does not depend on «prompt»: zeros");
    // What the target does not depend on at all has a gradient of zero, beside others.
    let compiled =
        Compile::new(&model).target(Target::sum("apart")).wrt(Wrt::names(["x", "prompt"])).build().unwrap();
    assert_eq!(compiled.warnings()[0].to_string(), "«apart:sum» does not depend on «x»: zeros");
    let mut session = compiled.session();
    session.set("x", &[1f32; 3]).unwrap();
    session.set("prompt", &[1f32; 3]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), [0.0; 3]);
    expect(
        Compile::new(&model).target(Target::sum("apart")).wrt(Wrt::names(["x"])).build(),
        "GC0403",
        5,
        "«apart:sum» does not depend on «x»",
        "choose a target that depends on it",
    );
}

#[test]
fn misspelt_names_are_corrected() {
    let model = classifier().model();
    let compile = || Compile::new(&model).bind("N", 1);
    let help = "did you mean «scores»?";
    let result = compile().target(Target::sum("score")).build();
    expect(result, "GC0104", 2, "target «score» is no tensor of the model", help);
    let result = compile().target(Target::sum("scores")).wrt(Wrt::names(["dense.wieght"])).build();
    let help = "did you mean «dense.weight»?";
    expect(result, "GC0104", 2, "wrt «dense.wieght» is no tensor of the model", help);
    let compiled = compile().target(Target::sum("scores")).build().unwrap();
    let result = compiled.session().set("X", &[0f32; 4]);
    expect(result, "GC0202", 4, "«X» is not an input", "did you mean «x»?");
    let result = compile().without_pass("fues").build();
    expect(result, "GC0107", 2, "there is no pass «fues»", "did you mean fuse?");
}

#[test]
fn patterns_must_match_something() {
    let model = classifier().model();
    let compile = |pattern: &str| {
        Compile::new(&model).bind("N", 1).target(Target::sum("scores")).wrt(Wrt::names([pattern])).build()
    };
    let names = |pattern: &str| -> Vec<String> {
        compile(pattern).unwrap().gradients().iter().map(|gradient| gradient.name.clone()).collect()
    };
    assert_eq!(names("*.weight"), ["dense.weight", "head.weight"]);
    assert_eq!(names("h*d*"), ["head.bias", "head.weight", "hidden"]);
    assert_eq!(compile("/a/*").unwrap_err().code(), "GC0107");
}

#[test]
fn dimensions_are_bound_by_name_and_by_shape() {
    let model = classifier().model();
    assert_eq!(model.symbols(), ["N"]);
    assert_eq!(model.inputs()[0].to_string(), "f32[N,4]");
    let error = Compile::new(&model).target(Target::sum("scores")).build().unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("GC0203", 4));
    let by_shape = Compile::new(&model).shape("x", &[3, 4]).target(Target::sum("scores")).build().unwrap();
    assert_eq!(by_shape.dims()["N"], 3);
    assert_eq!(by_shape.outputs()[0].ty.to_string(), "f32[3,3]");
    let error = Compile::new(&model).shape("x", &[3, 5]).target(Target::sum("scores")).build().unwrap_err();
    assert_eq!(error.code(), "GC0201");
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let model = classifier().model();
    let compiled = Compile::new(&model).bind("N", 1).target(Target::sum("scores")).build().unwrap();
    let mut session = compiled.session();
    let error = session.run_grad().unwrap_err();
    assert_eq!(error.to_string(), "no value for input «x» (f32[1,4])");
    assert_eq!(error.code(), "GC0202");
    assert_eq!(session.set("x", &[0f64; 4]).unwrap_err().code(), "GC0204");
    assert_eq!(session.set("x", &[0f32; 3]).unwrap_err().code(), "GC0210");
    let error = session.set_literal("x", &Literal::new([4, 1], &[0f32; 4])).unwrap_err();
    assert_eq!(error.to_string(), "input «x» has shape [4,1], the compiled model wants f32[1,4]");
    assert_eq!(error.code(), "GC0201");
    assert_eq!(session.output::<f32>("scores").unwrap_err().code(), "GC0107");
    session.set("x", &[0f32; 4]).unwrap();
    session.run().unwrap();
    assert_eq!(session.grad::<f32>("x").unwrap_err().to_string(), "the last run computed no gradients");
    assert_eq!(session.output::<f64>("scores").unwrap_err().code(), "GC0204");

    let mut wrong = [0f32; 2];
    let error = compiled.call(Inputs::new(), &mut Outputs::new()).unwrap_err();
    assert_eq!(error.code(), "GC0202");
    let inputs = || Inputs::new().with("x", &[0f32; 4]);
    let error = compiled.call(inputs(), &mut Outputs::new().with("scores", &mut wrong)).unwrap_err();
    assert_eq!(error.code(), "GC0210");
    let mut values = [0f32; 3];
    let error =
        compiled.call(inputs().with("x", &[0f32; 4]), &mut Outputs::new().with("scores", &mut values));
    assert_eq!(error.unwrap_err().to_string(), "two buffers for «x»");
    let mut bools = [false; 3];
    let error = compiled.call(inputs(), &mut Outputs::new().with("scores", &mut bools)).unwrap_err();
    assert_eq!(error.code(), "GC0204");
}

#[test]
fn indices_out_of_range_name_the_node() {
    let model = tokens().model();
    for interpreter in [false, true] {
        let compiled = Compile::new(&model)
            .target(Target::sum("scores"))
            .wrt(Wrt::params())
            .interpreter(interpreter)
            .build()
            .unwrap();
        let mut session = compiled.session();
        session.set("ids", &[0i64, 9, 1]).unwrap();
        let error = session.run_grad().unwrap_err();
        assert_eq!(error.to_string(), "index 9 is out of range in Gather «/embedded»");
        assert_eq!(error.code(), "GC0205");
    }
}

#[test]
fn memory_beyond_the_limit_is_refused() {
    let model = identity("1000,1000").model();
    let compile = || Compile::new(&model).target(Target::norm("y"));
    let error = compile().max_memory(5_000_000).build().unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("GC0601", 6));
    assert!(error.to_string().ends_with("above the limit of 4.8 MiB"), "{error}");
    let compiled = compile().max_memory(50_000_000).build().unwrap();
    assert!(compiled.plan().peak() >= 12_000_000);
}

#[test]
fn without_gradients_there_are_none() {
    let model = classifier().model();
    let compiled = Compile::new(&model).bind("N", 1).forward_only().build().unwrap();
    let mut session = compiled.session();
    session.set("x", &[1f32, 2., 3., 4.]).unwrap();
    assert_eq!(session.run_grad().unwrap_err(), Error::NoGradients);
    session.run().unwrap();
    assert_eq!(session.target_value(), None);
    assert_eq!(session.output::<f32>("scores").unwrap().shape(), [1, 3]);
}
