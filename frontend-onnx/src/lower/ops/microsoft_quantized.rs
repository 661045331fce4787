//! Operators of `com.microsoft` on quantized tensors: each is the operator on the numbers that the integers stand for.

use super::microsoft::DOMAIN;
use super::microsoft_attention::packed_attention;
use super::product::matmul;
use super::quantize::{InBytes, centered, quantized, spread};
use super::spatial::Windows;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use crate::model::DataType;
use gradc_ir::{BinaryOp, DType, Expr, Op, Shape, WindowKind, WindowOp};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("DequantizeLinear", 1, Gradient::Smooth, super::quantize::dequantize_linear).of(DOMAIN),
    Operator::new("DynamicQuantizeMatMul", 1, Gradient::Smooth, dynamic_quantize_matmul).of(DOMAIN),
    Operator::new("MatMulIntegerToFloat", 1, Gradient::Smooth, matmul_integer_to_float).of(DOMAIN),
    Operator::new("MatMulNBits", 1, Gradient::Smooth, matmul_n_bits).of(DOMAIN),
    Operator::new("NhwcMaxPool", 1, Gradient::Integer, nhwc_max_pool).of(DOMAIN),
    Operator::new("QAttention", 1, Gradient::Smooth, q_attention).of(DOMAIN),
    Operator::new("QGemm", 1, Gradient::Smooth, q_gemm).of(DOMAIN),
    Operator::new("QLinearAdd", 1, Gradient::Zero, |c| elementwise(c, BinaryOp::Add)).of(DOMAIN),
    Operator::new("QLinearAveragePool", 1, Gradient::Zero, average_pool).of(DOMAIN),
    Operator::new("QLinearConcat", 1, Gradient::Zero, concat).of(DOMAIN),
    Operator::new("QLinearGlobalAveragePool", 1, Gradient::Zero, global_average_pool).of(DOMAIN),
    Operator::new("QLinearLeakyRelu", 1, Gradient::Zero, leaky_relu).of(DOMAIN),
    Operator::new("QLinearMul", 1, Gradient::Zero, |c| elementwise(c, BinaryOp::Mul)).of(DOMAIN),
    Operator::new("QLinearSigmoid", 1, Gradient::Zero, sigmoid).of(DOMAIN),
    Operator::new("QLinearSoftmax", 1, Gradient::Zero, softmax).of(DOMAIN),
    Operator::new("QLinearWhere", 1, Gradient::Zero, choose).of(DOMAIN),
    Operator::new("QuantizeLinear", 1, Gradient::Zero, super::quantize::quantize_linear).of(DOMAIN),
];

/// The numbers that an operand stands for, whose scale and zero point come after it.
fn numbers<'b>(context: &Context<'_, 'b>, at: usize) -> Result<Expr<'b>> {
    stood_for(context, at, at + 1, at + 2, -1)
}

fn stood_for<'b>(
    context: &Context<'_, 'b>,
    at: usize,
    scale: usize,
    zero: usize,
    axis: i64,
) -> Result<Expr<'b>> {
    let (whole, scale) = in_units(context, at, scale, zero, axis)?;
    Ok(whole * scale)
}

/// The same as whole numbers, and the scale of each.
fn in_units<'b>(
    context: &Context<'_, 'b>,
    at: usize,
    scale: usize,
    zero: usize,
    axis: i64,
) -> Result<(Expr<'b>, Expr<'b>)> {
    let (x, scale) = (context.integer(at)?, context.float(scale)?);
    let whole = centered(context, x, context.optional(zero)?, axis, scale.dtype())?;
    Ok((whole, spread(context, scale, &x.shape(), axis, 0)?))
}

/// The numbers as integers of the scale and zero point at these positions, or of this type where there is no zero point.
fn stored<'b>(
    context: &Context<'_, 'b>,
    y: Expr<'b>,
    scale: usize,
    zero: usize,
    like: DType,
) -> Result<Expr<'b>> {
    let shape = y.shape();
    let scale = spread(context, context.float(scale)?.cast(y.dtype()), &shape, -1, 0)?;
    match context.optional(zero)? {
        Some(zero) => {
            let point = spread(context, zero.cast(y.dtype()), &shape, -1, 0)?;
            quantized(context, y / scale, Some(point), DataType::from_ir(zero.dtype()))
        }
        None => quantized(context, y / scale, None, DataType::from_ir(like)),
    }
}

fn elementwise<'b>(context: &Context<'_, 'b>, op: BinaryOp) -> Outputs<'b> {
    let y = context.binary(op, numbers(context, 0)?, numbers(context, 3)?)?;
    Ok(vec![stored(context, y, 6, 7, context.integer(0)?.dtype())?])
}

fn sigmoid<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let y = numbers(context, 0)?.sigmoid();
    Ok(vec![stored(context, y, 3, 4, context.integer(0)?.dtype())?])
}

