//! Elementwise arithmetic, comparisons, logic and conversions.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, CompareOp, DType, Expr, ReduceOp, UnaryOp};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Abs", 1, Gradient::Piecewise, |c| unary(c, UnaryOp::Abs)),
    Operator::new("Acos", 7, Gradient::Smooth, |c| unary(c, UnaryOp::Acos)),
    Operator::new("Acosh", 9, Gradient::Smooth, |c| unary(c, UnaryOp::Acosh)),
    Operator::new("Add", 1, Gradient::Smooth, |c| binary(c, BinaryOp::Add)),
    Operator::new("And", 1, Gradient::Zero, |c| logic(c, BinaryOp::And)),
    Operator::new("Asin", 7, Gradient::Smooth, |c| unary(c, UnaryOp::Asin)),
    Operator::new("Asinh", 9, Gradient::Smooth, |c| unary(c, UnaryOp::Asinh)),
    Operator::new("Atan", 7, Gradient::Smooth, |c| unary(c, UnaryOp::Atan)),
    Operator::new("Atanh", 9, Gradient::Smooth, |c| unary(c, UnaryOp::Atanh)),
    Operator::new("BitShift", 11, Gradient::Integer, bit_shift),
    Operator::new("BitwiseAnd", 18, Gradient::Integer, |c| bitwise(c, BinaryOp::And)),
    Operator::new("BitwiseNot", 18, Gradient::Integer, bitwise_not),
    Operator::new("BitwiseOr", 18, Gradient::Integer, |c| bitwise(c, BinaryOp::Or)),
    Operator::new("BitwiseXor", 18, Gradient::Integer, |c| bitwise(c, BinaryOp::Xor)),
    Operator::new("Ceil", 1, Gradient::Zero, |c| rounded(c, UnaryOp::Ceil)),
    Operator::new("Cos", 7, Gradient::Smooth, |c| unary(c, UnaryOp::Cos)),
    Operator::new("Cosh", 9, Gradient::Smooth, |c| unary(c, UnaryOp::Cosh)),
    Operator::new("Div", 1, Gradient::Smooth, |c| binary(c, BinaryOp::Div)),
    Operator::new("Equal", 1, Gradient::Zero, |c| compare(c, CompareOp::Eq)),
    Operator::new("Erf", 9, Gradient::Smooth, error_function),
    Operator::new("Exp", 1, Gradient::Smooth, |c| unary(c, UnaryOp::Exp)),
    Operator::new("Floor", 1, Gradient::Zero, |c| rounded(c, UnaryOp::Floor)),
    Operator::new("Greater", 1, Gradient::Zero, |c| compare(c, CompareOp::Gt)),
    Operator::new("GreaterOrEqual", 12, Gradient::Zero, |c| compare(c, CompareOp::Ge)),
    Operator::new("Identity", 1, Gradient::Smooth, |c| Ok(vec![c.input(0)?])),
    Operator::new("IsInf", 10, Gradient::Zero, is_inf),
    Operator::new("IsNaN", 9, Gradient::Zero, is_nan),
    Operator::new("Less", 1, Gradient::Zero, |c| compare(c, CompareOp::Lt)),
    Operator::new("LessOrEqual", 12, Gradient::Zero, |c| compare(c, CompareOp::Le)),
    Operator::new("Log", 1, Gradient::Smooth, |c| unary(c, UnaryOp::Log)),
    Operator::new("Max", 1, Gradient::Piecewise, |c| extreme(c, BinaryOp::Max, ReduceOp::Max)),
    Operator::new("Mean", 1, Gradient::Smooth, mean),
    Operator::new("Min", 1, Gradient::Piecewise, |c| extreme(c, BinaryOp::Min, ReduceOp::Min)),
    Operator::new("Mod", 10, Gradient::Piecewise, modulo),
    Operator::new("Mul", 1, Gradient::Smooth, |c| binary(c, BinaryOp::Mul)),
    Operator::new("Neg", 1, Gradient::Smooth, |c| unary(c, UnaryOp::Neg)),
    Operator::new("Not", 1, Gradient::Zero, not),
    Operator::new("Or", 1, Gradient::Zero, |c| logic(c, BinaryOp::Or)),
    Operator::new("Pow", 1, Gradient::Smooth, pow),
    Operator::new("Reciprocal", 1, Gradient::Smooth, reciprocal),
    Operator::new("Round", 11, Gradient::Zero, |c| rounded(c, UnaryOp::Round)),
    Operator::new("Sign", 9, Gradient::Zero, |c| unary(c, UnaryOp::Sign)),
    Operator::new("Sin", 7, Gradient::Smooth, |c| unary(c, UnaryOp::Sin)),
    Operator::new("Sinh", 9, Gradient::Smooth, |c| unary(c, UnaryOp::Sinh)),
    Operator::new("Sqrt", 1, Gradient::Smooth, |c| unary(c, UnaryOp::Sqrt)),
    Operator::new("Sub", 1, Gradient::Smooth, |c| binary(c, BinaryOp::Sub)),
    Operator::new("Sum", 1, Gradient::Smooth, |c| Ok(vec![sum(c)?])),
    Operator::new("Tan", 7, Gradient::Smooth, |c| unary(c, UnaryOp::Tan)),
    Operator::new("Tanh", 1, Gradient::Smooth, |c| unary(c, UnaryOp::Tanh)),
    Operator::new("Where", 9, Gradient::Smooth, choose),
    Operator::new("Xor", 1, Gradient::Zero, |c| logic(c, BinaryOp::Xor)),
];

