//! Compiled sliding windows against the interpreter: all forms, types, ties and NaN.

mod common;

use common::{check, check_with, graph};
use gradc_ir::{DType, Literal, Op, Shape, TensorType, WindowKind, WindowOp};

struct Case {
    shape: &'static [usize],
    window: &'static [usize],
    stride: &'static [usize],
    dilation: &'static [usize],
    pad: &'static [i64],
}

const CASES: [Case; 8] = [
    // As in image models.
    Case {
        shape: &[3, 2, 14, 14],
        window: &[1, 1, 2, 2],
        stride: &[1, 1, 2, 2],
        dilation: &[1; 4],
        pad: &[0; 4],
    },
    Case {
        shape: &[2, 3, 16, 19],
        window: &[1, 1, 3, 3],
        stride: &[1, 1, 2, 2],
        dilation: &[1; 4],
        pad: &[0, 0, 1, 1],
    },
    Case { shape: &[2, 11, 13], window: &[1, 5, 7], stride: &[1, 1, 1], dilation: &[1; 3], pad: &[0, 2, 3] },
    // Windows too large to be written out, and too many kinds of them.
    Case {
        shape: &[2, 20, 21],
        window: &[1, 17, 16],
        stride: &[1, 1, 1],
        dilation: &[1; 3],
        pad: &[0, 8, 8],
    },
    Case { shape: &[1, 9, 9], window: &[1, 9, 9], stride: &[1, 1, 1], dilation: &[1; 3], pad: &[0; 3] },
    // Distances that share a factor or none.
    Case { shape: &[29, 23], window: &[3, 4], stride: &[2, 3], dilation: &[2, 2], pad: &[3, 4] },
    Case { shape: &[2, 40], window: &[1, 3], stride: &[1, 4], dilation: &[1, 6], pad: &[0, 2] },
    // Windows wholly outside, and cut off at both ends.
    Case { shape: &[17, 3], window: &[2, 2], stride: &[1, 2], dilation: &[1, 1], pad: &[3, -1] },
];

fn window(case: &Case, kind: WindowKind) -> WindowOp {
    WindowOp {
        kind,
        window: case.window.to_vec(),
        stride: case.stride.to_vec(),
        dilation: case.dilation.to_vec(),
        pad_low: case.pad.to_vec(),
        pad_high: case.pad.to_vec(),
    }
}

#[test]
fn all_kinds() {
    for case in &CASES {
        let windows = window(case, WindowKind::Sum).output_shape(&case.shape.into()).expect("fits");
        for dtype in [DType::F32, DType::F64, DType::F16, DType::I64, DType::U8] {
            check(&graph(&[(dtype, case.shape)], |builder, values| {
                [WindowKind::Sum, WindowKind::Max, WindowKind::ArgMax]
                    .map(|kind| builder.build(Op::Window(window(case, kind)), values).value())
                    .to_vec()
            }));
            check(&graph(&[(dtype, &windows)], |builder, values| {
                let kind = WindowKind::Spread { shape: case.shape.into() };
                vec![builder.build(Op::Window(window(case, kind)), values).value()]
            }));
        }
    }
}

#[test]
fn the_first_of_equals_and_nan() {
    for case in &CASES {
        let elements: usize = case.shape.iter().product();
        let special = |k: usize| match k * 7919 % 13 {
            0 | 1 => f64::NAN,
            2 => f64::NEG_INFINITY,
            3 => f64::INFINITY,
            4 => -0.0,
            rest => (rest % 3) as f64,
        };
        for few_nan in [false, true] {
            for dtype in [DType::F32, DType::F64] {
                let shape: Shape = case.shape.into();
                let values: Vec<f64> = (0..elements)
                    .map(special)
                    .map(|x| if few_nan && x.is_nan() { f64::NEG_INFINITY } else { x })
                    .collect();
                let bytes: Vec<u8> =
                    values.iter().flat_map(|&x| Literal::scalar_of(dtype, x).bytes().to_vec()).collect();
                let input = Literal::from_bytes(TensorType::new(dtype, shape), bytes.into()).expect("fits");
                let graph = graph(&[(dtype, case.shape)], |builder, values| {
                    [WindowKind::Max, WindowKind::ArgMax]
                        .map(|kind| builder.build(Op::Window(window(case, kind)), values).value())
                        .to_vec()
                });
                check_with(&graph, &[input]);
            }
        }
    }
}
