//! How a vector loop is run: lanes per register and registers side by side.

use crate::loops::{
    Acc, Access, BufferId, Condition, Kernel, ReduceOp, Reg, Scalar, ScalarOp, Stmt, UnaryOp, Var,
};
use crate::memory::elementwise;

/// The shape of a vector loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Lanes of one 128-bit register; 1 means a serial loop.
    pub width: usize,
    /// Registers side by side in the main loop.
    pub parts: usize,
    /// Accumulators declared outside that the loop reduces into.
    pub reduced: Vec<(Acc, ReduceOp)>,
}

#[derive(Default)]
struct Facts {
    declared: Vec<Acc>,
    reduced: Vec<(Acc, ReduceOp)>,
    touched: Vec<Acc>,
    updated: Vec<BufferId>,
    accessed: Vec<BufferId>,
    lanes_32: bool,
    lanes_64: bool,
    must_be_serial: bool,
    branches: bool,
    loops: usize,
    statements: usize,
    expensive: bool,
}

/// Decides how to run a vector loop over `var` with `extent` iterations (if known).
pub(super) fn plan(kernel: &Kernel, var: Var, extent: Option<usize>, body: &[Stmt]) -> Plan {
    let mut facts = Facts::default();
    facts.body(kernel, var, body, false);
    let outer = |acc: &Acc| !facts.declared.contains(acc);
    let mut reduced: Vec<(Acc, ReduceOp)> =
        facts.reduced.iter().copied().filter(|(acc, _)| outer(acc)).collect();
    reduced.sort_unstable();
    reduced.dedup();
    let two_kinds = reduced.windows(2).any(|pair| pair[0].0 == pair[1].0);
    let read_while_reduced = reduced.iter().any(|(acc, _)| facts.touched.contains(acc));
    let conflict = facts.updated.iter().any(|buffer| {
        facts.accessed.contains(buffer) || facts.updated.iter().filter(|b| *b == buffer).count() > 1
    });
    let serial = facts.must_be_serial || two_kinds || read_while_reduced || conflict;
    let width = match (serial, facts.lanes_32, facts.lanes_64) {
        (false, true, _) => 4,
        (false, false, true) => 2,
        (true, _, _) | (false, false, false) => 1,
    };
    let width = if extent.is_some_and(|extent| extent < width) { 1 } else { width };
    let accumulates = !reduced.is_empty() || !facts.declared.is_empty() && facts.loops > 0;
    let small = facts.statements <= 12 && !facts.expensive && !facts.branches;
    let few = reduced.len() + facts.declared.len() <= 2;
    let most = if width > 1 && accumulates && small && few { 4 } else { 1 };
    let parts = match extent {
        Some(extent) => [4, 2].into_iter().find(|p| *p <= most && extent >= p * width).unwrap_or(1),
        None => most,
    };
    Plan { width, parts, reduced }
}

/// Whether iterations may run twice: all that they change is elements that they write, of buffers that nothing reads.
pub(super) fn may_repeat(kernel: &Kernel, body: &[Stmt]) -> bool {
    let written = |buffer: usize| kernel.buffers[buffer].access == Access::Write;
    let all = 0..kernel.buffers.len();
    let is_private = kernel.buffers.iter().all(|buffer| buffer.access != Access::Local);
    // A result may stand in the memory of an operand.
    let shared = |to: usize| all.clone().any(|from| from != to && elementwise(kernel, from, to));
    let mut stored = Vec::new();
    is_private
        && repeats(body, &mut stored)
        && stored.iter().all(|&buffer| written(buffer) && !shared(buffer))
}

fn repeats(body: &[Stmt], stored: &mut Vec<usize>) -> bool {
    body.iter().all(|statement| match statement {
        Stmt::Let { .. } | Stmt::Load { .. } => true,
        Stmt::Store { buffer, .. } => {
            stored.push(buffer.0 as usize);
            true
        }
        Stmt::If { body, otherwise, .. } => repeats(body, stored) && repeats(otherwise, stored),
        Stmt::For { .. } | Stmt::Update { .. } | Stmt::Accumulator { .. } | Stmt::Reduce { .. } => false,
        Stmt::Set { .. } | Stmt::Read { .. } | Stmt::Wide { .. } | Stmt::Fail { .. } => false,
        Stmt::Transpose { .. } => false,
    })
}

