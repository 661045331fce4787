//! Reverse-mode differentiation: a transform that extends a graph in the making by its gradients.
//!
//! [`vjp`] walks the forward nodes backwards ([`walk`]) and asks the rule book ([`rules`]) what each node hands to its
//! operands. Rules are written with ordinary nodes, so a gradient can be differentiated again. What they have in
//! common:
//!
//! - *Only what is between the targets and the `wrt` values is built.* An operand that no `wrt` value reaches gets no
//!   cotangent: the exponent of `x^2` computes no logarithm.
//! - *A zero cotangent never meets an infinite factor* (module `guard`): where a derivative can be infinite or NaN
//!   (square roots, logarithms, quotients, powers, ...), a cotangent of 0 yields 0. Products are guarded only where
//!   the other factor visibly comes from such a function; those of [`Dot`](gradc_ir::Op::Dot) and
//!   [`Conv`](gradc_ir::Op::Conv) never are.
//! - *The guard does not hide second derivatives:* it replaces the infinite factor, not the product, so the
//!   derivative in the cotangent itself stays right where the factor is finite.
//! - *Ties share.* Elementwise and reducing maxima give 1/k to each of k equals, and k is counted in i64. Where the
//!   forward reports an index (window maxima), that element gets everything.
//! - *Small floats accumulate wide.* Gradients of f16 and bf16 that many steps add up (repeated indices, constants of
//!   a loop, tie shares) are formed in f32 and rounded once.
//!
//! # Loops
//!
//! The gradient of a [`Scan`](gradc_ir::Op::Scan) is a scan in the other direction over *residuals*: the values of
//! each forward step that the backward step uses. They come from a second forward scan on the same operands whose
//! stacked outputs are the residuals. That scan would repeat the work of the first, so
//! [`merge_scans`](crate::merge_scans) must run on the finished graph: it unites scans with the same operands and the
//! same carries into one.

mod absent;
mod elementwise;
mod flow;
mod guard;
mod indexing;
mod jacobian;
mod jvp;
mod movement;
mod products;
mod reductions;
mod residuals;
mod rules;
mod scan;
mod stacking;
mod walk;

pub use jacobian::jacobian;
pub use jvp::jvp;

use gradc_ir::{Builder, Node, TensorType, Value};

/// What [`vjp`] found for one `wrt` value, or [`jvp`] for one output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gradient {
    /// The gradient, of the type of the `wrt` value.
    Value(Value),
    /// The gradient is zero by definition: every path to the targets leads through functions that are constant
    /// almost everywhere (sign, floor, ceil, round), or ends.
    Zero {
        /// Zeros of the type of the `wrt` value.
        value: Value,
        /// The nodes at which the paths ended, in order.
        ended_at: Vec<Value>,
    },
    /// No differentiable path leads to the targets.
    NoPath {
        /// The nodes at which the paths ended (comparisons, casts to integers, positions, stopped gradients, ...), in
        /// order. Empty where no target depends on the `wrt` value at all.
        ended_at: Vec<Value>,
    },
}

/// Why a gradient cannot be formed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GradError {
    /// A target is a tuple or has elements that carry no gradient.
    #[error("{target} cannot be differentiated: it is {found}, not a tensor of floats")]
    Target {
        /// The target.
        target: Value,
        /// What it is.
        found: String,
    },
    /// A cotangent (or tangent) is not of the type of what it belongs to.
    #[error("the cotangent of {target} must be {wanted}, got {got}")]
    Seed {
        /// What it belongs to.
        target: Value,
        /// The type of that.
        wanted: TensorType,
        /// The type of the cotangent.
        got: TensorType,
    },
    /// A value to differentiate by is a tuple or has elements that carry no gradient.
    #[error("no gradient exists with respect to {wrt}: it is {found}, not a tensor of floats")]
    Wrt {
        /// The value.
        wrt: Value,
        /// What it is.
        found: String,
    },
    /// A path leads through fused nodes. Differentiation comes before fusion.
    #[error("a path leads through {node}, a group of fused nodes: differentiate before fusing")]
    Fused {
        /// The fused node, in the graph or in the body of one of its loops.
        node: Value,
    },
}

/// The gradients of `sum over seeds of <target, cotangent>` with respect to each value of `wrt`.
///
/// The builder already holds the forward nodes; the backward nodes are added to it and inherit the
/// [origins](Builder::set_origin) of the nodes they differentiate; the builder's current origin is `None` afterwards.
/// A target may stand more than once. A `wrt` value may be any value, an intermediate one too: its gradient then
/// counts what flows through that value, and gradients of values before it are not cut off by it.
///
/// Call [`merge_scans`](crate::merge_scans) on the finished graph where it may hold loops.
pub fn vjp(builder: &Builder, seeds: &[(Value, Value)], wrt: &[Value]) -> Result<Vec<Gradient>, GradError> {
    for &(target, seed) in seeds {
        check_pair(builder, target, seed, |found| GradError::Target { target, found })?;
    }
    for &wrt in wrt {
        float_type(&builder.node(wrt)).map_err(|found| GradError::Wrt { wrt, found })?;
    }
    let cotangents = walk::pull(builder, seeds, wrt)?;
    let targets: Vec<Value> = seeds.iter().map(|&(target, _)| target).collect();
    let answer = |(&wrt, cotangent): (&Value, Option<Value>)| match cotangent {
        Some(cotangent) => Gradient::Value(cotangent),
        None => absent::explain(builder, &[wrt], &targets, &builder.ty(wrt)),
    };
    Ok(wrt.iter().zip(cotangents).map(answer).collect())
}

/// Checks that the first is a tensor of floats and the second of the same type.
fn check_pair(
    builder: &Builder,
    of: Value,
    value: Value,
    fault: impl FnOnce(String) -> GradError,
) -> Result<(), GradError> {
    let wanted = float_type(&builder.node(of)).map_err(fault)?;
    let got = builder.ty(value);
    if got == wanted { Ok(()) } else { Err(GradError::Seed { target: of, wanted, got }) }
}

fn float_type(node: &Node) -> Result<TensorType, String> {
    match &node.types[..] {
        [ty] if ty.dtype.is_float() && !node.is_tuple() => Ok(ty.clone()),
        [ty] if !node.is_tuple() => Err(ty.to_string()),
        types => Err(format!("a tuple of {}", types.len())),
    }
}
