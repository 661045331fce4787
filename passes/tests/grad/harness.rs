//! Builds a function, its gradient and the gradient of its gradient, and compares them with central differences.

use crate::mutation;
use gradc_ir::{Builder, Expr, Graph, Literal, TensorType, Value, eval};
use gradc_passes::{Gradient, merge_scans, vjp};

/// The same numbers on every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    /// Uniform in `low..high`.
    pub fn next(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (high - low) * ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn tensor(&mut self, shape: &[usize], low: f64, high: f64) -> Literal {
        let count = shape.iter().product();
        let elements: Vec<f64> = (0..count).map(|_| self.next(low, high)).collect();
        Literal::new(shape, &elements)
    }
}

/// A tensor of f64.
pub fn tensor(shape: &[usize], elements: &[f64]) -> Literal {
    Literal::new(shape, elements)
}

/// A random tensor between -2 and 2, seeded by its shape.
pub fn random(shape: &[usize]) -> Literal {
    let seed = shape.iter().fold(7, |seed, &length| seed * 31 + length as u64);
    Random::new(seed).tensor(shape, -2.0, 2.0)
}

/// A constant index tensor.
pub fn index<'b>(builder: &'b Builder, shape: &[usize], elements: &[i64]) -> Expr<'b> {
    builder.constant(Literal::new(shape, elements))
}

pub type Build<'f> = &'f dyn for<'b> Fn(&'b Builder, &[Expr<'b>]) -> Expr<'b>;

/// The graph of `build`, given the first `orders` derivatives: outputs are
/// 0: `sum(w y)`; 1: its gradients in every input; 2: the gradients of `sum(v gradient)` in every input, and in w.
/// Inputs: those of the function, then w, then one v for each input.
pub fn derive(inputs: &[Literal], build: Build, order: usize) -> Graph {
    let builder = Builder::new("checked");
    let tensors: Vec<Value> =
        inputs.iter().enumerate().map(|(i, x)| builder.input(&format!("x{i}"), x.ty().clone())).collect();
    let x: Vec<Expr> = tensors.iter().map(|&value| builder.expr(value)).collect();
    let y = build(&builder, &x);
    let w = builder.expr(builder.input("w", y.ty()));
    let directions: Vec<Expr> = inputs
        .iter()
        .enumerate()
        .map(|(i, x)| builder.expr(builder.input(&format!("v{i}"), x.ty().clone())))
        .collect();
    if order == 0 {
        let loss = (w * y).sum_all().value();
        return builder.finish(&[loss]);
    }
    let first = values(&builder, &vjp(&builder, &[(y.value(), w.value())], &tensors).unwrap());
    if order == 1 {
        return merge_scans(&builder.finish(&first));
    }
    let seeds: Vec<(Value, Value)> =
        first.iter().zip(&directions).map(|(&target, direction)| (target, direction.value())).collect();
    let wrt: Vec<Value> = tensors.iter().copied().chain([w.value()]).collect();
    let answers = vjp(&builder, &seeds, &wrt).unwrap();
    let zeros = |value: &Value| builder.splat(&builder.ty(*value), 0.0).value();
    let second: Vec<Value> = answers
        .iter()
        .zip(&wrt)
        .map(|(answer, value)| match answer {
            Gradient::Value(value) | Gradient::Zero { value, .. } => *value,
            Gradient::NoPath { .. } => zeros(value),
        })
        .collect();
    merge_scans(&builder.finish(&second))
}

/// The values of gradients that must exist.
pub fn values(_builder: &Builder, gradients: &[Gradient]) -> Vec<Value> {
    let value = |gradient: &Gradient| match gradient {
        Gradient::Value(value) | Gradient::Zero { value, .. } => *value,
        Gradient::NoPath { .. } => panic!("a gradient is missing: {gradient:?}"),
    };
    gradients.iter().map(value).collect()
}

pub fn run(graph: &Graph, inputs: &[Literal]) -> Vec<Vec<f64>> {
    graph.check().unwrap();
    eval(graph, inputs).unwrap().iter().map(Literal::to_f64).collect()
}

pub fn inner(a: &[Vec<f64>], b: &[Literal]) -> f64 {
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.iter().copied().zip(b.to_f64()));
    pairs.map(|(a, b)| a * b).sum()
}

