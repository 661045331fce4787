//! A kernel's statements, one after the other.

use iced_x86::code_asm::*;

use super::addresses::{FREE_POINTERS, POINTERS, most_streams};
use super::calls::{Call, SPILLED_BYTES, has_single, is_wide};
use super::machine::Machine;
use super::registers::{Registers, last_uses, uses};
use super::room::{AWAY_BYTES, Away};
use super::{Beyond, Calls};
use crate::loops::{
    Acc, Access, BufferId, CompareOp, Condition, Constant, Index, Kernel, LoopKind, ReduceOp, Reg, Scalar,
    ScalarOp, Stmt, Var,
};

/// Words on the stack before those of the loop variables: the table of buffers, and up to three ranges.
const FIXED_WORDS: usize = 7;
/// Bytes of the widest vector.
pub(super) const VECTOR_BYTES: usize = 64;
/// Bytes of stack, at most.
const MOST_STACK: usize = 64 << 10;
/// Loops of fewer iterations have no rounds.
const SHORTEST_ROUND: usize = 128;
/// Bodies of more statements have work enough to go on with while a result is waited for.
const LONGEST_IN_TURNS: usize = 16;
/// Variables of a kernel; more are not expected.
const MOST_VARIABLES: u32 = 64;

/// The code of a kernel, and its calls.
pub(super) fn assemble<M: Machine>(
    kernel: &Kernel,
    calls: Calls,
) -> Result<(CodeAssembler, Vec<Call>), Beyond> {
    match assemble_with::<M>(kernel, calls, false) {
        Err(Beyond::Registers) => assemble_with::<M>(kernel, calls, true),
        done => done,
    }
}

