//! Walks a kernel's statements and writes the function.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value};

use super::TRANSPOSE;
use super::cells::Cell;
use super::lanes::{Lanes, Shape};
use super::memory::{Place, has_vector_access};
use super::ops::{Ops, scalar_type};
use super::scalar::{has_vector_form, vector_type};
use crate::loops::{Access, BufferId, Constant, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp, Stmt, Var};

/// The value of a loop variable (of lane 0 in a vector loop).
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Known(i64),
    Dynamic(Value),
}

pub(super) struct Emitter<'a, 'b, 'k> {
    pub(super) ops: Ops<'a, 'b>,
    pub(super) kernel: &'k Kernel,
    pub(super) buffers: Vec<Option<Value>>,
    /// The range of the parallel loop, or those of the tile loops.
    pub(super) ranges: Vec<(Value, Value)>,
    pub(super) registers: Vec<Option<(Lanes, usize)>>,
    pub(super) cells: Vec<Option<Cell>>,
    pub(super) counters: Vec<Option<(Counter, usize)>>,
    /// Variable and shape of the vector loop around.
    pub(super) vector: Option<(Var, Shape)>,
    /// The one lane for which statements are written, in a branch that lanes take differently.
    pub(super) lane: Option<usize>,
    /// Number of loops around.
    pub(super) depth: usize,
}

impl<'a, 'b, 'k> Emitter<'a, 'b, 'k> {
    /// Writes the whole function into the builder's entry block, up to its last return.
    pub(super) fn emit(ops: Ops<'a, 'b>, kernel: &'k Kernel) -> Ops<'a, 'b> {
        let mut ops = ops;
        let entry = ops.builder.create_block();
        ops.builder.append_block_params_for_function_params(entry);
        ops.builder.switch_to_block(entry);
        let params = ops.builder.block_params(entry).to_vec();
        let (table, ranges) = match params[..] {
            [_, _, rows, columns, batch, row, column, table] => {
                let end = ops.builder.ins().iadd_imm_s(batch, 1);
                let row_end = ops.builder.ins().iadd(row, rows);
                let column_end = ops.builder.ins().iadd(column, columns);
                (table, vec![(batch, end), (row, row_end), (column, column_end)])
            }
            [table, begin, end] => (table, vec![(begin, end)]),
            _ => unreachable!("kernels have one of two signatures"),
        };
        let buffers = (kernel.buffers.iter().enumerate())
            .map(|(number, buffer)| {
                if buffer.access == Access::Local {
                    return Some(ops.stack_memory(buffer.elements * buffer.scalar.bytes()));
                }
                let flags = MemFlagsData::trusted();
                Some(ops.builder.ins().load(I64, flags, table, 8 * number as i32))
            })
            .collect();
        let mut emitter = Emitter {
            ops,
            kernel,
            buffers,
            ranges,
            registers: vec![None; kernel.registers.len()],
            cells: vec![None; kernel.accumulators.len()],
            counters: vec![None; kernel.variables as usize],
            vector: None,
            lane: None,
            depth: 0,
        };
        emitter.body(&kernel.body);
        let results = match kernel.tile_extents() {
            Some(_) => vec![],
            None => vec![emitter.ops.int(I64, 0)],
        };
        emitter.ops.builder.ins().return_(&results);
        emitter.ops
    }

    /// The shape in which registers are written here.
    pub(super) fn shape(&self) -> Shape {
        match (self.lane, self.vector) {
            (None, Some((_, shape))) => shape,
            (Some(_), _) | (None, None) => Shape::SCALAR,
        }
    }

    /// The shape of the vector loop around, also within a single lane of it.
    pub(super) fn loop_shape(&self) -> Shape {
        self.vector.map_or(Shape::SCALAR, |(_, shape)| shape)
    }

