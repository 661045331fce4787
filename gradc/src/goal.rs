//! Targets as graphs.

use crate::catalog::Catalog;
use crate::compiled::{InputInfo, Role};
use crate::losses::{self, class_axis, is_greatest, mean, wide};
use crate::selection::Types;
use crate::{Error, Result, Target, TensorInfo, names};
use gradc_frontend_onnx::Lowered;
use gradc_ir::{Builder, DType, Expr, Origin, Value};
use std::sync::Arc;

/// The operator that stands in the origin of a loss: its run-time errors are about labels.
pub(crate) const LABELS: &str = "labels";

/// What is differentiated.
pub(crate) struct Goal {
    /// The sum of all targets: a scalar.
    pub value: Value,
    /// Tensors with their cotangents.
    pub seeds: Vec<(Value, Value)>,
    /// Inputs that the targets add to those of the model.
    pub inputs: Vec<InputInfo>,
    /// How it is written.
    pub text: String,
}

/// Builds the sum of targets; of none, the only scalar output is taken.
pub(crate) fn build(lowered: &Lowered, targets: &[Target], catalog: &Catalog<'_>) -> Result<Goal> {
    let default;
    let targets = if targets.is_empty() {
        default = [only_scalar(lowered)?];
        &default
    } else {
        targets
    };
    let builder = &lowered.builder;
    let (mut seeds, mut inputs, mut sum) = (Vec::new(), Vec::new(), None::<Expr<'_>>);
    for target in targets {
        let target = &resolve(target, lowered)?;
        let x = tensor(lowered, target.tensor(), catalog)?;
        builder.set_origin(Some(Origin { name: Arc::from(target.tensor()), operator: Arc::from("target") }));
        let term = match target {
            Target::Seed(name) => {
                let seed =
                    extra(builder, &mut inputs, format!("seed:{name}"), x.ty(), Role::Seed(name.clone()))?;
                seeds.push((x.value(), seed.value()));
                (wide(x) * wide(seed)).sum_all()
            }
            other => {
                let value = number(builder, other, x, &mut inputs)?;
                seeds.push((value.value(), value.splat(1.0).value()));
                value
            }
        };
        // Terms of different types (one tensor in 16 bits, another in 32) meet in the wider one.
        sum = Some(match sum {
            None => term,
            Some(sum) if sum.dtype() == term.dtype() => sum + term,
            Some(sum) => sum.cast(DType::F64) + term.cast(DType::F64),
        });
        builder.set_origin(None);
    }
    let text = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
    let Some(value) = sum else { return Err(Error::internal("a goal without targets")) };
    Ok(Goal { value: value.value(), seeds, inputs, text })
}

fn only_scalar(lowered: &Lowered) -> Result<Target> {
    let info =
        |(name, value): &(String, Value)| TensorInfo { name: name.clone(), ty: lowered.builder.ty(*value) };
    let outputs: Vec<TensorInfo> = lowered.outputs.iter().map(info).collect();
    let scalar = |output: &&TensorInfo| output.ty.shape.elements() == 1 && output.ty.dtype.is_float();
    match &outputs.iter().filter(scalar).collect::<Vec<_>>()[..] {
        [one] => Ok(Target::output(&one.name)),
        _ => Err(Error::TargetNeeded { outputs }),
    }
}

/// Takes a text that the grammar reads as more than a name for a name, where there is such a tensor.
fn resolve(target: &Target, lowered: &Lowered) -> Result<Target> {
    let known = |name: &str| lowered.values.contains_key(name);
    let text = target.to_string();
    let is_text = !matches!(target, Target::Seed(_) | Target::Loss(_));
    Ok(if is_text && !known(target.tensor()) && known(&text) { Target::Output(text) } else { target.clone() })
}

/// The tensor of floats with this name.
pub(crate) fn tensor<'l>(lowered: &'l Lowered, name: &str, catalog: &Catalog<'_>) -> Result<Expr<'l>> {
    let Some(&value) = lowered.values.get(name) else {
        let nearest = names::nearest(name, lowered.values.keys().map(String::as_str));
        return Err(Error::UnknownTensor { role: "target", name: name.to_owned(), nearest });
    };
    let x = lowered.builder.expr(value);
    if x.dtype().is_float() {
        return Ok(x);
    }
    let types = Types::new(lowered);
    let source = catalog.nearest_source(name, |name| types.is_float(name));
    Err(Error::IntegerTarget {
        name: name.to_owned(),
        dtype: x.dtype(),
        producer: catalog.producer(name).map(|node| (node.qualified_op_type(), node.name.clone())),
        source_tensor: source.and_then(|name| types.info(&name)).map(Box::new),
    })
}

fn extra<'b>(
    builder: &'b Builder,
    inputs: &mut Vec<InputInfo>,
    name: String,
    ty: gradc_ir::TensorType,
    role: Role,
) -> Result<Expr<'b>> {
    if builder.inputs().iter().any(|input| *input.name == *name) {
        let what = format!("«{name}» is asked for twice");
        return Err(Error::option(what, "a tensor takes one seed and one loss"));
    }
    let value = builder.input(&name, ty.clone());
    inputs.push(InputInfo { name, ty, role });
    Ok(builder.expr(value))
}

