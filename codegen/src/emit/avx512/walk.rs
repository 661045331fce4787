//! A kernel's statements, one after the other.

use iced_x86::code_asm::*;

use super::addresses::{FREE_POINTERS, POINTERS, most_streams};
use super::calls::{Call, SPILLED_BYTES, has_single, is_wide};
use super::registers::{PASSING, Registers, TAIL, last_uses, under};
use super::{Beyond, Calls, LANES};
use crate::loops::{
    Acc, Access, BufferId, CompareOp, Condition, Constant, Index, Kernel, LoopKind, ReduceOp, Scalar,
    ScalarOp, Stmt, Var,
};

/// Words on the stack before those of the loop variables: the table of buffers, and up to three ranges.
const FIXED_WORDS: usize = 7;
/// Bytes of a vector.
pub(super) const VECTOR_BYTES: usize = 64;
/// Bytes of stack, at most.
const MOST_STACK: usize = 64 << 10;
/// Vectors of a round, where a loop reduces: as many partial results need not wait for each other.
const TURNS: usize = 4;
/// Loops of fewer iterations have no rounds.
const SHORTEST_ROUND: usize = 128;
/// Bodies of more statements have work enough to go on with while a result is waited for.
const LONGEST_IN_TURNS: usize = 16;
/// Variables of a kernel; more are not expected.
const MOST_VARIABLES: u32 = 64;

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
    let single = has_single(kernel, &kernel.body).then(|| take(VECTOR_BYTES)).transpose()?;
    // Calls work on the kernel's own buffers, or on a single number.
    let has_calls = single.is_some() || local.iter().any(Option::is_some);
    let spilled = take(if has_calls { SPILLED_BYTES } else { 0 })?;
    let mut code = CodeAssembler::new(64)?;
    // The older encoding knows sixteen registers only.
    code.set_prefer_vex(false);
    let registers = Registers::new();
    let mut emitter = Emitter {
        code,
        kernel,
        registers,
        depth: 0,
        around: None,
        local,
        single,
        spilled,
        calls,
        called: vec![],
    };
    emitter.function(saved, end as i32, has_calls)?;
    Ok((emitter.code, emitter.called))
}

fn has_vectors(body: &[Stmt]) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::For { kind: LoopKind::Vector | LoopKind::ParallelVector | LoopKind::TileVector, .. } => true,
        Stmt::For { body, .. } => has_vectors(body),
        Stmt::If { body, otherwise, .. } => has_vectors(body) || has_vectors(otherwise),
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

/// Partial results of an accumulator.
#[derive(Clone)]
struct Partial {
    acc: Acc,
    op: ReduceOp,
    /// For each vector of a round.
    registers: Vec<AsmRegisterZmm>,
}

/// The vector loop around.
pub(super) struct Around {
    pub(super) var: Var,
    /// Where the elements of iteration 0 are.
    pub(super) pointers: Vec<(BufferId, Index, AsmRegister64)>,
    /// Partial results of accumulators from outside: one for each vector of a round.
    partial: Vec<Partial>,
    /// The vector of the round.
    pub(super) turn: usize,
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
    /// Where a number stands of which a function is computed.
    pub(super) single: Option<i32>,
    /// Where registers are kept during calls.
    pub(super) spilled: i32,
    pub(super) calls: Calls,
    pub(super) called: Vec<Call>,
}

