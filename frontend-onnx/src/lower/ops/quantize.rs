//! Quantization: what the integers stand for, and products of them.

use super::product::matmul;
use super::spatial::{Windows, positive};
use crate::Result;
use crate::lower::codes;
use crate::lower::{Context, Gradient, Operator, Outputs};
use crate::model::DataType;
use gradc_ir::{ConvForm, ConvOp, DType, Expr, Op, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("ConvInteger", 10, Gradient::Integer, conv_integer),
    Operator::new("DequantizeLinear", 10, Gradient::Smooth, dequantize_linear),
    Operator::new("DynamicQuantizeLinear", 11, Gradient::Zero, dynamic_quantize_linear),
    Operator::new("MatMulInteger", 10, Gradient::Integer, matmul_integer),
    Operator::new("QLinearConv", 10, Gradient::Smooth, qlinear_conv),
    Operator::new("QLinearMatMul", 10, Gradient::Smooth, qlinear_matmul),
    Operator::new("QuantizeLinear", 10, Gradient::Zero, quantize_linear),
];

/// The least and greatest number of an integer type of up to 16 bits.
fn range(context: &Context<'_, '_>, data_type: DataType) -> Result<(f64, f64)> {
    match data_type {
        DataType::U8 => Ok((0.0, 255.0)),
        DataType::I8 => Ok((-128.0, 127.0)),
        DataType::U16 => Ok((0.0, 65535.0)),
        DataType::I16 => Ok((-32768.0, 32767.0)),
        DataType::U4 => Ok((0.0, 15.0)),
        DataType::I4 => Ok((-8.0, 7.0)),
        DataType::U2 => Ok((0.0, 3.0)),
        DataType::I2 => Ok((-2.0, 1.0)),
        _ => Err(context.error(format_args!("quantization to {data_type} is not supported"))),
    }
}

/// A scale: floats, powers of two held as codes, or integers, which f64 holds exactly.
fn scale<'b>(context: &Context<'_, 'b>, position: usize) -> Result<Expr<'b>> {
    match context.code(position) {
        Some(DataType::F8E8M0) => {
            Ok(codes::decode(context.input(position)?, Some(DataType::F8E8M0), DType::F32))
        }
        Some(code) => Err(context.error(format_args!("a scale of elements of type {code}"))),
        None if context.input(position)?.dtype() == DType::I32 => {
            Ok(context.input(position)?.cast(DType::F64))
        }
        None => context.float(position),
    }
}

/// A scale or zero point for every element of `x`: one for all, one for each slice of the axis, or one for each block.
pub(super) fn spread<'b>(
    context: &Context<'_, 'b>,
    e: Expr<'b>,
    x: &Shape,
    axis: i64,
    block: i64,
) -> Result<Expr<'b>> {
    let shape = e.shape();
    if shape.elements() == 1 {
        return Ok(e.reshape(&Shape::scalar()).broadcast(x, &[]));
    }
    let axis = context.axis(axis, x.rank())?;
    let misfit =
        || context.error(format_args!("a scale or zero point of {shape} does not fit {x} on axis {axis}"));
    if block == 0 {
        if shape.elements() != x[axis] {
            return Err(misfit());
        }
        return Ok(e.reshape(&Shape::new(&[x[axis]])).broadcast(x, &[axis]));
    }
    let block = usize::try_from(block).map_err(|_| misfit())?;
    let fits = shape.rank() == x.rank()
        && (0..x.rank()).all(|a| if a == axis { x[a].div_ceil(block) == shape[a] } else { shape[a] == x[a] });
    if !fits {
        return Err(misfit());
    }
    let (mut blocks, mut merged) = (shape.to_vec(), shape.to_vec());
    blocks.insert(axis + 1, block);
    merged[axis] *= block;
    context.shape(&blocks)?;
    let dims: Vec<usize> = (0..blocks.len()).filter(|&a| a != axis + 1).collect();
    let repeated = e.broadcast(&Shape::new(&blocks), &dims).reshape(&Shape::new(&merged));
    Ok(repeated.slice_axis(axis, 0, x[axis]))
}

