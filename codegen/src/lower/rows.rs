//! Groups with reductions: all of them over one set of axes, so that they share their loops.
//!
//! Usually the loops over what is kept stand outside, and inside of them, level by level, run loops over the reduced
//! axes: a reduction runs as soon as those that it needs have run, and outputs are stored in the first loop that can
//! compute them. Reductions over leading axes run the other way round, so that memory is read in order: rows outside,
//! and partial results in the outputs themselves, a strip of columns at a time.

use super::cluster::{Cluster, merge_axes};
use super::nest::{affine, flatten};
use super::scalars;
use crate::loops::{Access, BinaryOp, BufferId, Index, ReduceOp as LoopReduceOp, Var};
use gradc_ir::{DType, Graph, Op, ReduceOp, Shape, UnaryOp, Value};

/// Columns that are reduced together, at least.
const NARROWEST: usize = 16;
/// Columns that are reduced together where other threads need some too, at most; fewer only by way of the shape.
const SHARED: usize = 256;
/// Columns that are reduced together, at most: partial results stay in the nearest cache.
const WIDEST: usize = 2048;

/// The common loops of a body's reductions: all reduce `domain` over `axes`, and every output has either the
/// domain's shape or what is left of it.
pub(super) struct Rows {
    domain: Shape,
    axes: Vec<usize>,
    /// For each node, how many reductions must have run, one after another, before it is known.
    levels: Vec<usize>,
    /// The reductions in definition order.
    reductions: Vec<Value>,
    scheme: Scheme,
}

/// In which order the loops stand.
enum Scheme {
    /// Kept axes outside, reduced axes inside. The value of `kept`, if any, is expensive and needed in a later loop
    /// too: it waits in the memory of the output at a position.
    Rows { kept: Option<(Value, usize)> },
    /// Strips of this many columns outside, then the reduced axes, then columns.
    Columns { strip: usize },
}

impl Rows {
    /// The common loops, if there are any. The number of threads has no influence on results.
    pub fn of(body: &Graph, outputs: &[Value], threads: usize) -> Option<Rows> {
        let mut shared: Option<(&Shape, &[usize])> = None;
        let mut levels = vec![0usize; body.len()];
        let mut reductions = Vec::new();
        for (value, node) in body.iter() {
            let level = node.operands.iter().map(|operand| levels[operand.index()]).max().unwrap_or(0);
            levels[value.index()] = level;
            if let Op::Reduce { axes, .. } = &node.op {
                let own = (&body.ty(node.operands[0]).shape, &axes[..]);
                if *shared.get_or_insert(own) != own {
                    return None;
                }
                levels[value.index()] = level + 1;
                reductions.push(value);
            }
        }
        let (domain, axes) = shared?;
        let kept = domain.without(axes);
        if !outputs.iter().all(|value| [domain, &kept].contains(&&body.ty(*value).shape)) {
            return None;
        }
        let rows = Rows {
            domain: domain.clone(),
            axes: axes.to_vec(),
            levels,
            reductions,
            scheme: Scheme::Rows { kept: None },
        };
        let scheme = match rows.strip(body, outputs, threads) {
            Some(strip) => Scheme::Columns { strip },
            None => Scheme::Rows { kept: rows.expensive(body, outputs) },
        };
        Some(Rows { scheme, ..rows })
    }

    /// How the kernel uses its outputs.
    pub fn access(&self) -> Access {
        match self.scheme {
            Scheme::Rows { kept: None } => Access::Write,
            Scheme::Rows { kept: Some(_) } | Scheme::Columns { .. } => Access::ReadWrite,
        }
    }

    fn level(&self, value: Value) -> usize {
        self.levels[value.index()]
    }

