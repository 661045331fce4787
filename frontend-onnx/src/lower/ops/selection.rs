//! Operators whose result's shape depends on their operand's data, which must be known at compile time.

use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{Literal, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Compress", 9, Gradient::Smooth, compress),
    Operator::new("NonZero", 9, Gradient::Zero, non_zero),
    Operator::new("Unique", 11, Gradient::Piecewise, unique),
];

fn compress<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let condition = context.known_f64s(1, "the condition")?;
    let (x, axis) = match context.node.optional_int("axis")? {
        Some(axis) => (x, context.axis(axis, x.rank())?),
        None => (context.reshape(x, &[x.shape().elements()])?, 0),
    };
    let length = x.shape()[axis];
    if condition.len() > length {
        return Err(context
            .error(format_args!("the condition has {} entries for {length} elements", condition.len())));
    }
    let taken = condition.iter().enumerate().filter(|&(_, &truth)| truth != 0.0);
    let index: Vec<i64> = taken.map(|(position, _)| position as i64).collect();
    Ok(vec![x.gather(axis, context.constant(Literal::new([index.len()], &index)))])
}

fn non_zero<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let literal = context.known_literal(0, "the tensor searched")?;
    let shape = literal.shape();
    let strides = shape.strides();
    let found: Vec<usize> = literal
        .to_f64()
        .iter()
        .enumerate()
        .filter(|&(_, &x)| x != 0.0)
        .map(|(position, _)| position)
        .collect();
    // A scalar counts as a tensor of one axis.
    let axes: Vec<(usize, usize)> = match shape.rank() {
        0 => vec![(1, 1)],
        rank => (0..rank).map(|axis| (strides[axis], shape[axis].max(1))).collect(),
    };
    let positions: Vec<i64> = axes
        .iter()
        .flat_map(|&(stride, length)| found.iter().map(move |position| (position / stride % length) as i64))
        .collect();
    Ok(vec![context.constant(Literal::new([axes.len(), found.len()], &positions))])
}

fn unique<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let literal = context.known_literal(0, "the tensor searched")?;
    let (x, axis) = match node.optional_int("axis")? {
        Some(axis) => (x, context.axis(axis, x.rank())?),
        None => (context.reshape(x, &[x.shape().elements()])?, 0),
    };
    let lines = lines(&literal, &x.shape(), axis);
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|&a, &b| lines[a].cmp(&lines[b]).then(a.cmp(&b)));
    // Runs of equal lines, each with its members in order of appearance.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for line in order {
        match groups.last_mut() {
            Some(group) if lines[group[0]] == lines[line] => group.push(line),
            _ => groups.push(vec![line]),
        }
    }
    if !node.flag("sorted", true)? {
        groups.sort_by_key(|group| group[0]);
    }
    let mut inverse = vec![0i64; lines.len()];
    for (position, group) in groups.iter().enumerate() {
        group.iter().for_each(|&line| inverse[line] = position as i64);
    }
    let list = |values: Vec<i64>| context.constant(Literal::new([values.len()], &values));
    let first = list(groups.iter().map(|group| group[0] as i64).collect());
    let counts = list(groups.iter().map(|group| group.len() as i64).collect());
    Ok(vec![x.gather(axis, first), first, list(inverse), counts])
}

/// The slices along an axis as keys that compare as their elements do.
fn lines(literal: &Literal, shape: &Shape, axis: usize) -> Vec<Vec<i128>> {
    let unsigned = literal.dtype().is_unsigned_integer();
    let keys: Vec<i128> = match literal.to_i64() {
        Some(integers) if unsigned => integers.iter().map(|&x| i128::from(x as u64)).collect(),
        Some(integers) => integers.iter().map(|&x| i128::from(x)).collect(),
        None => literal.to_f64().iter().map(|&x| float_key(x)).collect(),
    };
    let (inner, length) = (shape[axis + 1..].iter().product::<usize>(), shape[axis]);
    let outer: usize = shape[..axis].iter().product();
    let line = |position: usize| {
        (0..outer * inner).map(|i| keys[(i / inner * length + position) * inner + i % inner]).collect()
    };
    (0..length).map(line).collect()
}

/// Orders as the numbers do; the two zeros are equal, NaN is greatest.
fn float_key(x: f64) -> i128 {
    if x.is_nan() {
        return i128::MAX;
    }
    let bits = (x + 0.0).to_bits() as i64;
    i128::from(if bits < 0 { i64::MIN - bits } else { bits })
}
