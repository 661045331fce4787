//! What `Let` and `Reduce` compute.

use iced_x86::code_asm::*;

use super::Beyond;
use super::registers::{PASSING, PASSING_MASK, under};
use super::walk::Emitter;
use crate::loops::{BinaryOp, CompareOp, Constant, Reg, Scalar, ScalarOp, UnaryOp};

/// Predicates of `vcmpps`; none of them signals.
const EQUAL: u32 = 0x00;
pub(super) const UNORDERED: u32 = 0x03;
const NOT_EQUAL: u32 = 0x04;
const LESS: u32 = 0x11;
const LESS_OR_EQUAL: u32 = 0x12;
const GREATER_OR_EQUAL: u32 = 0x1d;
const GREATER: u32 = 0x1e;

/// Directions of `vrndscaleps`, without the exception for inexact results.
const TO_NEAREST: u32 = 0x8;
const DOWN: u32 = 0x9;
const UP: u32 = 0xa;

impl Emitter<'_> {
    /// A number in all lanes.
    pub(super) fn fill(&mut self, to: AsmRegisterZmm, value: f32) -> Result<(), Beyond> {
        if value.to_bits() == 0 {
            self.code.vpxord(to, to, to)?;
        } else {
            self.code.mov(edx, value.to_bits())?;
            self.code.vpbroadcastd(to, edx)?;
        }
        Ok(())
    }

    pub(super) fn operation(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let ty = |reg: Reg| self.kernel.type_of(reg);
        match (ty(reg), args.first().map_or(ty(reg), |arg| ty(*arg))) {
            (Scalar::F32, Scalar::F32) => self.number(reg, op, args),
            (Scalar::F32, Scalar::Bool) if *op == ScalarOp::Select => self.select(reg, args),
            (Scalar::F32, Scalar::Bool) if *op == ScalarOp::Cast => {
                let from = self.registers.mask(args[0])?;
                let to = self.registers.define(reg)?;
                self.fill(PASSING[0], 1.0)?;
                self.code.vmovaps(under(to, from).z(), PASSING[0])?;
                Ok(())
            }
            (Scalar::Bool, Scalar::F32) => self.test(reg, op, args),
            (Scalar::Bool, Scalar::Bool) => self.logic(reg, op, args),
            _ => Err(Beyond),
        }
    }

    fn number(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let from = args.iter().map(|arg| self.registers.vector(*arg)).collect::<Result<Vec<_>, _>>()?;
        let to = self.registers.define(reg)?;
        match (op, &from[..]) {
            (ScalarOp::Constant(Constant::Float(value)), []) => self.fill(to, *value as f32),
            (ScalarOp::Unary(op), [x]) => self.unary(*op, to, *x),
            (ScalarOp::Binary(op), [a, b]) => self.binary(*op, to, *a, *b),
            (ScalarOp::MulAdd, [a, b, c]) => {
                self.code.vmovaps(to, *a)?;
                self.code.vfmadd213ps(to, *b, *c)?;
                Ok(())
            }
            (ScalarOp::Cast, [x]) => Ok(self.code.vmovaps(to, *x)?),
            _ => Err(Beyond),
        }
    }

    fn unary(&mut self, op: UnaryOp, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Result<(), Beyond> {
        match op {
            UnaryOp::Neg => {
                self.fill(PASSING[0], -0.0)?;
                self.code.vpxord(to, x, PASSING[0])?;
            }
            UnaryOp::Abs => {
                self.fill(PASSING[0], -0.0)?;
                self.code.vpandnd(to, PASSING[0], x)?;
            }
            UnaryOp::Sign => {
                let [zero, one] = PASSING;
                self.fill(zero, 0.0)?;
                self.fill(one, 1.0)?;
                self.code.vmovaps(to, x)?;
                self.code.vcmpps(PASSING_MASK, zero, x, LESS)?;
                self.code.vmovaps(under(to, PASSING_MASK), one)?;
                self.fill(one, -1.0)?;
                self.code.vcmpps(PASSING_MASK, x, zero, LESS)?;
                self.code.vmovaps(under(to, PASSING_MASK), one)?;
            }
            UnaryOp::Floor => self.code.vrndscaleps(to, x, DOWN)?,
            UnaryOp::Ceil => self.code.vrndscaleps(to, x, UP)?,
            UnaryOp::Round => self.code.vrndscaleps(to, x, TO_NEAREST)?,
            UnaryOp::Sqrt => self.code.vsqrtps(to, x)?,
            UnaryOp::RoundF16 => self.round_half(Scalar::F16, to, x)?,
            UnaryOp::RoundBf16 => self.round_half(Scalar::BF16, to, x)?,
            _ => return Err(Beyond),
        }
        Ok(())
    }

    /// `to` is neither `a` nor `b`, or it is `a`.
    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        to: AsmRegisterZmm,
        a: AsmRegisterZmm,
        b: AsmRegisterZmm,
    ) -> Result<(), Beyond> {
        match op {
            BinaryOp::Add => self.code.vaddps(to, a, b)?,
            BinaryOp::Sub => self.code.vsubps(to, a, b)?,
            BinaryOp::Mul => self.code.vmulps(to, a, b)?,
            BinaryOp::Div => self.code.vdivps(to, a, b)?,
            // The instructions give `b` where either is NaN.
            BinaryOp::Max | BinaryOp::Min => {
                let kept = PASSING[0];
                self.code.vcmpps(PASSING_MASK, a, a, UNORDERED)?;
                self.code.vmovaps(kept, a)?;
                match op {
                    BinaryOp::Max => self.code.vmaxps(to, a, b)?,
                    _ => self.code.vminps(to, a, b)?,
                }
                self.code.vmovaps(under(to, PASSING_MASK), kept)?;
            }
            _ => return Err(Beyond),
        }
        Ok(())
    }

    fn select(&mut self, reg: Reg, args: &[Reg]) -> Result<(), Beyond> {
        let [condition, yes, no] = args else { return Err(Beyond) };
        let condition = self.registers.mask(*condition)?;
        let (yes, no) = (self.registers.vector(*yes)?, self.registers.vector(*no)?);
        let to = self.registers.define(reg)?;
        self.code.vblendmps(under(to, condition), no, yes)?;
        Ok(())
    }

    /// A truth value from numbers.
    fn test(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let a = self.registers.vector(args[0])?;
        let (b, predicate) = match op {
            ScalarOp::Compare(op) => {
                let predicate = match op {
                    CompareOp::Eq => EQUAL,
                    CompareOp::Ne => NOT_EQUAL,
                    CompareOp::Lt => LESS,
                    CompareOp::Le => LESS_OR_EQUAL,
                    CompareOp::Gt => GREATER,
                    CompareOp::Ge => GREATER_OR_EQUAL,
                };
                (self.registers.vector(args[1])?, predicate)
            }
            ScalarOp::Unary(UnaryOp::IsNan) => (a, UNORDERED),
            ScalarOp::Cast => {
                self.fill(PASSING[0], 0.0)?;
                (PASSING[0], NOT_EQUAL)
            }
            _ => return Err(Beyond),
        };
        let to = self.registers.define_mask(reg)?;
        self.code.vcmpps(to, a, b, predicate)?;
        Ok(())
    }

    /// A truth value from truth values.
    fn logic(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let from = args.iter().map(|arg| self.registers.mask(*arg)).collect::<Result<Vec<_>, _>>()?;
        let to = self.registers.define_mask(reg)?;
        match (op, &from[..]) {
            (ScalarOp::Constant(Constant::Bool(true)), []) => self.code.kxnorw(to, to, to)?,
            (ScalarOp::Constant(Constant::Bool(false)), []) => self.code.kxorw(to, to, to)?,
            (ScalarOp::Unary(UnaryOp::Not), [x]) => self.code.knotw(to, *x)?,
            (ScalarOp::Binary(BinaryOp::And), [a, b]) => self.code.kandw(to, *a, *b)?,
            (ScalarOp::Binary(BinaryOp::Or), [a, b]) => self.code.korw(to, *a, *b)?,
            (ScalarOp::Binary(BinaryOp::Xor), [a, b]) => self.code.kxorw(to, *a, *b)?,
            (ScalarOp::Cast, [x]) => self.code.kmovw(to, *x)?,
            _ => return Err(Beyond),
        }
        Ok(())
    }

    /// Takes `value` into `all`. What it has to wait for of earlier values is one instruction, or two: NaN is looked for in
    /// the value, which the instruction drops, not in `all`, which it keeps as its second operand.
    pub(super) fn combine(
        &mut self,
        op: BinaryOp,
        all: AsmRegisterZmm,
        value: AsmRegisterZmm,
    ) -> Result<(), Beyond> {
        match op {
            BinaryOp::Max | BinaryOp::Min => {
                self.code.vcmpps(PASSING_MASK, value, value, UNORDERED)?;
                match op {
                    BinaryOp::Max => self.code.vmaxps(all, value, all)?,
                    _ => self.code.vminps(all, value, all)?,
                }
                Ok(self.code.vmovaps(under(all, PASSING_MASK), value)?)
            }
            _ => self.binary(op, all, all, value),
        }
    }

    /// The lanes of `all` in one, by twos; the result stands in all lanes.
    pub(super) fn across(&mut self, op: BinaryOp, all: AsmRegisterZmm) -> Result<(), Beyond> {
        let other = PASSING[1];
        // Halves, quarters, pairs, neighbours.
        self.code.vshuff32x4(other, all, all, 0b0100_1110)?;
        self.combine(op, all, other)?;
        self.code.vshuff32x4(other, all, all, 0b1011_0001)?;
        self.combine(op, all, other)?;
        self.code.vpermilps(other, all, 0b0100_1110)?;
        self.combine(op, all, other)?;
        self.code.vpermilps(other, all, 0b1011_0001)?;
        self.combine(op, all, other)
    }
}
