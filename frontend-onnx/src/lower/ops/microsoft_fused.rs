//! Operators of `com.microsoft` that hold several of ONNX: products with activations, embeddings, normalizations of images.

use super::microsoft::{DOMAIN, gelu};
use super::normalization::{Standardized, wider};
use super::product::{gemm, matmul};
use super::recurrent_activation::Activation;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, Op, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("BiasAdd", 1, Gradient::Smooth, bias_add).of(DOMAIN),
    Operator::new("BiasSplitGelu", 1, Gradient::Smooth, bias_split_gelu).of(DOMAIN),
    Operator::new("CDist", 1, Gradient::Smooth, distances).of(DOMAIN),
    Operator::new("EmbedLayerNormalization", 1, Gradient::Smooth, embed_layer_normalization).of(DOMAIN),
    Operator::new("FusedConv", 1, Gradient::Piecewise, fused_conv).of(DOMAIN),
    Operator::new("FusedGemm", 1, Gradient::Piecewise, fused_gemm).of(DOMAIN),
    Operator::new("FusedMatMul", 1, Gradient::Smooth, fused_matmul).of(DOMAIN),
    Operator::new("GroupNorm", 1, Gradient::Smooth, group_norm).of(DOMAIN),
    Operator::new("SkipGroupNorm", 1, Gradient::Smooth, skip_group_norm).of(DOMAIN),
    Operator::new("TransposeMatMul", 1, Gradient::Smooth, fused_matmul).of(DOMAIN),
];

fn fused_matmul<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let factor = |position: usize, last: &str, batch: &str| -> Result<Expr<'b>> {
        let x = context.float(position).and_then(|_| context.ranked(position, 1))?;
        let rank = x.rank();
        let mut order: Vec<usize> = (0..rank).collect();
        // First the batch axes change places with the rows, then rows and columns.
        if node.flag(batch, false)? {
            if rank < 3 {
                return Err(node.attribute_error(batch, format_args!("does not fit {}", x.ty())));
            }
            order.remove(0);
            order.insert(rank - 2, 0);
        }
        if node.flag(last, false)? && rank > 1 {
            order.swap(rank - 1, rank - 2);
        }
        Ok(x.transpose(&order))
    };
    let product = matmul(context, factor(0, "transA", "transBatchA")?, factor(1, "transB", "transBatchB")?)?;
    let alpha = node.float("alpha", 1.0)?;
    Ok(vec![if alpha == 1.0 { product } else { product * alpha as f64 }])
}

/// The function that the attribute `activation` names, with these parameters.
fn activated<'b>(context: &Context<'_, 'b>, x: Expr<'b>, parameters: &[f32]) -> Result<Expr<'b>> {
    let node = context.node;
    let name = node.string("activation", "")?;
    if name == "Clip" {
        return match parameters {
            [low, high] => Ok(super::activation::clamp(x, f64::from(*low), f64::from(*high))),
            _ => Err(node.attribute_error("activation_params", "does not give two bounds")),
        };
    }
    if name.is_empty() {
        return Ok(x);
    }
    let (alphas, betas) = parameters.split_at(parameters.len().min(1));
    let (mut alphas, mut betas) = (alphas.iter(), betas.iter());
    match Activation::new(name, &mut alphas, &mut betas) {
        Some(activation) => Ok(activation.apply(x)),
        None => Err(node.attribute_error("activation", "is not known")),
    }
}

fn fused_gemm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let y = gemm(context)?;
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta"] {
        parameters.extend(context.node.optional_float(name)?);
    }
    Ok(vec![activated(context, y[0], &parameters)?])
}

fn fused_conv<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let mut y = super::conv::conv(context)?[0];
    if let Some(z) = context.optional(3)? {
        context.expect_shape(z, &y.shape(), "Z")?;
        context.same_dtype(y, z)?;
        y = y + z;
    }
    Ok(vec![activated(context, y, context.node.floats("activation_params")?.unwrap_or_default())?])
}

fn bias_add<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let skip = context.float(2)?;
    context.expect_shape(skip, &x.shape(), "skip")?;
    context.same_dtype(x, skip)?;
    Ok(vec![x + context.parameter(context.float(1)?, x, "bias")? + skip])
}

fn bias_split_gelu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0).and_then(|_| context.ranked(0, 1))?;
    let biased = x + context.parameter(context.float(1)?, x, "bias")?;
    let (last, width) = (x.rank() - 1, x.shape()[x.rank() - 1]);
    if !width.is_multiple_of(2) {
        return Err(context.error(format_args!("{} cannot be split in two", x.ty())));
    }
    let gate = biased.slice_axis(last, width / 2, width);
    Ok(vec![biased.slice_axis(last, 0, width / 2) * gelu(gate)])
}

/// The distances between all rows of two matrices.
fn distances<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (a, b) = (context.float(0)?, context.float(1)?);
    context.same_dtype(a, b)?;
    let (rows, columns, width) = match (&a.shape()[..], &b.shape()[..]) {
        (&[rows, width], &[columns, other]) if width == other => (rows, columns, width),
        _ => return Err(context.error(format_args!("rows of {} and {} do not fit", a.ty(), b.ty()))),
    };
    let shape = context.shape(&[rows, columns, width])?;
    let difference = a.broadcast(&shape, &[0, 2]) - b.broadcast(&shape, &[1, 2]);
    let squares = (difference * difference).sum(&[2]);
    match context.node.string("metric", "sqeuclidean")? {
        "sqeuclidean" => Ok(vec![squares]),
        "euclidean" => Ok(vec![super::pool::root(squares, 2)]),
        _ => Err(context.node.attribute_error("metric", "is not known")),
    }
}

