//! Which vector and mask registers hold what.

use std::collections::HashMap;

use iced_x86::code_asm::*;

use super::Beyond;
use crate::loops::{Acc, Condition, Index, Reg, ScalarOp, Stmt};

/// Vector registers for passing use; values get those before.
pub(super) const PASSING: [AsmRegisterZmm; 2] = [zmm30, zmm31];
/// Lanes that a vector loop's last iterations have.
pub(super) const TAIL: AsmRegisterK = k1;
/// A mask for passing use; values get those behind.
pub(super) const PASSING_MASK: AsmRegisterK = k2;

const ZMM: [AsmRegisterZmm; 30] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15,
    zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29,
];
const MASKS: [AsmRegisterK; 5] = [k3, k4, k5, k6, k7];

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Location {
    Vector(AsmRegisterZmm),
    Mask(AsmRegisterK),
}

/// Values and accumulators in registers, and the registers that are free.
#[derive(Clone)]
pub(super) struct Registers {
    values: HashMap<Reg, Location>,
    accumulators: HashMap<Acc, AsmRegisterZmm>,
    vectors: Vec<AsmRegisterZmm>,
    masks: Vec<AsmRegisterK>,
}

impl Registers {
    pub fn new() -> Registers {
        let (vectors, masks) = (ZMM.iter().rev().copied().collect(), MASKS.iter().rev().copied().collect());
        Registers { values: HashMap::new(), accumulators: HashMap::new(), vectors, masks }
    }

    /// A free vector register.
    pub fn take(&mut self) -> Result<AsmRegisterZmm, Beyond> {
        self.vectors.pop().ok_or(Beyond)
    }

    /// Frees a vector register.
    pub fn give(&mut self, register: AsmRegisterZmm) {
        self.vectors.push(register);
    }

    /// A register for a new number.
    pub fn define(&mut self, reg: Reg) -> Result<AsmRegisterZmm, Beyond> {
        let register = self.take()?;
        self.values.insert(reg, Location::Vector(register));
        Ok(register)
    }

    /// A register for a new truth value.
    pub fn define_mask(&mut self, reg: Reg) -> Result<AsmRegisterK, Beyond> {
        let register = self.masks.pop().ok_or(Beyond)?;
        self.values.insert(reg, Location::Mask(register));
        Ok(register)
    }

    /// A number.
    pub fn vector(&self, reg: Reg) -> Result<AsmRegisterZmm, Beyond> {
        match self.values.get(&reg) {
            Some(Location::Vector(register)) => Ok(*register),
            Some(Location::Mask(_)) | None => Err(Beyond),
        }
    }

    /// A truth value.
    pub fn mask(&self, reg: Reg) -> Result<AsmRegisterK, Beyond> {
        match self.values.get(&reg) {
            Some(Location::Mask(register)) => Ok(*register),
            Some(Location::Vector(_)) | None => Err(Beyond),
        }
    }

    /// A register for an accumulator that is declared.
    pub fn declare(&mut self, acc: Acc) -> Result<AsmRegisterZmm, Beyond> {
        let register = self.take()?;
        self.accumulators.insert(acc, register);
        Ok(register)
    }

    /// An accumulator.
    pub fn accumulator(&self, acc: Acc) -> Result<AsmRegisterZmm, Beyond> {
        self.accumulators.get(&acc).copied().ok_or(Beyond)
    }

    /// The registers in use.
    pub fn alive(&self) -> (Vec<AsmRegisterZmm>, Vec<AsmRegisterK>) {
        let vectors = ZMM.iter().copied().filter(|register| !self.vectors.contains(register));
        let masks = MASKS.iter().copied().filter(|register| !self.masks.contains(register));
        (vectors.collect(), masks.collect())
    }

    /// Forgets a value, and frees its register.
    fn forget(&mut self, reg: Reg) {
        match self.values.remove(&reg) {
            Some(Location::Vector(register)) => self.vectors.push(register),
            Some(Location::Mask(register)) => self.masks.push(register),
            None => {}
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
fn uses(statement: &Stmt, visit: &mut impl FnMut(Reg)) {
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

/// A register under a mask: lanes outside of it keep what they have.
pub(super) fn under<R: Masked>(register: R, mask: AsmRegisterK) -> R {
    match mask {
        _ if mask == k1 => register.by_k1(),
        _ if mask == k2 => register.by_k2(),
        _ if mask == k3 => register.by_k3(),
        _ if mask == k4 => register.by_k4(),
        _ if mask == k5 => register.by_k5(),
        _ if mask == k6 => register.by_k6(),
        _ => register.by_k7(),
    }
}

/// What can be put under a mask.
pub(super) trait Masked {
    fn by_k1(self) -> Self;
    fn by_k2(self) -> Self;
    fn by_k3(self) -> Self;
    fn by_k4(self) -> Self;
    fn by_k5(self) -> Self;
    fn by_k6(self) -> Self;
    fn by_k7(self) -> Self;
}

macro_rules! masked {
    ($($ty:ty),*) => {$(
        impl Masked for $ty {
            fn by_k1(self) -> Self { self.k1() }
            fn by_k2(self) -> Self { self.k2() }
            fn by_k3(self) -> Self { self.k3() }
            fn by_k4(self) -> Self { self.k4() }
            fn by_k5(self) -> Self { self.k5() }
            fn by_k6(self) -> Self { self.k6() }
            fn by_k7(self) -> Self { self.k7() }
        }
    )*};
}

masked!(AsmRegisterZmm, AsmMemoryOperand, AsmRegisterK);
