//! The table of `docs/conventions.md`, row by row: what PyTorch 2.15.0 and JAX 0.10.2 answer (measured in f64), and that
//! every engine answers as the table says. The tests are named as in the table's last column.

use crate::harness::{Problem, everywhere, tensor};
use crate::support::{Onnx, float, int, ints};
use gradc_ir::{BinaryOp, Builder, TensorType};
use gradc_passes::{Gradient, vjp};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;
const CONVENTIONS: &str = include_str!("../../../docs/conventions.md");

/// A row of the table: what it is about, and what others answer, one number for each element of all gradients. Where
/// JAX has no such function or several, its list is empty.
struct Row {
    at: &'static str,
    pytorch: &'static [f64],
    jax: &'static [f64],
}

fn cells(at: &str) -> Vec<String> {
    let rows = CONVENTIONS.lines().filter(|line| line.starts_with("| "));
    let split = |row: &str| row.split(" | ").map(|cell| cell.trim_matches(['|', ' ']).to_string()).collect();
    let mut found = rows.map(split).filter(|cells: &Vec<String>| cells[0] == at);
    found.next().unwrap_or_else(|| panic!("docs/conventions.md has no row «{at}»"))
}

impl Row {
    /// gradc answers this. It is what PyTorch answers, but where the table says that it is better than NaN.
    #[track_caller]
    fn is(&self, gradc: &[f64]) {
        let cells = cells(self.at);
        let better = cells[3].contains("better");
        assert_eq!(gradc.len(), self.pytorch.len(), "{}: as many numbers", self.at);
        for (gradc, pytorch) in gradc.iter().zip(self.pytorch) {
            let same =
                (gradc - pytorch).abs() <= 1e-7 || gradc == pytorch || gradc.is_nan() && pytorch.is_nan();
            let mended = better && pytorch.is_nan() && gradc.is_finite();
            assert!(same || mended, "{}: PyTorch answers {pytorch}, gradc {gradc}", self.at);
        }
        let agrees = |(jax, pytorch): (&f64, &f64)| jax == pytorch || jax.is_nan() && pytorch.is_nan();
        let jax_agrees = self.jax.iter().zip(self.pytorch).all(agrees);
        let column = cells[2] == "the same" || cells[2] == cells[1] || cells[2] == "–";
        let told =
            if column { jax_agrees } else { self.jax.is_empty() || !jax_agrees || cells[1].contains("amax") };
        assert!(told, "{}: the column of JAX says {:?}, the test {:?}", self.at, cells[2], self.jax);
    }

    /// As [`Row::is`], and every engine finds it.
    #[track_caller]
    fn holds(&self, problem: &Problem, wanted: &[(&str, &[f64])]) {
        self.is(&wanted.iter().flat_map(|(_, gradient)| gradient.iter().copied()).collect::<Vec<_>>());
        problem.expect(wanted);
    }
}

/// `y = operator(x)`, elementwise.
fn unary(operator: &str, x: &[f64], attributes: &[gradc_frontend_onnx::proto::AttributeProto]) -> Problem {
    let length = x.len().to_string();
    let model =
        Onnx::new().input("x", &length).node_with(operator, "x", "y", attributes).output("y", &length);
    Problem::new(model).at("x", x)
}

/// `y = operator(a, b)` of two scalars.
fn binary(operator: &str, a: f64, b: f64) -> Problem {
    let model = Onnx::new().input("a", "").input("b", "").node(operator, "a b", "y").output("y", "");
    Problem::new(model).at("a", &[a]).at("b", &[b])
}

/// `y` is `operator(x)` over all of `x`.
fn over(operator: &str, x: &[f64]) -> Problem {
    let model = Onnx::new().input("x", &x.len().to_string()).node(operator, "x", "y").output("y", "1");
    Problem::new(model).at("x", x)
}

#[test]
fn relu_at_0() {
    let row = Row { at: "Relu at 0", pytorch: &[0.0], jax: &[0.0] };
    row.holds(&unary("Relu", &[0.0], &[]), &[("x", &[0.0])]);
}

