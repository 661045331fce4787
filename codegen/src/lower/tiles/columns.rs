//! Columns that are reduced side by side become rows that are added up.
//!
//! A reduction along an outer axis runs in lanes along the inner one: each lane goes down a column with what it
//! accumulates in a register. Where the rows are far apart, every step is in another page, and wide functions cannot
//! run on a column. So the lanes are cut into blocks, what they accumulate stands in a buffer of the kernel's own, and
//! the loop over the rows is the outer one:
//!
//! ```text
//! vector j in N { a = 0; for i in M { a += f(x[N i + j]) }; y[j] = a }
//!   becomes
//! for each block { vector j { a[j] = 0 }; for i in M { vector j { a[j] += f(x[N i + j]) } }; vector j { y[j] = a[j] } }
//! ```

use super::{define, divided, moved, operands, rename, substitute};
use crate::loops::{
    Acc, Access, BufferId, Constant, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp, Stmt, UnaryOp, Var,
};
use std::collections::{BTreeMap, BTreeSet};

/// Columns of a block.
const BLOCK: usize = 256;
/// Fewer columns stay as they are.
const SHORTEST: usize = 64;
/// Elements from a row to the next that lie in other pages.
const FAR: i64 = 1024;

/// A loop in lanes over columns.
struct Columns<'s> {
    var: Var,
    body: &'s [Stmt],
    /// The buffer of each accumulator, and what it begins with.
    accumulators: BTreeMap<Acc, (BufferId, Constant)>,
}

/// The blocks of a loop in lanes, if it is of this kind and that pays.
pub(super) fn blocks(kernel: &mut Kernel, statement: &Stmt) -> Option<Stmt> {
    let Stmt::For { var, extent, kind: kind @ (LoopKind::Vector | LoopKind::ParallelVector), body } =
        statement
    else {
        return None;
    };
    if *extent < SHORTEST || !pays(kernel, body, *var) || !fits(kernel, body) {
        return None;
    }
    let mut columns = Columns { var: *var, body, accumulators: BTreeMap::new() };
    let block = BLOCK.min(*extent);
    for statement in body {
        if let Stmt::Accumulator { acc, init } = statement {
            let buffer = kernel.buffer("", Scalar::F32, block, Access::Local);
            columns.accumulators.insert(*acc, (buffer, *init));
        }
    }
    let outer =
        divided(kernel, (*extent, block), &mut |kernel, start, count| columns.block(kernel, start, count));
    let Stmt::For { var, extent, body, .. } = outer else { return None };
    let kind = if *kind == LoopKind::Vector { LoopKind::Serial } else { LoopKind::Parallel };
    Some(Stmt::For { var, extent, kind, body })
}

/// Whether a loop's body is plain statements and loops over rows, which reduce into what is read afterwards only.
fn fits(kernel: &Kernel, body: &[Stmt]) -> bool {
    let is_plain = |statement: &Stmt| match statement {
        Stmt::Let { op, .. } => !matches!(op, ScalarOp::Call(_)),
        Stmt::Load { buffer, index, .. } => {
            kernel.buffers[buffer.0 as usize].access == Access::Read && index.registers.is_empty()
        }
        Stmt::Store { index, .. } => index.registers.is_empty(),
        _ => false,
    };
    let (mut declared, mut read, mut is_stored) = (BTreeSet::new(), BTreeSet::new(), false);
    body.iter().all(|statement| match statement {
        Stmt::Accumulator { acc, .. } => {
            declared.insert(*acc) && kernel.accumulators[acc.0 as usize] == Scalar::F32
        }
        Stmt::Read { acc, .. } => {
            read.insert(*acc);
            declared.contains(acc)
        }
        // A result may stand in the memory of an operand, which is loaded anew for each loop.
        Stmt::For { .. } if is_stored => false,
        Stmt::For { kind: LoopKind::Serial, body, .. } => body.iter().all(|inner| match inner {
            Stmt::Reduce { acc, .. } => declared.contains(acc) && !read.contains(acc),
            other => is_plain(other),
        }),
        other => {
            is_stored |= matches!(other, Stmt::Store { .. });
            is_plain(other)
        }
    })
}

