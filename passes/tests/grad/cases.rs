//! Wrong gradients that have been met in other systems, by number.

use crate::harness::*;
use gradc_ir::{
    BinaryOp, Builder, CompareOp, ConvForm, ConvOp, DType, DotDims, Expr, Literal, Mark, Op, ScatterOp,
    Shape, TensorType, WindowKind, WindowOp,
};
use gradc_passes::vjp;

fn close(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    let near = got.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs().max(1.0));
    assert!(near, "{got:?} is not {wanted:?}");
}

fn window_max(window: usize, stride: usize) -> Op {
    Op::Window(WindowOp {
        kind: WindowKind::Max,
        window: vec![window],
        stride: vec![stride],
        dilation: vec![1],
        pad_low: vec![0],
        pad_high: vec![0],
    })
}

#[test]
pub fn case_01_elementwise_max_of_equals() {
    let x = tensor(&[3], &[1.0, 2.0, 3.0]);
    let found = gradient(&[x.clone(), tensor(&[3], &[1.0, 5.0, 0.0])], &|_, x| x[0].max(x[1]));
    assert_eq!(found, [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]);
    let found = gradient(&[x], &|_, x| x[0].max(x[0]));
    assert_eq!(found, [[1.0, 1.0, 1.0]]);
}

#[test]
pub fn case_02_ties_are_counted_in_an_integer() {
    let builder = Builder::new("ties");
    let x = builder.expr(builder.input("x", TensorType::new(DType::F32, [1 << 25])));
    let y = x.reduce_max(&[0]);
    let found = values(&builder, &vjp(&builder, &[(y.value(), y.splat(1.0).value())], &[x.value()]).unwrap());
    let graph = builder.finish(&found);
    let sums: Vec<DType> = graph
        .iter()
        .filter(|(_, node)| matches!(node.op, Op::Reduce { .. }) && node.operands[0] != graph.outputs()[0])
        .map(|(_, node)| node.ty().dtype)
        .collect();
    assert_eq!(sums, [DType::F32, DType::I64]);
    let ones = Literal::new([70_000], &vec![1f32; 70_000]);
    let found = gradient(&[ones], &|_, x| x[0].reduce_max(&[0]));
    assert!(found[0].iter().all(|&g| g == (1f32 / 70_000.0) as f64));
}

#[test]
pub fn case_03_infinity_norm_of_equals_sums_to_one() {
    let x = tensor(&[4], &[1.0, -1.0, 1.0, 0.5]);
    close(&gradient(&[x], &|_, x| x[0].abs().reduce_max(&[0]))[0], &[1.0 / 3.0, -1.0 / 3.0, 1.0 / 3.0, 0.0]);
}

#[test]
pub fn case_04_f16_max_over_70000_ones() {
    let one = Literal::scalar_of(DType::F16, 1.0);
    let found = gradient(&[one], &|_, x| x[0].broadcast(&Shape::from([70_000]), &[]).reduce_max(&[0]));
    assert!((found[0][0] - 1.0).abs() < 0.01, "{}", found[0][0]);
    let builder = Builder::new("elements");
    let ty = TensorType::new(DType::F16, [70_000]);
    let x = builder.expr(builder.input("x", ty.clone()));
    let y = x.reduce_max(&[0]);
    let found = values(&builder, &vjp(&builder, &[(y.value(), y.splat(1.0).value())], &[x.value()]).unwrap());
    let ones = Literal::from_bytes(ty, [0x00, 0x3c].repeat(70_000).into()).unwrap();
    let found = gradc_ir::eval(&builder.finish(&found), &[ones]).unwrap()[0].to_f64();
    assert!(found.iter().all(|g| (g * 70_000.0 - 1.0).abs() < 0.01), "{}", found[0]);
}

