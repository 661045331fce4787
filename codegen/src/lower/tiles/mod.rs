//! Turns loops for the caches and the vectors, when all else is known: see [`transposed`] and [`columns`]; and runs
//! expensive functions a tile at a time.
//!
//! Elementary functions that are emitted have vectors of 128 bits; [`Stmt::Wide`] is as wide as the processor. So a vector loop with exponential
//! functions and the like in it is cut into tiles that stay in the nearest cache, and each tile into phases: a phase
//! computes the operands of wide functions into local buffers, the functions run over these, and the next phase goes
//! on with the results. What a later phase needs of an earlier one is computed anew where that is cheap, and waits in
//! a local buffer else. Stores and reductions stand in the last phase, in their order.

mod columns;
mod jam;
mod phases;
#[cfg(test)]
mod tests;
mod transposed;

use crate::loops::{
    Access, BufferId, CompareOp, Condition, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp, Stmt, Var,
};
pub(super) use phases::operands;
use phases::{Needs, Phases};
use std::collections::BTreeMap;

/// Elements of a tile: enough to make the calls cheap, few enough for several tiles to stay in the nearest cache.
const TILE: usize = 256;
/// Loops of fewer iterations stay as they are.
const SHORTEST: usize = 32;

/// Cuts the vector loops of a kernel, and puts short rows side by side, where that pays.
pub(super) fn tile(mut kernel: Kernel) -> Kernel {
    transposed::stage(&mut kernel);
    let body = std::mem::take(&mut kernel.body);
    let mut tiler = Tiler { kernel, buffers: Vec::new() };
    let body = tiler.statements(body);
    let mut kernel = Kernel { body, ..tiler.kernel };
    jam::jam(&mut kernel);
    kernel
}

struct Tiler {
    kernel: Kernel,
    /// Local buffers, which loops share one after the other.
    buffers: Vec<BufferId>,
}

impl Tiler {
    fn statements(&mut self, body: Vec<Stmt>) -> Vec<Stmt> {
        body.into_iter().flat_map(|statement| self.statement(statement)).collect()
    }

    fn statement(&mut self, statement: Stmt) -> Vec<Stmt> {
        if let Some(Stmt::For { var, extent, kind, body }) = columns::blocks(&mut self.kernel, &statement) {
            return vec![Stmt::For { var, extent, kind, body: self.statements(body) }];
        }
        match statement {
            Stmt::For { var, extent, kind, body } => {
                let vector = matches!(kind, LoopKind::Vector | LoopKind::ParallelVector);
                let phases = (vector && extent >= SHORTEST).then(|| Phases::of(&self.kernel, var, &body));
                match phases.flatten() {
                    Some(phases) => self.cut(&phases, extent, kind),
                    None => vec![Stmt::For { var, extent, kind, body: self.statements(body) }],
                }
            }
            Stmt::If { conditions, body, otherwise } => {
                let (body, otherwise) = (self.statements(body), self.statements(otherwise));
                vec![Stmt::If { conditions, body, otherwise }]
            }
            other => vec![other],
        }
    }

    /// The tiles of a loop.
    fn cut(&mut self, phases: &Phases, extent: usize, kind: LoopKind) -> Vec<Stmt> {
        for (number, group) in phases.groups.iter().enumerate() {
            let elements = group.len() * TILE;
            if self.buffers.len() == number {
                let buffer = self.kernel.buffer("", Scalar::F32, elements, Access::Local);
                self.buffers.push(buffer);
            }
            let buffer = &mut self.kernel.buffers[self.buffers[number].0 as usize];
            buffer.elements = buffer.elements.max(elements);
        }
        if extent <= TILE {
            return self.one(phases, &Index::default(), extent);
        }
        let (whole, rest) = (extent / TILE, extent % TILE);
        let tile = self.kernel.variable();
        let body = self.one(phases, &Index::default().plus(tile, TILE as i64), TILE);
        let last = Index::constant((whole * TILE) as i64);
        let rest = if rest > 0 { self.one(phases, &last, rest) } else { Vec::new() };
        if kind == LoopKind::Vector {
            let tiles = Stmt::For { var: tile, extent: whole, kind: LoopKind::Serial, body };
            return std::iter::once(tiles).chain(rest).collect();
        }
        if rest.is_empty() {
            return vec![Stmt::For { var: tile, extent: whole, kind: LoopKind::Parallel, body }];
        }
        let is_whole = Condition::Affine { index: Index::var(tile), op: CompareOp::Lt, bound: whole as i64 };
        let body = vec![Stmt::If { conditions: vec![is_whole], body, otherwise: rest }];
        vec![Stmt::For { var: tile, extent: whole + 1, kind: LoopKind::Parallel, body }]
    }

    /// The phases of one tile of `count` iterations from `start` on.
    fn one(&mut self, phases: &Phases, start: &Index, count: usize) -> Vec<Stmt> {
        let mut statements = Vec::new();
        for phase in 0..=phases.last {
            let var = self.kernel.variable();
            let body = self.phase(phases, phase, start, var, count);
            statements.push(Stmt::For { var, extent: count, kind: LoopKind::Vector, body });
            for (group, &buffer) in phases.groups.iter().zip(&self.buffers) {
                let first = &phases.waiting[group[0]];
                if let Some(function) = first.function.filter(|_| first.phase == phase) {
                    statements.push(Stmt::Wide { function, buffer, count: count * group.len() });
                }
            }
        }
        statements
    }

