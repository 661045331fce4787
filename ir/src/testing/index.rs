//! Gathering and scattering, with indices in range.

use super::generator::{Generator, Known};
use crate::*;

impl Generator<'_> {
    pub(super) fn gather(&mut self) -> Option<Known> {
        let (x, axis, index) = self.indexed()?;
        self.push(Op::Gather { axis }, &[&x, &index], x.bound, x.exact)
    }

    pub(super) fn scatter(&mut self) -> Option<Known> {
        let (x, axis, index) = self.indexed()?;
        let ops = [ScatterOp::Set, ScatterOp::Add, ScatterOp::Mul, ScatterOp::Max, ScatterOp::Min];
        let op = if x.ty.dtype == DType::Bool { ScatterOp::Set } else { *self.random.pick(&ops)? };
        let lengths = x.ty.shape[..axis].iter().chain(index.ty.shape.iter()).chain(&x.ty.shape[axis + 1..]);
        let ty = TensorType { dtype: x.ty.dtype, shape: lengths.copied().collect() };
        let update = self.like(&ty)?;
        let (x, update) = match op {
            ScatterOp::Mul if x.is_float() => (self.scaled(x, 1.0)?, self.scaled(update, 1.0)?),
            _ => (x, update),
        };
        let bound = match op {
            ScatterOp::Add => x.bound + update.bound * index.elements() as f64,
            ScatterOp::Mul if !x.is_float() => f64::INFINITY,
            _ => x.bound.max(update.bound),
        };
        let copies = matches!(op, ScatterOp::Set | ScatterOp::Max | ScatterOp::Min);
        let exact = copies && x.exact && update.exact;
        self.push(Op::Scatter { axis, op }, &[&x, &index, &update], bound, exact)
    }

    /// A tensor, an axis of it, and an index into that axis.
    fn indexed(&mut self) -> Option<(Known, usize, Known)> {
        let x = self.any(|known| known.rank() > 0 && known.elements() > 0)?;
        let axis = self.random.below(x.rank());
        let length = x.ty.shape[axis];
        let room = self.options.elements / (x.elements() / length).max(1);
        let mut shape = self.random_shape(room);
        if shape.rank() > 2 || x.rank() - 1 + shape.rank() > self.options.rank + 1 {
            shape = Shape::scalar();
        }
        let dtypes = [DType::I64, DType::I32].map(|dtype| (dtype, self.options.dtypes.contains(&dtype)));
        let dtypes: Vec<DType> = dtypes.into_iter().filter(|(_, allowed)| *allowed).map(|(d, _)| d).collect();
        let dtype = *self.random.pick(&dtypes)?;
        let ty = TensorType { dtype, shape };
        let index = if self.random.percent(50) { self.clamped(&ty, length) } else { None };
        let index = match index {
            Some(index) => index,
            None => self.constant_index(ty, length)?,
        };
        Some((x, axis, index))
    }

    fn clamped(&mut self, ty: &TensorType, length: usize) -> Option<Known> {
        let index = self.like(ty)?;
        let (low, high) = (self.splat(ty, 0.0)?, self.splat(ty, (length - 1) as f64)?);
        let index = self.push(Op::Binary(BinaryOp::Max), &[&index, &low], index.bound, true)?;
        self.push(Op::Binary(BinaryOp::Min), &[&index, &high], length as f64, true)
    }

    fn constant_index(&mut self, ty: TensorType, length: usize) -> Option<Known> {
        let indices: Vec<i64> = (0..ty.shape.elements()).map(|_| self.random.below(length) as i64).collect();
        let literal = match ty.dtype {
            DType::I32 => {
                let narrow: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
                Literal::new(ty.shape, &narrow)
            }
            _ => Literal::new(ty.shape, &indices),
        };
        self.push(Op::Constant(literal), &[], length as f64, true)
    }
}