#[test]
fn clamp_at_its_bounds() {
    let row = Row { at: "Clip, Relu6, Hardtanh at a bound", pytorch: &[0.0, 0.0], jax: &[] };
    let model = Onnx::new().input("x", "2").weight("low", &[], &[0.0]).weight("high", &[], &[6.0]);
    let model = model.node("Clip", "x low high", "y").output("y", "2");
    let problem = Problem::new(model).at("x", &[0.0, 6.0]);
    row.holds(&problem, &[("x", &[0.0, 0.0])]);
    problem.expect(&[("low", &[0.0]), ("high", &[0.0])]);
    problem.at("x", &[-1.0, 9.0]).expect(&[("x", &[0.0, 0.0]), ("low", &[1.0]), ("high", &[1.0])]);
}

#[test]
fn maximum_of_equals() {
    let row = Row { at: "Max, Min of equal operands", pytorch: &[0.5, 0.5], jax: &[0.5, 0.5] };
    for operator in ["Max", "Min"] {
        row.holds(&binary(operator, 1.5, 1.5), &[("a", &[0.5]), ("b", &[0.5])]);
        row.holds(&binary(operator, 0.0, -0.0), &[("a", &[0.5]), ("b", &[0.5])]);
    }
}

#[test]
fn reduce_max_of_equals() {
    let at = "ReduceMax, ReduceMin over `[2,2,1]`";
    let row = Row { at, pytorch: &[0.5, 0.5, 0.0], jax: &[0.5, 0.5, 0.0] };
    row.holds(&over("ReduceMax", &[2.0, 2.0, 1.0]), &[("x", &[0.5, 0.5, 0.0])]);
    over("ReduceMin", &[2.0, 2.0, 1.0]).expect(&[("x", &[0.0, 0.0, 1.0])]);
    over("ReduceMin", &[1.0, 1.0, 2.0]).expect(&[("x", &[0.5, 0.5, 0.0])]);
}

#[test]
fn max_pool_of_equals_takes_the_first() {
    let at = "MaxPool with equal elements in a window";
    let row = Row { at, pytorch: &[1.0, 0.0, 1.0, 0.0], jax: &[1.0, 0.0, 1.0, 0.0] };
    let attributes = [ints("kernel_shape", &[2]), ints("strides", &[2])];
    let model =
        Onnx::new().input("x", "1,1,4").node_with("MaxPool", "x", "y", &attributes).output("y", "1,1,2");
    row.holds(&Problem::new(model).at("x", &[1.0, 1.0, 3.0, 3.0]), &[("x", &[1.0, 0.0, 1.0, 0.0])]);
}

#[test]
fn max_pool_over_nothing_gives_nothing() {
    let row = Row { at: "MaxPool with a window wholly in the padding", pytorch: &[0.0, 1.0], jax: &[] };
    let attributes = [ints("kernel_shape", &[2]), ints("strides", &[2]), ints("pads", &[2, 2])];
    let model =
        Onnx::new().input("x", "1,1,2").node_with("MaxPool", "x", "y", &attributes).output("y", "1,1,3");
    row.holds(&Problem::new(model).at("x", &[1.0, 3.0]), &[("x", &[0.0, 1.0])]);
}

#[test]
fn top_k_of_equals_takes_the_first() {
    let wanted = &[0.0, 1.0, 0.0, 0.0];
    let row = Row { at: "TopK with equal elements", pytorch: wanted, jax: wanted };
    let model = Onnx::new().input("x", "4").indices("k", &[1]).node("TopK", "x k", "y i").output("y", "1");
    row.holds(&Problem::new(model).at("x", &[1.0, 3.0, 3.0, 0.0]), &[("x", wanted)]);
}

#[test]
fn abs_at_0() {
    let row = Row { at: "Abs at 0", pytorch: &[0.0], jax: &[1.0] };
    row.holds(&unary("Abs", &[0.0], &[]), &[("x", &[0.0])]);
}

#[test]
fn leaky_relu_at_0() {
    let row = Row { at: "LeakyRelu at 0, slope 0.1", pytorch: &[0.1], jax: &[1.0] };
    let problem = unary("LeakyRelu", &[0.0], &[float("alpha", 0.1)]);
    row.holds(&problem, &[("x", &[f64::from(0.1f32)])]);
}

