//! Steps of optimizers, of `ai.onnx.preview.training`: new values of tensors from their gradients.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr};

const DOMAIN: &str = "ai.onnx.preview.training";

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Adagrad", 1, Gradient::Smooth, adagrad).of(DOMAIN),
    Operator::new("Adam", 1, Gradient::Smooth, adam).of(DOMAIN),
    Operator::new("Momentum", 1, Gradient::Smooth, momentum).of(DOMAIN),
];

/// The learning rate, the number of steps before this one, and the operands: all tensors, then all gradients, then
/// all of each state.
struct Step<'a, 'b, 'c> {
    context: &'c Context<'a, 'b>,
    rate: Expr<'b>,
    count: Expr<'b>,
    operands: Vec<Expr<'b>>,
    tensors: usize,
}

impl<'a, 'b, 'c> Step<'a, 'b, 'c> {
    /// Each tensor has so many operands: itself, its gradient, and its states.
    fn read(context: &'c Context<'a, 'b>, each: usize) -> Result<Step<'a, 'b, 'c>> {
        let scalar = |position: usize| -> Result<Expr<'b>> {
            let x = context.input(position)?;
            match x.shape().elements() {
                1 => context.reshape(x, &[]),
                _ => Err(context.error(format_args!("input {position} must be one number, is {}", x.ty()))),
            }
        };
        context.float(0)?;
        context.integer(1)?;
        let (rate, count) = (scalar(0)?, scalar(1)?);
        let operands: Vec<Expr<'b>> =
            (2..context.input_count()).map(|position| context.float(position)).collect::<Result<_>>()?;
        let tensors = operands.len() / each;
        if operands.is_empty() || !operands.len().is_multiple_of(each) {
            return Err(
                context.error(format_args!("{} operands are not {each} for each tensor", operands.len()))
            );
        }
        for (position, &operand) in operands.iter().enumerate() {
            let x = operands[position % tensors];
            context.expect_shape(operand, &x.shape(), &format!("input {}", position + 2))?;
            context.same_dtype(operand, x)?;
        }
        Ok(Step { context, rate, count, operands, tensors })
    }

    /// A number that is the same for all elements of `x`.
    fn spread(&self, e: Expr<'b>, x: Expr<'b>) -> Expr<'b> {
        e.cast(x.dtype()).broadcast(&x.shape(), &[])
    }

    fn number(&self, name: &str, default: f32) -> Result<f64> {
        Ok(self.context.node.float(name, default)? as f64)
    }

    fn required(&self, name: &str) -> Result<f64> {
        let node = self.context.node;
        Ok(node.required(name, node.optional_float(name)?)? as f64)
    }

    /// The outputs: for each tensor what `rule` answers of its operands, sorted as the operands are.
    fn update<const N: usize>(&self, rule: impl Fn(&[Expr<'b>]) -> [Expr<'b>; N]) -> Vec<Expr<'b>> {
        let each = |tensor: usize| {
            let own: Vec<Expr<'b>> =
                self.operands.iter().skip(tensor).step_by(self.tensors).copied().collect();
            rule(&own)
        };
        let results: Vec<[Expr<'b>; N]> = (0..self.tensors).map(each).collect();
        (0..N).flat_map(|part| results.iter().map(move |result| result[part])).collect()
    }
}

fn adagrad<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let step = Step::read(context, 3)?;
    let decay = step.number("decay_factor", 0.0)?;
    let (norm, epsilon) = (step.number("norm_coefficient", 0.0)?, step.number("epsilon", 1e-6)?);
    let rate = step.rate / (step.count.cast(step.rate.dtype()) * decay + 1.0);
    Ok(step.update(|own| {
        let (x, gradient) = (own[0], own[0] * norm + own[1]);
        let squares = own[2] + gradient * gradient;
        [x - step.spread(rate, x) * gradient / (squares.sqrt() + epsilon), squares]
    }))
}

fn adam<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let step = Step::read(context, 4)?;
    let (alpha, beta) = (step.number("alpha", 0.9)?, step.number("beta", 0.999)?);
    let (norm, post) = (step.number("norm_coefficient", 0.0)?, step.number("norm_coefficient_post", 0.0)?);
    let epsilon = step.number("epsilon", 1e-6)?;
    // The correction is computed of 1 where it does not hold, so that it is finite.
    let first = step.count.le(step.count.splat(0.0));
    let count = first.select(step.count.splat(1.0), step.count).cast(DType::F64);
    let missing = |base: f64| 1.0 - count.splat(base).pow(count);
    let correction = (missing(beta).sqrt() / missing(alpha)).cast(step.rate.dtype());
    let rate = first.select(step.rate, step.rate * correction);
    Ok(step.update(|own| {
        let (x, gradient) = (own[0], own[0] * norm + own[1]);
        let mean = own[2] * alpha + gradient * (1.0 - alpha);
        let squares = own[3] * beta + gradient * gradient * (1.0 - beta);
        let new = x - step.spread(rate, x) * mean / (squares.sqrt() + epsilon);
        [new * (1.0 - post), mean, squares]
    }))
}

fn momentum<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let step = Step::read(context, 3)?;
    let (alpha, beta, norm) =
        (step.required("alpha")?, step.required("beta")?, step.required("norm_coefficient")?);
    let nesterov = match context.node.required("mode", context.node.optional_string("mode")?)? {
        "nesterov" => true,
        "standard" => false,
        _ => return Err(context.node.attribute_error("mode", "is not known")),
    };
    let first = step.count.le(step.count.splat(0.0));
    let scale = first.select(step.rate.splat(1.0), step.rate.splat(beta));
    Ok(step.update(|own| {
        let (x, gradient) = (own[0], own[0] * norm + own[1]);
        let velocity = own[2] * alpha + step.spread(scale, x) * gradient;
        let direction = if nesterov { gradient + velocity * alpha } else { velocity };
        [x - step.spread(step.rate, x) * direction, velocity]
    }))
}
