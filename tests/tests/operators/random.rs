//! Random operators: their distributions on many draws. All numbers are fixed by the seeds, so these tests always see
//! the same ones; the bounds are those that one set of truly random numbers in a thousand would exceed.

use super::*;
use gradc::{Target, Wrt};

const DRAWS: usize = 100_000;

/// No inputs: outputs of nodes.
fn nodes(outputs: &str, nodes: Vec<NodeProto>) -> ModelProto {
    model(graph("", outputs, nodes))
}

fn draw(op_type: &str, output: &str) -> NodeProto {
    node(op_type, output, "", output).with(ints("shape", &[DRAWS as i64]))
}

fn numbers(proto: &ModelProto) -> Vec<Vec<f64>> {
    let outputs = outputs(&load(proto), &[]).expect("it runs");
    outputs.iter().map(Literal::to_f64).collect()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (mean(x), mean(y));
    let sum = |a: &[f64], ma: f64, b: &[f64], mb: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum()
    };
    sum(x, mx, y, my) / (sum(x, mx, x, mx) * sum(y, my, y, my)).sqrt()
}

/// The statistic of Kolmogorov and Smirnov for numbers that should be uniform in [0, 1], times the root of their number:
/// above 1.95 for one set in a thousand.
fn unevenness(x: &[f64]) -> f64 {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = x.len() as f64;
    let gap =
        |(at, &x): (usize, &f64)| (x - at as f64 / count).abs().max(((at + 1) as f64 / count - x).abs());
    sorted.iter().enumerate().map(gap).fold(0.0, f64::max) * count.sqrt()
}

/// Within as many standard errors as one set in a thousand exceeds.
#[track_caller]
fn near(got: f64, wanted: f64, deviation: f64, draws: usize) {
    let bound = 3.3 * deviation / (draws as f64).sqrt();
    assert!((got - wanted).abs() < bound, "{got}, expected {wanted} within {bound}");
}

#[test]
fn uniform_numbers_are_even() {
    let x = &numbers(&nodes(
        "x",
        vec![draw("RandomUniform", "x").with(float("low", -1.0)).with(float("high", 3.0))],
    ))[0];
    assert!(x.iter().all(|x| (-1.0..3.0).contains(x)));
    near(mean(x), 1.0, (16.0f64 / 12.0).sqrt(), DRAWS);
    let squares: Vec<f64> = x.iter().map(|x| (x - 1.0) * (x - 1.0)).collect();
    // The fourth moment of a uniform distribution is 9/5 of the square of its variance.
    near(mean(&squares), 16.0 / 12.0, 16.0 / 12.0 * 0.8f64.sqrt(), DRAWS);
    assert!(unevenness(&x.iter().map(|x| (x + 1.0) / 4.0).collect::<Vec<_>>()) < 1.95);
    near(correlation(&x[1..], &x[..DRAWS - 1]), 0.0, 1.0, DRAWS);
}

#[test]
fn normal_numbers_are_normal() {
    // The distribution function of each number must be uniform; the model computes it.
    let tail = vec![
        draw("RandomNormal", "x").with(float("mean", 2.0)).with(float("scale", 3.0)),
        node("Sub", "", "x two", "a"),
        node("Div", "", "a width", "b"),
        node("Erf", "", "b", "c"),
        node("Add", "", "c one", "d"),
        node("Div", "", "d two", "y"),
    ];
    let initializer =
        vec![scalar("one", 1.0), scalar("two", 2.0), scalar("width", 3.0 * std::f32::consts::SQRT_2)];
    let x = numbers(&model(GraphProto { initializer, ..graph("", "x y", tail) }));
    near(mean(&x[0]), 2.0, 3.0, DRAWS);
    let squares: Vec<f64> = x[0].iter().map(|x| (x - 2.0) * (x - 2.0)).collect();
    near(mean(&squares), 9.0, 9.0 * 2f64.sqrt(), DRAWS);
    assert!(unevenness(&x[1]) < 1.95);
}

#[test]
fn nodes_draw_independently_and_runs_alike() {
    let seeded = |name: &str, seed: f32| draw("RandomUniform", name).with(float("seed", seed));
    let proto =
        nodes("a b c", vec![draw("RandomUniform", "a"), draw("RandomUniform", "b"), seeded("c", 1.0)]);
    let x = numbers(&proto);
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
        near(correlation(&x[i], &x[j]), 0.0, 1.0, DRAWS);
    }
    assert_eq!(numbers(&proto), x);
    let first = |seed: f32| numbers(&nodes("c", vec![seeded("c", seed)])).remove(0);
    assert_eq!(first(1.0), first(1.0));
    near(correlation(&first(1.0), &first(2.0)), 0.0, 1.0, DRAWS);
}

