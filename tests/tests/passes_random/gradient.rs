//! Gradients: against differences, and reverse mode against forward mode.

use super::Case;
use crate::common::random_literal;
use gradc_ir::testing::Random;
use gradc_ir::{Builder, Graph, Literal, TensorType, Value, eval, inline};
use gradc_passes::{Gradient, jvp, vjp};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What was looked at.
#[derive(Default)]
pub struct Tally {
    /// Graphs.
    pub graphs: AtomicUsize,
    /// Directions along which gradients were compared with differences.
    pub smooth: AtomicUsize,
    /// Directions with a kink or a jump at the point, where there is no derivative to compare with.
    pub kinks: AtomicUsize,
    /// Graphs whose forward and reverse mode were compared.
    pub adjoints: AtomicUsize,
}

impl Tally {
    /// For people, without anything that depends on the machine.
    pub fn figures(&self, seeds: u64, faults: usize) -> String {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        format!(
            "{seeds} seeds, {} graphs, {faults} at fault\n\
             {} directions compared with differences, {} on a kink or jump\n\
             {} graphs differentiated in both modes\n",
            read(&self.graphs),
            read(&self.smooth),
            read(&self.kinks),
            read(&self.adjoints),
        )
    }
}

/// A graph in a builder, with a weight (a new input) for each output of floats.
struct Weighted {
    builder: Builder,
    inputs: Vec<Value>,
    /// The inputs of floats.
    wrt: Vec<Value>,
    /// Outputs of floats and their weights.
    seeds: Vec<(Value, Value)>,
    /// Arguments of all inputs so far.
    arguments: Vec<Literal>,
}

impl Weighted {
    fn new(case: &Case, aside: bool, random: &mut Random) -> Weighted {
        let builder = Builder::new("gradient");
        let inputs: Vec<Value> =
            (case.graph.inputs().iter()).map(|input| builder.input(&input.name, input.ty.clone())).collect();
        let mut arguments: Vec<Literal> = if aside { moved_off_kinks(case) } else { case.inputs.clone() };
        let mut seeds = Vec::new();
        for output in inline(&builder, &case.graph, &inputs) {
            let ty = builder.ty(output);
            if ty.dtype.is_float() {
                arguments.push(random_literal(&ty, random, [0.5, 1.5]));
                seeds.push((output, builder.input("weight", ty)));
            }
        }
        let is_float = |value: &Value| builder.ty(*value).dtype.is_float();
        let wrt = inputs.iter().copied().filter(is_float).collect();
        Weighted { builder, inputs, wrt, seeds, arguments }
    }

    /// The gradients in all inputs of floats, zeros where nothing leads.
    fn gradients(&self) -> Result<Vec<Value>, String> {
        let found = vjp(&self.builder, &self.seeds, &self.wrt).map_err(|error| error.to_string())?;
        Ok(values(&self.builder, found, &self.wrt))
    }
}

fn values(builder: &Builder, found: Vec<Gradient>, like: &[Value]) -> Vec<Value> {
    let value = |(gradient, like): (Gradient, &Value)| match gradient {
        Gradient::Value(value) | Gradient::Zero { value, .. } => value,
        Gradient::NoPath { .. } => builder.splat(&builder.ty(*like), 0.0).value(),
    };
    found.into_iter().zip(like).map(value).collect()
}

/// Whether gradients are taken at inputs a little aside: drawn numbers are multiples of 1/32, of which many are equal,
/// and most seeds should be off kinks.
fn is_aside(case: &Case) -> bool {
    !case.seed.is_multiple_of(4)
}

/// The inputs, those of floats a little aside.
fn moved_off_kinks(case: &Case) -> Vec<Literal> {
    let mut random = Random::new(case.seed ^ 0x6b69_6e6b);
    let aside = |literal: &Literal| match literal.dtype().is_float() {
        true => {
            let moved: Vec<f64> =
                literal.to_f64().into_iter().map(|x| x + (random.unit() - 0.5) * 0.01).collect();
            Literal::new(literal.shape().clone(), &moved)
        }
        false => literal.clone(),
    };
    case.inputs.iter().map(aside).collect()
}

/// The gradient of a graph, as a case of its own; `None` where there is nothing to differentiate.
pub fn of(case: &Case) -> Result<Option<Case>, String> {
    gradient_at(case, is_aside(case))
}

fn gradient_at(case: &Case, aside: bool) -> Result<Option<Case>, String> {
    let weighted = Weighted::new(case, aside, &mut Random::new(case.seed));
    if weighted.wrt.is_empty() || weighted.seeds.is_empty() {
        return Ok(None);
    }
    let gradients = weighted.gradients()?;
    let Weighted { builder, arguments, .. } = weighted;
    let graph = builder.finish(&gradients);
    graph.check().map_err(|error| format!("{error}\n{graph}"))?;
    Ok(Case::new(case.seed, graph, arguments))
}

fn evaluated(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Vec<f64>>, String> {
    let outputs = eval(graph, inputs).map_err(|error| format!("{error}\n{graph}"))?;
    Ok(outputs.iter().map(Literal::to_f64).collect())
}

fn inner(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a * b).sum()
}

fn directions(types: &[TensorType], random: &mut Random) -> Vec<Vec<f64>> {
    let direction = |ty: &TensorType| (0..ty.shape.elements()).map(|_| random.unit() * 2.0 - 1.0).collect();
    types.iter().map(direction).collect()
}