    /// The width of a strip of columns, where the reductions can run that way: over leading axes, none waiting for
    /// another, their results being outputs.
    fn strip(&self, body: &Graph, outputs: &[Value], threads: usize) -> Option<usize> {
        // Partial results in 16 bits would be rounded at each row.
        let exact = |value: &Value| !matches!(body.ty(*value).dtype, DType::F16 | DType::BF16);
        let leading = self.axes.iter().enumerate().all(|(position, &axis)| position == axis);
        let narrow_are_results =
            outputs.iter().all(|output| self.level(*output) == 0 || self.reductions.contains(output));
        let results_are_outputs =
            self.reductions.iter().all(|value| self.level(*value) == 1 && outputs.contains(value));
        let columns = self.domain.last().copied().filter(|_| self.axes.len() < self.domain.rank())?;
        let rows: usize = self.axes.iter().map(|&axis| self.domain[axis]).product();
        // Memory is read in longer pieces where strips are wider.
        let widest = if threads == 1 { WIDEST } else { (columns / threads).clamp(SHARED, WIDEST) };
        let strip = (NARROWEST..=widest).rev().find(|width| columns.is_multiple_of(*width));
        strip.filter(|_| {
            self.reductions.iter().all(exact)
                && leading
                && narrow_are_results
                && results_are_outputs
                && rows > 1
        })
    }

    /// A wide value that is expensive to compute, and computed in an earlier loop than the last that needs it; with
    /// the position of an output of its type whose memory is free until then.
    fn expensive(&self, body: &Graph, outputs: &[Value]) -> Option<(Value, usize)> {
        let last = self.reductions.iter().map(|value| self.level(*value)).max().unwrap_or(0);
        let costs = |op: &Op| match op {
            Op::Unary(op) => {
                !matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Not | UnaryOp::Sqrt)
            }
            _ => false,
        };
        let value = body.values().rev().find(|&value| {
            costs(&body.node(value).op) && body.ty(value).shape == self.domain && self.level(value) < last
        })?;
        let slot = outputs.iter().position(|&output| {
            output != value && body.ty(output) == body.ty(value) && self.level(output) == last
        })?;
        (!outputs.contains(&value)).then_some((value, slot))
    }
}

