//! Reads across memory become reads along it.
//!
//! Where the lanes run along one axis of a result and along another of an operand, such as `y[i, j] = x[j, i]`, each
//! lane loads from a line of the cache of its own. So both loops are cut into blocks, and a block of the operand is
//! transposed into a buffer of the kernel's own, whose elements are as adjacent as those of the result:
//!
//! ```text
//! for i in M { vector j in N { y[N i + j] = f(x[M j + i]) } }
//!   becomes
//! for each block of rows and columns { transpose t = x; for i in rows { vector j in columns { y[..] = f(t[..]) } } }
//! ```

use super::{define, divided, moved, substitute};
use crate::loops::{Access, BufferId, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp, Stmt, Var};
use std::collections::BTreeMap;

/// Rows of a block, the loop along which the operand is adjacent; four lines of the cache.
const ROWS: usize = 64;
/// Columns of a block, but where the loop is not much longer.
const COLUMNS: usize = 64;
/// A loop of so many columns is one block.
const ONE_BLOCK: usize = 128;
/// Loops of fewer iterations stay as they are.
const SHORTEST: usize = 4;

#[derive(Clone, Copy)]
struct Loop {
    var: Var,
    extent: usize,
}

/// Cuts the nests of a kernel into blocks whose operands are transposed: those that are loops around loads, operations,
/// stores and reductions, and read an operand across memory.
pub(super) fn stage(kernel: &mut Kernel) {
    let body = std::mem::take(&mut kernel.body);
    kernel.body = stage_all(kernel, body);
}

fn stage_all(kernel: &mut Kernel, body: Vec<Stmt>) -> Vec<Stmt> {
    let staged = |statement: Stmt| match Nest::of(kernel, &statement) {
        Some(nest) => nest.blocks(kernel),
        None => match statement {
            Stmt::For { var, extent, kind, body } => {
                Stmt::For { var, extent, kind, body: stage_all(kernel, body) }
            }
            other => other,
        },
    };
    body.into_iter().map(staged).collect()
}

/// A load that goes through a transposed block.
struct Staged {
    from: BufferId,
    index: Index,
    stride: usize,
    /// The block.
    to: BufferId,
}

struct Nest {
    /// How the outermost loop runs.
    kind: LoopKind,
    /// The loops around, outermost first, without `rows` and `columns`.
    outer: Vec<Loop>,
    /// The loop along which the operands are adjacent.
    rows: Loop,
    /// The lanes.
    columns: Loop,
    body: Vec<Stmt>,
}

impl Nest {
    fn of(kernel: &Kernel, statement: &Stmt) -> Option<Nest> {
        let Stmt::For { kind: outermost, .. } = statement else { return None };
        let mut outer = Vec::new();
        let mut statement = statement;
        let (columns, body) = loop {
            let Stmt::For { var, extent, kind, body } = statement else { return None };
            let is_plain = matches!(kind, LoopKind::Serial | LoopKind::Parallel | LoopKind::Vector);
            if !is_plain {
                return None;
            }
            let own = Loop { var: *var, extent: *extent };
            match &body[..] {
                [inner @ Stmt::For { .. }] if *kind != LoopKind::Vector => statement = inner,
                _ => break (own, body),
            }
            outer.push(own);
        };
        if !body.iter().all(|statement| fits_lanes(kernel, statement, columns.var)) {
            return None;
        }
        let along = |own: &Loop| {
            let found =
                body.iter().find(|statement| across(kernel, statement, own.var, columns.var).is_some());
            found.is_some() && own.extent >= SHORTEST && columns.extent >= SHORTEST
        };
        let at = outer.iter().rposition(along)?;
        let rows = outer.remove(at);
        Some(Nest { kind: *outermost, outer, rows, columns, body: body.clone() })
    }

