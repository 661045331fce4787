//! Parts: slices, paddings, concatenations, and indexing that is one of them.

use super::site::Site;
use super::views::{long_axes, long_lengths};
use super::{Rule, rule};
use gradc_ir::{BinaryOp, Builder, Expr, Op, ScatterOp, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("slice_of_slice", slice_of_slice),
    rule("slice_of_broadcast", slice_of_broadcast),
    rule("slice_of_transpose", slice_of_transpose),
    rule("slice_of_reshape", slice_of_reshape),
    rule("slice_of_concat", slice_of_concat),
    rule("slice_of_pad", slice_of_pad),
    rule("pad_of_pad", pad_of_pad),
    rule("pad_that_takes_away", pad_that_takes_away),
    rule("sum_of_pads", sum_of_pads),
    rule("concat_of_nothing", concat_of_nothing),
    rule("concat_of_concat", concat_of_concat),
    rule("concat_of_slices", concat_of_slices),
    rule("gather_in_order", gather_in_order),
    rule("scatter_in_order", scatter_in_order),
];

fn slice_of_slice(site: &Site) -> Option<Value> {
    let Op::Slice { start, step, .. } = site.op else { return None };
    let inner = site.node(0);
    let Op::Slice { start: first, step: distance, .. } = &inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    let from = (0..start.len()).map(|axis| first[axis] + start[axis] * distance[axis]);
    let by: Vec<usize> = step.iter().zip(distance).map(|(a, b)| a * b).collect();
    Some(counted(x, &from.collect::<Vec<_>>(), site.shape(), &by))
}

/// The slice that begins at `start` and has this shape.
fn counted(x: Expr, start: &[usize], shape: &Shape, step: &[usize]) -> Value {
    let own = x.shape();
    let start: Vec<usize> = start.iter().zip(own.iter()).map(|(&start, &length)| start.min(length)).collect();
    let limit: Vec<usize> = (0..own.rank())
        .map(|axis| match shape[axis] {
            0 => start[axis],
            count => start[axis] + (count - 1) * step[axis] + 1,
        })
        .collect();
    x.slice(&start, &limit, step).value()
}

/// What is repeated is sliced before.
fn slice_of_broadcast(site: &Site) -> Option<Value> {
    let Op::Slice { start, limit, step } = site.op else { return None };
    let inner = site.node(0);
    let Op::Broadcast { dims, .. } = &inner.op else { return None };
    let own = |all: &[usize]| dims.iter().map(|&dim| all[dim]).collect::<Vec<_>>();
    let x = site.expr(inner.operands[0]).slice(&own(start), &own(limit), &own(step));
    Some(x.broadcast(site.shape(), dims).value())
}

/// Less is transposed after a slice than before.
fn slice_of_transpose(site: &Site) -> Option<Value> {
    let Op::Slice { start, limit, step } = site.op else { return None };
    let inner = site.node(0);
    let Op::Transpose { permutation } = &inner.op else { return None };
    let own = |all: &[usize]| {
        let mut axes = vec![0; all.len()];
        permutation.iter().zip(all).for_each(|(&axis, &value)| axes[axis] = value);
        axes
    };
    let x = site.expr(inner.operands[0]).slice(&own(start), &own(limit), &own(step));
    Some(x.transpose(permutation).value())
}

/// Axes of length 1 come and go after a slice, which then meets what made the others.
fn slice_of_reshape(site: &Site) -> Option<Value> {
    let Op::Slice { start, limit, step } = site.op else { return None };
    let inner = site.node(0);
    let Op::Reshape { shape: middle } = &inner.op else { return None };
    let x = site.expr(inner.operands[0]);
    let shape = x.shape();
    let cuts_unit_axis = (0..middle.rank()).any(|axis| middle[axis] == 1 && site.shape()[axis] != 1);
    if cuts_unit_axis || long_lengths(middle) != long_lengths(&shape) {
        return None;
    }
    let (mut starts, mut limits, mut steps) = (vec![0; x.rank()], vec![1; x.rank()], vec![1; x.rank()]);
    for (from, to) in long_axes(middle).into_iter().zip(long_axes(&shape)) {
        (starts[to], limits[to], steps[to]) = (start[from], limit[from], step[from]);
    }
    Some(x.slice(&starts, &limits, &steps).reshape(site.shape()).value())
}

