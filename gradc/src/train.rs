//! Training steps: the update of an optimizer as a part of the graph, so that it is compiled with the gradients.

use crate::{Error, InputInfo, Result, Role};
use gradc_frontend_onnx::Lowered;
use gradc_frontend_onnx::error::Quoted;
use gradc_frontend_onnx::lower::{InputKind, LoweredInput};
use gradc_ir::{Builder, DType, Expr, TensorType, UnaryOp, Value};

/// How parameters follow their gradients; the formulas and defaults are PyTorch's.
///
/// Below, `g` is the gradient of the parameter `p`, `r` the learning rate, and `t` the number of the step, from 1. Moments
/// begin with zeros.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Optimizer {
    /// `g += decay p; p -= r g`.
    Sgd {
        /// Decay of the weights, as a part of the gradient.
        decay: f64,
    },
    /// `g += decay p; m = momentum m + g; p -= r m`, with Nesterov's rule `p -= r (g + momentum m)`.
    Momentum {
        /// How much of the direction is kept from step to step.
        momentum: f64,
        /// Whether it looks a step ahead.
        nesterov: bool,
        /// Decay of the weights, as a part of the gradient.
        decay: f64,
    },
    /// `g += decay p; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g²;
    /// p -= r / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)`.
    Adam {
        /// How much of the first moment is kept.
        beta1: f64,
        /// How much of the second moment is kept.
        beta2: f64,
        /// Keeps the quotient finite.
        epsilon: f64,
        /// Decay of the weights, as a part of the gradient.
        decay: f64,
    },
    /// As [`Optimizer::Adam`], but the weights decay by themselves: `p *= 1 - r decay` comes first.
    AdamW {
        /// How much of the first moment is kept.
        beta1: f64,
        /// How much of the second moment is kept.
        beta2: f64,
        /// Keeps the quotient finite.
        epsilon: f64,
        /// Decay of the weights.
        decay: f64,
    },
}

impl Optimizer {
    /// The names that [`Optimizer::parse`] knows.
    pub const NAMES: [&str; 4] = ["sgd", "momentum", "adam", "adamw"];

    /// The optimizer with this name, with the usual settings: no decay but that of `adamw`, 0.01.
    pub fn parse(name: &str) -> Option<Optimizer> {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        match name {
            "sgd" => Some(Optimizer::Sgd { decay: 0.0 }),
            "momentum" => Some(Optimizer::Momentum { momentum: 0.9, nesterov: false, decay: 0.0 }),
            "adam" => Some(Optimizer::Adam { beta1, beta2, epsilon, decay: 0.0 }),
            "adamw" => Some(Optimizer::AdamW { beta1, beta2, epsilon, decay: 0.01 }),
            _ => None,
        }
    }

    /// Numbers that are the same for all parameters and differ from step to step.
    fn factors(self) -> &'static [Factor] {
        match self {
            Optimizer::Sgd { .. } | Optimizer::Momentum { .. } => &[Factor::Rate],
            Optimizer::Adam { .. } => &[Factor::Rate, Factor::Root],
            Optimizer::AdamW { .. } => &[Factor::Rate, Factor::Root, Factor::Keep],
        }
    }

    /// The value of a factor in a step, counted from 1.
    fn factor(self, factor: Factor, rate: f64, step: u64) -> f64 {
        let left = |beta: f64| 1.0 - beta.powf(step as f64);
        match (self, factor) {
            (Optimizer::Sgd { .. } | Optimizer::Momentum { .. }, _) => rate,
            (Optimizer::Adam { beta1, .. } | Optimizer::AdamW { beta1, .. }, Factor::Rate) => {
                rate / left(beta1)
            }
            (Optimizer::Adam { beta2, .. } | Optimizer::AdamW { beta2, .. }, Factor::Root) => {
                left(beta2).sqrt()
            }
            (Optimizer::Adam { decay, .. } | Optimizer::AdamW { decay, .. }, Factor::Keep) => {
                1.0 - rate * decay
            }
        }
    }

    fn moments(self) -> usize {
        match self {
            Optimizer::Sgd { .. } => 0,
            Optimizer::Momentum { .. } => 1,
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => 2,
        }
    }

    /// The new parameter and the new moments. `factor` gives a factor in the shape of the parameter.
    fn update<'b>(
        self,
        p: Expr<'b>,
        g: Expr<'b>,
        moments: &[Expr<'b>],
        factor: impl Fn(Factor) -> Expr<'b>,
    ) -> Vec<Expr<'b>> {
        let decayed = |decay: f64| if decay == 0.0 { g } else { g + p * decay };
        match self {
            Optimizer::Sgd { decay } => vec![p - decayed(decay) * factor(Factor::Rate)],
            Optimizer::Momentum { momentum, nesterov, decay } => {
                let g = decayed(decay);
                let m = moments[0] * momentum + g;
                let direction = if nesterov { g + m * momentum } else { m };
                vec![p - direction * factor(Factor::Rate), m]
            }
            Optimizer::Adam { beta1, beta2, epsilon, decay }
            | Optimizer::AdamW { beta1, beta2, epsilon, decay } => {
                let apart = matches!(self, Optimizer::AdamW { .. });
                let g = if apart { g } else { decayed(decay) };
                let p = if apart { p * factor(Factor::Keep) } else { p };
                let m = moments[0] + (g - moments[0]) * (1.0 - beta1);
                let v = moments[1] * beta2 + g * g * (1.0 - beta2);
                let root = v.unary(UnaryOp::Sqrt) / factor(Factor::Root) + epsilon;
                vec![p - m * factor(Factor::Rate) / root, m, v]
            }
        }
    }
}