/// The number that a target makes of a tensor.
fn number<'b>(
    builder: &'b Builder,
    target: &Target,
    x: Expr<'b>,
    inputs: &mut Vec<InputInfo>,
) -> Result<Expr<'b>> {
    let info = || TensorInfo { name: target.tensor().to_owned(), ty: x.ty() };
    let out_of_range = |index: &[i64]| Error::ElementOutOfRange {
        output: target.tensor().to_owned(),
        index: index.to_vec(),
        ty: Box::new(x.ty()),
    };
    let shape = x.shape();
    Ok(match target {
        Target::Output(_) if shape.elements() == 1 => x.reshape(&gradc_ir::Shape::scalar()),
        Target::Output(_) => return Err(Error::NotScalar { tensor: info() }),
        Target::Element(_, index) => {
            let position = |(&index, &length): (&i64, &usize)| {
                let position = if index < 0 { index.checked_add_unsigned(length as u64)? } else { index };
                usize::try_from(position).ok().filter(|&position| position < length)
            };
            let start: Option<Vec<usize>> = (index.len() == shape.rank())
                .then(|| index.iter().zip(shape.iter()).map(position).collect())
                .flatten();
            let start = start.ok_or_else(|| out_of_range(index))?;
            let limit: Vec<usize> = start.iter().map(|start| start + 1).collect();
            x.slice(&start, &limit, &vec![1; start.len()]).reshape(&gradc_ir::Shape::scalar())
        }
        Target::Argmax(_) if shape.rank() == 0 => x,
        Target::Argmax(_) if shape.elements() == 0 => return Err(Error::NotScalar { tensor: info() }),
        Target::Argmax(_) => {
            let x = wide(x);
            is_greatest(x).select(x, x.splat(0.0)).sum_all()
        }
        Target::Label(_, label) if shape.rank() > 0 => {
            let axis = class_axis(&shape);
            let class = usize::try_from(*label).ok().filter(|&class| class < shape[axis]);
            let class = class.ok_or_else(|| Error::LabelOutOfRange {
                value: *label,
                output: target.tensor().to_owned(),
                classes: shape[axis],
            })?;
            wide(x).slice_axis(axis, class, class + 1).sum_all()
        }
        Target::Label(_, label) => return Err(out_of_range(&[*label])),
        Target::Sum(_) => wide(x).sum_all(),
        Target::Mean(_) => mean(wide(x)),
        Target::Norm(_) => {
            let x = wide(x);
            let squares = (x * x).sum_all();
            // The gradient of a length of 0 is 0, not 0 * inf.
            let positive = squares.gt(squares.splat(0.0));
            // (What is neither, NaN, stays.)
            positive.select(positive.select(squares, squares.splat(1.0)).sqrt(), squares)
        }
        Target::Loss(loss) => {
            let wanted = match losses::wanted_type(loss, &x.ty())? {
                Some(ty) => {
                    let name = format!("target:{}", loss.output);
                    Some(extra(builder, inputs, name, ty, Role::Target(loss.output.clone()))?)
                }
                None => None,
            };
            let name = Arc::from(loss.output.as_str());
            builder.set_origin(Some(Origin { name, operator: Arc::from(LABELS) }));
            losses::build(loss, x, wanted)
        }
        Target::Seed(_) => return Err(Error::internal("a seed makes no number by itself")),
    })
}
