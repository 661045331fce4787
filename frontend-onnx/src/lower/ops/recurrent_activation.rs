//! The functions that recurrent operators name.

use super::activation::{clamp, relu};
use gradc_ir::Expr;
use std::slice::Iter;

/// A function of one number, with its parameters.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    Softsign,
    Softplus,
    Affine { alpha: f64, beta: f64 },
    LeakyRelu { alpha: f64 },
    ThresholdedRelu { alpha: f64 },
    ScaledTanh { alpha: f64, beta: f64 },
    HardSigmoid { alpha: f64, beta: f64 },
    Elu { alpha: f64 },
}

impl Activation {
    /// The function with this name, in any case. It takes the parameters that it has from the lists, where they are
    /// not used up.
    pub fn new(name: &str, alphas: &mut Iter<'_, f32>, betas: &mut Iter<'_, f32>) -> Option<Activation> {
        let mut alpha = |default: f64| alphas.next().map_or(default, |&alpha| alpha as f64);
        let mut beta = |default: f64| betas.next().map_or(default, |&beta| beta as f64);
        Some(match name.to_ascii_lowercase().as_str() {
            "relu" => Activation::Relu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "softsign" => Activation::Softsign,
            "softplus" => Activation::Softplus,
            "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
            "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "elu" => Activation::Elu { alpha: alpha(1.0) },
            _ => return None,
        })
    }

    /// The function of each element.
    pub fn apply(self, x: Expr<'_>) -> Expr<'_> {
        let zero = x.splat(0.0);
        match self {
            Activation::Relu => relu(x),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Softsign => x / (1.0 + x.abs()),
            Activation::Softplus => x.softplus(),
            Activation::Affine { alpha, beta } => x * alpha + beta,
            Activation::LeakyRelu { alpha } => x.le(zero).select(x * alpha, x),
            Activation::ThresholdedRelu { alpha } => x.le(x.splat(alpha)).select(zero, x),
            Activation::ScaledTanh { alpha, beta } => (x * beta).tanh() * alpha,
            Activation::HardSigmoid { alpha, beta } => clamp(x * alpha + beta, 0.0, 1.0),
            Activation::Elu { alpha } => {
                let negative = x.gt(zero).select(zero, x);
                x.le(zero).select(negative.expm1() * alpha, x)
            }
        }
    }
}