#[test]
pub fn case_05_max_pool_and_reduce_max_differ_as_documented() {
    let x = tensor(&[3], &[2.0, 2.0, 1.0]);
    let pool =
        gradient(std::slice::from_ref(&x), &|builder, x| builder.build(window_max(3, 1), &[x[0].value()]));
    assert_eq!(pool[0], [1.0, 0.0, 0.0]);
    assert_eq!(gradient(&[x], &|_, x| x[0].reduce_max(&[0]))[0], [0.5, 0.5, 0.0]);
}

#[test]
pub fn case_06_overlapping_max_windows() {
    let x = tensor(&[5], &[1.0, 5.0, 2.0, 4.0, 0.0]);
    let found = gradient(&[x], &|builder, x| builder.build(window_max(3, 1), &[x[0].value()]));
    assert_eq!(found[0], [0.0, 2.0, 0.0, 1.0, 0.0]);
}

#[test]
pub fn case_07_max_of_equals_is_a_subgradient() {
    let found = gradient(&[tensor(&[2], &[3.0, 3.0])], &|_, x| x[0].reduce_max(&[0]));
    assert_eq!(found[0].iter().sum::<f64>(), 1.0);
}

#[test]
pub fn case_08_clamp_by_maximum_and_minimum_inside_and_outside() {
    for (x, wanted) in [(-2.0, 0.0), (0.5, 1.0), (2.0, 0.0)] {
        assert_eq!(slope(x, &|_, x| x[0].max(x[0].splat(-1.0)).min(x[0].splat(1.0))), wanted);
    }
}

#[test]
pub fn case_09_maximum_and_relu_at_0_and_at_subnormals() {
    let relu: Build = &|_, x| x[0].compare(CompareOp::Gt, x[0].splat(0.0)).select(x[0], x[0].splat(0.0));
    let maximum: Build = &|_, x| x[0].max(x[0].splat(0.0));
    assert_eq!((slope(0.0, relu), slope(0.0, maximum)), (0.0, 0.5));
    for x in [5e-324, 1e-310] {
        assert_eq!((slope(x, relu), slope(x, maximum)), (1.0, 1.0));
        assert_eq!((slope(-x, relu), slope(-x, maximum)), (0.0, 0.0));
    }
}

#[test]
pub fn case_10_abs_at_0() {
    assert_eq!(slope(0.0, &|_, x| x[0].abs()), 0.0);
    assert_eq!(slope(-0.0, &|_, x| x[0].abs()), 0.0);
}

#[test]
pub fn case_11_softplus_at_0() {
    assert_eq!(slope(0.0, &|_, x| x[0].softplus()), 0.5);
    // Also where it is written with logarithms.
    assert_eq!(slope(0.0, &|_, x| x[0].exp().log1p()), 0.5);
}

#[test]
pub fn case_12_softplus_has_no_threshold() {
    let x = tensor(&[5], &[-40.0, 19.9, 20.0, 20.1, 40.0]);
    check("softplus", std::slice::from_ref(&x), &|_, x| x[0].softplus());
    let found = gradient(&[x], &|_, x| x[0].softplus());
    assert!(found[0][1] < 1.0 && found[0][3] < 1.0 && found[0][0] > 0.0);
}

#[test]
pub fn case_13_norm_at_0() {
    let found = gradient(&[tensor(&[2], &[0.0, 0.0])], &|_, x| {
        let square = (x[0] * x[0]).sum_all();
        let zero = square.eq(square.splat(0.0));
        zero.select(square.splat(0.0), zero.select(square.splat(1.0), square).sqrt())
    });
    assert_eq!(found[0], [0.0, 0.0]);
}

#[test]
pub fn case_14_root_of_what_is_masked() {
    let x = tensor(&[3], &[4.0, 0.0, -1.0]);
    let found = gradient(&[x], &|_, x| {
        let mask = x[0].compare(CompareOp::Gt, x[0].splat(0.0));
        mask.select(x[0].sqrt(), x[0].splat(0.0))
    });
    assert_eq!(found[0], [0.25, 0.0, 0.0]);
}

