//! Cases 27 to 29: what only goes wrong once a whole graph is compiled: lost writes, memory that is used again too
//! early, buffers that are shared.

use crate::harness::{COMPILED, Engine, Problem, noise};
use crate::support::{Onnx, int, ints};
use gradc::{Inputs, Literal, Outputs};

/// pytorch #180164: slice_scatter and a sum gave, compiled, the right value and the gradient 0.
#[test]
fn famous_27_sum_of_a_scattered_slice() {
    let model = Onnx::new().input("x", "4").input("u", "2").weight("three", &[], &[3.0]);
    let model = model.indices("i", &[1, 2]).node("Mul", "u three", "v");
    let model = model.node("ScatterElements", "x i v", "s").node("ReduceSum", "s", "y").output("y", "1");
    Problem::new(model)
        .at("x", &[1.0])
        .at("u", &[1.0])
        .expect(&[("x", &[1.0, 0.0, 0.0, 1.0]), ("u", &[3.0])]);
    // Written into the middle twice, read as a slice in between, and summed with what stood there.
    let model = Onnx::new().input("x", "3,4").input("u", "1,4").indices("row", &[1]).indices("two", &[2]);
    let model = model.indices("zero", &[0]).node("Unsqueeze", "row zero", "at");
    let model = model.node("ScatterND", "x at u", "s").node("Slice", "s row two zero", "part");
    let model = model.node("Mul", "part part", "square").node("ScatterND", "s at square", "t");
    let model = model.node("Add", "t s", "y").output("y", "3,4");
    let u = noise(4, 2);
    let by_u: Vec<f64> = u.iter().map(|u| 2.0 * u + 1.0).collect();
    let by_x = [[2.0; 4], [0.0; 4], [2.0; 4]].concat();
    let at = Problem::new(model).at("x", &noise(12, 1)).at("u", &u);
    at.expect(&[("x", &by_x), ("u", &by_u)]);
}

/// Normalizations in a row that share their parameters, with residuals, slices and writes between them.
fn chained_norms(length: usize) -> Onnx {
    let dims = format!("6,{length}");
    let mut model = Onnx::new().input("x", &dims).input("scale", &length.to_string());
    model = model.input("shift", &length.to_string()).indices("from", &[1]).indices("to", &[5]);
    model = model.indices("zero", &[0]).indices("rows", &[1, 2, 3, 4]).indices("one", &[1]);
    model = model.node("Unsqueeze", "rows one", "at").node("Identity", "x", "h0");
    for layer in 0..5 {
        let name = |stem: &str| format!("{stem}{layer}");
        let [h, norm, part, active, put] = ["h", "norm", "part", "active", "put"].map(name);
        let next = format!("h{}", layer + 1);
        model = model.node_with("LayerNormalization", &format!("{h} scale shift"), &norm, &[int("axis", -1)]);
        model = model.node("Slice", &format!("{norm} from to zero"), &part);
        model = model.node("Tanh", &part, &active);
        model = model.node("ScatterND", &format!("{norm} at {active}"), &put);
        model = model.node("Add", &format!("{put} {h}"), &next);
    }
    model.node("Identity", "h5", "y").output("y", &dims)
}

/// pytorch #193061: chained layer norms with a shared parameter lost a write through a view and read a stale buffer,
/// from one version to the next.
#[test]
fn famous_28_layer_norms_that_share_parameters() {
    for length in [4, 33] {
        let seed = noise(6 * length, 4);
        let at = Problem::new(chained_norms(length)).at("x", &noise(6 * length, 1)).seed(&seed);
        let at = at.at("scale", &noise(length, 2)).at("shift", &noise(length, 3));
        at.expect_differences(&["x", "scale", "shift"]);
    }
    // Memory that another run has filled, with other numbers and with NaN, leaves no trace.
    let of = |number: u64| {
        let at = Problem::new(chained_norms(33)).at("x", &noise(6 * 33, number)).seed(&noise(6 * 33, 4));
        at.at("scale", &noise(33, number + 1)).at("shift", &noise(33, number + 2))
    };
    let wrt = ["x", "scale", "shift"];
    for engine in COMPILED {
        let mut session = of(1).compile(engine, &wrt).session();
        for problem in [of(1), of(10), of(1).at("x", &[f64::NAN]), of(1)] {
            problem.fill(&mut session);
            session.run_grad().unwrap();
            let found: Vec<Literal> = wrt.iter().map(|name| session.grad_literal(name).unwrap()).collect();
            let fresh = problem.gradients(engine, &wrt);
            for (found, fresh) in found.iter().zip(&fresh) {
                assert_eq!(found.bytes(), fresh.bytes(), "{engine:?}: a run leaves nothing to the next");
            }
        }
    }
}

/// Group normalization by hand: the gradients of the scale and the shift of each of `groups` groups (as opset 18 has
/// them), for an image of `[channels, points]`.
fn group_norm(x: &[f64], seed: &[f64], groups: usize) -> [Vec<f64>; 2] {
    let length = x.len() / groups;
    let of = |group: usize| {
        let (x, seed) = (&x[group * length..][..length], &seed[group * length..][..length]);
        let mean = x.iter().sum::<f64>() / length as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / length as f64;
        let normal = x.iter().map(|x| (x - mean) / (variance + f64::from(1e-5f32)).sqrt());
        (normal.zip(seed).map(|(x, seed)| x * seed).sum::<f64>(), seed.iter().sum::<f64>())
    };
    let (scale, shift) = (0..groups).map(of).unzip();
    [scale, shift]
}

