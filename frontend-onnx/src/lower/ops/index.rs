//! Operators that pick elements by index.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, DType, Expr, Op, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Gather", 1, Gradient::Smooth, gather),
    Operator::new("GatherElements", 11, Gradient::Smooth, gather_elements),
    Operator::new("GatherND", 11, Gradient::Smooth, gather_nd),
    Operator::new("TopK", 1, Gradient::Piecewise, top_k),
];

fn gather<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis_attribute(0, x.rank())?;
    let index = wrap(context, context.integer(1)?, x.shape()[axis])?;
    Ok(vec![context.push(Op::Gather { axis }, &[x, index])?])
}

/// Counts negative indices from the end of an axis of this length. Those out of range stay out of range.
pub(in crate::lower) fn wrap<'b>(
    context: &Context<'_, 'b>,
    index: Expr<'b>,
    length: usize,
) -> Result<Expr<'b>> {
    let index = if index.dtype() == DType::I32 { index } else { index.cast(DType::I64) };
    if known_range(context, index).is_some_and(|(least, _)| least >= 0) {
        return Ok(index);
    }
    Ok(index.lt(index.splat(0.0)).select(index + length as f64, index))
}

/// Whether all indices are known to lie in an axis of this length.
fn known_inside(context: &Context<'_, '_>, index: Expr<'_>, length: usize) -> bool {
    let builder = context.builder();
    known_range(context, builder.expr(index.value()))
        .is_some_and(|(least, greatest)| least >= 0 && greatest < length as i64)
}

fn known_range<'b>(context: &Context<'_, 'b>, index: Expr<'b>) -> Option<(i64, i64)> {
    let all = context.known_value(index)?.to_i64()?;
    Some((all.iter().copied().min().unwrap_or(0), all.iter().copied().max().unwrap_or(-1)))
}

/// An index (i64) into one axis of several that are flattened together.
pub(in crate::lower) struct Component<'b> {
    /// Indices, counted from the end where negative.
    pub index: Expr<'b>,
    /// The length of the axis.
    pub length: usize,
    /// The distance of two neighbours on it after flattening.
    pub stride: usize,
}

/// One index into flattened axes from one into each, all of one shape; -1 where any of them is out of range.
pub(in crate::lower) fn flat_index<'b>(
    context: &Context<'_, 'b>,
    shape: &Shape,
    components: &[Component<'b>],
) -> Result<Expr<'b>> {
    let mut flat = context.splat(DType::I64, shape, 0.0)?;
    let mut valid: Option<Expr<'b>> = None;
    for component in components {
        let index = wrap(context, component.index.cast(DType::I64), component.length)?;
        if !known_inside(context, index, component.length) {
            let inside = index.ge(index.splat(0.0)).and(index.lt(index.splat(component.length as f64)));
            valid = Some(valid.map_or(inside, |valid| valid.and(inside)));
        }
        let scaled = if component.stride == 1 { index } else { index * component.stride as f64 };
        flat = context.binary(BinaryOp::Add, flat, scaled)?;
    }
    Ok(valid.map_or(flat, |valid| valid.select(flat, flat.splat(-1.0))))
}

/// The position in the flattened data for each element of `index`, which picks along `axis` and stays in place along
/// all others.
pub(in crate::lower) fn element_index<'b>(
    context: &Context<'_, 'b>,
    data: &Shape,
    axis: usize,
    index: Expr<'b>,
) -> Result<Expr<'b>> {
    let (own, strides) = (index.shape(), data.strides());
    let fits =
        own.rank() == data.rank() && (0..own.rank()).all(|other| other == axis || own[other] <= data[other]);
    if !fits {
        return Err(context.error(format_args!("indices of shape {own} do not fit data of shape {data}")));
    }
    let place = |other: usize| {
        let counts = context.builder().iota(TensorType::new(DType::I64, own.clone()), other);
        if strides[other] == 1 { counts } else { counts * strides[other] as f64 }
    };
    let component = Component { index, length: data[axis], stride: strides[axis] };
    let picked = flat_index(context, &own, &[component])?;
    let others = (0..own.rank()).filter(|&other| other != axis && own[other] > 1);
    let Some(offset) = others.map(place).reduce(|sum, next| sum + next) else { return Ok(picked) };
    // What is out of range must stay so.
    let inside = known_inside(context, picked, usize::MAX >> 1);
    let flat = picked + offset;
    Ok(if inside { flat } else { picked.lt(picked.splat(0.0)).select(picked, flat) })
}