#[test]
pub fn case_15_root_of_an_underflow() {
    for x in [800.0, 1e4, -800.0] {
        let found = slope(x, &|_, x| {
            let small = (-(x[0] * x[0])).exp();
            let zero = small.eq(small.splat(0.0));
            zero.select(small.splat(0.0), small.sqrt())
        });
        assert_eq!(found, 0.0);
    }
}

#[test]
pub fn case_16_powers_at_0() {
    let both = gradient(&[tensor(&[], &[0.0]), tensor(&[], &[0.0])], &|_, x| x[0].pow(x[1]));
    assert_eq!(both, [[0.0], [0.0]]);
    let square: Build = &|_, x| x[0].pow(x[0].splat(2.0));
    for x in [0.0, -1.5, 2.0] {
        assert_eq!((slope(x, square), curvature(x, square)), (2.0 * x, 2.0));
    }
    // The exponent is a constant in an input's clothes: no logarithm of a negative number either way.
    let both = gradient(&[tensor(&[], &[-2.0])], &|builder, x| {
        x[0].pow(builder.build(Op::Mark(Mark::StopGradient), &[x[0].splat(2.0).value()]))
    });
    assert_eq!(both, [[-4.0]]);
}

#[test]
pub fn case_17_softmax_of_minus_infinity() {
    let x = tensor(&[2], &[f64::NEG_INFINITY; 2]);
    for op in [Op::Softmax { axis: 0 }, Op::LogSoftmax { axis: 0 }] {
        let found = gradient(std::slice::from_ref(&x), &|builder, x| {
            builder.build(op.clone(), &[x[0].value()]).slice_axis(0, 0, 1)
        });
        assert_eq!(found[0], [0.0, 0.0]);
    }
    // A masked position beside others takes no part.
    let x = tensor(&[3], &[f64::NEG_INFINITY, 0.0, 0.0]);
    let found = gradient(&[x], &|builder, x| {
        builder.build(Op::Softmax { axis: 0 }, &[x[0].value()]).slice_axis(0, 1, 2)
    });
    assert_eq!(found[0], [0.0, 0.25, -0.25]);
}

#[test]
pub fn case_18_log_softmax_of_large_logits() {
    for scale in [1e3, 1e6, 1e300] {
        let found = gradient(&[tensor(&[2], &[scale, -scale])], &|builder, x| {
            builder.build(Op::LogSoftmax { axis: 0 }, &[x[0].value()]).slice_axis(0, 1, 2)
        });
        assert_eq!(found[0], [-1.0, 1.0]);
    }
}

#[test]
pub fn case_19_broadcast_is_summed_once() {
    let found = gradient(&[tensor(&[3], &[1.0, 2.0, 3.0]), tensor(&[4, 3], &[1.0; 12])], &|_, x| {
        x[0].broadcast(&x[1].shape(), &[1]) * x[1]
    });
    assert_eq!(found[0], [4.0, 4.0, 4.0]);
    assert_eq!(found[1], [1.0, 2.0, 3.0].repeat(4));
    // A length of 1 that is repeated, on each axis.
    for shape in [[1, 1, 1], [1, 3, 1], [2, 1, 4], [1, 3, 4]] {
        check("broadcast", &[random(&shape), random(&[2, 3, 4])], &|_, x| {
            x[0].broadcast_to(&x[1].shape()) * x[1]
        });
    }
}

#[test]
pub fn case_20_gather_with_repeated_indices() {
    let found = gradient(&[tensor(&[3, 2], &[1.0; 6])], &|builder, x| {
        x[0].gather(0, index(builder, &[5], &[1, 1, 0, 1, 1]))
    });
    assert_eq!(found[0], [1.0, 1.0, 4.0, 4.0, 0.0, 0.0]);
}

