//! Losses over classes.

use super::checks::guard;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, Op, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("NegativeLogLikelihoodLoss", 12, Gradient::Smooth, negative_log_likelihood),
    Operator::new("SoftmaxCrossEntropyLoss", 12, Gradient::Smooth, softmax_cross_entropy),
];

fn negative_log_likelihood<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![loss(context, context.float(0)?)?])
}

fn softmax_cross_entropy<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let scores = context.float(0)?;
    let log_probability = context.push(Op::LogSoftmax { axis: 1 }, &[scores])?;
    Ok(vec![loss(context, log_probability)?, log_probability])
}

/// The loss of log-probabilities `[N, C, ..]` under the labels in input 1 and the class weights in input 2.
fn loss<'b>(context: &Context<'_, 'b>, x: Expr<'b>) -> Result<Expr<'b>> {
    let (node, shape) = (context.node, x.shape());
    if shape.rank() < 2 {
        return Err(node.error(format_args!("the scores {} must have two axes or more", x.ty())));
    }
    let label = context.index(1)?;
    let places = shape.without(&[1]);
    context.expect_shape(label, &places, "target")?;
    let classes = shape[1];
    let ignored = node.optional_int("ignore_index")?.map(|index| {
        let index = context.builder().constant(gradc_ir::Literal::scalar(index)).broadcast(&places, &[]);
        label.eq(index)
    });
    let label = ignored.map_or(label, |ignored| ignored.select(label.splat(0.0), label));
    let zero = TensorType { dtype: x.dtype(), shape: places.clone() };
    let zero = context.builder().splat(&zero, 0.0);
    let kept = |e: Expr<'b>| ignored.map_or(e, |ignored| ignored.select(zero, e));
    // A label out of range must not reach another element, but fail.
    let label = guard(label, classes);
    let picked = at_labels(context, x, label)?;
    let weights = match context.optional(2)? {
        None => None,
        Some(weights) => {
            context.expect_shape(weights, &Shape::new(&[classes]), "weights")?;
            context.same_dtype(x, weights)?;
            Some(kept(context.push(Op::Gather { axis: 0 }, &[weights, label])?))
        }
    };
    let losses = kept(weights.map_or(-picked, |weights| -picked * weights));
    let all: Vec<usize> = (0..places.rank()).collect();
    match node.string("reduction", "mean")? {
        "none" => Ok(losses),
        "sum" => Ok(losses.sum(&all)),
        "mean" => match (weights, ignored) {
            (None, None) => Ok(losses.mean(&all)),
            (Some(weights), _) => Ok(losses.sum(&all) / weights.sum(&all)),
            (None, Some(ignored)) => {
                // Counted exactly, whatever the float type.
                let count = ignored.logical_not().cast(DType::I64).sum(&all);
                Ok(losses.sum(&all) / count.cast(x.dtype()))
            }
        },
        _ => Err(node.attribute_error("reduction", "is not known")),
    }
}

/// The element of each line along axis 1 that its label names.
fn at_labels<'b>(context: &Context<'_, 'b>, x: Expr<'b>, label: Expr<'b>) -> Result<Expr<'b>> {
    let (shape, places) = (x.shape(), label.shape());
    let inner: usize = shape[2..].iter().product();
    let counts = TensorType::new(DType::I64, [shape[0], inner]);
    let builder = context.builder();
    let label = label.reshape(&counts.shape);
    let mut position = label * label.splat(inner as f64);
    if shape[0] != 1 {
        position = position + builder.iota(counts.clone(), 0) * (shape[1] * inner) as f64;
    }
    if inner != 1 {
        position = position + builder.iota(counts, 1);
    }
    let flat = x.reshape(&Shape::new(&[shape.elements()]));
    Ok(context.push(Op::Gather { axis: 0 }, &[flat, position])?.reshape(&places))
}
