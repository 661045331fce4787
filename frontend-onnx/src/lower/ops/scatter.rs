//! Writing into tensors at computed positions.

use super::checks::guard;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, ScatterOp, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Scatter", 9, Gradient::Smooth, scatter_elements),
    Operator::new("ScatterElements", 11, Gradient::Smooth, scatter_elements),
    Operator::new("ScatterND", 11, Gradient::Smooth, scatter_nd),
    Operator::new("TensorScatter", 24, Gradient::Smooth, tensor_scatter),
];

fn scatter_elements<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, index, update) = (context.input(0)?, context.index(1)?, context.input(2)?);
    let node = context.node;
    let (shape, rank) = (x.shape(), x.rank());
    let axis = context.axis_attribute(0, rank)?;
    context.expect_shape(update, &index.shape(), "updates")?;
    context.same_dtype(x, update)?;
    let fits = (0..rank).all(|a| a == axis || index.shape().get(a).is_some_and(|&length| length <= shape[a]));
    if index.rank() != rank || !fits {
        let what = format!("indices of {} do not fit data of {shape} on axis {axis}", index.shape());
        return Err(node.error(what));
    }
    let op = reduction(context, x.dtype())?;
    // The position of each update in the flattened data.
    let strides = shape.strides();
    let counts = TensorType::new(DType::I64, index.shape());
    let mut flat =
        context.guarded(index, shape[axis])? * context.builder().splat(&counts, strides[axis] as f64);
    for a in (0..rank).filter(|&a| a != axis && index.shape()[a] > 1) {
        let scale = context.builder().splat(&counts, strides[a] as f64);
        flat = flat + context.builder().iota(counts.clone(), a) * scale;
    }
    let line = |e: Expr<'b>| e.reshape(&Shape::new(&[e.shape().elements()]));
    Ok(vec![line(x).scatter(0, op, line(flat), line(update)).reshape(&shape)])
}

fn scatter_nd<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, index, update) = (context.input(0)?, context.index(1)?, context.input(2)?);
    let node = context.node;
    let shape = x.shape();
    let index_shape = index.shape();
    let depth = index_shape.last().copied().filter(|&depth| depth <= shape.rank());
    let Some(depth) = depth else {
        return Err(node.error(format_args!("indices of {index_shape} do not fit data of {shape}")));
    };
    let places = &index_shape[..index_shape.rank() - 1];
    let wanted: Shape = places.iter().chain(&shape[depth..]).copied().collect();
    context.expect_shape(update, &wanted, "updates")?;
    context.same_dtype(x, update)?;
    let op = reduction(context, x.dtype())?;
    let position = flat_position(context, index, &shape[..depth])?;
    let (rows, row) = (shape[..depth].iter().product::<usize>(), &shape[depth..]);
    let with = |leading: usize| std::iter::once(leading).chain(row.iter().copied()).collect::<Shape>();
    let count = places.iter().product::<usize>();
    let table = x.reshape(&with(rows));
    let result = table.scatter(0, op, position.reshape(&Shape::new(&[count])), update.reshape(&with(count)));
    Ok(vec![result.reshape(&shape)])
}

/// Row-major positions in axes of these `lengths` from index tuples in the last axis of `index`.
pub(super) fn flat_position<'b>(
    context: &Context<'_, 'b>,
    index: Expr<'b>,
    lengths: &[usize],
) -> Result<Expr<'b>> {
    let shape = index.shape();
    let last = shape.rank() - 1;
    let places = Shape::new(&shape[..last]);
    let mut position = context.builder().splat(&TensorType::new(DType::I64, places.clone()), 0.0);
    for (part, &length) in lengths.iter().enumerate() {
        let column = index.slice_axis(last, part, part + 1).reshape(&places);
        // An index that is out of range on its own axis must not become a valid one of the flattened axes.
        let column = context.guarded(column, length)?;
        position = position * position.splat(length as f64) + column;
    }
    Ok(position)
}

fn tensor_scatter<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (cache, update) = (context.input(0)?, context.input(1)?);
    let node = context.node;
    let (shape, rank) = (cache.shape(), cache.rank());
    context.same_dtype(cache, update)?;
    let axis = context.axis_attribute(-2, rank)?;
    let fits = update.rank() == rank
        && (0..rank).all(|a| update.shape()[a] == shape[a] || (a == axis && update.shape()[a] <= shape[a]));
    if !fits || axis == 0 {
        let what = format!("an update of {} does not fit a cache of {shape} on axis {axis}", update.shape());
        return Err(node.error(what));
    }
    let length = shape[axis];
    let circular = match node.string("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        _ => return Err(node.attribute_error("mode", "is neither `linear` nor `circular`")),
    };
    // Rows are addressed by their position among the axes up to `axis`.
    let places = Shape::new(&update.shape()[..=axis]);
    let ty = TensorType::new(DType::I64, places.clone());
    let builder = context.builder();
    let mut at = builder.iota(ty.clone(), axis);
    if let Some(start) = context.optional_index(2)? {
        context.expect_shape(start, &Shape::new(&shape[..1]), "write_indices")?;
        at = at + start.cast(DType::I64).broadcast(&places, &[0]);
    }
    let at = if circular { at % at.splat(length as f64) } else { guard(at, length) };
    let mut position = at;
    let mut scale = length;
    for a in (0..axis).rev() {
        position = position + builder.iota(ty.clone(), a) * position.splat(scale as f64);
        scale *= shape[a];
    }
    let with =
        |leading: usize| std::iter::once(leading).chain(shape[axis + 1..].iter().copied()).collect::<Shape>();
    let count = places.elements();
    let result = cache.reshape(&with(scale)).scatter(
        0,
        ScatterOp::Set,
        position.reshape(&Shape::new(&[count])),
        update.reshape(&with(count)),
    );
    Ok(vec![result.reshape(&shape)])
}

fn reduction(context: &Context<'_, '_>, dtype: DType) -> Result<ScatterOp> {
    let node = context.node;
    let op = match node.string("reduction", "none")? {
        "none" => ScatterOp::Set,
        "add" => ScatterOp::Add,
        "mul" => ScatterOp::Mul,
        "max" => ScatterOp::Max,
        "min" => ScatterOp::Min,
        _ => return Err(node.attribute_error("reduction", "is not known")),
    };
    if dtype == DType::Bool && op != ScatterOp::Set {
        return Err(node.attribute_error("reduction", "is not defined for bool"));
    }
    Ok(op)
}
