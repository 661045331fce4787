//! Products, convolutions, windows, loops.

use super::sample::{Dress, Family, Sample, operand, sample};
use gradc_ir::{
    Builder, ConvForm, ConvOp, DType, DotDims, Expr, Op, ScanOp, Shape, TensorType, Value, WindowKind,
    WindowOp,
};
use std::sync::Arc;

const RANGE: [f64; 2] = [-1.0, 1.0];

/// Axes by letters: `bij,bjk->bik` without the result, which follows.
fn axes(text: &str) -> DotDims {
    let (left, right) = text.split_once(',').expect("two operands");
    let mut dims = DotDims::default();
    for (at, letter) in left.chars().enumerate() {
        if let Some(other) = right.find(letter) {
            let (lhs, rhs) = match letter.is_uppercase() {
                true => (&mut dims.lhs_batch, &mut dims.rhs_batch),
                false => (&mut dims.lhs_contract, &mut dims.rhs_contract),
            };
            lhs.push(at);
            rhs.push(other);
        }
    }
    dims
}

fn dot() -> Family {
    // Letters in both operands are contracted, capital ones are batch axes.
    let plain: [(&str, &[usize], &[usize]); 26] = [
        ("ik,kj", &[1, 1], &[1, 1]),
        ("ik,kj", &[2, 3], &[3, 4]),
        ("ik,kj", &[7, 5], &[5, 3]),
        ("ik,kj", &[1, 8], &[8, 1]),
        ("ik,kj", &[8, 1], &[1, 8]),
        ("ik,kj", &[16, 16], &[16, 16]),
        ("ik,kj", &[33, 17], &[17, 65]),
        ("ik,kj", &[0, 3], &[3, 2]),
        ("ik,kj", &[2, 0], &[0, 3]),
        ("ik,kj", &[2, 3], &[3, 0]),
        ("ik,jk", &[9, 6], &[7, 6]),
        ("ki,kj", &[6, 9], &[6, 7]),
        ("ki,jk", &[6, 9], &[7, 6]),
        ("k,k", &[11], &[11]),
        ("k,k", &[1030], &[1030]),
        ("ik,k", &[5, 9], &[9]),
        ("k,kj", &[9], &[9, 5]),
        ("i,j", &[4], &[6]),
        ("ikl,klj", &[3, 4, 2], &[4, 2, 5]),
        ("kl,lk", &[4, 6], &[6, 4]),
        ("Bik,Bkj", &[3, 4, 5], &[3, 5, 2]),
        ("BCik,BCkj", &[2, 3, 4, 2], &[2, 3, 2, 3]),
        ("iBk,Bjk", &[4, 3, 5], &[3, 2, 5]),
        ("Bk,Bk", &[6, 7], &[6, 7]),
        ("B,B", &[5], &[5]),
        ("ik,kj", &[130, 70], &[70, 51]),
    ];
    let mut samples: Vec<Sample> = Vec::new();
    let mut add = |text: &str, shapes: [&[usize]; 2], dresses: [Dress; 2]| {
        let dims = axes(text);
        let operands = [0, 1].map(|side| operand(shapes[side], RANGE).wearing(dresses[side]));
        samples.push(sample(format!("{text} {shapes:?} {dresses:?}"), operands.to_vec(), move |_, x| {
            x[0].dot(x[1], dims.clone())
        }));
    };
    for (text, left, right) in plain {
        add(text, [left, right], [Dress::Plain; 2]);
    }
    for (index, dress) in Dress::ALL.into_iter().enumerate() {
        let dresses = [[dress, Dress::Plain], [Dress::Plain, dress], [dress, dress]][index % 3];
        add("ik,kj", [&[4, 5], &[5, 3]], dresses);
        add("Bik,Bkj", [&[2, 4, 5], &[2, 5, 3]], dresses);
    }
    samples.push(sample("with itself", vec![operand(&[4, 6], RANGE)], |_, x| x[0].dot(x[0], axes("ik,jk"))));
    Family { operator: "dot", samples }
}

/// Spatial lengths and what a convolution does with them.
struct Setting {
    channels: [usize; 2],
    groups: usize,
    batch: usize,
    input: Vec<usize>,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
    pad: Vec<i64>,
}

