//! Element types of few bits: held as codes, converted by tables.
//!
//! The IR has no such types. A tensor of one of them is held as its codes ([`DataType::held_as`]), one an element;
//! operators that only move elements move codes, and conversions look numbers up.

use super::{Context, Lowering, scope};
use crate::Result;
use crate::model::{DataType, Node};
use gradc_ir::{BinaryOp, DType, Expr, Literal};

impl Lowering<'_> {
    /// The type that the codes of a node's outputs stand for, where the node moves codes.
    ///
    /// An error where an operand holds codes that the operator would take for numbers.
    pub(super) fn moved_code(&self, node: &Node) -> Result<Option<DataType>> {
        let codes: Vec<Option<DataType>> = (0..node.inputs.len())
            .map(|position| self.values.get(node.input(position)?)?.tensor()?.code)
            .collect();
        if codes.iter().all(Option::is_none) {
            return Ok(None);
        }
        let moved = match handling(node) {
            Handling::Looks => return Ok(None),
            Handling::Moves(moved) => moved,
        };
        let data: Vec<Option<DataType>> = (0..codes.len()).filter(|p| moved(*p)).map(|p| codes[p]).collect();
        for (position, code) in codes.iter().enumerate() {
            let Some(code) = code.filter(|code| !moved(position) || data.iter().any(|d| *d != Some(*code)))
            else {
                continue;
            };
            return Err(scope::refused(node, &format!("input {position}"), code));
        }
        Ok(data.first().copied().flatten())
    }
}

/// What an operator does with codes.
enum Handling {
    /// It asks for their type, or wants no more than their shape.
    Looks,
    /// It moves those of the inputs of which this holds, which must all be of one type, into all of its outputs.
    Moves(fn(usize) -> bool),
}

fn handling(node: &Node) -> Handling {
    if node.domain == "com.microsoft"
        && ["DequantizeLinear", "QuantizeLinear"].contains(&node.op_type.as_str())
    {
        return Handling::Looks;
    }
    if !node.domain.is_empty() {
        return Handling::Moves(|_| false);
    }
    match node.op_type.as_str() {
        "BitCast" | "Cast" | "CastLike" | "DequantizeLinear" | "QuantizeLinear" | "Shape" | "Size" => {
            Handling::Looks
        }
        "Concat" => Handling::Moves(|_| true),
        "DepthToSpace" | "Expand" | "Flatten" | "Gather" | "GatherElements" | "GatherND" | "Identity"
        | "Reshape" | "Slice" | "SpaceToDepth" | "Split" | "Squeeze" | "Tile" | "Transpose" | "Unsqueeze" => {
            Handling::Moves(|position| position == 0)
        }
        "Where" => Handling::Moves(|position| position > 0),
        _ => Handling::Moves(|_| false),
    }
}

/// The element type of a tensor as the model has it.
pub(super) fn data_type(code: Option<DataType>, x: Expr<'_>) -> DataType {
    code.unwrap_or_else(|| DataType::from_ir(x.dtype()))
}

/// How numbers beyond the range of a float type of few bits are converted, and to which of its neighbours others.
#[derive(Clone, Copy)]
pub(super) struct Rounding {
    pub saturate: bool,
    /// Of [`DataType::F8E8M0`] alone; all others round to the nearest, ties to even.
    pub direction: Direction,
}

/// To which neighbour a number is rounded.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Up,
    Down,
    /// Ties upwards.
    Nearest,
}

/// A float type of few bits: a sign (but for powers of two), exponent and mantissa.
struct Format {
    /// The numbers of the codes without a sign, in order: as many as there are finite ones.
    finite: Vec<f64>,
    /// The least number beyond the greatest finite one, were there another exponent or mantissa.
    next: f64,
    /// The bit of the sign in a code.
    sign: Option<u8>,
    /// The code of NaN without a sign; 4-bit floats have none.
    nan: u8,
    /// The code of infinity.
    infinity: Option<u8>,
    /// Whether there is no negative zero: its code is NaN.
    unsigned_zero: bool,
}

