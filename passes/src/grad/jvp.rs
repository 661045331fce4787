//! Forward mode: the transpose of the transpose.

use super::{GradError, Gradient, absent, check_pair, walk};
use gradc_ir::{Builder, Mark, Op, TensorType, Value};

/// The derivative of each output where every `wrt` value of `directions` (value, tangent of its type) moves along its
/// tangent: one column of the Jacobian for the cost of about one forward run, whatever the number of outputs.
///
/// A gradient is linear in its cotangent `w`, so the gradient of `<gradient, tangent>` with respect to `w` is the
/// derivative in that direction, whatever `w` is; no second rule book is needed. The nodes of the gradient itself are
/// dead afterwards, but for those that a guard against infinite factors asks. Everything else is as for
/// [`vjp`](super::vjp); directional derivatives of gradients (Hessian-vector products) come from applying this to the
/// values that it yields.
pub fn jvp(
    builder: &Builder,
    outputs: &[Value],
    directions: &[(Value, Value)],
) -> Result<Vec<Gradient>, GradError> {
    for &(wrt, tangent) in directions {
        check_pair(builder, wrt, tangent, |found| GradError::Wrt { wrt, found })?;
    }
    let mut seeds = Vec::with_capacity(outputs.len());
    for &target in outputs {
        let node = builder.node(target);
        let ty = super::float_type(&node).map_err(|found| GradError::Target { target, found })?;
        seeds.push((target, fresh(builder, &ty)));
    }
    let wrt: Vec<Value> = directions.iter().map(|&(wrt, _)| wrt).collect();
    let cotangents = walk::pull(builder, &seeds, &wrt)?;
    let weighed = cotangents.into_iter().zip(directions);
    let moved: Vec<(Value, Value)> =
        weighed.filter_map(|(cotangent, &(_, tangent))| Some((cotangent?, tangent))).collect();
    let free: Vec<Value> = seeds.iter().map(|&(_, free)| free).collect();
    let tangents = walk::pull(builder, &moved, &free)?;
    let answer = |(tangent, &output): (Option<Value>, &Value)| match tangent {
        Some(tangent) => Gradient::Value(tangent),
        None => absent::explain(builder, &wrt, &[output], &builder.ty(output)),
    };
    Ok(tangents.into_iter().zip(outputs).map(answer).collect())
}

/// Ones under an identity that no node has yet.
pub(super) fn fresh(builder: &Builder, ty: &TensorType) -> Value {
    let ones = builder.splat(ty, 1.0).value();
    let tags = (0..=u32::MAX).rev();
    let mut marks = tags.map(|tag| {
        let before = builder.len();
        (builder.build(Op::Mark(Mark::Tag(tag)), &[ones]).value(), builder.len() > before)
    });
    let (value, _) = marks.find(|&(_, new)| new).unwrap_or_else(|| panic!("not every tag is taken"));
    value
}
