//! Convolutions are computed by less exact ways only where no decision depends on them.

mod common;

use common::graph;
use gradc_codegen::lower;
use gradc_codegen::program::Step;
use gradc_ir::{
    ArgOp, BinaryOp, Builder, CompareOp, ConvForm, ConvOp, DType, Expr, FusedOp, Graph, Op, UnaryOp, Value,
};
use std::sync::Arc;

/// What is made of a convolution's result, another tensor of its shape, and zeros.
type Make<'a> = &'a dyn Fn(&Builder, Value, Value, Value) -> Vec<Value>;

const SHAPE: [usize; 4] = [1, 16, 20, 20];

/// A graph of a convolution and of what is made of its result, another tensor of its shape, and zeros.
fn after(make: impl Fn(&Builder, Value, Value, Value) -> Vec<Value>) -> Graph {
    let inputs: [(DType, &[usize]); 3] =
        [(DType::F32, &SHAPE), (DType::F32, &[16, 16, 3, 3]), (DType::F32, &SHAPE)];
    graph(&inputs, |builder, values| {
        let op = ConvOp {
            form: ConvForm::Forward,
            input: vec![20, 20],
            kernel: vec![3, 3],
            output: vec![20, 20],
            stride: vec![1, 1],
            dilation: vec![1, 1],
            pad_low: vec![1, 1],
            groups: 1,
        };
        let y = builder.build(Op::Conv(op), &values[..2]).value();
        let zeros = builder.splat(&builder.ty(y), 0.0).value();
        make(builder, y, values[2], zeros)
    })
}

/// Whether the only convolution of a graph is computed by the less exact ways.
fn is_loose(graph: &Graph) -> bool {
    let program = lower(graph, 1).unwrap_or_else(|error| panic!("{error}"));
    let mut loose = program.steps.iter().filter_map(|step| match step {
        Step::Conv { conv, .. } => Some(conv.loose),
        _ => None,
    });
    let (Some(first), None) = (loose.next(), loose.next()) else { panic!("one convolution:\n{program}") };
    first
}

/// `select (a op b), x, y`
fn choose(builder: &Builder, op: CompareOp, sides: [Value; 2], branches: [Value; 2]) -> Value {
    let condition = builder.build(Op::Compare(op), &sides).value();
    builder.build(Op::Select, &[condition, branches[0], branches[1]]).value()
}

fn unary(builder: &Builder, op: UnaryOp, x: Value) -> Value {
    builder.build(Op::Unary(op), &[x]).value()
}

fn binary(builder: &Builder, op: BinaryOp, x: Value, y: Value) -> Value {
    builder.build(Op::Binary(op), &[x, y]).value()
}

#[test]
fn results_that_decide_nothing_may_be_less_exact() {
    let le = CompareOp::Le;
    let cases: [(&str, Make<'_>); 7] = [
        ("the result", &|_, y, _, _| vec![y]),
        ("a smooth function", &|b, y, _, _| vec![unary(b, UnaryOp::Tanh, y)]),
        ("ReLU", &|b, y, _, zeros| vec![choose(b, le, [y, zeros], [zeros, y])]),
        ("leaky ReLU", &|b, y, x, zeros| {
            vec![choose(b, le, [y, zeros], [binary(b, BinaryOp::Mul, y, x), y])]
        }),
        ("the greater of two", &|b, y, x, _| vec![choose(b, CompareOp::Gt, [y, x], [y, x])]),
        ("a guard", &|b, y, x, zeros| vec![choose(b, CompareOp::Eq, [y, zeros], [zeros, x])]),
        ("a decision about something else", &|b, y, x, zeros| vec![y, choose(b, le, [x, zeros], [zeros, y])]),
    ];
    for (name, make) in cases {
        assert!(is_loose(&after(make)), "{name}");
    }
}

#[test]
fn results_that_decide_are_exact() {
    let le = CompareOp::Le;
    let cases: [(&str, Make<'_>); 9] = [
        ("the gradient of ReLU", &|b, y, x, zeros| vec![choose(b, le, [y, zeros], [zeros, x])]),
        ("ReLU and its gradient", &|b, y, x, zeros| {
            vec![choose(b, le, [y, zeros], [zeros, y]), choose(b, le, [y, zeros], [zeros, x])]
        }),
        ("the gradient of ReLU of something smooth", &|b, y, x, zeros| {
            let y = unary(b, UnaryOp::Sin, y);
            vec![choose(b, le, [y, zeros], [zeros, x])]
        }),
        ("a branch that does not meet the other", &|b, y, x, _| {
            vec![choose(b, le, [y, x], [binary(b, BinaryOp::Mul, y, x), y])]
        }),
        ("a comparison that is asked for", &|b, y, _, zeros| {
            vec![b.build(Op::Compare(le), &[y, zeros]).value()]
        }),
        ("which is the greatest", &|b, y, _, _| {
            vec![b.build(Op::ArgReduce { op: ArgOp::Max, axis: 1, last: false }, &[y]).value()]
        }),
        ("a rounding", &|b, y, _, _| vec![unary(b, UnaryOp::Round, y)]),
        ("a conversion to integers", &|b, y, _, _| vec![b.build(Op::Cast(DType::I32), &[y]).value()]),
        ("equality of two", &|b, y, x, zeros| vec![choose(b, CompareOp::Eq, [y, x], [zeros, x])]),
    ];
    for (name, make) in cases {
        assert!(!is_loose(&after(make)), "{name}");
    }
}

/// A group of its inputs y, x and zeros.
fn group(builder: &Builder, inputs: [Value; 3], make: impl Fn([Expr<'_>; 3]) -> Vec<Value>) -> Vec<Value> {
    let body = Builder::new("group");
    let own = inputs.map(|input| body.input("x", builder.ty(input)));
    let outputs = make(own.map(|value| body.expr(value)));
    let body = body.finish(&outputs);
    let fused = builder.build(Op::Fused(FusedOp { body: Arc::new(body) }), &inputs).value();
    (0..outputs.len()).map(|part| builder.build(Op::Project(part), &[fused]).value()).collect()
}

#[test]
fn groups_are_looked_into() {
    let le = CompareOp::Le;
    let inside = |decides: bool| {
        after(move |b, y, x, zeros| {
            group(b, [y, x, zeros], |[y, x, zeros]| {
                let (builder, [y, x, zeros]) = (y.builder(), [y, x, zeros].map(|e| e.value()));
                let other = if decides { x } else { y };
                vec![choose(builder, le, [y, zeros], [zeros, other])]
            })
        })
    };
    assert!(is_loose(&inside(false)));
    assert!(!is_loose(&inside(true)));
    let behind = after(|b, y, x, zeros| {
        let parts = group(b, [y, x, zeros], |[y, x, _]| vec![(y + x).value()]);
        vec![choose(b, le, [parts[0], zeros], [zeros, x])]
    });
    assert!(!is_loose(&behind));
}