    fn phase(&mut self, phases: &Phases, phase: usize, start: &Index, var: Var, count: usize) -> Vec<Stmt> {
        let position = start.clone().plus(var, 1);
        let Needs { positions, slots } = &phases.needs[phase];
        let mut renamed: BTreeMap<Reg, Reg> = BTreeMap::new();
        let mut body = Vec::new();
        for &slot in slots {
            let reg = self.kernel.register(Scalar::F32);
            renamed.insert(phases.waiting[slot].result, reg);
            let (buffer, index) = self.place(phases, slot, var, count);
            body.push(Stmt::Load { reg, buffer, index });
        }
        for &at in positions {
            let place =
                |index: &Index, names: &BTreeMap<Reg, Reg>| substitute(index, phases.var, &position, names);
            let statement = moved(&mut self.kernel, &phases.body[at], &mut renamed, &place);
            body.push(statement);
        }
        for (slot, waiting) in phases.waiting.iter().enumerate() {
            if waiting.phase == phase {
                let value = rename(waiting.operand, &renamed);
                let (buffer, index) = self.place(phases, slot, var, count);
                body.push(Stmt::Store { buffer, index, value });
            }
        }
        body
    }

    /// Where a value waits.
    fn place(&self, phases: &Phases, slot: usize, var: Var, count: usize) -> (BufferId, Index) {
        let (group, member) = phases.place(slot);
        (self.buffers[group], Index::var(var).offset((member * count) as i64))
    }
}

/// A load, an operation, a store or a reduction with its positions changed by `place`, in registers of its own: `names`
/// has those of the statements before.
fn moved(
    kernel: &mut Kernel,
    statement: &Stmt,
    names: &mut BTreeMap<Reg, Reg>,
    place: &dyn Fn(&Index, &BTreeMap<Reg, Reg>) -> Index,
) -> Stmt {
    match statement {
        Stmt::Let { reg, op, args } => {
            let args = args.iter().map(|arg| rename(*arg, names)).collect();
            let op = match op {
                ScalarOp::Index(index) => ScalarOp::Index(place(index, names)),
                other => other.clone(),
            };
            Stmt::Let { reg: define(kernel, *reg, names), op, args }
        }
        Stmt::Load { reg, buffer, index } => {
            let index = place(index, names);
            Stmt::Load { reg: define(kernel, *reg, names), buffer: *buffer, index }
        }
        Stmt::Store { buffer, index, value } => {
            Stmt::Store { buffer: *buffer, index: place(index, names), value: rename(*value, names) }
        }
        Stmt::Reduce { acc, op, value } => Stmt::Reduce { acc: *acc, op: *op, value: rename(*value, names) },
        other => unreachable!("a plain statement is no {other:?}"),
    }
}

/// A new register in place of another.
fn define(kernel: &mut Kernel, reg: Reg, names: &mut BTreeMap<Reg, Reg>) -> Reg {
    let own = kernel.register(kernel.type_of(reg));
    names.insert(reg, own);
    own
}

/// A loop over blocks of `size` of `extent` iterations, of which the last one may be shorter: what `block` makes of where
/// one starts, and how long it is.
fn divided(
    kernel: &mut Kernel,
    (extent, size): (usize, usize),
    block: &mut dyn FnMut(&mut Kernel, &Index, usize) -> Vec<Stmt>,
) -> Stmt {
    let number = kernel.variable();
    let (count, rest) = (extent / size, extent % size);
    let whole = block(kernel, &Index::default().plus(number, size as i64), size);
    let body = if rest > 0 {
        let otherwise = block(kernel, &Index::constant((count * size) as i64), rest);
        let index = Index::var(number);
        let is_whole = Condition::Affine { index, op: CompareOp::Lt, bound: count as i64 };
        vec![Stmt::If { conditions: vec![is_whole], body: whole, otherwise }]
    } else {
        whole
    };
    Stmt::For { var: number, extent: count + usize::from(rest > 0), kind: LoopKind::Serial, body }
}

/// The new register of one that the loop defines; others are the same everywhere.
fn rename(reg: Reg, renamed: &BTreeMap<Reg, Reg>) -> Reg {
    renamed.get(&reg).copied().unwrap_or(reg)
}

fn substitute(index: &Index, var: Var, position: &Index, renamed: &BTreeMap<Reg, Reg>) -> Index {
    let coefficient = index.coefficient(var);
    let mut result = Index::constant(index.constant + coefficient * position.constant);
    for (other, factor) in index.terms.iter().filter(|(other, _)| *other != var) {
        result = result.plus(*other, *factor);
    }
    for (inner, factor) in &position.terms {
        result = result.plus(*inner, coefficient * factor);
    }
    for (reg, factor) in &index.registers {
        result = result.plus_register(rename(*reg, renamed), *factor);
    }
    result
}
