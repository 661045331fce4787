//! Sums of products in Einstein's notation.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, DType, DotDims, Expr, Op, ReduceOp, TensorType};
use std::collections::BTreeMap;

pub(in crate::lower) const OPERATORS: &[Operator] = &[Operator::new("Einsum", 12, Gradient::Smooth, einsum)];

/// What names an axis: a letter, or a place in the ellipsis counted from its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A tensor whose axes are named.
struct Term<'b> {
    x: Expr<'b>,
    labels: Vec<Label>,
}

fn einsum<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let equation = context.node.required("equation", context.node.optional_string("equation")?)?;
    let equation: String = equation.chars().filter(|letter| !letter.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let operands = context.inputs()?;
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != operands.len() {
        return Err(context.error(format_args!("{} terms for {} operands", terms.len(), operands.len())));
    }
    let mut lengths: BTreeMap<Label, usize> = BTreeMap::new();
    let mut parsed = Vec::new();
    for (&x, term) in operands.iter().zip(&terms) {
        let labels = labels(context, term, Some(x.rank()))?;
        for (&label, &length) in labels.iter().zip(x.shape().iter()) {
            let common = lengths.entry(label).or_insert(length);
            if *common == 1 {
                *common = length;
            }
            if length != 1 && length != *common {
                return Err(
                    context.error(format_args!("{equation}: an axis has lengths {common} and {length}"))
                );
            }
        }
        parsed.push((x, labels));
    }
    let ellipsis = lengths.keys().filter(|label| matches!(label, Label::Ellipsis(_))).count();
    let output = match right {
        Some(right) => labels(context, right, None).map(|labels| spread(labels, ellipsis))?,
        None => implicit(&terms, ellipsis),
    };
    if let Some(label) = output.iter().find(|label| !lengths.contains_key(label)) {
        return Err(context.error(format_args!("{equation}: {label:?} of the result is in no operand")));
    }
    if output.iter().enumerate().any(|(position, label)| output[..position].contains(label)) {
        return Err(context.error(format_args!("{equation}: the result names an axis twice")));
    }
    let mut terms = Vec::new();
    for (x, labels) in parsed {
        let full: Vec<usize> = labels.iter().map(|label| lengths[label]).collect();
        terms.push(diagonal(context, Term { x: context.broadcast_to(x, &full)?, labels })?);
    }
    let mut rest = terms.into_iter();
    let mut product = rest.next().ok_or_else(|| context.error("has no input"))?;
    while let Some(next) = rest.next() {
        let wanted = |label: &Label| {
            output.contains(label) || rest.as_slice().iter().any(|t| t.labels.contains(label))
        };
        product = multiply(context, product, next, &wanted)?;
    }
    let product = sum_out(context, product, |label| output.contains(label))?;
    let place = |label: &Label| product.labels.iter().position(|own| own == label);
    let permutation: Vec<usize> = output.iter().filter_map(place).collect();
    Ok(vec![context.push(Op::Transpose { permutation }, &[product.x])?])
}

/// The labels of a term. Of an operand the rank is known, so an ellipsis is as long as what the letters leave; of the
/// result it stands as one label, to be spread later.
fn labels(context: &Context<'_, '_>, term: &str, rank: Option<usize>) -> Result<Vec<Label>> {
    let invalid = || context.node.attribute_error("equation", format_args!("has the invalid term {term:?}"));
    let letters = term.chars().filter(|letter| *letter != '.').count();
    let dots = term.matches("...").count();
    if dots > 1 || term.matches('.').count() != 3 * dots {
        return Err(invalid());
    }
    let hidden = match rank {
        Some(rank) if dots == 0 && letters != rank => return Err(invalid()),
        Some(rank) => rank.checked_sub(letters).ok_or_else(invalid)?,
        None => 1,
    };
    let mut labels = Vec::new();
    for letter in term.replacen("...", "\u{2026}", 1).chars() {
        match letter {
            '\u{2026}' => labels.extend((0..hidden).rev().map(Label::Ellipsis)),
            'a'..='z' | 'A'..='Z' => labels.push(Label::Letter(letter)),
            _ => return Err(invalid()),
        }
    }
    Ok(labels)
}

