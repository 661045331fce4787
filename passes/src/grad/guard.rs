//! Products and quotients in which a zero cotangent never meets an infinite factor.

use gradc_ir::{BinaryOp, Builder, CompareOp, Expr, Op, UnaryOp, Value};

/// `cotangent * factor`, but 0 where the cotangent is 0 and the factor infinite or NaN.
pub(super) fn guarded<'b>(cotangent: Expr<'b>, factor: Expr<'b>) -> Expr<'b> {
    let finite = factor.abs().lt(factor.splat(f64::INFINITY));
    let usable = finite.or(cotangent.ne(cotangent.splat(0.0)));
    cotangent * usable.select(factor, factor.splat(0.0))
}

/// `cotangent * factor`, guarded where the factor visibly comes from a function that can be infinite.
pub(super) fn times<'b>(cotangent: Expr<'b>, factor: Expr<'b>) -> Expr<'b> {
    if may_be_infinite(factor.builder(), factor.value(), 8) {
        guarded(cotangent, factor)
    } else {
        cotangent * factor
    }
}

/// `cotangent / divisor`, but 0 where the cotangent is 0 and the divisor 0 or NaN.
pub(super) fn divided<'b>(cotangent: Expr<'b>, divisor: Expr<'b>) -> Expr<'b> {
    if bounded_away_from_zero(divisor.builder(), divisor.value()) {
        return cotangent / divisor;
    }
    let zero = divisor.splat(0.0);
    let usable = divisor.abs().compare(CompareOp::Gt, zero).or(cotangent.ne(zero));
    cotangent / usable.select(divisor, divisor.splat(1.0))
}

/// The one value of a constant, or of what repeats it.
pub(super) fn splat_value(builder: &Builder, value: Value) -> Option<f64> {
    let node = builder.node(value);
    match &node.op {
        Op::Constant(literal) => literal.splat_value(),
        Op::Broadcast { .. } | Op::Reshape { .. } | Op::Cast(_) => splat_value(builder, node.operands[0]),
        _ => None,
    }
}

fn may_be_infinite(builder: &Builder, value: Value, depth: usize) -> bool {
    let node = builder.node(value);
    let operand = |position: usize| depth > 0 && may_be_infinite(builder, node.operands[position], depth - 1);
    match &node.op {
        Op::Constant(literal) => literal.splat_value().is_some_and(|value| !value.is_finite()),
        Op::Unary(op) => match op {
            UnaryOp::Log | UnaryOp::Log1p | UnaryOp::Atanh => true,
            UnaryOp::Exp | UnaryOp::Expm1 | UnaryOp::Sinh | UnaryOp::Cosh => true,
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sqrt => operand(0),
            _ => false,
        },
        Op::Binary(op) => match op {
            BinaryOp::Div => !bounded_away_from_zero(builder, node.operands[1]) || operand(0),
            BinaryOp::Pow => {
                let exponent = splat_value(builder, node.operands[1]);
                exponent.is_none_or(|exponent| exponent < 0.0) || operand(0)
            }
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min => {
                operand(0) || operand(1)
            }
            _ => false,
        },
        Op::Select => operand(1) || operand(2),
        Op::Mark(_) | Op::Cast(_) | Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } => {
            operand(0)
        }
        _ => false,
    }
}

/// Whether a divisor visibly cannot be 0: a constant, or the sum of a positive constant and what is not negative.
fn bounded_away_from_zero(builder: &Builder, value: Value) -> bool {
    let node = builder.node(value);
    let positive = |value: Value| splat_value(builder, value).is_some_and(|value| value > 0.0);
    match &node.op {
        Op::Constant(literal) => literal.splat_value().is_some_and(|value| value.abs() > 0.0),
        Op::Broadcast { .. } | Op::Reshape { .. } => bounded_away_from_zero(builder, node.operands[0]),
        // The root of a sum with a positive constant is that of a variance or a square: a root of less is NaN anyway.
        Op::Unary(UnaryOp::Sqrt) => match builder.node(node.operands[0]) {
            inner if inner.op == Op::Binary(BinaryOp::Add) => {
                positive(inner.operands[0]) || positive(inner.operands[1])
            }
            _ => bounded_away_from_zero(builder, node.operands[0]),
        },
        Op::Unary(UnaryOp::Cosh) => true,
        Op::Binary(BinaryOp::Add) => {
            let (left, right) = (node.operands[0], node.operands[1]);
            positive(left) && not_negative(builder, right) || positive(right) && not_negative(builder, left)
        }
        _ => false,
    }
}

fn not_negative(builder: &Builder, value: Value) -> bool {
    let node = builder.node(value);
    match &node.op {
        Op::Unary(op) => matches!(
            op,
            UnaryOp::Exp
                | UnaryOp::Abs
                | UnaryOp::Sqrt
                | UnaryOp::Sigmoid
                | UnaryOp::Softplus
                | UnaryOp::Cosh
        ),
        Op::Binary(BinaryOp::Mul) => node.operands[0] == node.operands[1],
        _ => splat_value(builder, value).is_some_and(|value| value >= 0.0),
    }
}
