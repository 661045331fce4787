//! Calls of wide functions.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::machine::Machine;
use super::walk::{Emitter, VECTOR_BYTES};
use super::{Beyond, Calls};
use crate::emit::TRANSPOSE;
use crate::loops::{BufferId, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp, Stmt, UnaryOp};

/// Vectors that are alive across a call, at most.
const MOST_SPILLED: usize = 16;
/// Memory for these, and for masks.
pub(super) const SPILLED_BYTES: usize = (MOST_SPILLED + 1) * VECTOR_BYTES;

/// A function elsewhere.
#[derive(Clone, Copy)]
pub(in crate::emit) enum Callee {
    /// The wide form of a function.
    Wide(UnaryOp),
    /// What [`Stmt::Transpose`] runs.
    Transpose,
}

impl Callee {
    /// Its name for the linker.
    pub(in crate::emit) fn symbol(self) -> String {
        match self {
            Callee::Wide(function) => format!("gradc_wide_{function}"),
            Callee::Transpose => TRANSPOSE.into(),
        }
    }

    /// Its arguments, of 64 bits.
    pub(in crate::emit) fn arguments(self) -> usize {
        match self {
            Callee::Wide(_) => 3,
            Callee::Transpose => 5,
        }
    }
}

/// Where a call is: the number of the instruction, the bytes before the address, the function.
pub(super) type Call = (usize, u32, Callee);

/// Whether a wide function is computed of a number that is the same for all lanes.
pub(super) fn has_single(kernel: &Kernel, body: &[Stmt]) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::Let { reg, op: ScalarOp::Unary(op), .. } => is_wide(kernel, *reg, *op),
        Stmt::For { kind: LoopKind::Vector | LoopKind::ParallelVector | LoopKind::TileVector, .. } => false,
        Stmt::For { body, .. } => has_single(kernel, body),
        Stmt::If { body, otherwise, .. } => has_single(kernel, body) || has_single(kernel, otherwise),
        _ => false,
    })
}

/// Whether a function of `f32` has a wide form.
pub(super) fn is_wide(kernel: &Kernel, reg: Reg, op: UnaryOp) -> bool {
    UnaryOp::WIDE.contains(&op) && kernel.type_of(reg) == Scalar::F32
}

impl<M: Machine> Emitter<'_, M> {
    /// A wide function of one number.
    pub(super) fn single(&mut self, reg: Reg, function: UnaryOp, of: Reg) -> Result<(), Beyond> {
        let start = self.single.ok_or(Beyond::Kind)?;
        let from = self.vector(of)?;
        M::keep(&mut self.code, rsp + start, from)?;
        self.wide(function, start, 1)?;
        let to = self.define(reg)?;
        M::load_one(&mut self.code, to, rsp + start)
    }

    /// Calls a wide function on what is on the stack.
    pub(super) fn wide(&mut self, function: UnaryOp, start: i32, count: usize) -> Result<(), Beyond> {
        let count = u32::try_from(count).map_err(|_| Beyond::Kind)?;
        self.call(Callee::Wide(function), |code| {
            code.mov(edi, count)?;
            code.lea(rsi, qword_ptr(rsp + start))?;
            code.mov(rdx, rsi)
        })
    }

    /// Calls what transposes a matrix into a buffer of the kernel's own.
    pub(super) fn transpose(
        &mut self,
        (from, index): (BufferId, &Index),
        to: i32,
        [stride, rows, columns]: [usize; 3],
    ) -> Result<(), Beyond> {
        let size = |size: usize| u32::try_from(size).map_err(|_| Beyond::Kind);
        let (stride, rows, columns) = (size(stride)?, size(rows)?, size(columns)?);
        let distance = self.address(rdi, from, index)?;
        self.call(Callee::Transpose, |code| {
            code.add(rdi, distance)?;
            code.mov(esi, stride)?;
            code.lea(rdx, qword_ptr(rsp + to))?;
            code.mov(ecx, rows)?;
            code.mov(r8d, columns)
        })
    }

    /// Calls a function with the arguments that are brought to their registers. All vector and mask registers are the
    /// callee's.
    fn call(
        &mut self,
        callee: Callee,
        arguments: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<(), Beyond> {
        let (vectors, masks) = self.registers.alive();
        if vectors.len() > MOST_SPILLED {
            return Err(Beyond::Kind);
        }
        let spilled = self.spilled;
        let place = |number: usize| rsp + (spilled + (number * VECTOR_BYTES) as i32);
        let behind = |number: usize| rsp + (spilled + (MOST_SPILLED * VECTOR_BYTES + 2 * number) as i32);
        for (number, register) in vectors.iter().enumerate() {
            M::keep(&mut self.code, place(number), *register)?;
        }
        for (number, mask) in masks.iter().enumerate() {
            M::keep_mask(&mut self.code, behind(number), *mask)?;
        }
        arguments(&mut self.code)?;
        let at = self.code.instructions().len();
        match self.calls {
            Calls::Absolute => {
                // mov rax, the address
                self.code.db(&[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0])?;
                self.called.push((at, 2, callee));
                self.code.call(rax)?;
            }
            Calls::Relative => {
                self.code.db(&[0xe8, 0, 0, 0, 0])?;
                self.called.push((at, 1, callee));
            }
        }
        for (number, register) in vectors.iter().enumerate() {
            M::bring_back(&mut self.code, *register, place(number))?;
        }
        for (number, mask) in masks.iter().enumerate() {
            M::bring_back_mask(&mut self.code, *mask, behind(number))?;
        }
        Ok(())
    }
}
