//! Gradients that pass straight through what rounds: by hand, by both engines, with values that stay as they are.

use crate::support::*;
use gradc::{Compile, DType, Model, Target, Wrt};

const U8: i32 = 2;
const I8: i32 = 3;

/// The gradient of `y` weighted with cotangents by a tensor, and `y`, in this type.
fn run(model: &Model, straight: &[&str], of: &str, x: &[f64], g: &[f64], interpreter: bool) -> [Vec<f64>; 2] {
    let compile = Compile::new(model).dtype(DType::F64).target(Target::seed("y")).wrt(Wrt::names([of]));
    let compile = compile.straight_through(straight.iter().copied()).interpreter(interpreter);
    let mut session = compile.build().unwrap().session();
    session.set("x", x).unwrap();
    session.set("seed:y", g).unwrap();
    session.run_grad().unwrap();
    [session.grad::<f64>(of).unwrap().as_slice().to_vec(), session.output_literal("y").unwrap().to_f64()]
}

/// Holds the gradient to these numbers, the engines to each other, and the values to those without the request.
#[track_caller]
fn expect(model: Onnx, straight: &[&str], of: &str, x: &[f64], g: &[f64], expected: &[f64]) {
    let model = model.model();
    let [native, values] = run(&model, straight, of, x, g, false);
    assert_close(&native, expected, 1e-12);
    let [interpreted, other] = run(&model, straight, of, x, g, true);
    assert_close(&interpreted, expected, 1e-12);
    let forward = |interpreter: bool| {
        let compile = Compile::new(&model).dtype(DType::F64).forward_only().interpreter(interpreter);
        let mut session = compile.build().unwrap().session();
        session.set("x", x).unwrap();
        session.run().unwrap();
        session.output_literal("y").unwrap().to_f64()
    };
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<u64>>();
    assert_eq!(bits(&values), bits(&forward(false)));
    assert_eq!(bits(&other), bits(&forward(true)));
}

fn pair(dims: &str) -> Onnx {
    Onnx::new().input("x", dims).weight("scale", &[], &[0.5]).integers("zero", I8, &[], &[3]).node(
        "QuantizeLinear",
        "x scale zero",
        "q",
    )
}

#[test]
fn rounded_floats() {
    for operator in ["Round", "Floor", "Ceil"] {
        let model = Onnx::new()
            .input("x", "4")
            .node("Mul", "x x", "square")
            .node(operator, "square", "whole")
            .node("Mul", "whole x", "y")
            .output("y", "4");
        let x = [0.3, -1.2, 2.5, 0.0];
        let g = [1.0, 2.0, -1.0, 1.0];
        let step = |x: f64| match operator {
            "Round" => x.round_ties_even(),
            "Floor" => x.floor(),
            _ => x.ceil(),
        };
        let expected: Vec<f64> = x.iter().zip(g).map(|(&x, g)| g * (step(x * x) + x * (2.0 * x))).collect();
        expect(model.clone(), &[operator], "x", &x, &g, &expected);
        expect(model, &["/whole"], "x", &x, &g, &expected);
    }
}

/// As in PyTorch, what counts is the rounded number: -128 and 127 are inside.
#[test]
fn quantized_per_tensor() {
    let model = pair("6").node("DequantizeLinear", "q scale zero", "y").output("y", "6");
    // Rounded, with the zero point: -128, -129 (-131.5 is a tie), 127 (124.5 is one), 128, 3, 5.
    let x = [-65.7, -65.75, 62.25, 62.3, 0.0, 1.0];
    let g = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    expect(model, &["QuantizeLinear"], "x", &x, &g, &[1.0, 0.0, 3.0, 0.0, 5.0, 6.0]);
}

/// Differences of a whole step are exact where everything else is linear.
#[test]
fn differences_of_a_step() {
    let model = pair("3").node("DequantizeLinear", "q scale zero", "y").output("y", "3").model();
    let (x, g) = ([0.6, -3.0, 10.2], [1.0, -2.0, 0.5]);
    let [gradient, _] = run(&model, &["QuantizeLinear"], "x", &x, &g, false);
    for position in 0..3 {
        let at = |step: f64| {
            let mut moved = x;
            moved[position] += step;
            let [_, y] = run(&model, &["QuantizeLinear"], "x", &moved, &g, false);
            y.iter().zip(g).map(|(y, g)| y * g).sum::<f64>()
        };
        assert!((at(0.5) - at(-0.5) - gradient[position]).abs() < 1e-12);
    }
}