#[test]
fn elu_at_0() {
    let row = Row { at: "Elu at 0, alpha 2", pytorch: &[2.0], jax: &[2.0] };
    row.holds(&unary("Elu", &[0.0], &[float("alpha", 2.0)]), &[("x", &[2.0])]);
}

#[test]
fn hard_sigmoid_and_hard_swish_at_their_kinks() {
    let at = "HardSigmoid with slope 1/6 at -3 and 3; HardSwish at -3 and 3";
    let row = Row { at, pytorch: &[0.0, 0.0, 0.0, 1.0], jax: &[0.0, 0.0, 0.0, 1.0] };
    row.is(&[0.0, 0.0, 0.0, 1.0]);
    unary("HardSigmoid", &[-3.0, 3.0], &[float("alpha", 1.0 / 6.0)]).expect(&[("x", &[0.0, 0.0])]);
    unary("HardSwish", &[-3.0, 3.0], &[]).expect(&[("x", &[0.0, 1.0])]);
}

#[test]
fn sqrt_at_0() {
    let row = Row { at: "Sqrt at 0", pytorch: &[INF], jax: &[INF] };
    let problem = unary("Sqrt", &[0.0], &[]);
    row.holds(&problem, &[("x", &[INF])]);
    problem.seed(&[0.0]).expect(&[("x", &[0.0])]);
}

#[test]
fn root_as_power_at_0() {
    let row = Row { at: "`x^0.5` at 0", pytorch: &[INF], jax: &[INF] };
    let model = Onnx::new().input("x", "").weight("e", &[], &[0.5]).node("Pow", "x e", "y").output("y", "");
    row.holds(&Problem::new(model).at("x", &[0.0]), &[("x", &[INF])]);
}

#[test]
fn norm_of_zeros() {
    let row = Row { at: "ReduceL2 of zeros", pytorch: &[0.0, 0.0], jax: &[NAN, NAN] };
    row.holds(&over("ReduceL2", &[0.0, 0.0]), &[("x", &[0.0, 0.0])]);
}

/// `y = Where(x > 0, operator(x), 0)`.
fn masked(operator: &str, x: &[f64]) -> Problem {
    let length = x.len().to_string();
    let model = Onnx::new().input("x", &length).weight("zero", &[], &[0.0]).node("Greater", "x zero", "mask");
    let model = model.node(operator, "x", "f").node("Where", "mask f zero", "y").output("y", &length);
    Problem::new(model).at("x", x)
}

#[test]
fn sqrt_in_the_branch_not_taken() {
    let row = Row { at: "Where(x > 0, Sqrt(x), 0) at 0 and below", pytorch: &[NAN, NAN], jax: &[NAN, NAN] };
    row.holds(&masked("Sqrt", &[0.0, -1.0]), &[("x", &[0.0, 0.0])]);
}

#[test]
fn other_singularities_in_the_branch_not_taken() {
    let at = "the same with log, 1/x, x/x, x log x, powers, acos, acosh, atanh, atan2, ...";
    let operators: [(&str, &[f64]); 6] = [
        ("Log", &[NAN, 0.0, 0.0]),
        ("Reciprocal", &[NAN, 0.0, 0.0]),
        ("Acos", &[0.0, NAN, NAN]),
        ("Asin", &[0.0, NAN, NAN]),
        ("Acosh", &[NAN, NAN, 0.0]),
        ("Atanh", &[0.0, NAN, 0.0]),
    ];
    for (operator, pytorch) in operators {
        let row = Row { at, pytorch, jax: &[] };
        row.holds(&masked(operator, &[0.0, -1.0, -2.0]), &[("x", &[0.0, 0.0, 0.0])]);
    }
    let model = Onnx::new().input("x", "2").weight("zero", &[], &[0.0]).node("Greater", "x zero", "mask");
    let model =
        model.node("Div", "x x", "q").node("Log", "x", "l").node("Mul", "x l", "p").node("Add", "q p", "s");
    let model = model.node("Pow", "x l", "w").node("Add", "s w", "f").node("Where", "mask f zero", "y");
    Problem::new(model.output("y", "2")).at("x", &[0.0, -1.0]).expect(&[("x", &[0.0, 0.0])]);
}