#[test]
fn bernoulli_and_multinomial_draw_as_often_as_they_are_told() {
    let p = vec![
        node("Expand", "", "p shape", "ps"),
        node("Bernoulli", "", "ps", "x"),
        node("Multinomial", "", "logits", "y").with(int("sample_size", DRAWS as i64)),
    ];
    let shape = TensorProto {
        data_type: Some(7),
        dims: vec![1],
        int64_data: vec![DRAWS as i64],
        name: text("shape"),
        ..Default::default()
    };
    let logits = TensorProto { dims: vec![1, 3], ..f32_tensor("logits", &[0.0, 1.0, -0.5]) };
    let initializer = vec![scalar("p", 0.3), shape, logits];
    let x = numbers(&model(GraphProto { initializer, ..graph("", "x y", p) }));
    assert!(x[0].iter().all(|&x| x == 0.0 || x == 1.0));
    near(mean(&x[0]), 0.3, (0.3f64 * 0.7).sqrt(), DRAWS);
    let powers = [0f64, 1.0, -0.5].map(f64::exp);
    for class in 0..3 {
        let p = powers[class] / powers.iter().sum::<f64>();
        let share = x[1].iter().filter(|&&x| x == class as f64).count() as f64 / DRAWS as f64;
        near(share, p, (p * (1.0 - p)).sqrt(), DRAWS);
    }
}

fn dropout(training: &str) -> ModelProto {
    let drop = node("Dropout", "drop", &format!("x ratio {training}"), "y mask");
    let truth = TensorProto {
        data_type: Some(9),
        int32_data: vec![1],
        dims: vec![],
        name: text("yes"),
        ..Default::default()
    };
    let initializer = vec![scalar("ratio", 0.25), truth];
    let mut proto = model(GraphProto { initializer, ..graph("x", "y mask", vec![drop]) });
    if training == "t" {
        let graph = proto.graph.as_mut().expect("a graph");
        graph.input.push(typed_value("t", 9, vec![]));
    }
    proto
}

/// The gradient meets the mask that the model met.
#[test]
fn dropout_drops_and_scales_and_so_does_its_gradient() {
    let model = load(&dropout("yes"));
    let x: Vec<f32> = (0..DRAWS).map(|at| (at as f32 * 0.1).sin() + 2.0).collect();
    let target = Target::sum("y");
    let compile = Compile::new(&model).shape("x", &[DRAWS]).target(target).wrt(Wrt::inputs());
    let compiled = compile.build().expect("compiled");
    let mut session = compiled.session();
    session.set("x", &x).expect("the input fits");
    session.run_grad().expect("it runs");
    let literal = |name: &str| session.output_literal(name).expect("an output").to_f64();
    let (y, mask) = (literal("y"), literal("mask"));
    let gradient = session.grad_literal("x").expect("a gradient").to_f64();
    near(mean(&mask), 0.75, (0.75f64 * 0.25).sqrt(), DRAWS);
    let scale = f64::from(1.0f32 / 0.75);
    for at in 0..DRAWS {
        assert!((y[at] - mask[at] * f64::from(x[at]) * scale).abs() < 1e-6, "at {at}");
        assert!((gradient[at] - mask[at] * scale).abs() < 1e-6, "at {at}");
    }
}

#[test]
fn whether_to_drop_may_be_known_at_run_time_only() {
    let model = load(&dropout("t"));
    let compiled = Compile::new(&model).shape("x", &[50]).forward_only().build().expect("compiled");
    let mut session = compiled.session();
    session.set("x", &[1.0f32; 50]).expect("the input fits");
    for (training, all) in [(false, true), (true, false)] {
        session.set("t", &[training]).expect("the input fits");
        session.run().expect("it runs");
        let y = session.output_literal("y").expect("an output").to_f64();
        assert_eq!(y.iter().all(|&y| y == 1.0), all);
    }
}

/// A loop with two steps, each of which draws.
#[test]
fn every_step_of_a_loop_draws_anew() {
    let mut step = graph(
        "",
        "on_out z",
        vec![
            node("Identity", "", "on", "on_out"),
            node("RandomUniform", "", "", "z").with(ints("shape", &[4])),
        ],
    );
    step.input = vec![typed_value("count", 7, vec![]), typed_value("on", 9, vec![])];
    let trip = TensorProto {
        data_type: Some(7),
        int64_data: vec![2],
        dims: vec![],
        name: text("trip"),
        ..Default::default()
    };
    let repeat = node("Loop", "loop", "trip _", "zs").with(body("body", step));
    let x =
        numbers(&model(GraphProto { initializer: vec![trip], ..graph("", "zs", vec![repeat]) })).remove(0);
    assert_eq!(x.len(), 8);
    assert_ne!(x[..4], x[4..]);
}

#[test]
fn a_scan_cannot_draw() {
    let mut step =
        graph("", "z", vec![node("RandomUniformLike", "draw", "a", "b"), node("Add", "", "a b", "z")]);
    step.input = vec![typed_value("a", 1, vec![])];
    let scan = node("Scan", "scan", "x", "z0").with(body("body", step)).with(int("num_scan_inputs", 1));
    let x = Literal::new([3], &[1.0f32; 3]);
    let error = outputs(&load(&model(graph("x", "z0", vec![scan]))), &[("x", x)]).expect_err("it is refused");
    let message = "RandomUniformLike «draw»: would draw the same random numbers in every step of the loop";
    assert!(error.to_string().contains(message), "{error}");
}