/// Where an operand has one number for each slice, the slices are those of this axis.
fn layout(context: &Context<'_, '_>) -> Result<(i64, i64)> {
    Ok((context.node.int("axis", 1)?, context.node.int("block_size", 0)?))
}

pub(super) fn quantize_linear<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, scale) = (context.input(0)?, scale(context, 1)?);
    if let Some(code) = context.code(0) {
        return Err(context.error(format_args!("elements of type {code} are quantized already")));
    }
    let x = if x.dtype().is_float() { x } else { x.cast(scale.dtype()) };
    let zero = context.optional(2)?;
    let (axis, block) = layout(context)?;
    let wanted = match context.node.int("output_dtype", 0)? {
        0 => None,
        number => Some(context.data_type(number)?),
    };
    let to = match (zero.map(|zero| codes::data_type(context.code(2), zero)), wanted) {
        (Some(own), Some(wanted)) if own != wanted => {
            return Err(context.error(format_args!("the zero point is of type {own}, not {wanted}")));
        }
        (Some(to), _) | (None, Some(to)) => to,
        (None, None) => DataType::U8,
    };
    let wide = match context.node.int("precision", 0)? {
        0 => super::normalization::wider(x.dtype(), scale.dtype()),
        number => context.dtype(number)?,
    };
    if !wide.is_float() {
        return Err(context.node.attribute_error("precision", "must be a float type"));
    }
    // A zero point that is zero would take the sign of negative zeros away.
    let without = |zero: &Expr<'b>| {
        let known = context.known_value(*zero).map(|literal| codes::decoded(&literal, context.code(2)));
        let is_float = matches!(to.held_as(), Some(DType::U8)) && to.as_code().is_some();
        is_float && to != DataType::F4E2M1 && known.is_some_and(|known| known.iter().all(|&zero| zero == 0.0))
    };
    let ratio = x.cast(wide) / spread(context, scale.cast(wide), &x.shape(), axis, block)?;
    let zero = match zero.filter(|zero| !without(zero)) {
        Some(zero) => {
            let zero = codes::decode(zero, context.code(2), wide);
            Some(spread(context, zero, &x.shape(), axis, block)?)
        }
        None => None,
    };
    if let Some(code) = to.as_code() {
        context.declare(0, code);
    }
    Ok(vec![match to {
        DataType::F8E4M3FN
        | DataType::F8E4M3FNUZ
        | DataType::F8E5M2
        | DataType::F8E5M2FNUZ
        | DataType::F4E2M1 => {
            let moved = zero.map_or(ratio, |zero| ratio + zero);
            let y = codes::encode(context, moved, to, super::cast::rounding(context)?)?;
            codes::carry(context, y, moved, to);
            y
        }
        _ => quantized(context, ratio, zero, to)?,
    }])
}

/// Rounds, moves by the zero point and limits to the type.
pub(super) fn quantized<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    zero: Option<Expr<'b>>,
    to: DataType,
) -> Result<Expr<'b>> {
    let (low, high) = range(context, to)?;
    let rounded = x.round();
    let moved = zero.map_or(rounded, |zero| rounded + zero);
    let held = to.held_as().ok_or_else(|| context.error(format_args!("to {to}")))?;
    let y = super::activation::clamp(moved, low, high).cast(held);
    let inside = moved.ge(moved.splat(low)).and(moved.le(moved.splat(high)));
    context.carry(y, zero.map_or(x, |zero| x + zero), inside);
    Ok(y)
}

pub(super) fn dequantize_linear<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let code = context.code(0);
    let (x, scale) = (context.integer(0)?, scale(context, 1)?);
    if context.optional(2)?.is_some() && context.code(2) != code {
        return Err(context.error("the zero point is of another type than the elements"));
    }
    let (axis, block) = layout(context)?;
    let dtype = match context.node.int("output_dtype", 0)? {
        0 if context.code(1).is_some() => {
            return Err(context
                .node
                .attribute_error("output_dtype", "is missing, and the scale is no plain float"));
        }
        0 => scale.dtype(),
        number => context.dtype(number)?,
    };
    let scale = spread(context, scale, &x.shape(), axis, block)?;
    // The difference of two integers of 32 bits is exact in f64 alone; those of fewer bits are exact in f32.
    let exact = match x.dtype() {
        DType::I32 | DType::U32 | DType::I64 | DType::U64 => DType::F64,
        _ => super::normalization::wider(scale.dtype(), DType::F32),
    };
    let moved = match context.optional(2)? {
        Some(zero) => {
            let zero = spread(context, codes::decode(zero, code, exact), &x.shape(), axis, block)?;
            context.real(x, code, exact) - zero
        }
        None => context.real(x, code, exact),
    };
    Ok(vec![(moved.cast(scale.dtype()) * scale).cast(dtype)])
}