impl Emitter<'_> {
    fn function(&mut self, saved: &[AsmRegister64], stack: i32, has_calls: bool) -> Result<(), Beyond> {
        let tiles = self.kernel.tile_extents().is_some();
        saved.iter().try_for_each(|register| self.code.push(*register))?;
        self.code.push(rbp)?;
        self.code.mov(rbp, rsp)?;
        self.code.sub(rsp, stack)?;
        // For vectors on the stack.
        if has_calls {
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
            Stmt::Let { reg, op: ScalarOp::Unary(op), args }
                if self.around.is_none() && is_wide(self.kernel, *reg, *op) =>
            {
                self.single(*reg, *op, args[0])
            }
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
                let found = around.partial.iter().find(|partial| partial.acc == *acc).ok_or(Beyond)?;
                let partial = found.registers[around.turn];
                if around.masked {
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
            Stmt::If { conditions, body, otherwise } if self.around.is_none() => {
                self.branch(conditions, body, otherwise)
            }
            Stmt::Transpose { from, index, stride, to, rows, columns } if self.around.is_none() => {
                let to = self.local[to.0 as usize].ok_or(Beyond)?;
                self.transpose((*from, index), to, [*stride, *rows, *columns])
            }
            Stmt::Wide { function, buffer, count } if self.around.is_none() => {
                let start = self.local[buffer.0 as usize].ok_or(Beyond)?;
                self.wide(*function, start, *count)
            }
            Stmt::Read { .. }
            | Stmt::Update { .. }
            | Stmt::Set { .. }
            | Stmt::Wide { .. }
            | Stmt::Transpose { .. }
            | Stmt::If { .. }
            | Stmt::Fail { .. } => Err(Beyond),
        }
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

    /// Two bodies, of which one runs: whether a loop's variable is below a number decides.
    fn branch(&mut self, conditions: &[Condition], body: &[Stmt], otherwise: &[Stmt]) -> Result<(), Beyond> {
        let [Condition::Affine { index, op: CompareOp::Lt, bound }] = conditions else { return Err(Beyond) };
        let [(var, 1)] = index.terms[..] else { return Err(Beyond) };
        if index.constant != 0 || !index.registers.is_empty() {
            return Err(Beyond);
        }
        let (mut other, mut done) = (self.code.create_label(), self.code.create_label());
        self.code.mov(rax, variable(var))?;
        self.code.cmp(rax, i32::try_from(*bound).map_err(|_| Beyond)?)?;
        self.code.jge(other)?;
        let before = self.registers.clone();
        self.body(body)?;
        self.code.jmp(done)?;
        self.code.set_label(&mut other)?;
        self.code.zero_bytes()?;
        self.registers = before.clone();
        self.body(otherwise)?;
        self.registers = before;
        self.code.set_label(&mut done)?;
        self.code.zero_bytes()?;
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
        let partial = self.begin_partial(body, bounds)?;
        let turns = partial.iter().map(|partial| partial.registers.len()).max().unwrap_or(1);
        let pointers = self.point(var, body)?;
        self.around = Some(Around { var, pointers, partial: partial.clone(), turn: 0, masked: false });
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
        let [mut round, mut single, mut top, mut tail, mut done] =
            std::array::from_fn(|_| self.code.create_label());
        if turns > 1 {
            let elements = LANES * turns as i32;
            self.code.lea(rdx, qword_ptr(rax + elements))?;
            self.code.cmp(rdx, rcx)?;
            self.code.jg(single)?;
            self.code.set_label(&mut round)?;
            self.code.zero_bytes()?;
            for turn in 0..turns {
                if let Some(around) = &mut self.around {
                    around.turn = turn;
                }
                self.body(body)?;
                self.registers = before.clone();
            }
            if let Some(around) = &mut self.around {
                around.turn = 0;
            }
            self.code.add(rax, elements)?;
            self.code.lea(rdx, qword_ptr(rax + elements))?;
            self.code.cmp(rdx, rcx)?;
            self.code.jle(round)?;
            self.code.set_label(&mut single)?;
            self.code.zero_bytes()?;
        }
        if some {
            if matches!(bounds, Bounds::Range(_)) || turns > 1 {
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
        for Partial { acc, op, registers } in partial {
            let first = registers[0];
            for register in &registers[1..] {
                self.combine(op.binary(), first, *register)?;
            }
            self.across(op.binary(), first)?;
            let all = self.registers.accumulator(acc)?;
            self.combine(op.binary(), all, first)?;
            registers.into_iter().for_each(|register| self.registers.give(register));
        }
        Ok(())
    }

    /// Partial results for each accumulator that a vector loop reduces into: as many as there are vectors in a round.
    fn begin_partial(&mut self, body: &[Stmt], bounds: Bounds) -> Result<Vec<Partial>, Beyond> {
        let mut reduced: Vec<(Acc, ReduceOp)> = Vec::new();
        for statement in body {
            let Stmt::Reduce { acc, op, .. } = statement else { continue };
            match reduced.iter().find(|(own, _)| own == acc) {
                Some((_, own)) if own == op => {}
                Some(_) => return Err(Beyond),
                None => reduced.push((*acc, *op)),
            }
        }
        let short = matches!(bounds, Bounds::Known(extent) if extent < SHORTEST_ROUND);
        let turns = if short || body.len() > LONGEST_IN_TURNS || reduced.len() > 2 { 1 } else { TURNS };
        let mut partial = Vec::new();
        for (acc, op) in reduced {
            let Constant::Float(identity) = op.identity(Scalar::F32) else { return Err(Beyond) };
            let registers =
                (0..turns).map(|_| self.registers.take()).collect::<Result<Vec<AsmRegisterZmm>, Beyond>>()?;
            registers.iter().try_for_each(|register| self.fill(*register, identity as f32))?;
            partial.push(Partial { acc, op, registers });
        }
        Ok(partial)
    }
}
