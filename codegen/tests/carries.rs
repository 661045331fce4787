//! Loops whose carries need no copies.

mod common;

use common::{check_with, graph, inputs};
use gradc_codegen::lower;
use gradc_codegen::program::Step;
use gradc_ir::{Builder, DType, DotDims, Graph, Op, ScanOp, UnaryOp, Value};
use std::sync::Arc;

const N: usize = 24;

/// A loop over rows of `N` numbers with two carries and one stack.
fn scan(reverse: bool, round: impl Fn(&Builder, &[Value]) -> Vec<Value>, parts: &[usize]) -> Graph {
    let row: (DType, &[usize]) = (DType::F32, &[1, N]);
    let matrix: (DType, &[usize]) = (DType::F32, &[N, N]);
    let body = graph(&[matrix, row, row, row], round);
    let op = ScanOp { body: Arc::new(body), trip: 7, constants: 1, carries: 2, reverse };
    graph(&[matrix, row, row, (DType::F32, &[7, 1, N])], |builder, values| {
        let tuple = builder.build(Op::Scan(op.clone()), values);
        parts.iter().map(|&part| tuple.project(part).unary(UnaryOp::Neg).value()).collect()
    })
}

fn product(builder: &Builder, left: Value, right: Value) -> Value {
    let dims = DotDims { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![0] };
    builder.expr(left).dot(builder.expr(right), dims).value()
}

/// The copies in the loops of a graph.
fn copies(graph: &Graph) -> usize {
    let program = lower(graph, 1).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let is_copy = |step: &&Step| matches!(step, Step::Copy { .. });
    program.steps.iter().map(|step| step.inner().iter().filter(is_copy).count()).sum()
}

/// A recurrent layer: `c' = c + h w`, `h' = |c'| x`, stacked.
fn recurrent(builder: &Builder, values: &[Value]) -> Vec<Value> {
    let [_, c, _, x] = [0, 1, 2, 3].map(|index| builder.expr(values[index]));
    let new = c + builder.expr(product(builder, values[2], values[0]));
    let h = (new.unary(UnaryOp::Abs) * x).value();
    vec![new.value(), h, h]
}

/// Means what it says, with so many copies a round.
fn holds(graph: &Graph, expected: usize) {
    check_with(graph, &inputs(graph, 3, 0.3));
    assert_eq!(copies(graph), expected, "{}", lower(graph, 1).unwrap());
}

#[test]
fn a_carry_is_written_over_or_read_from_the_stack() {
    for reverse in [false, true] {
        holds(&scan(reverse, recurrent, &[2]), 0);
        // The last carry that is used alone stays where it is; the one on the stack is copied for it.
        holds(&scan(reverse, recurrent, &[0, 2]), 0);
        holds(&scan(reverse, recurrent, &[1, 2]), 1);
    }
}

#[test]
fn what_is_read_later_is_not_written_over() {
    // The old carry is read after the new one is known.
    let late = |builder: &Builder, values: &[Value]| {
        let new = builder.expr(values[1]).unary(UnaryOp::Abs);
        let late = product(builder, values[1], values[0]);
        let sum = builder.expr(late) + new;
        vec![new.value(), values[2], sum.value()]
    };
    holds(&scan(false, late, &[0, 2]), 1);
    // Carries that change places.
    let swapped = |builder: &Builder, values: &[Value]| {
        let sum = builder.expr(values[1]) + builder.expr(values[3]);
        vec![values[2], values[1], sum.value()]
    };
    let graph = scan(false, swapped, &[0, 1, 2]);
    check_with(&graph, &inputs(&graph, 3, 0.3));
    // Read in another order than written.
    let turned = |builder: &Builder, values: &[Value]| {
        let new = builder.expr(values[1]).reverse(&[1]) + builder.expr(values[3]);
        vec![new.value(), values[2], new.value()]
    };
    for reverse in [false, true] {
        let graph = scan(reverse, turned, &[0, 2]);
        check_with(&graph, &inputs(&graph, 3, 0.3));
    }
}

/// As [`recurrent`], but stacked is what a round begins with, of each carry, and what it ends with.
fn remembering(builder: &Builder, values: &[Value]) -> Vec<Value> {
    let [c, h] = recurrent(builder, values)[..2] else { unreachable!("two carries") };
    vec![c, h, values[1], values[2], h]
}

#[test]
fn what_rounds_begin_with_is_stacked_without_copies() {
    for reverse in [false, true] {
        holds(&scan(reverse, remembering, &[2, 3, 4]), 0);
        holds(&scan(reverse, remembering, &[2]), 0);
        // The last carry is wanted: it is handed on as before.
        holds(&scan(reverse, remembering, &[0, 2, 3, 4]), 2);
    }
    // Two carries from the same, and carries that change places.
    let twins = |builder: &Builder, values: &[Value]| {
        let new = builder.expr(product(builder, values[1], values[0])) + builder.expr(values[2]);
        vec![new.value(), new.value(), values[1], values[2]]
    };
    let swapped = |builder: &Builder, values: &[Value]| {
        let sum = builder.expr(values[1]) + builder.expr(values[3]);
        vec![values[2], sum.value(), values[1], values[2]]
    };
    // What a round begins with is needed when the next one is known.
    let late = |builder: &Builder, values: &[Value]| {
        let new = builder.expr(values[1]).unary(UnaryOp::Abs) + builder.expr(values[3]);
        let sum = builder.expr(product(builder, values[1], values[0])) + new;
        vec![new.value(), sum.value(), values[1], sum.value()]
    };
    for reverse in [false, true] {
        for graph in [
            scan(reverse, twins, &[2, 3]),
            scan(reverse, swapped, &[2, 3]),
            scan(reverse, swapped, &[0, 1, 2, 3]),
            scan(reverse, late, &[2, 3]),
            scan(reverse, late, &[0, 2, 3]),
        ] {
            check_with(&graph, &inputs(&graph, 3, 0.3));
        }
    }
}
