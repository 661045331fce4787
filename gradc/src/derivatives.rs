//! Derivatives of what is compiled: gradients, Jacobians, products with the Hessian.

use crate::compiled::{InputInfo, Role, Warning};
use crate::goal::Goal;
use crate::selection::Selected;
use crate::{Error, Result, straight};
use gradc_frontend_onnx::Lowered;
use gradc_frontend_onnx::error::Quoted;
use gradc_ir::{Builder, Expr, TensorType, Value};
use gradc_passes::{Gradient, jacobian, jvp, vjp};

/// A tensor and its gradient or Jacobian.
pub(crate) struct Found {
    pub name: String,
    pub value: Value,
    pub gradient: Value,
}

/// The gradients of the goal.
pub(crate) fn gradients(
    lowered: &Lowered,
    goal: &Goal,
    selected: &[Selected],
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Found>> {
    let wrt: Vec<Value> = selected.iter().map(|selected| selected.value).collect();
    let found = vjp(&lowered.builder, &goal.seeds, &wrt).map_err(Error::internal)?;
    explained(lowered, &goal.text, selected, &found, TensorType::clone, warnings)
}

/// The gradients that a node of the model asks for. What the target does not depend on has the gradient 0.
pub(crate) fn inner(
    builder: &Builder,
    target: Value,
    wrt: &[Value],
) -> std::result::Result<Vec<Value>, String> {
    let seed = builder.splat(&builder.ty(target), 1.0).value();
    let found = vjp(builder, &[(target, seed)], wrt).map_err(|error| error.to_string())?;
    let value = |(found, &wrt): (Gradient, &Value)| match found {
        Gradient::Value(value) | Gradient::Zero { value, .. } => Ok(value),
        Gradient::NoPath { ended_at } if ended_at.is_empty() => {
            Ok(builder.splat(&builder.ty(wrt), 0.0).value())
        }
        Gradient::NoPath { ended_at } => {
            let at = ended_at.first().map_or_else(String::new, |&node| straight::at_node(builder, node));
            Err(format!("there is no differentiable path{at}"))
        }
    };
    found.into_iter().zip(wrt).map(value).collect()
}

/// The Jacobians of a tensor.
pub(crate) fn jacobians(
    lowered: &Lowered,
    output: Expr<'_>,
    text: String,
    selected: &[Selected],
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Found>> {
    let wrt: Vec<Value> = selected.iter().map(|selected| selected.value).collect();
    let found = jacobian(&lowered.builder, output.value(), &wrt).map_err(Error::internal)?;
    let rows = output.shape();
    let whole = |ty: &TensorType| {
        let shape: Vec<usize> = rows.iter().chain(ty.shape.iter()).copied().collect();
        TensorType::new(ty.dtype, &shape[..])
    };
    explained(lowered, &text, selected, &found, whole, warnings)
}

/// Zeros for what has none, of a type made from the tensor's, and warnings or an error that say why.
fn explained(
    lowered: &Lowered,
    text: &str,
    selected: &[Selected],
    found: &[Gradient],
    type_of: impl Fn(&TensorType) -> TensorType,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Found>> {
    let builder = &lowered.builder;
    let has_path = |found: &Gradient| !matches!(found, Gradient::NoPath { .. });
    let any_path = found.iter().any(has_path);
    let mut gradients = Vec::new();
    for (tensor, gradient) in selected.iter().zip(found) {
        let name = &tensor.info.name;
        let value = match gradient {
            Gradient::Value(value) => *value,
            Gradient::Zero { value, ended_at } => {
                let at = ended_at.first().map_or_else(String::new, |&node| straight::at_node(builder, node));
                let passing = straight::suggested(&straight::named_nodes(builder, ended_at));
                let passing = passing.map_or_else(String::new, |flag| format!("; {flag} lets it pass"));
                warnings.push(Warning {
                    message: format!("the gradient of {} is zero by definition{at}{passing}", Quoted(name)),
                });
                *value
            }
            // What the target does not depend on at all has a gradient that is 0, without doubt.
            Gradient::NoPath { ended_at } if !any_path || (tensor.explicit && !ended_at.is_empty()) => {
                let with_path = selected.iter().zip(found).filter(|(_, found)| has_path(found));
                let ended_at = straight::named_nodes(builder, ended_at);
                return Err(Error::NoPath {
                    target: text.to_owned(),
                    name: name.clone(),
                    ended_at,
                    with_path: with_path.map(|(tensor, _)| tensor.info.name.clone()).collect(),
                });
            }
            Gradient::NoPath { .. } => {
                let (name, target) = (Quoted(name), Quoted(text));
                warnings.push(Warning { message: format!("{target} does not depend on {name}: zeros") });
                builder.splat(&type_of(&tensor.info.ty), 0.0).value()
            }
        };
        gradients.push(Found { name: name.clone(), value: tensor.value, gradient: value });
    }
    Ok(gradients)
}

/// Products of the Hessian with a direction.
#[derive(Default)]
pub(crate) struct Products {
    /// The directions, as inputs that follow all others.
    pub inputs: Vec<InputInfo>,
    /// By the names of the tensors.
    pub values: Vec<(String, Value)>,
}

impl Products {
    /// The derivatives of the gradients where their tensors move in the directions.
    pub fn build(lowered: &Lowered, found: &[Found], warnings: &mut Vec<Warning>) -> Result<Products> {
        let builder = &lowered.builder;
        let mut products = Products::default();
        let mut directions = Vec::new();
        for found in found {
            let (name, ty) = (format!("direction:{}", found.name), builder.ty(found.value));
            directions.push((found.value, builder.input(&name, ty.clone())));
            products.inputs.push(InputInfo { name, ty, role: Role::Direction(found.name.clone()) });
        }
        let gradients: Vec<Value> = found.iter().map(|found| found.gradient).collect();
        let moved = jvp(builder, &gradients, &directions).map_err(Error::internal)?;
        let is_flat = |moved: &Gradient| !matches!(moved, Gradient::Value(_));
        if moved.iter().all(is_flat) {
            let message = "the Hessian is zero: the gradients do not change, save at kinks".to_owned();
            warnings.push(Warning { message });
        }
        for (found, moved) in found.iter().zip(moved) {
            let value = match moved {
                Gradient::Value(value) | Gradient::Zero { value, .. } => value,
                Gradient::NoPath { .. } => builder.splat(&builder.ty(found.gradient), 0.0).value(),
            };
            products.values.push((found.name.clone(), value));
        }
        Ok(products)
    }
}

/// Refuses what does not go together.
pub(crate) fn check(jacobian: bool, hessian_product: bool, target: bool, training: bool) -> Result<()> {
    if jacobian && (target || training || hessian_product) {
        let what = "a Jacobian is of all elements of a tensor, not of a target";
        return Err(Error::option(what, "ask for the Jacobian alone"));
    }
    if hessian_product && training {
        let what = "steps of training yield no products with the Hessian";
        return Err(Error::option(what, "compile the products without an optimizer"));
    }
    Ok(())
}
