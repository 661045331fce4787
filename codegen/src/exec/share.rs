//! Steps that run divided: a function, or a round, computes a share of each of them.

use super::entry::Entry;
use crate::program::{LoopId, Step};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};
use cranelift_module::{Module, ModuleError};

/// A range of units, into which all that a step computes can be divided.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// How many there are in all.
    pub all: usize,
    pub begin: Value,
    pub end: Value,
    pub unit: Unit,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Rows of a loop whose rows never meet.
    Row,
    /// Parts of [`Step::Parts`].
    Part,
}

/// The loop and the number of units of a step that several threads divide.
pub(super) fn forked(step: &Step) -> Option<(LoopId, usize)> {
    match step {
        Step::Loop { id, rows: Some(rows), .. } => Some((*id, *rows)),
        Step::Parts { id, parts, tasks, .. } if *tasks > 1 => Some((*id, *parts)),
        _ => None,
    }
}

impl<M: Module> Entry<'_, M> {
    /// Where the part of so many elements begins that belongs to the share at hand, and how many those are.
    pub(super) fn part_of(&mut self, elements: usize) -> (Value, Value) {
        match self.share {
            None => {
                let start = self.builder.ins().iconst(types::I64, 0);
                (start, self.builder.ins().iconst(types::I64, elements as i64))
            }
            Some(Share { all, begin, end, .. }) => {
                let each = (elements / all) as i64;
                let count = self.builder.ins().isub(end, begin);
                (self.builder.ins().imul_imm_s(begin, each), self.builder.ins().imul_imm_s(count, each))
            }
        }
    }

    /// The task whose units begin here, of so many tasks with as many units each.
    pub(super) fn task(&mut self, units: usize, tasks: usize, begin: Value) -> Value {
        let grain = self.builder.ins().iconst(types::I64, units.div_ceil(tasks.max(1)) as i64);
        self.builder.ins().udiv(begin, grain)
    }

    /// Runs a step that is divided: some units of it on each thread.
    pub(super) fn fork(&mut self, id: LoopId, units: usize, tasks: usize) -> Result<(), Box<ModuleError>> {
        let pointer = self.module.target_config().pointer_type();
        let function = self.module.declare_func_in_func(self.parts[&id], self.builder.func);
        let address = self.builder.ins().func_addr(pointer, function);
        let end = self.builder.ins().iconst(types::I64, units as i64);
        let grain = self.builder.ins().iconst(types::I64, units.div_ceil(tasks.max(1)) as i64);
        // As a kernel whose table of buffers is the frame; it cannot fail.
        self.call("gradc_rt_parallel", &[self.frame, address, self.frame, end, grain], true).map(|_| ())
    }

    /// Runs the parts of the share at hand, or all of them, one after the other.
    pub(super) fn in_parts(
        &mut self,
        id: LoopId,
        slot: LoopId,
        parts: usize,
        tasks: usize,
        body: &[Step],
    ) -> Result<(), Box<ModuleError>> {
        let outer = self.share;
        let (begin, count) = self.part_of(parts);
        let end = self.builder.ins().iadd(begin, count);
        let task = self.task(parts, tasks, begin);
        self.loops.insert(slot, task);
        let (head, done) = (self.builder.create_block(), self.builder.create_block());
        let part = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[BlockArg::Value(begin)]);
        self.builder.switch_to_block(head);
        self.loops.insert(id, part);
        let next = self.builder.ins().iadd_imm_s(part, 1);
        self.share = Some(Share { all: parts, begin: part, end: next, unit: Unit::Part });
        self.steps(body, false)?;
        self.share = outer;
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, next, end);
        self.builder.ins().brif(more, head, &[BlockArg::Value(next)], done, &[]);
        self.builder.switch_to_block(done);
        Ok(())
    }
}