    pub(super) fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            self.stmt(stmt);
        }
    }

    pub(super) fn get(&mut self, reg: Reg) -> Lanes {
        let (lanes, _) = self.registers[reg.0 as usize].clone().expect("a validated register is assigned");
        let scalar = self.kernel.type_of(reg);
        match (self.lane, &lanes) {
            (Some(lane), Lanes::Vectors(_) | Lanes::Each(_)) => {
                Lanes::Uniform(self.ops.lane(&lanes, scalar, self.loop_shape(), lane))
            }
            _ => lanes,
        }
    }

    fn set(&mut self, reg: Reg, lanes: Lanes) {
        self.registers[reg.0 as usize] = Some((lanes, self.depth));
    }

    /// The scalar of a register outside of lanes (or in the one lane).
    fn scalar(&mut self, reg: Reg) -> Value {
        let scalar = self.kernel.type_of(reg);
        let lanes = self.get(reg);
        self.ops.lane(&lanes, scalar, self.shape(), 0)
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { reg, op, args } => {
                let lanes = self.operation(*reg, op, args);
                self.set(*reg, lanes);
            }
            Stmt::For { var, extent, kind, body } => match kind {
                LoopKind::Serial => self.serial_loop(*var, 0, *extent as i64, body),
                LoopKind::Vector => self.vector_loop(*var, *extent, body),
                LoopKind::Parallel => self.range_loop(*var, 0, body),
                LoopKind::ParallelVector => self.range_vector_loop(*var, 0, body),
                // Tile loops are the outermost ones. The function serves one batch.
                LoopKind::Tile if self.depth == 0 => {
                    let batch = Counter::Dynamic(self.ranges[0].0);
                    self.iteration(*var, batch, body);
                }
                LoopKind::Tile => self.range_loop(*var, self.depth, body),
                LoopKind::TileVector => self.range_vector_loop(*var, self.depth, body),
            },
            Stmt::Load { reg, buffer, index } => {
                let lanes = self.load(*buffer, index);
                self.set(*reg, lanes);
            }
            Stmt::Store { buffer, index, value } => self.store(*buffer, index, *value),
            Stmt::Update { op, buffer, index, value } => {
                let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
                let lanes = self.get(*value);
                let shape = self.shape();
                for lane in 0..shape.lanes() {
                    let value = self.ops.lane(&lanes, scalar.register(), shape, lane);
                    let place = self.place(*buffer, index, lane);
                    let old = self.ops.load(scalar, place);
                    let new = self.ops.binary(op.binary(), scalar.register(), old, value);
                    self.ops.store(scalar, place, new);
                }
            }
            Stmt::Accumulator { acc, init } => self.declare(*acc, *init),
            Stmt::Reduce { acc, op, value } => {
                let value = self.get(*value);
                self.reduce(*acc, *op, &value);
            }
            Stmt::Set { acc, value } => {
                let value = self.get(*value);
                self.assign(*acc, &value);
            }
            Stmt::Read { reg, acc } => {
                let lanes = self.read(*acc);
                self.set(*reg, lanes);
            }
            Stmt::If { conditions, body, otherwise } => self.branch(conditions, body, otherwise),
            Stmt::Transpose { from, index, stride, to, rows, columns } => {
                let Place { base, offset } = self.place(*from, index, 0);
                let from = self.ops.builder.ins().iadd_imm_s(base, i64::from(offset));
                let to = self.buffers[to.0 as usize].expect("every buffer has an address");
                let [stride, rows, columns] =
                    [*stride, *rows, *columns].map(|size| self.ops.int(I64, size as i64));
                self.ops.perform(TRANSPOSE, &[from, stride, to, rows, columns]);
            }
            Stmt::Wide { function, buffer, count } => {
                let address = self.buffers[buffer.0 as usize].expect("every buffer has an address");
                let count = self.ops.int(I64, *count as i64);
                self.ops.perform(&format!("gradc_wide_{function}"), &[count, address, address]);
            }
            Stmt::Fail { condition, code, value } => {
                let condition = self.scalar(*condition);
                let value = self.scalar(*value);
                self.fail(condition, *code, value);
            }
        }
    }

    fn fail(&mut self, condition: Value, code: u16, value: Value) {
        let failing = self.ops.builder.create_block();
        let fine = self.ops.builder.create_block();
        self.ops.builder.set_cold_block(failing);
        self.ops.builder.ins().brif(condition, failing, &[], fine, &[]);
        self.ops.builder.switch_to_block(failing);
        let high = self.ops.int(I64, (1 << 47) - 1);
        let low = self.ops.int(I64, -(1 << 47));
        let value = self.ops.builder.ins().smin(value, high);
        let value = self.ops.builder.ins().smax(value, low);
        let value = self.ops.builder.ins().ishl_imm_s(value, 16);
        let code = self.ops.int(I64, i64::from(code));
        let status = self.ops.builder.ins().bor(value, code);
        self.ops.builder.ins().return_(&[status]);
        self.ops.builder.switch_to_block(fine);
    }

    pub(super) fn constant(&mut self, scalar: Scalar, value: Constant) -> Value {
        let ty = scalar_type(scalar);
        match value {
            Constant::Float(value) => self.ops.float(ty, value),
            Constant::Int(value) => self.ops.int(ty, value),
            Constant::Bool(value) => self.ops.int(ty, i64::from(value)),
        }
    }

    fn operation(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Lanes {
        let result = self.kernel.type_of(reg);
        let shape = self.shape();
        let operand = args.first().map_or(result, |arg| self.kernel.type_of(*arg));
        match op {
            ScalarOp::Constant(value) => return Lanes::Uniform(self.constant(result, *value)),
            ScalarOp::Index(index) => return self.index(index),
            ScalarOp::Cast if operand == result => return self.get(args[0]),
            _ => {}
        }
        let args: Vec<(Lanes, Scalar)> =
            args.iter().map(|arg| (self.get(*arg), self.kernel.type_of(*arg))).collect();
        let fits = |scalar: Scalar| vector_type(scalar, shape.width).is_some();
        let vector = fits(result)
            && args.iter().all(|(_, scalar)| fits(*scalar))
            && has_vector_form(op, operand, result);
        self.ops.apply(shape, vector, &args, |ops, values| match op {
            ScalarOp::Unary(op) => ops.unary(*op, operand, values[0]),
            ScalarOp::Binary(op) => ops.binary(*op, result, values[0], values[1]),
            ScalarOp::Compare(op) => ops.compare(*op, operand, values[0], values[1]),
            ScalarOp::Select => ops.choose(values[0], values[1], values[2]),
            ScalarOp::MulAdd => ops.fused(values[0], values[1], values[2]),
            ScalarOp::Cast => ops.cast(operand, result, values[0]),
            ScalarOp::Call(symbol) => ops.call(symbol, values, scalar_type(result)),
            ScalarOp::Constant(_) | ScalarOp::Index(_) => panic!("operations without operands come first"),
        })
    }

    /// Whether the lanes see different positions, for a reason other than the vector variable.
    pub(super) fn has_lane_registers(&mut self, index: &Index) -> bool {
        index.registers.iter().any(|(reg, _)| !matches!(self.get(*reg), Lanes::Uniform(_)))
    }

    /// The coefficient of the vector variable, 0 outside of vector code.
    pub(super) fn step(&self, index: &Index) -> i64 {
        match (self.lane, self.vector) {
            (None, Some((var, _))) => index.coefficient(var),
            (Some(_), _) | (None, None) => 0,
        }
    }

    /// An affine expression times `scale` for one lane, added to `base`: a value and a constant.
    pub(super) fn affine(
        &mut self,
        index: &Index,
        scale: i64,
        lane: usize,
        base: Option<Value>,
    ) -> (Option<Value>, i64) {
        let lane = self.lane.unwrap_or(lane);
        let mut constant = index.constant.wrapping_mul(scale);
        let mut terms: Vec<(usize, Value, i64)> = Vec::new();
        for (var, coefficient) in &index.terms {
            let factor = coefficient.wrapping_mul(scale);
            let (counter, depth) = self.counters[var.0 as usize].expect("a validated variable has its loop");
            match counter {
                Counter::Known(value) => constant = constant.wrapping_add(factor.wrapping_mul(value)),
                Counter::Dynamic(value) => terms.push((depth, value, factor)),
            }
            if self.vector.is_some_and(|(vector, _)| vector == *var) {
                constant = constant.wrapping_add(factor.wrapping_mul(lane as i64));
            }
        }
        let shape = self.shape();
        for (reg, coefficient) in &index.registers {
            let depth = self.registers[reg.0 as usize].as_ref().map_or(0, |(_, depth)| *depth);
            let lanes = self.get(*reg);
            let value = self.ops.lane(&lanes, Scalar::I64, shape, lane);
            terms.push((depth, value, coefficient.wrapping_mul(scale)));
        }
        // Outer terms first, so that sums of them leave the inner loops.
        terms.sort_by_key(|(depth, _, _)| *depth);
        let mut sum = base;
        for (_, value, factor) in terms {
            let term = self.multiple(value, factor);
            sum = Some(match sum {
                Some(sum) => self.ops.builder.ins().iadd(sum, term),
                None => term,
            });
        }
        (sum, constant)
    }

    fn multiple(&mut self, value: Value, factor: i64) -> Value {
        match factor {
            1 => value,
            factor if factor > 0 && factor.count_ones() == 1 => {
                self.ops.builder.ins().ishl_imm_s(value, i64::from(factor.trailing_zeros()))
            }
            factor => self.ops.builder.ins().imul_imm_s(value, factor),
        }
    }

    /// An affine expression for one lane as an `I64` value.
    fn position(&mut self, index: &Index, lane: usize) -> Value {
        match self.affine(index, 1, lane, None) {
            (None, constant) => self.ops.int(I64, constant),
            (Some(value), 0) => value,
            (Some(value), constant) => self.ops.builder.ins().iadd_imm_s(value, constant),
        }
    }

    fn index(&mut self, index: &Index) -> Lanes {
        if self.step(index) == 0 && !self.has_lane_registers(index) {
            return Lanes::Uniform(self.position(index, 0));
        }
        Lanes::Each((0..self.shape().lanes()).map(|lane| self.position(index, lane)).collect())
    }

    fn place(&mut self, buffer: BufferId, index: &Index, lane: usize) -> Place {
        let size = self.kernel.buffers[buffer.0 as usize].scalar.bytes() as i64;
        let pointer = self.buffers[buffer.0 as usize];
        let (base, offset) = self.affine(index, size, lane, pointer);
        let base = base.expect("the sum starts at the buffer");
        match i32::try_from(offset) {
            Ok(offset) => Place { base, offset },
            Err(_) => Place { base: self.ops.builder.ins().iadd_imm_s(base, offset), offset: 0 },
        }
    }

    fn load(&mut self, buffer: BufferId, index: &Index) -> Lanes {
        let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
        let shape = self.shape();
        let step = self.step(index);
        let scattered = self.has_lane_registers(index);
        if step == 0 && !scattered {
            let place = self.place(buffer, index, 0);
            return Lanes::Uniform(self.ops.load(scalar, place));
        }
        if step == 1 && !scattered && has_vector_access(scalar, shape.width) {
            let parts = (0..shape.parts).map(|part| {
                let place = self.place(buffer, index, part * shape.width);
                self.ops.load_vector(scalar, place)
            });
            return Lanes::Vectors(parts.collect());
        }
        if step == 2
            && !scattered
            && has_vector_access(scalar, shape.width)
            && vector_type(scalar, shape.width).is_some()
            && scalar != Scalar::Bool
        {
            let parts = (0..shape.parts).map(|part| {
                let place = self.place(buffer, index, part * shape.width);
                self.ops.load_alternate(scalar, place)
            });
            return Lanes::Vectors(parts.collect());
        }
        let values = (0..shape.lanes()).map(|lane| {
            let place = self.place(buffer, index, lane);
            self.ops.load(scalar, place)
        });
        Lanes::Each(values.collect())
    }

    fn store(&mut self, buffer: BufferId, index: &Index, value: Reg) {
        let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
        let shape = self.shape();
        let lanes = self.get(value);
        if self.step(index) == 1 && !self.has_lane_registers(index) && has_vector_access(scalar, shape.width)
        {
            let vectors = self.ops.vectors(&lanes, scalar.register(), shape);
            for (part, vector) in vectors.into_iter().enumerate() {
                let place = self.place(buffer, index, part * shape.width);
                self.ops.store_vector(scalar, place, vector);
            }
            return;
        }
        for lane in 0..shape.lanes() {
            let value = self.ops.lane(&lanes, scalar.register(), shape, lane);
            let place = self.place(buffer, index, lane);
            self.ops.store(scalar, place, value);
        }
    }

    /// One byte: `a < b`, signed.
    pub(super) fn below(&mut self, a: Value, b: Value) -> Value {
        self.ops.int_compare(IntCC::SignedLessThan, a, b)
    }
}