/// The format of a float type of few bits.
fn format(data_type: DataType) -> Option<Format> {
    // Codes count up through subnormal and normal numbers alike.
    let numbers = |mantissa: u32, bias: i32, count: u32| -> Vec<f64> {
        let number = |code: u32| {
            let (exponent, rest) = ((code >> mantissa) as i32, code & ((1 << mantissa) - 1));
            let significand = if exponent == 0 { rest } else { rest + (1 << mantissa) };
            f64::from(significand) * f64::from(exponent.max(1) - bias - mantissa as i32).exp2()
        };
        (0..=count).map(number).collect()
    };
    let made = |mut numbers: Vec<f64>, nan: u8, infinity: Option<u8>, unsigned_zero: bool| {
        let next = numbers.pop().unwrap_or(f64::INFINITY);
        Some(Format { finite: numbers, next, sign: Some(0x80), nan, infinity, unsigned_zero })
    };
    match data_type {
        DataType::F8E4M3FN => made(numbers(3, 7, 0x7f), 0x7f, None, false),
        DataType::F8E4M3FNUZ => made(numbers(3, 8, 0x80), 0x80, None, true),
        DataType::F8E5M2 => made(numbers(2, 15, 0x7c), 0x7e, Some(0x7c), false),
        DataType::F8E5M2FNUZ => made(numbers(2, 16, 0x80), 0x80, None, true),
        DataType::F4E2M1 => {
            let format = made(numbers(1, 1, 0x8), 0, None, false);
            format.map(|format| Format { sign: Some(0x8), ..format })
        }
        DataType::F8E8M0 => {
            let finite = (0..255).map(|code| f64::from(code - 127).exp2()).collect();
            let next = f64::from(128).exp2();
            Some(Format { finite, next, sign: None, nan: 0xff, infinity: None, unsigned_zero: false })
        }
        _ => None,
    }
}

impl Format {
    /// The number of every code, 256 of them.
    fn table(&self) -> Vec<f64> {
        let magnitude = |code: u8| match self.finite.get(usize::from(code)) {
            Some(number) => *number,
            None if self.infinity == Some(code) => f64::INFINITY,
            None => f64::NAN,
        };
        (0..=255u8)
            .map(|code| match self.sign {
                Some(sign) if self.unsigned_zero && code == sign => f64::NAN,
                Some(sign) if code & sign != 0 => -magnitude(code & (sign - 1)),
                Some(_) | None => magnitude(code),
            })
            .collect()
    }

    /// For each position from 1 the least magnitude that is rounded to that code or beyond, in this float type: at 0
    /// stands 0, beyond the greatest code that is met the magnitude that is too great for it.
    fn thresholds(&self, direction: Direction, ties_to_even: bool, dtype: DType) -> Vec<f64> {
        let above = |x: f64| if dtype == DType::F64 { x.next_up() } else { f64::from((x as f32).next_up()) };
        let pairs = self.finite.iter().zip(self.finite.iter().skip(1).chain([&self.next]));
        let threshold = |(code, (&low, &high)): (usize, (&f64, &f64))| match direction {
            Direction::Up => above(low),
            Direction::Down => high,
            // A tie between code and code + 1 belongs to the even one.
            Direction::Nearest if ties_to_even && code.is_multiple_of(2) => above((low + high) / 2.0),
            Direction::Nearest => (low + high) / 2.0,
        };
        [0.0].into_iter().chain(pairs.enumerate().map(threshold)).collect()
    }
}

/// The numbers that codes stand for, in a float or integer type that holds them; itself where the elements are numbers.
pub(super) fn decode<'b>(x: Expr<'b>, code: Option<DataType>, dtype: DType) -> Expr<'b> {
    let Some(format) = code.and_then(format) else { return x.cast(dtype) };
    // Every number of these types is one of f32's; f16 lacks some.
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    table(x.builder(), &format.table(), wide).gather(0, x.cast(DType::I32)).cast(dtype)
}

/// Codes that floats became have their derivative as far as the type reaches, where that is asked for.
pub(super) fn carry<'b>(context: &Context<'_, 'b>, y: Expr<'b>, x: Expr<'b>, to: DataType) {
    if let Some(greatest) = format(to).and_then(|format| format.finite.last().copied()) {
        context.carry(y, x, x.abs().le(x.splat(greatest)));
    }
}

/// The numbers that the elements of a literal stand for.
pub(super) fn decoded(literal: &Literal, code: Option<DataType>) -> Vec<f64> {
    let Some(format) = code.and_then(format) else { return literal.to_f64() };
    let table = format.table();
    literal.bytes().iter().map(|&code| table[usize::from(code)]).collect()
}

fn table<'b>(builder: &'b gradc_ir::Builder, numbers: &[f64], dtype: DType) -> Expr<'b> {
    let narrow = || numbers.iter().map(|&number| number as f32).collect::<Vec<f32>>();
    builder.constant(match dtype {
        DType::F64 => Literal::new([numbers.len()], numbers),
        _ => Literal::new([numbers.len()], &narrow()),
    })
}

/// The codes of numbers.
pub(super) fn encode<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    to: DataType,
    rounding: Rounding,
) -> Result<Expr<'b>> {
    match format(to) {
        Some(format) => float_codes(context, x, to, &format, rounding),
        None => integer_codes(context, x, to),
    }
}

