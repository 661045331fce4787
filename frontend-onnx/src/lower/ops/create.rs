//! Operators that make tensors from shapes, counts and indices.

use super::index::wrap;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{CompareOp, DType, Expr, Literal, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("ConstantOfShape", 9, Gradient::Integer, constant_of_shape),
    Operator::new("EyeLike", 9, Gradient::Integer, eye_like),
    Operator::new("OneHot", 9, Gradient::Smooth, one_hot),
    Operator::new("Range", 11, Gradient::Smooth, range),
    Operator::new("Trilu", 14, Gradient::Smooth, trilu),
];

fn constant_of_shape<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let lengths = context.lengths(&context.known_i64s(0, "the shape")?, "the shape")?;
    let element = match context.node.tensor("value")? {
        Some(tensor) if tensor.dtype().as_code().is_some() => {
            context.declare(0, tensor.dtype());
            tensor.to_held()?
        }
        Some(tensor) => context.literal(tensor)?,
        None => Literal::scalar_of(context.float_type(DType::F32), 0.0),
    };
    let Some(element) = element.reshaped(Shape::scalar()) else {
        return Err(context.node.attribute_error("value", "must hold one element"));
    };
    Ok(vec![context.constant(element).broadcast(&context.shape(&lengths)?, &[])])
}

/// The difference of column and row of each element of a matrix.
fn diagonals<'b>(context: &Context<'_, 'b>, rows: usize, columns: usize) -> Result<Expr<'b>> {
    let ty = TensorType { dtype: DType::I64, shape: context.shape(&[rows, columns])? };
    Ok(context.builder().iota(ty.clone(), 1) - context.builder().iota(ty, 0))
}

fn eye_like<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let &[rows, columns] = &x.shape()[..] else {
        return Err(context.error(format_args!("the operand must be a matrix, is {}", x.ty())));
    };
    let dtype = match context.node.optional_int("dtype")? {
        Some(number) => context.dtype(number)?,
        None => x.dtype(),
    };
    // Beyond either corner there is no diagonal.
    let k = context.node.int("k", 0)?.clamp(-(rows as i64) - 1, columns as i64 + 1);
    let diagonals = diagonals(context, rows, columns)?;
    Ok(vec![diagonals.eq(diagonals.splat(k as f64)).cast(dtype)])
}

fn trilu<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 2)?;
    let shape = x.shape();
    let (rows, columns) = (shape[shape.rank() - 2], shape[shape.rank() - 1]);
    let diagonals = diagonals(context, rows, columns)?;
    let k = match context.optional(1)? {
        Some(k) => context.reshape(k.cast(DType::I64), &[])?.broadcast(&diagonals.shape(), &[]),
        None => diagonals.splat(0.0),
    };
    let op = if context.node.flag("upper", true)? { CompareOp::Ge } else { CompareOp::Le };
    let kept = context.broadcast_to(diagonals.compare(op, k), &shape)?;
    Ok(vec![kept.select(x, x.splat(0.0))])
}

/// Indices out of range yield the off value alone.
fn one_hot<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let indices = context.input(0)?.cast(DType::I64);
    let depth = match context.known_f64s(1, "the depth")?[..] {
        [depth] if depth >= 1.0 && depth <= (1u64 << 40) as f64 => depth as usize,
        _ => return Err(context.error("the depth must be one number, at least 1")),
    };
    let values = context.input(2)?;
    if values.shape()[..] != [2] {
        return Err(context.error(format_args!("the values must be off and on, are {}", values.ty())));
    }
    let axis = context.axis_attribute(-1, indices.rank() + 1)?;
    let mut lengths = indices.shape().to_vec();
    lengths.insert(axis, depth);
    let shape = context.shape(&lengths)?;
    let indices = wrap(context, indices, depth)?.insert_axis(axis);
    let counts = context.builder().iota(TensorType::new(DType::I64, shape.clone()), axis);
    let hot = counts.eq(context.broadcast_to(indices, &shape)?);
    let value = |position: usize| values.slice_axis(0, position, position + 1).reshape(&Shape::scalar());
    Ok(vec![hot.select(value(1).broadcast(&shape, &[]), value(0).broadcast(&shape, &[]))])
}

/// The gradient is that of `start + step * (0, 1, ...)`, of as many elements as are known to be; the limit has none.
fn range<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let parts = ["the start", "the limit", "the step"];
    let known: Vec<Literal> = parts
        .iter()
        .enumerate()
        .map(|(position, what)| context.known_literal(position, what))
        .collect::<Result<_>>()?;
    let dtype = known[0].dtype();
    let fits = |literal: &Literal| literal.dtype() == dtype && literal.shape().elements() == 1;
    if dtype == DType::Bool || !known.iter().all(fits) {
        return Err(context.error("start, limit and step must each be one number, all of one type"));
    }
    let count = match known.iter().map(Literal::to_i64).collect::<Option<Vec<_>>>() {
        Some(integers) => {
            let part = |position: usize| i128::from(integers[position][0]);
            let (span, step) = (part(1) - part(0), part(2));
            if step == 0 {
                return Err(context.error("the step is 0"));
            }
            let whole = span / step;
            usize::try_from(if span % step != 0 && (span < 0) == (step < 0) { whole + 1 } else { whole })
                .unwrap_or(0)
        }
        None => {
            let part = |position: usize| known[position].to_f64()[0];
            let count = ((part(1) - part(0)) / part(2)).ceil();
            if !count.is_finite() {
                return Err(context.error("start, limit and step do not make a finite range"));
            }
            count.max(0.0) as usize
        }
    };
    let counts = context.builder().iota(TensorType { dtype, shape: context.shape(&[count])? }, 0);
    let part = |position: usize| -> Result<Expr<'b>> {
        Ok(context.reshape(context.input(position)?, &[])?.broadcast(&counts.shape(), &[]))
    };
    Ok(vec![counts * part(2)? + part(0)?])
}
