//! Convolutions whose kernel elements are moved by offsets that are given at run time.

use super::activation::clamp;
use super::spatial::{Windows, positive};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, DotDims, Expr, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("DeformConv", 19, Gradient::Piecewise, deform_conv)];

/// The lengths that the operands agree on.
struct Sizes {
    batch: usize,
    channels: usize,
    groups: usize,
    offset_groups: usize,
    /// Elements of a kernel.
    taps: usize,
    input: Vec<usize>,
    output: Vec<usize>,
}

fn deform_conv<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, w, offset) = (context.float(0)?, context.float(1)?, context.float(2)?);
    context.same_dtype(x, w)?;
    context.same_dtype(x, offset)?;
    let (sizes, windows) = sizes(context, x, w)?;
    let columns = sampled(context, x, offset, &sizes, &windows)?;
    // One product for each group of channels.
    let points: usize = sizes.output.iter().product();
    let (per_group, results) = (sizes.channels / sizes.groups, w.shape()[0]);
    let columns = context.reshape(columns, &[sizes.batch, sizes.groups, per_group, sizes.taps, points])?;
    let weights = context.reshape(w, &[sizes.groups, results / sizes.groups, per_group, sizes.taps])?;
    let dims = DotDims {
        lhs_batch: vec![0],
        rhs_batch: vec![1],
        lhs_contract: vec![2, 3],
        rhs_contract: vec![2, 3],
    };
    let product = weights.dot(columns, dims).transpose(&[2, 0, 1, 3]);
    let shape: Vec<usize> = [&[sizes.batch, results], &sizes.output[..]].concat();
    let y = context.reshape(product, &shape)?;
    match context.optional(3)? {
        None => Ok(vec![y]),
        Some(bias) => {
            context.expect_shape(bias, &Shape::new(&[results]), "B")?;
            context.same_dtype(x, bias)?;
            Ok(vec![y + bias.broadcast(&y.shape(), &[1])])
        }
    }
}

fn sizes<'b>(context: &Context<'_, 'b>, x: Expr<'b>, w: Expr<'b>) -> Result<(Sizes, Windows)> {
    let (node, shape, weights) = (context.node, x.shape(), w.shape());
    let count = |name: &str| Ok(usize::try_from(node.int(name, 1)?).unwrap_or(0));
    let (groups, offset_groups): (usize, usize) = (count("group")?, count("offset_group")?);
    let axes = shape.rank().saturating_sub(2);
    let fits = (1..=3).contains(&axes)
        && weights.rank() == shape.rank()
        && groups > 0
        && offset_groups > 0
        && weights[1].checked_mul(groups) == Some(shape[1])
        && weights[0].is_multiple_of(groups)
        && shape[1].is_multiple_of(offset_groups)
        && shape[2..].iter().all(|&length| length > 0);
    if !fits {
        return Err(context.error(format_args!("an input of {shape} does not fit weights of {weights}")));
    }
    if positive(node, "kernel_shape", axes)?.is_some_and(|kernel| kernel[..] != weights[2..]) {
        return Err(
            node.attribute_error("kernel_shape", format_args!("is not that of the weights {weights}"))
        );
    }
    let mut windows = Windows::read(node, weights[2..].to_vec())?;
    let output = windows.settle(node, &shape[2..], false)?;
    let sizes = Sizes {
        batch: shape[0],
        channels: shape[1],
        groups,
        offset_groups,
        taps: context.table_size(&weights[2..])?,
        input: shape[2..].to_vec(),
        output,
    };
    Ok((sizes, windows))
}

/// The input where the kernel elements stand, `[batch, channels, taps, points]`.
fn sampled<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    offset: Expr<'b>,
    sizes: &Sizes,
    windows: &Windows,
) -> Result<Expr<'b>> {
    let axes = sizes.input.len();
    let (area, points): (usize, usize) = (sizes.input.iter().product(), sizes.output.iter().product());
    let rows = sizes.batch * sizes.offset_groups;
    let spatial = |lead: usize| [&[sizes.batch, lead], &sizes.output[..]].concat();
    context.expect_shape(
        offset,
        &context.shape(&spatial(sizes.offset_groups * sizes.taps * axes))?,
        "offset",
    )?;
    let offset = context.reshape(offset, &[rows, sizes.taps, axes, points])?;
    let places = context.shape(&[rows, sizes.taps, points])?;
    let grid: Vec<usize> = windows.kernel.iter().chain(&sizes.output).copied().collect();
    let counts = |at: usize| {
        let counts = context.builder().iota(TensorType::new(DType::I64, grid.as_slice()), at);
        counts.reshape(&Shape::new(&[sizes.taps, points]))
    };
    let wide = super::normalization::wider(x.dtype(), DType::F32);
    // On each axis the neighbours on both sides.
    let mut lines: Vec<[(Expr<'b>, Expr<'b>); 2]> = Vec::with_capacity(axes);
    for axis in 0..axes {
        let first = counts(axes + axis) * windows.stride[axis] as f64
            + counts(axis) * windows.dilation[axis] as f64
            - windows.pad_low[axis] as f64;
        let moved = offset.slice_axis(2, axis, axis + 1).reshape(&places).cast(wide);
        let position = first.cast(wide).broadcast(&places, &[1, 2]) + moved;
        let left = position.floor();
        let ratio = position - left;
        let last = sizes.input[axis] as f64 - 1.0;
        let tap = |at: Expr<'b>, weight: Expr<'b>| {
            let within = at.ge(at.splat(0.0)).and(at.le(at.splat(last)));
            (clamp(at, 0.0, last).cast(DType::I64), within.select(weight, weight.splat(0.0)))
        };
        lines.push([tap(left, 1.0 - ratio), tap(left + 1.0, ratio)]);
    }
    // One row for each place of the input, so that a gather takes all channels of an offset group.
    let channels = sizes.channels / sizes.offset_groups;
    let table = context.reshape(x, &[rows, channels, area])?.transpose(&[0, 2, 1]);
    let table = context.reshape(table, &[rows * area, channels])?;
    let start = context.builder().iota(TensorType::new(DType::I64, places.clone()), 0) * area as f64;
    let mut total: Option<Expr<'b>> = None;
    for corner in 0..1usize << axes {
        let (mut index, mut weight) = (start.splat(0.0), None);
        for (axis, line) in lines.iter().enumerate() {
            let (at, own) = line[corner >> axis & 1];
            index = index * sizes.input[axis] as f64 + at;
            weight = Some(weight.map_or(own, |weight: Expr<'b>| weight * own));
        }
        let picked = table.gather(0, start + index);
        let Some(weight) = weight else { break };
        let part = picked * weight.cast(x.dtype()).broadcast(&picked.shape(), &[0, 1, 2]);
        total = Some(total.map_or(part, |total| total + part));
    }
    let total = total.ok_or_else(|| context.error("the input has no spatial axis"))?;
    let weighed = match context.optional(4)? {
        None => total,
        Some(mask) => {
            context.same_dtype(x, mask)?;
            context.expect_shape(
                mask,
                &context.shape(&spatial(sizes.offset_groups * sizes.taps))?,
                "mask",
            )?;
            total * context.reshape(mask, &places)?.broadcast(&total.shape(), &[0, 1, 2])
        }
    };
    // [batch * offset groups, taps, points, channels of a group]
    context.reshape(weighed.transpose(&[0, 3, 1, 2]), &[sizes.batch, sizes.channels, sizes.taps, points])
}
