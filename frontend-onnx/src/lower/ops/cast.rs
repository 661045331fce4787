//! Conversions of elements.

use crate::Result;
use crate::lower::codes::{self, Direction, Rounding};
use crate::lower::{Context, Gradient, Operator, Outputs};
use crate::model::DataType;
use gradc_ir::{DType, Expr};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("BitCast", 26, Gradient::Zero, bit_cast),
    Operator::new("Cast", 1, Gradient::Smooth, cast),
    Operator::new("CastLike", 15, Gradient::Smooth, cast_like),
];

fn cast<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let to = context.node.required("to", context.node.optional_int("to")?)?;
    converted(context, context.data_type(to)?)
}

fn cast_like<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let like = context.input(1)?;
    converted(context, codes::data_type(context.code(1), like))
}

/// How the node wants numbers rounded to float types of few bits.
pub(super) fn rounding(context: &Context<'_, '_>) -> Result<Rounding> {
    let direction = match context.node.string("round_mode", "up")? {
        "up" => Direction::Up,
        "down" => Direction::Down,
        "nearest" => Direction::Nearest,
        _ => return Err(context.node.attribute_error("round_mode", "must be up, down or nearest")),
    };
    Ok(Rounding { saturate: context.node.flag("saturate", true)?, direction })
}

fn converted<'b>(context: &Context<'_, 'b>, to: DataType) -> Outputs<'b> {
    let (x, from) = (context.input(0)?, context.code(0));
    if from == Some(to) {
        context.declare(0, to);
        return Ok(vec![x]);
    }
    let Some(code) = to.as_code() else {
        let dtype = context.dtype(i64::from(to.number()))?;
        return Ok(vec![match from {
            // A NaN is true, as all that is not zero.
            Some(_) if dtype == DType::Bool || dtype.is_integer() => numbers(x, from).cast(dtype),
            Some(_) => context.real(x, from, dtype),
            None if x.dtype().is_integer() && dtype.is_float() => context.real(x, None, dtype),
            None if x.dtype().is_float() && dtype.is_integer() => whole(context, x, dtype),
            None => x.cast(dtype),
        }]);
    };
    let y = codes::encode(context, numbers(x, from), code, rounding(context)?)?;
    if x.dtype().is_float() {
        codes::carry(context, y, x, code);
    }
    context.declare(0, code);
    Ok(vec![y])
}

/// Floats as integers. What is beyond the type's range has no derivative.
fn whole<'b>(context: &Context<'_, 'b>, x: Expr<'b>, dtype: DType) -> Expr<'b> {
    let y = x.cast(dtype);
    if context.is_straight() {
        let back = y.cast(x.dtype());
        context.carry(y, x, (x - back).abs().lt(x.splat(1.0)));
    }
    y
}

/// Codes as numbers: of the type that holds them for integers, else f32.
fn numbers<'b>(x: Expr<'b>, code: Option<DataType>) -> Expr<'b> {
    match code {
        None | Some(DataType::U4 | DataType::I4 | DataType::U2 | DataType::I2) => x,
        Some(_) => codes::decode(x, code, DType::F32),
    }
}

fn bit_cast<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let to = context.node.required("to", context.node.optional_int("to")?)?;
    let to = context.data_type(to)?;
    let from = codes::data_type(context.code(0), x);
    let Some(held) = to.held_as() else {
        return Err(context.error(format_args!("elements of type {to} are not supported")));
    };
    if from.bits() != to.bits() {
        return Err(context.error(format_args!("the bits of {from} are not as many as those of {to}")));
    }
    if let Some(code) = to.as_code() {
        context.declare(0, code);
    }
    Ok(vec![if from == to {
        x
    } else if from.bits() <= 8 {
        // A truth value is held as 0 or 1, whatever the byte.
        match to {
            DataType::Bool => codes::to_bits(x, from).cast(DType::Bool),
            _ => codes::from_bits(context, codes::to_bits(x, from), to)?,
        }
    } else {
        x.bitcast(held)
    }])
}
