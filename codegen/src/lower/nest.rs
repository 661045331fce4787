//! A loop nest in the making: statements are placed at the outermost loop that knows all they need.
//!
//! That placement hoists loop-invariant work by construction: the load of a bias that depends on the row alone
//! lands in the row's loop, not in the element's.

use crate::loops::{
    Acc, Access, BinaryOp, BufferId, CompareOp, Condition, Constant, Index, Kernel, LoopKind, ReduceOp, Reg,
    Scalar, ScalarOp, Stmt, UpdateOp, Var,
};
use gradc_ir::Value;
use std::collections::HashMap;

/// A kernel under construction: a stack of open loops and guards.
pub(super) struct Nest {
    kernel: Kernel,
    levels: Vec<Level>,
    register_levels: Vec<usize>,
    variable_levels: Vec<usize>,
}

struct Level {
    scope: Scope,
    statements: Vec<Stmt>,
    /// Values already computed here, by node and position.
    values: HashMap<(Value, Vec<Index>), Reg>,
    /// Operations already made here.
    operations: HashMap<String, Reg>,
}

enum Scope {
    Root,
    Loop { var: Var, extent: usize },
    Guard { conditions: Vec<Condition> },
}

impl Level {
    fn new(scope: Scope) -> Level {
        Level { scope, statements: Vec::new(), values: HashMap::new(), operations: HashMap::new() }
    }
}

impl Nest {
    /// An empty kernel of this name.
    pub fn new(name: &str) -> Nest {
        Nest {
            kernel: Kernel::new(name),
            levels: vec![Level::new(Scope::Root)],
            register_levels: Vec::new(),
            variable_levels: Vec::new(),
        }
    }

    /// Declares a buffer.
    pub fn buffer(&mut self, name: &str, scalar: Scalar, elements: usize, access: Access) -> BufferId {
        self.kernel.buffer(name, scalar, elements, access)
    }

    /// Lets the kernel write a buffer that it reads.
    pub fn write_too(&mut self, buffer: BufferId) {
        self.kernel.buffers[buffer.0 as usize].access = Access::ReadWrite;
    }

    /// Opens a loop.
    pub fn open(&mut self, extent: usize) -> Var {
        let var = self.kernel.variable();
        self.variable_levels.push(self.levels.len());
        self.levels.push(Level::new(Scope::Loop { var, extent }));
        var
    }

    /// Opens one loop for each length; lengths of 1 need none and give the constant position 0.
    pub fn open_all(&mut self, lengths: &[usize]) -> Vec<Index> {
        let position = |&length: &usize| match length {
            1 => Index::constant(0),
            _ => Index::var(self.open(length)),
        };
        lengths.iter().map(position).collect()
    }

    /// Opens a guard: what follows happens where all conditions hold.
    pub fn guard(&mut self, conditions: Vec<Condition>) {
        self.levels.push(Level::new(Scope::Guard { conditions }));
    }

    /// Number of open loops and guards.
    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    /// Closes loops and guards down to this depth.
    pub fn close_to(&mut self, depth: usize) {
        while self.depth() > depth {
            let Some(level) = self.levels.pop() else { return };
            let statement = match level.scope {
                Scope::Root => unreachable!("the root is never closed"),
                Scope::Loop { var, extent } => {
                    Stmt::For { var, extent, kind: LoopKind::Serial, body: level.statements }
                }
                Scope::Guard { conditions } => {
                    Stmt::If { conditions, body: level.statements, otherwise: Vec::new() }
                }
            };
            self.emit(statement);
        }
    }

    /// The finished kernel.
    pub fn finish(mut self) -> Kernel {
        self.close_to(0);
        self.kernel.body = self.levels.pop().map(|root| root.statements).unwrap_or_default();
        self.kernel
    }

    /// The register type.
    pub fn type_of(&self, reg: Reg) -> Scalar {
        self.kernel.type_of(reg)
    }

    /// `op(args)`, computed as far out as its operands allow.
    pub fn operation(&mut self, ty: Scalar, op: ScalarOp, args: &[Reg]) -> Reg {
        let inner = args.iter().map(|reg| self.register_levels[reg.0 as usize]).max().unwrap_or(0);
        let level = match &op {
            ScalarOp::Index(index) => inner.max(self.index_level(index)),
            _ => inner,
        };
        let key = format!("{op:?}{args:?}{ty}");
        if let Some(reg) = self.levels[level].operations.get(&key) {
            return *reg;
        }
        let reg = self.register(ty, level);
        self.levels[level].statements.push(Stmt::Let { reg, op, args: args.to_vec() });
        self.levels[level].operations.insert(key, reg);
        reg
    }

    /// A constant.
    pub fn constant(&mut self, ty: Scalar, value: Constant) -> Reg {
        self.operation(ty, ScalarOp::Constant(value), &[])
    }

    /// `a op b`.
    pub fn binary(&mut self, op: BinaryOp, a: Reg, b: Reg) -> Reg {
        self.operation(self.type_of(a), ScalarOp::Binary(op), &[a, b])
    }

    /// `a op b`, a truth value.
    pub fn compare(&mut self, op: CompareOp, a: Reg, b: Reg) -> Reg {
        self.operation(Scalar::Bool, ScalarOp::Compare(op), &[a, b])
    }

    /// The condition's choice.
    pub fn select(&mut self, condition: Reg, then: Reg, otherwise: Reg) -> Reg {
        self.operation(self.type_of(then), ScalarOp::Select, &[condition, then, otherwise])
    }

