//! The arithmetic that yields NaN or infinity, in words.

use super::shown;
use gradc_ir::{BinaryOp, Literal, Op, ReduceOp, UnaryOp};

/// What a node did to yield the element of `result` at a row-major position.
pub(super) fn reason(op: &Op, operands: &[Literal], result: &Literal, position: usize) -> String {
    let element = |operand: usize| {
        let operand = operands.get(operand)?;
        let same = operand.shape() == result.shape();
        let value = same.then(|| operand.to_f64().get(position).copied()).flatten()?;
        Some(shown(value, operand.dtype()))
    };
    match op {
        Op::Unary(unary) => match element(0) {
            Some(x) => of_unary(*unary, &x),
            None => unary.name().to_owned(),
        },
        Op::Binary(binary) => match (element(0), element(1)) {
            (Some(a), Some(b)) => of_binary(*binary, &a, &b),
            _ => binary.name().to_owned(),
        },
        Op::Cast(dtype) => match element(0) {
            Some(x) => format!("{x} does not fit {dtype}"),
            None => format!("a number that does not fit {dtype}"),
        },
        Op::Bitcast(dtype) => format!("bits that are no number of {dtype}"),
        Op::Reduce { op: ReduceOp::Prod, .. } => format!("a product of {}", summary(operands.first())),
        Op::Reduce { .. } => format!("a sum of {}", summary(operands.first())),
        Op::Cumulative { .. } => format!("a running sum or product of {}", summary(operands.first())),
        Op::Dot(_) | Op::Conv(_) => {
            format!("sums of products of {}, and of {}", summary(operands.first()), summary(operands.get(1)))
        }
        Op::Window(_) => format!("sums over windows of {}", summary(operands.first())),
        Op::Softmax { .. } | Op::LogSoftmax { .. } => {
            format!("a softmax of {}", summary(operands.first()))
        }
        Op::Scatter { .. } => format!("updates of {}", summary(operands.last())),
        Op::Scan(scan) => format!("inside of a loop of {} steps", scan.trip),
        Op::Fused(_) => "inside of a group of operations".to_owned(),
        Op::Input(_) => "it was given so".to_owned(),
        Op::Constant(_) => "it stands so in the file".to_owned(),
        Op::Iota { .. }
        | Op::Mark(_)
        | Op::Compare(_)
        | Op::Select
        | Op::ArgReduce { .. }
        | Op::ArgSort { .. }
        | Op::Broadcast { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Reverse { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Project(_) => "it was moved there".to_owned(),
    }
}

fn of_unary(op: UnaryOp, x: &str) -> String {
    format!("{}({x})", op.name())
}

fn of_binary(op: BinaryOp, a: &str, b: &str) -> String {
    let sign = match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "−",
        BinaryOp::Mul => "·",
        BinaryOp::Div => "/",
        BinaryOp::Pow => "to the power of",
        BinaryOp::Rem => "modulo",
        BinaryOp::Max
        | BinaryOp::Min
        | BinaryOp::Atan2
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => return format!("{}({a}, {b})", op.name()),
    };
    format!("{a} {sign} {b}")
}

/// What numbers an operand holds, as far as they matter here.
fn summary(operand: Option<&Literal>) -> String {
    let Some(operand) = operand else { return "nothing".to_owned() };
    let values = operand.to_f64();
    let has = |pleases: fn(f64) -> bool| values.iter().any(|&value| pleases(value));
    let (plus, minus) = (has(|value| value == f64::INFINITY), has(|value| value == f64::NEG_INFINITY));
    let largest =
        values.iter().filter(|value| value.is_finite()).fold(0f64, |most, value| most.max(value.abs()));
    match (plus, minus) {
        (true, true) => "numbers with inf and -inf among them".to_owned(),
        (true, false) => "numbers with inf among them".to_owned(),
        (false, true) => "numbers with -inf among them".to_owned(),
        (false, false) => format!("numbers up to {} in size", shown(largest, operand.dtype())),
    }
}