/// Before opset 13 all axes from `axis` on sum to one together.
fn softmax<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, opset) = (numbers(context, 0)?, context.node.int("opset", 13)?);
    let shape = x.shape();
    let axis = context.axis_attribute(if opset < 13 { 1 } else { -1 }, x.rank())?;
    let y = if opset < 13 {
        let flat = context.reshape(x, &[shape[..axis].iter().product(), shape[axis..].iter().product()])?;
        context.reshape(context.push(Op::Softmax { axis: 1 }, &[flat])?, &shape)?
    } else {
        context.push(Op::Softmax { axis }, &[x])?
    };
    Ok(vec![stored(context, y, 3, 4, context.integer(0)?.dtype())?])
}

fn leaky_relu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = numbers(context, 0)?;
    let alpha = context.node.float("alpha", 0.01)? as f64;
    let y = x.gt(x.splat(0.0)).select(x, x * alpha);
    Ok(vec![stored(context, y, 3, 4, context.integer(0)?.dtype())?])
}

fn choose<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let y =
        context.select(context.input(0)?.cast(DType::Bool), numbers(context, 1)?, numbers(context, 4)?)?;
    Ok(vec![stored(context, y, 7, 8, context.integer(1)?.dtype())?])
}

fn concat<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    if context.input_count() < 5 || !(context.input_count() - 2).is_multiple_of(3) {
        return Err(context.error("each operand needs its scale and zero point"));
    }
    let parts: Vec<Expr<'b>> =
        (2..context.input_count()).step_by(3).map(|at| numbers(context, at)).collect::<Result<_>>()?;
    let axis = context.node.required("axis", context.node.optional_int("axis")?)?;
    let axis = context.axis(axis, parts[0].rank())?;
    let all = match parts[..] {
        [only] => only,
        _ => context.push(Op::Concat { axis }, &parts)?,
    };
    Ok(vec![stored(context, all, 0, 1, context.integer(2)?.dtype())?])
}

/// Batch, channels, then the other axes, from and to what the flag says.
fn channels_second<'b>(x: Expr<'b>, last: bool, back: bool) -> Expr<'b> {
    if !last {
        return x;
    }
    let rank = x.rank();
    let order: Vec<usize> = match back {
        false => [0, rank - 1].into_iter().chain(1..rank - 1).collect(),
        true => std::iter::once(0).chain(2..rank).chain([1]).collect(),
    };
    x.transpose(&order)
}

fn spatial<'b>(context: &Context<'_, 'b>, at: usize) -> Result<Expr<'b>> {
    context.ranked(at, 3)
}

fn global_average_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let last = context.node.flag("channels_last", false)?;
    spatial(context, 0)?;
    let x = channels_second(numbers(context, 0)?, last, false);
    let axes: Vec<usize> = (2..x.rank()).collect();
    let y = x.mean(&axes).reshape(&x.shape().with_ones(&axes));
    Ok(vec![stored(context, channels_second(y, last, true), 3, 4, context.integer(0)?.dtype())?])
}

fn average_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let last = node.flag("channels_last", false)?;
    spatial(context, 0)?;
    let x = channels_second(numbers(context, 0)?, last, false);
    let y = super::pool::averages(context, x)?;
    Ok(vec![stored(context, channels_second(y, last, true), 3, 4, context.integer(0)?.dtype())?])
}

fn nhwc_max_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = channels_second(spatial(context, 0)?, true, false);
    let mut windows = Windows::read_pool(context.node, x.rank() - 2)?;
    windows.settle(context.node, &x.shape()[2..], context.node.flag("ceil_mode", false)?)?;
    let line = |fill: usize, own: &[usize]| [&[fill; 2], own].concat();
    let pads = |own: &[i64]| [&[0; 2], own].concat();
    let op = WindowOp {
        kind: WindowKind::Max,
        window: line(1, &windows.kernel),
        stride: line(1, &windows.stride),
        dilation: line(1, &windows.dilation),
        pad_low: pads(&windows.pad_low),
        pad_high: pads(&windows.pad_high),
    };
    Ok(vec![channels_second(context.push(Op::Window(op), &[x])?, true, true)])
}

fn biased<'b>(context: &Context<'_, 'b>, y: Expr<'b>, at: usize) -> Result<Expr<'b>> {
    match context.optional(at)? {
        Some(bias) => Ok(y + context.parameter(bias, y, "bias")?),
        None => Ok(y),
    }
}

fn matmul_integer_to_float<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    context.ranked(0, 1)?;
    context.ranked(1, 1)?;
    let (a, b) = (stood_for(context, 0, 2, 4, -2)?, stood_for(context, 1, 3, 5, -1)?);
    Ok(vec![biased(context, matmul(context, a, b)?, 6)?])
}

fn dynamic_quantize_matmul<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let a = context.float(0).and_then(|_| context.ranked(0, 1))?;
    context.ranked(1, 1)?;
    let (a, (whole, scale)) = (InBytes::new(a, context.is_straight()), in_units(context, 1, 2, 3, -1)?);
    let product = matmul(context, a.whole, whole)?;
    let scales = spread(context, context.float(2)?, &product.shape(), -1, 0)?;
    let y = a.scaled(product, scales).with_surrogate(matmul(context, a.meant, whole * scale)?);
    Ok(vec![biased(context, y, 4)?])
}

