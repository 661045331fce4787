//! Poolings.

use super::spatial::Windows;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{
    BinaryOp, DType, Expr, Literal, Op, ReduceOp, ScatterOp, Shape, TensorType, WindowKind, WindowOp,
};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("MaxPool", 1, Gradient::Piecewise, max_pool),
    Operator::new("AveragePool", 1, Gradient::Smooth, average_pool),
    Operator::new("LpPool", 1, Gradient::Piecewise, lp_pool),
    Operator::new("GlobalAveragePool", 1, Gradient::Smooth, global_average_pool),
    Operator::new("GlobalMaxPool", 1, Gradient::Piecewise, global_max_pool),
    Operator::new("GlobalLpPool", 1, Gradient::Piecewise, global_lp_pool),
    Operator::new("MaxUnpool", 9, Gradient::Smooth, max_unpool),
];

fn max_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let windows = settled(context, x)?.0;
    let y = context.push(Op::Window(windows.over(WindowKind::Max)), &[x])?;
    if context.node.output(1).is_none() {
        return Ok(vec![y]);
    }
    let index = context.push(Op::Window(windows.over(WindowKind::ArgMax)), &[x])?;
    let index = match context.node.int("storage_order", 0)? {
        0 => index,
        _ => column_major(index, &x.shape()),
    };
    Ok(vec![y, index])
}

/// Turns row-major positions into those that count the first spatial axis fastest.
fn column_major<'b>(index: Expr<'b>, shape: &Shape) -> Expr<'b> {
    let block: usize = shape[2..].iter().product();
    let block_of = |e: Expr<'b>| e / e.splat(block as f64);
    let mut result = block_of(index) * index.splat(block as f64);
    let (mut rest, mut scale) = (index % index.splat(block as f64), block);
    for &length in shape[2..].iter().rev() {
        scale /= length.max(1);
        result = result + (rest % index.splat(length as f64)) * index.splat(scale as f64);
        rest = rest / index.splat(length as f64);
    }
    result
}

fn average_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![averages(context, context.float(0)?)?])
}

/// The mean of each window.
pub(super) fn averages<'b>(context: &Context<'_, 'b>, x: Expr<'b>) -> Result<Expr<'b>> {
    let (windows, pads) = settled(context, x)?;
    let include_pad = context.node.flag("count_include_pad", false)?;
    let sum = context.push(Op::Window(windows.over(WindowKind::Sum)), &[wide(x)])?;
    let shape = sum.shape();
    context.table_size(&shape[2..])?;
    // How many elements a window has is a product of what it has on each axis.
    let mut counts = vec![1.0f64];
    for axis in 2..shape.rank() {
        let length = x.shape()[axis] as i64;
        let (low, high) = pads[axis - 2];
        let (first, last) = if include_pad { (-low, length + high) } else { (0, length) };
        let line: Vec<f64> = (0..shape[axis] as i64)
            .map(|window| {
                let start = window * windows.stride[axis - 2] as i64 - windows.pad_low[axis - 2];
                let (kernel, dilation) = (windows.kernel[axis - 2] as i64, windows.dilation[axis - 2] as i64);
                let before = (first - start + dilation - 1).div_euclid(dilation).clamp(0, kernel);
                let until = (last - start + dilation - 1).div_euclid(dilation).clamp(0, kernel);
                (until - before).max(1) as f64
            })
            .collect();
        counts = counts.iter().flat_map(|&outer| line.iter().map(move |&inner| outer * inner)).collect();
    }
    let uniform = counts.iter().all(|&count| count == counts[0]);
    let divisor = if uniform {
        sum.splat(counts.first().copied().unwrap_or(1.0))
    } else {
        let counts = context.builder().constant(Literal::new(&shape[2..], &counts)).cast(sum.dtype());
        counts.broadcast(&shape, &(2..shape.rank()).collect::<Vec<_>>())
    };
    Ok((sum / divisor).cast(x.dtype()))
}

fn lp_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let windows = settled(context, x)?.0;
    let p = exponent(context)?;
    let sum = context.push(Op::Window(windows.over(WindowKind::Sum)), &[powers(wide(x), p)])?;
    Ok(vec![root(sum, p).cast(x.dtype())])
}

fn global_average_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, axes) = global(context)?;
    context.float(0)?;
    Ok(vec![wide(x).mean(&axes).cast(x.dtype()).reshape(&x.shape().with_ones(&axes))])
}

fn global_max_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, axes) = global(context)?;
    Ok(vec![x.reduce(ReduceOp::Max, &axes).reshape(&x.shape().with_ones(&axes))])
}

fn global_lp_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, axes) = global(context)?;
    context.float(0)?;
    let p = exponent(context)?;
    let norm = root(powers(wide(x), p).sum(&axes), p).cast(x.dtype());
    Ok(vec![norm.reshape(&x.shape().with_ones(&axes))])
}

