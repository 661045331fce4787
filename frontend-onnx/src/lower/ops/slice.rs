//! Operators that cut and join along axes.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{Expr, Literal, Op};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Concat", 1, Gradient::Smooth, concat),
    Operator::new("Pad", 1, Gradient::Smooth, pad),
    Operator::new("Slice", 1, Gradient::Smooth, slice),
    Operator::new("Split", 1, Gradient::Smooth, split),
];

/// A node that splits into more parts than this is damaged.
const MOST_PARTS: usize = 1 << 16;

fn concat<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let operands = context.inputs()?;
    let axis = context.node.required("axis", context.node.optional_int("axis")?)?;
    let axis = context.axis(axis, operands[0].rank())?;
    Ok(vec![match operands[..] {
        [only] => only,
        _ => context.push(Op::Concat { axis }, &operands)?,
    }])
}

/// The lengths come from an attribute before opset 13, from an input since, or are equal; `num_outputs` since 18.
fn split<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis_attribute(0, x.rank())?;
    let length = x.shape()[axis];
    let lengths = match context.ints_or_input("split", 1)? {
        Some(lengths) => context.lengths(&lengths, "the split")?,
        None => {
            let written = context.output_count() as i64;
            let parts = usize::try_from(context.node.int("num_outputs", written)?).unwrap_or(0);
            if parts == 0 || parts > MOST_PARTS {
                return Err(context.error(format_args!("cannot split {length} elements into {parts} parts")));
            }
            let part = length.div_ceil(parts);
            (0..parts).map(|position| part.min(length.saturating_sub(position * part))).collect()
        }
    };
    if lengths.iter().try_fold(0usize, |sum, &part| sum.checked_add(part)) != Some(length) {
        return Err(context.error(format_args!("the parts {lengths:?} do not add up to {length}")));
    }
    let mut start = 0;
    let parts = lengths.iter().map(|&part| {
        start += part;
        x.slice_axis(axis, start - part, start)
    });
    Ok(parts.collect())
}

/// Starts, ends and axes are attributes before opset 10.
fn slice<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let shape = x.shape();
    let required = |name: &str, position: usize| -> Result<Vec<i64>> {
        let given = context.ints_or_input(name, position)?;
        given.ok_or_else(|| context.error(format_args!("the {name} are missing")))
    };
    let (starts, ends) = (required("starts", 1)?, required("ends", 2)?);
    let axes = match context.ints_or_input("axes", 3)? {
        Some(axes) => context.axes(&axes, shape.rank())?,
        None => context.axes(&(0..starts.len() as i64).collect::<Vec<_>>(), shape.rank())?,
    };
    let steps = match context.input_count() {
        0..=4 => vec![1; axes.len()],
        _ => context.ints_or_input("steps", 4)?.unwrap_or_else(|| vec![1; axes.len()]),
    };
    if starts.len() != axes.len() || ends.len() != axes.len() || steps.len() != axes.len() {
        return Err(context.error("starts, ends, axes and steps differ in number"));
    }
    let (mut start, mut limit, mut step) = (vec![0; shape.rank()], shape.to_vec(), vec![1; shape.rank()]);
    let mut reversed = Vec::new();
    for (position, &axis) in axes.iter().enumerate() {
        let length = shape[axis] as i64;
        let absolute = |place: i64| if place < 0 { place.saturating_add(length) } else { place };
        let (from, to) = (absolute(starts[position]), absolute(ends[position]));
        let (from, to) = match steps[position] {
            0 => return Err(context.error("a step is 0")),
            1.. => (from.clamp(0, length), to.clamp(0, length)),
            // In the reversed order the same elements run forwards.
            _ => {
                reversed.push(axis);
                let last = length - 1;
                // Beyond the beginning a negative end stays negative: it was counted from the end already.
                (last - from.clamp(0, last.max(0)), last - to.clamp(-1, last.max(0)))
            }
        };
        let from = from.clamp(0, length);
        start[axis] = from as usize;
        limit[axis] = to.clamp(from, length) as usize;
        step[axis] = steps[position].unsigned_abs() as usize;
    }
    reversed.sort_unstable();
    Ok(vec![x.reverse(&reversed).slice(&start, &limit, &step)])
}

/// How positions outside of an axis are mapped into it.
#[derive(Clone, Copy)]
enum Border {
    Reflect,
    Edge,
    Wrap,
}

/// Pads and value are attributes before opset 11; axes came with 18, `wrap` with 19.
fn pad<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let rank = x.rank();
    let pads = context.ints_or_input("pads", 1)?;
    let pads = pads.ok_or_else(|| context.error("the pads are missing"))?;
    let axes = match context.node.input(3) {
        Some(_) => context.axes(&context.known_i64s(3, "the axes")?, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(context.error(format_args!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    for (position, &axis) in axes.iter().enumerate() {
        (low[axis], high[axis]) = (pads[position], pads[position + axes.len()]);
    }
    let border = match context.node.string("mode", "constant")? {
        "constant" => None,
        "reflect" => Some(Border::Reflect),
        "edge" => Some(Border::Edge),
        "wrap" => Some(Border::Wrap),
        _ => return Err(context.node.attribute_error("mode", "must be constant, reflect, edge or wrap")),
    };
    let Some(border) = border else {
        let value = match context.node.optional_float("value")? {
            Some(value) => context.scalar(x.dtype(), f64::from(value)),
            None => match context.optional(2)? {
                Some(value) => context.reshape(value, &[])?,
                None => context.scalar(x.dtype(), 0.0),
            },
        };
        if low.iter().chain(&high).all(|&count| count == 0) {
            return Ok(vec![x]);
        }
        return Ok(vec![context.push(Op::Pad { low, high, interior: vec![0; rank] }, &[x, value])?]);
    };
    let mut result = x;
    for axis in 0..rank {
        if low[axis] != 0 || high[axis] != 0 {
            result = extend(context, result, axis, (low[axis], high[axis]), border)?;
        }
    }
    Ok(vec![result])
}

fn extend<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    axis: usize,
    (low, high): (i64, i64),
    border: Border,
) -> Result<Expr<'b>> {
    const LONGEST: i64 = 1 << 24;
    let length = x.shape()[axis] as i64;
    let end = length.saturating_add(high);
    let result = end.saturating_add(low);
    if low.unsigned_abs() > LONGEST as u64 || !(0..=LONGEST).contains(&result) || (length == 0 && result > 0)
    {
        return Err(context.error(format_args!("cannot pad an axis of {length} by {low} and {high}")));
    }
    let source = |place: i64| match border {
        Border::Edge => place.clamp(0, length - 1),
        Border::Wrap => place.rem_euclid(length),
        Border::Reflect if length == 1 => 0,
        Border::Reflect => {
            let place = place.rem_euclid(2 * (length - 1));
            if place < length { place } else { 2 * (length - 1) - place }
        }
    };
    let index: Vec<i64> = (-low..end).map(source).collect();
    let index = context.constant(Literal::new([index.len()], &index));
    context.push(Op::Gather { axis }, &[x, index])
}
