//! Operators of `ai.onnx.ml`: scaling, linear models, selection of features.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, DType, DotDims, Expr, Literal, Op, ReduceOp, Shape};

pub(super) const DOMAIN: &str = "ai.onnx.ml";

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("ArrayFeatureExtractor", 1, Gradient::Smooth, array_feature_extractor).of(DOMAIN),
    Operator::new("Binarizer", 1, Gradient::Zero, binarizer).of(DOMAIN),
    Operator::new("LinearClassifier", 1, Gradient::Smooth, linear_classifier).of(DOMAIN),
    Operator::new("LinearRegressor", 1, Gradient::Smooth, linear_regressor).of(DOMAIN),
    Operator::new("Normalizer", 1, Gradient::Piecewise, normalizer).of(DOMAIN),
    Operator::new("Scaler", 1, Gradient::Smooth, scaler).of(DOMAIN),
];

/// The operand as floats of 32 bits or more, with two axes: samples and features.
pub(super) fn samples<'b>(context: &Context<'_, 'b>) -> Result<Expr<'b>> {
    let x = floats(context)?;
    match x.shape()[..] {
        [features] => Ok(x.reshape(&Shape::new(&[1, features]))),
        [_, _] => Ok(x),
        _ => Err(context.error(format_args!("the input must have one or two axes, is {}", x.ty()))),
    }
}

/// The operand; integers as f32.
pub(super) fn floats<'b>(context: &Context<'_, 'b>) -> Result<Expr<'b>> {
    let x = context.input(0)?;
    match x.dtype() {
        dtype if dtype.is_float() => Ok(x),
        DType::Bool => Err(context.error(format_args!("the input must hold numbers, is {}", x.ty()))),
        _ => Ok(x.cast(context.float_type(DType::F32))),
    }
}

fn scaler<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = floats(context)?;
    let (shape, rank) = (x.shape(), x.rank());
    let features = shape.last().copied().unwrap_or(1);
    let line = |name: &str, neutral: f64| -> Result<Expr<'b>> {
        let values: Vec<f64> = match context.node.floats(name)? {
            None | Some([]) => return Ok(x.splat(neutral)),
            Some(values) => values.iter().map(|&value| value as f64).collect(),
        };
        match values[..] {
            [value] => Ok(x.splat(value)),
            _ if values.len() == features && rank > 0 => {
                let line = context.constant(Literal::new([features], &values)).cast(x.dtype());
                Ok(line.broadcast(&shape, &[rank - 1]))
            }
            _ => {
                let what = format!("has {} entries for {features} features", values.len());
                Err(context.node.attribute_error(name, what))
            }
        }
    };
    let y = (x - line("offset", 0.0)?) * line("scale", 1.0)?;
    Ok(vec![y.cast(context.float_type(DType::F32))])
}

fn normalizer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = samples(context)?;
    let (shape, axes) = (x.shape(), [1]);
    let sizes = match context.node.string("norm", "MAX")? {
        "MAX" => x.reduce(ReduceOp::Max, &axes),
        "L1" => x.abs().sum(&axes),
        "L2" => (x * x).sum(&axes),
        _ => return Err(context.node.attribute_error("norm", "is not known")),
    };
    // What is all zeros stays so.
    let empty = sizes.eq(sizes.splat(0.0));
    let safe = empty.select(sizes.splat(1.0), sizes);
    let norm = if context.node.string("norm", "MAX")? == "L2" { safe.sqrt() } else { safe };
    let y = x / norm.unreduce(&shape, &axes);
    let y = y.cast(context.float_type(DType::F32));
    Ok(vec![context.reshape(y, &context.input(0)?.shape())?])
}

fn binarizer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    if x.dtype() == DType::Bool {
        return Err(context.error("the input must hold numbers"));
    }
    let threshold = context.node.float("threshold", 0.0)? as f64;
    Ok(vec![x.gt(x.splat(threshold)).cast(x.dtype())])
}

fn array_feature_extractor<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, index) = (context.ranked(0, 1)?, context.index(1)?);
    let count = index.shape().elements();
    let picked = x.gather(x.rank() - 1, index.reshape(&Shape::new(&[count])));
    Ok(vec![if x.rank() == 1 { picked.reshape(&Shape::new(&[1, count])) } else { picked }])
}

fn linear_regressor<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let targets = context.node.int("targets", 1)?;
    let scores = linear(context, usize::try_from(targets).ok())?;
    Ok(vec![of_regressor(context, scores)?])
}