fn q_gemm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let factor = |at: usize, flag: &str| -> Result<Expr<'b>> {
        let transposed = node.flag(flag, false)?;
        let x = stood_for(context, at, at + 1, at + 2, if transposed { 0 } else { -1 })?;
        if x.rank() != 2 {
            return Err(context.error(format_args!("input {at} must be a matrix, is {}", x.ty())));
        }
        Ok(if transposed { x.transpose(&[1, 0]) } else { x })
    };
    if context.float(1)?.shape().elements() != 1 {
        return Err(context.error("one scale for each row is not supported"));
    }
    let alpha = node.float("alpha", 1.0)? as f64;
    let mut y = matmul(context, factor(0, "transA")?, factor(3, "transB")?)? * alpha;
    if let Some(c) = context.optional(6)? {
        // In units of the product of both scales and alpha.
        let unit = context.float(1)?.reshape(&Shape::scalar()).broadcast(&y.shape(), &[]);
        let unit = unit * spread(context, context.float(4)?, &y.shape(), -1, 0)? * alpha;
        y = y + context.broadcast_to(c.cast(y.dtype()), &y.shape())? * unit;
    }
    match context.optional(7)? {
        Some(_) => Ok(vec![stored(context, y, 7, 8, context.integer(0)?.dtype())?]),
        None => Ok(vec![y]),
    }
}

fn q_attention<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    context.ranked(0, 3)?;
    let (x, w) = (stood_for(context, 0, 3, 6, -1)?, stood_for(context, 1, 4, 7, -1)?);
    let bias = context.float(2)?;
    packed_attention(context, x, w, Some(bias), [5, 8, usize::MAX])
}

/// A product with weights of a few bits that come in blocks along the inner axis, each with its scale.
fn matmul_n_bits<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let length = |name: &str| -> Result<usize> {
        let length = usize::try_from(node.required(name, node.optional_int(name)?)?).ok();
        length.filter(|&l| l > 0).ok_or_else(|| node.attribute_error(name, "is not positive"))
    };
    let (inner, outer, block) = (length("K")?, length("N")?, length("block_size")?);
    let bits = node.int("bits", 4)?;
    if !matches!(bits, 2 | 4 | 8) || node.input(4).is_some() || node.int("weight_prepacked", 0)? != 0 {
        return Err(
            context.error(format_args!("weights of {bits} bits, permuted or packed, are not supported"))
        );
    }
    let (a, packed, per_byte) =
        (context.float(0).and_then(|_| context.ranked(0, 1))?, context.integer(1)?, 8 / bits);
    let blocks = inner.div_ceil(block);
    let bytes = (block * bits as usize).div_ceil(8);
    context.table_size(&[outer, blocks * block])?;
    if packed.dtype() != DType::U8 || packed.shape().elements() != outer * blocks * bytes {
        return Err(context.error(format_args!("`B` is {}, not {outer} rows of {inner}", packed.ty())));
    }
    // The lowest bits come first.
    let unpack = |x: Expr<'b>, rows: &[usize], count: usize| -> Result<Expr<'b>> {
        let bytes = x.shape().elements() / rows.iter().product::<usize>().max(1);
        let flat = context.reshape(x, &[rows, &[bytes]].concat())?;
        let parts: Vec<Expr<'b>> = (0..per_byte)
            .map(|part| {
                let moved = flat.binary(BinaryOp::Shr, flat.splat((part * bits) as f64));
                moved.and(flat.splat(((1 << bits) - 1) as f64)).insert_axis(rows.len() + 1)
            })
            .collect();
        let all = context.builder().concat(rows.len() + 1, &parts);
        let all = context.reshape(all, &[rows, &[bytes * per_byte as usize]].concat())?;
        Ok(all.slice_axis(rows.len(), 0, count))
    };
    let scales = context.float(2)?;
    let dtype = scales.dtype();
    let grid = Shape::new(&[outer, blocks, block]);
    let spread = |e: Expr<'b>, what: &str| -> Result<Expr<'b>> {
        if e.shape().elements() != outer * blocks {
            return Err(context.error(format_args!("`{what}` is {}, not {outer} times {blocks}", e.ty())));
        }
        Ok(context.reshape(e.cast(dtype), &[outer, blocks])?.broadcast(&grid, &[0, 1]))
    };
    let weights = unpack(packed, &[outer, blocks], block)?.cast(dtype);
    let zero = match context.optional(3)? {
        None => weights.splat(f64::from(1 << (bits - 1))),
        Some(zero) if zero.dtype().is_float() => spread(zero, "zero_points")?,
        Some(zero) => {
            let row = (blocks * bits as usize).div_ceil(8);
            if zero.dtype() != DType::U8 || zero.shape().elements() != outer * row {
                return Err(context.error(format_args!("`zero_points` is {}", zero.ty())));
            }
            spread(unpack(zero, &[outer], blocks)?, "zero_points")?
        }
    };
    let weights = (weights - zero) * spread(scales, "scales")?;
    let weights = context.reshape(weights, &[outer, blocks * block])?.slice_axis(1, 0, inner);
    let y = matmul(context, a, weights.transpose(&[1, 0]).cast(a.dtype()))?;
    Ok(vec![biased(context, y, 5)?])
}
