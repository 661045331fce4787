//! Operators of `com.microsoft` that optimizers of ONNX graphs put in the place of standard ones.

use super::normalization::{Standardized, root_mean_square, wider};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

pub(super) const DOMAIN: &str = "com.microsoft";

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("BiasGelu", 1, Gradient::Smooth, bias_gelu).of(DOMAIN),
    Operator::new("FastGelu", 1, Gradient::Smooth, fast_gelu).of(DOMAIN),
    Operator::new("Gelu", 1, Gradient::Smooth, plain_gelu).of(DOMAIN),
    Operator::new("QuickGelu", 1, Gradient::Smooth, quick_gelu).of(DOMAIN),
    Operator::new("SimplifiedLayerNormalization", 1, Gradient::Smooth, simplified),
    Operator::new("SimplifiedLayerNormalization", 1, Gradient::Smooth, simplified).of(DOMAIN),
    Operator::new("SkipLayerNormalization", 1, Gradient::Smooth, skip_layer_normalization).of(DOMAIN),
    Operator::new("SkipSimplifiedLayerNormalization", 1, Gradient::Smooth, skip_simplified).of(DOMAIN),
];

pub(super) fn gelu(x: Expr<'_>) -> Expr<'_> {
    x * 0.5 * ((x * FRAC_1_SQRT_2).erf() + 1.0)
}

fn plain_gelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![gelu(context.float(0)?)])
}

fn bias_gelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    Ok(vec![gelu(x + context.parameter(context.float(1)?, x, "B")?)])
}

fn fast_gelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let x = match context.optional(1)? {
        Some(bias) => x + context.parameter(bias, x, "bias")?,
        None => x,
    };
    let inner = (x + x * x * x * 0.044715) * (2.0 / PI).sqrt();
    Ok(vec![x * 0.5 * (inner.tanh() + 1.0)])
}

fn quick_gelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let alpha = context.node.float("alpha", 1.702)? as f64;
    Ok(vec![x * (x * alpha).sigmoid()])
}

/// The sum of input, skip and, at this position, bias.
fn skipped<'b>(context: &Context<'_, 'b>, bias: usize) -> Result<Expr<'b>> {
    let x = context.float(0).and_then(|_| context.ranked(0, 1))?;
    let sum = x + context.parameter(context.float(1)?, x, "skip")?;
    match context.optional(bias)? {
        Some(bias) => Ok(sum + context.parameter(bias, sum, "bias")?),
        None => Ok(sum),
    }
}

fn skip_layer_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let sum = skipped(context, 4)?;
    let (shape, axes) = (sum.shape(), [sum.rank() - 1]);
    let epsilon = context.node.float("epsilon", 1e-12)? as f64;
    let normal = Standardized::of(sum.cast(wider(sum.dtype(), DType::F32)), &axes, epsilon);
    let y = normal.value * context.parameter(context.float(2)?, normal.value, "gamma")?;
    let y = match context.optional(3)? {
        Some(beta) => y + context.parameter(beta, y, "beta")?,
        None => y,
    };
    let kept = shape.with_ones(&axes);
    Ok(vec![y.cast(sum.dtype()), normal.mean.reshape(&kept), normal.inverse_deviation.reshape(&kept), sum])
}

fn skip_simplified<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let sum = skipped(context, 3)?;
    let (shape, axes) = (sum.shape(), [sum.rank() - 1]);
    let epsilon = context.node.float("epsilon", 1e-12)? as f64;
    let wide = sum.cast(wider(sum.dtype(), DType::F32));
    let normal = root_mean_square(wide, &axes, epsilon);
    let y = (normal * context.parameter(context.float(2)?, normal, "gamma")?).cast(sum.dtype());
    let inverse = 1.0 / ((wide * wide).mean(&axes) + epsilon).sqrt();
    let inverse = inverse.reshape(&shape.with_ones(&axes));
    Ok(vec![y, inverse, inverse, sum])
}

/// As RMSNormalization; runtimes know it by this name, in the domain of ONNX too.
fn simplified<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let shape = x.shape();
    let axes: Vec<usize> = (context.axis_attribute(-1, shape.rank())?..shape.rank()).collect();
    let epsilon = context.node.float("epsilon", 1e-5)? as f64;
    let wide = x.cast(wider(x.dtype(), DType::F32));
    let scale = context.float(1)?;
    let y = root_mean_square(wide, &axes, epsilon) * context.parameter(scale, wide, "scale")?;
    let inverse = 1.0 / ((wide * wide).mean(&axes) + epsilon).sqrt();
    Ok(vec![y.cast(scale.dtype()), inverse.reshape(&shape.with_ones(&axes))])
}
