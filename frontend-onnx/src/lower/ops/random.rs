//! Random tensors, and dropout. The numbers are those of [`generator`](super::generator).

use super::generator::Words;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{CumulativeOp, DType, Expr, Op, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Bernoulli", 15, Gradient::Zero, bernoulli),
    Operator::new("Dropout", 1, Gradient::Smooth, dropout),
    Operator::new("Multinomial", 7, Gradient::Zero, multinomial),
    Operator::new("RandomNormal", 1, Gradient::Zero, |c| normal(c, &stated_shape(c)?, None)),
    Operator::new("RandomNormalLike", 1, Gradient::Zero, |c| {
        let like = c.input(0)?;
        normal(c, &like.shape(), Some(like.dtype()))
    }),
    Operator::new("RandomUniform", 1, Gradient::Zero, |c| uniform(c, &stated_shape(c)?, None)),
    Operator::new("RandomUniformLike", 1, Gradient::Zero, |c| {
        let like = c.input(0)?;
        uniform(c, &like.shape(), Some(like.dtype()))
    }),
];

fn stated_shape(context: &Context<'_, '_>) -> Result<Shape> {
    let lengths = context.node.required("shape", context.node.ints("shape")?)?;
    context.shape(&context.lengths(lengths, "shape")?)
}

/// The type of the attribute `dtype`, or else of the operand, or else f32.
fn dtype(context: &Context<'_, '_>, like: Option<DType>) -> Result<DType> {
    match (context.node.optional_int("dtype")?, like) {
        (Some(number), _) => context.dtype(number),
        (None, Some(like)) => Ok(like),
        (None, None) => Ok(context.float_type(DType::F32)),
    }
}

fn float_dtype(context: &Context<'_, '_>, like: Option<DType>) -> Result<DType> {
    let dtype = dtype(context, like)?;
    if dtype.is_float() {
        Ok(dtype)
    } else {
        Err(context.error(format_args!("cannot draw numbers of type {dtype}")))
    }
}

fn uniform<'b>(context: &Context<'_, 'b>, shape: &Shape, like: Option<DType>) -> Outputs<'b> {
    let dtype = float_dtype(context, like)?;
    let (low, high) = (context.node.float("low", 0.0)? as f64, context.node.float("high", 1.0)? as f64);
    Ok(vec![Words::draw(context, shape)?.uniform(dtype) * (high - low) + low])
}

fn normal<'b>(context: &Context<'_, 'b>, shape: &Shape, like: Option<DType>) -> Outputs<'b> {
    let dtype = float_dtype(context, like)?;
    let (mean, scale) = (context.node.float("mean", 0.0)? as f64, context.node.float("scale", 1.0)? as f64);
    Ok(vec![Words::draw(context, shape)?.normal(dtype) * scale + mean])
}

/// A number in [0, 1) for each element, in the type of the operand but of 32 bits at least.
fn draws<'b>(context: &Context<'_, 'b>, x: Expr<'b>) -> Result<Expr<'b>> {
    let wide = super::normalization::wider(x.dtype(), DType::F32);
    Ok(Words::draw(context, &x.shape())?.uniform(wide))
}

fn bernoulli<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let p = context.float(0)?;
    let dtype = dtype(context, Some(p.dtype()))?;
    let draws = draws(context, p)?;
    Ok(vec![draws.lt(p.cast(draws.dtype())).cast(dtype)])
}

/// Draws from the classes whose logarithms of probabilities (up to a constant) are given.
fn multinomial<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let samples = usize::try_from(node.int("sample_size", 1)?).unwrap_or(0);
    let (rows, classes) = match x.shape()[..] {
        [rows, classes] if classes > 0 && samples > 0 => (rows, classes),
        _ => return Err(context.error(format_args!("cannot draw {samples} samples from {}", x.ty()))),
    };
    let dtype = context.dtype(node.int("dtype", 6)?)?;
    if !dtype.is_integer() {
        return Err(node.attribute_error("dtype", format_args!("is {dtype}, no type of integers")));
    }
    let wide = x.cast(super::normalization::wider(x.dtype(), DType::F32));
    let weights = context.push(Op::Softmax { axis: 1 }, &[wide])?;
    let op = Op::Cumulative { op: CumulativeOp::Sum, axis: 1, exclusive: false, reverse: false };
    let sums = context.push(op, &[weights])?;
    let drawn = Words::draw(context, &context.shape(&[rows, samples])?)?.uniform(wide.dtype());
    // Rounding leaves the last sum somewhere near 1: a draw is a part of it.
    let total = sums.slice_axis(1, classes - 1, classes).reshape(&Shape::new(&[rows]));
    let drawn = drawn * total.broadcast(&drawn.shape(), &[0]);
    let shape = context.shape(&[rows, samples, classes])?;
    let passed = sums.broadcast(&shape, &[0, 2]).le(drawn.broadcast(&shape, &[0, 1]));
    let class = passed.cast(DType::I64).sum(&[2]);
    Ok(vec![class.min(class.splat(classes as f64 - 1.0)).cast(dtype)])
}

/// In inference the operand. Opset 12 made ratio and mode inputs; before it there is inference alone.
fn dropout<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let truths = if context.opset() < 10 { x.dtype() } else { DType::Bool };
    let number = |position: usize| -> Result<Option<Expr<'b>>> {
        match context.optional(position)? {
            Some(e) if e.shape().elements() == 1 => context.reshape(e, &[]).map(Some),
            Some(e) => Err(context.error(format_args!("input {position} must be one number, is {}", e.ty()))),
            None => Ok(None),
        }
    };
    let known = |e: Expr<'b>| context.known_value(e).and_then(|literal| literal.to_f64().first().copied());
    let (ratio, training) = if context.opset() < 12 { (None, None) } else { (number(1)?, number(2)?) };
    let Some(training) = training.filter(|&training| known(training) != Some(0.0)) else {
        return Ok(vec![x, x.splat_of(truths, 1.0)]);
    };
    let x = context.float(0)?;
    let ratio = match ratio {
        Some(ratio) if ratio.dtype().is_float() => ratio,
        Some(ratio) => {
            return Err(context.error(format_args!("the ratio must be a float, is {}", ratio.ty())));
        }
        None => context.scalar(context.float_type(DType::F32), 0.5),
    };
    if known(ratio).is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        return Err(context.error("the ratio must be between 0 and 1"));
    }
    let draws = draws(context, x)?;
    let ratio = ratio.cast(draws.dtype());
    let ratio = training.cast(DType::Bool).select(ratio, ratio.splat(0.0));
    let all = ratio.ge(ratio.splat(1.0));
    let scale = 1.0 / all.select(ratio.splat(1.0), 1.0 - ratio);
    let kept = draws.ge(ratio.broadcast(&x.shape(), &[]));
    let scaled = x * scale.cast(x.dtype()).broadcast(&x.shape(), &[]);
    Ok(vec![kept.select(scaled, x.splat(0.0)), kept.cast(truths)])
}
