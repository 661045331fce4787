//! What `Let` and `Reduce` compute.

use super::Beyond;
use super::machine::{Direction, Extreme, Logic, Machine, Predicate, Simple};
use super::walk::Emitter;
use crate::loops::{BinaryOp, Constant, Reg, Scalar, ScalarOp, UnaryOp};

impl<M: Machine> Emitter<'_, M> {
    pub(super) fn operation(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let ty = |reg: Reg| self.kernel.type_of(reg);
        match (ty(reg), args.first().map_or(ty(reg), |arg| ty(*arg))) {
            (Scalar::F32, Scalar::F32) => self.number(reg, op, args),
            (Scalar::F32, Scalar::Bool) if *op == ScalarOp::Select => self.select(reg, args),
            (Scalar::F32, Scalar::Bool) if *op == ScalarOp::Cast => {
                let from = self.mask(args[0])?;
                let to = self.define(reg)?;
                M::number_of(&mut self.code, to, from)
            }
            (Scalar::Bool, Scalar::F32) => self.test(reg, op, args),
            (Scalar::Bool, Scalar::Bool) => self.logic(reg, op, args),
            _ => Err(Beyond::Kind),
        }
    }

    fn number(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let from = args.iter().map(|arg| self.vector(*arg)).collect::<Result<Vec<_>, _>>()?;
        let to = self.define(reg)?;
        match (op, &from[..]) {
            (ScalarOp::Constant(Constant::Float(value)), []) => M::fill(&mut self.code, to, *value as f32),
            (ScalarOp::Unary(op), [x]) => self.unary(*op, to, *x),
            (ScalarOp::Binary(op), [a, b]) => self.binary(*op, to, *a, *b),
            (ScalarOp::MulAdd, [a, b, c]) => M::multiply_add(&mut self.code, to, [*a, *b], *c),
            (ScalarOp::Cast, [x]) => M::copy(&mut self.code, to, *x),
            _ => Err(Beyond::Kind),
        }
    }

    fn unary(&mut self, op: UnaryOp, to: M::Vector, x: M::Vector) -> Result<(), Beyond> {
        let code = &mut self.code;
        match op {
            UnaryOp::Neg => M::negate(code, to, x),
            UnaryOp::Abs => M::absolute(code, to, x),
            UnaryOp::Sign => M::sign(code, to, x),
            UnaryOp::Floor => M::round(code, Direction::Down, to, x),
            UnaryOp::Ceil => M::round(code, Direction::Up, to, x),
            UnaryOp::Round => M::round(code, Direction::Nearest, to, x),
            UnaryOp::Sqrt => M::square_root(code, to, x),
            UnaryOp::RoundF16 | UnaryOp::RoundBf16 => M::round_half(code, op, to, x),
            _ => Err(Beyond::Kind),
        }
    }

    /// `to` is neither `a` nor `b`, or it is `a`.
    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        to: M::Vector,
        a: M::Vector,
        b: M::Vector,
    ) -> Result<(), Beyond> {
        let code = &mut self.code;
        match op {
            BinaryOp::Add => M::simple(code, Simple::Add, to, a, b),
            BinaryOp::Sub => M::simple(code, Simple::Sub, to, a, b),
            BinaryOp::Mul => M::simple(code, Simple::Mul, to, a, b),
            BinaryOp::Div => M::simple(code, Simple::Div, to, a, b),
            BinaryOp::Max => M::extreme(code, Extreme::Max, to, a, b),
            BinaryOp::Min => M::extreme(code, Extreme::Min, to, a, b),
            _ => Err(Beyond::Kind),
        }
    }

    fn select(&mut self, reg: Reg, args: &[Reg]) -> Result<(), Beyond> {
        let [condition, yes, no] = args else { return Err(Beyond::Kind) };
        let condition = self.mask(*condition)?;
        let numbers = [self.vector(*yes)?, self.vector(*no)?];
        let to = self.define(reg)?;
        M::select(&mut self.code, to, condition, numbers)
    }

    /// A truth value from numbers.
    fn test(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let a = self.vector(args[0])?;
        let (b, predicate) = match op {
            ScalarOp::Compare(op) => (self.vector(args[1])?, Predicate::from(*op)),
            ScalarOp::Unary(UnaryOp::IsNan) => (a, Predicate::Unordered),
            ScalarOp::Cast => {
                M::fill(&mut self.code, M::PASSING[0], 0.0)?;
                (M::PASSING[0], Predicate::NotEqual)
            }
            _ => return Err(Beyond::Kind),
        };
        let to = self.define_mask(reg)?;
        M::compare(&mut self.code, predicate, to, a, b)
    }

    /// A truth value from truth values.
    fn logic(&mut self, reg: Reg, op: &ScalarOp, args: &[Reg]) -> Result<(), Beyond> {
        let from = args.iter().map(|arg| self.mask(*arg)).collect::<Result<Vec<_>, _>>()?;
        let to = self.define_mask(reg)?;
        let code = &mut self.code;
        match (op, &from[..]) {
            (ScalarOp::Constant(Constant::Bool(value)), []) => M::truth(code, to, *value),
            (ScalarOp::Unary(UnaryOp::Not), [x]) => M::not(code, to, *x),
            (ScalarOp::Binary(BinaryOp::And), [a, b]) => M::logic(code, Logic::And, to, *a, *b),
            (ScalarOp::Binary(BinaryOp::Or), [a, b]) => M::logic(code, Logic::Or, to, *a, *b),
            (ScalarOp::Binary(BinaryOp::Xor), [a, b]) => M::logic(code, Logic::Xor, to, *a, *b),
            (ScalarOp::Cast, [x]) => M::copy_truth(code, to, *x),
            _ => Err(Beyond::Kind),
        }
    }

    /// Takes `value` into `all`.
    pub(super) fn combine(&mut self, op: BinaryOp, all: M::Vector, value: M::Vector) -> Result<(), Beyond> {
        match op {
            BinaryOp::Max => M::extreme_into(&mut self.code, Extreme::Max, all, value),
            BinaryOp::Min => M::extreme_into(&mut self.code, Extreme::Min, all, value),
            _ => self.binary(op, all, all, value),
        }
    }

    /// The lanes of `all` in one, by halves; the result stands in all lanes.
    pub(super) fn across(&mut self, op: BinaryOp, all: M::Vector) -> Result<(), Beyond> {
        for step in 0..M::LANES.ilog2() as usize {
            M::swap(&mut self.code, step, all)?;
            self.combine(op, all, M::PASSING[1])?;
        }
        Ok(())
    }
}
