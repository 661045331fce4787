//! Kernels as data, between the tensor graph and machine code.
//!
//! A [`Kernel`] is a tree of statements over flat buffers: counted loops, scalar operations on
//! registers, loads and stores at affine positions, and accumulators. Everything about shapes is
//! a number in the tree, so a kernel serves one shape.
//!
//! # Meaning
//!
//! A kernel runs its statements in order, as [`interpret`] does. A loop's kind
//! changes the schedule and never the meaning, with one exception: a `Reduce` in a vector loop
//! into an accumulator declared outside of that loop combines values in an order of the
//! emitter's choice (the same on each run), which for floats changes the last digits.
//!
//! * Registers are assigned once. A register is visible after its `Let`, `Load` or `Read`, in
//!   the same statement list and the lists nested in it. Its type stands in
//!   [`Kernel::registers`] and is never `F16` or `BF16`.
//! * Variables are `i64` counters from 0 to below the extent.
//! * An accumulator is declared (and set to its first value) by `Accumulator`; each execution of
//!   that statement starts it anew. Only statements after it, in the same list or nested ones,
//!   may use it.
//! * A product followed by a sum rounds twice; only `MulAdd` rounds once.
//! * A kernel with a parallel loop consists of that one loop, with nothing but `Let` and `Load` before it, and whoever
//!   calls it gives the range. Iterations must not touch each other's elements.
//! * A kernel with tile loops is a function of a part of a matrix product's result: three loops, over batches, over
//!   rows (both `tile`) and over columns (`tilevector`), one inside the other, with the extents of the whole result.
//!   Whoever calls it gives one batch, a range of rows and a range of columns. It cannot fail, iterations must not
//!   touch each other's elements, and what stands between the loops must write nothing.
//! * Iterations of a vector loop must not depend on each other except through `Reduce`
//!   (of one kind per accumulator), `Set` and `Update`; the emitter sees the latter two and runs
//!   such a loop in order. What a `Store` writes may be loaded by the same iteration only.
//! * Buffers may not overlap, except that a written buffer may be the very same memory as a
//!   read one where each iteration loads an element before it stores to it and no other
//!   iteration uses it.
//!
//! # Text
//!
//! ```text
//! kernel "softmax_row" (b0 "x": read f32[64], b1 "y": write f32[64]) {
//!   parallel i0 in 8 {
//!     a0: f32 = -inf
//!     vector i1 in 8 {
//!       r0: f32 = load b0[8*i0 + i1]
//!       reduce a0 max r0
//!     }
//!     r1: f32 = read a0
//!     ...
//! ```

mod evaluate;
mod interpret;
mod parse;
mod print;
mod scalar;
#[cfg(test)]
mod tests;
mod validate;

pub use interpret::{Failure, InterpretError, interpret, interpret_range, interpret_tile};
pub use parse::{ParseError, parse_kernel, parse_kernels};
pub use scalar::{BinaryOp, CompareOp, Constant, ReduceOp, Scalar, UnaryOp, UpdateOp};
pub use validate::KernelError;

use serde::{Deserialize, Serialize};

/// A register: the result of one operation. Numbers [`Kernel::registers`]. Printed `r3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reg(pub u32);

/// A loop counter. Printed `i3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Var(pub u32);

/// An accumulator: a mutable cell. Numbers [`Kernel::accumulators`]. Printed `a3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acc(pub u32);

/// A buffer. Numbers [`Kernel::buffers`], and the table of pointers that the emitted function
/// takes. Printed `b3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// One loop nest (or several in sequence): what becomes one function.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// Name of the emitted function; not part of the kernel's identity.
    pub name: String,
    /// What the kernel reads and writes, in the order of the pointer table.
    pub buffers: Vec<Buffer>,
    /// Type of each register.
    pub registers: Vec<Scalar>,
    /// Type of each accumulator.
    pub accumulators: Vec<Scalar>,
    /// Number of loop variables.
    pub variables: u32,
    /// The statements.
    pub body: Vec<Stmt>,
}

/// A flat array in memory, aligned to at least its element size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// For the reader only.
    pub name: String,
    /// Element type.
    pub scalar: Scalar,
    /// Number of elements.
    pub elements: usize,
    /// How the kernel uses it.
    pub access: Access,
}

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Loads, stores and updates.
    ReadWrite,
    /// Loads and stores; memory of the call itself, of unknown contents at first. The kernel's last buffers.
    Local,
}

