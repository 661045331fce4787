//! Products whose right operand is a constant that is packed when the program is compiled.

mod common;

use common::{check_with, graph, inputs};
use gradc_codegen::program::Origins;
use gradc_codegen::{lower, lower_within};
use gradc_ir::{ConvForm, ConvOp, DType, DotDims, Graph, Literal, Op, Shape};
use gradc_kernels::Tier;

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
        // Rows of a few tiles gain from panels even where columns are adjacent, as they are on the way back.
        for (sizes, packings, uses) in [([16, 50, 40], 2, 3), ([3, 100, 30], 1, 2), ([70, 33, 400], 1, 2)] {
            let graph = products(dtype, sizes, true);
            let program = lower(&graph, 2).unwrap_or_else(|error| panic!("{error}"));
            let packed = program.pieces.iter().filter(|piece| matches!(piece.origin, Origins::Packed(_)));
            assert_eq!(packed.count(), packings, "{program}");
            assert_eq!(program.to_string().matches(" packed -> ").count(), uses, "{program}");
            check_with(&graph, &inputs(&graph, 5, 1.0));
        }
    }
    let alone = products(DType::F32, [16, 50, 40], false);
    let program = lower(&alone, 1).unwrap_or_else(|error| panic!("{error}"));
    assert!(!program.pieces.iter().any(|piece| matches!(piece.origin, Origins::Constant(_))), "{program}");
}

