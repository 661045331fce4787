//! Regression by support vectors.

use super::machine_learning::{DOMAIN, samples};
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DotDims, Literal};

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("SVMRegressor", 1, Gradient::Smooth, svm_regressor).of(DOMAIN)];

/// A whole power up to this is a product.
const MOST_FACTORS: f64 = 16.0;

fn svm_regressor<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (samples(context)?, context.node);
    let features = x.shape()[1];
    let coefficients = node.required("coefficients", node.floats("coefficients")?)?;
    let supports = usize::try_from(node.int("n_supports", 0)?).unwrap_or(0);
    let vectors = node.floats("support_vectors")?.unwrap_or_default();
    if node.string("post_transform", "NONE")? != "NONE" {
        return Err(node.attribute_error("post_transform", "is not supported"));
    }
    let parameters = node.floats("kernel_params")?.unwrap_or_default();
    let parameter = |at: usize| f64::from(parameters.get(at).copied().unwrap_or(0.0));
    let (gamma, offset, degree) = (parameter(0), parameter(1), parameter(2));
    let fits = match supports {
        0 => coefficients.len() == features,
        _ => coefficients.len() == supports && supports.checked_mul(features) == Some(vectors.len()),
    };
    if !fits {
        return Err(context.error(format_args!("its lists do not fit {features} features")));
    }
    let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![1], ..DotDims::default() };
    let kernel = if supports == 0 {
        x
    } else {
        let vectors = context.constant(Literal::new([supports, features], vectors)).cast(x.dtype());
        let products = || x.dot(vectors, dims.clone());
        match node.string("kernel_type", "LINEAR")? {
            "LINEAR" => products(),
            "SIGMOID" => (products() * gamma + offset).tanh(),
            "POLY" => {
                let base = products() * gamma + offset;
                if degree.fract() == 0.0 && (1.0..=MOST_FACTORS).contains(&degree) {
                    (1..degree as usize).fold(base, |power, _| power * base)
                } else {
                    base.pow(base.splat(degree))
                }
            }
            "RBF" => {
                let shape = context.shape(&[x.shape()[0], supports, features])?;
                let difference = x.broadcast(&shape, &[0, 2]) - vectors.broadcast(&shape, &[1, 2]);
                ((difference * difference).sum(&[2]) * -gamma).exp()
            }
            _ => return Err(node.attribute_error("kernel_type", "is not known")),
        }
    };
    let weights = context.constant(Literal::new([1, coefficients.len()], coefficients)).cast(x.dtype());
    let rho = f64::from(node.floats("rho")?.and_then(|rho| rho.first().copied()).unwrap_or(0.0));
    let y = kernel.dot(weights, dims) + rho;
    Ok(vec![if node.flag("one_class", false)? {
        y.gt(y.splat(0.0)).select(y.splat(1.0), y.splat(-1.0))
    } else {
        y
    }])
}
