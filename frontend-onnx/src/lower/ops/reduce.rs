//! Reductions, searches and running sums.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, BinaryOp, CumulativeOp, DType, Expr, Op, ReduceOp};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("ArgMax", 1, Gradient::Zero, |c| search(c, ArgOp::Max)),
    Operator::new("ArgMin", 1, Gradient::Zero, |c| search(c, ArgOp::Min)),
    Operator::new("CumSum", 11, Gradient::Smooth, cumulative_sum),
    Operator::new("ReduceL1", 1, Gradient::Piecewise, |c| reduce(c, l1)),
    Operator::new("ReduceL2", 1, Gradient::Smooth, |c| reduce(c, l2)),
    Operator::new("ReduceLogSum", 1, Gradient::Smooth, |c| reduce(c, log_sum)),
    Operator::new("ReduceLogSumExp", 1, Gradient::Smooth, |c| reduce(c, log_sum_exp)),
    Operator::new("ReduceMax", 1, Gradient::Piecewise, |c| reduce(c, |r| r.apply(ReduceOp::Max, r.x))),
    Operator::new("ReduceMean", 1, Gradient::Smooth, |c| reduce(c, mean)),
    Operator::new("ReduceMin", 1, Gradient::Piecewise, |c| reduce(c, |r| r.apply(ReduceOp::Min, r.x))),
    Operator::new("ReduceProd", 1, Gradient::Smooth, |c| reduce(c, |r| r.apply(ReduceOp::Prod, r.x))),
    Operator::new("ReduceSum", 1, Gradient::Smooth, |c| reduce(c, |r| r.apply(ReduceOp::Sum, r.x))),
    Operator::new("ReduceSumSquare", 1, Gradient::Smooth, |c| {
        reduce(c, |r| r.apply(ReduceOp::Sum, r.square()?))
    }),
];

/// A reduction in the making.
struct Reduction<'a, 'c, 'b> {
    context: &'c Context<'a, 'b>,
    x: Expr<'b>,
    axes: Vec<usize>,
}

impl<'b> Reduction<'_, '_, 'b> {
    fn apply(&self, op: ReduceOp, x: Expr<'b>) -> Result<Expr<'b>> {
        self.context.reduce(op, x, &self.axes, false)
    }

    fn square(&self) -> Result<Expr<'b>> {
        self.context.binary(BinaryOp::Mul, self.x, self.x)
    }

    /// The operand as a float, for functions that have no integer form.
    fn float(&self) -> Expr<'b> {
        if self.x.dtype().is_float() { self.x } else { self.x.cast(DType::F64) }
    }
}

/// Axes are an attribute before opset 18 (13 for `ReduceSum`), an input since. None means all, but for
/// `noop_with_empty_axes`.
fn reduce<'b>(
    context: &Context<'_, 'b>,
    rule: for<'a, 'c> fn(&Reduction<'a, 'c, 'b>) -> Result<Expr<'b>>,
) -> Outputs<'b> {
    let x = context.input(0)?;
    let axes = context.ints_or_input("axes", 1)?.filter(|axes| !axes.is_empty());
    let axes = match axes {
        Some(axes) => context.axes(&axes, x.rank())?,
        None if context.node.flag("noop_with_empty_axes", false)? => Vec::new(),
        None => (0..x.rank()).collect(),
    };
    let kept = x.shape().with_ones(&axes);
    let keep = context.node.flag("keepdims", true)?;
    let dtype = x.dtype();
    let reduced = rule(&Reduction { context, x, axes })?.cast(dtype);
    Ok(vec![if keep { context.reshape(reduced, &kept)? } else { reduced }])
}

fn l1<'b>(reduction: &Reduction<'_, '_, 'b>) -> Result<Expr<'b>> {
    reduction.apply(ReduceOp::Sum, reduction.context.unary(gradc_ir::UnaryOp::Abs, reduction.x)?)
}

/// The gradient of the norm is 0 at 0.
fn l2<'b>(reduction: &Reduction<'_, '_, 'b>) -> Result<Expr<'b>> {
    let x = reduction.float();
    Ok(norm(reduction.apply(ReduceOp::Sum, x * x)?))
}

/// The square root of a sum of squares, with gradient 0 where that is 0.
pub(in crate::lower) fn norm(squares: Expr<'_>) -> Expr<'_> {
    let zero = squares.splat(0.0);
    let vanishes = squares.eq(zero);
    vanishes.select(zero, vanishes.select(squares.splat(1.0), squares).sqrt())
}

fn log_sum<'b>(reduction: &Reduction<'_, '_, 'b>) -> Result<Expr<'b>> {
    Ok(reduction.apply(ReduceOp::Sum, reduction.float())?.log())
}

/// Without overflow, and with gradient 0 where all are -inf.
fn log_sum_exp<'b>(reduction: &Reduction<'_, '_, 'b>) -> Result<Expr<'b>> {
    let x = reduction.float();
    let greatest = reduction.apply(ReduceOp::Max, x)?.stop_gradient();
    let finite = greatest.abs().lt(greatest.splat(f64::INFINITY));
    let shift = finite.select(greatest, greatest.splat(0.0));
    let sum = reduction.apply(ReduceOp::Sum, (x - shift.unreduce(&x.shape(), &reduction.axes)).exp())?;
    let vanishes = sum.eq(sum.splat(0.0));
    let log = vanishes.select(sum.splat(1.0), sum).log() + shift;
    Ok(vanishes.select(sum.splat(f64::NEG_INFINITY), log))
}

fn mean<'b>(reduction: &Reduction<'_, '_, 'b>) -> Result<Expr<'b>> {
    let shape = reduction.x.shape();
    let count: usize = reduction.axes.iter().map(|&axis| shape[axis]).product();
    Ok(reduction.apply(ReduceOp::Sum, reduction.x)? / count as f64)
}

fn search<'b>(context: &Context<'_, 'b>, op: ArgOp) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis_attribute(0, x.rank())?;
    let last = context.node.flag("select_last_index", false)?;
    let found = context.push(Op::ArgReduce { op, axis, last }, &[x])?;
    let keep = context.node.flag("keepdims", true)?;
    Ok(vec![if keep { found.insert_axis(axis) } else { found }])
}

fn cumulative_sum<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.ranked(0, 1)?;
    let axis = context.axis(context.known_i64(1, "the axis")?, x.rank())?;
    let exclusive = context.node.flag("exclusive", false)?;
    let reverse = context.node.flag("reverse", false)?;
    Ok(vec![context.push(Op::Cumulative { op: CumulativeOp::Sum, axis, exclusive, reverse }, &[x])?])
}
