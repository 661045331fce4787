//! Recurrent layers: the input's projection is computed for some rounds at a time, and each round's product begins with it.

mod common;

use common::{check_with, graph, inputs, program, run};
use gradc_codegen::CompileOptions;
use gradc_codegen::program::{Program, Step};
use gradc_ir::{DType, DotDims, Expr, Graph, Literal, Op, ScanOp, Shape, TensorType, UnaryOp, parse};
use std::sync::Arc;

const BATCH: usize = 16;
const HIDDEN: usize = 400;
const INPUTS: usize = 24;

/// A constant matrix.
fn weight(rows: usize) -> Literal {
    let values: Vec<u8> =
        (0..rows * HIDDEN).flat_map(|at| (((at * 37) % 101) as f32 * 2e-4 - 1e-2).to_le_bytes()).collect();
    Literal::from_bytes(TensorType::new(DType::F32, Shape::new(&[rows, HIDDEN])), values.into()).unwrap()
}

fn product<'b>(left: Expr<'b>, right: Expr<'b>) -> Expr<'b> {
    let dims = DotDims { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![0] };
    left.dot(right, dims)
}

/// What a round makes of its rows of the projection, and of its product.
type Round = for<'b> fn(Expr<'b>, Expr<'b>) -> Expr<'b>;

/// `(w, rounds, reverse)` to a layer of `h' = round(x w, h v)`, all states stacked.
fn recurrent(trip: usize, reverse: bool, round: Round, reads_projection: bool) -> Graph {
    let state: (DType, &[usize]) = (DType::F32, &[BATCH, HIDDEN]);
    let body = graph(&[(DType::F32, &[HIDDEN, HIDDEN]), state, state], |builder, values| {
        let [v, h, x] = [0, 1, 2].map(|index| builder.expr(values[index]));
        let new = round(x, product(h, v)).value();
        vec![new, new]
    });
    graph(&[(DType::F32, &[trip * BATCH, INPUTS]), state], |builder, values| {
        let projection = product(builder.expr(values[0]), builder.constant(weight(INPUTS)));
        let slices = projection.reshape(&Shape::new(&[trip, BATCH, HIDDEN]));
        let op = ScanOp { body: Arc::new(body.clone()), trip, constants: 1, carries: 1, reverse };
        let operands = [builder.constant(weight(HIDDEN)).value(), values[1], slices.value()];
        let stacked = builder.build(Op::Scan(op), &operands).project(1).value();
        if reads_projection { vec![stacked, projection.unary(UnaryOp::Neg).value()] } else { vec![stacked] }
    })
}

fn added<'b>(x: Expr<'b>, product: Expr<'b>) -> Expr<'b> {
    (x + product).unary(UnaryOp::Tanh)
}

/// The rounds of the loops, and those of the loops in them.
fn rounds(program: &Program) -> Vec<(usize, Vec<usize>)> {
    let trip = |step: &Step| match step {
        Step::Loop { trip, .. } => Some(*trip),
        _ => None,
    };
    let of = |step: &Step| trip(step).map(|own| (own, step.inner().iter().filter_map(trip).collect()));
    program.steps.iter().filter_map(of).collect()
}

/// Whether the last product of the innermost loops, or of the program if it has none, begins with something.
fn begins(steps: &[Step]) -> bool {
    let loops = steps.iter().find(|step| matches!(step, Step::Loop { .. }));
    let of = |step: &Step| match step {
        Step::Gemm { gemm, .. } => Some(gemm.accumulate),
        _ => None,
    };
    match loops {
        Some(step) => begins(step.inner()),
        None => steps.iter().rev().find_map(of).expect("there is a product"),
    }
}

#[test]
fn a_projection_is_computed_for_some_rounds_at_a_time() {
    for reverse in [false, true] {
        // Of 4 or 5 rounds at a time those that leave none, else 5.
        for (trip, expected) in [(22, vec![(4, vec![5]), (2, vec![])]), (24, vec![(6, vec![4])])] {
            let graph = recurrent(trip, reverse, added, false);
            let program = program(&graph, 1);
            assert_eq!(rounds(&program), expected, "{program}");
            assert!(begins(&program.steps), "{program}");
            let inputs = inputs(&graph, 9, 0.5);
            check_with(&graph, &inputs);
            // Two threads run all rounds for their rows, and have the same bits.
            let [one, two] = [1, 2].map(|threads| {
                run(&graph, &inputs, &CompileOptions { threads, profile: false, arena_limit: None }, threads)
            });
            assert!(one == two, "{trip} rounds, reverse: {reverse}");
        }
    }
}

#[test]
fn a_projection_that_others_read_is_computed_at_once_and_left_as_it_is() {
    let graph = recurrent(24, false, added, true);
    let program = program(&graph, 1);
    assert_eq!(rounds(&program), [(24, vec![])], "{program}");
    assert!(!begins(&program.steps), "{program}");
    check_with(&graph, &inputs(&graph, 9, 0.5));
}

#[test]
fn a_product_begins_only_with_what_it_is_merely_added_to() {
    let cases: [(&str, Round); 5] = [
        ("a difference", |x, product| x - product),
        ("read once more", |x, product| x * (x + product)),
        ("used once more", |x, product| product * (x + product)),
        ("other columns", |x, product| x.reverse(&[1]) + product),
        ("twice", |_, product| product + product),
    ];
    for (case, round) in cases {
        let graph = recurrent(24, false, round, false);
        let program = program(&graph, 1);
        assert!(!begins(&program.steps), "{case}\n{program}");
        check_with(&graph, &inputs(&graph, 9, 0.5));
    }
}

#[test]
fn a_product_outside_of_loops_begins_with_what_nobody_needs_later() {
    let text = |left: &str, last: &str| {
        format!(
            "graph @layers(%x: f32[40,48], %w: f32[48,48], %z: f32[40,48]) {{
  %y: f32[40,48] = dot %z, %w lhs=[1] rhs=[0]
  %n: f32[40,48] = softmax %y axis=1
  %p: f32[40,48] = dot {left}, %w lhs=[1] rhs=[0]
  %s: f32[40,48] = add %n, %p
  %e: f32[40,48] = softmax %s axis=1
  return %e{last}
}}"
        )
    };
    for (left, last, expected) in [("%x", "", true), ("%n", "", false), ("%x", ", %n", false)] {
        let graph = parse(&text(left, last)).unwrap();
        let program = program(&graph, 1);
        assert_eq!(begins(&program.steps), expected, "{left}{last}\n{program}");
        check_with(&graph, &inputs(&graph, 5, 0.3));
    }
}
