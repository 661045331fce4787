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
