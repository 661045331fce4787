//! Rules of operators that move elements: each is the transpose of the move.

use super::rules::{Cotangents, Site};
use gradc_ir::{DType, Expr, Literal, TensorType};

/// The sum over the axes that were repeated.
pub(super) fn broadcast<'b>(dims: &[usize], g: Expr<'b>) -> Expr<'b> {
    g.sum(&(0..g.rank()).filter(|axis| !dims.contains(axis)).collect::<Vec<_>>())
}

/// The inverse permutation.
pub(super) fn transpose<'b>(permutation: &[usize], g: Expr<'b>) -> Expr<'b> {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(position, &axis)| inverse[axis] = position);
    g.transpose(&inverse)
}

/// Zeros where elements were left out.
pub(super) fn slice<'b>(start: &[usize], step: &[usize], x: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let (lengths, kept) = (x.shape(), g.shape());
    let reach = |axis: usize| match kept[axis] {
        0 => start[axis],
        count => start[axis] + (count - 1) * step[axis] + 1,
    };
    let low: Vec<i64> = start.iter().map(|&start| start as i64).collect();
    let high: Vec<i64> = (0..lengths.rank()).map(|axis| (lengths[axis] - reach(axis)) as i64).collect();
    let interior: Vec<usize> = step.iter().map(|step| step - 1).collect();
    g.pad(zero(g), &low, &high, &interior)
}

/// The elements that came from x, and the sum of all others.
pub(super) fn pad<'b>(low: &[i64], high: &[i64], interior: &[usize], site: &Site<'b, '_>) -> Cotangents<'b> {
    let (x, g) = (site.operands[0], site.cotangent());
    let from_operand = || {
        let back = |amounts: &[i64]| amounts.iter().map(|amount| -amount).collect::<Vec<_>>();
        let spread = g.pad(zero(g), &back(low), &back(high), &vec![0; g.rank()]);
        let step: Vec<usize> = interior.iter().map(|interior| interior + 1).collect();
        spread.slice(&vec![0; g.rank()], &spread.shape(), &step)
    };
    let from_value = || {
        let inside = site.builder.splat(&TensorType::new(DType::Bool, x.shape()), 0.0);
        let outside = site.builder.constant(Literal::scalar(true));
        inside.pad(outside, low, high, interior).select(g, g.splat(0.0)).sum_all()
    };
    site.both(from_operand, from_value)
}

/// To each operand its stretch.
pub(super) fn concat<'b>(axis: usize, site: &Site<'b, '_>) -> Cotangents<'b> {
    let g = site.cotangent();
    let mut start = 0;
    let stretches = site.operands.iter().zip(site.needed).map(|(operand, &needed)| {
        let limit = start + operand.shape()[axis];
        let stretch = needed.then(|| g.slice_axis(axis, start, limit));
        start = limit;
        stretch
    });
    stretches.collect()
}

fn zero(g: Expr<'_>) -> Expr<'_> {
    g.builder().constant(Literal::scalar_of(g.dtype(), 0.0))
}
