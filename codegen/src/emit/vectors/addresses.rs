//! Where the elements are that statements load and store.

use iced_x86::code_asm::*;

use super::Beyond;
use super::machine::Machine;
use super::walk::{Emitter, variable, word};
use crate::loops::{BufferId, Index, LoopKind, Stmt, Var};

/// Registers for addresses in a vector loop. `rax` counts its iterations, `rcx` and `rdx` are for passing use.
pub(super) const POINTERS: [AsmRegister64; 11] = [rsi, rdi, r8, r9, r10, r11, rbx, r12, r13, r14, r15];
/// How many of these, the first, are not the caller's.
pub(super) const FREE_POINTERS: usize = 6;

/// The streams of the vector loop that has most.
pub(super) fn most_streams(body: &[Stmt]) -> usize {
    let of = |statement: &Stmt| match statement {
        Stmt::For {
            var,
            kind: LoopKind::Vector | LoopKind::ParallelVector | LoopKind::TileVector,
            body,
            ..
        } => streams(*var, body).len(),
        Stmt::For { body, .. } => most_streams(body),
        Stmt::If { body, otherwise, .. } => most_streams(body).max(most_streams(otherwise)),
        _ => 0,
    };
    body.iter().map(of).max().unwrap_or(0)
}

/// What the statements of a vector loop load and store: buffers, and where its iteration 0 finds its element, but for a
/// constant distance.
fn streams(var: Var, body: &[Stmt]) -> Vec<(BufferId, Index)> {
    let mut streams = Vec::new();
    for statement in body {
        let (Stmt::Load { buffer, index, .. } | Stmt::Store { buffer, index, .. }) = statement else {
            continue;
        };
        let stream = (*buffer, start(var, index));
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    streams
}

/// Where iteration 0 of a loop is, but for a constant distance.
fn start(var: Var, index: &Index) -> Index {
    let start = index.clone().plus(var, -index.coefficient(var));
    Index { constant: 0, ..start }
}

impl<M: Machine> Emitter<'_, M> {
    /// Computes the addresses of what a vector loop loads and stores.
    pub(super) fn point(
        &mut self,
        var: Var,
        body: &[Stmt],
    ) -> Result<Vec<(BufferId, Index, AsmRegister64)>, Beyond> {
        let mut pointers = Vec::new();
        for ((buffer, start), &to) in streams(var, body).into_iter().zip(&POINTERS) {
            self.address(to, buffer, &start)?;
            pointers.push((buffer, start, to));
        }
        Ok(pointers)
    }

    /// The address of an element, but for a constant distance in bytes, which is returned.
    pub(super) fn address(
        &mut self,
        to: AsmRegister64,
        buffer: BufferId,
        index: &Index,
    ) -> Result<i32, Beyond> {
        if !index.registers.is_empty() {
            return Err(Beyond::Kind);
        }
        let size = self.kernel.buffers[buffer.0 as usize].scalar.bytes() as i64;
        let bytes = |count: i64| count.checked_mul(size).and_then(|bytes| i32::try_from(bytes).ok());
        match self.local[buffer.0 as usize] {
            Some(start) => self.code.lea(to, qword_ptr(rsp + start))?,
            None => {
                self.code.mov(to, word(0))?;
                self.code.mov(to, qword_ptr(to + 8 * buffer.0 as i32))?;
            }
        }
        for (var, coefficient) in &index.terms {
            self.code.imul_3(rcx, variable(*var), bytes(*coefficient).ok_or(Beyond::Kind)?)?;
            self.code.add(to, rcx)?;
        }
        bytes(index.constant).ok_or(Beyond::Kind)
    }

    /// Where a vector loop's iteration 0 finds an element: a register, and bytes from there.
    fn pointer(&self, buffer: BufferId, index: &Index) -> Option<(AsmRegister64, i32)> {
        let around = self.around.as_ref()?;
        let start = start(around.var, index);
        let mut pointers = around.pointers.iter();
        let (_, _, pointer) = pointers.find(|(own, from, _)| *own == buffer && *from == start)?;
        let size = self.kernel.buffers[buffer.0 as usize].scalar.bytes() as i64;
        let distance = index.constant.checked_mul(size)?;
        Some((*pointer, i32::try_from(distance).ok()?))
    }

    /// The operand of an element, and whether lanes have it and its neighbours, rather than all the same.
    pub(super) fn element(
        &mut self,
        buffer: BufferId,
        index: &Index,
    ) -> Result<(AsmMemoryOperand, bool), Beyond> {
        let size = self.kernel.buffers[buffer.0 as usize].scalar.bytes() as i32;
        let Some(around) = &self.around else {
            let distance = self.address(rdx, buffer, index)?;
            return Ok((rdx + distance, false));
        };
        let coefficient = index.coefficient(around.var);
        let turn = if coefficient == 0 { 0 } else { around.turn as i32 };
        let (pointer, distance) = self.pointer(buffer, index).ok_or(Beyond::Kind)?;
        let distance = distance.checked_add(turn * M::LANES * size).ok_or(Beyond::Kind)?;
        match coefficient {
            1 => Ok((pointer + rax * size + distance, true)),
            0 => Ok((pointer + distance, false)),
            _ => Err(Beyond::Kind),
        }
    }
}
