//! Groups of 16-bit floats round after each operation, as the interpreter does: what they compute has the same bits.

mod common;

use common::{graph, inputs, program, run};
use gradc_codegen::CompileOptions;
use gradc_codegen::program::Step;
use gradc_ir::{DType, FusedOp, Graph, Op, Shape, eval};
use std::sync::Arc;

/// Products, sums and quotients whose results have more bits than 16, some of which are results of the group and some
/// not; rows with their greatest; a result in f32.
fn group(dtype: DType) -> Graph {
    let shapes: [&[usize]; 3] = [&[6, 37], &[6, 37], &[37]];
    let types = shapes.map(|shape| (dtype, shape));
    let body = graph(&types, |builder, values| {
        let [x, y, row] = [0, 1, 2].map(|input| builder.expr(values[input]));
        let row = row.broadcast(&Shape::new(&[6, 37]), &[1]);
        let product = x * y;
        let sum = product + row;
        let greatest = sum.max(sum.splat(0.25)).reduce_max(&[1]).broadcast(&Shape::new(&[6, 37]), &[0]);
        let quotient = (sum - x) / greatest;
        let wide = (quotient * product).cast(DType::F32) * y.cast(DType::F32);
        vec![quotient.value(), wide.value()]
    });
    let body = Arc::new(body);
    graph(&types, |builder, values| {
        let tuple = builder.build(Op::Fused(FusedOp { body: body.clone() }), values);
        vec![tuple.project(0).value(), tuple.project(1).value()]
    })
}

#[test]
fn groups_round_after_each_operation() {
    let options = CompileOptions { threads: 1, profile: false, arena_limit: None };
    for dtype in [DType::F16, DType::BF16] {
        let graph = group(dtype);
        assert!(matches!(program(&graph, 1).steps[..], [Step::Kernel { .. }]), "one kernel");
        for seed in 0..4 {
            let inputs = inputs(&graph, seed, 3.0);
            let expected: Vec<Vec<u8>> =
                eval(&graph, &inputs).unwrap().iter().map(|literal| literal.bytes().to_vec()).collect();
            assert!(run(&graph, &inputs, &options, 1) == expected, "{dtype}, seed {seed}");
        }
    }
}