/// The schedule of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LoopKind {
    /// One iteration after the other.
    Serial,
    /// Only as a kernel's single outermost statement: the caller gives the range of iterations.
    Parallel,
    /// Several iterations at once, in lanes. No loop inside may be `Vector` as well.
    Vector,
    /// `Parallel` and `Vector` at once (a flat elementwise kernel): the caller gives the range, and
    /// the iterations of it run in lanes.
    ParallelVector,
    /// The outer two of a kernel's three tile loops, over batches and over rows: the caller gives the range.
    Tile,
    /// The innermost of the three, over columns: the caller gives the range, and the iterations of it run in lanes.
    TileVector,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stmt {
    /// `reg = op(args)`.
    Let {
        /// Result.
        reg: Reg,
        /// Operation.
        op: ScalarOp,
        /// Operands; their number and types are the operation's.
        args: Vec<Reg>,
    },
    /// Runs `body` with `var` = 0, 1, ... `extent - 1`.
    For {
        /// Counter, of this loop only.
        var: Var,
        /// Number of iterations; may be 0.
        extent: usize,
        /// Schedule.
        kind: LoopKind,
        /// Statements of one iteration.
        body: Vec<Stmt>,
    },
    /// `reg = buffer[index]`, widened to the register type of the buffer's type.
    Load {
        /// Result.
        reg: Reg,
        /// Source.
        buffer: BufferId,
        /// Position in elements.
        index: Index,
    },
    /// `buffer[index] = value`, where `value` has the register type of the buffer's type.
    Store {
        /// Destination.
        buffer: BufferId,
        /// Position in elements.
        index: Index,
        /// What to store.
        value: Reg,
    },
    /// `buffer[index] = op(buffer[index], value)`, iterations in order.
    Update {
        /// How old and new combine.
        op: UpdateOp,
        /// Destination.
        buffer: BufferId,
        /// Position in elements.
        index: Index,
        /// What to combine with.
        value: Reg,
    },
    /// Declares an accumulator with a first value.
    Accumulator {
        /// The accumulator.
        acc: Acc,
        /// First value.
        init: Constant,
    },
    /// `acc = op(acc, value)`.
    Reduce {
        /// The accumulator.
        acc: Acc,
        /// How they combine.
        op: ReduceOp,
        /// Value of the accumulator's type.
        value: Reg,
    },
    /// `acc = value`. In a vector loop only for accumulators declared inside of it.
    Set {
        /// The accumulator.
        acc: Acc,
        /// Value of the accumulator's type.
        value: Reg,
    },
    /// `reg = acc`.
    Read {
        /// Result.
        reg: Reg,
        /// The accumulator.
        acc: Acc,
    },
    /// Runs `body` if all conditions hold, else `otherwise`.
    If {
        /// Their conjunction is the condition; none at all is true.
        conditions: Vec<Condition>,
        /// Statements for true.
        body: Vec<Stmt>,
        /// Statements for false.
        otherwise: Vec<Stmt>,
    },
    /// `buffer[k] = function(buffer[k])` for `k` in `0..count`, by the widest code that the processor runs. Not in a
    /// vector loop.
    Wide {
        /// One of [`UnaryOp::WIDE`].
        function: UnaryOp,
        /// An `F32` buffer of access [`Access::Local`].
        buffer: BufferId,
        /// Number of elements.
        count: usize,
    },
    /// `to[columns r + c] = from[index + r + stride c]` for `r` in `0..rows` and `c` in `0..columns`. Not in a vector
    /// loop.
    Transpose {
        /// An `F32` buffer.
        from: BufferId,
        /// Where the first element is.
        index: Index,
        /// Elements from a column's to the next one's.
        stride: usize,
        /// An `F32` buffer of access [`Access::Local`].
        to: BufferId,
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// Ends the function with the status [`pack_status`]`(code, value)` if `condition` holds.
    Fail {
        /// A `Bool` register.
        condition: Reg,
        /// From 1 to 65535: which failure it is.
        code: u16,
        /// An `I64` register: what failed, such as the index out of range.
        value: Reg,
    },
}

/// What `Let` computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ScalarOp {
    /// A constant of the register's type; no operands.
    Constant(Constant),
    /// One operand.
    Unary(UnaryOp),
    /// Two operands of one type.
    Binary(BinaryOp),
    /// Two operands of one type, result `Bool`.
    Compare(CompareOp),
    /// (`Bool` condition, value if true, value if false).
    Select,
    /// `a * b + c`, rounded once (floats).
    MulAdd,
    /// To the type of the result. Float to integer truncates, saturates, and makes NaN 0; integer
    /// to narrower integer keeps the low bits; anything to `Bool` is `!= 0`.
    Cast,
    /// The value of an index expression as an `I64`; no operands.
    Index(Index),
    /// A call of the external function of this symbol with the operands as C arguments (`Bool` as
    /// a byte); the result register's type is the return type. Must be pure.
    Call(String),
}

/// An affine position `constant + sum(coefficient * variable) + sum(coefficient * register)`,
/// in elements.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Index {
    /// Constant part.
    pub constant: i64,
    /// Variables with their coefficients; each variable at most once.
    pub terms: Vec<(Var, i64)>,
    /// `I64` registers with their coefficients.
    pub registers: Vec<(Reg, i64)>,
}

