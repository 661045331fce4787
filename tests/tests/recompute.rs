//! Results that are computed again rather than kept.

mod common;

use common::run_compiled_with;
use gradc_codegen::program::Program;
use gradc_codegen::{CompileOptions, lower, lower_within};
use gradc_ir::{Builder, DType, Graph, Literal, TensorType};
use gradc_passes::{Gradient, Selection, pipeline, run_passes, vjp};

const LAYERS: usize = 24;
const ROWS: usize = 256;
const WIDTH: usize = 16;

/// A chain of products and hyperbolic tangents with the gradient of its sum by the input: each layer's result is kept for
/// the way back.
fn chain() -> (Graph, Vec<Literal>) {
    let builder = Builder::new("chain");
    let x = builder.input("x", TensorType::new(DType::F32, &[ROWS, WIDTH][..]));
    let weights = builder.input("w", TensorType::new(DType::F32, &[WIDTH, WIDTH][..]));
    let (mut y, w) = (builder.expr(x), builder.expr(weights));
    for _ in 0..LAYERS {
        y = y.matmul(w).tanh();
    }
    let loss = y.sum_all().value();
    let seed = builder.splat(&builder.ty(loss), 1.0).value();
    let found = vjp(&builder, &[(loss, seed)], &[x]).expect("it has a gradient");
    let Gradient::Value(gradient) = found[0] else { panic!("the sum depends on its input") };
    let graph = run_passes(builder.finish(&[loss, gradient]), &pipeline(2), &Selection::default(), |_, _| {});
    let literal = |shape: &[usize; 2]| {
        let elements: Vec<f32> = (0..shape[0] * shape[1]).map(|at| (at as f32 * 0.7).sin() * 0.3).collect();
        Literal::new(&shape[..], &elements)
    };
    (graph, vec![literal(&[ROWS, WIDTH]), literal(&[WIDTH, WIDTH])])
}

fn work(program: &Program) -> f64 {
    program.steps.iter().map(|step| program.work(step).operations as f64).sum()
}

#[test]
fn a_chain_fits_in_a_third_of_its_memory_for_less_than_twice_the_work() {
    let (graph, inputs) = chain();
    let kept = lower(&graph, 1).expect("it lowers");
    let limit = kept.arena / 3;
    let again = lower_within(&graph, 1, Some(limit)).expect("it lowers");
    assert!(again.arena <= limit, "{} bytes, of {limit}", again.arena);
    assert!(!again.repeats.is_empty());
    assert!(work(&again) < 2.0 * work(&kept), "{} and {}", work(&again), work(&kept));
    let run = |arena_limit| {
        run_compiled_with(&graph, &inputs, &CompileOptions { threads: 1, profile: false, arena_limit })
    };
    assert_eq!(run(None), run(Some(limit)));
}

#[test]
fn what_fits_is_left_as_it_is() {
    let (graph, _) = chain();
    let kept = lower(&graph, 1).expect("it lowers");
    let again = lower_within(&graph, 1, Some(kept.arena)).expect("it lowers");
    assert_eq!(kept.to_string(), again.to_string());
    assert!(again.repeats.is_empty());
}

/// What is found to be the least needed is enough as a limit.
#[test]
fn the_least_memory_is_enough() {
    let (graph, _) = chain();
    let least = lower_within(&graph, 1, Some(0)).expect("it lowers").arena;
    let kept = lower(&graph, 1).expect("it lowers").arena;
    assert!(least < kept / 3, "{least} of {kept}");
    assert_eq!(lower_within(&graph, 1, Some(least)).expect("it lowers").arena, least);
}
