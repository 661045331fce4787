//! Gradients of random graphs, of first and second order, along random directions.

use crate::harness::Random;
use gradc_ir::testing::{RandomOptions, random_graph};
use gradc_ir::{Builder, DType, Graph, Literal, Mark, Op, Value, eval, inline};
use gradc_passes::{Gradient, merge_scans, vjp};

fn options() -> RandomOptions {
    RandomOptions {
        dtypes: vec![DType::F64, DType::I64, DType::Bool],
        fused: false,
        operations: 12,
        elements: 64,
        accepts: |op| !matches!(op, Op::Mark(Mark::StopGradient | Mark::Surrogate)),
        ..RandomOptions::default()
    }
}

/// A graph that yields one number, the weighted sum of all outputs of floats.
fn scalar(graph: &Graph, random: &mut Random) -> Option<Graph> {
    let builder = Builder::new("scalar");
    let inputs: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let outputs = inline(&builder, graph, &inputs);
    let floats = outputs.into_iter().map(|output| builder.expr(output)).filter(|x| x.dtype().is_float());
    let terms = floats.map(|x| (x * builder.constant(random.tensor(&x.shape(), 0.5, 1.5))).sum_all());
    let total = terms.reduce(|a, b| a + b)?.value();
    Some(builder.finish(&[total]))
}

/// A graph with its gradients in the inputs at these positions.
fn with_gradients(graph: &Graph, positions: &[usize]) -> (Builder, Vec<Option<Value>>) {
    let builder = Builder::new("gradient");
    let inputs: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let target = inline(&builder, graph, &inputs)[0];
    let one = builder.splat(&builder.ty(target), 1.0).value();
    let wrt: Vec<Value> = positions.iter().map(|&position| inputs[position]).collect();
    let found = vjp(&builder, &[(target, one)], &wrt).unwrap();
    let found = found.into_iter().map(|gradient| match gradient {
        Gradient::Value(value) | Gradient::Zero { value, .. } => Some(value),
        Gradient::NoPath { .. } => None,
    });
    let found = found.collect();
    (builder, found)
}

/// The graph of the gradients of a number, and that of their weighted sum: a number again.
fn differentiated(graph: &Graph, random: &mut Random) -> Option<(Graph, Graph)> {
    let positions: Vec<usize> =
        (0..graph.inputs().len()).filter(|&i| graph.inputs()[i].ty.dtype.is_float()).collect();
    let (builder, found) = with_gradients(graph, &positions);
    let zeros = |position: usize| builder.splat(&graph.inputs()[position].ty, 0.0).value();
    let each: Vec<Value> = found
        .iter()
        .zip(&positions)
        .map(|(value, &position)| value.unwrap_or_else(|| zeros(position)))
        .collect();
    let each = builder.finish(&each);
    let (builder, found) = with_gradients(graph, &positions);
    let terms = found.into_iter().flatten().map(|value| {
        let value = builder.expr(value);
        (value * builder.constant(random.tensor(&value.shape(), 0.5, 1.5))).sum_all()
    });
    let total = terms.reduce(|a, b| a + b)?.value();
    Some((each, builder.finish(&[total])))
}

/// Compares along random directions, where the differences to both sides agree. Answers how often they did.
fn compare(
    name: &str,
    function: &Graph,
    gradient: &Graph,
    arguments: &[Literal],
    random: &mut Random,
) -> usize {
    let gradients: Vec<Vec<f64>> = eval(gradient, arguments).unwrap().iter().map(Literal::to_f64).collect();
    let at = |direction: &[Vec<f64>], scale: f64| {
        let mut directions = direction.iter();
        let moved = arguments.iter().map(|argument| {
            if !argument.dtype().is_float() {
                return argument.clone();
            }
            let direction = directions.next().unwrap();
            let sums = argument.to_f64().into_iter().zip(direction).map(|(x, d)| x + scale * d);
            Literal::new(argument.shape().clone(), &sums.collect::<Vec<f64>>())
        });
        eval(function, &moved.collect::<Vec<_>>()).unwrap()[0].to_f64()[0]
    };
    let mut smooth = 0;
    for _ in 0..2 {
        let direction: Vec<Vec<f64>> =
            gradients.iter().map(|g| g.iter().map(|_| random.next(-1.0, 1.0)).collect()).collect();
        let wanted: f64 =
            gradients.iter().flatten().zip(direction.iter().flatten()).map(|(g, d)| g * d).sum();
        let scale = 1e-6;
        let (here, above, below) = (at(&direction, 0.0), at(&direction, scale), at(&direction, -scale));
        let (right, left) = ((above - here) / scale, (here - below) / scale);
        let near = (at(&direction, scale / 2.0) - here) / (scale / 2.0);
        let agree = |a: f64, b: f64| (a - b).abs() <= 1e-3 * (1.0 + a.abs());
        // A kink has two slopes; a jump has another with each distance.
        if !agree(right, left) || !agree(right, near) {
            continue;
        }
        let got = (above - below) / (2.0 * scale);
        let tolerance = 1e-5 * (1.0 + wanted.abs() + here.abs());
        assert!((got - wanted).abs() < tolerance, "{name}: {wanted} for {got}\n{function}\n{arguments:?}");
        smooth += 1;
    }
    smooth
}

