//! Finds loops whose rows never meet: each thread runs all rounds for its rows, and no thread waits for another.
//!
//! The rows are those of the loop's matrix products (in a recurrent layer: the sequences of a batch). What the loop
//! writes must belong to one row each: byte `b` of a piece of memory with `stride` bytes a row to row `b / stride`,
//! modulo the number of rows; and what is done for a row may read and write of such memory only what belongs to it.

use super::tiles;
use crate::loops::{Access, Index, Kernel, LoopKind, Stmt, Var};
use crate::program::{LoopId, Memory, Place, Program, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Operations below which a loop stays on one thread.
const LEAST_OPERATIONS: u64 = 1 << 20;
/// Fewer rows a thread make products slow.
const LEAST_ROWS: usize = 4;
/// The iterations of a row in a parallel loop that runs in lanes are a multiple of this.
const LANES: usize = 16;

/// Marks the loops whose rows never meet, for a team of at most `threads` threads.
pub(super) fn mark(program: &mut Program, threads: usize) {
    if threads < 2 {
        return;
    }
    let mut steps = std::mem::take(&mut program.steps);
    for step in &mut steps {
        if program.work(step).operations < LEAST_OPERATIONS {
            continue;
        }
        if let Step::Loop { id, trip, body, rows } = step {
            *rows = rows_apart(program, *id, *trip, body).filter(|rows| rows / threads >= LEAST_ROWS);
        }
    }
    program.steps = steps;
}

/// The number of rows of a loop, if they never meet.
fn rows_apart(program: &Program, id: LoopId, trip: usize, body: &[Step]) -> Option<usize> {
    let rows = body.iter().find_map(|step| match step {
        Step::Gemm { gemm, .. } => Some(gemm.m),
        _ => None,
    })?;
    let places = body.iter().flat_map(|step| step.places(&program.kernels));
    let written = places.filter(|(_, is_written)| *is_written).map(|(place, _)| place.memory).collect();
    let mut rule = Rule { id, trip, rows, written, strides: BTreeMap::new() };
    body.iter().all(|step| rule.step(program, step)).then_some(rows)
}

/// What belongs to which row (or part), as far as it is known.
pub(super) struct Rule {
    id: LoopId,
    trip: usize,
    pub rows: usize,
    /// What the steps write.
    pub written: BTreeSet<Memory>,
    /// Bytes of a row.
    pub strides: BTreeMap<Memory, i64>,
}

impl Rule {
    /// For so many parts of steps that are in no loop.
    pub fn of_parts(parts: usize, written: BTreeSet<Memory>) -> Rule {
        Rule { id: LoopId(u32::MAX), trip: 1, rows: parts, written, strides: BTreeMap::new() }
    }

    /// Whether a step does for each row what belongs to it.
    fn step(&mut self, program: &Program, step: &Step) -> bool {
        match step {
            Step::Kernel { kernel, arguments, .. } => {
                let kernel = tiles::tile(program.kernels[*kernel].clone());
                self.kernel(&kernel, arguments).is_some()
            }
            Step::Gemm { gemm, double, places: [a, b, c, scratch], bias, epilogue } => {
                let size = if *double { 8 } else { 4 };
                let separate =
                    if *double { gemm.has_separate_rows::<f64>() } else { gemm.has_separate_rows::<f32>() };
                let fixed = [Some(b), bias.as_ref()].into_iter().flatten();
                let mut fixed = fixed.map(|place| place.memory);
                let [_, a_row, a_column] = gemm.a_strides.map(|stride| stride as i64 * size);
                let c_row = gemm.c_row_stride as i64 * size;
                separate
                    && gemm.m == self.rows
                    && epilogue.is_none()
                    && scratch.terms.is_empty()
                    && fixed.all(|memory| !self.written.contains(&memory))
                    && a_column >= 0
                    && self.belongs(a, a_row, 0, (gemm.k as i64 - 1) * a_column + size)
                    && self.belongs(c, c_row, 0, gemm.n as i64 * size)
            }
            Step::Copy { from, to, bytes } => [from, to].into_iter().all(|place| self.bytes(place, *bytes)),
            Step::Zero { to, bytes } => self.bytes(to, *bytes),
            Step::Conv { .. } | Step::ArgSort { .. } | Step::Pack { .. } => false,
            Step::Loop { .. } | Step::Parts { .. } => false,
        }
    }

    /// Whether adjacent bytes can be divided by rows.
    fn bytes(&mut self, place: &Place, bytes: usize) -> bool {
        let stride = (bytes / self.rows) as i64;
        bytes.is_multiple_of(self.rows) && self.belongs(place, stride, 0, stride)
    }

    /// Whether what row `r` touches, from `r * stride + low` to below `r * stride + high` bytes from a place, belongs
    /// to it.
    pub fn belongs(&mut self, place: &Place, stride: i64, low: i64, high: i64) -> bool {
        if !self.written.contains(&place.memory) {
            return true;
        }
        if stride <= 0 || *self.strides.entry(place.memory).or_insert(stride) != stride {
            return false;
        }
        let whole = stride * self.rows as i64;
        let (mut low, mut high) = (low, high);
        for &(id, bytes) in &place.terms {
            match bytes % whole {
                0 => {}
                _ if id == self.id => {
                    let way = bytes * (self.trip as i64 - 1);
                    (low, high) = (low + way.min(0), high + way.max(0));
                }
                _ => return false,
            }
        }
        let start = (place.offset + low).rem_euclid(whole);
        start + (high - low) <= stride
    }

    /// Whether a kernel, as it will run, does for each row what belongs to it.
    pub fn kernel(&mut self, kernel: &Kernel, arguments: &[Place]) -> Option<()> {
        let extent = kernel.parallel_extent()?;
        let (last, before) = kernel.body.split_last()?;
        let Stmt::For { var, kind, body, .. } = last else { return None };
        let each = extent / self.rows;
        let in_lanes = *kind == LoopKind::ParallelVector;
        if !extent.is_multiple_of(self.rows) || in_lanes && !each.is_multiple_of(LANES) {
            return None;
        }
        let mut ranges = BTreeMap::from([(*var, each)]);
        self.accesses(kernel, arguments, (*var, each), before, &mut ranges)?;
        self.accesses(kernel, arguments, (*var, each), body, &mut ranges)
    }

    /// Looks at what statements read and write, `each` iterations of the parallel loop for a row.
    fn accesses(
        &mut self,
        kernel: &Kernel,
        arguments: &[Place],
        (parallel, each): (Var, usize),
        statements: &[Stmt],
        ranges: &mut BTreeMap<Var, usize>,
    ) -> Option<()> {
        for statement in statements {
            match statement {
                Stmt::Load { buffer, index, .. }
                | Stmt::Store { buffer, index, .. }
                | Stmt::Update { buffer, index, .. } => {
                    let (buffer, declared) = (buffer.0 as usize, &kernel.buffers.get(buffer.0 as usize)?);
                    if declared.access == Access::Local {
                        continue;
                    }
                    let place = arguments.get(buffer)?;
                    if !self.written.contains(&place.memory) {
                        continue;
                    }
                    let size = declared.scalar.bytes() as i64;
                    let (stride, low, high) = span(index, parallel, each, ranges)?;
                    let fits = self.belongs(place, stride * size, low * size, (high + 1) * size);
                    fits.then_some(())?;
                }
                Stmt::For { var, extent, body, .. } => {
                    ranges.insert(*var, *extent);
                    self.accesses(kernel, arguments, (parallel, each), body, ranges)?;
                }
                Stmt::If { body, otherwise, .. } => {
                    self.accesses(kernel, arguments, (parallel, each), body, ranges)?;
                    self.accesses(kernel, arguments, (parallel, each), otherwise, ranges)?;
                }
                // Which row failed first would depend on the threads.
                Stmt::Fail { .. } => return None,
                Stmt::Transpose { .. } => return None,
                Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Reduce { .. } => {}
                Stmt::Set { .. } | Stmt::Read { .. } | Stmt::Wide { .. } => {}
            }
        }
        Some(())
    }
}

/// Elements from one row to the next, and the first and the last element of row 0, of an access.
fn span(index: &Index, parallel: Var, each: usize, ranges: &BTreeMap<Var, usize>) -> Option<(i64, i64, i64)> {
    if !index.registers.is_empty() {
        return None;
    }
    let (mut stride, mut low, mut high) = (0, index.constant, index.constant);
    for (var, coefficient) in &index.terms {
        if *var == parallel {
            stride = coefficient * each as i64;
        }
        let way = coefficient * (*ranges.get(var)? as i64 - 1).max(0);
        (low, high) = (low + way.min(0), high + way.max(0));
    }
    Some((stride, low, high))
}
