//! Normalizations: `(x - mean) / sqrt(variance + epsilon) * scale + bias` over various axes.

use super::pool::{powers, root, wide};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, Op, Shape, WindowKind, WindowOp};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("BatchNormalization", 1, Gradient::Smooth, batch_normalization),
    Operator::new("InstanceNormalization", 1, Gradient::Smooth, instance_normalization),
    Operator::new("LayerNormalization", 17, Gradient::Smooth, layer_normalization),
    Operator::new("RMSNormalization", 23, Gradient::Smooth, rms_normalization),
    Operator::new("GroupNormalization", 18, Gradient::Smooth, group_normalization),
    Operator::new("MeanVarianceNormalization", 9, Gradient::Smooth, mean_variance_normalization),
    Operator::new("LpNormalization", 1, Gradient::Smooth, lp_normalization),
    Operator::new("LRN", 1, Gradient::Smooth, lrn),
];

fn batch_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    if shape.rank() < 1 {
        return Err(node.error("the input must not be a scalar"));
    }
    let epsilon = context.node.float("epsilon", 1e-5)? as f64;
    // Before opset 9 statistics could be kept for each position instead of each channel.
    let per_position = node.opset < 9 && !node.flag("spatial", true)?;
    let kept: Vec<usize> = match (per_position, shape.rank()) {
        (true, rank) => (1..rank).collect(),
        (false, 1) => Vec::new(),
        (false, _) => vec![1],
    };
    let parameters: Shape = match (per_position, shape.rank()) {
        (false, 1) => Shape::new(&[1]),
        _ => kept.iter().map(|&axis| shape[axis]).collect(),
    };
    let parameter = |position: usize, name: &str| -> Result<Expr<'b>> {
        let e = context.float(position)?;
        context.expect_shape(e, &parameters, name)?;
        Ok(e.reshape(&kept.iter().map(|&axis| shape[axis]).collect()))
    };
    let (scale, bias) = (parameter(1, "scale")?, parameter(2, "B")?);
    let (mean, variance) = (parameter(3, "input_mean")?, parameter(4, "input_var")?);
    let training =
        if node.opset >= 14 { node.flag("training_mode", false)? } else { node.output(1).is_some() };
    // Statistics of 16-bit floats are formed in f32.
    let least = if training { wide(x).dtype() } else { x.dtype() };
    let wide = [scale, mean, variance].iter().fold(least, |wide, e| wider(wide, e.dtype()));
    let xw = x.cast(wide);
    let spread = |e: Expr<'b>| e.cast(wide).broadcast(&shape, &kept);
    let normalized = |mean: Expr<'b>, variance: Expr<'b>| {
        let factor = scale.cast(wide) / (variance + epsilon).sqrt();
        ((xw - spread(mean)) * spread(factor) + spread(bias)).cast(x.dtype())
    };
    if !training {
        return Ok(vec![normalized(mean.cast(wide), variance.cast(wide))]);
    }
    let axes: Vec<usize> = (0..shape.rank()).filter(|axis| !kept.contains(axis)).collect();
    let batch_mean = xw.mean(&axes);
    let centered = xw - spread(batch_mean);
    let batch_variance = (centered * centered).mean(&axes);
    let y = normalized(batch_mean, batch_variance);
    let momentum = node.float("momentum", 0.9)?;
    let running = |old: Expr<'b>, new: Expr<'b>| {
        let mixed = old.cast(wide) * (momentum as f64) + new * f64::from(1.0 - momentum);
        mixed.cast(old.dtype()).reshape(&parameters)
    };
    let saved = |e: Expr<'b>| e.cast(mean.dtype()).reshape(&parameters);
    let mut results = vec![y, running(mean, batch_mean), running(variance, batch_variance)];
    if node.opset < 14 {
        results.extend([saved(batch_mean), saved(batch_variance)]);
    }
    Ok(results)
}