#[test]
fn pow_at_0_0() {
    let row = Row { at: "Pow(0, 0) in base and exponent", pytorch: &[0.0, 0.0], jax: &[NAN, 0.0] };
    row.holds(&binary("Pow", 0.0, 0.0), &[("a", &[0.0]), ("b", &[0.0])]);
}

#[test]
fn pow_of_a_negative_base() {
    let row = Row { at: "Pow(-2, 3) in the exponent", pytorch: &[NAN], jax: &[NAN] };
    row.holds(&binary("Pow", -2.0, 3.0), &[("b", &[NAN])]);
    binary("Pow", -2.0, 3.0).expect(&[("a", &[12.0])]);
    binary("Pow", -2.0, 3.0).expect(&[("a", &[12.0]), ("b", &[NAN])]);
}

#[test]
fn product_with_zeros() {
    let wanted = &[6.0, 0.0, 0.0];
    Row { at: "ReduceProd with zeros", pytorch: wanted, jax: wanted }
        .holds(&over("ReduceProd", &[0.0, 2.0, 3.0]), &[("x", wanted)]);
    over("ReduceProd", &[0.0, 0.0, 3.0]).expect(&[("x", &[0.0, 0.0, 0.0])]);
}

#[test]
fn softmax_of_minus_infinity() {
    let at = "Softmax, LogSoftmax, ReduceLogSumExp of a line that is all -∞";
    let row = Row { at, pytorch: &[NAN, NAN], jax: &[NAN, NAN] };
    let x = [-INF, -INF];
    row.holds(&over("ReduceLogSumExp", &x), &[("x", &[0.0, 0.0])]);
    for operator in ["Softmax", "LogSoftmax"] {
        row.holds(&unary(operator, &x, &[int("axis", 0)]).seed(&[1.0, 3.0]), &[("x", &[0.0, 0.0])]);
    }
}

#[test]
fn log_softmax_of_large_logits() {
    let at = "LogSoftmax of `[1000,-1000]`, second element";
    let row = Row { at, pytorch: &[-1.0, 1.0], jax: &[-1.0, 1.0] };
    let problem = unary("LogSoftmax", &[1000.0, -1000.0], &[int("axis", 0)]).seed(&[0.0, 1.0]);
    row.holds(&problem, &[("x", &[-1.0, 1.0])]);
}

#[test]
fn deviation_of_equals() {
    let row = Row { at: "standard deviation of equal values", pytorch: &[0.0; 3], jax: &[NAN; 3] };
    let centered =
        Onnx::new().input("x", "3").node("ReduceMean", "x", "mean").node("Sub", "x mean", "centered");
    let norm = centered.clone().node("ReduceL2", "centered", "y").output("y", "1");
    row.holds(&Problem::new(norm).at("x", &[2.0; 3]), &[("x", &[0.0; 3])]);
    // As files write it without an epsilon: infinity times 0, as PyTorch answers for the same formula.
    let root = centered.node("Mul", "centered centered", "squares").node("ReduceMean", "squares", "variance");
    let root = root.node("Sqrt", "variance", "y").output("y", "1");
    Problem::new(root).at("x", &[2.0; 3]).expect(&[("x", &[NAN; 3])]);
}

/// ONNX has no such operator; the IR has.
#[test]
fn atan2_at_0_0() {
    let row = Row { at: "atan2(0, 0)", pytorch: &[0.0, 0.0], jax: &[NAN, NAN] };
    let builder = Builder::new("atan2");
    let scalar = || TensorType::scalar(gradc_ir::DType::F64);
    let (y, x) = (builder.input("y", scalar()), builder.input("x", scalar()));
    let angle = builder.expr(y).binary(BinaryOp::Atan2, builder.expr(x));
    let found = vjp(&builder, &[(angle.value(), angle.splat(1.0).value())], &[y, x]).unwrap();
    let [Gradient::Value(by_y), Gradient::Value(by_x)] = found[..] else { panic!("{found:?}") };
    let found = everywhere(&builder.finish(&[by_y, by_x]), &[tensor(&[], &[0.0]), tensor(&[], &[0.0])]);
    row.is(&[found[0].to_f64()[0], found[1].to_f64()[0]]);
    assert_eq!([found[0].to_f64()[0], found[1].to_f64()[0]], [0.0, 0.0]);
}

