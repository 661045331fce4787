//! How often, and in which pieces, programs go over memory.

mod common;

use common::{check, graph};
use gradc_codegen::lower;
use gradc_ir::{DType, Graph, ScatterOp, Shape, TensorType};

/// Rows added to a tensor of one number.
fn scattered(value: f64) -> Graph {
    graph(&[(DType::I64, &[3]), (DType::F32, &[3, 40])], |builder, values| {
        let ty = TensorType::new(DType::F32, Shape::from([30, 40]));
        let [index, update] = [values[0], values[1]].map(|value| builder.expr(value));
        vec![builder.splat(&ty, value).scatter(0, ScatterOp::Add, index, update).value()]
    })
}

#[test]
fn many_zeros_are_written_by_a_call_and_only_zeros() {
    let text = |graph: &Graph, threads| lower(graph, threads).unwrap().to_string();
    let zeros = scattered(0.0);
    assert!(text(&zeros, 1).contains("zero 4800 -> "), "{}", text(&zeros, 1));
    // Many threads write more at a time than one call does.
    assert!(!text(&zeros, 8).contains("zero 4800"), "{}", text(&zeros, 8));
    check(&zeros);
    for other in [-0.0, 1.0] {
        assert!(!text(&scattered(other), 1).contains("zero 4800"), "{other}");
        check(&scattered(other));
    }
}

#[test]
fn zeros_are_written_again_rather_than_copied_and_kept() {
    // The same zeros twice, and a third time as a result.
    let graph = graph(&[(DType::I64, &[3]), (DType::F32, &[3, 40])], |builder, values| {
        let ty = TensorType::new(DType::F32, Shape::from([30, 40]));
        let [index, update] = [values[0], values[1]].map(|value| builder.expr(value));
        let zeros = builder.splat(&ty, 0.0);
        let add = zeros.scatter(0, ScatterOp::Add, index, update);
        let twice = zeros.scatter(0, ScatterOp::Add, index, update * update);
        vec![add.value(), twice.value(), zeros.value()]
    });
    let program = lower(&graph, 1).unwrap();
    let text = program.to_string();
    assert!(!text.contains("copy"), "{text}");
    assert_eq!(text.matches("zero 4800").count(), 3, "{text}");
    check(&graph);
    // Zeros that something else is computed of stay, and are read there.
    let read = graph_of_read_zeros();
    let text = lower(&read, 1).unwrap().to_string();
    assert!(text.contains("zero 4800") && !text.contains("copy"), "{text}");
    check(&read);
}

/// Zeros that are scattered into, and that a gather reads.
fn graph_of_read_zeros() -> Graph {
    graph(&[(DType::I64, &[3]), (DType::F32, &[3, 40])], |builder, values| {
        let ty = TensorType::new(DType::F32, Shape::from([30, 40]));
        let [index, update] = [values[0], values[1]].map(|value| builder.expr(value));
        let zeros = builder.splat(&ty, 0.0);
        let rows = zeros.gather(0, index);
        vec![zeros.scatter(0, ScatterOp::Add, index, update).value(), (rows + update).value()]
    })
}

#[test]
fn one_thread_reduces_whole_rows_and_several_share_the_columns() {
    let sums =
        graph(&[(DType::F32, &[9, 1536])], |builder, values| vec![builder.expr(values[0]).sum(&[0]).value()]);
    for (threads, columns) in [(1, 1536), (2, 768), (8, 256)] {
        let kernel = lower(&sums, threads).unwrap().kernels[0].to_string();
        assert!(kernel.contains(&format!(" in {columns} {{")), "{threads}: {kernel}");
    }
    check(&sums);
}
