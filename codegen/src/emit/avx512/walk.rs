//! A kernel's statements, one after the other.

use iced_x86::code_asm::*;

use super::addresses::{FREE_POINTERS, POINTERS, most_streams};
use super::registers::{PASSING, Registers, TAIL, last_uses, under};
use super::{Beyond, Calls, LANES};
use crate::loops::{
    Acc, Access, BufferId, Constant, Index, Kernel, LoopKind, ReduceOp, Scalar, Stmt, UnaryOp, Var,
};

/// Words on the stack before those of the loop variables: the table of buffers, and up to three ranges.
const FIXED_WORDS: usize = 7;
/// Bytes of a vector.
const VECTOR_BYTES: usize = 64;
/// Vectors that are alive across a call, at most.
const MOST_SPILLED: usize = 16;
/// Bytes of stack, at most.
const MOST_STACK: usize = 64 << 10;
/// Variables of a kernel; more are not expected.
const MOST_VARIABLES: u32 = 64;

/// Where a call is: the number of the instruction, the bytes before the address, the function.
type Call = (usize, u32, UnaryOp);

/// The code of a kernel, and its calls.
pub(super) fn assemble(kernel: &Kernel, calls: Calls) -> Result<(CodeAssembler, Vec<Call>), Beyond> {
    if kernel.variables > MOST_VARIABLES || !has_vectors(&kernel.body) {
        return Err(Beyond);
    }
    let saved = POINTERS.get(FREE_POINTERS..most_streams(&kernel.body).max(FREE_POINTERS)).ok_or(Beyond)?;
    let mut end = 8 * (FIXED_WORDS + kernel.variables as usize);
    let mut take = |bytes: usize| -> Result<i32, Beyond> {
        let start = end.next_multiple_of(VECTOR_BYTES);
        end = start.checked_add(bytes).filter(|&end| end <= MOST_STACK).ok_or(Beyond)?;
        Ok(start as i32)
    };
    let mut local = vec![None; kernel.buffers.len()];
    for (place, buffer) in local.iter_mut().zip(&kernel.buffers) {
        if buffer.access == Access::Local {
            *place = Some(take(buffer.elements.saturating_mul(buffer.scalar.bytes()))?);
        }
    }
    // Calls work on the kernel's own buffers.
    let has_calls = local.iter().any(Option::is_some);
    let spilled = take(if has_calls { MOST_SPILLED * VECTOR_BYTES } else { 0 })?;
    let mut code = CodeAssembler::new(64)?;
    // The older encoding knows sixteen registers only.
    code.set_prefer_vex(false);
    let registers = Registers::new();
    let mut emitter =
        Emitter { code, kernel, registers, depth: 0, around: None, local, spilled, calls, called: vec![] };
    emitter.function(saved, end as i32)?;
    Ok((emitter.code, emitter.called))
}

fn has_vectors(body: &[Stmt]) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::For { kind: LoopKind::Vector | LoopKind::ParallelVector | LoopKind::TileVector, .. } => true,
        Stmt::For { body, .. } => has_vectors(body),
        _ => false,
    })
}

/// An operand on the stack.
pub(super) fn word(number: usize) -> AsmMemoryOperand {
    qword_ptr(rsp + 8 * number as i32)
}

pub(super) fn variable(var: Var) -> AsmMemoryOperand {
    word(FIXED_WORDS + var.0 as usize)
}

/// The iterations of a loop.
#[derive(Clone, Copy)]
enum Bounds {
    /// From 0.
    Known(usize),
    /// The function's range of this number.
    Range(usize),
}

/// The vector loop around.
pub(super) struct Around {
    pub(super) var: Var,
    /// Where the elements of iteration 0 are.
    pub(super) pointers: Vec<(BufferId, Index, AsmRegister64)>,
    /// Partial results of accumulators from outside.
    partial: Vec<(Acc, ReduceOp, AsmRegisterZmm)>,
    /// Whether only the lanes of [`TAIL`] count.
    masked: bool,
}

pub(super) struct Emitter<'k> {
    pub(super) code: CodeAssembler,
    pub(super) kernel: &'k Kernel,
    pub(super) registers: Registers,
    /// Number of loops around.
    depth: usize,
    pub(super) around: Option<Around>,
    /// Where buffers of the kernel's own are on the stack, and where vectors are kept during calls.
    pub(super) local: Vec<Option<i32>>,
    spilled: i32,
    calls: Calls,
    called: Vec<Call>,
}

