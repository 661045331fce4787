//! Checks that a kernel keeps the rules of the loop IR.

use thiserror::Error;

use super::{
    Acc, Access, BinaryOp, BufferId, Condition, Constant, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp,
    Stmt, UnaryOp, Var,
};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("kernel {kernel:?}: {message}")]
pub struct KernelError {
    /// Name of the kernel.
    pub kernel: String,
    /// What is wrong.
    pub message: String,
}

impl Kernel {
    /// Checks scopes, types, operand counts and the places of loop kinds. Positions are not checked
    /// against buffer sizes here; the interpreter does that.
    pub fn validate(&self) -> Result<(), KernelError> {
        let mut checker = Checker {
            kernel: self,
            registers: vec![false; self.registers.len()],
            accumulators: vec![None; self.accumulators.len()],
            variables: vec![false; self.variables as usize],
            assigned: vec![false; self.registers.len()],
            vector_depth: None,
            depth: 0,
        };
        checker
            .types()
            .and_then(|()| checker.body(&self.body))
            .map_err(|message| KernelError { kernel: self.name.clone(), message })
    }
}

struct Checker<'a> {
    kernel: &'a Kernel,
    /// Which registers are visible here.
    registers: Vec<bool>,
    /// Loop depth at which each visible accumulator was declared.
    accumulators: Vec<Option<usize>>,
    variables: Vec<bool>,
    assigned: Vec<bool>,
    /// Loop depth of the vector loop around, if any.
    vector_depth: Option<usize>,
    depth: usize,
}

type Check<T = ()> = Result<T, String>;

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message()) }
}

