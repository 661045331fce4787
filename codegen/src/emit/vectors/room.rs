//! Registers for values, and memory for those that have to leave them.
//!
//! Where registers are short, values that stand outside of a vector loop wait on the stack meanwhile: first those that the
//! loop does not use. What is written for a loop or a branch holds at its end in registers what it held there when it
//! began.

use std::collections::HashMap;

use iced_x86::code_asm::*;

use super::Beyond;
use super::machine::Machine;
use super::registers::{Location, Registers, last_uses, uses};
use super::walk::{Emitter, VECTOR_BYTES};
use crate::loops::{Acc, Reg, Scalar, Stmt};

/// Values that have a place on the stack, at most.
const MOST_AWAY: usize = 64;
/// Memory for these.
pub(super) const AWAY_BYTES: usize = MOST_AWAY * VECTOR_BYTES;
/// Operands of a statement, at most.
const MOST_OPERANDS: usize = 3;

/// Values on the stack.
pub(super) struct Away {
    /// Where their places are.
    start: i32,
    places: HashMap<Reg, usize>,
}

impl Away {
    pub fn at(start: i32) -> Away {
        Away { start, places: HashMap::new() }
    }

    fn address(&self, place: usize) -> AsmMemoryOperand {
        rsp + (self.start + (place * VECTOR_BYTES) as i32)
    }
}

impl<M: Machine> Emitter<'_, M> {
    /// A free register; outside of vector loops, one that a value leaves if need be.
    fn take(&mut self) -> Result<M::Vector, Beyond> {
        if self.around.is_none() {
            self.make_room(1, &HashMap::new())?;
        }
        self.registers.take()
    }

    /// A register for a new number.
    pub(super) fn define(&mut self, reg: Reg) -> Result<M::Vector, Beyond> {
        let register = self.take()?;
        self.registers.values.insert(reg, Location::Vector(register));
        Ok(register)
    }

    /// A register for a new truth value.
    pub(super) fn define_mask(&mut self, reg: Reg) -> Result<M::Mask, Beyond> {
        let register = self.registers.take_mask()?;
        self.registers.values.insert(reg, Location::Mask(register));
        Ok(register)
    }

    /// A number: in its register, or, until the statement ends, in one that is lent to it.
    pub(super) fn vector(&mut self, reg: Reg) -> Result<M::Vector, Beyond> {
        match self.registers.values.get(&reg) {
            Some(Location::Vector(register)) => Ok(*register),
            Some(Location::Away(place)) => {
                let place = *place;
                let register = self.take()?;
                self.lent.push(register);
                let from = self.away.as_ref().ok_or(Beyond::Registers)?.address(place);
                M::bring_back(&mut self.code, register, from)?;
                Ok(register)
            }
            Some(Location::Mask(_)) | None => Err(Beyond::Kind),
        }
    }

    /// A truth value.
    pub(super) fn mask(&self, reg: Reg) -> Result<M::Mask, Beyond> {
        match self.registers.values.get(&reg) {
            Some(Location::Mask(register)) => Ok(*register),
            Some(Location::Vector(_) | Location::Away(_)) | None => Err(Beyond::Kind),
        }
    }

    /// Takes back what was lent for a statement.
    pub(super) fn end_of_loans(&mut self) {
        self.lent.drain(..).for_each(|register| self.registers.give(register));
    }

    /// A register for an accumulator that is declared.
    pub(super) fn declare(&mut self, acc: Acc) -> Result<M::Vector, Beyond> {
        self.make_room(1, &HashMap::new())?;
        self.registers.declare(acc)
    }

    /// Room for the values of a vector loop's body, and for so many partial results.
    pub(super) fn make_room_for(&mut self, body: &[Stmt], partial: usize) -> Result<(), Beyond> {
        let wanted = self.most_alive(body) + partial;
        if wanted <= self.registers.free() {
            return Ok(());
        }
        let mut used = HashMap::new();
        body.iter().for_each(|statement| uses(statement, &mut |reg| *used.entry(reg).or_insert(0) += 1));
        self.make_room(wanted + MOST_OPERANDS, &used)
    }

    /// The most registers that values of a vector loop's body have at a time.
    pub(super) fn most_alive(&self, body: &[Stmt]) -> usize {
        let last = last_uses(body);
        let counts = |reg: &Reg| self.kernel.type_of(*reg) != Scalar::Bool || M::MASKS.is_empty();
        let (mut alive, mut most) = (0, 0);
        for (at, statement) in body.iter().enumerate() {
            if let Stmt::Let { reg, .. } | Stmt::Load { reg, .. } | Stmt::Read { reg, .. } = statement
                && counts(reg)
            {
                alive += 1;
            }
            most = most.max(alive);
            alive -= last.iter().filter(|(reg, end)| **end == at && counts(reg)).count();
        }
        most
    }

    /// Sends values away until so many registers are free, or none is left to go; those first that are used least, and of
    /// these the oldest.
    fn make_room(&mut self, wanted: usize, used: &HashMap<Reg, usize>) -> Result<(), Beyond> {
        if self.registers.free() >= wanted {
            return Ok(());
        }
        let Some(away) = &mut self.away else { return Err(Beyond::Registers) };
        let mut here: Vec<(usize, Reg, M::Vector)> = Vec::new();
        for (reg, location) in &self.registers.values {
            if let Location::Vector(register) = location
                && !self.operands.contains(reg)
            {
                here.push((used.get(reg).copied().unwrap_or(0), *reg, *register));
            }
        }
        here.sort_unstable_by_key(|(count, reg, _)| (*count, *reg));
        for (_, reg, register) in here {
            if self.registers.free() >= wanted {
                break;
            }
            let next = away.places.len();
            let place = *away.places.entry(reg).or_insert(next);
            if place >= MOST_AWAY {
                return Err(Beyond::Registers);
            }
            M::keep(&mut self.code, away.address(place), register)?;
            self.registers.values.insert(reg, Location::Away(place));
            self.registers.give(register);
        }
        Ok(())
    }

    /// Brings back what has left its register since, so that all is where it was.
    pub(super) fn settle(&mut self, before: &Registers<M>) -> Result<(), Beyond> {
        let mut moved: Vec<(Reg, M::Vector, usize)> = Vec::new();
        for (reg, location) in &before.values {
            if let (Location::Vector(register), Some(Location::Away(place))) =
                (location, self.registers.values.get(reg))
            {
                moved.push((*reg, *register, *place));
            }
        }
        moved.sort_unstable_by_key(|(reg, ..)| *reg);
        for (_, register, place) in moved {
            let from = self.away.as_ref().ok_or(Beyond::Registers)?.address(place);
            M::bring_back(&mut self.code, register, from)?;
        }
        self.registers = before.clone();
        Ok(())
    }
}