fn unary<'b>(context: &Context<'_, 'b>, op: UnaryOp) -> Outputs<'b> {
    Ok(vec![context.unary(op, context.input(0)?)?])
}

/// Of integers too: rounded towards zero, as the standard's reference does.
fn error_function<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let float = if x.dtype().is_float() { x } else { x.cast(DType::F64) };
    Ok(vec![context.unary(UnaryOp::Erf, float)?.cast(x.dtype())])
}

fn rounded<'b>(context: &Context<'_, 'b>, op: UnaryOp) -> Outputs<'b> {
    let x = context.input(0)?;
    Ok(vec![context.straight(context.unary(op, x)?, x)])
}

fn binary<'b>(context: &Context<'_, 'b>, op: BinaryOp) -> Outputs<'b> {
    Ok(vec![context.binary(op, context.input(0)?, second(context)?)?])
}

fn compare<'b>(context: &Context<'_, 'b>, op: CompareOp) -> Outputs<'b> {
    Ok(vec![context.compare(op, context.input(0)?, second(context)?)?])
}

/// The second operand. Before opset 7 its first axis was that of the first operand which `axis` says.
fn second<'b>(context: &Context<'_, 'b>) -> Result<Expr<'b>> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    if context.opset() >= 7 {
        return Ok(b);
    }
    let Some(axis) = context.node.optional_int("axis")? else { return Ok(b) };
    let axis = context.axis(axis, a.rank())?;
    let mut lengths = b.shape().to_vec();
    // A scalar, or one element, goes with all.
    let rank = a.rank() - axis;
    if lengths.len() > rank && b.shape().elements() != 1 {
        return Err(context.error(format_args!("{} does not fit {} from axis {axis}", b.ty(), a.ty())));
    }
    if lengths.len() > rank {
        lengths.clear();
    }
    lengths.resize(rank, 1);
    context.reshape(b, &lengths)
}

fn truth<'b>(context: &Context<'_, 'b>, position: usize) -> Result<Expr<'b>> {
    let x = context.input(position)?;
    if x.dtype() == DType::Bool {
        return Ok(x);
    }
    Err(context.error(format_args!("input {position} must be bool, is {}", x.ty())))
}

