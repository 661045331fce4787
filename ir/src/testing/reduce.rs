//! Reductions, running reductions, searches and normalizations.

use super::generator::{Generator, Known};
use crate::*;

impl Generator<'_> {
    pub(super) fn reduce(&mut self) -> Option<Known> {
        let op = *self.random.pick(&[ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min])?;
        let arithmetic = matches!(op, ReduceOp::Sum | ReduceOp::Prod);
        let x = self.any(|known| known.rank() > 0 && !(arithmetic && known.ty.dtype == DType::Bool))?;
        let axes = self.random.subset(x.rank(), 60);
        let count: usize = axes.iter().map(|&axis| x.ty.shape[axis]).product();
        if count == 0 && !arithmetic && x.is_float() {
            // It would yield an infinity.
            return None;
        }
        let (x, bound) = self.reduced(x, op == ReduceOp::Sum, op == ReduceOp::Prod, count)?;
        self.push(Op::Reduce { op, axes }, &[&x], bound, x.exact && !arithmetic)
    }

    /// The operand, small enough where its elements are multiplied, and the bound of a reduction of so many elements.
    fn reduced(&mut self, x: Known, adds: bool, multiplies: bool, count: usize) -> Option<(Known, f64)> {
        if multiplies && x.is_float() {
            return Some((self.scaled(x, 1.0)?, 1.0));
        }
        let bound = match (adds, multiplies) {
            (true, _) => x.bound * count.max(1) as f64,
            (_, true) => f64::INFINITY,
            _ => x.bound,
        };
        Some((x, bound))
    }

    pub(super) fn arg_reduce(&mut self) -> Option<Known> {
        let (x, axis) = self.exact_axis()?;
        let op = *self.random.pick(&[ArgOp::Max, ArgOp::Min])?;
        let length = x.ty.shape[axis] as f64;
        let last = self.random.percent(50);
        self.positions(Op::ArgReduce { op, axis, last }, &x, length)
    }

    pub(super) fn arg_sort(&mut self) -> Option<Known> {
        let (x, axis) = self.exact_axis()?;
        let length = x.ty.shape[axis] as f64;
        let descending = self.random.percent(50);
        let count =
            if self.random.percent(50) { x.ty.shape[axis] } else { self.random.below(x.ty.shape[axis] + 1) };
        self.positions(Op::ArgSort { axis, count, descending }, &x, length)
    }

    /// The elements in order, or the first few of them.
    pub(super) fn sorted(&mut self) -> Option<Known> {
        let x = self.any(|known| known.exact && known.elements() > 0 && known.rank() > 0)?;
        let length = x.elements();
        let line = self.push(Op::Reshape { shape: [length].into() }, &[&x], x.bound, true)?;
        let descending = self.random.percent(50);
        let count = if self.random.percent(50) { 1 + self.random.below(length) } else { length };
        let order = self.positions(Op::ArgSort { axis: 0, count, descending }, &line, length as f64)?;
        self.push(Op::Gather { axis: 0 }, &[&line, &order], line.bound, true)
    }

    fn exact_axis(&mut self) -> Option<(Known, usize)> {
        let x = self.any(|known| known.exact && known.rank() > 0 && known.elements() > 0)?;
        let axis = self.random.below(x.rank());
        Some((x, axis))
    }

    /// A node that yields positions.
    pub(super) fn positions(&mut self, op: Op, x: &Known, bound: f64) -> Option<Known> {
        if !self.options.dtypes.contains(&DType::I64) {
            return None;
        }
        self.push(op, &[x], bound, true)
    }

    pub(super) fn cumulative(&mut self) -> Option<Known> {
        let op = *self.random.pick(&[CumulativeOp::Sum, CumulativeOp::Prod])?;
        let x = self.any(|known| known.rank() > 0 && known.ty.dtype != DType::Bool)?;
        let axis = self.random.below(x.rank());
        let length = x.ty.shape[axis];
        let (x, bound) = self.reduced(x, op == CumulativeOp::Sum, op == CumulativeOp::Prod, length)?;
        let (exclusive, reverse) = (self.random.percent(50), self.random.percent(50));
        self.push(Op::Cumulative { op, axis, exclusive, reverse }, &[&x], bound, false)
    }

    pub(super) fn softmax(&mut self) -> Option<Known> {
        let x = self.any(|known| known.is_float() && known.rank() > 0)?;
        let axis = self.random.below(x.rank());
        if self.random.percent(50) {
            return self.push(Op::Softmax { axis }, &[&x], 1.0, false);
        }
        let bound = 2.0 * x.bound + (x.ty.shape[axis].max(1) as f64).ln();
        self.push(Op::LogSoftmax { axis }, &[&x], bound, false)
    }
}