/// A slice that lies in one part is a slice of that part.
fn slice_of_concat(site: &Site) -> Option<Value> {
    let Op::Slice { start, step, .. } = site.op else { return None };
    let inner = site.node(0);
    let Op::Concat { axis } = inner.op else { return None };
    let last = start[axis] + site.shape()[axis].checked_sub(1)? * step[axis];
    let mut before = 0;
    for &part in &inner.operands {
        let x = site.expr(part);
        let after = before + x.shape()[axis];
        if before <= start[axis] && last < after {
            let mut from = start.clone();
            from[axis] -= before;
            return Some(counted(x, &from, site.shape(), step));
        }
        before = after;
    }
    None
}

/// A slice that lies within the padded tensor, or wholly beside it.
fn slice_of_pad(site: &Site) -> Option<Value> {
    let Op::Slice { start, step, .. } = site.op else { return None };
    let inner = site.node(0);
    let Op::Pad { low, interior, .. } = &inner.op else { return None };
    if interior.iter().any(|&count| count != 0) || site.shape().contains(&0) {
        return None;
    }
    let x = site.expr(inner.operands[0]);
    let own = x.shape();
    let first = |axis: usize| start[axis] as i64 - low[axis];
    let last = |axis: usize| first(axis) + ((site.shape()[axis] - 1) * step[axis]) as i64;
    if (0..own.rank()).any(|axis| last(axis) < 0 || first(axis) >= own[axis] as i64) {
        return Some(site.expr(inner.operands[1]).broadcast(site.shape(), &[]).value());
    }
    let from: Vec<usize> = (0..own.rank())
        .map(|axis| usize::try_from(first(axis)).ok().filter(|_| last(axis) < own[axis] as i64))
        .collect::<Option<_>>()?;
    Some(counted(x, &from, site.shape(), step))
}

/// Paddings with one value add up, where the first takes nothing away.
fn pad_of_pad(site: &Site) -> Option<Value> {
    let Op::Pad { low, high, interior } = site.op else { return None };
    let inner = site.node(0);
    let Op::Pad { low: low_1, high: high_1, interior: interior_1 } = &inner.op else { return None };
    let plain = interior.iter().chain(interior_1).all(|&count| count == 0)
        && low_1.iter().chain(high_1).all(|&count| count >= 0)
        && site.expr(inner.operands[0]).shape().iter().all(|&length| length > 0);
    if !plain || site.operands[1] != inner.operands[1] {
        return None;
    }
    let sum = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
    let x = site.expr(inner.operands[0]);
    Some(x.pad(site.operand(1), &sum(low, low_1), &sum(high, high_1), interior).value())
}

/// A padding that only takes away is a slice.
fn pad_that_takes_away(site: &Site) -> Option<Value> {
    let Op::Pad { low, high, interior } = site.op else { return None };
    let takes = low.iter().chain(high).all(|&count| count <= 0) && interior.iter().all(|&count| count == 0);
    if !takes || site.shape().contains(&0) {
        return None;
    }
    let start: Vec<usize> = low.iter().map(|&count| count.unsigned_abs() as usize).collect();
    Some(counted(site.operand(0), &start, site.shape(), &vec![1; low.len()]))
}

/// A tensor at its place between zeros along one axis.
struct Part {
    value: Value,
    fill: Value,
    axis: usize,
    low: usize,
    length: usize,
}