#[test]
fn quantized_per_axis_and_moved() {
    let model = Onnx::new()
        .input("x", "2,3")
        .weight("scale", &[2], &[0.5, 2.0])
        .integers("zero", U8, &[2], &[10, 0])
        .indices("order", &[2, 0, 0])
        .indices("shape", &[6])
        .node_with("QuantizeLinear", "x scale zero", "q", &[int("axis", 0)])
        .node_with("Transpose", "q", "turned", &[ints("perm", &[1, 0])])
        .node_with("Gather", "turned order", "chosen", &[int("axis", 0)])
        .node_with("DequantizeLinear", "chosen scale zero", "numbers", &[int("axis", 1)])
        .node("Reshape", "numbers shape", "y")
        .output("y", "6");
    // The second element of the first row is never chosen, -5.3 is below the first row's range (-5 up), -1 below the
    // second's.
    let x = [-5.3, 1.0, 7.0, 60.0, 2.0, -1.2];
    let g = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    expect(model, &["QuantizeLinear"], "x", &x, &g, &[0.0, 0.0, 1.0, 10.0, 0.0, 0.0]);
}

#[test]
fn pools_of_integers() {
    let model = pair("1,1,4")
        .node_with("MaxPool", "q", "greatest", &[ints("kernel_shape", &[2]), ints("strides", &[2])])
        .node("DequantizeLinear", "greatest scale zero", "wide")
        .node_with("Concat", "wide wide", "y", &[int("axis", 2)])
        .output("y", "1,1,4");
    expect(
        model,
        &["QuantizeLinear"],
        "x",
        &[1.0, 2.0, 4.0, 3.0],
        &[1.0, 2.0, 4.0, 8.0],
        &[0.0, 5.0, 10.0, 0.0],
    );
}

/// The rounding passes, all else is differentiated as it stands: the rule of learned step sizes.
#[test]
fn the_scale_of_a_pair() {
    let model = pair("3").node("DequantizeLinear", "q scale zero", "y").output("y", "3");
    let (x, g) = ([0.7, -3.1, 100.0], [1.0, 2.0, 4.0]);
    let inside = |x: f64| (x / 0.5).round_ties_even() - x / 0.5;
    expect(
        model,
        &["QuantizeLinear"],
        "scale",
        &x,
        &g,
        &[inside(0.7) + 2.0 * inside(-3.1) + 4.0 * (127.0 - 3.0)],
    );
}

#[test]
fn one_node_of_two() {
    let model = Onnx::new()
        .input("x", "2")
        .node("Round", "x", "a")
        .node("Ceil", "x", "b")
        .node("Add", "a b", "y")
        .output("y", "2");
    expect(model.clone(), &["/a"], "x", &[0.2, 0.7], &[1.0, 3.0], &[1.0, 3.0]);
    expect(model, &["/a", "Ceil"], "x", &[0.2, 0.7], &[1.0, 3.0], &[2.0, 6.0]);
}

#[test]
fn products_of_integers() {
    // x 1x2 in 8 bits of its own times 2x2, as exporters write dynamic quantization.
    let model = Onnx::new()
        .input("x", "1,2")
        .integers("w", I8, &[2, 2], &[3, -1, 4, 2])
        .integers("w.zero", I8, &[], &[1])
        .weight("w.scale", &[], &[0.25])
        .node("DynamicQuantizeLinear", "x", "q scale zero")
        .node("MatMulInteger", "q w zero w.zero", "sum")
        .node_with("Cast", "sum", "number", &[int("to", 1)])
        .node("Mul", "scale w.scale", "unit")
        .node("Mul", "number unit", "y")
        .output("y", "1,2");
    let g = [1.0, 2.0];
    // w as numbers: 0.5 -0.5; 0.75 0.25.
    expect(model, &["DynamicQuantizeLinear"], "x", &[0.3, -1.7], &g, &[0.5 - 1.0, 0.75 + 0.5]);
}

