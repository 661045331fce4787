//! Groups of a product and elementwise work on its result, compiled, against the interpreter.

mod common;

use common::{check_with, graph, inputs};
use gradc_codegen::lower;
use gradc_codegen::program::{Program, Step};
use gradc_ir::{
    Builder, ConvForm, ConvOp, DType, DotDims, Expr, FusedOp, Graph, Op, Shape, TensorType, Value,
};
use std::sync::Arc;

/// What is computed of the product's result: of it, a tensor of its shape, one repeated along columns, one repeated
/// along rows (if there are any of these).
type Rest = for<'a> fn(Expr<'a>, Expr<'a>, Expr<'a>, Expr<'a>) -> Vec<Expr<'a>>;

const RESTS: [Rest; 8] = [
    |p, _, _, column| vec![(p + column).tanh()],
    |p, r, row, _| vec![p * row + r],
    |p, r, _, column| {
        let z = p + column;
        let y = z * z.tanh();
        vec![y, z * r, z]
    },
    |p, r, _, _| vec![p.gt(r), p],
    |p, r, _, _| vec![p.gt(r)],
    |p, r, row, column| vec![r.gt(row).select(p, column), r - p],
    |p, _, _, column| vec![p + column],
    |p, _, row, _| {
        let (low, high) = (p.splat(0.0), p.splat(0.25));
        let y = p - row + row;
        let y = y.le(low).select(low, y);
        vec![y.ge(high).select(high, y)]
    },
];

/// The group of a product with some work on its result. `rows` and `columns` are the axes of the result that stand for
/// the kernels' rows and columns.
fn group(
    dtype: DType,
    operands: [&[usize]; 2],
    op: &Op,
    rows: &[usize],
    columns: &[usize],
    rest: Rest,
) -> Graph {
    let builder = Builder::new("alone");
    let own = operands.map(|shape| builder.input("x", TensorType::new(dtype, Shape::new(shape))));
    let shape = builder.ty(builder.build(op.clone(), &own).value()).shape;
    let lengths = |axes: &[usize]| -> Vec<usize> { axes.iter().map(|&axis| shape[axis]).collect() };
    let (row, column) = (lengths(rows), lengths(columns));
    let inputs = [operands[0], operands[1], &shape[..], &row, &column].map(|shape| (dtype, shape));
    let body = graph(&inputs, |builder, values| {
        let product = builder.build(op.clone(), &values[..2]);
        let repeated = |value: Value, dims: &[usize]| {
            builder.build(Op::Broadcast { shape: shape.clone(), dims: dims.to_vec() }, &[value])
        };
        let (row, column) = (repeated(values[3], rows), repeated(values[4], columns));
        rest(product, builder.expr(values[2]), row, column).into_iter().map(|expr| expr.value()).collect()
    });
    let outputs = body.outputs().len();
    let body = Arc::new(body);
    graph(&inputs, |builder, values| {
        let tuple = builder.build(Op::Fused(FusedOp { body: body.clone() }), values);
        (0..outputs).map(|part| tuple.project(part).value()).collect()
    })
}

fn epilogues(program: &Program) -> usize {
    let has_epilogue = |step: &&Step| match step {
        Step::Gemm { epilogue, bias, .. } => epilogue.is_some() || bias.is_some(),
        Step::Conv { epilogue, .. } => epilogue.is_some(),
        _ => false,
    };
    program.steps.iter().filter(has_epilogue).count()
}

/// Checks one group; `inside` tells whether its work has to be done inside the product.
fn check_group(graph: &Graph, inside: bool) {
    let program = lower(graph, 2).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    if !graph.output_types().iter().any(|ty| ty.shape.elements() == 0) {
        assert_eq!(epilogues(&program), usize::from(inside), "{graph}\n{program}");
    }
    // Small numbers, as functions of long sums are compared.
    check_with(graph, &inputs(graph, 7, 0.5));
}

fn dims(batch: usize, lhs: usize, rhs: usize) -> DotDims {
    let batch: Vec<usize> = (0..batch).collect();
    DotDims { lhs_batch: batch.clone(), rhs_batch: batch, lhs_contract: vec![lhs], rhs_contract: vec![rhs] }
}