fn embed_layer_normalization<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let ids = context.index(0)?;
    let (batch, length) = match ids.shape()[..] {
        [batch, length] => (batch, length),
        _ => return Err(context.error(format_args!("`input_ids` must have two axes, is {}", ids.ty()))),
    };
    let table = |position: usize| -> Result<Expr<'b>> {
        let table = context.float(position)?;
        if table.rank() == 2 {
            return Ok(table);
        }
        Err(context.error(format_args!("input {position} must be a matrix, is {}", table.ty())))
    };
    let positions = match context.optional_index(8)? {
        Some(positions) => context.broadcast_to(positions, &[batch, length])?,
        None => context.builder().iota(TensorType::new(DType::I64, [batch, length]), 1),
    };
    let (words, places) = (table(2)?, table(3)?);
    let add = |a: Expr<'b>, b: Expr<'b>| context.push(Op::Binary(gradc_ir::BinaryOp::Add), &[a, b]);
    let mut sum = add(words.gather(0, ids), places.gather(0, positions))?;
    if let (Some(segments), Some(_)) = (context.optional_index(1)?, context.optional(4)?) {
        context.expect_shape(segments, &ids.shape(), "segment_ids")?;
        sum = add(sum, table(4)?.gather(0, segments))?;
    }
    let epsilon = context.node.float("epsilon", 1e-12)? as f64;
    let normal = Standardized::of(sum.cast(wider(sum.dtype(), DType::F32)), &[2], epsilon).value;
    let y = normal * context.parameter(context.float(5)?, normal, "gamma")?
        + context.parameter(context.float(6)?, normal, "beta")?;
    let lengths = match context.optional(7)? {
        Some(mask) if context.node.int("mask_index_type", 1)? == 1 => {
            context.expect_shape(mask, &ids.shape(), "mask")?;
            mask.cast(DType::I32).sum(&[1])
        }
        Some(_) => return Err(context.node.attribute_error("mask_index_type", "is not supported")),
        None => context.splat(DType::I32, &[batch], 0.0)?,
    };
    Ok(vec![y.cast(sum.dtype()), lengths, sum])
}

fn group_norm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![grouped(context, context.float(0)?)?])
}

/// Of the sum of an image, another (or one of its channels for each batch element) and a bias, which it yields too.
fn skip_group_norm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, mut skip) = (context.float(0)?, context.float(3)?);
    context.same_dtype(x, skip)?;
    let last = context.node.flag("channels_last", true)?;
    if x.rank() != 4 {
        return Err(context.error(format_args!("the input must have four axes, is {}", x.ty())));
    }
    if let &[batch, channels] = &skip.shape()[..] {
        let lengths = if last { [batch, 1, 1, channels] } else { [batch, channels, 1, 1] };
        skip = context.reshape(skip, &lengths)?;
    }
    let mut sum = x + context.broadcast_to(skip, &x.shape())?;
    if let Some(bias) = context.optional(4)? {
        context.same_dtype(x, bias)?;
        let channels = if last { x.rank() - 1 } else { 1 };
        context.expect_shape(bias, &Shape::new(&x.shape()[channels..channels + 1]), "bias")?;
        sum = sum + bias.broadcast(&x.shape(), &[channels]);
    }
    Ok(vec![grouped(context, sum)?, sum])
}

fn grouped<'b>(context: &Context<'_, 'b>, x: Expr<'b>) -> Result<Expr<'b>> {
    let node = context.node;
    let last = node.flag("channels_last", true)?;
    if x.rank() != 4 {
        return Err(context.error(format_args!("the input must have four axes, is {}", x.ty())));
    }
    let turned = if last { x.transpose(&[0, 3, 1, 2]) } else { x };
    let shape = turned.shape();
    let groups = node.required("groups", node.optional_int("groups")?)?;
    let groups = usize::try_from(groups).ok().filter(|&g| g > 0 && shape[1].is_multiple_of(g));
    let groups = groups.ok_or_else(|| node.attribute_error("groups", "does not divide the channels"))?;
    let epsilon = node.float("epsilon", 1e-5)? as f64;
    let parts = Shape::new(&[shape[0], groups, shape[1] / groups, shape[2] * shape[3]]);
    let wide = turned.cast(wider(x.dtype(), DType::F32)).reshape(&parts);
    let normal = Standardized::of(wide, &[2, 3], epsilon).value.reshape(&shape);
    let parameter = |position: usize, what: &str| -> Result<Expr<'b>> {
        let e = context.float(position)?;
        context.expect_shape(e, &Shape::new(&[shape[1]]), what)?;
        Ok(e.cast(normal.dtype()).broadcast(&shape, &[1]))
    };
    let y = normal * parameter(1, "gamma")? + parameter(2, "beta")?;
    let y = match node.required("activation", node.optional_int("activation")?)? {
        0 => y,
        1 => y * y.sigmoid(),
        _ => return Err(node.attribute_error("activation", "is not known")),
    };
    let y = y.cast(x.dtype());
    Ok(if last { y.transpose(&[0, 2, 3, 1]) } else { y })
}