fn max_unpool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, index) = (context.input(0)?, context.index(1)?);
    let node = context.node;
    let shape = x.shape();
    if shape.rank() < 3 {
        return Err(node.error(format_args!("the input {shape} must have rank 3 or more")));
    }
    context.expect_shape(index, &shape, "I")?;
    let windows = Windows::read_pool(node, shape.rank() - 2)?;
    let mut natural = shape.to_vec();
    for axis in 2..shape.rank() {
        let at = axis - 2;
        let length = (shape[axis] as i64 - 1).saturating_mul(windows.stride[at] as i64)
            + windows.kernel[at] as i64
            - windows.pad_low[at]
            - windows.pad_high[at];
        natural[axis] = usize::try_from(length)
            .map_err(|_| node.error(format_args!("axis {axis} of the result would have length {length}")))?;
    }
    let natural = context.shape(&natural)?;
    let zero = context.builder().splat(&TensorType::new(x.dtype(), [natural.elements()]), 0.0);
    let count = shape.elements();
    let flat = |e: Expr<'b>| e.reshape(&Shape::new(&[count]));
    let unpooled = zero.scatter(0, ScatterOp::Set, flat(index), flat(x)).reshape(&natural);
    let Some(wanted) = context.optional_lengths(2, "output_shape")? else { return Ok(vec![unpooled]) };
    let wanted = context.shape(&wanted)?;
    if wanted.rank() != shape.rank() {
        return Err(node.error(format_args!("output_shape {wanted} has not the rank of the input {shape}")));
    }
    let rank = shape.rank();
    let high: Vec<i64> = (0..rank).map(|axis| wanted[axis] as i64 - natural[axis] as i64).collect();
    let zero = context.builder().splat(&TensorType::scalar(x.dtype()), 0.0);
    Ok(vec![unpooled.pad(zero, &vec![0; rank], &high, &vec![0; rank])])
}

/// Settled windows, and the padding before and after each spatial axis that the attributes ask for.
fn settled<'b>(context: &Context<'_, 'b>, x: Expr<'b>) -> Result<(Windows, Vec<(i64, i64)>)> {
    let (node, shape) = (context.node, x.shape());
    if shape.rank() < 3 {
        return Err(node.error(format_args!("the input {shape} must have rank 3 or more")));
    }
    let ceil = node.flag("ceil_mode", false)?;
    let mut windows = Windows::read_pool(node, shape.rank() - 2)?;
    let (low, asked) = (windows.pad_low.clone(), windows.pad_high.clone());
    windows.settle(node, &shape[2..], ceil)?;
    // Padding chosen automatically counts as asked for; what rounding up adds does not.
    let pads = (0..low.len()).map(|axis| match windows.auto_pad {
        super::spatial::AutoPad::Explicit => (low[axis], asked[axis]),
        _ => (windows.pad_low[axis], windows.pad_high[axis]),
    });
    let pads = pads.collect();
    Ok((windows, pads))
}

impl Windows {
    fn over(&self, kind: WindowKind) -> WindowOp {
        let extend = |lengths: &[usize]| [&[1, 1], lengths].concat();
        let pads = |lengths: &[i64]| [&[0, 0], lengths].concat();
        WindowOp {
            kind,
            window: extend(&self.kernel),
            stride: extend(&self.stride),
            dilation: extend(&self.dilation),
            pad_low: pads(&self.pad_low),
            pad_high: pads(&self.pad_high),
        }
    }
}

fn global<'b>(context: &Context<'_, 'b>) -> Result<(Expr<'b>, Vec<usize>)> {
    let x = context.input(0)?;
    if x.rank() < 2 || x.dtype() == DType::Bool {
        return Err(context
            .node
            .error(format_args!("the input {} must be numbers of rank 2 or more", x.ty())));
    }
    Ok((x, (2..x.rank()).collect()))
}

fn exponent(context: &Context<'_, '_>) -> Result<i64> {
    match context.node.int("p", 2)? {
        p if p >= 1 => Ok(p),
        p => Err(context.node.attribute_error("p", format_args!("is {p}, not positive"))),
    }
}

/// In a type whose sums do not overflow: floats of 16 bits become f32.
pub(super) fn wide(x: Expr<'_>) -> Expr<'_> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

/// `|x|^p`
pub(super) fn powers<'b>(x: Expr<'b>, p: i64) -> Expr<'b> {
    match p {
        1 => x.abs(),
        2 => x * x,
        _ => x.abs().binary(BinaryOp::Pow, x.splat(p as f64)),
    }
}

/// `x^(1/p)` of what is not negative, with a gradient of 0 where it is 0.
pub(super) fn root<'b>(x: Expr<'b>, p: i64) -> Expr<'b> {
    if p == 1 {
        return x;
    }
    let empty = x.eq(x.splat(0.0));
    let safe = empty.select(x.splat(1.0), x);
    let root = if p == 2 { safe.sqrt() } else { safe.pow(x.splat(1.0 / p as f64)) };
    empty.select(x.splat(0.0), root)
}
