//! The attributes of every operator, as the text form lists them.

use crate::{ConvOp, Mark, Op, WindowOp};
use std::fmt;

/// The value of an attribute.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Attribute {
    Number(i128),
    Flag(bool),
    List(Vec<i128>),
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Number(number) => write!(f, "{number}"),
            Attribute::Flag(flag) => write!(f, "{flag}"),
            Attribute::List(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(i128::to_string).collect();
                write!(f, "[{}]", numbers.join(","))
            }
        }
    }
}

/// Attributes in the order in which they print.
pub(super) type Attributes = Vec<(&'static str, Attribute)>;

/// What prints after the operands: all attributes but those that the types imply, and those that have their usual
/// value (false, all 1, all 0, as the parser assumes where they are missing).
pub(super) fn attributes(op: &Op) -> Attributes {
    match op {
        Op::Input(_) | Op::Constant(_) | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select => vec![],
        Op::Mark(Mark::StopGradient | Mark::Surrogate) | Op::Cast(_) | Op::Bitcast(_) => vec![],
        Op::Reshape { .. } | Op::Fused(_) => vec![],
        Op::Mark(Mark::Tag(id)) => vec![("id", Attribute::Number((*id).into()))],
        Op::Iota { axis, .. } | Op::Concat { axis } | Op::Gather { axis } | Op::Scatter { axis, .. } => {
            vec![number("axis", *axis)]
        }
        Op::Softmax { axis } | Op::LogSoftmax { axis } => vec![number("axis", *axis)],
        Op::Reduce { axes, .. } | Op::Reverse { axes } => vec![list("axes", axes)],
        Op::ArgReduce { axis, last, .. } => joined([Some(number("axis", *axis)), flag("last", *last)]),
        Op::Cumulative { axis, exclusive, reverse, .. } => {
            joined([Some(number("axis", *axis)), flag("exclusive", *exclusive), flag("reverse", *reverse)])
        }
        Op::ArgSort { axis, count, descending } => joined([
            Some(number("axis", *axis)),
            Some(number("count", *count)),
            flag("descending", *descending),
        ]),
        Op::Dot(dims) => joined([
            unless(vec![], list("lhs_batch", &dims.lhs_batch)),
            unless(vec![], list("rhs_batch", &dims.rhs_batch)),
            Some(list("lhs", &dims.lhs_contract)),
            Some(list("rhs", &dims.rhs_contract)),
        ]),
        Op::Conv(conv) => convolution(conv),
        Op::Window(window) => sliding(window),
        Op::Broadcast { dims, .. } => vec![list("dims", dims)],
        Op::Transpose { permutation } => vec![list("permutation", permutation)],
        Op::Slice { start, limit, step } => joined([
            Some(list("start", start)),
            Some(list("limit", limit)),
            unless(vec![1; step.len()], list("step", step)),
        ]),
        Op::Pad { low, high, interior } => joined([
            Some(list("low", low)),
            Some(list("high", high)),
            unless(vec![0; interior.len()], list("interior", interior)),
        ]),
        Op::Scan(scan) => joined([
            Some(number("trip", scan.trip)),
            Some(number("constants", scan.constants)),
            Some(number("carries", scan.carries)),
            flag("reverse", scan.reverse),
        ]),
        Op::Project(part) => vec![number("part", *part)],
    }
}

fn convolution(conv: &ConvOp) -> Attributes {
    let spatial = conv.stride.len();
    joined([
        unless(vec![1; spatial], list("stride", &conv.stride)),
        unless(vec![1; spatial], list("dilation", &conv.dilation)),
        unless(vec![0; spatial], list("pad_low", &conv.pad_low)),
        (conv.groups != 1).then(|| number("groups", conv.groups)),
    ])
}

fn sliding(window: &WindowOp) -> Attributes {
    let rank = window.window.len();
    joined([
        Some(list("window", &window.window)),
        unless(vec![1; rank], list("stride", &window.stride)),
        unless(vec![1; rank], list("dilation", &window.dilation)),
        unless(vec![0; rank], list("low", &window.pad_low)),
        unless(vec![0; rank], list("high", &window.pad_high)),
    ])
}

type Entry = (&'static str, Attribute);

fn joined<const N: usize>(entries: [Option<Entry>; N]) -> Attributes {
    entries.into_iter().flatten().collect()
}

fn number(name: &'static str, value: usize) -> Entry {
    (name, Attribute::Number(value as i128))
}

fn flag(name: &'static str, value: bool) -> Option<Entry> {
    value.then_some((name, Attribute::Flag(true)))
}

fn list<T: Copy + TryInto<i128>>(name: &'static str, values: &[T]) -> Entry {
    let wide = |&value: &T| value.try_into().unwrap_or_else(|_| unreachable!("an attribute fits 128 bits"));
    (name, Attribute::List(values.iter().map(wide).collect()))
}

fn unless(usual: Vec<i128>, entry: Entry) -> Option<Entry> {
    (entry.1 != Attribute::List(usual)).then_some(entry)
}