#[test]
fn true_singularities() {
    let row = Row { at: "x/x at 0; Acos at 1; Log at 0", pytorch: &[NAN, -INF, INF], jax: &[NAN, -INF, INF] };
    row.is(&[NAN, -INF, INF]);
    let quotient = Onnx::new().input("x", "").node("Div", "x x", "y").output("y", "");
    Problem::new(quotient).at("x", &[0.0]).expect(&[("x", &[NAN])]);
    unary("Acos", &[1.0], &[]).expect(&[("x", &[-INF])]);
    unary("Log", &[0.0], &[]).expect(&[("x", &[INF])]);
}

#[test]
fn steps_are_flat() {
    let row = Row { at: "Sign, Round, Floor, Ceil", pytorch: &[0.0; 3], jax: &[0.0; 3] };
    for operator in ["Sign", "Round", "Floor", "Ceil"] {
        row.holds(&unary(operator, &[0.0, 0.5, 2.0], &[]), &[("x", &[0.0; 3])]);
    }
}

#[test]
fn remainder() {
    let row = Row { at: "Mod with fmod, `5 mod 3`", pytorch: &[1.0, -1.0], jax: &[1.0, -1.0] };
    let model = Onnx::new().input("a", "").input("b", "");
    let model = model.node_with("Mod", "a b", "y", &[int("fmod", 1)]).output("y", "");
    row.holds(&Problem::new(model).at("a", &[5.0]).at("b", &[3.0]), &[("a", &[1.0]), ("b", &[-1.0])]);
}

#[test]
fn softplus_and_sigmoid_far_out() {
    let at = "Softplus at 0 and 1000; Sigmoid at -1000";
    let row = Row { at, pytorch: &[0.5, 1.0, 0.0], jax: &[0.5, 1.0, 0.0] };
    row.is(&[0.5, 1.0, 0.0]);
    unary("Softplus", &[0.0, 1000.0], &[]).expect(&[("x", &[0.5, 1.0])]);
    unary("Sigmoid", &[-1000.0], &[]).expect(&[("x", &[0.0])]);
}

#[test]
fn repeated_gather() {
    let row = Row { at: "Gather with the indices `[0,0,1]`", pytorch: &[2.0, 1.0], jax: &[2.0, 1.0] };
    let model =
        Onnx::new().input("x", "2").indices("i", &[0, 0, 1]).node("Gather", "x i", "y").output("y", "3");
    row.holds(&Problem::new(model).at("x", &[5.0, 6.0]), &[("x", &[2.0, 1.0])]);
}

/// Others have no such function: they write `x / max(norm, epsilon)`.
#[test]
fn lp_normalization_of_zeros() {
    assert!(cells("LpNormalization of zeros")[3].starts_with('0'));
    for p in [1, 2] {
        let attributes = [int("axis", 0), int("p", p)];
        unary("LpNormalization", &[0.0, 0.0], &attributes).expect(&[("x", &[0.0, 0.0])]);
    }
}

/// Each row of the table names a test that stands here and in `passes/tests/grad/kinks.rs`, or the file that it names.
#[test]
fn every_row_is_held() {
    let below = CONVENTIONS.lines().skip_while(|line| !line.starts_with("| at |")).skip(2);
    let rows: Vec<&str> = below.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 28, "the table of docs/conventions.md was found");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let own = "tests/tests/gradients/kinks.rs";
    for row in rows {
        let cell = row.trim_end_matches(['|', ' ']).rsplit(" | ").next().unwrap_or_default();
        let mut quoted = cell.split('`').skip(1).step_by(2);
        let name = quoted.next().unwrap_or_default();
        for path in [own, quoted.next().unwrap_or("passes/tests/grad/kinks.rs")] {
            assert!(read(path).contains(&format!("fn {name}()")), "{path} has no test for the row {row}");
        }
        let at = row.trim_start_matches('|').split(" | ").next().unwrap_or_default().trim();
        assert!(read(own).contains(&format!("\"{at}\"")), "no test records the row {row}");
    }
}
