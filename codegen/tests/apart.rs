//! Loops whose rows never meet: each thread runs all rounds for its rows.

mod common;

use common::{check_with, graph, inputs};
use gradc_codegen::{CompileOptions, lower};
use gradc_ir::{DType, DotDims, Graph, Literal, Op, ScanOp, Shape, UnaryOp};
use std::sync::Arc;

/// What a round does with the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Round {
    /// Nothing that mixes them; the weight is read as it is, or transposed.
    Apart { transposed: bool },
    /// Its product sums over them.
    Summed,
    /// Its elementwise part reads other rows.
    Turned,
}

/// `(h, c), x -> (|c + x|, h + product), (product, h * x)`, with one constant weight.
fn recurrent(dtype: DType, [trip, rows, n]: [usize; 3], round: Round, reverse: bool) -> Graph {
    let (matrix, weight): (&[usize], &[usize]) = (&[rows, n], &[n, n]);
    let body =
        graph(&[(dtype, weight), (dtype, matrix), (dtype, matrix), (dtype, matrix)], |builder, values| {
            let [w, h, c, x] = [0, 1, 2, 3].map(|index| builder.expr(values[index]));
            let dims = |lhs, rhs| DotDims {
                lhs_batch: vec![],
                rhs_batch: vec![],
                lhs_contract: vec![lhs],
                rhs_contract: vec![rhs],
            };
            let product = match round {
                Round::Apart { transposed } => h.dot(w, dims(1, usize::from(transposed))),
                Round::Summed => h.dot(w, dims(0, 0)),
                Round::Turned => h.dot(w, dims(1, 0)) + h.transpose(&[1, 0]),
            };
            let next = (c + x).unary(UnaryOp::Abs);
            vec![next.value(), (h + product).value(), product.value(), (h * x).value()]
        });
    let op = ScanOp { body: Arc::new(body), trip, constants: 1, carries: 2, reverse };
    graph(&[(dtype, matrix), (dtype, matrix), (dtype, &[trip, rows, n])], |builder, values| {
        let numbers: Vec<f64> = (0..n * n).map(|i| ((i * 37) % 101) as f64 / 600.0 - 0.1).collect();
        let shape = Shape::new(weight);
        let weight = match dtype {
            DType::F64 => Literal::new(shape, &numbers),
            _ => Literal::new(shape, &numbers.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        };
        let operands = [&[builder.constant(weight).value()], values].concat();
        let tuple = builder.build(Op::Scan(op.clone()), &operands);
        (0..4).map(|part| tuple.project(part).value()).collect()
    })
}

fn run(graph: &Graph, inputs: &[Literal], threads: usize) -> Vec<Vec<u8>> {
    common::run(graph, inputs, &CompileOptions { threads, profile: false, arena_limit: None }, threads)
}

#[test]
fn rows_that_never_meet_run_apart_and_have_the_bits_of_one_thread() {
    for dtype in [DType::F32, DType::F64] {
        for sizes in [[5, 16, 128], [9, 19, 96], [4, 12, 160], [3, 40, 144]] {
            for transposed in [false, true] {
                for reverse in [false, true] {
                    let graph = recurrent(dtype, sizes, Round::Apart { transposed }, reverse);
                    let inputs = inputs(&graph, 11, 1.0);
                    let alone = run(&graph, &inputs, 1);
                    for threads in [2, 3] {
                        let program = lower(&graph, threads).unwrap_or_else(|error| panic!("{error}"));
                        let marked = format!("times, {} rows apart", sizes[1]);
                        assert!(program.to_string().contains(&marked), "{program}");
                        for _ in 0..3 {
                            assert!(
                                run(&graph, &inputs, threads) == alone,
                                "{sizes:?} {transposed} {reverse}"
                            );
                        }
                    }
                    check_with(&graph, &inputs);
                }
            }
        }
    }
}

#[test]
fn rows_that_meet_stay_together() {
    for round in [Round::Summed, Round::Turned] {
        let graph = recurrent(DType::F32, [6, 64, 64], round, false);
        let program = lower(&graph, 2).unwrap_or_else(|error| panic!("{error}"));
        assert!(!program.to_string().contains("rows apart"), "{round:?}\n{program}");
        let inputs = inputs(&graph, 11, 0.05);
        assert!(run(&graph, &inputs, 1) == run(&graph, &inputs, 2), "{round:?}");
        check_with(&graph, &inputs);
    }
}

#[test]
fn few_rows_and_single_threads_stay_together() {
    let graph = recurrent(DType::F32, [6, 4, 256], Round::Apart { transposed: true }, false);
    let large = recurrent(DType::F32, [6, 16, 256], Round::Apart { transposed: true }, false);
    for (graph, threads) in [(&graph, 2), (&large, 1)] {
        let program = lower(graph, threads).unwrap_or_else(|error| panic!("{error}"));
        assert!(!program.to_string().contains("rows apart"), "{program}");
    }
}
