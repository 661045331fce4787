//! Convolutions.

use super::spatial::{AutoPad, Windows, positive};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ConvForm, ConvOp, Expr, Op};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Conv", 1, Gradient::Smooth, conv),
    Operator::new("ConvTranspose", 1, Gradient::Smooth, conv_transpose),
    Operator::new("CausalConvWithState", 27, Gradient::Smooth, causal_conv_with_state),
];

pub(super) fn conv<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, w) = (context.float(0)?, context.float(1)?);
    context.same_dtype(x, w)?;
    let (x_shape, w_shape) = (x.shape(), w.shape());
    let spatial = spatial_rank(context, x, w)?;
    let node = context.node;
    if let Some(kernel) = positive(node, "kernel_shape", spatial)?
        && kernel[..] != w_shape[2..]
    {
        return Err(
            node.attribute_error("kernel_shape", format_args!("is not that of the weights {w_shape}"))
        );
    }
    let groups = groups(context)?;
    if x_shape[1] != w_shape[1].saturating_mul(groups) || !w_shape[0].is_multiple_of(groups) {
        let what = format!("an input of {x_shape} does not fit weights of {w_shape} in {groups} groups");
        return Err(node.error(what));
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
    let y = context.push(Op::Conv(op), &[x, w])?;
    Ok(vec![add_bias(context, y)?])
}

fn conv_transpose<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, w) = (context.float(0)?, context.float(1)?);
    context.same_dtype(x, w)?;
    let (x_shape, w_shape) = (x.shape(), w.shape());
    let spatial = spatial_rank(context, x, w)?;
    let node = context.node;
    if let Some(kernel) = positive(node, "kernel_shape", spatial)?
        && kernel[..] != w_shape[2..]
    {
        return Err(
            node.attribute_error("kernel_shape", format_args!("is not that of the weights {w_shape}"))
        );
    }
    let groups = groups(context)?;
    if x_shape[1] != w_shape[0] || !w_shape[0].is_multiple_of(groups) {
        let what = format!("an input of {x_shape} does not fit weights of {w_shape} in {groups} groups");
        return Err(node.error(what));
    }
    let mut windows = Windows::read(node, w_shape[2..].to_vec())?;
    let lengths = |name: &str| -> Result<Option<Vec<i64>>> {
        match node.ints(name)? {
            None | Some([]) => Ok(None),
            Some(values) if values.len() < spatial || values.iter().any(|&v| !(0..=1 << 40).contains(&v)) => {
                Err(node.attribute_error(name, format_args!("does not give {spatial} lengths")))
            }
            // Some exporters put batch and channels in front.
            Some(values) => Ok(Some(values[values.len() - spatial..].to_vec())),
        }
    };
    let extra = lengths("output_padding")?.unwrap_or_else(|| vec![0; spatial]);
    let wanted = lengths("output_shape")?;
    let mut output = Vec::with_capacity(spatial);
    for axis in 0..spatial {
        let (length, stride) = (x_shape[axis + 2] as i64, windows.stride[axis] as i64);
        let reach = windows.reach(axis);
        let full =
            (length - 1).max(0).saturating_mul(stride).saturating_add(reach).saturating_add(extra[axis]);
        let same = matches!(windows.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        let target = match &wanted {
            Some(wanted) => Some(wanted[axis]),
            // A kernel shorter than the stride leaves less.
            None => same.then(|| length.saturating_mul(stride).min(full)),
        };
        if let Some(target) = target {
            let total = full.saturating_sub(target).max(0);
            windows.split(axis, total, windows.auto_pad == AutoPad::SameUpper);
        }
        let padding = windows.pad_low[axis].saturating_add(windows.pad_high[axis]);
        let result = target.unwrap_or_else(|| full.saturating_sub(padding));
        match usize::try_from(result) {
            Ok(length) => output.push(length),
            Err(_) => {
                return Err(
                    node.error(format_args!("spatial axis {axis} of the result would have length {result}"))
                );
            }
        }
    }
    let op = ConvOp {
        form: ConvForm::Input,
        input: output,
        kernel: windows.kernel,
        output: x_shape[2..].to_vec(),
        stride: windows.stride,
        dilation: windows.dilation,
        pad_low: windows.pad_low,
        groups,
    };
    let y = context.push(Op::Conv(op), &[x, w])?;
    Ok(vec![add_bias(context, y)?])
}

fn causal_conv_with_state<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, w) = (context.float(0)?, context.float(1)?);
    context.same_dtype(x, w)?;
    let (x_shape, w_shape) = (x.shape(), w.shape());
    let node = context.node;
    if x_shape.rank() != 3
        || w_shape.rank() != 3
        || w_shape[0] != x_shape[1]
        || w_shape[1] != 1
        || w_shape[2] == 0
    {
        return Err(node.error(format_args!("an input of {x_shape} does not fit weights of {w_shape}")));
    }
    let (channels, kernel) = (x_shape[1], w_shape[2]);
    let state = gradc_ir::Shape::new(&[x_shape[0], channels, kernel - 1]);
    let past = match context.optional(3)? {
        Some(past) => {
            context.expect_shape(past, &state, "past_state")?;
            context.same_dtype(x, past)?;
            past
        }
        None => context.builder().splat(&gradc_ir::TensorType { dtype: x.dtype(), shape: state }, 0.0),
    };
    let padded = context.builder().concat(2, &[past, x]);
    let length = x_shape[2] + kernel - 1;
    let op = ConvOp {
        form: ConvForm::Forward,
        input: vec![length],
        kernel: vec![kernel],
        output: vec![x_shape[2]],
        stride: vec![1],
        dilation: vec![1],
        pad_low: vec![0],
        groups: channels,
    };
    let y = add_bias(context, context.push(Op::Conv(op), &[padded, w])?)?;
    let y = match node.string("activation", "none")? {
        "none" => y,
        "silu" | "swish" => y * y.sigmoid(),
        _ => return Err(node.attribute_error("activation", "is not known")),
    };
    Ok(vec![y, padded.slice_axis(2, length - (kernel - 1), length)])
}

fn spatial_rank<'b>(context: &Context<'_, 'b>, x: Expr<'b>, w: Expr<'b>) -> Result<usize> {
    let (x_rank, w_rank) = (x.rank(), w.rank());
    if x_rank < 3 || x_rank != w_rank {
        let what = format!("input {} and weights {} must have one rank, at least 3", x.shape(), w.shape());
        return Err(context.node.error(what));
    }
    Ok(x_rank - 2)
}

fn groups(context: &Context<'_, '_>) -> Result<usize> {
    let groups = context.node.int("group", 1)?;
    match usize::try_from(groups) {
        Ok(groups) if groups > 0 => Ok(groups),
        _ => Err(context.node.attribute_error("group", format_args!("is {groups}"))),
    }
}

fn add_bias<'b>(context: &Context<'_, 'b>, y: Expr<'b>) -> Result<Expr<'b>> {
    let Some(bias) = context.optional(2)? else { return Ok(y) };
    let shape = y.shape();
    context.expect_shape(bias, &gradc_ir::Shape::new(&[shape[1]]), "B")?;
    context.same_dtype(y, bias)?;
    Ok(y + bias.broadcast(&shape, &[1]))
}
