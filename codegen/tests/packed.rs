//! Products whose right operand is a constant that is packed when the program is compiled.

mod common;

use common::{check_with, graph, inputs};
use gradc_codegen::lower;
use gradc_codegen::program::Origins;
use gradc_ir::{DType, DotDims, Graph, Literal, Shape};

/// `x · wᵀ` twice, and, if it goes back, `x · wᵀ · w`, with a constant of this type.
fn products(dtype: DType, [m, n, k]: [usize; 3], back: bool) -> Graph {
    graph(&[(dtype, &[m, k]), (dtype, &[m, k])], |builder, values| {
        let numbers: Vec<f64> = (0..n * k).map(|i| ((i * 37) % 101) as f64 / 50.0 - 1.0).collect();
        let shape = Shape::new(&[n, k]);
        let weight = match dtype {
            DType::F64 => Literal::new(shape, &numbers),
            _ => Literal::new(shape, &numbers.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        };
        let weight = builder.constant(weight);
        let dims = |lhs, rhs| DotDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![lhs],
            rhs_contract: vec![rhs],
        };
        let [first, second] = [0, 1].map(|input| builder.expr(values[input]).dot(weight, dims(1, 1)));
        let mut results = vec![first.value(), second.value()];
        results.extend(back.then(|| first.dot(weight, dims(1, 0)).value()));
        results
    })
}

#[test]
fn constants_are_packed_once_and_kept_only_where_they_are_used() {
    for dtype in [DType::F32, DType::F64] {
        for sizes in [[16, 50, 40], [3, 100, 30], [70, 33, 400]] {
            let graph = products(dtype, sizes, true);
            let program = lower(&graph, 2).unwrap_or_else(|error| panic!("{error}"));
            let packed = program.pieces.iter().filter(|piece| matches!(piece.origin, Origins::Packed(_)));
            assert_eq!(packed.count(), 1, "{program}");
            assert_eq!(program.to_string().matches(" packed -> ").count(), 2, "{program}");
            check_with(&graph, &inputs(&graph, 5, 1.0));
        }
    }
    let alone = products(DType::F32, [16, 50, 40], false);
    let program = lower(&alone, 1).unwrap_or_else(|error| panic!("{error}"));
    assert!(!program.pieces.iter().any(|piece| matches!(piece.origin, Origins::Constant(_))), "{program}");
}