/// The scale of a tensor, and its zero point as a float, such that 8 bits reach from its least to its greatest element.
fn dynamic_range(x: Expr<'_>) -> (Expr<'_>, Expr<'_>) {
    let axes: Vec<usize> = (0..x.rank()).collect();
    let zero = x.builder().constant(gradc_ir::Literal::scalar_of(x.dtype(), 0.0));
    let low = x.reduce(gradc_ir::ReduceOp::Min, &axes).min(zero);
    let high = x.reduce(gradc_ir::ReduceOp::Max, &axes).max(zero);
    let scale = (high - low) / 255.0;
    // A tensor of zeros has no scale of its own.
    let scale = scale.eq(zero).select(scale.splat(1.0), scale);
    (scale, super::activation::clamp((-low / scale).round(), 0.0, 255.0))
}

/// A tensor that was held in 8 bits, with a scale and a zero point of its own. Products are computed with its whole
/// numbers, and differentiated as those with what it stands for.
pub(super) struct InBytes<'b> {
    /// The whole numbers, less the zero point.
    pub whole: Expr<'b>,
    /// What is left of the tensor. The derivative is that of the scale alone, or where it is `straight` that of the tensor.
    pub meant: Expr<'b>,
    scale: Expr<'b>,
}

impl<'b> InBytes<'b> {
    pub fn new(x: Expr<'b>, straight: bool) -> InBytes<'b> {
        let (scale, point) = dynamic_range(x);
        let shape = x.shape();
        let (spread, point) = (scale.broadcast(&shape, &[]), point.broadcast(&shape, &[]));
        let whole = super::activation::clamp((x / spread).round() + point, 0.0, 255.0) - point;
        let meant = whole * spread;
        InBytes { whole, meant: if straight { meant.with_surrogate(x) } else { meant }, scale }
    }

    /// A product of the whole numbers in units of their scale and of these scales.
    pub fn scaled(&self, product: Expr<'b>, scales: Expr<'b>) -> Expr<'b> {
        product * (scales * self.scale.broadcast(&product.shape(), &[]))
    }
}

fn dynamic_quantize_linear<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let (mut scale, point) = dynamic_range(x);
    if context.is_straight() {
        // It follows from the tensor, whose derivative passes already.
        scale = scale.stop_gradient();
    }
    let shape = x.shape();
    let y = quantized(
        context,
        x / scale.broadcast(&shape, &[]),
        Some(point.broadcast(&shape, &[])),
        DataType::U8,
    )?;
    Ok(vec![y, scale, point.cast(DType::U8)])
}

/// An operand as i32 without its zero point. One for each slice belongs to `axis`, counted from the end.
pub(super) fn centered<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    zero: Option<Expr<'b>>,
    axis: i64,
    dtype: DType,
) -> Result<Expr<'b>> {
    let wide = if dtype.is_float() { context.real(x, None, dtype) } else { x.cast(dtype) };
    match zero {
        None => Ok(wide),
        // One for each row of each matrix of a batch.
        Some(zero) if zero.rank() == x.rank() && zero.rank() > 1 => {
            Ok(wide - context.broadcast_to(zero, &x.shape())?.cast(dtype))
        }
        Some(zero) => Ok(wide - spread(context, zero.cast(dtype), &x.shape(), axis, 0)?),
    }
}

/// An integer factor of a product.
fn ranked<'b>(context: &Context<'_, 'b>, position: usize) -> Result<Expr<'b>> {
    context.integer(position).and_then(|_| context.ranked(position, 1))
}