#[test]
pub fn case_21_scatter_with_repeated_indices() {
    let inputs = [tensor(&[3], &[1.0, 2.0, 3.0]), tensor(&[4], &[5.0, 6.0, 7.0, 8.0])];
    let scatter = |op: ScatterOp| {
        gradient(&inputs, &|builder, x| x[0].scatter(0, op, index(builder, &[4], &[0, 2, 0, 0]), x[1]))
    };
    // Only the last of the updates at 0 stays.
    assert_eq!(scatter(ScatterOp::Set), [vec![0.0, 1.0, 0.0], vec![0.0, 1.0, 0.0, 1.0]]);
    assert_eq!(scatter(ScatterOp::Add), [vec![1.0, 1.0, 1.0], vec![1.0; 4]]);
    assert_eq!(scatter(ScatterOp::Mul), [vec![280.0, 1.0, 6.0], vec![56.0, 3.0, 40.0, 35.0]]);
    assert_eq!(scatter(ScatterOp::Max), [vec![0.0, 1.0, 0.0], vec![0.0, 1.0, 0.0, 1.0]]);
    assert_eq!(scatter(ScatterOp::Min), [vec![1.0, 1.0, 1.0], vec![0.0; 4]]);
    let equals = [tensor(&[1], &[7.0]), tensor(&[3], &[7.0, 7.0, 1.0])];
    let found = gradient(&equals, &|builder, x| {
        x[0].scatter(0, ScatterOp::Max, index(builder, &[3], &[0, 0, 0]), x[1])
    });
    close(&found.concat(), &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0]);
}

#[test]
pub fn case_22_scatter_set_is_not_scatter_add() {
    let inputs = [tensor(&[3], &[1.0, 2.0, 3.0]), tensor(&[1], &[9.0])];
    for (op, wanted) in [(ScatterOp::Set, [1.0, 0.0, 1.0]), (ScatterOp::Add, [1.0, 1.0, 1.0])] {
        let found = gradient(&inputs, &|builder, x| x[0].scatter(0, op, index(builder, &[1], &[1]), x[1]));
        assert_eq!(found, [&wanted[..], &[1.0]]);
    }
}

#[test]
pub fn case_23_convolution_with_stride_and_dilation() {
    let mut checks = 0;
    for (stride, dilation) in [(2, 1), (1, 2), (2, 3), (3, 2)] {
        let output = (11 - 2 * dilation - 1) / stride + 1;
        let conv = ConvOp {
            form: ConvForm::Forward,
            input: vec![9, 9],
            kernel: vec![3, 3],
            output: vec![output; 2],
            stride: vec![stride; 2],
            dilation: vec![dilation; 2],
            pad_low: vec![1, 1],
            groups: 1,
        };
        let transposed = Op::Conv(ConvOp { form: ConvForm::Input, ..conv.clone() });
        let forward = Op::Conv(conv);
        checks += check_first("conv", &[random(&[1, 1, 9, 9]), random(&[2, 1, 3, 3])], &|builder, x| {
            builder.build(forward.clone(), &[x[0].value(), x[1].value()])
        });
        checks += check_first(
            "transposed",
            &[random(&[1, 2, output, output]), random(&[2, 1, 3, 3])],
            &|builder, x| builder.build(transposed.clone(), &[x[0].value(), x[1].value()]),
        );
    }
    eprintln!("convolution with stride and dilation: {checks} comparisons");
}

#[test]
pub fn case_24_product_with_its_own_transpose() {
    let x = tensor(&[2], &[3.0, 4.0]);
    let dims = DotDims { lhs_contract: vec![0], rhs_contract: vec![0], ..DotDims::default() };
    let found = gradient(&[x], &|_, x| x[0].dot(x[0], dims.clone()));
    assert_eq!(found[0], [6.0, 8.0]);
    check("gram", &[random(&[3, 2])], &|_, x| x[0].matmul(x[0].transpose(&[1, 0])));
}