fn settings() -> Vec<Setting> {
    type Line = (usize, usize, usize, &'static [usize], usize, usize, usize, i64);
    // Batch, groups, channels of a group, lengths; of every axis: kernel, stride, dilation, padding.
    let lines: [Line; 30] = [
        (1, 1, 1, &[5], 3, 1, 1, 0),
        (1, 1, 1, &[1], 1, 1, 1, 0),
        (2, 1, 2, &[9], 3, 2, 1, 1),
        (1, 2, 2, &[9], 2, 1, 2, 1),
        (1, 1, 3, &[11], 3, 3, 2, 2),
        (1, 1, 2, &[10], 3, 1, 1, -1),
        (3, 1, 1, &[7], 7, 1, 1, 3),
        (1, 1, 1, &[259], 5, 1, 1, 2),
        (1, 4, 1, &[33], 3, 1, 1, 1),
        (1, 1, 1, &[5, 6], 3, 1, 1, 1),
        (2, 1, 2, &[5, 6], 3, 2, 1, 1),
        (1, 1, 2, &[8, 7], 2, 2, 1, 0),
        (1, 1, 2, &[8, 7], 2, 1, 3, 2),
        (1, 1, 2, &[9, 8], 3, 2, 2, 2),
        (1, 2, 2, &[6, 6], 3, 1, 1, 1),
        (1, 6, 1, &[6, 7], 3, 1, 1, 1),
        (1, 6, 1, &[9, 8], 3, 2, 1, 1),
        (1, 1, 5, &[4, 5], 1, 1, 1, 0),
        (2, 1, 17, &[4, 3], 1, 1, 1, 0),
        (1, 1, 5, &[6, 5], 1, 2, 1, 0),
        (1, 1, 3, &[7, 7], 5, 1, 1, 2),
        (1, 1, 3, &[9, 9], 3, 4, 1, 0),
        (1, 1, 2, &[6, 6], 3, 1, 1, -1),
        (1, 3, 3, &[5, 5], 2, 1, 1, 1),
        (1, 1, 9, &[17, 19], 3, 1, 1, 1),
        (1, 1, 1, &[3, 4, 5], 2, 1, 1, 0),
        (1, 1, 2, &[4, 4, 4], 3, 1, 1, 1),
        (2, 2, 1, &[5, 4, 3], 2, 2, 1, 1),
        (1, 1, 1, &[4, 5, 4], 2, 1, 2, 1),
        (0, 1, 2, &[5, 6], 3, 1, 1, 1),
    ];
    lines
        .map(|(batch, groups, each, input, kernel, stride, dilation, pad)| Setting {
            channels: [groups * each, groups * (each + 1)],
            groups,
            batch,
            input: input.to_vec(),
            kernel: vec![kernel; input.len()],
            stride: vec![stride; input.len()],
            dilation: vec![dilation; input.len()],
            pad: vec![pad; input.len()],
        })
        .into()
}

fn conv(form: ConvForm) -> Family {
    let operator = match form {
        ConvForm::Forward => "conv",
        ConvForm::Input => "conv_input",
        ConvForm::Weight => "conv_weight",
    };
    let samples = settings().into_iter().enumerate().map(|(number, setting)| {
        let output: Vec<usize> = (0..setting.input.len())
            .map(|axis| {
                let reach = setting.dilation[axis] * (setting.kernel[axis] - 1) + 1;
                let padded = setting.input[axis] as i64 + 2 * setting.pad[axis];
                (padded as usize - reach) / setting.stride[axis] + 1
            })
            .collect();
        let [from, to] = setting.channels;
        let x = [&[setting.batch, from], &setting.input[..]].concat();
        let w = [&[to, from / setting.groups], &setting.kernel[..]].concat();
        let y = [&[setting.batch, to], &output[..]].concat();
        let shapes = match form {
            ConvForm::Forward => [x, w],
            ConvForm::Input => [y, w],
            ConvForm::Weight => [x, y],
        };
        let empty = setting.batch == 0;
        let dress = if empty {
            Dress::Plain
        } else {
            [Dress::Plain, Dress::Transposed, Dress::Sliced, Dress::Reversed][number % 4]
        };
        let dresses = if number % 3 == 0 { [Dress::Plain, dress] } else { [dress, Dress::Plain] };
        let label = format!("{shapes:?} {dresses:?} number {number}");
        let op = ConvOp {
            form,
            input: setting.input,
            kernel: setting.kernel,
            output,
            stride: setting.stride,
            dilation: setting.dilation,
            pad_low: setting.pad,
            groups: setting.groups,
        };
        let operands = [0, 1].map(|side| operand(&shapes[side], RANGE).wearing(dresses[side]));
        sample(label, operands.to_vec(), move |builder, x| {
            builder.build(Op::Conv(op.clone()), &[x[0].value(), x[1].value()])
        })
    });
    Family { operator, samples: samples.collect() }
}

fn window(operator: &'static str) -> Family {
    type Line = (&'static [usize], &'static [usize], usize, usize, i64);
    // Lengths, window; of every axis that has one: stride, dilation, padding.
    let lines: [Line; 18] = [
        (&[5], &[3], 1, 1, 0),
        (&[1], &[1], 1, 1, 0),
        (&[7], &[2], 2, 1, 0),
        (&[9], &[3], 2, 1, 1),
        (&[10], &[3], 1, 2, 1),
        (&[12], &[3], 3, 2, 2),
        (&[131], &[5], 1, 1, 2),
        (&[4099], &[3], 2, 1, 1),
        (&[6, 7], &[2, 2], 1, 1, 0),
        (&[6, 7], &[2, 3], 2, 1, 1),
        (&[8, 9], &[3, 3], 1, 2, 1),
        (&[8, 9], &[1, 3], 2, 1, 0),
        (&[70, 67], &[3, 2], 2, 1, 1),
        (&[2, 3, 5, 6], &[1, 1, 2, 2], 2, 1, 0),
        (&[1, 2, 7, 7], &[1, 1, 3, 3], 1, 1, 1),
        (&[1, 4, 3, 3], &[1, 3, 1, 1], 1, 1, 1),
        (&[2, 2, 3, 4, 4], &[1, 1, 2, 2, 2], 1, 1, 0),
        (&[3, 4], &[3, 4], 1, 1, 0),
    ];
    let mut cases: Vec<(Line, Dress)> = lines.map(|line| (line, Dress::Plain)).to_vec();
    cases.extend(Dress::ALL.map(|dress| ((&[6, 7][..], &[3, 2][..], 2, 1, 1), dress)));
    let samples = cases.into_iter().map(|((lengths, window, stride, dilation, pad), dress)| {
        let of = |axis: usize, value: usize, alone: usize| if window[axis] == 1 { alone } else { value };
        let rank = lengths.len();
        let pads: Vec<i64> = (0..rank).map(|axis| if window[axis] == 1 { 0 } else { pad }).collect();
        let op = |kind| WindowOp {
            kind,
            window: window.to_vec(),
            stride: (0..rank).map(|axis| of(axis, stride, 1)).collect(),
            dilation: (0..rank).map(|axis| of(axis, dilation, 1)).collect(),
            pad_low: pads.clone(),
            pad_high: pads.clone(),
        };
        let reduced: Vec<usize> = (0..rank)
            .map(|axis| {
                let reach = of(axis, dilation, 1) * (window[axis] - 1) + 1;
                (lengths[axis] + 2 * pads[axis] as usize - reach) / of(axis, stride, 1) + 1
            })
            .collect();
        let spread = op(WindowKind::Spread { shape: Shape::new(lengths) });
        let [sum, max, arg_max] = [WindowKind::Sum, WindowKind::Max, WindowKind::ArgMax].map(op);
        let shape = if operator == "window_spread" { &reduced[..] } else { lengths };
        let label = format!("{lengths:?} {window:?} {stride} {dilation} {pad} {dress:?}");
        sample(label, vec![operand(shape, RANGE).wearing(dress)], move |builder, x| {
            let node = |op: &WindowOp| builder.build(Op::Window(op.clone()), &[x[0].value()]);
            match operator {
                "window_sum" => node(&sum),
                "window_max" => node(&max),
                "window_spread" => node(&spread),
                _ => {
                    let flat = x[0].reshape(&Shape::from([x[0].shape().elements()]));
                    let chosen = flat.gather(0, node(&arg_max));
                    chosen * chosen
                }
            }
        })
    });
    Family { operator, samples: samples.collect() }
}

/// The body of a loop over a constant k, a carry c and a slice s: `c' = tanh(c k + s)`, stacking `c' s`.
fn body(dtype: DType, shape: &[usize], constant: bool, sequence: bool) -> Arc<gradc_ir::Graph> {
    let builder = Builder::new("step");
    let ty = TensorType::new(dtype, shape);
    let k = constant.then(|| builder.expr(builder.input("k", ty.clone())));
    let c = builder.expr(builder.input("c", ty.clone()));
    let s = sequence.then(|| builder.expr(builder.input("s", ty)));
    let scaled = k.map_or(c * 0.75, |k| c * k);
    let next = s.map_or(scaled, |s| scaled + s).tanh();
    let stacked = s.map_or(next * c, |s| next * s);
    let outputs = [next.value(), stacked.value()];
    builder.finish(&outputs).into()
}

fn loops(operator: &'static str) -> Family {
    let shapes: [&[usize]; 5] = [&[], &[1], &[3], &[2, 3], &[67]];
    let samples = (0..30).map(|number| {
        let shape = shapes[number % 5];
        let trip = [0, 1, 2, 7, 33][(number / 5 + number) % 5];
        let (constant, sequence) = (number % 3 != 1, number % 4 != 2);
        let reverse = number % 2 == 1;
        let long = [&[trip], shape].concat();
        let dress = if number % 7 == 3 && trip > 0 { Dress::Sliced } else { Dress::Plain };
        let mut operands = Vec::new();
        operands.extend(constant.then(|| operand(shape, RANGE)));
        operands.push(operand(shape, RANGE));
        operands.extend(sequence.then(|| operand(&long, RANGE).wearing(dress)));
        let label = format!("{shape:?} {trip} steps, {constant} {sequence} {reverse} {dress:?}");
        sample(label, operands, move |builder, x: &[Expr<'_>]| {
            let shape = x[usize::from(constant)].shape();
            let body = body(x[0].dtype(), &shape, constant, sequence);
            let op = ScanOp { body, trip, constants: usize::from(constant), carries: 1, reverse };
            let values: Vec<Value> = x.iter().map(|x| x.value()).collect();
            let tuple = builder.build(Op::Scan(op), &values);
            tuple.project(0) * 2.0 + tuple.project(1).sum(&[0])
        })
    });
    Family { operator, samples: samples.collect() }
}

pub fn families() -> Vec<Family> {
    let mut all = vec![dot()];
    all.extend([ConvForm::Forward, ConvForm::Input, ConvForm::Weight].map(conv));
    all.extend(["window_sum", "window_max", "window_arg_max", "window_spread"].map(window));
    all.extend(["scan", "project"].map(loops));
    all
}