#[test]
fn products_of_all_shapes() {
    for dtype in [DType::F32, DType::F64] {
        for [m, n, k] in [
            [1, 1, 1],
            [1, 50, 20],
            [37, 1, 20],
            [1, 1, 300],
            [7, 3, 19],
            [9, 53, 1],
            [70, 101, 13],
            [33, 130, 400],
            [5, 7, 0],
            [0, 7, 3],
            [7, 0, 3],
        ] {
            for rest in RESTS {
                let plain = Op::Dot(dims(0, 1, 0));
                check_group(&group(dtype, [&[m, k], &[k, n]], &plain, &[0], &[1], rest), true);
            }
            let transposed = Op::Dot(dims(0, 0, 1));
            check_group(&group(dtype, [&[k, m], &[n, k]], &transposed, &[0], &[1], RESTS[2]), true);
            let batched = Op::Dot(dims(1, 2, 1));
            check_group(&group(dtype, [&[3, m, k], &[3, k, n]], &batched, &[1], &[2], RESTS[5]), true);
            let several_rows = Op::Dot(dims(0, 2, 0));
            check_group(&group(dtype, [&[2, m, k], &[k, n]], &several_rows, &[0, 1], &[2], RESTS[2]), true);
        }
    }
}

/// One matrix for all batches makes more rows of these; where the rest counts batches, it stays as it is.
#[test]
fn products_with_one_matrix_for_all_batches() {
    for (rows, columns) in [(&[0, 1][..], &[2][..]), (&[0], &[2]), (&[1], &[2])] {
        let op = Op::Dot(dims(0, 2, 0));
        let inside = rows.len() == 2;
        check_group(&group(DType::F32, [&[4, 9, 11], &[11, 50]], &op, rows, columns, RESTS[1]), inside);
    }
    for columns in [&[2, 3][..], &[2], &[3]] {
        let op = Op::Dot(dims(0, 2, 0));
        let inside = columns.len() == 2;
        let graph = group(DType::F32, [&[2, 5, 11], &[11, 6, 8]], &op, &[0, 1], columns, RESTS[2]);
        check_group(&graph, inside);
    }
}

/// A group may name a value twice; each output is written.
#[test]
fn outputs_may_be_equal() {
    let twice: [Rest; 3] = [
        |p, _, _, column| vec![p + column, p + column],
        |p, _, _, _| vec![p, p, p.tanh()],
        |p, _, _, column| vec![(p + column).tanh(), (p + column).tanh()],
    ];
    for rest in twice {
        let op = Op::Dot(dims(0, 1, 0));
        let graph = group(DType::F32, [&[7, 11], &[11, 20]], &op, &[0], &[1], rest);
        check_with(&graph, &inputs(&graph, 7, 0.5));
    }
}

#[test]
fn an_operand_may_be_read_again() {
    let body = graph(&[(DType::F32, &[20, 20]), (DType::F32, &[20, 20])], |builder, values| {
        let product = builder.build(Op::Dot(dims(0, 1, 0)), values);
        vec![(product + builder.expr(values[0])).tanh().value()]
    });
    let body = Arc::new(body);
    check_group(
        &graph(&[(DType::F32, &[20, 20]), (DType::F32, &[20, 20])], |builder, values| {
            let operand = builder.expr(values[0]).tanh();
            let operands = [operand.value(), values[1]];
            let group = builder.build(Op::Fused(FusedOp { body: body.clone() }), &operands).project(0);
            vec![(group + operand).value()]
        }),
        true,
    );
}

#[test]
fn convolutions_of_all_forms() {
    let conv = |form, groups: usize, stride: usize, kernel: usize| {
        let output = (9 + 2 - kernel) / stride + 1;
        ConvOp {
            form,
            input: vec![9, 8],
            kernel: vec![kernel, 1],
            output: vec![output, 8],
            stride: vec![stride, 1],
            dilation: vec![1, 1],
            pad_low: vec![1, 0],
            groups,
        }
    };
    for dtype in [DType::F32, DType::F64] {
        for (batch, groups, channels, features) in
            [(1, 1, 3, 10), (3, 1, 8, 9), (2, 2, 4, 6), (2, 6, 6, 6), (1, 1, 40, 33), (0, 1, 2, 3)]
        {
            for (stride, kernel) in [(1, 3), (2, 3), (1, 1), (2, 1), (3, 2)] {
                for form in [ConvForm::Forward, ConvForm::Input, ConvForm::Weight] {
                    let op = conv(form, groups, stride, kernel);
                    let x = [batch, channels, op.input[0], op.input[1]];
                    let w = [features, channels / groups, op.kernel[0], op.kernel[1]];
                    let y = [batch, features, op.output[0], op.output[1]];
                    let (operands, rows, columns): ([&[usize]; 2], &[usize], &[usize]) = match form {
                        ConvForm::Forward => ([&x, &w], &[1], &[2, 3]),
                        ConvForm::Input => ([&y, &w], &[1], &[2, 3]),
                        ConvForm::Weight => ([&x, &y], &[0], &[1, 2, 3]),
                    };
                    for rest in [RESTS[1], RESTS[2], RESTS[5], RESTS[7]] {
                        let graph = group(dtype, operands, &Op::Conv(op.clone()), rows, columns, rest);
                        check_group(&graph, true);
                    }
                }
            }
        }
    }
}