impl Facts {
    fn body(&mut self, kernel: &Kernel, var: Var, body: &[Stmt], in_lanes: bool) {
        for stmt in body {
            self.stmt(kernel, var, stmt, in_lanes);
        }
    }

    fn register(&mut self, scalar: Scalar) {
        match scalar {
            Scalar::F32 | Scalar::I32 | Scalar::U32 => self.lanes_32 = true,
            Scalar::F64 => self.lanes_64 = true,
            Scalar::F16
            | Scalar::BF16
            | Scalar::I8
            | Scalar::I16
            | Scalar::I64
            | Scalar::U8
            | Scalar::U16
            | Scalar::U64
            | Scalar::Bool => {}
        }
    }

    fn define(&mut self, kernel: &Kernel, reg: Reg) {
        self.register(kernel.type_of(reg));
    }

    fn stmt(&mut self, kernel: &Kernel, var: Var, stmt: &Stmt, in_lanes: bool) {
        self.statements += 1;
        match stmt {
            Stmt::Let { reg, op, .. } => {
                self.define(kernel, *reg);
                self.expensive |= is_expensive(op);
            }
            Stmt::For { body, .. } => {
                self.loops += 1;
                self.must_be_serial |= in_lanes;
                self.body(kernel, var, body, in_lanes);
            }
            Stmt::Load { reg, buffer, .. } => {
                self.define(kernel, *reg);
                self.accessed.push(*buffer);
            }
            Stmt::Store { buffer, value, .. } => {
                self.define(kernel, *value);
                self.accessed.push(*buffer);
            }
            Stmt::Update { buffer, value, .. } => {
                self.define(kernel, *value);
                self.updated.push(*buffer);
            }
            Stmt::Accumulator { acc, .. } => {
                self.register(kernel.accumulators[acc.0 as usize]);
                self.declared.push(*acc);
            }
            Stmt::Reduce { acc, op, .. } => {
                self.register(kernel.accumulators[acc.0 as usize]);
                self.reduced.push((*acc, *op));
            }
            Stmt::Set { acc, .. } => {
                self.must_be_serial |= !self.declared.contains(acc);
                self.touched.push(*acc);
            }
            Stmt::Read { reg, acc } => {
                self.define(kernel, *reg);
                self.touched.push(*acc);
            }
            Stmt::If { conditions, body, otherwise } => {
                let varies = conditions.iter().any(|condition| match condition {
                    Condition::Affine { index, .. } => {
                        index.coefficient(var) != 0 || !index.registers.is_empty()
                    }
                    Condition::Register(_) => true,
                });
                self.branches |= varies;
                self.body(kernel, var, body, in_lanes || varies);
                self.body(kernel, var, otherwise, in_lanes || varies);
            }
            Stmt::Wide { .. } | Stmt::Transpose { .. } | Stmt::Fail { .. } => self.must_be_serial = true,
        }
    }
}

fn is_expensive(op: &ScalarOp) -> bool {
    match op {
        ScalarOp::Constant(_)
        | ScalarOp::Binary(_)
        | ScalarOp::Compare(_)
        | ScalarOp::Select
        | ScalarOp::MulAdd
        | ScalarOp::Cast
        | ScalarOp::Index(_) => false,
        ScalarOp::Call(_) => true,
        ScalarOp::Unary(op) => !matches!(
            op,
            UnaryOp::Neg
                | UnaryOp::Abs
                | UnaryOp::Sign
                | UnaryOp::Floor
                | UnaryOp::Ceil
                | UnaryOp::Round
                | UnaryOp::Sqrt
                | UnaryOp::Not
                | UnaryOp::IsNan
                | UnaryOp::RoundF16
                | UnaryOp::RoundBf16
        ),
    }
}
