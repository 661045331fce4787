//! Operators that rearrange axes, and those that ask for shapes.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{Expr, Literal, Op, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("DepthToSpace", 1, Gradient::Smooth, depth_to_space),
    Operator::new("Expand", 8, Gradient::Smooth, expand),
    Operator::new("Flatten", 1, Gradient::Smooth, flatten),
    Operator::new("Reshape", 1, Gradient::Smooth, reshape),
    Operator::new("Shape", 1, Gradient::Integer, shape_of),
    Operator::new("Size", 1, Gradient::Integer, size_of),
    Operator::new("SpaceToDepth", 1, Gradient::Smooth, space_to_depth),
    Operator::new("Squeeze", 1, Gradient::Smooth, squeeze),
    Operator::new("Tile", 1, Gradient::Smooth, tile),
    Operator::new("Transpose", 1, Gradient::Smooth, transpose),
    Operator::new("Unsqueeze", 1, Gradient::Smooth, unsqueeze),
];

fn reshape<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let wanted = context.known_i64s(1, "the shape")?;
    let allow_zero = context.node.flag("allowzero", false)?;
    let own = x.shape();
    let mut lengths = Vec::with_capacity(wanted.len());
    for (axis, &length) in wanted.iter().enumerate() {
        lengths.push(match length {
            0 if !allow_zero => *own.get(axis).ok_or_else(|| {
                context.error(format_args!("the shape copies axis {axis}, but the operand is {}", x.ty()))
            })?,
            -1 => 1,
            length => usize::try_from(length)
                .map_err(|_| context.error(format_args!("the shape holds {length}")))?,
        });
    }
    if let Some(free) = wanted.iter().position(|&length| length == -1) {
        let others = context.shape(&lengths)?.elements();
        // Of an empty tensor nothing is left to infer but 0.
        let inferred = if others == 0 { Some(0) } else { own.elements().checked_div(others) };
        let fits = inferred.is_some_and(|length| length * others == own.elements());
        match inferred {
            Some(length) if fits && !wanted[free + 1..].contains(&-1) => lengths[free] = length,
            _ => return Err(context.error(format_args!("{} does not fit the shape {wanted:?}", x.ty()))),
        }
    }
    Ok(vec![context.reshape(x, &lengths)?])
}

fn flatten<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let rank = x.rank() as i64;
    let axis = context.node.int("axis", 1)?;
    let split = if axis < 0 { axis + rank } else { axis };
    if !(0..=rank).contains(&split) {
        return Err(context.error(format_args!("axis {axis} is out of range for rank {rank}")));
    }
    let (outer, inner) = sides(&x.shape(), split as usize);
    Ok(vec![context.reshape(x, &[outer, inner])?])
}

/// The numbers of elements before and from an axis.
pub(in crate::lower) fn sides(shape: &Shape, axis: usize) -> (usize, usize) {
    (shape[..axis].iter().product(), shape[axis..].iter().product())
}

fn squeeze<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let shape = x.shape();
    let axes = match context.ints_or_input("axes", 1)? {
        Some(axes) => context.axes(&axes, shape.rank())?,
        None => (0..shape.rank()).filter(|&axis| shape[axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
        return Err(context.error(format_args!("axis {axis} of {shape} has not the length 1")));
    }
    Ok(vec![context.reshape(x, &shape.without(&axes))?])
}

fn unsqueeze<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let axes = context.ints_or_input("axes", 1)?;
    let axes = axes.ok_or_else(|| context.error("the axes are missing"))?;
    let rank = x.rank() + axes.len();
    context.rank(rank)?;
    let axes = context.axes(&axes, rank)?;
    let own = x.shape();
    let mut lengths = own.iter().copied();
    let shape: Vec<usize> =
        (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { lengths.next().unwrap_or(1) }).collect();
    Ok(vec![context.reshape(x, &shape)?])
}

