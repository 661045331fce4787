//! What the generator of random graphs promises.

use gradc_ir::testing::{RandomOptions, operator_names, random_graph};
use gradc_ir::*;
use std::collections::BTreeMap;

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

/// What the graphs are made of, bodies included.
#[derive(Default)]
struct Census {
    operators: BTreeMap<&'static str, usize>,
    dtypes: BTreeMap<DType, usize>,
    batched: usize,
    nested: usize,
    epilogues: usize,
    empty: usize,
}

impl Census {
    fn count(&mut self, graph: &Graph, depth: usize) {
        for (_, node) in graph.iter() {
            *self.operators.entry(node.op.name()).or_default() += 1;
            node.types.iter().for_each(|ty| *self.dtypes.entry(ty.dtype).or_default() += 1);
            self.empty += usize::from(node.types.iter().any(|ty| ty.shape.elements() == 0));
            let is_product = |value: &Value| matches!(graph.node(*value).op, Op::Dot(_) | Op::Conv(_));
            let elementwise = matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast(_));
            self.epilogues += usize::from(elementwise && node.operands.iter().any(is_product));
            match &node.op {
                Op::Dot(dims) => self.batched += usize::from(!dims.lhs_batch.is_empty()),
                Op::Scan(scan) => {
                    self.nested += usize::from(depth > 0);
                    self.count(&scan.body, depth + 1);
                }
                Op::Fused(fused) => self.count(&fused.body, depth),
                _ => {}
            }
        }
    }
}

/// No operator, element type or structure is rare: each occurs often in few graphs.
#[test]
fn every_operator_occurs() {
    let mut census = Census::default();
    let options = RandomOptions { operations: 24, ..RandomOptions::default() };
    (0..500).for_each(|seed| census.count(&random_graph(seed, &options).0, 0));
    for name in operator_names() {
        let found = census.operators.get(name).copied().unwrap_or(0);
        assert!(found >= 8, "{name} occurs {found} times in 500 graphs");
    }
    for dtype in DType::ALL {
        let found = census.dtypes.get(&dtype).copied().unwrap_or(0);
        assert!(found >= 200, "{dtype} occurs {found} times in 500 graphs");
    }
    let Census { batched, nested, epilogues, empty, .. } = census;
    assert!(
        batched >= 100 && nested >= 15 && epilogues >= 400 && empty >= 50,
        "{batched} {nested} {epilogues} {empty}"
    );
}