/// Whether a function that has a wide form is computed in a loop over rows, or rows are far apart.
fn pays(kernel: &Kernel, body: &[Stmt], columns: Var) -> bool {
    body.iter().any(|statement| {
        let Stmt::For { var, body, .. } = statement else { return false };
        body.iter().any(|inner| match inner {
            Stmt::Let { reg, op: ScalarOp::Unary(op), .. } => {
                UnaryOp::WIDE.contains(op) && kernel.type_of(*reg) == Scalar::F32
            }
            Stmt::Load { index, .. } => {
                index.coefficient(*var).abs() >= FAR && index.coefficient(columns) == 1
            }
            _ => false,
        })
    })
}

impl Columns<'_> {
    fn block(&self, kernel: &mut Kernel, start: &Index, count: usize) -> Vec<Stmt> {
        let mut all = Vec::new();
        if !self.accumulators.is_empty() {
            let var = kernel.variable();
            let mut body = Vec::new();
            for (buffer, init) in self.accumulators.values() {
                let reg = kernel.register(Scalar::F32);
                body.push(Stmt::Let { reg, op: ScalarOp::Constant(*init), args: Vec::new() });
                body.push(Stmt::Store { buffer: *buffer, index: Index::var(var), value: reg });
            }
            all.push(Stmt::For { var, extent: count, kind: LoopKind::Vector, body });
        }
        // Between the loops over rows: what is known by then is computed anew.
        let mut known: Vec<&Stmt> = Vec::new();
        let mut at = 0;
        while at < self.body.len() {
            if let Stmt::For { var, extent, body, .. } = &self.body[at] {
                let own = kernel.variable();
                let body: Vec<&Stmt> = body.iter().collect();
                let lanes = self.lanes(kernel, (start, count), &known, &body, Some((*var, own)));
                all.push(Stmt::For { var: own, extent: *extent, kind: LoopKind::Serial, body: vec![lanes] });
                at += 1;
                continue;
            }
            let end = self.body[at..].iter().position(|statement| matches!(statement, Stmt::For { .. }));
            let plain = &self.body[at..end.map_or(self.body.len(), |end| at + end)];
            known.extend(plain);
            let stores: Vec<&Stmt> =
                plain.iter().filter(|statement| matches!(statement, Stmt::Store { .. })).collect();
            if !stores.is_empty() {
                all.push(self.lanes(kernel, (start, count), &known, &stores, None));
            }
            at += plain.len();
        }
        all
    }

    /// A loop in lanes over a block: `body`, and what it needs of the statements that are known.
    fn lanes(
        &self,
        kernel: &mut Kernel,
        (start, count): (&Index, usize),
        known: &[&Stmt],
        body: &[&Stmt],
        row: Option<(Var, Var)>,
    ) -> Stmt {
        let mut needed: BTreeSet<Reg> = body.iter().flat_map(|statement| operands(statement)).collect();
        let mut chosen: Vec<&Stmt> = Vec::new();
        for statement in known.iter().rev() {
            if let Stmt::Let { reg, .. } | Stmt::Load { reg, .. } | Stmt::Read { reg, .. } = statement
                && needed.contains(reg)
            {
                needed.extend(operands(statement));
                chosen.push(statement);
            }
        }
        let var = kernel.variable();
        let column = start.clone().plus(var, 1);
        let place = |index: &Index, names: &BTreeMap<Reg, Reg>| {
            let index = substitute(index, self.var, &column, names);
            match row {
                Some((old, new)) => substitute(&index, old, &Index::var(new), &BTreeMap::new()),
                None => index,
            }
        };
        let mut names: BTreeMap<Reg, Reg> = BTreeMap::new();
        let mut own = Vec::new();
        for statement in chosen.into_iter().rev().chain(body.iter().copied()) {
            match statement {
                Stmt::Read { reg, acc } => own.push(Stmt::Load {
                    reg: define(kernel, *reg, &mut names),
                    buffer: self.accumulators[acc].0,
                    index: Index::var(var),
                }),
                Stmt::Reduce { acc, op, value } => {
                    let (buffer, index) = (self.accumulators[acc].0, Index::var(var));
                    let [before, after] = [(); 2].map(|()| kernel.register(Scalar::F32));
                    let args = vec![before, rename(*value, &names)];
                    own.push(Stmt::Load { reg: before, buffer, index: index.clone() });
                    own.push(Stmt::Let { reg: after, op: ScalarOp::Binary(op.binary()), args });
                    own.push(Stmt::Store { buffer, index, value: after });
                }
                plain => own.push(moved(kernel, plain, &mut names, &place)),
            }
        }
        Stmt::For { var, extent: count, kind: LoopKind::Vector, body: own }
    }
}
