//! Regression and classification by support vectors.

use super::machine_learning::{DOMAIN, samples, transformed};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, DType, DotDims, Expr, Literal, Op};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("SVMClassifier", 1, Gradient::Smooth, svm_classifier).of(DOMAIN),
    Operator::new("SVMRegressor", 1, Gradient::Smooth, svm_regressor).of(DOMAIN),
];

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
    let fits = match supports {
        0 => coefficients.len() == features,
        _ => coefficients.len() == supports && supports.checked_mul(features) == Some(vectors.len()),
    };
    if !fits {
        return Err(context.error(format_args!("its lists do not fit {features} features")));
    }
    let kernel = if supports == 0 { x } else { kernel(context, x, supports, vectors)? };
    let weights = context.constant(Literal::new([1, coefficients.len()], coefficients)).cast(x.dtype());
    let rho = f64::from(node.floats("rho")?.and_then(|rho| rho.first().copied()).unwrap_or(0.0));
    let y = rows(kernel, weights) + rho;
    let y = match node.flag("one_class", false)? {
        true => y.gt(y.splat(0.0)).select(y.splat(1.0), y.splat(-1.0)),
        false => y,
    };
    Ok(vec![y.cast(context.float_type(DType::F32))])
}

/// The products of all rows of one with all rows of the other.
fn rows<'b>(a: Expr<'b>, b: Expr<'b>) -> Expr<'b> {
    a.dot(b, DotDims { lhs_contract: vec![1], rhs_contract: vec![1], ..DotDims::default() })
}

/// How near each sample is to each vector, as the kernel of the node measures it: `[samples, vectors]`.
fn kernel<'b>(context: &Context<'_, 'b>, x: Expr<'b>, supports: usize, vectors: &[f32]) -> Result<Expr<'b>> {
    let (node, features) = (context.node, x.shape()[1]);
    let parameters = node.floats("kernel_params")?.unwrap_or_default();
    let parameter = |at: usize| f64::from(parameters.get(at).copied().unwrap_or(0.0));
    let (gamma, offset, degree) = (parameter(0), parameter(1), parameter(2));
    let vectors = context.constant(Literal::new([supports, features], vectors)).cast(x.dtype());
    let products = || rows(x, vectors);
    Ok(match node.string("kernel_type", "LINEAR")? {
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
    })
}

/// Each two classes are told apart by their own vectors, and the class that wins most often is the label. The scores
/// are those of the pairs; of two classes, that of the first is the pair's with its sign changed.
fn svm_classifier<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (samples(context)?, context.node);
    let labels = node.ints("classlabels_ints")?.unwrap_or_default();
    let names = node.strings("classlabels_strings")?.unwrap_or_default();
    if context.wants(0) && labels.is_empty() {
        return Err(context.error("labels that are strings are not supported"));
    }
    if node.floats("prob_a")?.is_some_and(|a| !a.is_empty()) {
        return Err(node.attribute_error("prob_a", "is not supported: probabilities of calibrated scores"));
    }
    let counts = context.lengths(node.ints("vectors_per_class")?.unwrap_or_default(), "vectors_per_class")?;
    let classes = labels.len().max(names.len());
    if counts.is_empty() || classes < 2 {
        return Err(context.error("only two classes or more, each with vectors, are supported"));
    }
    let list = |name: &str| -> Result<&[f32]> { Ok(node.floats(name)?.unwrap_or_default()) };
    let (vectors, coefficients, rho) = (list("support_vectors")?, list("coefficients")?, list("rho")?);
    let supports = counts.iter().try_fold(0usize, |sum, &count| sum.checked_add(count)).unwrap_or(0);
    let pairs: Vec<[usize; 2]> = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| [i, j])).collect();
    let fits = counts.len() == classes
        && supports.checked_mul(x.shape()[1]) == Some(vectors.len())
        && supports.checked_mul(classes - 1) == Some(coefficients.len())
        && rho.len() == pairs.len();
    if !fits || supports == 0 {
        return Err(context.error(format_args!("its lists do not fit {} features", x.shape()[1])));
    }
    let start = |class: usize| counts[..class].iter().sum::<usize>();
    // A row for each pair: what the vectors of each of both classes say against the other.
    let mut table = vec![0f32; pairs.len() * supports];
    for (row, &[i, j]) in pairs.iter().enumerate() {
        for (class, line) in [(i, j - 1), (j, i)] {
            let own = start(class)..start(class) + counts[class];
            table[row * supports..][own.clone()].copy_from_slice(&coefficients[line * supports..][own]);
        }
    }
    let near = kernel(context, x, supports, vectors)?;
    let table = context.constant(Literal::new([pairs.len(), supports], &table)).cast(x.dtype());
    let scores = rows(near, table);
    let rho = context.constant(Literal::new([rho.len()], rho)).cast(x.dtype());
    let scores = scores + rho.broadcast(&scores.shape(), &[1]);
    let first = scores.gt(scores.splat(0.0));
    // What a class is given by each pair that is won by its first class, and by each that is not.
    let votes = |won: usize| {
        let voted = |class: usize| pairs.iter().map(move |pair| i32::from(pair[won] == class));
        let all: Vec<i32> = (0..classes).flat_map(voted).collect();
        context.constant(Literal::new([classes, pairs.len()], &all))
    };
    let votes = rows(first.cast(DType::I32), votes(0)) + rows(first.logical_not().cast(DType::I32), votes(1));
    let place = context.push(Op::ArgReduce { op: ArgOp::Max, axis: 1, last: false }, &[votes])?;
    let label = match labels.len() == classes {
        true => context.constant(Literal::new([classes], labels)).gather(0, place),
        false => place,
    };
    let scores = if classes > 2 { scores } else { context.builder().concat(1, &[-scores, scores]) };
    if classes == 2 && !matches!(node.string("post_transform", "NONE")?, "NONE" | "LOGISTIC") {
        return Err(node.attribute_error("post_transform", "is not supported for two classes"));
    }
    Ok(vec![label, transformed(context, scores)?.cast(context.float_type(DType::F32))])
}
