//! Computes two short rows at a time.
//!
//! A row of a softmax is a chain: its maximum, exponentials, their sum. Where rows are short, much of the time goes by
//! waiting for the last lanes of one link before the next begins, and for the call of a wide function on little. So
//! the links of two rows stand side by side: the processor has another row to go on with, and wide functions run
//! over both at once. (Four rows are faster still where results go to the cache, but store so much at a time that
//! they are slower than one where results go to memory.)

use super::substitute;
use crate::loops::{Acc, Access, BufferId, Index, Kernel, LoopKind, Reg, ScalarOp, Stmt, Var};
use std::collections::BTreeMap;

/// Rows side by side.
const ROWS: usize = 2;
/// Shorter rows stay as they are: most are of small models, where compiling counts.
const SHORTEST: usize = 32;
/// Longer rows keep the processor busy by themselves.
const LONGEST: usize = 512;

/// Puts each two rows of a kernel side by side where that pays.
pub(super) fn jam(kernel: &mut Kernel) {
    let Some(extent) = kernel.parallel_extent() else { return };
    let Some(Stmt::For { var, kind: LoopKind::Parallel, body, .. }) = kernel.body.last() else { return };
    let Some(length) = row_length(kernel, body) else { return };
    if !extent.is_multiple_of(ROWS) {
        return;
    }
    let (var, body) = (*var, body.clone());
    let mut jam = Jam { kernel, var, length, rows: Default::default() };
    let body = body.iter().flat_map(|statement| jam.statement(statement)).collect();
    for buffer in kernel.buffers.iter_mut().filter(|buffer| buffer.access == Access::Local) {
        buffer.elements = buffer.elements.max(ROWS * length);
    }
    kernel.body.pop();
    kernel.body.push(Stmt::For { var, extent: extent / ROWS, kind: LoopKind::Parallel, body });
}

/// The iterations of each of the loops in a row's body, if they are as many, if one reduces, and if nothing else is
/// there than can be put side by side.
fn row_length(kernel: &Kernel, body: &[Stmt]) -> Option<usize> {
    let mut length = None;
    let mut reduces = false;
    for statement in body {
        match statement {
            Stmt::For { extent, kind: LoopKind::Vector, body, .. } => {
                if *length.get_or_insert(*extent) != *extent || !body.iter().all(is_plain) {
                    return None;
                }
                reduces |= body.iter().any(|statement| matches!(statement, Stmt::Reduce { .. }));
            }
            Stmt::Wide { count, .. } if *length.get_or_insert(*count) == *count => {}
            Stmt::Accumulator { .. } | Stmt::Read { .. } => {}
            other if is_plain(other) => {}
            _ => return None,
        }
    }
    let local = |buffer: &BufferId| kernel.buffers[buffer.0 as usize].access == Access::Local;
    let outside = body.iter().any(|statement| match statement {
        Stmt::Load { buffer, .. } | Stmt::Store { buffer, .. } => local(buffer),
        _ => false,
    });
    length.filter(|length| reduces && !outside && (SHORTEST..=LONGEST).contains(length))
}

fn is_plain(statement: &Stmt) -> bool {
    match statement {
        Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Store { .. } | Stmt::Reduce { .. } => true,
        Stmt::For { .. } | Stmt::If { .. } | Stmt::Wide { .. } | Stmt::Transpose { .. } => false,
        Stmt::Fail { .. } => false,
        Stmt::Update { .. } | Stmt::Accumulator { .. } | Stmt::Set { .. } | Stmt::Read { .. } => false,
    }
}

struct Jam<'k> {
    kernel: &'k mut Kernel,
    /// Counts rows, and pairs of them afterwards.
    var: Var,
    length: usize,
    rows: [Row; ROWS],
}

/// The names of one row.
#[derive(Default)]
struct Row {
    registers: BTreeMap<Reg, Reg>,
    accumulators: BTreeMap<Acc, Acc>,
}