/// Compares derivatives with central differences of the function one order below. Answers the number of comparisons.
fn compare(
    name: &str,
    inputs: &[Literal],
    rest: &[Literal],
    varied: usize,
    function: &dyn Fn(&[Literal]) -> f64,
    gradients: &[Vec<f64>],
) -> usize {
    let total: usize = inputs[..varied].iter().map(|input| input.shape().elements()).sum();
    let difference = |direction: &[Vec<f64>], scale: f64| {
        let at = |sign: f64| {
            let moved = inputs.iter().zip(direction).map(|(input, direction)| {
                let elements = input.to_f64().into_iter().zip(direction);
                let elements: Vec<f64> = elements.map(|(x, d)| x + sign * scale * d).collect();
                Literal::new(input.shape().clone(), &elements)
            });
            let all: Vec<Literal> = moved.chain(rest.iter().cloned()).collect();
            function(&all)
        };
        (at(1.0) - at(-1.0)) / (2.0 * scale)
    };
    let zero: Vec<Vec<f64>> = inputs.iter().map(|input| vec![0.0; input.shape().elements()]).collect();
    let mut checks = 0;
    let mut check = |direction: Vec<Vec<f64>>, scale: f64, wanted: f64, place: String| {
        let got = difference(&direction, scale);
        let tolerance = 2e-7 + 1e-5 * wanted.abs().max(got.abs());
        assert!(
            (got - wanted).abs() <= tolerance,
            "{name}: {place}: gradient {wanted:e}, central difference {got:e}"
        );
        checks += 1;
    };
    if total <= 256 {
        for (position, input) in inputs[..varied].iter().enumerate() {
            for (element, x) in input.to_f64().into_iter().enumerate() {
                let mut direction = zero.clone();
                direction[position][element] = 1.0;
                let wanted = gradients[position][element];
                check(direction, 1e-6 * x.abs().max(1.0), wanted, format!("input {position}[{element}]"));
            }
        }
    } else {
        let mut random = Random::new(total as u64);
        for number in 0..8 {
            let mut direction = zero.clone();
            direction[..varied].iter_mut().flatten().for_each(|d| *d = random.next(-1.0, 1.0));
            let pairs = gradients.iter().flatten().zip(direction[..varied].iter().flatten());
            let wanted: f64 = pairs.map(|(gradient, d)| gradient * d).sum();
            check(direction, 1e-6, wanted, format!("direction {number}"));
        }
    }
    checks
}

/// First and second order. Answers the number of comparisons.
pub fn check(name: &str, inputs: &[Literal], build: Build) -> usize {
    check_first(name, inputs, build) + check_second(name, inputs, build)
}

pub fn seeds(inputs: &[Literal], build: Build) -> (Literal, Vec<Literal>) {
    let loss = derive(inputs, build, 0);
    let mut random = Random::new(11);
    let mut like = |ty: &TensorType| random.tensor(&ty.shape, 0.5, 1.5);
    let w = like(&loss.inputs()[inputs.len()].ty);
    (w, inputs.iter().map(|input| like(input.ty())).collect())
}

/// First order.
pub fn check_first(name: &str, inputs: &[Literal], build: Build) -> usize {
    if mutation::takes_sample(name, inputs, build) {
        return 0;
    }
    let (w, v) = seeds(inputs, build);
    let rest: Vec<Literal> = [w].into_iter().chain(v).collect();
    let all: Vec<Literal> = inputs.iter().cloned().chain(rest.iter().cloned()).collect();
    let (function, gradient) = (derive(inputs, build, 0), derive(inputs, build, 1));
    let gradients = run(&gradient, &all);
    compare(name, inputs, &rest, inputs.len(), &|all| run(&function, all)[0][0], &gradients)
}

/// Second order: the gradient of the gradient, also in the cotangent that the first starts from.
pub fn check_second(name: &str, inputs: &[Literal], build: Build) -> usize {
    if mutation::is_at_work() {
        return 0;
    }
    let (w, v) = seeds(inputs, build);
    let varied: Vec<Literal> = inputs.iter().cloned().chain([w]).collect();
    let all: Vec<Literal> = varied.iter().cloned().chain(v.iter().cloned()).collect();
    let (gradient, second) = (derive(inputs, build, 1), derive(inputs, build, 2));
    let gradients = run(&second, &all);
    let function = |all: &[Literal]| inner(&run(&gradient, all), &v);
    compare(&format!("{name}, second order"), &varied, &v, varied.len(), &function, &gradients)
}

/// The gradients of `sum(y)` in every input, of any float type, converted to f64.
pub fn gradient(inputs: &[Literal], build: Build) -> Vec<Vec<f64>> {
    if mutation::is_at_work() {
        return run(&mutation::gradient(inputs, build), inputs);
    }
    let builder = Builder::new("gradient");
    let tensors: Vec<Value> =
        inputs.iter().enumerate().map(|(i, x)| builder.input(&format!("x{i}"), x.ty().clone())).collect();
    let x: Vec<Expr> = tensors.iter().map(|&value| builder.expr(value)).collect();
    let y = build(&builder, &x);
    let found = vjp(&builder, &[(y.value(), y.splat(1.0).value())], &tensors).unwrap();
    let found = values(&builder, &found);
    run(&merge_scans(&builder.finish(&found)), inputs)
}

/// The gradient at a scalar point of a function of one scalar.
pub fn slope(x: f64, build: Build) -> f64 {
    gradient(&[tensor(&[], &[x])], build)[0][0]
}

/// The second derivative at a scalar point.
pub fn curvature(x: f64, build: Build) -> f64 {
    let graph = derive(&[tensor(&[], &[x])], build, 2);
    let one = tensor(&[], &[1.0]);
    run(&graph, &[tensor(&[], &[x]), one.clone(), one])[0][0]
}
