//! Whole Jacobians: the derivative of every element of a tensor by every element of others.

use super::jvp::fresh;
use super::{GradError, Gradient, float_type, jvp, vjp};
use gradc_ir::{Builder, DType, Expr, Op, ScanOp, Shape, TensorType, Value};
use std::sync::Arc;

/// The Jacobian of `output` by each `wrt` value: element `[i.., j..]` is the derivative of element `[i..]` of the output
/// by element `[j..]` of the value. Otherwise the answers are those of [`vjp`].
///
/// One gradient serves all elements: a loop runs it with each row of the identity as the cotangent, and what does not
/// depend on the cotangent, the forward pass above all, is computed once. Where the `wrt` values have fewer elements
/// than the output, the loop runs over these, in forward mode.
pub fn jacobian(builder: &Builder, output: Value, wrt: &[Value]) -> Result<Vec<Gradient>, GradError> {
    let rows =
        float_type(&builder.node(output)).map_err(|found| GradError::Target { target: output, found })?;
    let mut columns = Vec::with_capacity(wrt.len());
    for &wrt in wrt {
        columns.push(float_type(&builder.node(wrt)).map_err(|found| GradError::Wrt { wrt, found })?);
    }
    let cells = |column: &TensorType| {
        let shape: Vec<usize> = rows.shape.iter().chain(column.shape.iter()).copied().collect();
        TensorType::new(column.dtype, Shape::new(&shape))
    };
    let count: usize = columns.iter().map(|column| column.shape.elements()).sum();
    if rows.shape.elements() > count {
        let forward = |(&wrt, column): (&Value, &TensorType)| {
            let tangent = fresh(builder, column);
            let found = jvp(builder, &[output], &[(wrt, tangent)])?.pop();
            let cells = cells(column);
            Ok(match found {
                Some(Gradient::Value(moved)) => {
                    let stacked = in_turn(builder, tangent, &[moved])[0];
                    let order: Vec<usize> = (1..=rows.shape.rank()).chain([0]).collect();
                    Gradient::Value(stacked.transpose(&order).cast(cells.dtype).reshape(&cells.shape).value())
                }
                Some(other) => widened(builder, other, &cells),
                None => Gradient::NoPath { ended_at: Vec::new() },
            })
        };
        return wrt.iter().zip(&columns).map(forward).collect();
    }
    let seed = fresh(builder, &rows);
    let found = vjp(builder, &[(output, seed)], wrt)?;
    let value = |gradient: &Gradient| match gradient {
        Gradient::Value(value) => Some(*value),
        Gradient::Zero { .. } | Gradient::NoPath { .. } => None,
    };
    let values: Vec<Value> = found.iter().filter_map(value).collect();
    let mut stacked = in_turn(builder, seed, &values).into_iter();
    let whole = |(found, column): (Gradient, &TensorType)| match (value(&found), cells(column)) {
        (Some(_), cells) => match stacked.next() {
            Some(stacked) => Gradient::Value(stacked.reshape(&cells.shape).value()),
            None => unreachable!("there is one for each value"),
        },
        (None, cells) => widened(builder, found, &cells),
    };
    Ok(found.into_iter().zip(&columns).map(whole).collect())
}

/// What is zero, or has no path, for a Jacobian of this type.
fn widened(builder: &Builder, found: Gradient, cells: &TensorType) -> Gradient {
    match found {
        Gradient::Zero { ended_at, .. } => {
            Gradient::Zero { value: builder.splat(cells, 0.0).value(), ended_at }
        }
        other => other,
    }
}

/// The results, which are linear in `seed`, for each row of the identity in place of the seed: stacked along a new
/// first axis, in a loop that holds just what depends on the seed.
fn in_turn<'b>(builder: &'b Builder, seed: Value, results: &[Value]) -> Vec<Expr<'b>> {
    let ty = builder.ty(seed);
    let trip = ty.shape.elements();
    let stacked = |result: &Value| {
        let result = builder.expr(*result);
        result.insert_axis(0)
    };
    match trip {
        // The seed is ones already.
        1 => return results.iter().map(stacked).collect(),
        0 => {
            let none = |result: &Value| {
                let mut shape = builder.ty(*result).shape.to_vec();
                shape.insert(0, 0);
                let ty = TensorType::new(builder.ty(*result).dtype, Shape::new(&shape));
                builder.splat(&ty, 0.0)
            };
            return results.iter().map(none).collect();
        }
        _ => {}
    }
    let cut = Cut::new(builder, seed, results);
    let body = Builder::new("jacobian");
    let mut renamed: Vec<Option<Value>> = vec![None; builder.len()];
    for (position, &outer) in cut.constants.iter().enumerate() {
        renamed[outer.index()] = Some(body.input(&format!("c{position}"), builder.ty(outer)));
    }
    let line = TensorType::new(DType::I64, [trip]);
    let row = body.expr(body.input("row", TensorType::scalar(DType::I64)));
    let is_row = body.iota(line.clone(), 0).eq(row.broadcast(&line.shape, &[]));
    let flat = TensorType::new(ty.dtype, [trip]);
    let unit = is_row.select(body.splat(&flat, 1.0), body.splat(&flat, 0.0));
    renamed[seed.index()] = Some(unit.reshape(&ty.shape).value());
    for &value in &cut.inside {
        let node = builder.node(value);
        let operands: Vec<Value> =
            node.operands.iter().filter_map(|operand| renamed[operand.index()]).collect();
        body.set_origin(builder.origin(value));
        renamed[value.index()] = Some(body.build(node.op.clone(), &operands).value());
    }
    let outputs: Vec<Value> = results.iter().filter_map(|result| renamed[result.index()]).collect();
    let scan = ScanOp {
        body: Arc::new(body.finish(&outputs)),
        trip,
        constants: cut.constants.len(),
        carries: 0,
        reverse: false,
    };
    let operands = [&cut.constants[..], &[builder.iota(line, 0).value()]].concat();
    let all = builder.build(Op::Scan(scan), &operands);
    (0..results.len()).map(|part| all.project(part)).collect()
}

/// What of a graph depends on a seed.
struct Cut {
    /// What depends on it, and the constants of one element that it needs, in definition order.
    inside: Vec<Value>,
    /// What else it needs.
    constants: Vec<Value>,
}

impl Cut {
    fn new(builder: &Builder, seed: Value, results: &[Value]) -> Cut {
        let nodes = builder.len();
        let mut depends = vec![false; nodes];
        depends[seed.index()] = true;
        for index in seed.index() + 1..nodes {
            let node = builder.node(Value::from_index(index));
            depends[index] = node.operands.iter().any(|operand| depends[operand.index()]);
        }
        let mut needed = vec![false; nodes];
        results.iter().for_each(|result| needed[result.index()] = true);
        let (mut inside, mut constants) = (Vec::new(), Vec::new());
        for index in (0..nodes).rev().filter(|&index| index != seed.index()) {
            if !needed[index] {
                continue;
            }
            let value = Value::from_index(index);
            let node = builder.node(value);
            if depends[index] || node.op.is_splat_constant() {
                node.operands.iter().for_each(|operand| needed[operand.index()] = true);
                inside.push(value);
            } else {
                constants.push(value);
            }
        }
        inside.reverse();
        constants.reverse();
        Cut { inside, constants }
    }
}
