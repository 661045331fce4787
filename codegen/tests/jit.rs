//! Compiled code against the interpreter.

mod common;

use common::{check, graph};
use gradc_codegen::{Aligned, compile};
use gradc_ir::{
    ArgOp, BinaryOp, Builder, CompareOp, ConvForm, ConvOp, CumulativeOp, DType, DotDims, Expr, Graph,
    Literal, Op, ReduceOp, ScanOp, ScatterOp, Shape, TensorType, UnaryOp, Value, WindowKind, WindowOp,
};
use gradc_kernels::Team;
use std::sync::Arc;

fn unary(dtype: DType, shape: &[usize], make: impl Fn(Expr) -> Value) -> Graph {
    graph(&[(dtype, shape)], |builder, values| vec![make(builder.expr(values[0]))])
}

const SHAPES: [&[usize]; 7] = [&[], &[0], &[1], &[5], &[3, 0, 2], &[7, 19], &[2, 3, 33]];

#[test]
fn unary_ops() {
    for &op in UnaryOp::ALL {
        for dtype in DType::ALL.into_iter().filter(|&dtype| op.accepts().0(dtype)) {
            for shape in SHAPES {
                check(&unary(dtype, shape, |x| x.unary(op).value()));
            }
        }
    }
}

#[test]
fn binary_and_compare_ops() {
    for dtype in DType::ALL {
        for shape in SHAPES {
            let operands: &[(DType, &[usize])] = &[(dtype, shape), (dtype, shape)];
            check(&graph(operands, |builder, values| {
                let [a, b] = [values[0], values[1]].map(|value| builder.expr(value));
                let fitting = BinaryOp::ALL.iter().filter(|op| op.accepts().0(dtype));
                let mut outputs: Vec<Value> = fitting.map(|&op| a.binary(op, b).value()).collect();
                outputs.extend(CompareOp::ALL.iter().map(|&op| a.compare(op, b).value()));
                outputs.push(a.lt(b).select(a, b).value());
                outputs
            }));
        }
    }
}

#[test]
fn casts() {
    for from in DType::ALL {
        check(&graph(&[(from, &[37])], |builder, values| {
            DType::ALL.into_iter().map(|to| builder.expr(values[0]).cast(to).value()).collect()
        }));
    }
}

#[test]
fn reductions() {
    for dtype in [DType::F32, DType::F64, DType::I64, DType::I32, DType::F16] {
        for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Prod] {
            for axes in [&[0][..], &[1], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2]] {
                for shape in [[3, 5, 17], [1, 4, 2], [2, 0, 3], [40, 2, 9]] {
                    check(&unary(dtype, &shape, |x| x.reduce(op, axes).value()));
                }
            }
        }
    }
    for axis in [0, 1] {
        check(&unary(DType::Bool, &[3, 4], |x| x.reduce_max(&[axis]).value()));
        for last in [false, true] {
            for op in [ArgOp::Max, ArgOp::Min] {
                for dtype in [DType::F32, DType::I32] {
                    check(&unary(dtype, &[6, 9], |x| {
                        x.builder().build(Op::ArgReduce { op, axis, last }, &[x.value()]).value()
                    }));
                }
            }
        }
    }
}

#[test]
fn reductions_over_leading_axes() {
    for shape in [[3, 4, 48], [1, 7, 16], [2, 2, 512], [5, 1, 17]] {
        for dtype in [DType::F32, DType::F64, DType::I32] {
            check(&graph(&[(dtype, &shape), (dtype, &shape)], |builder, values| {
                let [x, y] = [values[0], values[1]].map(|value| builder.expr(value));
                let inner = Builder::new("body");
                let [a, b] = [x, y].map(|e| inner.expr(inner.input("x", e.ty())));
                let wide = a * b - a;
                let parts = [wide.value(), wide.sum(&[0, 1]).value(), a.reduce_max(&[0, 1]).value()];
                let body = Arc::new(inner.finish(&parts));
                let fused = builder.build(Op::Fused(gradc_ir::FusedOp { body }), &[x.value(), y.value()]);
                (0..3).map(|part| fused.project(part).value()).collect()
            }));
        }
    }
}

#[test]
fn movement() {
    for dtype in [DType::F32, DType::F64, DType::I64, DType::Bool, DType::BF16] {
        check(&graph(&[(dtype, &[3, 4, 5]), (dtype, &[]), (dtype, &[3, 2, 5])], |builder, values| {
            let [x, fill, other] = [values[0], values[1], values[2]].map(|value| builder.expr(value));
            let shape = Shape::from([2, 3, 4, 7, 5]);
            vec![
                x.transpose(&[2, 0, 1]).value(),
                x.reverse(&[0, 2]).value(),
                x.broadcast(&shape, &[1, 2, 4]).value(),
                x.reshape(&Shape::from([12, 5])).value(),
                x.slice(&[0, 1, 0], &[3, 4, 5], &[2, 2, 3]).value(),
                x.pad(fill, &[1, 0, 2], &[0, 3, 1], &[0, 2, 1]).value(),
                x.pad(fill, &[-1, 1, 0], &[2, -2, 0], &[0, 0, 0]).value(),
                builder.concat(1, &[x, other, x]).value(),
                x.value(),
                fill.value(),
            ]
        }));
    }
    for dtype in [DType::F32, DType::I64, DType::U8, DType::Bool] {
        check(&graph(&[], |builder, _| vec![builder.iota(TensorType::new(dtype, [3, 5]), 1).value()]));
    }
}