/// pytorch #140913: the weight gradient of a group norm was wrong for channels that come last in memory.
#[test]
fn famous_29_group_norm_with_channels_last() {
    let (points, channels, groups) = (35, 6, 3);
    let model = Onnx::new().input("x", "1,5,7,6").input("scale", "3").input("shift", "3");
    let model = model.node_with("Transpose", "x", "t", &[ints("perm", &[0, 3, 1, 2])]);
    let model = model.node_with("GroupNormalization", "t scale shift", "n", &[int("num_groups", 3)]);
    let model = model.node_with("Transpose", "n", "y", &[ints("perm", &[0, 2, 3, 1])]).output("y", "1,5,7,6");
    let (x, seed) = (noise(points * channels, 1), noise(points * channels, 2));
    let turned = |x: &[f64]| -> Vec<f64> {
        (0..x.len()).map(|place| x[place % points * channels + place / points]).collect()
    };
    let [scale, shift] = group_norm(&turned(&x), &turned(&seed), groups);
    let at = Problem::new(model).at("x", &x).at("scale", &noise(3, 3)).at("shift", &noise(3, 4)).seed(&seed);
    at.expect_near(&[("scale", &scale), ("shift", &shift)]);
    at.expect_differences(&["x", "scale", "shift"]);
}

/// The square of `x`, which the program may want to write over `x`.
fn square() -> Onnx {
    Onnx::new()
        .input("x", "4")
        .node("Exp", "x", "e")
        .node("Mul", "e x", "p")
        .node("Mul", "p x", "y")
        .output("y", "4")
}

/// The derivative of `x² eˣ`.
fn slope(x: f64) -> f64 {
    (x * x + 2.0 * x) * x.exp()
}

/// pytorch #197887, #34082, #85374: an operand changed between forward and backward went unnoticed once compiled. Here
/// the gradient is that of the input at the time of the call that computes it, and no run changes an input.
#[test]
fn famous_29_inputs_changed_between_forward_and_backward() {
    for engine in COMPILED {
        let problem = Problem::new(square()).at("x", &[1.0, 2.0, 3.0, -1.0]);
        let mut session = problem.compile(engine, &["x"]).session();
        problem.fill(&mut session);
        session.run().unwrap();
        session.input_mut::<f64>("x").unwrap().copy_from_slice(&[0.5, 0.0, -2.0, 1.5]);
        session.run_grad().unwrap();
        let wanted = [0.5, 0.0, -2.0, 1.5].map(slope);
        let got = session.grad::<f64>("x").unwrap().as_slice().to_vec();
        assert!(got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-12), "{got:?}");
        assert_eq!(session.input_literal("x").unwrap().to_f64(), [0.5, 0.0, -2.0, 1.5]);
    }
}

/// pytorch #181723: callables returned the same static buffers each time. Here results of a session stay until its own
/// next run, and buffers of the caller are written whole, whatever stood in them.
#[test]
fn famous_29_results_are_not_shared() {
    for engine in COMPILED {
        let first = Problem::new(square()).at("x", &[1.0]);
        let second = Problem::new(square()).at("x", &[2.0]);
        let compiled = first.compile(engine, &["x"]);
        let mut sessions = [compiled.session(), compiled.session()];
        first.fill(&mut sessions[0]);
        second.fill(&mut sessions[1]);
        sessions[0].run_grad().unwrap();
        let kept = sessions[0].grad_literal("x").unwrap();
        sessions[1].run_grad().unwrap();
        assert_eq!(sessions[0].grad_literal("x").unwrap().bytes(), kept.bytes());
        let [one, two] = sessions.map(|session| session.grad_literal("x").unwrap().to_f64());
        assert!((one[0] - slope(1.0)).abs() < 1e-12 && (two[0] - slope(2.0)).abs() < 1e-12);

        let mut buffers = [[f64::NAN; 4], [7.0; 4]];
        for (buffer, x) in buffers.iter_mut().zip([1.0, 2.0]) {
            let inputs = [x; 4];
            let inputs = Inputs::new().with("x", &inputs).with("seed:y", &[1.0; 4]);
            compiled.call(inputs, &mut Outputs::new().gradient("x", buffer)).unwrap();
        }
        assert_eq!(buffers.concat(), [one, two].concat());
    }
}

/// An output that is also an input, a gradient that is its seed, one tensor under two names, a gradient of zeros:
/// what needs no computation must still be copied.
#[test]
fn famous_29_results_that_are_other_tensors() {
    let model = Onnx::new().input("x", "3").input("b", "3").node("Identity", "x", "z");
    let model = model.node("Add", "z b", "y").output("y", "3").output("z", "3");
    let problem = Problem::new(model).at("x", &[1.0, 2.0, 3.0]).at("b", &[0.5]).seed(&[3.0, -1.0, 2.0]);
    for engine in [&[Engine::Interpreter], &COMPILED[..]].concat() {
        let mut session = problem.compile(engine, &["x", "z", "b"]).session();
        problem.fill(&mut session);
        session.run_grad().unwrap();
        for name in ["x", "z", "b"] {
            assert_eq!(session.grad_literal(name).unwrap().to_f64(), [3.0, -1.0, 2.0], "{engine:?}");
        }
        assert_eq!(session.output_literal("z").unwrap().to_f64(), [1.0, 2.0, 3.0]);
        assert_eq!(session.output_literal("y").unwrap().to_f64(), [1.5, 2.5, 3.5]);
    }
}