    fn blocks(self, kernel: &mut Kernel) -> Stmt {
        let columns = self.columns.extent;
        let width = if columns <= ONE_BLOCK { columns } else { COLUMNS };
        // As large as other blocks.
        let height = self.rows.extent.min(ROWS * COLUMNS / width.max(COLUMNS));
        let mut staged: Vec<Staged> = Vec::new();
        for statement in &self.body {
            let Some((from, index, stride)) = across(kernel, statement, self.rows.var, self.columns.var)
            else {
                continue;
            };
            if !staged.iter().any(|known| known.from == from && known.index == index) {
                let to = kernel.buffer("", Scalar::F32, width * height, Access::Local);
                staged.push(Staged { from, index, stride, to });
            }
        }
        // Threads share the outermost loop, so the one of more blocks is outside.
        let (rows, columns) = ((self.rows.extent, height), (self.columns.extent, width));
        let by_rows = rows.0.div_ceil(height) >= columns.0.div_ceil(width);
        let (outside, inside) = if by_rows { (rows, columns) } else { (columns, rows) };
        let blocks = divided(kernel, outside, &mut |kernel, outer, outer_count| {
            let inner = divided(kernel, inside, &mut |kernel, inner, inner_count| {
                let (outer, inner) = ((outer, outer_count), (inner, inner_count));
                let (rows, columns) = if by_rows { (outer, inner) } else { (inner, outer) };
                self.block(kernel, &staged, rows, columns)
            });
            vec![inner]
        });
        let nest = self.outer.iter().rev().fold(blocks, |inner, own| Stmt::For {
            var: own.var,
            extent: own.extent,
            kind: LoopKind::Serial,
            body: vec![inner],
        });
        match nest {
            Stmt::For { var, extent, body, .. } => Stmt::For { var, extent, kind: self.kind, body },
            other => other,
        }
    }

    /// A block: where its rows and columns start, and how many they are.
    fn block(
        &self,
        kernel: &mut Kernel,
        staged: &[Staged],
        (first_row, rows): (&Index, usize),
        (first_column, columns): (&Index, usize),
    ) -> Vec<Stmt> {
        let at = |index: &Index, row: &Index, column: &Index, names: &BTreeMap<Reg, Reg>| {
            let index = substitute(index, self.rows.var, row, names);
            substitute(&index, self.columns.var, column, &BTreeMap::new())
        };
        let mut statements: Vec<Stmt> = (staged.iter())
            .map(|load| Stmt::Transpose {
                from: load.from,
                index: at(&load.index, first_row, first_column, &BTreeMap::new()),
                stride: load.stride,
                to: load.to,
                rows,
                columns,
            })
            .collect();
        let (row, column) = (kernel.variable(), kernel.variable());
        let place = Index::default().plus(row, columns as i64).plus(column, 1);
        let (own_row, own_column) = (first_row.clone().plus(row, 1), first_column.clone().plus(column, 1));
        let mut names = BTreeMap::new();
        let mut body = Vec::with_capacity(self.body.len());
        for statement in &self.body {
            let block = match statement {
                Stmt::Load { reg, buffer, index } => {
                    let found = staged.iter().find(|load| load.from == *buffer && load.index == *index);
                    found.map(|load| (*reg, load.to))
                }
                _ => None,
            };
            body.push(match block {
                Some((reg, buffer)) => {
                    Stmt::Load { reg: define(kernel, reg, &mut names), buffer, index: place.clone() }
                }
                None => moved(kernel, statement, &mut names, &|index, names| {
                    at(index, &own_row, &own_column, names)
                }),
            });
        }
        let lanes = Stmt::For { var: column, extent: columns, kind: LoopKind::Vector, body };
        statements.push(Stmt::For { var: row, extent: rows, kind: LoopKind::Serial, body: vec![lanes] });
        statements
    }
}

/// Whether a statement is a load of what is not written, an operation, a reduction, or a store of adjacent elements, at
/// places that are known beforehand: iterations may run in any order.
fn fits_lanes(kernel: &Kernel, statement: &Stmt, columns: Var) -> bool {
    match statement {
        Stmt::Let { op, .. } => !matches!(op, ScalarOp::Call(_)),
        Stmt::Load { buffer, index, .. } => {
            kernel.buffers[buffer.0 as usize].access == Access::Read && index.registers.is_empty()
        }
        Stmt::Reduce { .. } => true,
        Stmt::Store { index, .. } => index.registers.is_empty() && index.coefficient(columns) == 1,
        _ => false,
    }
}

/// A load of an operand that is adjacent along `rows`, but not along `columns`: the buffer, the place, and the distance
/// along `columns`.
fn across(kernel: &Kernel, statement: &Stmt, rows: Var, columns: Var) -> Option<(BufferId, Index, usize)> {
    let Stmt::Load { buffer, index, .. } = statement else { return None };
    let found = &kernel.buffers[buffer.0 as usize];
    let stride = usize::try_from(index.coefficient(columns)).ok().filter(|&stride| stride > 1)?;
    let fits = found.scalar == Scalar::F32
        && found.access == Access::Read
        && index.coefficient(rows) == 1
        && index.registers.is_empty();
    fits.then(|| (*buffer, index.clone(), stride))
}
