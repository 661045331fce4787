//! Preparation of tables: encodings of categories, missing values, columns side by side.

use super::machine_learning::DOMAIN;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, DType, Expr, Literal, Op, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("FeatureVectorizer", 1, Gradient::Smooth, feature_vectorizer).of(DOMAIN),
    Operator::new("Imputer", 1, Gradient::Piecewise, imputer).of(DOMAIN),
    Operator::new("LabelEncoder", 2, Gradient::Zero, label_encoder).of(DOMAIN),
    Operator::new("OneHotEncoder", 1, Gradient::Zero, one_hot_encoder).of(DOMAIN),
];

/// More comparisons of elements with keys are refused.
const MOST_PAIRS: usize = 1 << 28;

fn feature_vectorizer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let widths = context.node.ints("inputdimensions")?;
    let mut parts = Vec::with_capacity(context.input_count());
    for (position, x) in context.inputs()?.into_iter().enumerate() {
        let x = x.cast(context.float_type(DType::F32));
        let x = if x.rank() == 1 { x.insert_axis(0) } else { x };
        let stated = widths.and_then(|widths| widths.get(position));
        if x.rank() != 2 || stated.is_some_and(|&width| width != x.shape()[1] as i64) {
            return Err(context.error(format_args!("input {position} is {}, which does not fit", x.ty())));
        }
        parts.push(x);
    }
    Ok(vec![match parts[..] {
        [only] => only,
        _ => context.push(Op::Concat { axis: 1 }, &parts)?,
    }])
}

fn imputer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.ranked(0, 1)?, context.node);
    let (shape, last) = (x.shape(), x.rank() - 1);
    let line = |literal: Literal| -> Result<Expr<'b>> {
        let count = literal.shape().elements();
        let line = context.constant(literal).cast(x.dtype());
        match count {
            1 => Ok(line.reshape(&Shape::scalar()).broadcast(&shape, &[])),
            _ if count == shape[last] => Ok(line.broadcast(&shape, &[last])),
            _ => Err(context.error(format_args!("has {count} values for {} features", shape[last]))),
        }
    };
    let (missing, values) = if x.dtype().is_float() {
        let values = node.required("imputed_value_floats", node.floats("imputed_value_floats")?)?;
        let replaced = node.float("replaced_value_float", 0.0)?;
        let missing = if replaced.is_nan() { x.ne(x) } else { x.eq(x.splat(f64::from(replaced))) };
        (missing, line(Literal::new([values.len()], values))?)
    } else if x.dtype().is_integer() {
        let values = node.required("imputed_value_int64s", node.ints("imputed_value_int64s")?)?;
        let replaced =
            context.constant(Literal::scalar(node.int("replaced_value_int64", 0)?)).cast(x.dtype());
        (x.eq(replaced.broadcast(&shape, &[])), line(Literal::new([values.len()], values))?)
    } else {
        return Err(context.error(format_args!("the input must hold numbers, is {}", x.ty())));
    };
    Ok(vec![missing.select(values, x)])
}

/// For each element the position of the last key that it equals, and whether there is one.
fn looked_up<'b>(context: &Context<'_, 'b>, x: Expr<'b>, keys: Literal) -> Result<(Expr<'b>, Expr<'b>)> {
    let count = keys.shape().elements();
    let rank = x.rank();
    let lengths: Vec<usize> = x.shape().iter().copied().chain([count]).collect();
    let shape = context.shape(&lengths)?;
    if count == 0 || shape.elements() > MOST_PAIRS {
        return Err(context.error(format_args!("cannot look {} up among {count} keys", x.ty())));
    }
    let keys = context.constant(keys).cast(x.dtype()).reshape(&Shape::new(&[count]));
    let axes: Vec<usize> = (0..rank).collect();
    let (wide, keys) = (x.broadcast(&shape, &axes), keys.broadcast(&shape, &[rank]));
    let equal = wide.eq(keys);
    // Keys that are no numbers stand for all elements that are none.
    let equal = if x.dtype().is_float() { equal.or(wide.ne(wide).and(keys.ne(keys))) } else { equal };
    let place =
        context.push(Op::ArgReduce { op: ArgOp::Max, axis: rank, last: true }, &[equal.cast(DType::I64)])?;
    Ok((place, equal.reduce_max(&[rank])))
}

fn label_encoder<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let listed = |prefix: &str| -> Result<Option<Literal>> {
        if let Some(floats) = node.floats(&format!("{prefix}_floats"))? {
            return Ok(Some(Literal::new([floats.len()], floats)));
        }
        if let Some(ints) = node.ints(&format!("{prefix}_int64s"))? {
            return Ok(Some(Literal::new([ints.len()], ints)));
        }
        match node.tensor(&format!("{prefix}_tensor"))? {
            Some(tensor) => Ok(Some(tensor.to_literal()?)),
            None => Ok(None),
        }
    };
    let (Some(keys), Some(values)) = (listed("keys")?, listed("values")?) else {
        return Err(context.error("labels that are strings are not supported"));
    };
    let same_kind = keys.dtype().is_float() == x.dtype().is_float() && x.dtype() != DType::Bool;
    if keys.shape().elements() != values.shape().elements() || !same_kind {
        return Err(context.error(format_args!(
            "keys {} do not fit values {} and {}",
            keys.ty(),
            values.ty(),
            x.ty()
        )));
    }
    let default = match (node.tensor("default_tensor")?, values.dtype()) {
        (Some(tensor), _) => tensor.to_literal()?,
        (None, DType::F32) => Literal::scalar(node.float("default_float", -0.0)?),
        (None, DType::I64) => Literal::scalar(node.int("default_int64", -1)?),
        (None, dtype) => Literal::scalar_of(dtype, if dtype.is_float() { -0.0 } else { -1.0 }),
    };
    if default.shape().elements() != 1 {
        return Err(node.attribute_error("default_tensor", "must hold one element"));
    }
    let dtype = context.float_type(values.dtype());
    let (place, found) = looked_up(context, x, keys)?;
    let values = context.constant(values).cast(dtype);
    let values = values.reshape(&Shape::new(&[values.shape().elements()])).gather(0, place);
    let default = context.constant(default).cast(dtype).reshape(&Shape::scalar()).broadcast(&x.shape(), &[]);
    Ok(vec![found.select(values, default)])
}

fn one_hot_encoder<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let categories = node.required("cats_int64s", node.ints("cats_int64s")?)?;
    if x.dtype() == DType::Bool {
        return Err(context.error("the input must hold numbers"));
    }
    let count = categories.len();
    let (place, found) = looked_up(context, x.cast(DType::I64), Literal::new([count], categories))?;
    // Behind the rows of the categories stands one of zeros, where what is in none may go; else it leads nowhere.
    let rows = count + usize::from(node.flag("zeros", true)?);
    let mut table = vec![0.0f32; context.table_size(&[rows, count])?];
    (0..count).for_each(|at| table[at * count + at] = 1.0);
    let table = context.constant(Literal::new([rows, count], &table)).cast(context.float_type(DType::F32));
    Ok(vec![table.gather(0, found.select(place, place.splat(count as f64)))])
}
