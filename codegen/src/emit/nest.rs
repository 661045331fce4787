//! Loops: serial ones, and vector ones with their main loop, their single-vector loop and their
//! scalar rest.

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, InstBuilder, Value};

use super::analysis::{Plan, may_repeat, plan};
use super::cells::Cell;
use super::kernel::{Counter, Emitter};
use super::lanes::{Lanes, Shape};
use super::ops::scalar_type;
use crate::loops::{Acc, ReduceOp, Stmt, Var};

/// Serial loops of at most this many iterations and statements are written out.
const UNROLL_ITERATIONS: i64 = 4;
const UNROLL_STATEMENTS: usize = 6;

impl Emitter<'_, '_, '_> {
    /// A loop over `begin..end`, one iteration at a time.
    pub(super) fn serial_loop(&mut self, var: Var, begin: i64, end: i64, body: &[Stmt]) {
        let straight = body.len() <= UNROLL_STATEMENTS
            && body.iter().all(|stmt| !matches!(stmt, Stmt::For { .. } | Stmt::If { .. }));
        if self.vector.is_none_or(|(_, shape)| shape.parts == 1)
            && straight
            && end - begin <= UNROLL_ITERATIONS
        {
            for iteration in begin..end {
                self.iteration(var, Counter::Known(iteration), body);
            }
            return;
        }
        self.counted(var, begin, end, 1, body);
    }

    /// A loop over `begin`, `begin + step`, ... below `end`; `step` divides the distance.
    fn counted(&mut self, var: Var, begin: i64, end: i64, step: i64, body: &[Stmt]) {
        if begin >= end {
            return;
        }
        if begin + step >= end {
            return self.iteration(var, Counter::Known(begin), body);
        }
        let counter = self.ops.builder.declare_var(I64);
        let first = self.ops.int(I64, begin);
        self.ops.builder.def_var(counter, first);
        let top = self.ops.builder.create_block();
        let done = self.ops.builder.create_block();
        self.ops.builder.ins().jump(top, &[]);
        self.ops.builder.switch_to_block(top);
        let value = self.ops.builder.use_var(counter);
        self.iteration(var, Counter::Dynamic(value), body);
        let next = self.ops.builder.ins().iadd_imm_s(value, step);
        self.ops.builder.def_var(counter, next);
        let end = self.ops.int(I64, end);
        let more = self.below(next, end);
        self.ops.builder.ins().brif(more, top, &[], done, &[]);
        self.ops.builder.switch_to_block(done);
    }

    /// A loop from `begin` while `step` more iterations fit below `end`; returns where it stopped.
    fn counted_dynamic(&mut self, var: Var, begin: Value, end: Value, step: i64, body: &[Stmt]) -> Value {
        // The test stands at the end: what does not change then leaves the loop.
        let counter = self.ops.builder.declare_var(I64);
        self.ops.builder.def_var(counter, begin);
        let [top, done] = std::array::from_fn(|_| self.ops.builder.create_block());
        self.while_it_fits(begin, end, step, top, done);
        self.ops.builder.switch_to_block(top);
        let value = self.ops.builder.use_var(counter);
        self.iteration(var, Counter::Dynamic(value), body);
        let next = self.ops.builder.ins().iadd_imm_s(value, step);
        self.ops.builder.def_var(counter, next);
        self.while_it_fits(next, end, step, top, done);
        self.ops.builder.switch_to_block(done);
        self.ops.builder.use_var(counter)
    }

    /// Goes to one block if `step` iterations from `at` on fit below `end`, else to the other.
    fn while_it_fits(&mut self, at: Value, end: Value, step: i64, top: Block, done: Block) {
        let last = self.ops.builder.ins().iadd_imm_s(at, step - 1);
        let more = self.below(last, end);
        self.ops.builder.ins().brif(more, top, &[], done, &[]);
    }

    pub(super) fn iteration(&mut self, var: Var, counter: Counter, body: &[Stmt]) {
        self.depth += 1;
        self.counters[var.0 as usize] = Some((counter, self.depth));
        self.body(body);
        self.counters[var.0 as usize] = None;
        self.depth -= 1;
    }

    /// A loop over the function's range of this number.
    pub(super) fn range_loop(&mut self, var: Var, number: usize, body: &[Stmt]) {
        let (begin, end) = self.ranges[number];
        self.counted_dynamic(var, begin, end, 1, body);
    }

    /// As [`range_loop`](Self::range_loop), in lanes.
    pub(super) fn range_vector_loop(&mut self, var: Var, number: usize, body: &[Stmt]) {
        let plan = plan(self.kernel, var, None, body);
        let (mut at, end) = self.ranges[number];
        let mut shapes = vec![Shape { width: plan.width, parts: plan.parts }];
        shapes.push(Shape { width: plan.width, parts: 1 });
        shapes.dedup();
        for shape in shapes.into_iter().filter(|shape| shape.lanes() > 1) {
            self.vector = Some((var, shape));
            at = self.counted_dynamic(var, at, end, shape.lanes() as i64, body);
            self.vector = None;
        }
        self.counted_dynamic(var, at, end, 1, body);
    }

    pub(super) fn vector_loop(&mut self, var: Var, extent: usize, body: &[Stmt]) {
        let plan = plan(self.kernel, var, Some(extent), body);
        if plan.width == 1 || self.lane.is_some() {
            return self.serial_loop(var, 0, extent as i64, body);
        }
        let lanes = plan.width * plan.parts;
        let main = extent / lanes * lanes;
        let vectors = extent / plan.width * plan.width;
        let outside = self.begin_partial(&plan);
        self.vector = Some((var, Shape { width: plan.width, parts: plan.parts }));
        self.counted(var, 0, main as i64, lanes as i64, body);
        if vectors > main {
            let partial = self.narrow_cells(&plan);
            self.vector = Some((var, Shape { width: plan.width, parts: 1 }));
            self.counted(var, main as i64, vectors as i64, plan.width as i64, body);
            for ((acc, _), cell) in plan.reduced.iter().zip(partial) {
                self.cells[acc.0 as usize] = cell;
            }
        }
        self.vector = None;
        self.end_partial(&plan, outside);
        if vectors < extent && may_repeat(self.kernel, body) {
            // One more vector, that ends with the last element, instead of the rest one by one.
            self.vector = Some((var, Shape { width: plan.width, parts: 1 }));
            self.iteration(var, Counter::Known((extent - plan.width) as i64), body);
            self.vector = None;
            return;
        }
        self.counted(var, vectors as i64, extent as i64, 1, body);
    }

    /// Gives each reduced accumulator a cell of partial results; returns the cells around.
    fn begin_partial(&mut self, plan: &Plan) -> Vec<Option<Cell>> {
        let shape = Shape { width: plan.width, parts: plan.parts };
        plan.reduced
            .iter()
            .map(|(acc, op)| {
                let scalar = self.kernel.accumulators[acc.0 as usize];
                let identity = op.identity(scalar);
                let partial = self.new_cell(scalar, shape);
                let around = self.cells[acc.0 as usize].replace(partial);
                let value = Lanes::Uniform(self.constant(scalar, identity));
                self.vector = Some((Var(u32::MAX), shape));
                self.assign(*acc, &value);
                self.vector = None;
                around
            })
            .collect()
    }

    /// Cuts the partial cells to their first vector; returns the whole cells.
    fn narrow_cells(&mut self, plan: &Plan) -> Vec<Option<Cell>> {
        plan.reduced
            .iter()
            .map(|(acc, _)| {
                let slot = &mut self.cells[acc.0 as usize];
                let whole = slot.clone();
                match slot {
                    Some(Cell::Vectors(parts)) => parts.truncate(1),
                    Some(Cell::Each(all)) => all.truncate(plan.width),
                    Some(Cell::Uniform(_)) | None => {}
                }
                whole
            })
            .collect()
    }

    /// Combines partial results, vectors first, then lanes, each pairwise, into the cells around.
    fn end_partial(&mut self, plan: &Plan, around: Vec<Option<Cell>>) {
        for ((acc, op), around) in plan.reduced.iter().zip(around) {
            let partial = self.cells[acc.0 as usize].take().expect("the partial cell is still there");
            self.cells[acc.0 as usize] = around;
            let total = self.combine(*acc, *op, plan, &partial);
            self.reduce(*acc, *op, &Lanes::Uniform(total));
        }
    }

    fn combine(&mut self, acc: Acc, op: ReduceOp, plan: &Plan, partial: &Cell) -> Value {
        let scalar = self.kernel.accumulators[acc.0 as usize];
        let variables = match partial {
            Cell::Uniform(variable) => std::slice::from_ref(variable),
            Cell::Vectors(all) | Cell::Each(all) => all,
        };
        let values: Vec<Value> = variables.iter().map(|v| self.ops.builder.use_var(*v)).collect();
        let total = self.pairwise(acc, op, values);
        if self.ops.type_of(total) == scalar_type(scalar) {
            return total;
        }
        let lanes = (0..plan.width).map(|lane| self.ops.extract(total, scalar, lane)).collect();
        self.pairwise(acc, op, lanes)
    }

    fn pairwise(&mut self, acc: Acc, op: ReduceOp, mut values: Vec<Value>) -> Value {
        let scalar = self.kernel.accumulators[acc.0 as usize];
        while values.len() > 1 {
            values = values
                .chunks(2)
                .map(|pair| match pair {
                    [a, b] => self.ops.binary(op.binary(), scalar, *a, *b),
                    _ => pair[0],
                })
                .collect();
        }
        values[0]
    }
}