#[test]
fn softmax_lines() {
    for axis in 0..3 {
        check(&unary(DType::F32, &[3, 5, 17], |x| {
            x.builder().build(Op::Softmax { axis }, &[x.value()]).value()
        }));
        check(&unary(DType::F64, &[3, 5, 17], |x| {
            x.builder().build(Op::LogSoftmax { axis }, &[x.value()]).value()
        }));
    }
}

#[test]
fn products() {
    for dtype in [DType::F32, DType::F64, DType::I32, DType::F16] {
        let dims = |lhs_batch: &[usize], rhs_batch: &[usize], lhs: &[usize], rhs: &[usize]| DotDims {
            lhs_batch: lhs_batch.to_vec(),
            rhs_batch: rhs_batch.to_vec(),
            lhs_contract: lhs.to_vec(),
            rhs_contract: rhs.to_vec(),
        };
        let cases: [(&[usize], &[usize], DotDims); 8] = [
            (&[4, 7], &[7, 3], dims(&[], &[], &[1], &[0])),
            (&[7, 4], &[3, 7], dims(&[], &[], &[0], &[1])),
            (&[2, 4, 7], &[2, 7, 3], dims(&[0], &[0], &[2], &[1])),
            (&[4, 2, 7], &[7, 3, 2], dims(&[1], &[2], &[2], &[0])),
            (&[4, 7, 5], &[5, 7, 3], dims(&[], &[], &[1, 2], &[1, 0])),
            (&[4], &[3], dims(&[], &[], &[], &[])),
            (&[5], &[5], dims(&[], &[], &[0], &[0])),
            (&[4, 0], &[0, 3], dims(&[], &[], &[1], &[0])),
        ];
        for (lhs, rhs, dims) in cases {
            check(&graph(&[(dtype, lhs), (dtype, rhs)], |builder, values| {
                vec![builder.expr(values[0]).dot(builder.expr(values[1]), dims.clone()).value()]
            }));
        }
    }
}

#[test]
fn convolutions() {
    let conv = |form| ConvOp {
        form,
        input: vec![9, 8],
        kernel: vec![3, 2],
        output: vec![5, 7],
        stride: vec![2, 1],
        dilation: vec![1, 2],
        pad_low: vec![1, 0],
        groups: 2,
    };
    let (x, w, y): (&[usize], &[usize], &[usize]) = (&[2, 4, 9, 8], &[6, 2, 3, 2], &[2, 6, 5, 7]);
    for dtype in [DType::F32, DType::F64] {
        for (form, a, b) in [(ConvForm::Forward, x, w), (ConvForm::Input, y, w), (ConvForm::Weight, x, y)] {
            check(&graph(&[(dtype, a), (dtype, b)], |builder, values| {
                vec![builder.build(Op::Conv(conv(form)), values).value()]
            }));
        }
    }
}