fn transpose<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let permutation = match context.node.ints("perm")? {
        Some(axes) => context.axes(axes, x.rank())?,
        None => (0..x.rank()).rev().collect(),
    };
    if permutation.len() != x.rank() {
        return Err(context.node.attribute_error("perm", format_args!("does not fit rank {}", x.rank())));
    }
    Ok(vec![x.transpose(&permutation)])
}

fn expand<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let wanted = context.lengths(&context.known_i64s(1, "the shape")?, "the shape")?;
    let shape = context.common_shape(&[x.shape(), Shape::new(&wanted)])?;
    Ok(vec![context.broadcast_to(x, &shape)?])
}

fn tile<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let repeats = context.lengths(&context.known_i64s(1, "the number of repeats")?, "the repeats")?;
    let own = x.shape();
    if repeats.len() != own.rank() {
        return Err(context.error(format_args!("{} repeats for {}", repeats.len(), x.ty())));
    }
    // Each repeated axis is preceded by one that counts the repeats.
    let (mut spread, mut dims, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for (&length, &count) in own.iter().zip(&repeats) {
        if count != 1 {
            spread.push(count);
        }
        dims.push(spread.len());
        spread.push(length);
        let length = length.checked_mul(count);
        result.push(length.ok_or_else(|| context.error("the result would be too large"))?);
    }
    context.shape(&result)?;
    let repeated = context.push(Op::Broadcast { shape: context.shape(&spread)?, dims }, &[x])?;
    Ok(vec![context.reshape(repeated, &result)?])
}

/// Opset 15 brought `start` and `end`.
fn shape_of<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let shape = context.input(0)?.shape();
    let rank = shape.rank() as i64;
    let place = |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize;
    let start = place(context.node.int("start", 0)?);
    let end = place(context.node.int("end", rank)?).max(start);
    let lengths: Vec<i64> = shape[start..end].iter().map(|&length| length as i64).collect();
    Ok(vec![context.constant(Literal::new([lengths.len()], &lengths))])
}

fn size_of<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    Ok(vec![context.constant(Literal::scalar(context.input(0)?.shape().elements() as i64))])
}

fn blocks<'b>(context: &Context<'_, 'b>) -> Result<(Expr<'b>, [usize; 4], usize)> {
    let x = context.input(0)?;
    let &[n, c, h, w] = &x.shape()[..] else {
        return Err(context.error(format_args!("the operand must have 4 axes, is {}", x.ty())));
    };
    let size = context.node.required("blocksize", context.node.optional_int("blocksize")?)?;
    match usize::try_from(size) {
        Ok(size @ 1..=0xffff) => Ok((x, [n, c, h, w], size)),
        _ => Err(context.node.attribute_error("blocksize", format_args!("is {size}"))),
    }
}

fn depth_to_space<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, [n, c, h, w], b) = blocks(context)?;
    if !c.is_multiple_of(b * b) {
        return Err(context.error(format_args!("{c} channels are not divisible by blocks of {b} by {b}")));
    }
    let depth = c / (b * b);
    let spread = match context.node.string("mode", "DCR")? {
        "DCR" => context.reshape(x, &[n, b, b, depth, h, w])?.transpose(&[0, 3, 4, 1, 5, 2]),
        "CRD" => context.reshape(x, &[n, depth, b, b, h, w])?.transpose(&[0, 1, 4, 2, 5, 3]),
        _ => return Err(context.node.attribute_error("mode", "must be DCR or CRD")),
    };
    Ok(vec![context.reshape(spread, &[n, depth, h.saturating_mul(b), w.saturating_mul(b)])?])
}

fn space_to_depth<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, [n, c, h, w], b) = blocks(context)?;
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(context.error(format_args!("{h} by {w} is not divisible into blocks of {b} by {b}")));
    }
    let spread = context.reshape(x, &[n, c, h / b, b, w / b, b])?.transpose(&[0, 3, 5, 1, 2, 4]);
    Ok(vec![context.reshape(spread, &[n, c.saturating_mul(b * b), h / b, w / b])?])
}