fn spread(labels: Vec<Label>, ellipsis: usize) -> Vec<Label> {
    let spread = labels.into_iter().flat_map(|label| match label {
        Label::Ellipsis(_) => (0..ellipsis).rev().map(Label::Ellipsis).collect(),
        Label::Letter(_) => vec![label],
    });
    spread.collect()
}

/// Without an arrow the result has the axes of the ellipsis, then the letters that stand once, in order.
fn implicit(terms: &[&str], ellipsis: usize) -> Vec<Label> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    for letter in terms.iter().flat_map(|term| term.chars()).filter(|letter| *letter != '.') {
        *counts.entry(letter).or_default() += 1;
    }
    let once = counts.into_iter().filter(|(_, count)| *count == 1).map(|(letter, _)| Label::Letter(letter));
    (0..ellipsis).rev().map(Label::Ellipsis).chain(once).collect()
}

/// Takes the diagonal of axes that share a label.
fn diagonal<'b>(context: &Context<'_, 'b>, mut term: Term<'b>) -> Result<Term<'b>> {
    loop {
        let labels = &term.labels;
        let repeated = (0..labels.len())
            .find_map(|second| Some((labels[..second].iter().position(|l| *l == labels[second])?, second)));
        let Some((first, second)) = repeated else { return Ok(term) };
        // Both axes first and flattened, the diagonal is every (length + 1)-th element.
        let rank = labels.len();
        let others: Vec<usize> = (0..rank).filter(|&axis| axis != first && axis != second).collect();
        let permutation: Vec<usize> = [first, second].into_iter().chain(others.iter().copied()).collect();
        let x = term.x.transpose(&permutation);
        let length = x.shape()[0];
        let lengths: Vec<usize> =
            std::iter::once(length * length).chain(x.shape()[2..].iter().copied()).collect();
        let counts = context.builder().iota(TensorType::new(DType::I64, [length]), 0);
        let index = counts * (length + 1) as f64;
        let x = context.push(Op::Gather { axis: 0 }, &[context.reshape(x, &lengths)?, index])?;
        let labels = std::iter::once(labels[first]).chain(others.iter().map(|&axis| labels[axis])).collect();
        term = Term { x, labels };
    }
}

fn sum_out<'b>(context: &Context<'_, 'b>, term: Term<'b>, kept: impl Fn(&Label) -> bool) -> Result<Term<'b>> {
    let gone: Vec<usize> = (0..term.labels.len()).filter(|&axis| !kept(&term.labels[axis])).collect();
    let x = context.reduce(ReduceOp::Sum, term.x, &gone, false)?;
    Ok(Term { x, labels: term.labels.into_iter().filter(kept).collect() })
}

/// Multiplies two terms and sums over what is not wanted any more.
fn multiply<'b>(
    context: &Context<'_, 'b>,
    a: Term<'b>,
    b: Term<'b>,
    wanted: &dyn Fn(&Label) -> bool,
) -> Result<Term<'b>> {
    let b_labels = b.labels.clone();
    let a = sum_out(context, a, |label| wanted(label) || b_labels.contains(label))?;
    let b = sum_out(context, b, |label| wanted(label) || a.labels.contains(label))?;
    if a.labels == b.labels && a.labels.iter().all(wanted) {
        return Ok(Term { x: context.binary(BinaryOp::Mul, a.x, b.x)?, labels: a.labels });
    }
    let mut dims = DotDims::default();
    for (axis, label) in a.labels.iter().enumerate() {
        let Some(other) = b.labels.iter().position(|own| own == label) else { continue };
        let (left, right) = if wanted(label) {
            (&mut dims.lhs_batch, &mut dims.rhs_batch)
        } else {
            (&mut dims.lhs_contract, &mut dims.rhs_contract)
        };
        left.push(axis);
        right.push(other);
    }
    let batch = dims.lhs_batch.iter().map(|&axis| a.labels[axis]);
    let free_a = dims.lhs_free(a.labels.len()).into_iter().map(|axis| a.labels[axis]);
    let free_b = dims.rhs_free(b.labels.len()).into_iter().map(|axis| b.labels[axis]);
    let labels = batch.chain(free_a).chain(free_b).collect();
    Ok(Term { x: context.push(Op::Dot(dims), &[a.x, b.x])?, labels })
}