/// A condition of `Stmt::If`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Compares an affine expression with a bound.
    Affine {
        /// Left side.
        index: Index,
        /// Comparison.
        op: CompareOp,
        /// Right side.
        bound: i64,
    },
    /// A `Bool` register.
    Register(Reg),
}

impl Index {
    /// The constant position.
    pub fn constant(constant: i64) -> Index {
        Index { constant, ..Index::default() }
    }

    /// The position `var`.
    pub fn var(var: Var) -> Index {
        Index::constant(0).plus(var, 1)
    }

    /// This position plus `coefficient * var`; a sum of 0 drops the term.
    pub fn plus(mut self, var: Var, coefficient: i64) -> Index {
        match self.terms.iter().position(|(v, _)| *v == var) {
            Some(at) => self.terms[at].1 += coefficient,
            None => self.terms.push((var, coefficient)),
        }
        self.terms.retain(|(_, c)| *c != 0);
        self
    }

    /// This position plus `coefficient * reg`.
    pub fn plus_register(mut self, reg: Reg, coefficient: i64) -> Index {
        if coefficient != 0 {
            self.registers.push((reg, coefficient));
        }
        self
    }

    /// This position plus a constant.
    pub fn offset(mut self, constant: i64) -> Index {
        self.constant += constant;
        self
    }

    /// The coefficient of `var`, 0 if it does not occur.
    pub fn coefficient(&self, var: Var) -> i64 {
        self.terms.iter().filter(|(v, _)| *v == var).map(|(_, c)| c).sum()
    }
}

impl Kernel {
    /// A kernel without buffers and statements.
    pub fn new(name: impl Into<String>) -> Kernel {
        Kernel { name: name.into(), ..Kernel::default() }
    }

    /// Adds a buffer.
    pub fn buffer(
        &mut self,
        name: impl Into<String>,
        scalar: Scalar,
        elements: usize,
        access: Access,
    ) -> BufferId {
        self.buffers.push(Buffer { name: name.into(), scalar, elements, access });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// A new register of a type.
    pub fn register(&mut self, scalar: Scalar) -> Reg {
        self.registers.push(scalar);
        Reg(self.registers.len() as u32 - 1)
    }

    /// A new accumulator of a type.
    pub fn accumulator(&mut self, scalar: Scalar) -> Acc {
        self.accumulators.push(scalar);
        Acc(self.accumulators.len() as u32 - 1)
    }

    /// A new loop variable.
    pub fn variable(&mut self) -> Var {
        self.variables += 1;
        Var(self.variables - 1)
    }

    /// The number of buffers that the caller provides: all but the local ones.
    pub fn arguments(&self) -> usize {
        self.buffers.iter().take_while(|buffer| buffer.access != Access::Local).count()
    }

    /// Type of a register.
    pub fn type_of(&self, reg: Reg) -> Scalar {
        self.registers[reg.0 as usize]
    }

    /// The number of iterations of the parallel loop, if the kernel has one.
    pub fn parallel_extent(&self) -> Option<usize> {
        match self.body.split_last()? {
            (Stmt::For { extent, kind: LoopKind::Parallel | LoopKind::ParallelVector, .. }, before) => before
                .iter()
                .all(|statement| matches!(statement, Stmt::Let { .. } | Stmt::Load { .. }))
                .then_some(*extent),
            _ => None,
        }
    }

    /// The numbers of batches, rows and columns of the tile loops, if the kernel has them: one loop in the body, one
    /// in that loop's, one in the latter's.
    pub fn tile_extents(&self) -> Option<[usize; 3]> {
        let mut extents = [0; 3];
        let mut body = &self.body;
        for (depth, slot) in extents.iter_mut().enumerate() {
            let wanted = if depth == 2 { LoopKind::TileVector } else { LoopKind::Tile };
            let mut loops = body.iter().filter(|stmt| matches!(stmt, Stmt::For { .. }));
            match (loops.next(), loops.next()) {
                (Some(Stmt::For { extent, kind, body: inner, .. }), None) if *kind == wanted => {
                    *slot = *extent;
                    body = inner;
                }
                _ => return None,
            }
        }
        Some(extents)
    }

    /// The text without the name and the buffers' names: equal for kernels that compile to the same
    /// code, so a key for sharing them.
    pub fn key(&self) -> String {
        let mut anonymous = self.clone();
        anonymous.name.clear();
        for buffer in &mut anonymous.buffers {
            buffer.name.clear();
        }
        anonymous.to_string()
    }
}

/// The status that a failing kernel returns: `code` in the low 16 bits, `value` (clamped to 48
/// bits) above.
pub fn pack_status(code: u16, value: i64) -> i64 {
    let limit = 1i64 << 47;
    value.clamp(-limit, limit - 1) << 16 | i64::from(code)
}

/// The code and the value of a status, or nothing for success (0).
pub fn unpack_status(status: i64) -> Option<(u16, i64)> {
    (status != 0).then_some((status as u16, status >> 16))
}