impl Cluster<'_> {
    /// Computes outputs in the loops of a group with reductions.
    pub fn rows(&mut self, rows: &Rows, outputs: &[Value]) {
        match rows.scheme {
            Scheme::Rows { kept } => self.by_rows(rows, kept, outputs),
            Scheme::Columns { strip } => self.by_columns(rows, strip, outputs),
        }
    }

    fn by_rows(&mut self, rows: &Rows, kept: Option<(Value, usize)>, outputs: &[Value]) {
        let narrow = rows.domain.without(&rows.axes);
        let row = self.nest.open_all(&narrow);
        let depth = self.nest.depth();
        let last = rows.reductions.iter().map(|&value| rows.level(value)).max().unwrap_or(0);
        let is_wide = |position: &usize| self.body.ty(outputs[*position]).shape == rows.domain;
        let (wide, slim): (Vec<usize>, Vec<usize>) = (0..outputs.len()).partition(is_wide);
        for level in 0..=last {
            let here = |value: &Value| rows.level(*value) == level + 1;
            let reductions: Vec<Value> = rows.reductions.iter().copied().filter(here).collect();
            let stores: Vec<usize> =
                wide.iter().copied().filter(|&position| rows.level(outputs[position]) == level).collect();
            let pass = Pass { level, reductions, stores, kept };
            self.pass(rows, &pass, outputs, &row, depth);
        }
        for position in slim {
            let reg = self.value(outputs[position], &row);
            self.store(position, outputs[position], &row, reg);
        }
    }

    /// One loop over the reduced axes.
    fn pass(&mut self, rows: &Rows, pass: &Pass, outputs: &[Value], row: &[Index], depth: usize) {
        if pass.reductions.is_empty() && pass.stores.is_empty() {
            return;
        }
        let accumulators: Vec<_> = (pass.reductions.iter())
            .map(|&value| {
                let (op, dtype) = self.reduction(value);
                self.nest.accumulator(scalars::scalar(dtype).register(), scalars::identity(op, dtype))
            })
            .collect();
        let lengths: Vec<usize> = rows.axes.iter().map(|&axis| rows.domain[axis]).collect();
        let inner = self.nest.open_all(&lengths);
        let at = merge_axes(rows.domain.rank(), &rows.axes, row, &inner);
        let waiting = pass.kept.map(|(value, slot)| (value, self.outputs[slot], rows.level(value)));
        if let Some((value, buffer, level)) = waiting
            && pass.level > level
        {
            let reg = self.nest.load_here(buffer, flatten(&rows.domain, &at));
            self.nest.remember(value, &at, reg);
        }
        for (&value, &accumulator) in pass.reductions.iter().zip(&accumulators) {
            let (op, dtype) = self.reduction(value);
            let operand = self.value(self.body.node(value).operands[0], &at);
            self.nest.reduce(accumulator, scalars::reduce(op, dtype), operand);
        }
        if let Some((value, buffer, level)) = waiting
            && pass.level == level
        {
            let reg = self.value(value, &at);
            self.nest.store(buffer, flatten(&rows.domain, &at), reg);
        }
        let registers: Vec<_> = pass
            .stores
            .iter()
            .map(|&position| (position, self.stored_value(outputs[position], &at)))
            .collect();
        for (position, reg) in registers {
            self.store(position, outputs[position], &at, reg);
        }
        self.nest.close_to(depth);
        for (&value, &accumulator) in pass.reductions.iter().zip(&accumulators) {
            let reg = self.nest.read(accumulator);
            let reg = self.rounded(self.body.node(value), reg);
            self.nest.remember(value, row, reg);
        }
    }

    fn by_columns(&mut self, rows: &Rows, strip: usize, outputs: &[Value]) {
        let narrow = rows.domain.without(&rows.axes);
        let last = narrow.rank() - 1;
        let mut outer = self.nest.open_all(&narrow[..last]);
        let block = self.nest.open_all(&[narrow[last] / strip])[0].clone();
        let depth = self.nest.depth();
        let column = |inner: &Var| affine(0, [(block.clone(), strip as i64), (Index::var(*inner), 1)]);
        let results: Vec<(usize, Value)> = outputs
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, value)| rows.reductions.contains(value))
            .collect();
        let inner = self.nest.open(strip);
        outer.push(column(&inner));
        for &(position, value) in &results {
            let (op, dtype) = self.reduction(value);
            let identity =
                self.nest.constant(scalars::scalar(dtype).register(), scalars::identity(op, dtype));
            self.store(position, value, &outer, identity);
        }
        self.nest.close_to(depth);
        let lengths: Vec<usize> = rows.axes.iter().map(|&axis| rows.domain[axis]).collect();
        let row = self.nest.open_all(&lengths);
        let inner = self.nest.open(strip);
        outer[last] = column(&inner);
        let at = [row, outer.clone()].concat();
        for (position, &value) in outputs.iter().enumerate() {
            if !rows.reductions.contains(&value) {
                let reg = self.stored_value(value, &at);
                self.store(position, value, &at, reg);
            }
        }
        for (position, value) in results {
            let (op, dtype) = self.reduction(value);
            let operand = self.value(self.body.node(value).operands[0], &at);
            let partial: BufferId = self.outputs[position];
            let before = self.nest.load_here(partial, flatten(&narrow, &outer));
            let after = self.nest.binary(combine(op, dtype), before, operand);
            self.store(position, value, &outer, after);
        }
        self.nest.close_to(depth);
    }

    fn reduction(&self, value: Value) -> (ReduceOp, DType) {
        match &self.body.node(value).op {
            Op::Reduce { op, .. } => (*op, self.body.ty(value).dtype),
            other => unreachable!("{} is no reduction", other.name()),
        }
    }
}

/// One loop over the reduced axes of a row.
struct Pass {
    /// The level of what is known before it.
    level: usize,
    /// What it reduces.
    reductions: Vec<Value>,
    /// Positions of the outputs that it stores.
    stores: Vec<usize>,
    /// The value that waits in an output's memory.
    kept: Option<(Value, usize)>,
}

/// A reduction's step as an operation.
pub(super) fn combine(op: ReduceOp, dtype: DType) -> BinaryOp {
    match scalars::reduce(op, dtype) {
        LoopReduceOp::Sum => BinaryOp::Add,
        LoopReduceOp::Prod => BinaryOp::Mul,
        LoopReduceOp::Max => BinaryOp::Max,
        LoopReduceOp::Min => BinaryOp::Min,
        LoopReduceOp::And => BinaryOp::And,
        LoopReduceOp::Or => BinaryOp::Or,
    }
}
