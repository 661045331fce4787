//! What a loop multiplies with in every round is packed before it.

mod common;

use common::{check_with, graph, inputs, program};
use gradc_codegen::lower_within;
use gradc_codegen::program::{Program, Step};
use gradc_ir::{Builder, DType, DotDims, Graph, Op, ScanOp, Value};
use std::sync::Arc;

const SIZE: usize = 48;

fn product(builder: &Builder, left: Value, right: Value, contract: usize) -> Value {
    let dims =
        DotDims { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![contract] };
    builder.expr(left).dot(builder.expr(right), dims).value()
}

/// A loop over a matrix that is the same in all rounds, a state and another matrix that is not.
fn looped(dtype: DType, rows: usize, trip: usize, round: impl Fn(&Builder, &[Value]) -> [Value; 2]) -> Graph {
    let square: (DType, &[usize]) = (dtype, &[SIZE, SIZE]);
    let state: (DType, &[usize]) = (dtype, &[rows, SIZE]);
    let body = graph(&[square, state, square], |builder, values| round(builder, values).to_vec());
    let op = ScanOp { body: Arc::new(body), trip, constants: 1, carries: 2, reverse: false };
    graph(&[square, state, square], |builder, values| {
        vec![builder.build(Op::Scan(op.clone()), values).project(0).value()]
    })
}

/// The numbers of steps that pack, and of products in loops that take what is packed.
fn packs(program: &Program) -> [usize; 2] {
    let packs = program.steps.iter().filter(|step| matches!(step, Step::Pack { .. }));
    let inner = program.steps.iter().flat_map(Step::inner);
    let takes = inner.filter(|step| matches!(step, Step::Gemm { gemm, .. } if gemm.b_packed.is_packed()));
    [packs.count(), takes.count()]
}

#[test]
fn operands_that_no_round_changes_are_packed_once() {
    for dtype in [DType::F32, DType::F64] {
        for contract in [0, 1] {
            let round = |builder: &Builder, values: &[Value]| {
                let once = product(builder, values[1], values[0], contract);
                [product(builder, once, values[0], contract), values[2]]
            };
            let graph = looped(dtype, 16, 20, round);
            let program = program(&graph, 1);
            assert_eq!(packs(&program), [1, 2], "{program}");
            check_with(&graph, &inputs(&graph, 11, 0.15));
        }
    }
}

#[test]
fn what_changes_and_what_few_rows_read_is_left_where_it_is() {
    let changes = |builder: &Builder, values: &[Value]| {
        let next = builder.expr(values[0]) - builder.expr(values[2]);
        [product(builder, values[1], values[2], 1), next.value()]
    };
    let same = |builder: &Builder, values: &[Value]| [product(builder, values[1], values[0], 1), values[2]];
    for graph in [
        looped(DType::F32, 16, 20, changes),
        looped(DType::F32, 16, 3, same),
        looped(DType::F32, 1, 300, same),
    ] {
        let program = program(&graph, 1);
        assert_eq!(packs(&program), [0, 0], "{program}");
        check_with(&graph, &inputs(&graph, 11, 0.15));
    }
}

#[test]
fn packing_takes_no_memory_where_that_is_limited() {
    let same = |builder: &Builder, values: &[Value]| [product(builder, values[1], values[0], 1), values[2]];
    let graph = looped(DType::F32, 16, 20, same);
    let program = lower_within(&graph, 1, Some(1 << 20)).unwrap();
    assert_eq!(packs(&program), [0, 0], "{program}");
}