fn logic<'b>(context: &Context<'_, 'b>, op: BinaryOp) -> Outputs<'b> {
    truth(context, 1)?;
    Ok(vec![context.binary(op, truth(context, 0)?, second(context)?)?])
}

fn not<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![truth(context, 0)?.logical_not()])
}

fn bitwise<'b>(context: &Context<'_, 'b>, op: BinaryOp) -> Outputs<'b> {
    Ok(vec![context.binary(op, context.integer(0)?, context.integer(1)?)?])
}

fn bitwise_not<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![context.unary(UnaryOp::Not, context.integer(0)?)?])
}

fn bit_shift<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    match context.node.optional_string("direction")? {
        Some("LEFT") => bitwise(context, BinaryOp::Shl),
        Some("RIGHT") => bitwise(context, BinaryOp::Shr),
        _ => Err(context.node.attribute_error("direction", "must be LEFT or RIGHT")),
    }
}

fn reciprocal<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![1.0 / context.float(0)?])
}

/// The result has the type of the base, whatever that of the exponent.
fn pow<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (base, exponent) = (context.input(0)?, second(context)?);
    let dtype = base.dtype();
    let power = if dtype.is_integer() && exponent.dtype().is_float() {
        context.binary(BinaryOp::Pow, base.cast(DType::F64), exponent.cast(DType::F64))?.cast(dtype)
    } else {
        context.binary(BinaryOp::Pow, base, exponent.cast(dtype))?
    };
    Ok(vec![power])
}

/// Without `fmod` the result has the sign of the divisor, as in Python.
fn modulo<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (a, b) = context.broadcast(context.input(0)?, context.input(1)?)?;
    let rest = context.binary(BinaryOp::Rem, a, b)?;
    if context.node.flag("fmod", false)? || rest.dtype().is_unsigned_integer() {
        return Ok(vec![rest]);
    }
    let zero = rest.splat(0.0);
    let signs_differ = rest.lt(zero).binary(BinaryOp::Xor, b.lt(zero));
    Ok(vec![rest.ne(zero).and(signs_differ).select(rest + b, rest)])
}

/// Of three or more operands each that is greatest gets an equal share of the gradient, so they are reduced at once.
fn extreme<'b>(context: &Context<'_, 'b>, pair: BinaryOp, reduction: ReduceOp) -> Outputs<'b> {
    let operands = context.broadcast_all(&context.inputs()?)?;
    Ok(vec![match operands[..] {
        [only] => only,
        [a, b] => context.binary(pair, a, b)?,
        _ => {
            let stacked: Vec<Expr<'b>> = operands.iter().map(|operand| operand.insert_axis(0)).collect();
            let stacked = context.push(gradc_ir::Op::Concat { axis: 0 }, &stacked)?;
            context.reduce(reduction, stacked, &[0], false)?
        }
    }])
}

fn sum<'b>(context: &Context<'_, 'b>) -> Result<Expr<'b>> {
    let operands = context.broadcast_all(&context.inputs()?)?;
    let mut rest = operands.into_iter();
    let first = rest.next().ok_or_else(|| context.error("has no input"))?;
    rest.try_fold(first, |sum, operand| context.binary(BinaryOp::Add, sum, operand))
}

fn mean<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    context.float(0)?;
    Ok(vec![sum(context)? / context.input_count() as f64])
}

fn choose<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![context.select(truth(context, 0)?, context.input(1)?, context.input(2)?)?])
}

fn is_nan<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    Ok(vec![x.ne(x)])
}

fn is_inf<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let positive = context.node.flag("detect_positive", true)?;
    let negative = context.node.flag("detect_negative", true)?;
    Ok(vec![match (positive, negative) {
        (true, true) => x.abs().eq(x.splat(f64::INFINITY)),
        (true, false) => x.eq(x.splat(f64::INFINITY)),
        (false, true) => x.eq(x.splat(f64::NEG_INFINITY)),
        (false, false) => x.splat_of(DType::Bool, 0.0),
    }])
}