impl Jam<'_> {
    /// A statement for each row.
    fn statement(&mut self, statement: &Stmt) -> Vec<Stmt> {
        if let Stmt::Wide { function, buffer, count } = statement {
            return vec![Stmt::Wide { function: *function, buffer: *buffer, count: count * ROWS }];
        }
        (0..ROWS).map(|row| self.of_row(row, statement, None)).collect()
    }

    /// A statement for one row, in the loop over the row's elements if that is around.
    fn of_row(&mut self, row: usize, statement: &Stmt, around: Option<(Var, Var)>) -> Stmt {
        match statement {
            Stmt::For { var, extent, kind, body } => {
                let own = self.kernel.variable();
                let body = body.iter().map(|inner| self.of_row(row, inner, Some((*var, own)))).collect();
                Stmt::For { var: own, extent: *extent, kind: *kind, body }
            }
            Stmt::Let { reg, op, args } => {
                let args = args.iter().map(|arg| self.renamed(row, *arg)).collect();
                let op = match op {
                    ScalarOp::Index(index) => ScalarOp::Index(self.position(row, index, around)),
                    other => other.clone(),
                };
                Stmt::Let { reg: self.define(row, *reg), op, args }
            }
            Stmt::Load { reg, buffer, index } => {
                let index = self.place(row, *buffer, index, around);
                Stmt::Load { reg: self.define(row, *reg), buffer: *buffer, index }
            }
            Stmt::Store { buffer, index, value } => {
                let index = self.place(row, *buffer, index, around);
                Stmt::Store { buffer: *buffer, index, value: self.renamed(row, *value) }
            }
            Stmt::Accumulator { acc, init } => {
                let own = self.kernel.accumulator(self.kernel.accumulators[acc.0 as usize]);
                self.rows[row].accumulators.insert(*acc, own);
                Stmt::Accumulator { acc: own, init: *init }
            }
            Stmt::Reduce { acc, op, value } => {
                let acc = self.rows[row].accumulators.get(acc).copied().unwrap_or(*acc);
                Stmt::Reduce { acc, op: *op, value: self.renamed(row, *value) }
            }
            Stmt::Read { reg, acc } => {
                let acc = self.rows[row].accumulators.get(acc).copied().unwrap_or(*acc);
                Stmt::Read { reg: self.define(row, *reg), acc }
            }
            Stmt::If { .. }
            | Stmt::Wide { .. }
            | Stmt::Transpose { .. }
            | Stmt::Fail { .. }
            | Stmt::Update { .. }
            | Stmt::Set { .. } => {
                unreachable!("rows hold no {statement:?}")
            }
        }
    }

    fn define(&mut self, row: usize, reg: Reg) -> Reg {
        let own = self.kernel.register(self.kernel.type_of(reg));
        self.rows[row].registers.insert(reg, own);
        own
    }

    /// The row's name of a register; one from before the rows is the same for all.
    fn renamed(&self, row: usize, reg: Reg) -> Reg {
        self.rows[row].registers.get(&reg).copied().unwrap_or(reg)
    }

    /// A position in a buffer: of the kernel's own, each row has a part.
    fn place(&self, row: usize, buffer: BufferId, index: &Index, around: Option<(Var, Var)>) -> Index {
        let place = self.position(row, index, around);
        match self.kernel.buffers[buffer.0 as usize].access {
            Access::Local => place.offset((row * self.length) as i64),
            Access::Read | Access::Write | Access::ReadWrite => place,
        }
    }

    fn position(&self, row: usize, index: &Index, around: Option<(Var, Var)>) -> Index {
        let registers = &self.rows[row].registers;
        let pair = Index::constant(row as i64).plus(self.var, ROWS as i64);
        let place = substitute(index, self.var, &pair, registers);
        match around {
            // Registers have their new names by now.
            Some((var, own)) => substitute(&place, var, &Index::var(own), &BTreeMap::new()),
            None => place,
        }
    }
}