#[test]
fn random_graphs() {
    let (mut first, mut second, mut loops) = (0, 0, 0);
    for seed in 0..300 {
        let (graph, arguments) = random_graph(seed, &options());
        let mut random = Random::new(seed);
        let Some(function) = scalar(&graph, &mut random) else { continue };
        let Some((gradient, weighted)) = differentiated(&function, &mut random) else { continue };
        loops += usize::from(function.iter().any(|(_, node)| matches!(node.op, Op::Scan(_))));
        let merged = merge_scans(&gradient);
        merged.check().unwrap();
        let same = |a: &[Literal], b: &[Literal]| {
            a.iter()
                .zip(b)
                .all(|(a, b)| a.to_f64().iter().zip(b.to_f64()).all(|(a, b)| a.to_bits() == b.to_bits()))
        };
        assert!(
            same(&eval(&gradient, &arguments).unwrap(), &eval(&merged, &arguments).unwrap()),
            "seed {seed}"
        );
        first += compare(&format!("seed {seed}"), &function, &merged, &arguments, &mut random);
        if let Some((again, _)) = differentiated(&weighted, &mut random) {
            let again = merge_scans(&again);
            again.check().unwrap();
            second += compare(
                &format!("seed {seed}, second order"),
                &merge_scans(&weighted),
                &again,
                &arguments,
                &mut random,
            );
        }
    }
    eprintln!("random graphs: {first} comparisons of first order, {second} comparisons of second order");
    assert!(first > 300 && second > 200 && loops > 20, "{first} {second} {loops}");
}

/// Every element type: the gradient has the type of its value, evaluates, and is the same with loops merged.
#[test]
fn random_graphs_of_all_types() {
    let (mut gradients, mut finite) = (0, 0);
    for seed in 0..300 {
        let (graph, arguments) =
            random_graph(seed, &RandomOptions { fused: false, ..RandomOptions::default() });
        let builder = Builder::new("gradient");
        let inputs: Vec<Value> =
            graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
        let is_float = |value: &Value| builder.ty(*value).dtype.is_float();
        let targets: Vec<Value> = inline(&builder, &graph, &inputs).into_iter().filter(is_float).collect();
        let seeds: Vec<(Value, Value)> =
            targets.iter().map(|&target| (target, builder.splat(&builder.ty(target), 1.0).value())).collect();
        let wrt: Vec<Value> = inputs.into_iter().filter(is_float).collect();
        let mut outputs = Vec::new();
        for (gradient, wrt) in vjp(&builder, &seeds, &wrt).unwrap().into_iter().zip(&wrt) {
            if let Gradient::Value(value) | Gradient::Zero { value, .. } = gradient {
                assert_eq!(builder.ty(value), builder.ty(*wrt), "seed {seed}");
                outputs.push(value);
            }
        }
        gradients += outputs.len();
        let graph = builder.finish(&outputs);
        let merged = merge_scans(&graph);
        merged.check().unwrap();
        for (a, b) in eval(&graph, &arguments).unwrap().iter().zip(eval(&merged, &arguments).unwrap()) {
            assert_eq!(a.bytes(), b.bytes(), "seed {seed}");
            finite += usize::from(a.to_f64().iter().all(|x| x.is_finite()));
        }
    }
    eprintln!("random graphs of all types: {gradients} gradients, {finite} of them finite");
    assert!(gradients > 200 && finite * 10 > gradients * 9, "{gradients} {finite}");
}