fn instance_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    if shape.rank() < 3 {
        return Err(node.error(format_args!("the input {shape} must have rank 3 or more")));
    }
    let channels = Shape::new(&[shape[1]]);
    let (scale, bias) = (context.float(1)?, context.float(2)?);
    context.expect_shape(scale, &channels, "scale")?;
    context.expect_shape(bias, &channels, "B")?;
    let epsilon = node.float("epsilon", 1e-5)? as f64;
    let axes: Vec<usize> = (2..shape.rank()).collect();
    let normal = Standardized::of(wide(x), &axes, epsilon).value;
    let spread = |e: Expr<'b>| e.cast(normal.dtype()).broadcast(&shape, &[1]);
    Ok(vec![(normal * spread(scale) + spread(bias)).cast(x.dtype())])
}

fn layer_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    let axis = context.axis_attribute(-1, shape.rank())?;
    let axes: Vec<usize> = (axis..shape.rank()).collect();
    let epsilon = node.float("epsilon", 1e-5)? as f64;
    let stash = stash_type(context, x)?;
    let normal = Standardized::of(x.cast(stash), &axes, epsilon);
    let y = normal.value * context.parameter(context.float(1)?, normal.value, "Scale")?;
    let y = match context.optional(2)? {
        Some(bias) => y + context.parameter(bias, y, "B")?,
        None => y,
    };
    // The statistics come in the type of the attribute.
    let kept = shape.with_ones(&axes);
    let stated = match node.int("stash_type", 1)? {
        1 => context.float_type(DType::F32),
        10 => context.float_type(DType::F16),
        16 => context.float_type(DType::BF16),
        _ => stash,
    };
    let statistics = |e: Expr<'b>| e.cast(stated).reshape(&kept);
    Ok(vec![y.cast(x.dtype()), statistics(normal.mean), statistics(normal.inverse_deviation)])
}

fn rms_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    let axis = context.axis_attribute(-1, shape.rank())?;
    let axes: Vec<usize> = (axis..shape.rank()).collect();
    let epsilon = node.float("epsilon", 1e-5)? as f64;
    let normal = root_mean_square(x.cast(stash_type(context, x)?), &axes, epsilon);
    let given = context.float(1)?;
    let scale = context.parameter(given, normal, "scale")?;
    Ok(vec![(normal * scale).cast(given.dtype())])
}

/// `x / sqrt(mean(x^2) + epsilon)`
pub(super) fn root_mean_square<'b>(x: Expr<'b>, axes: &[usize], epsilon: f64) -> Expr<'b> {
    let inverse = 1.0 / ((x * x).mean(axes) + epsilon).sqrt();
    x * inverse.unreduce(&x.shape(), axes)
}

fn group_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    let groups = node.required("num_groups", node.optional_int("num_groups")?)?;
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    let Some(groups) = groups.filter(|&groups| shape.rank() >= 2 && shape[1].is_multiple_of(groups)) else {
        return Err(
            node.attribute_error("num_groups", format_args!("does not divide the channels of {shape}"))
        );
    };
    let epsilon = node.float("epsilon", 1e-5)? as f64;
    let stash = if node.opset >= 21 { stash_type(context, x)? } else { x.dtype() };
    let grouped: Shape =
        [shape[0], groups, shape[1] / groups].into_iter().chain(shape[2..].iter().copied()).collect();
    let axes: Vec<usize> = (2..grouped.rank()).collect();
    let normal = Standardized::of(x.cast(stash).reshape(&grouped), &axes, epsilon).value;
    // Until opset 20 there was one parameter for each group, later one for each channel.
    let (parameters, kept): (Shape, &[usize]) =
        if node.opset >= 21 { (Shape::new(&[shape[1]]), &[1, 2]) } else { (Shape::new(&[groups]), &[1]) };
    let parameter = |position: usize, name: &str| -> Result<Expr<'b>> {
        let e = context.float(position)?;
        context.expect_shape(e, &parameters, name)?;
        let split: Shape = kept.iter().map(|&axis| grouped[axis]).collect();
        Ok(e.cast(stash).reshape(&split).broadcast(&grouped, kept))
    };
    let y = normal * parameter(1, "scale")? + parameter(2, "bias")?;
    Ok(vec![y.reshape(&shape).cast(x.dtype())])
}