impl Checker<'_> {
    fn types(&self) -> Check {
        let all = self.kernel.registers.iter().chain(&self.kernel.accumulators);
        ensure(all.clone().all(|scalar| scalar.register() == *scalar), || {
            "16-bit floats exist in buffers only".into()
        })?;
        let mut locals = self.kernel.buffers[self.kernel.arguments()..].iter();
        ensure(locals.all(|buffer| buffer.access == Access::Local), || "local buffers come last".into())
    }

    fn body(&mut self, body: &[Stmt]) -> Check {
        let registers = self.registers.clone();
        let accumulators = self.accumulators.clone();
        for stmt in body {
            self.stmt(stmt)?;
        }
        self.registers = registers;
        self.accumulators = accumulators;
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Check {
        match stmt {
            Stmt::Let { reg, op, args } => {
                self.operation(*reg, op, args)?;
                self.assign(*reg)
            }
            Stmt::For { var, kind, body, .. } => self.for_loop(*var, *kind, body),
            Stmt::Load { reg, buffer, index } => {
                let scalar = self.place(*buffer, index, Access::Write)?;
                self.expect(*reg, scalar)?;
                self.assign(*reg)
            }
            Stmt::Store { buffer, index, value } => {
                let scalar = self.place(*buffer, index, Access::Read)?;
                self.visible(*value)?;
                let whole = self.depth >= 3 || self.kernel.tile_extents().is_none();
                ensure(whole, || format!("{buffer} is written between tile loops"))?;
                self.expect(*value, scalar)
            }
            Stmt::Update { op, buffer, index, value } => {
                let scalar = self.place(*buffer, index, Access::Read)?;
                self.place(*buffer, index, Access::Write)?;
                self.visible(*value)?;
                let whole = self.depth >= 3 || self.kernel.tile_extents().is_none();
                ensure(whole, || format!("{buffer} is written between tile loops"))?;
                self.expect(*value, scalar)?;
                self.binary(op.binary(), scalar)
            }
            Stmt::Accumulator { acc, init } => {
                let scalar = *self.kernel.accumulators.get(acc.0 as usize).ok_or("unknown accumulator")?;
                self.accumulators[acc.0 as usize] = Some(self.depth);
                constant(*init, scalar)
            }
            Stmt::Reduce { acc, op, value } => {
                let scalar = self.accumulator(*acc)?;
                self.visible(*value)?;
                self.expect(*value, scalar)?;
                self.binary(op.binary(), scalar)
            }
            Stmt::Set { acc, value } => {
                let scalar = self.accumulator(*acc)?;
                self.visible(*value)?;
                self.expect(*value, scalar)
            }
            Stmt::Read { reg, acc } => {
                let scalar = self.accumulator(*acc)?;
                self.expect(*reg, scalar)?;
                self.assign(*reg)
            }
            Stmt::If { conditions, body, otherwise } => {
                for condition in conditions {
                    match condition {
                        Condition::Affine { index, .. } => self.index(index)?,
                        Condition::Register(reg) => {
                            self.visible(*reg)?;
                            self.expect(*reg, Scalar::Bool)?;
                        }
                    }
                }
                self.body(body)?;
                self.body(otherwise)
            }
            Stmt::Transpose { from, index, to, rows, columns, .. } => {
                let scalar = self.place(*from, index, Access::Write)?;
                let found = self.kernel.buffers.get(to.0 as usize).ok_or_else(|| format!("unknown {to}"))?;
                let fits = found.access == Access::Local && found.scalar == Scalar::F32;
                ensure(fits && scalar == Scalar::F32, || format!("{to} should be local and f32, as {from}"))?;
                let elements = rows.checked_mul(*columns);
                let enough = elements.is_some_and(|elements| elements <= found.elements);
                ensure(enough, || format!("{to} has fewer than {rows} x {columns} elements"))?;
                ensure(self.vector_depth.is_none(), || "transpose stands in a vector loop".into())
            }
            Stmt::Wide { function, buffer, count } => {
                ensure(UnaryOp::WIDE.contains(function), || format!("{function} has no wide form"))?;
                let number = buffer.0 as usize;
                let found = self.kernel.buffers.get(number).ok_or_else(|| format!("unknown {buffer}"))?;
                let fits = found.access == Access::Local && found.scalar == Scalar::F32;
                ensure(fits, || format!("{buffer} should be local and f32"))?;
                ensure(*count <= found.elements, || format!("{buffer} has fewer than {count} elements"))?;
                ensure(self.vector_depth.is_none(), || format!("wide {function} stands in a vector loop"))
            }
            Stmt::Fail { condition, code, value } => {
                ensure(self.kernel.tile_extents().is_none(), || {
                    "a kernel with tile loops cannot fail".into()
                })?;
                ensure(*code != 0, || "failure code 0 would mean success".into())?;
                self.visible(*condition)?;
                self.expect(*condition, Scalar::Bool)?;
                self.visible(*value)?;
                self.expect(*value, Scalar::I64)
            }
        }
    }

    fn for_loop(&mut self, var: Var, kind: LoopKind, body: &[Stmt]) -> Check {
        let parallel = matches!(kind, LoopKind::Parallel | LoopKind::ParallelVector);
        let tile = matches!(kind, LoopKind::Tile | LoopKind::TileVector);
        let vector = matches!(kind, LoopKind::Vector | LoopKind::ParallelVector | LoopKind::TileVector);
        ensure(!tile || self.depth < 3 && self.kernel.tile_extents().is_some(), || {
            format!("the tile loop {var} is not one of three, one inside the other")
        })?;
        ensure(!parallel || self.depth == 0 && self.kernel.parallel_extent().is_some(), || {
            format!("the parallel loop {var} has more than loads and values beside it")
        })?;
        ensure(!vector || self.vector_depth.is_none(), || {
            format!("the vector loop {var} stands in another one")
        })?;
        let slot = self.variables.get(var.0 as usize).copied();
        ensure(slot == Some(false), || format!("the variable {var} is unknown or in use"))?;
        self.variables[var.0 as usize] = true;
        self.depth += 1;
        let around = self.vector_depth;
        if vector {
            self.vector_depth = Some(self.depth);
        }
        self.body(body)?;
        self.vector_depth = around;
        self.depth -= 1;
        self.variables[var.0 as usize] = false;
        Ok(())
    }

    fn assign(&mut self, reg: Reg) -> Check {
        let number = reg.0 as usize;
        ensure(self.assigned.get(number) == Some(&false), || format!("{reg} is unknown or assigned twice"))?;
        self.assigned[number] = true;
        self.registers[number] = true;
        Ok(())
    }

    fn visible(&self, reg: Reg) -> Check {
        ensure(self.registers.get(reg.0 as usize) == Some(&true), || format!("{reg} is not visible here"))
    }

    fn expect(&self, reg: Reg, scalar: Scalar) -> Check {
        let found = self.kernel.registers.get(reg.0 as usize);
        ensure(found == Some(&scalar), || format!("{reg} should be {scalar}, is {found:?}"))
    }

    fn accumulator(&self, acc: Acc) -> Check<Scalar> {
        let number = acc.0 as usize;
        match self.accumulators.get(number).copied().flatten() {
            Some(_) => Ok(self.kernel.accumulators[number]),
            None => Err(format!("{acc} is not visible here")),
        }
    }

    fn index(&self, index: &Index) -> Check {
        for (var, _) in &index.terms {
            let inside = self.variables.get(var.0 as usize) == Some(&true);
            ensure(inside, || format!("{var} is used outside of its loop"))?;
        }
        index.registers.iter().try_for_each(|(reg, _)| {
            self.visible(*reg)?;
            self.expect(*reg, Scalar::I64)
        })
    }

    /// The register type of a place that may not be of access `unfit`.
    fn place(&self, buffer: BufferId, index: &Index, unfit: Access) -> Check<Scalar> {
        let found = self.kernel.buffers.get(buffer.0 as usize).ok_or_else(|| format!("unknown {buffer}"))?;
        ensure(found.access != unfit, || format!("{buffer} is {} only", found.access.word()))?;
        self.index(index)?;
        Ok(found.scalar.register())
    }

    fn operation(&self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Check {
        let result = *self.kernel.registers.get(reg.0 as usize).ok_or_else(|| format!("unknown {reg}"))?;
        args.iter().try_for_each(|arg| self.visible(*arg))?;
        let count = match op {
            ScalarOp::Constant(_) | ScalarOp::Index(_) => 0,
            ScalarOp::Unary(_) | ScalarOp::Cast => 1,
            ScalarOp::Binary(_) | ScalarOp::Compare(_) => 2,
            ScalarOp::Select | ScalarOp::MulAdd => 3,
            ScalarOp::Call(_) => args.len(),
        };
        ensure(args.len() == count, || format!("{reg} has {} operands instead of {count}", args.len()))?;
        match op {
            ScalarOp::Constant(value) => constant(*value, result),
            ScalarOp::Index(index) => self.index(index).and_then(|()| self.expect(reg, Scalar::I64)),
            ScalarOp::Unary(UnaryOp::IsNan) => {
                let operand = self.kernel.type_of(args[0]);
                ensure(operand.is_float() && result == Scalar::Bool, || format!("{reg} is ill-typed"))
            }
            ScalarOp::Unary(op) => self.expect(args[0], result).and_then(|()| self.unary(*op, result)),
            ScalarOp::Binary(op) => {
                args.iter().try_for_each(|arg| self.expect(*arg, result))?;
                self.binary(*op, result)
            }
            ScalarOp::Compare(_) => {
                self.expect(args[1], self.kernel.type_of(args[0]))?;
                self.expect(reg, Scalar::Bool)
            }
            ScalarOp::Select => {
                self.expect(args[0], Scalar::Bool)?;
                self.expect(args[1], result)?;
                self.expect(args[2], result)
            }
            ScalarOp::MulAdd => {
                args.iter().try_for_each(|arg| self.expect(*arg, result))?;
                ensure(result.is_float(), || format!("muladd of {result}"))
            }
            ScalarOp::Cast | ScalarOp::Call(_) => Ok(()),
        }
    }

    fn unary(&self, op: UnaryOp, scalar: Scalar) -> Check {
        let fits = match op {
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => scalar != Scalar::Bool,
            UnaryOp::Not => !scalar.is_float(),
            UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Sqrt
            | UnaryOp::Exp
            | UnaryOp::ExpM1
            | UnaryOp::Log
            | UnaryOp::Log1P
            | UnaryOp::Sin
            | UnaryOp::Cos
            | UnaryOp::Tan
            | UnaryOp::Asin
            | UnaryOp::Acos
            | UnaryOp::Atan
            | UnaryOp::Sinh
            | UnaryOp::Cosh
            | UnaryOp::Tanh
            | UnaryOp::Asinh
            | UnaryOp::Acosh
            | UnaryOp::Atanh
            | UnaryOp::Erf
            | UnaryOp::Sigmoid
            | UnaryOp::Softplus
            | UnaryOp::IsNan => scalar.is_float(),
            UnaryOp::RoundF16 | UnaryOp::RoundBf16 => scalar == Scalar::F32,
        };
        ensure(fits, || format!("{op} of {scalar}"))
    }

    fn binary(&self, op: BinaryOp, scalar: Scalar) -> Check {
        let fits = match op {
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Rem
            | BinaryOp::Pow
            | BinaryOp::Max
            | BinaryOp::Min => scalar != Scalar::Bool,
            BinaryOp::Atan2 => scalar.is_float(),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !scalar.is_float(),
            BinaryOp::Shl | BinaryOp::Shr => scalar.is_integer(),
        };
        ensure(fits, || format!("{op} of {scalar}"))
    }
}

fn constant(value: Constant, scalar: Scalar) -> Check {
    let fits = match value {
        Constant::Float(_) => scalar.is_float(),
        Constant::Int(_) => scalar.is_integer(),
        Constant::Bool(_) => scalar == Scalar::Bool,
    };
    ensure(fits, || format!("constant {value:?} of type {scalar}"))
}
