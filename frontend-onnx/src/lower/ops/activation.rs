//! Activation functions.
//!
//! They are written so that a zero gradient never meets an infinite factor: what a `select` does not take is computed
//! from a harmless number. At kinks the gradient is the one of `docs/conventions.md`; NaN passes.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, DType, Expr};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Celu", 12, Gradient::Smooth, celu),
    Operator::new("Clip", 1, Gradient::Piecewise, clip),
    Operator::new("Elu", 1, Gradient::Piecewise, elu),
    Operator::new("Gelu", 20, Gradient::Smooth, gelu),
    Operator::new("HardSigmoid", 1, Gradient::Piecewise, hard_sigmoid),
    Operator::new("HardSwish", 14, Gradient::Piecewise, hard_swish),
    Operator::new("LeakyRelu", 1, Gradient::Piecewise, leaky_relu),
    Operator::new("Mish", 18, Gradient::Smooth, mish),
    Operator::new("PRelu", 1, Gradient::Piecewise, prelu),
    Operator::new("Relu", 1, Gradient::Piecewise, |c| Ok(vec![relu(c.input(0)?)])),
    Operator::new("Selu", 1, Gradient::Piecewise, selu),
    Operator::new("Shrink", 9, Gradient::Piecewise, shrink),
    Operator::new("Sigmoid", 1, Gradient::Smooth, |c| Ok(vec![c.float(0)?.sigmoid()])),
    Operator::new("Softplus", 1, Gradient::Smooth, |c| Ok(vec![c.float(0)?.softplus()])),
    Operator::new("Softsign", 1, Gradient::Smooth, softsign),
    Operator::new("SwiGLU", 28, Gradient::Smooth, swiglu),
    Operator::new("Swish", 24, Gradient::Smooth, swish),
    Operator::new("ThresholdedRelu", 1, Gradient::Piecewise, thresholded_relu),
];

/// The positive part; gradient 0 at 0.
pub(in crate::lower) fn relu(x: Expr<'_>) -> Expr<'_> {
    let zero = x.splat(0.0);
    x.le(zero).select(zero, x)
}

/// x limited to constants; gradient 0 at the bounds.
pub(in crate::lower) fn clamp(x: Expr<'_>, low: f64, high: f64) -> Expr<'_> {
    let (low, high) = (x.splat(low), x.splat(high));
    let raised = x.le(low).select(low, x);
    raised.ge(high).select(high, raised)
}

fn leaky_relu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let alpha = context.node.float("alpha", 0.01)?;
    Ok(vec![x.gt(x.splat(0.0)).select(x, x * f64::from(alpha))])
}

fn prelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let mut slope = context.input(1)?;
    // Before opset 7 there was one slope, or one for each channel.
    if context.opset() < 7 && slope.shape().elements() > 1 {
        if slope.rank() != 1 || x.rank() < 2 || slope.shape()[0] != x.shape()[1] {
            return Err(context.error(format_args!("slopes {} do not fit {}", slope.ty(), x.ty())));
        }
        let lengths: Vec<usize> =
            (1..x.rank()).map(|axis| if axis == 1 { slope.shape()[0] } else { 1 }).collect();
        slope = context.reshape(slope, &lengths)?;
    }
    let slope = context.broadcast_to(slope, &x.shape())?;
    let zero = x.splat(0.0);
    let positive = x.gt(zero);
    // The slope's gradient is a product with what stands here, so it must be finite where it does not count.
    let low = context.binary(BinaryOp::Mul, positive.select(zero, x), slope)?;
    Ok(vec![positive.select(x, low)])
}

/// `x` where positive, else `low` of it.
fn piecewise<'b>(x: Expr<'b>, low: impl FnOnce(Expr<'b>) -> Expr<'b>) -> Expr<'b> {
    let zero = x.splat(0.0);
    let positive = x.gt(zero);
    positive.select(x, low(positive.select(zero, x)))
}

fn elu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let alpha = f64::from(context.node.float("alpha", 1.0)?);
    Ok(vec![piecewise(context.float(0)?, |x| x.expm1() * alpha)])
}

