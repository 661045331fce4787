//! Gradient conformance of ONNX operators: ONNX's own node tests, differentiated.
//!
//! Each node test with a float input and a float output is a gradient test: the vector-Jacobian product of the model
//! with fixed cotangents, in f64, is held against finite differences of the model itself. `docs/gradient-conformance.md`
//! says what is compared, how closely, and how other systems can be held to it.

mod case;
mod differences;
mod examine;
mod exchange;
mod function;
mod twins;

pub use case::Case;
pub use differences::{Slopes, slopes};
pub use examine::examine;
pub use exchange::Exchange;
pub use twins::{base_name, compare_twins};

use std::collections::BTreeMap;

/// How a gradient test ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Class {
    /// The gradient agrees with the differences everywhere, and it is not zero.
    Passed,
    /// It agrees where the function is smooth, and lies between the slopes on both sides where it is not.
    Kink,
    /// The function is constant almost everywhere: the gradient is exactly zero or was refused with the error that says
    /// so, and all differences are zero too.
    Zero,
    /// The model cannot be compiled for gradients; why.
    Refused(String),
    /// The gradient is wrong, or cannot be told to be right; why.
    Failed(String),
}

impl Class {
    /// The word that stands for it in the manifest, for those that conform.
    pub fn conforms(&self) -> Option<&'static str> {
        match self {
            Class::Passed => Some("passed"),
            Class::Kink => Some("kink"),
            Class::Zero => Some("zero"),
            Class::Refused(_) | Class::Failed(_) => None,
        }
    }
}

/// The gradient with respect to one tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Gradient {
    /// The tensor's name in the model.
    pub name: String,
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    /// The elements, in row-major order.
    pub elements: Vec<f64>,
    /// What else would be a gradient: for the elements at which the function has a kink, the least and the greatest
    /// slope. Empty where the elements were not stepped one by one.
    pub kinks: BTreeMap<usize, [f64; 2]>,
}

impl Gradient {
    /// How far other elements are from these, as a part of the norm of these. At kinks any of the slopes is as good.
    /// Equal infinities and NaNs are no difference.
    pub fn distance(&self, other: &[f64]) -> f64 {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let apart = |(position, (own, other)): (usize, (&f64, &f64))| match self.kinks.get(&position) {
            _ if own == other || (own.is_nan() && other.is_nan()) => 0.0,
            Some([low, high]) => other - other.clamp(*low, *high),
            None => other - own,
        };
        let apart = norm(&mut self.elements.iter().zip(other).enumerate().map(apart));
        let size = norm(&mut self.elements.iter().copied().filter(|x| x.is_finite()));
        if apart == 0.0 { 0.0 } else { apart / size }
    }
}

/// What became of a gradient test.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// How it ends.
    pub class: Class,
    /// The gradients that were judged; none where they were refused.
    pub gradients: Vec<Gradient>,
}