/// A convolution and, if it goes back, its gradient in the input, twice each, with constant weights.
fn convolutions(dtype: DType, channels: usize, stride: usize, back: bool) -> Graph {
    let output = 14 / stride;
    let (x, y) = ([1, channels, 14, 14], [1, channels, output, output]);
    graph(&[(dtype, &x), (dtype, &x), (dtype, &y), (dtype, &y)], |builder, values| {
        let numbers: Vec<f64> =
            (0..9 * channels * channels).map(|i| ((i * 37) % 101) as f64 / 500.0 - 0.1).collect();
        let shape = Shape::new(&[channels, channels, 3, 3]);
        let weight = match dtype {
            DType::F64 => Literal::new(shape, &numbers),
            _ => Literal::new(shape, &numbers.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        };
        let weight = builder.constant(weight).value();
        let conv = |form, operand| {
            let op = ConvOp {
                form,
                input: vec![14, 14],
                kernel: vec![3, 3],
                output: vec![output, output],
                stride: vec![stride, stride],
                dilation: vec![1, 1],
                pad_low: vec![1, 1],
                groups: 1,
            };
            builder.build(Op::Conv(op), &[operand, weight]).value()
        };
        let mut results = vec![conv(ConvForm::Forward, values[0]), conv(ConvForm::Forward, values[1])];
        if back {
            results.extend([conv(ConvForm::Input, values[2]), conv(ConvForm::Input, values[3])]);
        }
        results
    })
}

#[test]
fn weights_of_convolutions_are_packed_once_for_each_form_that_wants_it() {
    let (f32, f64) = (DType::F32, DType::F64);
    for (dtype, stride, back, expected) in [
        (f32, 1, false, 1),
        (f32, 1, true, 2),
        (f32, 2, false, 0),
        (f32, 2, true, 1),
        (f64, 1, false, 0),
        (f64, 1, true, 1),
    ] {
        let graph = convolutions(dtype, 24, stride, back);
        let program = lower(&graph, 2).unwrap_or_else(|error| panic!("{error}"));
        let packed = program.pieces.iter().filter(|piece| matches!(piece.origin, Origins::Packed(_)));
        assert_eq!(packed.count(), expected, "{dtype:?} {stride} {back}\n{program}");
        assert_eq!(program.to_string().matches("packed: Panels").count(), 2 * expected, "{program}");
        let kept = program.pieces.iter().any(|piece| matches!(piece.origin, Origins::Constant(_)));
        assert_eq!(kept, expected < if back { 2 } else { 1 }, "{program}");
        check_with(&graph, &inputs(&graph, 5, 1.0));
    }
}

#[test]
fn where_memory_is_limited_weights_stay_as_they_are() {
    let graph = convolutions(DType::F32, 24, 1, true);
    let program = lower_within(&graph, 2, Some(1 << 30)).unwrap_or_else(|error| panic!("{error}"));
    assert!(!program.pieces.iter().any(|piece| matches!(piece.origin, Origins::Packed(_))), "{program}");
}

/// Whether the kernels multiply bytes on this machine.
fn has_byte_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Tier::detect() == Tier::Avx512 && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Inputs that are whole, and others.
fn whole_and_other_inputs(graph: &Graph) -> [Vec<Literal>; 2] {
    let whole = (inputs(graph, 5, 60.0).iter())
        .map(|x| {
            let rounded: Vec<f32> = x.to_f64().iter().map(|x| x.round() as f32).collect();
            Literal::new(x.ty().shape.clone(), &rounded)
        })
        .collect();
    [whole, inputs(graph, 5, 0.1)]
}

/// Weights of a convolution that are whole numbers of 8 bits, and its gradient in the input, which has floats to read.
#[test]
fn whole_weights_of_convolutions_stay_bytes() {
    let graph = graph(&[(DType::F32, &[1, 10, 9, 9]), (DType::F32, &[1, 30, 9, 9])], |builder, values| {
        let numbers: Vec<f32> = (0..30 * 10 * 9).map(|i| ((i * 37) % 255) as f32 - 127.0).collect();
        let weight = builder.constant(Literal::new(Shape::new(&[30, 10, 3, 3]), &numbers)).value();
        let conv = |form, operand| {
            let op = ConvOp {
                form,
                input: vec![9, 9],
                kernel: vec![3, 3],
                output: vec![9, 9],
                stride: vec![1, 1],
                dilation: vec![1, 1],
                pad_low: vec![1, 1],
                groups: 1,
            };
            builder.build(Op::Conv(op), &[operand, weight])
        };
        let forward = conv(ConvForm::Forward, values[0]);
        let scaled = (forward * forward.splat(0.25)).max(forward.splat(3.0));
        vec![scaled.value(), conv(ConvForm::Input, values[1]).value()]
    });
    let program = lower(&graph, 2).unwrap_or_else(|error| panic!("{error}"));
    let bytes = program.to_string().matches("packed: Bytes").count();
    assert_eq!(bytes, usize::from(has_byte_products()), "{program}");
    whole_and_other_inputs(&graph).iter().for_each(|inputs| check_with(&graph, inputs));
}

/// Weights that are whole numbers of 8 bits, met by whole numbers and by others, from both sides.
#[test]
fn whole_numbers_stay_bytes() {
    let graph = graph(&[(DType::F32, &[5, 40]), (DType::F32, &[5, 50])], |builder, values| {
        let numbers: Vec<f32> = (0..40 * 50).map(|i| ((i * 37) % 255) as f32 - 127.0).collect();
        let weight = builder.constant(Literal::new(Shape::new(&[50, 40]), &numbers));
        let dims = |rhs| DotDims { lhs_contract: vec![1], rhs_contract: vec![rhs], ..DotDims::default() };
        let [x, y] = [0, 1].map(|input| builder.expr(values[input]));
        vec![x.dot(weight, dims(1)).value(), y.dot(weight, dims(0)).value()]
    });
    let program = lower(&graph, 2).unwrap_or_else(|error| panic!("{error}"));
    let bytes = program.to_string().matches(" in bytes -> ").count();
    let kept = program.pieces.iter().any(|piece| matches!(piece.origin, Origins::Constant(_)));
    match has_byte_products() {
        true => assert!(bytes == 2 && !kept, "{program}"),
        false => assert!(bytes == 0, "{program}"),
    }
    whole_and_other_inputs(&graph).iter().for_each(|inputs| check_with(&graph, inputs));
}
