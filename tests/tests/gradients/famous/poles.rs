//! Cases 13 to 18: infinities that meet zeros, and what overflows.

use crate::harness::{Problem, everywhere, tensor};
use crate::support::{Onnx, int};
use gradc::{Compile, DType, Model, Target, Wrt};
use gradc_ir::{Builder, Expr, TensorType, Value};
use gradc_passes::{Gradient, vjp};

const INF: f64 = f64::INFINITY;

/// pytorch #2421; jax #3058, #4177, #21723, #2377: the norm of zeros had the gradient 0 times infinity.
#[test]
fn famous_13_norm_of_zeros() {
    let rows = Onnx::new().input("x", "3,2").indices("axes", &[1]);
    let rows = rows.node("ReduceL2", "x axes", "y").output("y", "3,1");
    let at = Problem::new(rows).at("x", &[0.0, 0.0, 3.0, -4.0, 0.0, -0.0]);
    at.expect(&[("x", &[0.0, 0.0, 0.6, -0.8, 0.0, 0.0])]);

    let model: Model = Onnx::new().input("x", "2").node("Identity", "x", "y").output("y", "2").model();
    for level in [0, 3] {
        let compile = Compile::new(&model).optimization(level).target(Target::norm("y")).wrt(Wrt::inputs());
        let mut session = compile.build().unwrap().session();
        session.set::<f32>("x", &[0.0, 0.0]).unwrap();
        session.run_grad().unwrap();
        assert_eq!(session.grad::<f32>("x").unwrap().as_slice(), [0.0, 0.0]);
    }
}

/// jax #5798, #1052; mlx #3692: the branch that is not taken sent NaN back.
#[test]
fn famous_14_root_in_the_branch_not_taken() {
    for (operator, slopes) in [("Sqrt", [0.25, 0.5]), ("Log", [0.25, 1.0]), ("Reciprocal", [-0.0625, -1.0])] {
        let model = Onnx::new().input("x", "4").weight("zero", &[], &[0.0]).node("Greater", "x zero", "mask");
        let model = model.node(operator, "x", "f").node("Where", "mask f zero", "y").output("y", "4");
        for dtype in [DType::F64, DType::F32] {
            let at = Problem::new(model.clone()).dtype(dtype).at("x", &[4.0, 0.0, -1.0, 1.0]);
            at.expect(&[("x", &[slopes[0], 0.0, 0.0, slopes[1]])]);
        }
    }
}

/// seantalts/stanli #144: where a square underflows, the forward was right to the bit and the gradient NaN, at two of
/// three points: one point in a test sees nothing.
#[test]
fn famous_15_root_of_what_underflowed() {
    let model =
        Onnx::new().input("x", "3,1").indices("axes", &[1]).node("Mul", "x x", "s").node("Neg", "s", "n");
    let model = model.node("Exp", "n", "e").node("ReduceL2", "e axes", "y").output("y", "3,1");
    let slope = -2.0 * (-1.0f64).exp();
    Problem::new(model.clone()).at("x", &[1.0, 30.0, -30.0]).expect_near(&[("x", &[slope, 0.0, 0.0])]);
    // e^(-400) is a number of f64 and 0 in f32, as is the square of e^(-100).
    let at = Problem::new(model).dtype(DType::F32).at("x", &[1.0, 20.0, -10.0]);
    at.expect_near(&[("x", &[slope, 0.0, 0.0])]);
}

/// The first and the second derivative of a function of some scalars, by every engine.
fn derivatives(point: &[f64], build: impl for<'b> Fn(&[Expr<'b>]) -> Expr<'b>) -> [Vec<f64>; 2] {
    let builder = Builder::new("derivatives");
    let x: Vec<Value> = (0..point.len())
        .map(|index| builder.input(&format!("x{index}"), TensorType::scalar(DType::F64)))
        .collect();
    let y = build(&x.iter().map(|&x| builder.expr(x)).collect::<Vec<_>>());
    let values = |found: Vec<Gradient>| -> Vec<Value> {
        let value = |gradient| match gradient {
            Gradient::Value(value) | Gradient::Zero { value, .. } => value,
            // A gradient that is constant does not depend on x.
            Gradient::NoPath { .. } => y.splat(0.0).value(),
        };
        found.into_iter().map(value).collect()
    };
    let first = values(vjp(&builder, &[(y.value(), y.splat(1.0).value())], &x).unwrap());
    let sum = first.iter().map(|&value| builder.expr(value)).reduce(|a, b| a + b).expect("some inputs");
    let second = values(vjp(&builder, &[(sum.value(), sum.splat(1.0).value())], &x).unwrap());
    let graph = builder.finish(&[first.clone(), second].concat());
    let inputs: Vec<_> = point.iter().map(|&x| tensor(&[], &[x])).collect();
    let found: Vec<f64> = everywhere(&graph, &inputs).iter().map(|x| x.to_f64()[0]).collect();
    [found[..x.len()].to_vec(), found[x.len()..].to_vec()]
}

