//! Single operators are computed straight from bytes where that can be: to the bits of the interpreter of graphs.

use super::*;
use gradc_ir::testing::{RandomOptions, random_graph};

/// Compares every node of a graph; answers how many there were.
fn compare(graph: &Graph, inputs: &[Literal]) -> usize {
    let mut values: Vec<Value> = graph.values().filter(|&value| !graph.node(value).is_tuple()).collect();
    values.retain(|&value| graph.node(value).types.len() == 1);
    let builder = Builder::new("all");
    let arguments: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let renamed = inline_all(&builder, graph, &arguments);
    let outputs: Vec<Value> = values.iter().map(|value| renamed[value.index()]).collect();
    let results = eval(&builder.finish(&outputs), inputs).expect("a value");
    let of = |value: Value| Some(&results[values.iter().position(|&other| other == value)?]);
    let mut count = 0;
    for (&value, wanted) in values.iter().zip(&results) {
        let node = graph.node(value);
        let operands: Option<Vec<Literal>> =
            node.operands.iter().map(|&operand| of(operand).cloned()).collect();
        let Some(operands) = operands.filter(|_| !matches!(node.op, Op::Input(_) | Op::Project(_))) else {
            continue;
        };
        let got = one(node.op.clone(), &operands);
        assert_eq!(got.ty(), wanted.ty());
        if node.ty().dtype.is_float() {
            assert_same(&got.to_f64(), &wanted.to_f64());
        } else {
            assert_eq!(got.bytes(), wanted.bytes(), "{:?}", node.op);
        }
        count += 1;
    }
    count
}

#[test]
fn random_nodes_have_the_interpreters_bits() {
    let mut count = 0;
    for seed in 0..300 {
        let (graph, inputs) = random_graph(seed, &RandomOptions::default());
        count += compare(&graph, &inputs);
    }
    assert!(count > 4000, "{count} nodes");
}

#[test]
fn axes_are_exchanged_in_blocks() {
    // Longer than a block and no multiple of one, with axes before, between and after.
    let x: Vec<f32> = (0..2 * 37 * 3 * 50).map(|i| i as f32).collect();
    let x = f32s(&[2, 37, 3, 50], &x);
    let ops = |builder: &Builder, x: Value| -> Vec<Value> {
        let x = builder.expr(x);
        let permutations = [[0, 3, 2, 1], [3, 1, 0, 2], [1, 0, 3, 2], [3, 2, 1, 0], [0, 2, 3, 1]];
        let transposed = permutations.iter().map(|permutation| x.transpose(permutation).value());
        let reversed = builder.build(Op::Reverse { axes: vec![1, 3] }, &[x.value()]).value();
        transposed.chain([reversed]).collect()
    };
    let builder = Builder::new("moves");
    let input = builder.input("x", x.ty().clone());
    let outputs = ops(&builder, input);
    let graph = builder.finish(&outputs);
    assert_eq!(compare(&graph, &[x]), outputs.len());
}
