//! Elementwise operations, kept inside the domain of their functions.

use super::generator::{Generator, Known};
use crate::*;

impl Generator<'_> {
    pub(super) fn mark(&mut self) -> Option<Known> {
        let x = self.any(|_| true)?;
        let id = self.random.below(4) as u32;
        let mark = if self.random.percent(50) { Mark::Tag(id) } else { Mark::StopGradient };
        if mark == Mark::StopGradient && id == 3 && x.is_float() {
            let surrogate = self.any(|known| known.ty == x.ty)?;
            return self.push(Op::Mark(Mark::Surrogate), &[&x, &surrogate], x.bound, x.exact);
        }
        self.push(Op::Mark(mark), &[&x], x.bound, x.exact)
    }

    pub(super) fn unary(&mut self) -> Option<Known> {
        let op = *self.random.pick(UnaryOp::ALL)?;
        let jumps = matches!(op, UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round);
        let (accepts, _) = op.accepts();
        let x = self.any(|known| accepts(known.ty.dtype) && (known.exact || !jumps))?;
        let exact = x.exact && (jumps || matches!(op, UnaryOp::Neg | UnaryOp::Abs));
        let (x, bound) = if x.is_float() { self.within_domain(op, x)? } else { (x, f64::INFINITY) };
        self.push(Op::Unary(op), &[&x], bound, exact)
    }

    /// An argument of the function made from x, and a bound of the result.
    pub(super) fn within_domain(&mut self, op: UnaryOp, x: Known) -> Option<(Known, f64)> {
        let bound = x.bound;
        Some(match op {
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Asinh => (x, bound),
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Softplus => (x, bound + 1.0),
            UnaryOp::Sign | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sigmoid => {
                (x, 1.0)
            }
            UnaryOp::Atan => (x, 1.6),
            UnaryOp::Exp | UnaryOp::Expm1 | UnaryOp::Sinh | UnaryOp::Cosh => (self.scaled(x, 2.0)?, 7.5),
            UnaryOp::Tan => (self.scaled(x, 1.0)?, 1.6),
            UnaryOp::Asin | UnaryOp::Acos | UnaryOp::Atanh => (self.scaled(x, 0.9)?, 2.8),
            UnaryOp::Sqrt => (self.at_least(x, 0.25)?, bound.sqrt() + 0.5),
            UnaryOp::Log => (self.at_least(x, 0.5)?, bound + 0.7),
            UnaryOp::Log1p => (self.at_least(x, 0.0)?, bound),
            UnaryOp::Acosh => (self.at_least(x, 1.25)?, bound + 1.0),
        })
    }

    /// `|x| + least`.
    fn at_least(&mut self, x: Known, least: f64) -> Option<Known> {
        let magnitude = self.push(Op::Unary(UnaryOp::Abs), &[&x], x.bound, x.exact)?;
        let least_splat = self.splat(&x.ty, least)?;
        self.push(Op::Binary(BinaryOp::Add), &[&magnitude, &least_splat], x.bound + least, false)
    }

    pub(super) fn binary(&mut self) -> Option<Known> {
        let op = *self.random.pick(BinaryOp::ALL)?;
        let (accepts, _) = op.accepts();
        let jumps = matches!(op, BinaryOp::Rem);
        let x = self.any(|known| accepts(known.ty.dtype) && (known.exact || !jumps))?;
        let y = self.like(&x.ty)?;
        self.binary_of(op, x, y)
    }

    pub(super) fn binary_of(&mut self, op: BinaryOp, x: Known, y: Known) -> Option<Known> {
        let (a, b) = (x.bound, y.bound);
        if !x.is_float() {
            let y = match op {
                BinaryOp::Pow => self.masked(y, 3)?,
                BinaryOp::Shl | BinaryOp::Shr => self.masked(y, 15)?,
                _ => y,
            };
            return self.push(Op::Binary(op), &[&x, &y], f64::INFINITY, true);
        }
        let (x, y, bound) = match op {
            BinaryOp::Add | BinaryOp::Sub => (x, y, a + b),
            BinaryOp::Mul => (x, y, a * b),
            BinaryOp::Div => (x, self.at_least(y, 0.5)?, a * 2.0),
            BinaryOp::Pow => (self.at_least(x, 0.5)?, self.scaled(y, 2.0)?, (a + 0.5).powi(2).max(4.0)),
            BinaryOp::Max | BinaryOp::Min => (x, y, a.max(b)),
            BinaryOp::Rem => {
                let divisor = 0.25 + self.random.below(4) as f64;
                let y = self.splat(&x.ty, divisor)?;
                (x, y, divisor)
            }
            // The second stays positive: on the negative axis the angle jumps.
            BinaryOp::Atan2 => (x, self.at_least(y, 0.25)?, 1.6),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => return None,
        };
        let exact = matches!(op, BinaryOp::Max | BinaryOp::Min | BinaryOp::Rem) && x.exact && y.exact;
        self.push(Op::Binary(op), &[&x, &y], bound, exact)
    }

    /// The low bits of an integer.
    fn masked(&mut self, x: Known, mask: u32) -> Option<Known> {
        let mask_splat = self.splat(&x.ty, mask.into())?;
        self.push(Op::Binary(BinaryOp::And), &[&x, &mask_splat], mask.into(), true)
    }

    pub(super) fn compare(&mut self) -> Option<Known> {
        let x = self.any(|known| known.exact)?;
        let y = self.like_exact(&x.ty)?;
        let op = *self.random.pick(CompareOp::ALL)?;
        self.push(Op::Compare(op), &[&x, &y], 1.0, true)
    }

    pub(super) fn select(&mut self) -> Option<Known> {
        let x = self.any(|_| true)?;
        let y = self.like(&x.ty)?;
        let condition = self.like(&x.ty.with_dtype(DType::Bool))?;
        self.push(Op::Select, &[&condition, &x, &y], x.bound.max(y.bound), x.exact && y.exact)
    }

    pub(super) fn cast(&mut self) -> Option<Known> {
        if self.random.percent(20) {
            return self.bitcast();
        }
        let dtype = *self.random.pick(&self.options.dtypes)?;
        let jumps = !dtype.is_float();
        let x = self.any(|known| known.ty.dtype != dtype && (known.exact || !jumps))?;
        let x = if x.ty.dtype.is_integer() && dtype.is_float() { self.scaled(x, 60.0)? } else { x };
        self.push(Op::Cast(dtype), &[&x], x.bound, x.exact)
    }

    /// Of integers alone: the bits of a float depend on how it was rounded, and those of an integer may be any float.
    fn bitcast(&mut self) -> Option<Known> {
        let x = self.any(|known| known.ty.dtype.is_integer())?;
        let from = x.ty.dtype;
        let fits = |dtype: &DType| dtype.is_integer() && *dtype != from && dtype.size() == from.size();
        let fitting: Vec<DType> = self.options.dtypes.iter().copied().filter(fits).collect();
        let dtype = *self.random.pick(&fitting)?;
        self.push(Op::Bitcast(dtype), &[&x], f64::INFINITY, true)
    }
}