/// With memory for values that have to leave their registers, or without.
fn assemble_with<M: Machine>(
    kernel: &Kernel,
    calls: Calls,
    has_away: bool,
) -> Result<(CodeAssembler, Vec<Call>), Beyond> {
    if kernel.variables > MOST_VARIABLES || !has_vectors(&kernel.body) {
        return Err(Beyond::Kind);
    }
    let saved =
        POINTERS.get(FREE_POINTERS..most_streams(&kernel.body).max(FREE_POINTERS)).ok_or(Beyond::Kind)?;
    let mut end = 8 * (FIXED_WORDS + kernel.variables as usize);
    let mut take = |bytes: usize| -> Result<i32, Beyond> {
        let start = end.next_multiple_of(VECTOR_BYTES);
        end = start.checked_add(bytes).filter(|&end| end <= MOST_STACK).ok_or(Beyond::Kind)?;
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
    let away = has_away.then(|| take(AWAY_BYTES)).transpose()?.map(Away::at);
    let mut code = CodeAssembler::new(64)?;
    M::begin(&mut code);
    let registers = Registers::new();
    let mut emitter = Emitter::<M> {
        code,
        kernel,
        registers,
        depth: 0,
        around: None,
        local,
        single,
        spilled,
        away,
        operands: vec![],
        lent: vec![],
        calls,
        called: vec![],
    };
    emitter.function(saved, end as i32, has_calls || has_away)?;
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
struct Partial<V> {
    acc: Acc,
    op: ReduceOp,
    /// For each vector of a round.
    registers: Vec<V>,
}

/// The vector loop around.
pub(super) struct Around<V> {
    pub(super) var: Var,
    /// Where the elements of iteration 0 are.
    pub(super) pointers: Vec<(BufferId, Index, AsmRegister64)>,
    /// Partial results of accumulators from outside: one for each vector of a round.
    partial: Vec<Partial<V>>,
    /// The vector of the round.
    pub(super) turn: usize,
    /// Whether only the lanes of the tail count.
    masked: bool,
}

pub(super) struct Emitter<'k, M: Machine> {
    pub(super) code: CodeAssembler,
    pub(super) kernel: &'k Kernel,
    pub(super) registers: Registers<M>,
    /// Number of loops around.
    depth: usize,
    pub(super) around: Option<Around<M::Vector>>,
    /// Where buffers of the kernel's own are on the stack, and where vectors are kept during calls.
    pub(super) local: Vec<Option<i32>>,
    /// Where a number stands of which a function is computed.
    pub(super) single: Option<i32>,
    /// Where registers are kept during calls.
    pub(super) spilled: i32,
    pub(super) away: Option<Away>,
    /// What the statement at hand reads: it stays where it is.
    pub(super) operands: Vec<Reg>,
    /// Registers that are lent to a statement for values which are away.
    pub(super) lent: Vec<M::Vector>,
    pub(super) calls: Calls,
    pub(super) called: Vec<Call>,
}

impl<M: Machine> Emitter<'_, M> {
    fn function(&mut self, saved: &[AsmRegister64], stack: i32, is_aligned: bool) -> Result<(), Beyond> {
        let tiles = self.kernel.tile_extents().is_some();
        saved.iter().try_for_each(|register| self.code.push(*register))?;
        self.code.push(rbp)?;
        self.code.mov(rbp, rsp)?;
        self.code.sub(rsp, stack)?;
        // For vectors on the stack.
        if is_aligned {
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
            self.operands.clear();
            if !matches!(statement, Stmt::For { .. } | Stmt::If { .. }) {
                uses(statement, &mut |reg| self.operands.push(reg));
            }
            self.statement(statement)?;
            self.end_of_loans();
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
            Stmt::For { .. } if self.around.is_some() => Err(Beyond::Kind),
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
            Stmt::Load { reg, buffer, index } => self.load(*reg, *buffer, index),
            Stmt::Store { buffer, index, value } => self.store(*buffer, index, *value),
            Stmt::Accumulator { acc, init } => {
                if self.around.is_some() || self.kernel.accumulators[acc.0 as usize] != Scalar::F32 {
                    return Err(Beyond::Kind);
                }
                let Constant::Float(init) = *init else { return Err(Beyond::Kind) };
                let to = self.declare(*acc)?;
                M::fill(&mut self.code, to, init as f32)
            }
            Stmt::Reduce { acc, op, value } => {
                let value = self.vector(*value)?;
                let Some(around) = &self.around else {
                    let all = self.registers.accumulator(*acc)?;
                    return self.combine(op.binary(), all, value);
                };
                let found = around.partial.iter().find(|partial| partial.acc == *acc);
                let partial = found.ok_or(Beyond::Kind)?.registers[around.turn];
                if around.masked {
                    self.binary(op.binary(), M::PASSING[1], partial, value)?;
                    return M::take_tail(&mut self.code, partial);
                }
                self.combine(op.binary(), partial, value)
            }
            Stmt::Read { reg, acc } if self.around.is_none() => {
                let from = self.registers.accumulator(*acc)?;
                let to = self.define(*reg)?;
                M::copy(&mut self.code, to, from)
            }
            Stmt::If { conditions, body, otherwise } if self.around.is_none() => {
                self.branch(conditions, body, otherwise)
            }
            Stmt::Transpose { from, index, stride, to, rows, columns } if self.around.is_none() => {
                let to = self.local[to.0 as usize].ok_or(Beyond::Kind)?;
                self.transpose((*from, index), to, [*stride, *rows, *columns])
            }
            Stmt::Wide { function, buffer, count } if self.around.is_none() => {
                let start = self.local[buffer.0 as usize].ok_or(Beyond::Kind)?;
                self.wide(*function, start, *count)
            }
            Stmt::Read { .. }
            | Stmt::Update { .. }
            | Stmt::Set { .. }
            | Stmt::Wide { .. }
            | Stmt::Transpose { .. }
            | Stmt::If { .. }
            | Stmt::Fail { .. } => Err(Beyond::Kind),
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
        let [Condition::Affine { index, op: CompareOp::Lt, bound }] = conditions else {
            return Err(Beyond::Kind);
        };
        let [(var, 1)] = index.terms[..] else { return Err(Beyond::Kind) };
        if index.constant != 0 || !index.registers.is_empty() {
            return Err(Beyond::Kind);
        }
        let (mut other, mut done) = (self.code.create_label(), self.code.create_label());
        self.code.mov(rax, variable(var))?;
        self.code.cmp(rax, i32::try_from(*bound).map_err(|_| Beyond::Kind)?)?;
        self.code.jge(other)?;
        let before = self.registers.clone();
        self.body(body)?;
        self.settle(&before)?;
        self.code.jmp(done)?;
        self.code.set_label(&mut other)?;
        self.code.zero_bytes()?;
        self.body(otherwise)?;
        self.settle(&before)?;
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
        let before = self.registers.clone();
        self.inside(body)?;
        self.settle(&before)?;
        self.code.mov(rax, variable(var))?;
        self.code.add(rax, 1)?;
        self.code.mov(variable(var), rax)?;
        match bounds {
            Bounds::Known(extent) => self.code.cmp(rax, i32::try_from(extent).map_err(|_| Beyond::Kind)?)?,
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
            Bounds::Known(extent) => (extent >= M::LANES as usize, extent % M::LANES as usize > 0),
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
                self.code.mov(ecx, u32::try_from(extent).map_err(|_| Beyond::Kind)?)?;
            }
            Bounds::Range(number) => {
                self.code.mov(rax, word(1 + 2 * number))?;
                self.code.mov(rcx, word(2 + 2 * number))?;
            }
        }
        let [mut round, mut single, mut top, mut tail, mut done] =
            std::array::from_fn(|_| self.code.create_label());
        if turns > 1 {
            let elements = M::LANES * turns as i32;
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
                self.code.lea(rdx, qword_ptr(rax + M::LANES))?;
                self.code.cmp(rdx, rcx)?;
                self.code.jg(tail)?;
            }
            self.code.set_label(&mut top)?;
            self.code.zero_bytes()?;
            self.body(body)?;
            self.code.add(rax, M::LANES)?;
            self.code.lea(rdx, qword_ptr(rax + M::LANES))?;
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
            let one_by_one = !self.has_masked(body);
            let mut next = self.code.create_label();
            if one_by_one {
                M::set_single_tail(&mut self.code)?;
                self.code.set_label(&mut next)?;
            } else {
                M::set_tail(&mut self.code)?;
            }
            if let Some(around) = &mut self.around {
                around.masked = true;
            }
            self.body(body)?;
            if one_by_one {
                self.code.add(rax, 1)?;
                self.code.cmp(rax, rcx)?;
                self.code.jl(next)?;
            }
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

    /// Makes room for a vector loop, and partial results for each accumulator that a vector loop reduces into: as many as there are vectors in a round.
    fn begin_partial(&mut self, body: &[Stmt], bounds: Bounds) -> Result<Vec<Partial<M::Vector>>, Beyond> {
        let mut reduced: Vec<(Acc, ReduceOp)> = Vec::new();
        for statement in body {
            let Stmt::Reduce { acc, op, .. } = statement else { continue };
            match reduced.iter().find(|(own, _)| own == acc) {
                Some((_, own)) if own == op => {}
                Some(_) => return Err(Beyond::Kind),
                None => reduced.push((*acc, *op)),
            }
        }
        let short = matches!(bounds, Bounds::Known(extent) if extent < SHORTEST_ROUND);
        self.make_room_for(body, reduced.len())?;
        let left = self.registers.free().saturating_sub(self.most_alive(body));
        let most = if short || body.len() > LONGEST_IN_TURNS || reduced.len() > 2 { 1 } else { M::TURNS };
        let turns = most.min(left / reduced.len().max(1)).max(1);
        let mut partial = Vec::new();
        for (acc, op) in reduced {
            let Constant::Float(identity) = op.identity(Scalar::F32) else { return Err(Beyond::Kind) };
            let registers =
                (0..turns).map(|_| self.registers.take()).collect::<Result<Vec<M::Vector>, Beyond>>()?;
            for register in &registers {
                M::fill(&mut self.code, *register, identity as f32)?;
            }
            partial.push(Partial { acc, op, registers });
        }
        Ok(partial)
    }
}