    /// The conversion to a buffer's element type, as a register holds it.
    pub fn cast(&mut self, value: Reg, scalar: Scalar) -> Reg {
        let ty = scalar.register();
        if self.type_of(value) == ty { value } else { self.operation(ty, ScalarOp::Cast, &[value]) }
    }

    /// The value of a position.
    pub fn position(&mut self, index: &Index) -> Reg {
        self.operation(Scalar::I64, ScalarOp::Index(index.clone()), &[])
    }

    /// `buffer[index]`, loaded as far out as the position allows, but never out of a guard.
    pub fn load(&mut self, buffer: BufferId, index: Index) -> Reg {
        let level = self.index_level(&index).max(self.innermost_guard());
        self.load_at(level, buffer, index)
    }

    /// `buffer[index]`, loaded here: for buffers that the kernel writes too.
    pub fn load_here(&mut self, buffer: BufferId, index: Index) -> Reg {
        self.load_at(self.levels.len() - 1, buffer, index)
    }

    fn load_at(&mut self, level: usize, buffer: BufferId, index: Index) -> Reg {
        let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
        let reg = self.register(scalar.register(), level);
        self.levels[level].statements.push(Stmt::Load { reg, buffer, index });
        reg
    }

    /// `buffer[index] = value`.
    pub fn store(&mut self, buffer: BufferId, index: Index, value: Reg) {
        self.emit(Stmt::Store { buffer, index, value });
    }

    /// `buffer[index] op= value`.
    pub fn update(&mut self, op: UpdateOp, buffer: BufferId, index: Index, value: Reg) {
        self.emit(Stmt::Update { op, buffer, index, value });
    }

    /// A new accumulator, started at the innermost level.
    pub fn accumulator(&mut self, ty: Scalar, init: Constant) -> Acc {
        let acc = self.kernel.accumulator(ty);
        self.emit(Stmt::Accumulator { acc, init });
        acc
    }

    /// `acc = op(acc, value)`.
    pub fn reduce(&mut self, acc: Acc, op: ReduceOp, value: Reg) {
        self.emit(Stmt::Reduce { acc, op, value });
    }

    /// `acc = value`.
    pub fn set(&mut self, acc: Acc, value: Reg) {
        self.emit(Stmt::Set { acc, value });
    }

    /// The accumulator's value at this point.
    pub fn read(&mut self, acc: Acc) -> Reg {
        let ty = self.kernel.accumulators[acc.0 as usize];
        let reg = self.register(ty, self.levels.len() - 1);
        self.emit(Stmt::Read { reg, acc });
        reg
    }

    /// Ends the kernel with a status where the condition holds; checked as far out as possible.
    pub fn fail(&mut self, condition: Reg, code: u16, value: Reg) {
        let levels = [condition, value].map(|reg| self.register_levels[reg.0 as usize]);
        let level = levels[0].max(levels[1]).max(self.innermost_guard());
        self.levels[level].statements.push(Stmt::Fail { condition, code, value });
    }

    /// The register that holds a node's value at a position, if it was computed in an open scope.
    pub fn cached(&self, value: Value, position: &[Index]) -> Option<Reg> {
        let key = (value, position.to_vec());
        self.levels.iter().rev().find_map(|level| level.values.get(&key).copied())
    }

    /// Remembers the register that holds a node's value at a position, as long as its scope is open.
    pub fn remember(&mut self, value: Value, position: &[Index], reg: Reg) {
        let level = self.register_levels[reg.0 as usize];
        self.levels[level].values.insert((value, position.to_vec()), reg);
    }

    fn emit(&mut self, statement: Stmt) {
        if let Some(level) = self.levels.last_mut() {
            level.statements.push(statement);
        }
    }

    fn register(&mut self, ty: Scalar, level: usize) -> Reg {
        self.register_levels.push(level);
        self.kernel.register(ty)
    }

    fn index_level(&self, index: &Index) -> usize {
        let variables = index.terms.iter().map(|(var, _)| self.variable_levels[var.0 as usize]);
        let registers = index.registers.iter().map(|(reg, _)| self.register_levels[reg.0 as usize]);
        variables.chain(registers).max().unwrap_or(0)
    }

    fn innermost_guard(&self) -> usize {
        self.levels.iter().rposition(|level| matches!(level.scope, Scope::Guard { .. })).unwrap_or(0)
    }
}

/// The sum of positions times coefficients, plus a constant.
pub(super) fn affine(constant: i64, parts: impl IntoIterator<Item = (Index, i64)>) -> Index {
    parts.into_iter().fold(Index::constant(constant), |sum, (index, coefficient)| {
        let mut sum = sum.offset(index.constant * coefficient);
        for (var, c) in index.terms {
            sum = sum.plus(var, c * coefficient);
        }
        for (reg, c) in index.registers {
            sum = sum.plus_register(reg, c * coefficient);
        }
        sum
    })
}

/// The row-major position of an element in a tensor of this shape.
pub(super) fn flatten(shape: &[usize], position: &[Index]) -> Index {
    let mut stride = 1i64;
    let mut parts = Vec::with_capacity(shape.len());
    for (&length, index) in shape.iter().zip(position).rev() {
        parts.push((index.clone(), stride));
        stride *= length.max(1) as i64;
    }
    parts.reverse();
    affine(0, parts)
}