fn mean_variance_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    let axes = context.axes(node.ints("axes")?.unwrap_or(&[0, 2, 3]), shape.rank())?;
    let wide = wide(x);
    let centered = wide - wide.mean(&axes).unreduce(&shape, &axes);
    let deviation = root((centered * centered).mean(&axes), 2) + 1e-9;
    Ok(vec![(centered * (1.0 / deviation).unreduce(&shape, &axes)).cast(x.dtype())])
}

fn lp_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    let axis = context.axis_attribute(-1, shape.rank())?;
    let p = node.int("p", 2)?;
    if p != 1 && p != 2 {
        return Err(node.attribute_error("p", format_args!("is {p}, not 1 or 2")));
    }
    let wide = wide(x);
    let sum = powers(wide, p).sum(&[axis]);
    // What is all zeros stays so, and has the gradient 0.
    let empty = sum.eq(sum.splat(0.0));
    let safe = empty.select(sum.splat(1.0), sum);
    let norm = if p == 2 { safe.sqrt() } else { safe };
    let normal = wide / norm.unreduce(&shape, &[axis]);
    Ok(vec![empty.unreduce(&shape, &[axis]).select(normal.splat(0.0), normal).cast(x.dtype())])
}

fn lrn<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    let rank = shape.rank();
    let size = node.required("size", node.optional_int("size")?)?;
    if rank < 2 || !(1..=1 << 40).contains(&size) {
        return Err(node.error(format_args!("cannot sum over {size} channels of {shape}")));
    }
    let (alpha, beta) = (node.float("alpha", 1e-4)? as f64, node.float("beta", 0.75)? as f64);
    let bias = node.float("bias", 1.0)? as f64;
    let mut window = WindowOp {
        kind: WindowKind::Sum,
        window: vec![1; rank],
        stride: vec![1; rank],
        dilation: vec![1; rank],
        pad_low: vec![0; rank],
        pad_high: vec![0; rank],
    };
    window.window[1] = size as usize;
    window.pad_low[1] = (size - 1) / 2;
    window.pad_high[1] = size - 1 - (size - 1) / 2;
    let wide = wide(x);
    let sum = context.push(Op::Window(window), &[wide * wide])?;
    let base = sum * (alpha / size as f64) + bias;
    Ok(vec![(wide / base.pow(base.splat(beta))).cast(x.dtype())])
}

/// A tensor with its mean taken away and divided by its standard deviation.
pub(super) struct Standardized<'b> {
    pub value: Expr<'b>,
    /// Without the axes.
    pub mean: Expr<'b>,
    /// `1 / sqrt(variance + epsilon)`, without the axes.
    pub inverse_deviation: Expr<'b>,
}

impl<'b> Standardized<'b> {
    pub fn of(x: Expr<'b>, axes: &[usize], epsilon: f64) -> Standardized<'b> {
        let shape = x.shape();
        let mean = x.mean(axes);
        let centered = x - mean.unreduce(&shape, axes);
        let variance = (centered * centered).mean(axes);
        let inverse_deviation = 1.0 / (variance + epsilon).sqrt();
        Standardized { value: centered * inverse_deviation.unreduce(&shape, axes), mean, inverse_deviation }
    }
}

/// The type that statistics are computed in: at least as wide as the input's.
fn stash_type(context: &Context<'_, '_>, x: Expr<'_>) -> Result<DType> {
    match context.node.int("stash_type", 1)? {
        1 => Ok(wider(x.dtype(), DType::F32)),
        10 | 16 => Ok(x.dtype()),
        11 => Ok(DType::F64),
        other => Err(context.node.attribute_error("stash_type", format_args!("is {other}, no float type"))),
    }
}

/// The wider of two float types; f32 for the two that have 16 bits.
pub(in crate::lower) fn wider(left: DType, right: DType) -> DType {
    match (left, right) {
        _ if left == right => left,
        (DType::F64, _) | (_, DType::F64) => DType::F64,
        _ => DType::F32,
    }
}