/// The value modulo the width; of floats after truncation to 32 bits.
fn integer_codes<'b>(context: &Context<'_, 'b>, x: Expr<'b>, to: DataType) -> Result<Expr<'b>> {
    let x = if x.dtype().is_float() { x.cast(DType::I32) } else { x };
    let bits = x.cast(DType::U8);
    from_bits(context, bits, to)
}

/// The low bits of bytes as what they are held as.
pub(super) fn from_bits<'b>(context: &Context<'_, 'b>, bits: Expr<'b>, to: DataType) -> Result<Expr<'b>> {
    let Some(held) = to.held_as() else {
        return Err(context.error(format_args!("elements of type {to} are not supported")));
    };
    let bits = bits.cast(held);
    if to.bits() >= 8 {
        return Ok(bits);
    }
    let unused = bits.splat((8 - to.bits()) as f64);
    Ok(bits.binary(BinaryOp::Shl, unused).binary(BinaryOp::Shr, unused))
}

/// The bits of codes, in bytes whose other bits are 0.
pub(super) fn to_bits(x: Expr<'_>, code: DataType) -> Expr<'_> {
    let bytes = x.cast(DType::U8);
    if code.bits() >= 8 { bytes } else { bytes.and(bytes.splat(((1u32 << code.bits()) - 1).into())) }
}

/// By bisection in the table of thresholds: exact, whatever the format.
fn float_codes<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    to: DataType,
    format: &Format,
    rounding: Rounding,
) -> Result<Expr<'b>> {
    let x = match x.dtype() {
        DType::I64 | DType::U64 if format.sign.is_none() => {
            return Err(context.error(format_args!("{} to {to} is not supported", x.dtype())));
        }
        DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => x.cast(DType::F64),
        DType::F32 | DType::F16 | DType::BF16 | DType::I16 | DType::I8 | DType::U16 | DType::U8 => {
            x.cast(DType::F32)
        }
        DType::Bool => x.cast(DType::F32),
    };
    let magnitude = x.abs();
    let (direction, ties_to_even) = match format.sign {
        Some(_) => (Direction::Nearest, true),
        None => (rounding.direction, false),
    };
    let thresholds = format.thresholds(direction, ties_to_even, x.dtype());
    let beyond = format.finite.len();
    // Up to the next power of two nothing reaches the thresholds.
    let mut padded = thresholds;
    padded.resize(padded.len().next_power_of_two(), f64::NAN);
    let levels = padded.len().trailing_zeros();
    let padded = table(context.builder(), &padded, x.dtype());
    let mut code = x.splat_of(DType::I32, 0.0);
    for level in (0..levels).rev() {
        let higher = code + f64::from(1u32 << level);
        code = magnitude.ge(padded.gather(0, higher)).select(higher, code);
    }
    let overflows = code.ge(code.splat(beyond as f64));
    let greatest = (beyond - 1) as f64;
    let out_of_range = match (rounding.saturate || to == DataType::F4E2M1, format.infinity) {
        (true, _) => code.splat(greatest),
        (false, Some(infinity)) => code.splat(infinity.into()),
        (false, None) => code.splat(format.nan.into()),
    };
    let mut code = overflows.select(out_of_range, code);
    if format.sign.is_none() && !rounding.saturate {
        let least = magnitude.splat(format.finite[0]);
        code = magnitude.lt(least).select(code.splat(format.nan.into()), code);
    }
    let not_a_number = x.ne(x);
    if let Some(sign) = format.sign {
        let (bits, shift) = if x.dtype() == DType::F64 { (DType::I64, 63.0) } else { (DType::I32, 31.0) };
        let bits = x.bitcast(bits);
        let negative = bits.binary(BinaryOp::Shr, bits.splat(shift)).ne(bits.splat(0.0));
        code = not_a_number.select(code.splat(format.nan.into()), code);
        // Without a negative zero, what is rounded to zero loses its sign.
        let signed = if format.unsigned_zero {
            let nan = code.eq(code.splat(format.nan.into()));
            negative.and(code.ne(code.splat(0.0))).and(nan.logical_not())
        } else {
            negative
        };
        // The NaN of the 4-bit floats' conversion is a negative zero, whatever its sign.
        let signed = if to == DataType::F4E2M1 { signed.or(not_a_number) } else { signed };
        code = signed.select(code + f64::from(sign), code);
    } else {
        code = not_a_number.select(code.splat(format.nan.into()), code);
    }
    Ok(code.cast(DType::U8))
}