/// The transformed scores of a regression. Runtimes transform none where there is one target, against the specification.
pub(super) fn of_regressor<'b>(context: &Context<'_, 'b>, scores: Expr<'b>) -> Result<Expr<'b>> {
    if scores.shape()[1] == 1 && context.node.string("post_transform", "NONE")? != "NONE" {
        return Err(context
            .node
            .attribute_error("post_transform", "is read in two ways where there is one target"));
    }
    Ok(transformed(context, scores)?.cast(context.float_type(DType::F32)))
}

fn linear_classifier<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let labels = node.ints("classlabels_ints")?;
    let names = node.strings("classlabels_strings")?;
    let mut scores = linear(context, None)?;
    let classes = labels.map_or(0, <[i64]>::len).max(names.map_or(0, <[_]>::len));
    if scores.shape()[1] == 1 && classes == 2 {
        scores = context.builder().concat(1, &[-scores, scores]);
    }
    let result = transformed(context, scores)?.cast(context.float_type(DType::F32));
    let width = result.shape()[1];
    if width == 0 {
        return Err(context.error("there are no classes"));
    }
    if context.wants(0) && names.is_some() {
        return Err(context.error("labels that are strings are not supported"));
    }
    let place = match width {
        1 => {
            let none = node.string("post_transform", "NONE")? == "NONE";
            let threshold = result.splat(if none { 0.0 } else { 0.5 });
            let hit = result.ge(threshold).reshape(&Shape::new(&[result.shape()[0]])).cast(DType::I64);
            return Ok(match labels {
                Some([label, ..]) => {
                    let label = context.constant(Literal::scalar(*label)).broadcast(&hit.shape(), &[]);
                    vec![hit * label, result]
                }
                _ => vec![hit, result],
            });
        }
        _ => context.push(Op::ArgReduce { op: ArgOp::Max, axis: 1, last: false }, &[result])?,
    };
    let label = match labels {
        Some(labels) if labels.len() == width => {
            context.constant(Literal::new([labels.len()], labels)).gather(0, place)
        }
        Some(labels) => {
            let what = format!("has {} entries for {width} scores", labels.len());
            return Err(node.attribute_error("classlabels_ints", what));
        }
        None => place,
    };
    Ok(vec![label, result])
}

/// `x * coefficients^T + intercepts`, with as many rows of coefficients as there are.
fn linear<'b>(context: &Context<'_, 'b>, targets: Option<usize>) -> Result<Expr<'b>> {
    let (x, node) = (samples(context)?, context.node);
    let features = x.shape()[1];
    let coefficients = node.required("coefficients", node.floats("coefficients")?)?;
    let rows = coefficients.len().checked_div(features).unwrap_or(0);
    if rows * features != coefficients.len() || targets.is_some_and(|targets| targets != rows) {
        let what = format!("has {} entries for {features} features", coefficients.len());
        return Err(node.attribute_error("coefficients", what));
    }
    let matrix = context.constant(Literal::new([rows, features], coefficients)).cast(x.dtype());
    let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![1], ..DotDims::default() };
    let scores = x.dot(matrix, dims);
    match node.floats("intercepts")? {
        None | Some([]) => Ok(scores),
        Some(intercepts) if intercepts.len() == rows => {
            let line = context.constant(Literal::new([rows], intercepts)).cast(x.dtype());
            Ok(scores + line.broadcast(&scores.shape(), &[1]))
        }
        Some(intercepts) => {
            let what = format!("has {} entries, not {rows}", intercepts.len());
            Err(node.attribute_error("intercepts", what))
        }
    }
}

pub(super) fn transformed<'b>(context: &Context<'_, 'b>, scores: Expr<'b>) -> Result<Expr<'b>> {
    match context.node.string("post_transform", "NONE")? {
        "NONE" => Ok(scores),
        "LOGISTIC" => Ok(scores.sigmoid()),
        "SOFTMAX" => context.push(Op::Softmax { axis: 1 }, &[scores]),
        "SOFTMAX_ZERO" => {
            // As softmax, but what is zero stays so.
            let shape = scores.shape();
            let zero = scores.abs().le(scores.splat(1e-7));
            let greatest = scores.reduce_max(&[1]).stop_gradient().unreduce(&shape, &[1]);
            let powers = (scores - greatest).exp();
            let powers = zero.select(scores * (-greatest).exp(), powers);
            Ok(powers / powers.sum(&[1]).unreduce(&shape, &[1]))
        }
        other => {
            let what = format!("`{}` is not supported", other.escape_default());
            Err(context.node.attribute_error("post_transform", what))
        }
    }
}
