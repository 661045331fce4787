//! Elementwise work on what a product yields, as layers have it.

use super::generator::{Generator, Known};
use crate::*;

impl Generator<'_> {
    /// The product itself or, more often, a chain of elementwise operations on it.
    pub(super) fn epilogue(&mut self, product: Known) -> Option<Known> {
        let mut known = product;
        if self.random.percent(25) {
            return Some(known);
        }
        for _ in 0..1 + self.random.below(4) {
            if self.random.percent(10) {
                // Something else reads it too.
                self.keep(known.clone());
            }
            known = self.scaled_down(known)?;
            known = self.step(known.clone()).unwrap_or(known);
        }
        Some(known)
    }

    fn scaled_down(&mut self, known: Known) -> Option<Known> {
        let large = known.is_float() && known.bound > 64.0;
        if large { self.scaled(known, 8.0) } else { Some(known) }
    }

    fn step(&mut self, x: Known) -> Option<Known> {
        match self.random.below(8) {
            0 | 1 => self.biased(x),
            2 => {
                let zero = self.splat(&x.ty, 0.0)?;
                self.binary_of(BinaryOp::Max, x, zero)
            }
            3 => {
                let factor = self.splat(&x.ty, 0.5)?;
                self.binary_of(BinaryOp::Mul, x, factor)
            }
            4 => {
                let residual = self.like(&x.ty)?;
                let op = *self.random.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max])?;
                self.binary_of(op, x, residual)
            }
            5 => self.activated(x),
            6 => {
                let condition = self.like(&x.ty.with_dtype(DType::Bool))?;
                let other = self.like(&x.ty)?;
                let bound = x.bound.max(other.bound);
                self.push(Op::Select, &[&condition, &x, &other], bound, false)
            }
            _ if x.is_float() => {
                let floats: Vec<DType> =
                    self.options.dtypes.iter().copied().filter(|dtype| dtype.is_float()).collect();
                let dtype = *self.random.pick(&floats)?;
                self.push(Op::Cast(dtype), &[&x], x.bound, false)
            }
            _ => None,
        }
    }

    /// With a vector along one axis added, or multiplied by it.
    fn biased(&mut self, x: Known) -> Option<Known> {
        if x.rank() == 0 {
            return None;
        }
        let axis = if self.random.percent(60) { x.rank() - 1 } else { self.random.below(x.rank()) };
        let vector = self.like(&TensorType::new(x.ty.dtype, [x.ty.shape[axis]]))?;
        let op = Op::Broadcast { shape: x.ty.shape.clone(), dims: vec![axis] };
        let wide = self.push(op, &[&vector], vector.bound, vector.exact)?;
        let op = if self.random.percent(70) { BinaryOp::Add } else { BinaryOp::Mul };
        if self.random.percent(50) { self.binary_of(op, x, wide) } else { self.binary_of(op, wide, x) }
    }

    fn activated(&mut self, x: Known) -> Option<Known> {
        let smooth = [
            UnaryOp::Tanh,
            UnaryOp::Sigmoid,
            UnaryOp::Erf,
            UnaryOp::Softplus,
            UnaryOp::Exp,
            UnaryOp::Sqrt,
            UnaryOp::Neg,
            UnaryOp::Abs,
        ];
        let op = *self.random.pick(&smooth)?;
        if !op.accepts().0(x.ty.dtype) {
            return None;
        }
        let (x, bound) = if x.is_float() { self.within_domain(op, x)? } else { (x, f64::INFINITY) };
        self.push(Op::Unary(op), &[&x], bound, false)
    }
}
