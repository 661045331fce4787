//! The spellings of all operators.

use crate::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The spelling of every operator, `input` included. Panics where a family has no representative here.
pub fn operator_names() -> BTreeSet<&'static str> {
    let operators = representatives();
    let families: BTreeSet<usize> = operators.iter().map(family).collect();
    assert_eq!(families, (0..FAMILIES).collect(), "every family has a representative");
    operators.iter().map(Op::name).collect()
}

const FAMILIES: usize = 27;

/// A number for each variant of [`Op`]: a new variant does not compile without one, and then lacks a representative.
fn family(op: &Op) -> usize {
    match op {
        Op::Input(_) => 0,
        Op::Constant(_) => 1,
        Op::Iota { .. } => 2,
        Op::Mark(Mark::Tag(_) | Mark::StopGradient | Mark::Surrogate) => 3,
        Op::Unary(_) => 4,
        Op::Binary(_) => 5,
        Op::Compare(_) => 6,
        Op::Select => 7,
        Op::Cast(_) | Op::Bitcast(_) => 8,
        Op::Reduce { .. } => 9,
        Op::ArgReduce { .. } => 10,
        Op::Cumulative { .. } => 11,
        Op::ArgSort { .. } => 12,
        Op::Dot(_) => 13,
        Op::Conv(_) => 14,
        Op::Window(_) => 15,
        Op::Broadcast { .. } | Op::Reshape { .. } => 16,
        Op::Transpose { .. } => 17,
        Op::Reverse { .. } => 18,
        Op::Slice { .. } => 19,
        Op::Pad { .. } => 20,
        Op::Concat { .. } => 21,
        Op::Gather { .. } => 22,
        Op::Scatter { .. } => 23,
        Op::Softmax { .. } | Op::LogSoftmax { .. } => 24,
        Op::Scan(_) | Op::Fused(_) => 25,
        Op::Project(_) => 26,
    }
}

fn representatives() -> Vec<Op> {
    let axis = 0;
    let shape = Shape::scalar();
    let ty = TensorType::scalar(DType::F32);
    let body = Arc::new(Builder::new("empty").finish(&[]));
    let mut operators = vec![
        Op::Input(0),
        Op::Constant(Literal::scalar(0.0f32)),
        Op::Iota { ty, axis },
        Op::Mark(Mark::Tag(0)),
        Op::Mark(Mark::StopGradient),
        Op::Mark(Mark::Surrogate),
        Op::Select,
        Op::Cast(DType::F32),
        Op::Bitcast(DType::F32),
        Op::ArgReduce { op: ArgOp::Max, axis, last: false },
        Op::ArgReduce { op: ArgOp::Min, axis, last: false },
        Op::Cumulative { op: CumulativeOp::Sum, axis, exclusive: false, reverse: false },
        Op::Cumulative { op: CumulativeOp::Prod, axis, exclusive: false, reverse: false },
        Op::ArgSort { axis, count: 1, descending: false },
        Op::Dot(DotDims::default()),
        Op::Broadcast { shape: shape.clone(), dims: vec![] },
        Op::Reshape { shape: shape.clone() },
        Op::Transpose { permutation: vec![] },
        Op::Reverse { axes: vec![] },
        Op::Slice { start: vec![], limit: vec![], step: vec![] },
        Op::Pad { low: vec![], high: vec![], interior: vec![] },
        Op::Concat { axis },
        Op::Gather { axis },
        Op::Softmax { axis },
        Op::LogSoftmax { axis },
        Op::Scan(ScanOp { body: body.clone(), trip: 0, constants: 0, carries: 0, reverse: false }),
        Op::Project(0),
        Op::Fused(FusedOp { body }),
    ];
    operators.extend(UnaryOp::ALL.iter().copied().map(Op::Unary));
    operators.extend(BinaryOp::ALL.iter().copied().map(Op::Binary));
    operators.extend(CompareOp::ALL.iter().copied().map(Op::Compare));
    let reductions = [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min];
    operators.extend(reductions.map(|op| Op::Reduce { op, axes: vec![] }));
    let updates = [ScatterOp::Set, ScatterOp::Add, ScatterOp::Mul, ScatterOp::Max, ScatterOp::Min];
    operators.extend(updates.map(|op| Op::Scatter { axis, op }));
    operators.extend([ConvForm::Forward, ConvForm::Input, ConvForm::Weight].map(convolution));
    let windows = [WindowKind::Sum, WindowKind::Max, WindowKind::ArgMax, WindowKind::Spread { shape }];
    operators.extend(windows.map(window));
    operators
}

fn convolution(form: ConvForm) -> Op {
    let [input, kernel, output, stride, dilation] = [const { Vec::new() }; 5];
    Op::Conv(ConvOp { form, input, kernel, output, stride, dilation, pad_low: vec![], groups: 1 })
}

fn window(kind: WindowKind) -> Op {
    let [window, stride, dilation] = [const { Vec::new() }; 3];
    Op::Window(WindowOp { kind, window, stride, dilation, pad_low: vec![], pad_high: vec![] })
}