/// Sums of tensors between zeros: of one place, the sum between zeros; side by side, one after another between zeros.
/// The gradient of a split is such a sum.
fn sum_of_pads(site: &Site) -> Option<Value> {
    let Op::Binary(BinaryOp::Add) = site.op else { return None };
    let parts = [site.operands[0], site.operands[1]].map(|value| part(site, value));
    if let [Some(a), Some(b)] = &parts
        && (a.axis, a.low, a.length) == (b.axis, b.low, b.length)
    {
        let sum = site.expr(a.value) + site.expr(b.value);
        return Some(between_zeros(site, sum, a));
    }
    let mut parts: Vec<Part> = Vec::new();
    addends(site, site.operands[0], &mut parts)?;
    addends(site, site.operands[1], &mut parts)?;
    parts.sort_by_key(|part| part.low);
    let adjacent =
        |pair: &[Part]| pair[0].axis == pair[1].axis && pair[0].low + pair[0].length == pair[1].low;
    if !parts.windows(2).all(adjacent) {
        return None;
    }
    let values: Vec<Expr> = parts.iter().map(|part| site.expr(part.value)).collect();
    let whole = site.builder.concat(parts[0].axis, &values);
    Some(between_zeros(site, whole, &parts[0]))
}

/// A sum's terms, where all of them are parts. Sums that others use too are computed anyway and stay.
fn addends(site: &Site, value: Value, parts: &mut Vec<Part>) -> Option<()> {
    if parts.len() > 256 {
        return None;
    }
    let node = site.builder.node(value);
    match node.op {
        Op::Binary(BinaryOp::Add) if site.is_used_once(value) => {
            addends(site, node.operands[0], parts)?;
            addends(site, node.operands[1], parts)
        }
        _ => {
            parts.push(part(site, value)?);
            Some(())
        }
    }
}

fn part(site: &Site, value: Value) -> Option<Part> {
    let node = site.builder.node(value);
    let Op::Pad { low, high, interior } = &node.op else { return None };
    let mut axes = (0..low.len()).filter(|&axis| low[axis] != 0 || high[axis] != 0);
    let axis = axes.next().filter(|_| axes.next().is_none())?;
    let plain = interior.iter().all(|&count| count == 0) && low[axis] >= 0 && high[axis] >= 0;
    let zero = site.number(node.operands[1]) == Some(0.0);
    let length = site.expr(node.operands[0]).shape()[axis];
    (plain && zero && length > 0).then(|| Part {
        value: node.operands[0],
        fill: node.operands[1],
        axis,
        low: low[axis] as usize,
        length,
    })
}

/// A tensor put where the part stands (and as far as it reaches).
fn between_zeros(site: &Site, x: Expr, part: &Part) -> Value {
    let rank = site.shape().rank();
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    low[part.axis] = part.low as i64;
    high[part.axis] = site.shape()[part.axis] as i64 - low[part.axis] - x.shape()[part.axis] as i64;
    x.pad(site.expr(part.fill), &low, &high, &vec![0; rank]).value()
}

/// Parts without elements are left out.
fn concat_of_nothing(site: &Site) -> Option<Value> {
    let Op::Concat { axis } = *site.op else { return None };
    let parts: Vec<Expr> = (site.operands.iter().map(|&operand| site.expr(operand)))
        .filter(|part| part.shape()[axis] > 0)
        .collect();
    (!parts.is_empty() && parts.len() < site.operands.len())
        .then(|| site.builder.concat(axis, &parts).value())
}

fn concat_of_concat(site: &Site) -> Option<Value> {
    let Op::Concat { axis } = *site.op else { return None };
    let mut found = false;
    let mut parts: Vec<Expr> = Vec::new();
    for &operand in site.operands {
        let node = site.builder.node(operand);
        if node.op == (Op::Concat { axis }) && site.is_used_once(operand) {
            parts.extend(node.operands.iter().map(|&part| site.expr(part)));
            found = true;
        } else {
            parts.push(site.expr(operand));
        }
    }
    found.then(|| site.builder.concat(axis, &parts).value())
}

/// Neighbours of one tensor side by side again are one slice of it.
fn concat_of_slices(site: &Site) -> Option<Value> {
    let Op::Concat { axis } = *site.op else { return None };
    let mut parts: Vec<Value> = Vec::new();
    for &operand in site.operands {
        let joined = parts.last().and_then(|&last| join(site.builder, axis, last, operand));
        match joined {
            Some(joined) => {
                parts.pop();
                parts.push(joined);
            }
            None => parts.push(operand),
        }
    }
    let parts: Vec<Expr> = parts.into_iter().map(|part| site.expr(part)).collect();
    (parts.len() < site.operands.len()).then(|| site.builder.concat(axis, &parts).value())
}

