//! Classification by ensembles of decision trees.

use super::machine_learning::{DOMAIN, transformed};
use super::trees::{Forest, numbers};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, DType, Expr, Literal, Op, Shape};
use std::collections::BTreeSet;

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("TreeEnsembleClassifier", 1, Gradient::Zero, tree_ensemble_classifier).of(DOMAIN)];

fn tree_ensemble_classifier<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let labels = node.ints("classlabels_int64s")?.unwrap_or_default();
    let names = node.strings("classlabels_strings")?.unwrap_or_default();
    if context.wants(0) && labels.is_empty() {
        return Err(context.error("labels that are strings are not supported"));
    }
    let forest = Forest::of_tuples(context, "class")?;
    let base = numbers(context, "base_values")?;
    let voted: BTreeSet<i64> = forest.weights.iter().map(|&(_, class, _)| class).collect();
    match (labels.len().max(names.len()), voted.iter().next()) {
        (2, Some(&class)) if voted.len() == 1 => of_one_class(context, &forest, class, &base, labels),
        (2, _) if context.wants(0) => {
            // Runtimes do not take the greater one here.
            Err(context
                .error("the label of two classes that both have votes is not supported, only their scores"))
        }
        (classes, _) if classes >= 2 => of_all_classes(context, &forest, classes, &base, labels),
        (classes, _) => Err(context.error(format_args!("{classes} classes are not supported"))),
    }
}

/// What the leaves add to each class, `[samples, classes]`; and the leaves, with the type of the scores.
fn sums<'b>(context: &Context<'_, 'b>, forest: &Forest, classes: usize) -> Result<(Expr<'b>, Expr<'b>)> {
    let (leaves, dtype) = forest.leaves(context)?;
    let table = forest.table(context, classes, 0.0, |sum, weight| sum + weight)?.cast(dtype);
    Ok((context.push(Op::Gather { axis: 0 }, &[table, leaves])?.sum(&[1]), leaves))
}

fn label<'b>(context: &Context<'_, 'b>, labels: &[i64], place: Expr<'b>) -> Expr<'b> {
    context.constant(Literal::new([labels.len()], labels)).gather(0, place)
}

fn of_all_classes<'b>(
    context: &Context<'_, 'b>,
    forest: &Forest,
    classes: usize,
    base: &[f64],
    labels: &[i64],
) -> Outputs<'b> {
    let (mut scores, leaves) = sums(context, forest, classes)?;
    let refused = || context.node.attribute_error("base_values", format_args!("has {} entries", base.len()));
    let based = match base.len() {
        0 => false,
        count if count == classes && classes > 2 => {
            let base = context.constant(Literal::new([classes], base)).cast(scores.dtype());
            scores = scores + base.broadcast(&scores.shape(), &[1]);
            true
        }
        _ => return Err(refused()),
    };
    let result = transformed(context, scores)?.cast(context.float_type(DType::F32));
    // Never asked for where there are two classes.
    if labels.len() != classes {
        return Ok(vec![result, result]);
    }
    // A class without a vote does not win, be its score the greatest.
    let mut compared = scores;
    if !based {
        let votes = forest.table(context, classes, 0.0, |_, _| 1.0)?;
        let voted = context.push(Op::Gather { axis: 0 }, &[votes, leaves])?.reduce_max(&[1]);
        let voted = voted.gt(voted.splat(0.0));
        compared = voted.select(scores, scores.splat(f64::NEG_INFINITY));
    }
    let place = context.push(Op::ArgReduce { op: ArgOp::Max, axis: 1, last: false }, &[compared])?;
    Ok(vec![label(context, labels, place), result])
}

/// Two classes, and votes for one of them alone.
fn of_one_class<'b>(
    context: &Context<'_, 'b>,
    forest: &Forest,
    class: i64,
    base: &[f64],
    labels: &[i64],
) -> Outputs<'b> {
    let (all, _) = sums(context, forest, 2)?;
    let samples = Shape::new(&[all.shape()[0]]);
    let at = usize::from(class != 0);
    let mut score = all.slice_axis(1, at, at + 1).reshape(&samples);
    match base {
        [] => {}
        &[base] if class == 0 => score = score + base,
        _ => {
            return Err(context
                .node
                .attribute_error("base_values", format_args!("has {} entries", base.len())));
        }
    }
    let probability = forest.weights.iter().all(|&(_, _, weight)| weight >= 0.0);
    let threshold = if probability { 0.5 } else { 0.0 };
    let place = score.gt(score.splat(threshold)).cast(DType::I64);
    let columns =
        |a: Expr<'b>, b: Expr<'b>| context.builder().concat(1, &[a.insert_axis(1), b.insert_axis(1)]);
    let result = if class == 0 {
        match (context.node.string("post_transform", "NONE")?, probability) {
            ("LOGISTIC", _) => columns((-score).sigmoid(), score.sigmoid()),
            ("NONE" | "SOFTMAX", true) => columns(1.0 - score, score),
            ("NONE" | "SOFTMAX", false) => columns(-score, score),
            _ => return Err(context.node.attribute_error("post_transform", "is not supported")),
        }
    } else {
        transformed(context, columns(score.splat(0.0), score))?
    };
    let result = result.cast(context.float_type(DType::F32));
    let label = if labels.len() == 2 { label(context, labels, place) } else { place };
    Ok(vec![label, result])
}
