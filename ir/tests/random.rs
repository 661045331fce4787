//! What the generator of random graphs promises.

use gradc_ir::testing::{RandomOptions, random_graph};
use gradc_ir::*;

#[test]
fn random_graphs_evaluate_to_moderate_values() {
    for seed in 0..400 {
        let (graph, arguments) = random_graph(seed, &RandomOptions::default());
        let results =
            eval(&graph, &arguments).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}"));
        for (literal, ty) in results.iter().zip(graph.output_types()) {
            assert_eq!(literal.ty(), ty, "seed {seed}\n{graph}");
            if literal.dtype().is_float() {
                let wild =
                    literal.to_f64().into_iter().find(|element| !element.is_finite() || element.abs() > 1e4);
                assert_eq!(wild, None, "seed {seed}\n{graph}");
            }
        }
    }
}

/// Rounding differs between f32 and f64, positions and truth values must not: what jumps gets exact operands alone.
#[test]
fn rounding_does_not_change_decisions() {
    let options =
        RandomOptions { dtypes: vec![DType::F32, DType::I64, DType::Bool], ..RandomOptions::default() };
    for seed in 0..400 {
        let (graph, arguments) = random_graph(seed, &options);
        let wide = parse(&print(&graph).replace("f32[", "f64[")).expect("the same graph in f64");
        let wide_arguments: Vec<Literal> = arguments.iter().map(widened).collect();
        let narrow = eval(&graph, &arguments).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}"));
        let wide =
            eval(&wide, &wide_arguments).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}"));
        for (narrow, wide) in narrow.iter().zip(&wide) {
            for (a, b) in narrow.to_f64().into_iter().zip(wide.to_f64()) {
                let tolerance = if narrow.dtype().is_float() { 1e-4 * (1.0 + b.abs()) } else { 0.0 };
                assert!((a - b).abs() <= tolerance, "seed {seed}: {a} in f32, {b} in f64\n{graph}");
            }
        }
    }
}

fn widened(literal: &Literal) -> Literal {
    match literal.elements::<f32>() {
        Some(elements) => {
            Literal::new(literal.shape().clone(), &elements.into_iter().map(f64::from).collect::<Vec<_>>())
        }
        None => literal.clone(),
    }
}