/// Small sizes, where some phases of a stride have no position at all.
#[test]
fn convolutions_of_small_sizes() {
    let mut tried = 0;
    for (length, kernel, stride) in (0..36).map(|case| (case % 4 + 1, case / 4 % 3 + 1, case / 12 + 1)) {
        for (dilation, pad) in [(1, 0), (1, 1), (2, 1), (1, 2), (3, 2)] {
            let reach = (kernel - 1) * dilation + 1;
            let padded: usize = length + 2 * pad;
            let Some(room) = padded.checked_sub(reach) else { continue };
            let op = |form| ConvOp {
                form,
                input: vec![length, 3],
                kernel: vec![kernel, 2],
                output: vec![room / stride + 1, 2],
                stride: vec![stride, 1],
                dilation: vec![dilation, 1],
                pad_low: vec![pad as i64, 0],
                groups: 1,
            };
            let (x, w, y) = ([2, 2, length, 3], [3, 2, kernel, 2], [2, 3, room / stride + 1, 2]);
            for (form, a, b) in [(ConvForm::Forward, x, w), (ConvForm::Input, y, w), (ConvForm::Weight, x, y)]
            {
                check(&graph(&[(DType::F32, &a), (DType::F32, &b)], |builder, values| {
                    vec![builder.build(Op::Conv(op(form)), values).value()]
                }));
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn windows() {
    let window = |kind| WindowOp {
        kind,
        window: vec![1, 3, 2],
        stride: vec![1, 2, 1],
        dilation: vec![1, 1, 2],
        pad_low: vec![0, 1, 1],
        pad_high: vec![0, 1, 0],
    };
    let shape = Shape::from([2, 9, 11]);
    let windows = window(WindowKind::Sum).output_shape(&shape).expect("fits");
    for kind in [WindowKind::Sum, WindowKind::Max, WindowKind::ArgMax] {
        check(&unary(DType::F32, &shape, |x| {
            x.builder().build(Op::Window(window(kind.clone())), &[x.value()]).value()
        }));
    }
    let spread = window(WindowKind::Spread { shape });
    check(&unary(DType::F32, &windows, |x| {
        x.builder().build(Op::Window(spread.clone()), &[x.value()]).value()
    }));
}

#[test]
fn indexed() {
    for axis in 0..2 {
        check(&graph(&[(DType::F32, &[3, 4]), (DType::I64, &[2, 2])], |builder, values| {
            vec![builder.expr(values[0]).gather(axis, builder.expr(values[1])).value()]
        }));
        for op in [ScatterOp::Set, ScatterOp::Add, ScatterOp::Mul, ScatterOp::Max, ScatterOp::Min] {
            let update: &[usize] = if axis == 0 { &[5, 4] } else { &[3, 5] };
            let operands: &[(DType, &[usize])] =
                &[(DType::F32, &[3, 4]), (DType::I32, &[5]), (DType::F32, update)];
            check(&graph(operands, |builder, values| {
                let [x, index, update] = [values[0], values[1], values[2]].map(|value| builder.expr(value));
                vec![
                    x.scatter(axis, op, index, update).value(),
                    (x + x).scatter(axis, op, index, update).value(),
                ]
            }));
        }
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            for op in [CumulativeOp::Sum, CumulativeOp::Prod] {
                let op = Op::Cumulative { op, axis, exclusive, reverse };
                check(&unary(DType::F32, &[5, 6], |x| x.builder().build(op.clone(), &[x.value()]).value()));
            }
        }
    }
    for descending in [false, true] {
        for (dtype, axis) in [(DType::F32, 1), (DType::I32, 1), (DType::F64, 0), (DType::I64, 1)] {
            for count in [0, 3, [4, 23][axis]] {
                let op = Op::ArgSort { axis, count, descending };
                check(&unary(dtype, &[4, 23], |x| x.builder().build(op.clone(), &[x.value()]).value()));
            }
        }
    }
}

#[test]
fn an_index_out_of_range_is_an_error() {
    let gather = graph(&[(DType::F32, &[3, 4]), (DType::I64, &[2])], |builder, values| {
        vec![builder.expr(values[0]).gather(0, builder.expr(values[1])).value()]
    });
    let executable = compile(&gather, 1).expect("compiles");
    let mut workspace = executable.workspace(Arc::new(Team::new(1)));
    let x = Aligned::new(48);
    for wrong in [3i64, -1, i64::MAX] {
        let index = Aligned::copy_of(Literal::new([2], &[0i64, wrong]).bytes());
        let mut out = Aligned::new(32);
        let result = executable.run(&mut workspace, [x.as_slice(), index.as_slice()], [out.as_mut_slice()]);
        assert!(
            matches!(result, Err(gradc_codegen::RunError::IndexOutOfRange { .. })),
            "{wrong}: {result:?}"
        );
    }
}

/// carries (a, b) -> (b, a + b * c), sequences x -> y = a * x
fn scan(trip: usize, reverse: bool) -> Graph {
    let three: &[usize] = &[3];
    let body = graph(&[(DType::F32, three); 4], |builder, values| {
        let [c, a, b, x] = [0, 1, 2, 3].map(|index| builder.expr(values[index]));
        vec![b.value(), (a + b * c).value(), (a * x).value()]
    });
    let op = ScanOp { body: Arc::new(body), trip, constants: 1, carries: 2, reverse };
    let three: &[usize] = &[3];
    let operands = [(DType::F32, three), (DType::F32, three), (DType::F32, three), (DType::F32, &[trip, 3])];
    graph(&operands, |builder, values| {
        let tuple = builder.build(Op::Scan(op.clone()), values);
        (0..3).map(|part| tuple.project(part).value()).chain([(tuple.project(2) + 1.0).value()]).collect()
    })
}

#[test]
fn loops() {
    for trip in [0, 1, 2, 5] {
        for reverse in [false, true] {
            check(&scan(trip, reverse));
        }
    }
}

/// Elements are copied into zeros where that is all that padding is, and asked for at each position elsewhere.
#[test]
fn padding_of_large_tensors() {
    for dtype in [DType::F32, DType::F64, DType::I32, DType::BF16] {
        let padded = graph(&[(dtype, &[3, 20, 31])], |builder, values| {
            let x = builder.expr(values[0]);
            let [zero, one] = [0.0, 1.0].map(|fill| builder.constant(Literal::scalar_of(dtype, fill)));
            vec![
                x.pad(zero, &[1, 0, 2], &[0, 30, 1], &[0, 2, 1]).value(),
                x.pad(zero, &[0, 0, 0], &[0, 40, 0], &[0, 0, 0]).value(),
                x.pad(one, &[0, 0, 20], &[0, 40, 0], &[0, 0, 0]).value(),
                x.pad(zero, &[-1, 30, 0], &[2, -2, 0], &[0, 0, 1]).value(),
            ]
        });
        check(&padded);
        let program = gradc_codegen::lower(&padded, 2).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(program.to_string().matches("zero").count(), 2, "{program}");
    }
}