/// jax #14397 and #16419, #347 and #383; tinygrad #155: powers at 0 met 0 times infinity and logarithms of what is not
/// positive, in the first or only in the second derivative.
#[test]
fn famous_16_powers_at_0_and_their_second_derivatives() {
    let pow = Onnx::new().input("x", "4").input("e", "4").node("Pow", "x e", "y").output("y", "4");
    let at = Problem::new(pow).at("x", &[0.0, 0.0, 0.0, 2.0]).at("e", &[0.0, 1.0, 2.0, 3.0]);
    at.expect(&[("x", &[0.0, 1.0, 0.0, 12.0]), ("e", &[0.0, 0.0, 0.0, 8.0 * 2.0f64.ln()])]);
    for (exponent, wanted) in [(2.0, [3.0, 2.0]), (3.0, [6.75, 9.0]), (1.0, [1.0, 0.0]), (0.0, [0.0, 0.0])] {
        let constant = Onnx::new().input("x", "2").weight("e", &[], &[exponent as f32]);
        let constant = constant.node("Pow", "x e", "y").output("y", "2");
        let at_0 = if exponent == 1.0 { 1.0 } else { 0.0 };
        Problem::new(constant).at("x", &[0.0, 1.5]).expect(&[("x", &[at_0, wanted[0]])]);
        let [_, second] = derivatives(&[1.5], |x| x[0].pow(x[0].splat(exponent)));
        assert_eq!(second, [wanted[1]], "exponent {exponent}");
        let negative = if exponent == 3.0 { -wanted[1] } else { wanted[1] };
        assert_eq!(derivatives(&[-1.5], |x| x[0].pow(x[0].splat(exponent)))[1], [negative]);
    }
    assert_eq!(derivatives(&[0.0], |x| x[0].pow(x[0].splat(2.0))), [[0.0], [2.0]]);
    assert_eq!(derivatives(&[0.0], |x| x[0].pow(x[0].splat(3.0))), [[0.0], [0.0]]);
}

/// pytorch #31829, #49724, #6864; tinygrad #17822: infinity less infinity where all logits of a line are masked.
#[test]
fn famous_17_softmax_of_minus_infinity() {
    let masked = [-INF, -INF, -INF, 0.0, -INF, 0.0];
    let seed = [1.0, 3.0, 2.0, 1.0, 3.0, 2.0];
    for operator in ["Softmax", "LogSoftmax"] {
        let model = Onnx::new().input("x", "2,3").node_with(operator, "x", "y", &[int("axis", 1)]);
        let model = model.output("y", "2,3");
        for dtype in [DType::F64, DType::F32] {
            let at = Problem::new(model.clone()).dtype(dtype).at("x", &masked);
            match operator {
                // The mean of the seeds of the line is 1.5; each softmax is a half.
                "Softmax" => at.seed(&seed).expect(&[("x", &[0.0, 0.0, 0.0, -0.25, 0.0, 0.25])]),
                // Without weight on the masked one; its own logarithm has a slope of its own.
                _ => at
                    .seed(&[1.0, 3.0, 2.0, 1.0, 0.0, 2.0])
                    .expect(&[("x", &[0.0, 0.0, 0.0, -0.5, 0.0, 0.5])]),
            }
        }
    }
    let model = Onnx::new().input("x", "2,3").indices("axes", &[1]);
    let model = model.node("ReduceLogSumExp", "x axes", "y").output("y", "2,1");
    Problem::new(model).at("x", &masked).expect(&[("x", &[0.0, 0.0, 0.0, 0.5, 0.0, 0.5])]);
}

/// pytorch #795: NaN from the exponentials of large logits.
#[test]
fn famous_18_log_softmax_of_large_logits() {
    let model = Onnx::new().input("x", "1,2").node_with("LogSoftmax", "x", "y", &[int("axis", 1)]);
    let model = model.output("y", "1,2");
    for (dtype, sizes) in [(DType::F64, [1e3, 1e300]), (DType::F32, [1e3, 1e38]), (DType::F16, [1e3, 6e4])] {
        for size in sizes {
            let at = Problem::new(model.clone()).dtype(dtype).at("x", &[size, -size]).seed(&[0.0, 1.0]);
            at.expect(&[("x", &[-1.0, 1.0])]);
        }
    }
}