fn selu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let alpha = f64::from(context.node.float("alpha", 1.673_263_2)?);
    let gamma = f64::from(context.node.float("gamma", 1.050_701)?);
    Ok(vec![piecewise(context.float(0)?, |x| x.expm1() * alpha) * gamma])
}

fn celu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let alpha = f64::from(context.node.float("alpha", 1.0)?);
    Ok(vec![piecewise(context.float(0)?, |x| (x / alpha).expm1() * alpha)])
}

fn gelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let gate = match context.node.string("approximate", "none")? {
        "none" => (x * FRAC_1_SQRT_2).erf(),
        "tanh" => ((x + x * x * x * 0.044715) * (2.0 / PI).sqrt()).tanh(),
        _ => return Err(context.node.attribute_error("approximate", "must be none or tanh")),
    };
    Ok(vec![x * 0.5 * (gate + 1.0)])
}

fn softsign<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    Ok(vec![x / (x.abs() + 1.0)])
}

fn hard_sigmoid<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let alpha = f64::from(context.node.float("alpha", 0.2)?);
    let beta = f64::from(context.node.float("beta", 0.5)?);
    Ok(vec![clamp(context.float(0)? * alpha + beta, 0.0, 1.0)])
}

fn hard_swish<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    Ok(vec![x * clamp(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)])
}

fn mish<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    Ok(vec![x * x.softplus().tanh()])
}

fn swish<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let alpha = context.node.float("alpha", 1.0)?;
    let scaled = if alpha == 1.0 { x } else { x * f64::from(alpha) };
    Ok(vec![x * scaled.sigmoid()])
}

fn swiglu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (gate, linear) = (context.float(0)?, context.float(1)?);
    if gate.ty() != linear.ty() {
        return Err(context.error(format_args!("operands {} and {} differ", gate.ty(), linear.ty())));
    }
    let alpha = context.node.float("alpha", 1.0)?;
    let scaled = if alpha == 1.0 { gate } else { gate * f64::from(alpha) };
    Ok(vec![gate * scaled.sigmoid() * linear])
}

fn thresholded_relu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let alpha = f64::from(context.node.float("alpha", 1.0)?);
    Ok(vec![x.le(x.splat(alpha)).select(x.splat(0.0), x)])
}

fn shrink<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let operand = context.input(0)?;
    let dtype = operand.dtype();
    let x = if dtype.is_float() { operand } else { operand.cast(DType::F64) };
    let bias = f64::from(context.node.float("bias", 0.0)?);
    let lambda = f64::from(context.node.float("lambd", 0.5)?);
    let above = x.gt(x.splat(lambda)).select(x - bias, x.splat(0.0));
    let shrunk = x.lt(x.splat(-lambda)).select(x + bias, above);
    Ok(vec![x.ne(x).select(x, shrunk).cast(dtype)])
}

/// Opset 11 made the bounds inputs.
fn clip<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let bound = |name: &str, position: usize| -> Result<Option<Expr<'b>>> {
        let bound = match context.node.optional_float(name)? {
            Some(value) => Some(context.scalar(x.dtype(), f64::from(value))),
            None => context.optional(position)?,
        };
        let Some(bound) = bound else { return Ok(None) };
        if bound.dtype() != x.dtype() || bound.shape().elements() != 1 {
            return Err(context.error(format_args!(
                "the bound must be one {}, is {}",
                x.dtype(),
                bound.ty()
            )));
        }
        Ok(Some(context.reshape(bound, &[])?.broadcast(&x.shape(), &[])))
    };
    let (low, high) = (bound("min", 1)?, bound("max", 2)?);
    let mut result = x;
    if let Some(low) = low {
        result = result.le(low).select(outside(context, low, result.lt(low)), result);
    }
    if let Some(high) = high {
        result = result.ge(high).select(outside(context, high, result.gt(high)), result);
    }
    Ok(vec![result])
}

/// A bound that gets a gradient where the operand lies strictly outside of it only.
fn outside<'b>(context: &Context<'_, 'b>, bound: Expr<'b>, strictly: Expr<'b>) -> Expr<'b> {
    if !bound.dtype().is_float() || context.is_constant(bound) {
        return bound;
    }
    strictly.select(bound, bound.stop_gradient())
}
