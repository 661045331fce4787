//! Which registers hold what.

use std::collections::HashMap;

use super::Beyond;
use super::machine::Machine;
use crate::loops::{Acc, Condition, Index, Reg, ScalarOp, Stmt};

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Location<V, M> {
    Vector(V),
    Mask(M),
    /// On the stack, in this place of those for what had to leave its register.
    Away(usize),
}

/// Values and accumulators in registers, and the registers that are free.
pub(super) struct Registers<M: Machine> {
    pub values: HashMap<Reg, Location<M::Vector, M::Mask>>,
    accumulators: HashMap<Acc, M::Vector>,
    vectors: Vec<M::Vector>,
    masks: Vec<M::Mask>,
}

impl<M: Machine> Clone for Registers<M> {
    fn clone(&self) -> Self {
        Registers {
            values: self.values.clone(),
            accumulators: self.accumulators.clone(),
            vectors: self.vectors.clone(),
            masks: self.masks.clone(),
        }
    }
}

impl<M: Machine> Registers<M> {
    pub fn new() -> Self {
        let vectors = M::VECTORS.iter().rev().copied().collect();
        let masks = M::MASKS.iter().rev().copied().collect();
        Registers { values: HashMap::new(), accumulators: HashMap::new(), vectors, masks }
    }

    /// How many vector registers are free.
    pub fn free(&self) -> usize {
        self.vectors.len()
    }

    /// A free vector register.
    pub fn take(&mut self) -> Result<M::Vector, Beyond> {
        self.vectors.pop().ok_or(Beyond::Registers)
    }

    /// A free register for a truth value.
    pub fn take_mask(&mut self) -> Result<M::Mask, Beyond> {
        match self.masks.pop() {
            Some(mask) => Ok(mask),
            None => self.vectors.pop().and_then(M::as_mask).ok_or(Beyond::Registers),
        }
    }

    /// Frees a vector register.
    pub fn give(&mut self, register: M::Vector) {
        self.vectors.push(register);
    }

    /// A register for an accumulator that is declared.
    pub fn declare(&mut self, acc: Acc) -> Result<M::Vector, Beyond> {
        let register = self.take()?;
        self.accumulators.insert(acc, register);
        Ok(register)
    }

    /// An accumulator.
    pub fn accumulator(&self, acc: Acc) -> Result<M::Vector, Beyond> {
        self.accumulators.get(&acc).copied().ok_or(Beyond::Kind)
    }

    /// The registers in use.
    pub fn alive(&self) -> (Vec<M::Vector>, Vec<M::Mask>) {
        let vectors = M::VECTORS.iter().copied().filter(|register| !self.vectors.contains(register));
        let masks = M::MASKS.iter().copied().filter(|register| !self.masks.contains(register));
        (vectors.collect(), masks.collect())
    }

    /// Forgets a value, and frees its register.
    fn forget(&mut self, reg: Reg) {
        match self.values.remove(&reg) {
            Some(Location::Vector(register)) => self.vectors.push(register),
            Some(Location::Mask(register)) => match M::as_vector(register) {
                Some(register) => self.vectors.push(register),
                None => self.masks.push(register),
            },
            Some(Location::Away(_)) | None => {}
        }
    }

    /// Frees what the statements of a body define and none behind position `at` uses.
    pub fn end_of_statement(&mut self, last: &HashMap<Reg, usize>, at: usize) {
        let mut dead: Vec<Reg> =
            last.iter().filter(|(_, position)| **position == at).map(|(reg, _)| *reg).collect();
        dead.sort_unstable();
        dead.into_iter().for_each(|reg| self.forget(reg));
    }

    /// Frees the accumulators that the statements of a body declare.
    pub fn end_of_body(&mut self, body: &[Stmt]) {
        for statement in body {
            if let Stmt::Accumulator { acc, .. } = statement
                && let Some(register) = self.accumulators.remove(acc)
            {
                self.vectors.push(register);
            }
        }
    }
}

/// For each register that the statements of a body define themselves, the position of the last one that needs it.
pub(super) fn last_uses(body: &[Stmt]) -> HashMap<Reg, usize> {
    let mut last = HashMap::new();
    for (at, statement) in body.iter().enumerate() {
        if let Stmt::Let { reg, .. } | Stmt::Load { reg, .. } | Stmt::Read { reg, .. } = statement {
            last.insert(*reg, at);
        }
        uses(statement, &mut |reg| {
            if let Some(position) = last.get_mut(&reg) {
                *position = at;
            }
        });
    }
    last
}

/// Calls `visit` with each register that a statement reads.
pub(super) fn uses(statement: &Stmt, visit: &mut impl FnMut(Reg)) {
    let of_index = |index: &Index, visit: &mut dyn FnMut(Reg)| {
        index.registers.iter().for_each(|(reg, _)| visit(*reg));
    };
    match statement {
        Stmt::Let { op, args, .. } => {
            args.iter().copied().for_each(&mut *visit);
            if let ScalarOp::Index(index) = op {
                of_index(index, visit);
            }
        }
        Stmt::For { body, .. } => body.iter().for_each(|inner| uses(inner, visit)),
        Stmt::Load { index, .. } => of_index(index, visit),
        Stmt::Store { index, value, .. } | Stmt::Update { index, value, .. } => {
            visit(*value);
            of_index(index, visit);
        }
        Stmt::Reduce { value, .. } | Stmt::Set { value, .. } => visit(*value),
        Stmt::If { conditions, body, otherwise } => {
            for condition in conditions {
                match condition {
                    Condition::Affine { index, .. } => of_index(index, visit),
                    Condition::Register(reg) => visit(*reg),
                }
            }
            body.iter().chain(otherwise).for_each(|inner| uses(inner, visit));
        }
        Stmt::Fail { condition, value, .. } => [*condition, *value].into_iter().for_each(visit),
        Stmt::Transpose { index, .. } => of_index(index, visit),
        Stmt::Accumulator { .. } | Stmt::Read { .. } | Stmt::Wide { .. } => {}
    }
}