fn gather_elements<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis_attribute(0, x.rank())?;
    let index = element_index(context, &x.shape(), axis, context.integer(1)?)?;
    Ok(vec![context.push(Op::Gather { axis: 0 }, &[flattened(x), index])?])
}

/// All axes as one.
pub(in crate::lower) fn flattened(x: Expr<'_>) -> Expr<'_> {
    x.reshape(&Shape::from([x.shape().elements()]))
}

/// The positions that a tensor of index tuples names in data whose first `batch + width` axes are flattened, the shape
/// of the positions, and the number of axes that are flattened. The first `batch` axes of both are the same.
pub(in crate::lower) fn tuple_index<'b>(
    context: &Context<'_, 'b>,
    data: &Shape,
    indices: Expr<'b>,
    batch: usize,
) -> Result<(Expr<'b>, usize)> {
    let own = indices.shape();
    let misfit = || context.error(format_args!("indices of shape {own} do not fit data of shape {data}"));
    let (&width, outer) = own.split_last().ok_or_else(misfit)?;
    if batch > outer.len() || batch + width > data.rank() || outer[..batch] != data[..batch] {
        return Err(misfit());
    }
    let outer = context.shape(outer)?;
    let axes = batch + width;
    let strides = context.shape(&data[..axes])?.strides();
    let last = own.rank() - 1;
    let components: Vec<Component<'b>> = (0..width)
        .map(|position| Component {
            index: indices.slice_axis(last, position, position + 1).reshape(&outer),
            length: data[batch + position],
            stride: strides[batch + position],
        })
        .collect();
    let picked = flat_index(context, &outer, &components)?;
    let counts = (0..batch).filter(|&axis| outer[axis] > 1).map(|axis| {
        let counts = context.builder().iota(TensorType::new(DType::I64, outer.clone()), axis);
        if strides[axis] == 1 { counts } else { counts * strides[axis] as f64 }
    });
    let Some(offset) = counts.reduce(|sum, next| sum + next) else { return Ok((picked, axes)) };
    let inside = known_inside(context, picked, usize::MAX >> 1);
    let flat = picked + offset;
    Ok((if inside { flat } else { picked.lt(picked.splat(0.0)).select(picked, flat) }, axes))
}

fn gather_nd<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let data = x.shape();
    let batch = usize::try_from(context.node.int("batch_dims", 0)?)
        .map_err(|_| context.node.attribute_error("batch_dims", "is negative"))?;
    let (index, axes) = tuple_index(context, &data, context.integer(1)?, batch)?;
    let rows: usize = data[..axes].iter().product();
    let rest = &data[axes..];
    let lengths: Vec<usize> = std::iter::once(rows).chain(rest.iter().copied()).collect();
    let x = context.reshape(x, &lengths)?;
    Ok(vec![context.push(Op::Gather { axis: 0 }, &[x, index])?])
}

/// Opset 10 made `k` an input; `largest` came with 11.
fn top_k<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis_attribute(-1, x.rank())?;
    let k = match context.node.optional_int("k")? {
        Some(k) => k,
        None => context.known_i64(1, "k")?,
    };
    let k = usize::try_from(k).ok().filter(|&k| k <= x.shape()[axis]);
    let k = k.ok_or_else(|| context.error(format_args!("k does not fit an axis of {}", x.shape()[axis])))?;
    let descending = context.node.flag("largest", true)?;
    let order = context.push(Op::ArgSort { axis, count: k, descending }, &[x])?;
    let strides = x.shape().strides();
    // A sorting permutation is never out of range.
    let offsets = (0..x.rank()).filter(|&other| other != axis).map(|other| {
        context.builder().iota(TensorType::new(DType::I64, order.shape()), other) * strides[other] as f64
    });
    let flat = offsets.fold(order * strides[axis] as f64, |sum, next| sum + next);
    let values = context.push(Op::Gather { axis: 0 }, &[flattened(x), flat])?;
    Ok(vec![values, order])
}