/// Compares gradients with central differences along random directions.
///
/// Where kinks meet, slopes to both sides may agree with each other and with no convention: `min(max(a, b), a)` is `a`,
/// and has shared twice where a and b are equal. What differs on equal numbers and agrees a little aside counts as a kink.
pub fn differences(case: &Case, tally: &Tally) -> Result<(), String> {
    let outcome = compare(case, is_aside(case), tally);
    if outcome.is_err() && !is_aside(case) && compare(case, true, tally).is_ok() {
        tally.kinks.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    outcome
}

fn compare(case: &Case, aside: bool, tally: &Tally) -> Result<(), String> {
    let mut random = Random::new(case.seed);
    let Some(gradient) = gradient_at(case, aside)? else { return Ok(()) };
    let values: Vec<Vec<f64>> = gradient.expected.iter().map(Literal::to_f64).collect();
    let types: Vec<TensorType> = gradient.expected.iter().map(|value| value.ty().clone()).collect();
    let (own, weights) = gradient.inputs.split_at(case.inputs.len());
    let weights: Vec<Vec<f64>> = weights.iter().map(Literal::to_f64).collect();
    let at = |direction: &[Vec<f64>], scale: f64| -> Result<f64, String> {
        let mut steps = direction.iter();
        let moved = own.iter().map(|input| match input.dtype().is_float() {
            true => {
                let step = steps.next().into_iter().flatten();
                let sums: Vec<f64> =
                    input.to_f64().into_iter().zip(step).map(|(x, d)| x + scale * d).collect();
                Literal::new(input.shape().clone(), &sums)
            }
            false => input.clone(),
        });
        let moved: Vec<Literal> = moved.collect();
        let outputs = eval(&case.graph, &moved).map_err(|error| error.to_string())?;
        let floats = outputs.iter().filter(|output| output.dtype().is_float());
        Ok(inner(&floats.map(Literal::to_f64).collect::<Vec<_>>(), &weights))
    };
    for _ in 0..2 {
        let direction = directions(&types, &mut random);
        let wanted = inner(&values, &direction);
        let step = 1e-6;
        let here = at(&direction, 0.0)?;
        let slopes = |step: f64| -> Result<[f64; 2], String> {
            Ok([(at(&direction, step)? - here) / step, (here - at(&direction, -step)?) / step])
        };
        let ([right, left], [right_near, left_near]) = (slopes(step)?, slopes(step / 2.0)?);
        let scale = 1.0 + wanted.abs() + here.abs();
        // What overflows on the way has no slope to compare with. Where a function bends, half the step halves what the
        // slopes to both sides differ by; a kink keeps it, a jump doubles it.
        let (far, near) = ((right - left).abs(), (right_near - left_near).abs());
        if !far.is_finite() || far > 4e-6 * scale && !(0.4..0.6).contains(&(near / far)) {
            tally.kinks.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        tally.smooth.fetch_add(1, Ordering::Relaxed);
        let got = (right + left) / 2.0;
        let close = (got - wanted).abs() <= 1e-5 * scale;
        if !close {
            return Err(format!("the gradient says {wanted}, differences {got}\n{}", gradient.graph));
        }
    }
    Ok(())
}

/// `<u, J v>` in forward mode is `<J' u, v>` in reverse mode.
pub fn adjoint(case: &Case, tally: &Tally) -> Result<(), String> {
    let mut random = Random::new(case.seed);
    let weighted = Weighted::new(case, is_aside(case), &mut random);
    if weighted.wrt.is_empty() || weighted.seeds.is_empty() {
        return Ok(());
    }
    let gradients = weighted.gradients()?;
    let Weighted { builder, inputs, wrt, seeds, mut arguments } = weighted;
    let weights: Vec<Vec<f64>> = arguments[inputs.len()..].iter().map(Literal::to_f64).collect();
    let types: Vec<TensorType> = wrt.iter().map(|&value| builder.ty(value)).collect();
    let direction = directions(&types, &mut random);
    let pairs: Vec<(Value, Value)> =
        wrt.iter().zip(&types).map(|(&value, ty)| (value, builder.input("tangent", ty.clone()))).collect();
    arguments.extend(types.iter().zip(&direction).map(|(ty, step)| Literal::new(ty.shape.clone(), step)));
    let outputs: Vec<Value> = seeds.iter().map(|&(output, _)| output).collect();
    let found = jvp(&builder, &outputs, &pairs).map_err(|error| error.to_string())?;
    let tangents = values(&builder, found, &outputs);
    let graph = builder.finish(&[tangents, gradients].concat());
    graph.check().map_err(|error| format!("{error}\n{graph}"))?;
    let mut tangents = evaluated(&graph, &arguments)?;
    let gradients = tangents.split_off(outputs.len());
    let magnitude = |all: &[Vec<f64>]| -> Vec<Vec<f64>> {
        all.iter().map(|each| each.iter().map(|x| x.abs()).collect()).collect()
    };
    let (forward, reverse) = (inner(&weights, &tangents), inner(&gradients, &direction));
    let size = inner(&magnitude(&weights), &magnitude(&tangents))
        + inner(&magnitude(&gradients), &magnitude(&direction));
    tally.adjoints.fetch_add(1, Ordering::Relaxed);
    // Where the graph overflows, both modes do. (A gradient that is NaN elsewhere is none of the differences'.)
    let overflows = !forward.is_finite() && !reverse.is_finite();
    let close = overflows || (forward - reverse).abs() <= 1e-9 * (1.0 + size);
    if !close {
        return Err(format!("forward mode says {forward}, reverse mode {reverse}\n{graph}"));
    }
    Ok(())
}