fn join(builder: &Builder, axis: usize, left: Value, right: Value) -> Option<Value> {
    let (left, right) = (builder.node(left), builder.node(right));
    let Op::Slice { start, limit, step } = &left.op else { return None };
    let Op::Slice { start: start_2, limit: limit_2, step: step_2 } = &right.op else { return None };
    let apart = (0..start.len())
        .filter(|&other| other != axis)
        .any(|other| (start[other], limit[other]) != (start_2[other], limit_2[other]));
    let adjacent = limit[axis] == start_2[axis] && step[axis] == 1 && step == step_2;
    if apart || !adjacent || left.operands != right.operands {
        return None;
    }
    let mut limit = limit.clone();
    limit[axis] = limit_2[axis];
    Some(builder.expr(left.operands[0]).slice(start, &limit, step).value())
}

/// Evenly spaced positions.
struct Progression {
    first: usize,
    step: i64,
    count: usize,
}

/// An index that is known, evenly spaced and within this length.
fn progression(site: &Site, index: Value, length: usize) -> Option<Progression> {
    let node = site.builder.node(index);
    let (first, step, count) = match &node.op {
        Op::Iota { ty, .. } if ty.shape.rank() == 1 => (0, 1, ty.shape[0]),
        Op::Constant(literal) if literal.shape().elements() <= 1 << 16 => {
            let values = literal.to_i64()?;
            let step = match values[..] {
                [first, second, ..] => second.checked_sub(first)?,
                _ => 1,
            };
            let even = values.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(step));
            (*values.first().filter(|_| even && step != 0)?, step, values.len())
        }
        Op::Broadcast { shape, .. } if shape.elements() == 1 => {
            (*site.splat(index)?.to_i64()?.first()?, 1, 1)
        }
        _ => return None,
    };
    let last = first.checked_add(step.checked_mul(count.checked_sub(1)? as i64)?)?;
    let inside = |position: i64| position >= 0 && (position as u64) < length as u64;
    (inside(first) && inside(last)).then_some(Progression { first: first as usize, step, count })
}

/// Evenly spaced positions, known now, make a slice.
fn gather_in_order(site: &Site) -> Option<Value> {
    let Op::Gather { axis } = *site.op else { return None };
    let x = site.operand(0);
    let length = x.shape()[axis];
    let Progression { first, step, count } = progression(site, site.operands[1], length)?;
    let (mut start, mut limit) = (vec![0; x.rank()], x.shape().to_vec());
    let mut steps = vec![1; x.rank()];
    let distance = step.unsigned_abs() as usize;
    let reach = (count - 1) * distance;
    start[axis] = if step > 0 { first } else { first - reach };
    limit[axis] = start[axis] + reach + 1;
    steps[axis] = distance;
    let part = x.slice(&start, &limit, &steps);
    let part = if step > 0 { part } else { part.reverse(&[axis]) };
    Some(part.reshape(site.shape()).value())
}

/// Updates at evenly spaced positions of a tensor of equal elements are padded with that element.
fn scatter_in_order(site: &Site) -> Option<Value> {
    let Op::Scatter { axis, op } = *site.op else { return None };
    let shape = site.shape();
    let Progression { first, step, count } = progression(site, site.operands[1], shape[axis])?;
    let fill = site.splat(site.operands[0])?;
    let replaces = match op {
        ScatterOp::Set => true,
        ScatterOp::Add => fill.splat_value() == Some(0.0),
        ScatterOp::Mul | ScatterOp::Max | ScatterOp::Min => false,
    };
    if !replaces || step < 0 {
        return None;
    }
    let distance = step as usize;
    let mut lengths = shape.to_vec();
    lengths[axis] = count;
    let update = site.operand(2).reshape(&Shape::new(&lengths));
    let (mut low, mut high, mut interior) =
        (vec![0; shape.rank()], vec![0; shape.rank()], vec![0; shape.rank()]);
    low[axis] = first as i64;
    high[axis] = (shape[axis] - first - (count - 1) * distance - 1) as i64;
    interior[axis] = if count > 1 { distance - 1 } else { 0 };
    Some(update.pad(site.builder.constant(fill), &low, &high, &interior).value())
}
