//! The text form of kernels.

use std::fmt::{self, Display, Formatter, Write};

use super::{
    Acc, Access, BufferId, Condition, Constant, Index, Kernel, LoopKind, Reg, Scalar, ScalarOp, Stmt, Var,
};

macro_rules! display_as {
    ($($name:ident $letter:literal)*) => {
        $(impl Display for $name {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($letter, "{}"), self.0)
            }
        })*
    };
}
display_as!(Reg "r" Var "i" Acc "a" BufferId "b");

impl Access {
    /// The word of the text form.
    pub fn word(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
            Access::Local => "local",
        }
    }
}

impl LoopKind {
    /// The word of the text form.
    pub fn word(self) -> &'static str {
        match self {
            LoopKind::Serial => "for",
            LoopKind::Parallel => "parallel",
            LoopKind::Vector => "vector",
            LoopKind::ParallelVector => "parallelvector",
            LoopKind::Tile => "tile",
            LoopKind::TileVector => "tilevector",
        }
    }
}

impl Display for Index {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut term = |coefficient: i64, name: Option<&dyn Display>| -> fmt::Result {
            let sign = match (first, coefficient < 0) {
                (true, true) => "-",
                (true, false) => "",
                (false, true) => " - ",
                (false, false) => " + ",
            };
            first = false;
            let size = coefficient.unsigned_abs();
            match name {
                Some(name) if size == 1 => write!(formatter, "{sign}{name}"),
                Some(name) => write!(formatter, "{sign}{size}*{name}"),
                None => write!(formatter, "{sign}{size}"),
            }
        };
        for (var, coefficient) in &self.terms {
            term(*coefficient, Some(var))?;
        }
        for (reg, coefficient) in &self.registers {
            term(*coefficient, Some(reg))?;
        }
        if self.constant != 0 || self.terms.is_empty() && self.registers.is_empty() {
            term(self.constant, None)?;
        }
        Ok(())
    }
}

impl Display for Condition {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Affine { index, op, bound } => write!(formatter, "{index} {op} {bound}"),
            Condition::Register(reg) => reg.fmt(formatter),
        }
    }
}

/// Writes a constant so that it reads back as the same value of its type.
fn write_constant(out: &mut impl Write, constant: Constant, scalar: Scalar) -> fmt::Result {
    match constant {
        Constant::Float(value) if value.is_nan() => write!(out, "nan"),
        Constant::Float(value) if scalar == Scalar::F32 && f64::from(value as f32) == value => {
            write!(out, "{:?}", value as f32)
        }
        Constant::Float(value) => write!(out, "{value:?}"),
        Constant::Int(value) => write!(out, "{value}"),
        Constant::Bool(value) => write!(out, "{value}"),
    }
}

impl Display for Kernel {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "kernel {:?} (", self.name)?;
        for (number, buffer) in self.buffers.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let (access, scalar, elements) = (buffer.access.word(), buffer.scalar, buffer.elements);
            write!(formatter, "{separator}{}", BufferId(number as u32))?;
            if !buffer.name.is_empty() {
                write!(formatter, " {:?}", buffer.name)?;
            }
            write!(formatter, ": {access} {scalar}[{elements}]")?;
        }
        formatter.write_str(") {\n")?;
        self.write_body(formatter, &self.body, 1)?;
        formatter.write_str("}\n")
    }
}

impl Kernel {
    fn write_body(&self, out: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
        body.iter().try_for_each(|stmt| self.write_stmt(out, stmt, depth))
    }

    fn write_stmt(&self, out: &mut Formatter<'_>, stmt: &Stmt, depth: usize) -> fmt::Result {
        write!(out, "{:1$}", "", 2 * depth)?;
        match stmt {
            Stmt::Let { reg, op, args } => {
                write!(out, "{reg}: {} = ", self.type_of(*reg))?;
                self.write_operation(out, *reg, op)?;
                for (number, arg) in args.iter().enumerate() {
                    write!(out, "{}{arg}", if number == 0 { " " } else { ", " })?;
                }
            }
            Stmt::For { var, extent, kind, body } => {
                writeln!(out, "{} {var} in {extent} {{", kind.word())?;
                self.write_body(out, body, depth + 1)?;
                write!(out, "{:1$}}}", "", 2 * depth)?;
            }
            Stmt::Load { reg, buffer, index } => {
                write!(out, "{reg}: {} = load {buffer}[{index}]", self.type_of(*reg))?;
            }
            Stmt::Store { buffer, index, value } => write!(out, "store {buffer}[{index}] = {value}")?,
            Stmt::Update { op, buffer, index, value } => {
                write!(out, "update {op} {buffer}[{index}] = {value}")?;
            }
            Stmt::Accumulator { acc, init } => {
                let scalar = self.accumulators[acc.0 as usize];
                write!(out, "{acc}: {scalar} = ")?;
                write_constant(out, *init, scalar)?;
            }
            Stmt::Reduce { acc, op, value } => write!(out, "reduce {acc} {op} {value}")?,
            Stmt::Set { acc, value } => write!(out, "set {acc} = {value}")?,
            Stmt::Read { reg, acc } => write!(out, "{reg}: {} = read {acc}", self.type_of(*reg))?,
            Stmt::If { conditions, body, otherwise } => {
                out.write_str("if ")?;
                for (number, condition) in conditions.iter().enumerate() {
                    write!(out, "{}{condition}", if number == 0 { "" } else { ", " })?;
                }
                out.write_str(if conditions.is_empty() { "{\n" } else { " {\n" })?;
                self.write_body(out, body, depth + 1)?;
                if !otherwise.is_empty() {
                    writeln!(out, "{:1$}}} else {{", "", 2 * depth)?;
                    self.write_body(out, otherwise, depth + 1)?;
                }
                write!(out, "{:1$}}}", "", 2 * depth)?;
            }
            Stmt::Transpose { from, index, stride, to, rows, columns } => {
                write!(out, "transpose {to}[{rows}, {columns}] = {from}[{index}] by {stride}")?;
            }
            Stmt::Wide { function, buffer, count } => write!(out, "wide {function} {buffer}[{count}]")?,
            Stmt::Fail { condition, code, value } => write!(out, "fail {code} if {condition}, {value}")?,
        }
        out.write_str("\n")
    }

    fn write_operation(&self, out: &mut Formatter<'_>, reg: Reg, op: &ScalarOp) -> fmt::Result {
        match op {
            ScalarOp::Constant(constant) => {
                out.write_str("const ")?;
                write_constant(out, *constant, self.type_of(reg))
            }
            ScalarOp::Unary(op) => op.fmt(out),
            ScalarOp::Binary(op) => op.fmt(out),
            ScalarOp::Compare(op) => op.fmt(out),
            ScalarOp::Select => out.write_str("select"),
            ScalarOp::MulAdd => out.write_str("muladd"),
            ScalarOp::Cast => out.write_str("cast"),
            ScalarOp::Index(index) => write!(out, "index {index}"),
            ScalarOp::Call(symbol) => write!(out, "call {symbol:?}"),
        }
    }
}