#[test]
fn convolutions_of_integers() {
    let model = pair("1,1,3")
        .integers("w", I8, &[1, 1, 2], &[3, -1])
        .weight("w.scale", &[], &[2.0])
        .integers("w.zero", I8, &[], &[0])
        .weight("out.scale", &[], &[4.0])
        .integers("out.zero", U8, &[], &[7])
        .node("QLinearConv", "q scale zero w w.scale w.zero out.scale out.zero", "c")
        .node("DequantizeLinear", "c out.scale out.zero", "y")
        .output("y", "1,1,2");
    // The weights are 6 and -2. The second sum, -40, is below the range, which begins at -7 * 4.
    let x = [30.0, 0.0, 20.0];
    let g = [1.0, 10.0];
    expect(model, &["QuantizeLinear", "QLinearConv"], "x", &x, &g, &[6.0, -2.0, 0.0]);
}

#[test]
fn conversions_there_and_back() {
    let model = Onnx::new()
        .input("x", "3")
        .node_with("Cast", "x", "whole", &[int("to", 3)])
        .node_with("Cast", "whole", "y", &[int("to", 1)])
        .output("y", "3");
    expect(model, &["Cast"], "x", &[1.7, -2.2, 300.0], &[1.0, 2.0, 4.0], &[1.0, 2.0, 0.0]);
}

#[test]
fn a_weight_that_is_quantized() {
    let model = Onnx::new()
        .input("x", "1,2")
        .weight("w", &[2, 1], &[0.3, 80.0])
        .weight("scale", &[], &[0.5])
        .integers("zero", I8, &[], &[0])
        .node("QuantizeLinear", "w scale zero", "q")
        .node("DequantizeLinear", "q scale zero", "numbers")
        .node("MatMul", "x numbers", "y")
        .output("y", "1,1");
    expect(model, &["QuantizeLinear"], "w", &[3.0, 5.0], &[2.0], &[6.0, 0.0]);
}

/// The length is that of the values told; the limit has no gradient.
#[test]
fn a_range_follows_its_start_and_its_step() {
    use gradc::Literal;
    let model = Onnx::new()
        .input("start", "")
        .input("limit", "")
        .input("step", "")
        .node("Range", "start limit step", "y")
        .output("y", "N")
        .model();
    for interpreter in [false, true] {
        let told = [("start", 1.0f32), ("limit", 2.75), ("step", 0.5)];
        let compile = Compile::new(&model).target(Target::seed("y")).wrt(Wrt::inputs());
        let compile =
            told.iter().fold(compile, |c, (name, value)| c.input_hint(*name, Literal::scalar(*value)));
        let compiled = compile.interpreter(interpreter).build().unwrap();
        assert_eq!(compiled.warnings().len(), 1, "{:?}", compiled.warnings());
        let mut session = compiled.session();
        session.set("seed:y", &[1f32, 2.0, 4.0, 8.0]).unwrap();
        session.run_grad().unwrap();
        assert_eq!(session.output::<f32>("y").unwrap().as_slice(), [1.0, 1.5, 2.0, 2.5]);
        let slope = |name: &str| session.grad_literal(name).unwrap().to_f64()[0];
        assert_eq!(["start", "limit", "step"].map(slope), [15.0, 0.0, 2.0 + 8.0 + 24.0]);
    }
}

#[test]
fn names_that_round_nothing_are_refused() {
    let model = pair("3").node("DequantizeLinear", "q scale zero", "y").output("y", "3").model();
    let build = |name: &str| {
        Compile::new(&model).target(Target::sum("y")).straight_through([name]).build().err().unwrap()
    };
    let error = build("Quantizelinear");
    assert_eq!((error.code(), error.help().as_str()), ("GC0107", "did you mean QuantizeLinear?"));
    let error = build("Floor");
    assert_eq!(error.to_string(), "no node of the model that rounds is «Floor», or is called so");
    let warned = Onnx::new().input("x", "2").node("Round", "x", "y").output("y", "2").model();
    let compiled = Compile::new(&warned).target(Target::sum("y")).build().unwrap();
    let warning = compiled.warnings()[0].to_string();
    assert!(warning.ends_with("; --straight-through Round lets it pass"), "{warning}");
}