#[test]
pub fn case_25_equal_constants_keep_their_own_gradients() {
    let builder = Builder::new("constants");
    let x = builder.expr(builder.input("x", TensorType::scalar(DType::F64)));
    let parameter = |tag: u32| {
        let constant = builder.constant(Literal::scalar(2.0));
        builder.build(Op::Mark(Mark::Tag(tag)), &[constant.value()])
    };
    let (a, b) = (parameter(0), parameter(1));
    let y = a * x + b * x * x;
    let found = vjp(&builder, &[(y.value(), y.splat(1.0).value())], &[a.value(), b.value()]).unwrap();
    let found = values(&builder, &found);
    let found = gradc_ir::eval(&builder.finish(&found), &[Literal::scalar(3.0)]).unwrap();
    assert_eq!(found.iter().map(|literal| literal.to_f64()[0]).collect::<Vec<_>>(), [3.0, 9.0]);
}

#[test]
pub fn case_26_linear_resize_with_aligned_corners() {
    for (from, to) in [(3, 5), (5, 3), (4, 9), (2, 7)] {
        let x = random(&[from]);
        let resize: Build = &|builder, x| {
            let place = |i: usize| i as f64 * (from - 1) as f64 / (to - 1) as f64;
            let low = |i: usize| (place(i).floor() as usize).min(from - 2);
            let below: Vec<i64> = (0..to).map(|i| low(i) as i64).collect();
            let above: Vec<i64> = below.iter().map(|low| low + 1).collect();
            let share: Vec<f64> = (0..to).map(|i| place(i) - low(i) as f64).collect();
            let share = builder.constant(Literal::new([to], &share));
            x[0].gather(0, index(builder, &[to], &below)) * (1.0 - share)
                + x[0].gather(0, index(builder, &[to], &above)) * share
        };
        check("resize", std::slice::from_ref(&x), resize);
        let total: f64 = gradient(&[x], resize)[0].iter().sum();
        assert!((total - to as f64).abs() < 1e-12);
    }
}

#[test]
pub fn case_27_sum_of_a_scattered_slice() {
    let found = gradient(&[tensor(&[4], &[1.0; 4]), tensor(&[2], &[1.0; 2])], &|builder, x| {
        x[0].scatter(0, ScatterOp::Set, index(builder, &[2], &[1, 2]), x[1] * 3.0).sum_all()
    });
    assert_eq!(found, [vec![1.0, 0.0, 0.0, 1.0], vec![3.0, 3.0]]);
}

fn layer_norm<'b>(x: Expr<'b>, scale: Expr<'b>) -> Expr<'b> {
    let last = x.rank() - 1;
    let shape = x.shape();
    let centered = x - x.mean(&[last]).unreduce(&shape, &[last]);
    let variance = (centered * centered).mean(&[last]);
    centered / (variance + 1e-5).sqrt().unreduce(&shape, &[last]) * scale.broadcast(&shape, &[last])
}

#[test]
pub fn case_28_layer_norms_that_share_a_parameter() {
    let checks = check("layer norms", &[random(&[2, 4]), random(&[4])], &|_, x| {
        layer_norm(layer_norm(x[0], x[1]).tanh(), x[1]) + x[0]
    });
    eprintln!("shared layer norms: {checks} comparisons");
}

#[test]
pub fn case_29_group_norm_weight() {
    let checks = check("group norm", &[random(&[2, 4, 3]), random(&[4])], &|_, x| {
        let grouped = x[0].reshape(&Shape::from([2, 2, 6]));
        let ones = grouped.splat(1.0).slice(&[0, 0, 0], &[1, 1, 6], &[1, 1, 1]).reshape(&Shape::from([6]));
        let normal = layer_norm(grouped, ones).reshape(&Shape::from([2, 4, 3]));
        normal * x[1].broadcast(&Shape::from([2, 4, 3]), &[1])
    });
    // The inputs are untouched and the answer is the same twice.
    let x = random(&[5]);
    let build: Build = &|_, x| x[0].binary(BinaryOp::Mul, x[0].exp());
    assert_eq!(gradient(std::slice::from_ref(&x), build), gradient(std::slice::from_ref(&x), build));
    eprintln!("group norm: {checks} comparisons");
}