impl Emitter<'_> {
    fn function(&mut self, saved: &[AsmRegister64], stack: i32) -> Result<(), Beyond> {
        let tiles = self.kernel.tile_extents().is_some();
        saved.iter().try_for_each(|register| self.code.push(*register))?;
        self.code.push(rbp)?;
        self.code.mov(rbp, rsp)?;
        self.code.sub(rsp, stack)?;
        // For vectors on the stack.
        if self.local.iter().any(Option::is_some) {
            self.code.and(rsp, -(VECTOR_BYTES as i32))?;
        }
        if tiles {
            // tile, row_stride, rows, columns, batch, row0; column0 and the table are on the stack, behind what was
            // saved and the return address.
            let pushed = 8 * (saved.len() as i32 + 2);
            self.code.mov(rax, qword_ptr(rbp + (pushed + 8)))?;
            self.code.mov(word(0), rax)?;
            self.code.mov(word(1), r8)?;
            self.code.mov(word(3), r9)?;
            self.code.add(r9, rdx)?;
            self.code.mov(word(4), r9)?;
            self.code.mov(rax, qword_ptr(rbp + pushed))?;
            self.code.mov(word(5), rax)?;
            self.code.add(rax, rcx)?;
            self.code.mov(word(6), rax)?;
        } else {
            for (number, argument) in [rdi, rsi, rdx].into_iter().enumerate() {
                self.code.mov(word(number), argument)?;
            }
        }
        self.body(&self.kernel.body)?;
        self.code.vzeroupper()?;
        if !tiles {
            self.code.xor(eax, eax)?;
        }
        self.code.mov(rsp, rbp)?;
        self.code.pop(rbp)?;
        saved.iter().rev().try_for_each(|register| self.code.pop(*register))?;
        self.code.ret()?;
        Ok(())
    }

    fn body(&mut self, body: &[Stmt]) -> Result<(), Beyond> {
        let last = last_uses(body);
        for (at, statement) in body.iter().enumerate() {
            self.statement(statement)?;
            self.registers.end_of_statement(&last, at);
        }
        self.registers.end_of_body(body);
        Ok(())
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), Beyond> {
        match statement {
            Stmt::Let { reg, op, args } => self.operation(*reg, op, args),
            Stmt::For { .. } if self.around.is_some() => Err(Beyond),
            Stmt::For { var, extent, kind, body } => match kind {
                LoopKind::Serial => self.counted(*var, Bounds::Known(*extent), body),
                LoopKind::Parallel => self.counted(*var, Bounds::Range(0), body),
                // The function serves one batch.
                LoopKind::Tile if self.depth == 0 => {
                    self.code.mov(rax, word(1))?;
                    self.code.mov(variable(*var), rax)?;
                    self.inside(body)
                }
                LoopKind::Tile => self.counted(*var, Bounds::Range(self.depth), body),
                LoopKind::Vector => self.vectors(*var, Bounds::Known(*extent), body),
                LoopKind::ParallelVector => self.vectors(*var, Bounds::Range(0), body),
                LoopKind::TileVector => self.vectors(*var, Bounds::Range(self.depth), body),
            },
            Stmt::Load { reg, buffer, index } => {
                let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
                let (from, adjacent) = self.element(*buffer, index)?;
                match (scalar, adjacent) {
                    (Scalar::F32, true) => {
                        let to = self.registers.define(*reg)?;
                        let to = if self.is_masked() { under(to, TAIL).z() } else { to };
                        self.code.vmovups(to, from)?;
                    }
                    (Scalar::F32, false) => {
                        let to = self.registers.define(*reg)?;
                        self.code.vbroadcastss(to, from)?;
                    }
                    (Scalar::Bool, true) => {
                        let to = self.registers.define_mask(*reg)?;
                        let wide = PASSING[0];
                        let masked = if self.is_masked() { under(wide, TAIL).z() } else { wide };
                        self.code.vpmovzxbd(masked, from)?;
                        self.code.vptestmd(to, wide, wide)?;
                    }
                    (Scalar::F16 | Scalar::BF16, _) => {
                        let to = self.registers.define(*reg)?;
                        self.load_half(scalar, to, (from, adjacent))?;
                    }
                    _ => return Err(Beyond),
                }
                Ok(())
            }
            Stmt::Store { buffer, index, value } => {
                let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
                let (to, adjacent) = self.element(*buffer, index)?;
                match (scalar, adjacent) {
                    (Scalar::F32, true) => {
                        let from = self.registers.vector(*value)?;
                        self.code.vmovups(if self.is_masked() { under(to, TAIL) } else { to }, from)?;
                    }
                    (Scalar::F32, false) if self.around.is_none() => {
                        let from = self.registers.vector(*value)?;
                        self.code.vmovaps(PASSING[0], from)?;
                        self.code.vmovss(to, xmm30)?;
                    }
                    (Scalar::F16 | Scalar::BF16, adjacent) if adjacent || self.around.is_none() => {
                        let from = self.registers.vector(*value)?;
                        self.store_half(scalar, from, (to, adjacent))?;
                    }
                    (Scalar::Bool, true) => {
                        let from = self.registers.mask(*value)?;
                        let [bits, ones] = PASSING;
                        self.code.mov(edx, 1)?;
                        self.code.vpbroadcastd(ones, edx)?;
                        self.code.vmovdqa32(under(bits, from).z(), ones)?;
                        self.code.vpmovdb(if self.is_masked() { under(to, TAIL) } else { to }, bits)?;
                    }
                    _ => return Err(Beyond),
                }
                Ok(())
            }
            Stmt::Accumulator { acc, init } => {
                if self.around.is_some() || self.kernel.accumulators[acc.0 as usize] != Scalar::F32 {
                    return Err(Beyond);
                }
                let Constant::Float(init) = *init else { return Err(Beyond) };
                let to = self.registers.declare(*acc)?;
                self.fill(to, init as f32)
            }
            Stmt::Reduce { acc, op, value } => {
                let value = self.registers.vector(*value)?;
                let Some(around) = &self.around else {
                    let all = self.registers.accumulator(*acc)?;
                    return self.combine(op.binary(), all, value);
                };
                let masked = around.masked;
                let found = around.partial.iter().find(|(own, _, _)| own == acc);
                let Some((_, _, partial)) = found.copied() else { return Err(Beyond) };
                if masked {
                    self.binary(op.binary(), PASSING[1], partial, value)?;
                    self.code.vmovaps(under(partial, TAIL), PASSING[1])?;
                    return Ok(());
                }
                self.combine(op.binary(), partial, value)
            }
            Stmt::Read { reg, acc } if self.around.is_none() => {
                let from = self.registers.accumulator(*acc)?;
                let to = self.registers.define(*reg)?;
                Ok(self.code.vmovaps(to, from)?)
            }
            Stmt::Wide { function, buffer, count } if self.around.is_none() => {
                self.call(*function, *buffer, *count)
            }
            Stmt::Read { .. }
            | Stmt::Update { .. }
            | Stmt::Set { .. }
            | Stmt::If { .. }
            | Stmt::Wide { .. }
            | Stmt::Fail { .. } => Err(Beyond),
        }
    }

    /// Calls a wide function on a buffer of the kernel's own. All vector registers are the callee's.
    fn call(&mut self, function: UnaryOp, buffer: BufferId, count: usize) -> Result<(), Beyond> {
        let alive = self.registers.alive().filter(|alive| alive.len() <= MOST_SPILLED).ok_or(Beyond)?;
        let place = |number: usize| zmmword_ptr(rsp + (self.spilled + (number * VECTOR_BYTES) as i32));
        for (number, register) in alive.iter().enumerate() {
            self.code.vmovaps(place(number), *register)?;
        }
        let start = self.local[buffer.0 as usize].ok_or(Beyond)?;
        self.code.mov(edi, u32::try_from(count).map_err(|_| Beyond)?)?;
        self.code.lea(rsi, qword_ptr(rsp + start))?;
        self.code.mov(rdx, rsi)?;
        let at = self.code.instructions().len();
        match self.calls {
            Calls::Absolute => {
                // mov rax, the address
                self.code.db(&[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0])?;
                self.called.push((at, 2, function));
                self.code.call(rax)?;
            }
            Calls::Relative => {
                self.code.db(&[0xe8, 0, 0, 0, 0])?;
                self.called.push((at, 1, function));
            }
        }
        for (number, register) in alive.iter().enumerate() {
            self.code.vmovaps(*register, place(number))?;
        }
        Ok(())
    }

    pub(super) fn is_masked(&self) -> bool {
        self.around.as_ref().is_some_and(|around| around.masked)
    }

    /// A body in one loop more.
    fn inside(&mut self, body: &[Stmt]) -> Result<(), Beyond> {
        self.depth += 1;
        self.body(body)?;
        self.depth -= 1;
        Ok(())
    }

    /// A loop, one iteration at a time.
    fn counted(&mut self, var: Var, bounds: Bounds, body: &[Stmt]) -> Result<(), Beyond> {
        let (mut top, mut done) = (self.code.create_label(), self.code.create_label());
        match bounds {
            Bounds::Known(0) => return Ok(()),
            Bounds::Known(_) => self.code.mov(variable(var), 0)?,
            Bounds::Range(number) => {
                self.code.mov(rax, word(1 + 2 * number))?;
                self.code.mov(variable(var), rax)?;
                self.code.cmp(rax, word(2 + 2 * number))?;
                self.code.jge(done)?;
            }
        }
        self.code.set_label(&mut top)?;
        self.code.zero_bytes()?;
        self.inside(body)?;
        self.code.mov(rax, variable(var))?;
        self.code.add(rax, 1)?;
        self.code.mov(variable(var), rax)?;
        match bounds {
            Bounds::Known(extent) => self.code.cmp(rax, i32::try_from(extent).map_err(|_| Beyond)?)?,
            Bounds::Range(number) => self.code.cmp(rax, word(2 + 2 * number))?,
        }
        self.code.jl(top)?;
        self.code.set_label(&mut done)?;
        self.code.zero_bytes()?;
        Ok(())
    }

    /// A loop in lanes.
    fn vectors(&mut self, var: Var, bounds: Bounds, body: &[Stmt]) -> Result<(), Beyond> {
        let (some, rest) = match bounds {
            Bounds::Known(extent) => (extent >= LANES as usize, extent % LANES as usize > 0),
            Bounds::Range(_) => (true, true),
        };
        let partial = self.begin_partial(body)?;
        let pointers = self.point(var, body)?;
        self.around = Some(Around { var, pointers, partial: partial.clone(), masked: false });
        let before = self.registers.clone();
        match bounds {
            Bounds::Known(extent) => {
                self.code.xor(eax, eax)?;
                self.code.mov(ecx, u32::try_from(extent).map_err(|_| Beyond)?)?;
            }
            Bounds::Range(number) => {
                self.code.mov(rax, word(1 + 2 * number))?;
                self.code.mov(rcx, word(2 + 2 * number))?;
            }
        }
        let [mut top, mut tail, mut done] = std::array::from_fn(|_| self.code.create_label());
        if some {
            if let Bounds::Range(_) = bounds {
                self.code.lea(rdx, qword_ptr(rax + LANES))?;
                self.code.cmp(rdx, rcx)?;
                self.code.jg(tail)?;
            }
            self.code.set_label(&mut top)?;
            self.code.zero_bytes()?;
            self.body(body)?;
            self.code.add(rax, LANES)?;
            self.code.lea(rdx, qword_ptr(rax + LANES))?;
            self.code.cmp(rdx, rcx)?;
            self.code.jle(top)?;
            self.registers = before.clone();
        }
        self.code.set_label(&mut tail)?;
        self.code.zero_bytes()?;
        if rest {
            self.code.mov(rdx, rcx)?;
            self.code.sub(rdx, rax)?;
            self.code.jle(done)?;
            self.code.mov(ecx, -1)?;
            self.code.bzhi(ecx, ecx, edx)?;
            self.code.kmovw(TAIL, ecx)?;
            if let Some(around) = &mut self.around {
                around.masked = true;
            }
            self.body(body)?;
            self.registers = before;
        }
        self.code.set_label(&mut done)?;
        self.code.zero_bytes()?;
        self.around = None;
        for (acc, op, register) in partial {
            self.across(op.binary(), register)?;
            let all = self.registers.accumulator(acc)?;
            self.combine(op.binary(), all, register)?;
            self.registers.give(register);
        }
        Ok(())
    }

    /// A partial result for each accumulator that a vector loop reduces into.
    fn begin_partial(&mut self, body: &[Stmt]) -> Result<Vec<(Acc, ReduceOp, AsmRegisterZmm)>, Beyond> {
        let mut partial: Vec<(Acc, ReduceOp, AsmRegisterZmm)> = Vec::new();
        for statement in body {
            let Stmt::Reduce { acc, op, .. } = statement else { continue };
            match partial.iter().find(|(own, _, _)| own == acc) {
                Some((_, own, _)) if own == op => {}
                Some(_) => return Err(Beyond),
                None => {
                    let Constant::Float(identity) = op.identity(Scalar::F32) else { return Err(Beyond) };
                    let register = self.registers.take()?;
                    self.fill(register, identity as f32)?;
                    partial.push((*acc, *op, register));
                }
            }
        }
        Ok(partial)
    }
}