fn matmul_integer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let a = centered(context, ranked(context, 0)?, context.optional(2)?, -2, DType::I32)?;
    let b = centered(context, ranked(context, 1)?, context.optional(3)?, -1, DType::I32)?;
    Ok(vec![matmul(context, a, b)?])
}

fn qlinear_matmul<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (a_scale, b_scale, y_scale) = (context.float(1)?, context.float(4)?, context.float(6)?);
    let a = centered(context, ranked(context, 0)?, context.optional(2)?, -2, DType::I32)?;
    let b = centered(context, ranked(context, 3)?, context.optional(5)?, -1, DType::I32)?;
    let product = matmul(context, a, b)?;
    let y_zero = context.integer(7)?;
    let wide =
        [b_scale, y_scale].iter().fold(a_scale.dtype(), |w, e| super::normalization::wider(w, e.dtype()));
    let wide = super::normalization::wider(wide, DType::F32);
    let shape = product.shape();
    let over = |e: Expr<'b>, axis: i64| spread(context, e.cast(wide), &shape, axis, 0);
    let y = context.real(product, None, wide) * over(a_scale, -2)? * over(b_scale, -1)? / over(y_scale, -2)?;
    Ok(vec![quantized(context, y, Some(over(y_zero, -2)?), DataType::from_ir(y_zero.dtype()))?])
}

/// A convolution of integers, in f64: exact as long as every sum is below 2^53.
fn convolved<'b>(context: &Context<'_, 'b>, x: Expr<'b>, w: Expr<'b>) -> Result<Expr<'b>> {
    let (node, x_shape, w_shape) = (context.node, x.shape(), w.shape());
    let groups = usize::try_from(node.int("group", 1)?).unwrap_or(0);
    let fits = x_shape.rank() >= 3
        && x_shape.rank() == w_shape.rank()
        && groups > 0
        && w_shape[1].checked_mul(groups) == Some(x_shape[1])
        && w_shape[0].is_multiple_of(groups);
    if !fits {
        return Err(context.error(format_args!("an input of {x_shape} does not fit weights of {w_shape}")));
    }
    if positive(node, "kernel_shape", x_shape.rank() - 2)?.is_some_and(|kernel| kernel[..] != w_shape[2..]) {
        return Err(
            node.attribute_error("kernel_shape", format_args!("is not that of the weights {w_shape}"))
        );
    }
    let mut windows = Windows::read(node, w_shape[2..].to_vec())?;
    let output = windows.settle(node, &x_shape[2..], false)?;
    let op = ConvOp {
        form: ConvForm::Forward,
        input: x_shape[2..].to_vec(),
        kernel: windows.kernel,
        output,
        stride: windows.stride,
        dilation: windows.dilation,
        pad_low: windows.pad_low,
        groups,
    };
    context.push(Op::Conv(op), &[x, w])
}

fn conv_integer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = centered(context, context.integer(0)?, context.optional(2)?, 1, DType::F64)?;
    let w = centered(context, context.integer(1)?, context.optional(3)?, 0, DType::F64)?;
    let sum = convolved(context, x, w)?;
    let y = sum.cast(DType::I32);
    context.carry_exact(y, sum, &[context.input(0)?, context.input(1)?]);
    Ok(vec![y])
}

fn qlinear_conv<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = centered(context, context.integer(0)?, context.optional(2)?, 1, DType::F64)?;
    let w = centered(context, context.integer(3)?, context.optional(5)?, 0, DType::F64)?;
    let (x_scale, w_scale, y_scale) = (context.float(1)?, context.float(4)?, context.float(6)?);
    let y_zero = context.integer(7)?;
    let mut sum = convolved(context, x, w)?;
    let shape = sum.shape();
    let over = |e: Expr<'b>| spread(context, e.cast(DType::F64), &shape, 1, 0);
    if let Some(bias) = context.optional(8)? {
        context.expect_shape(bias, &Shape::new(&[shape[1]]), "B")?;
        sum = sum + over(bias)?;
    }
    let factor = over(x_scale)? * over(w_scale)? / over(y_scale)?;
    Ok(vec![quantized(context, sum * factor, Some(over(y_zero)?), DataType::from_ir(y_zero.dtype()))?])
}