/// A number of all parameters that differs from step to step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Factor {
    /// The learning rate, corrected for moments that began with zeros.
    Rate,
    /// The same correction of the root of the second moment.
    Root,
    /// What decay leaves of a parameter.
    Keep,
}

/// How a session makes steps.
pub(crate) struct Training {
    optimizer: Optimizer,
    /// The inputs that are factors.
    factors: Vec<(Factor, usize)>,
    /// The inputs that take the last results of a run, in order.
    pub updates: Vec<usize>,
}

/// A parameter: its name, its position among the inputs, its value and gradient.
pub(crate) type Parameter<'a> = (&'a str, usize, Value, Value);

impl Training {
    /// Adds the update of these parameters to a graph. Answers new inputs, which follow the `known` ones, and results.
    pub fn build(
        builder: &Builder,
        optimizer: Optimizer,
        parameters: &[Parameter<'_>],
        known: usize,
    ) -> Result<(Training, Vec<InputInfo>, Vec<Value>)> {
        let mut inputs: Vec<InputInfo> = Vec::new();
        let mut input = |name: String, ty: TensorType, role: Role| {
            let value = builder.input(&name, ty.clone());
            inputs.push(InputInfo { name, ty, role });
            (known + inputs.len() - 1, builder.expr(value))
        };
        let scalar = TensorType::scalar(DType::F64);
        let mut factors: Vec<(Factor, Value)> = Vec::new();
        let mut training = Training { optimizer, factors: Vec::new(), updates: Vec::new() };
        for &factor in optimizer.factors() {
            let name = format!("optimizer:{factor:?}").to_lowercase();
            let (position, value) = input(name, scalar.clone(), Role::Factor);
            factors.push((factor, value.value()));
            training.factors.push((factor, position));
        }
        let mut results = Vec::new();
        for &(name, position, value, gradient) in parameters {
            let ty = builder.ty(value);
            if !matches!(ty.dtype, DType::F32 | DType::F64) {
                let what =
                    format!("the parameter {} is of {}: steps are too small for it", Quoted(name), ty.dtype);
                return Err(Error::option(what, "train in f32: dtype(DType::F32)"));
            }
            let moments: Vec<(usize, Expr<'_>)> = (1..=optimizer.moments())
                .map(|moment| {
                    let name_of = format!("moment{moment}:{name}");
                    input(name_of, ty.clone(), Role::Moment(name.to_owned()))
                })
                .collect();
            let values: Vec<Expr<'_>> = moments.iter().map(|moment| moment.1).collect();
            let factor = |wanted: Factor| match factors.iter().find(|(factor, _)| *factor == wanted) {
                Some(&(_, value)) => builder.expr(value).cast(ty.dtype).broadcast(&ty.shape, &[]),
                None => unreachable!("an optimizer lists the factors that it uses"),
            };
            let (p, g) = (builder.expr(value), builder.expr(gradient));
            let new = optimizer.update(p, g, &values, factor);
            results.extend(new.into_iter().map(Expr::value));
            training.updates.push(position);
            training.updates.extend(moments.iter().map(|moment| moment.0));
        }
        Ok((training, inputs, results))
    }

    /// The inputs to set before a step, counted from 1, with this learning rate.
    pub fn factors(&self, rate: f64, step: u64) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.factors
            .iter()
            .map(move |&(factor, position)| (position, self.optimizer.factor(factor, rate, step)))
    }
}

/// The weights that have these gradients.
pub(crate) fn parameters<'a>(
    lowered: &Lowered,
    gradients: &'a [(String, Value)],
) -> Result<Vec<Parameter<'a>>> {
    let find = |(name, gradient): &'a (String, Value)| {
        let is_it = |input: &LoweredInput| input.name == *name && matches!(input.kind, InputKind::Weight(_));
        match lowered.inputs.iter().position(is_it) {
            Some(position) => Ok((name.as_str(), position, lowered.inputs[position].value, *gradient)),
            None => Err(Error::option(
                format!("{} is no parameter: it cannot be trained", Quoted(name)),
                "train the parameters: wrt(Wrt::params())",
            )),
        }
    };
    gradients.iter().map(find).collect()
}
