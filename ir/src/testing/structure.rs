//! Operations that move elements.

use super::generator::{Generator, Known};
use crate::*;

impl Generator<'_> {
    pub(super) fn iota(&mut self) -> Option<Known> {
        let ty = self.random_type();
        if ty.dtype == DType::Bool || ty.shape.rank() == 0 {
            return None;
        }
        let axis = self.random.below(ty.shape.rank());
        let bound = ty.shape[axis] as f64;
        self.push(Op::Iota { ty, axis }, &[], bound, true)
    }

    pub(super) fn broadcast(&mut self) -> Option<Known> {
        let x = self.any(|known| known.rank() <= self.options.rank)?;
        let mut room = self.options.elements / x.elements().max(1);
        let mut lengths = x.ty.shape.to_vec();
        let mut dims: Vec<usize> = (0..x.rank()).collect();
        while lengths.len() <= self.options.rank && self.random.percent(60) {
            let length = 1 + self.random.below(self.options.length.min(room.max(1)));
            room /= length;
            let place = self.random.below(lengths.len() + 1);
            lengths.insert(place, length);
            dims.iter_mut().filter(|dim| **dim >= place).for_each(|dim| *dim += 1);
        }
        let op = Op::Broadcast { shape: Shape::new(&lengths), dims };
        self.push(op, &[&x], x.bound, x.exact)
    }

    /// Merges neighbouring axes, splits even ones, inserts ones.
    pub(super) fn reshape(&mut self) -> Option<Known> {
        let x = self.any(|_| true)?;
        let mut lengths = x.ty.shape.to_vec();
        for _ in 0..1 + self.random.below(3) {
            let place = self.random.below(lengths.len() + 1);
            match self.random.below(3) {
                0 if place + 1 < lengths.len() => {
                    let merged = lengths.remove(place);
                    lengths[place] *= merged;
                }
                1 if place < lengths.len() && lengths[place].is_multiple_of(2) => {
                    lengths[place] /= 2;
                    lengths.insert(place, 2);
                }
                _ if lengths.len() <= self.options.rank => lengths.insert(place, 1),
                _ => {}
            }
        }
        self.push(Op::Reshape { shape: Shape::new(&lengths) }, &[&x], x.bound, x.exact)
    }

    pub(super) fn transpose_or_reverse(&mut self) -> Option<Known> {
        let x = self.any(|known| known.rank() > 0)?;
        if self.random.percent(30) {
            let axes = self.random.subset(x.rank(), 60);
            return self.push(Op::Reverse { axes }, &[&x], x.bound, x.exact);
        }
        let mut permutation: Vec<usize> = (0..x.rank()).collect();
        self.random.shuffle(&mut permutation);
        self.push(Op::Transpose { permutation }, &[&x], x.bound, x.exact)
    }

    pub(super) fn slice(&mut self) -> Option<Known> {
        let x = self.any(|known| known.rank() > 0 && known.elements() > 0)?;
        let (mut start, mut limit, mut step) = (vec![], vec![], vec![]);
        for &length in x.ty.shape.iter() {
            let first = self.random.below(length);
            start.push(first);
            limit.push(first + 1 + self.random.below(length - first));
            step.push(1 + self.random.below(2));
        }
        self.push(Op::Slice { start, limit, step }, &[&x], x.bound, x.exact)
    }

    pub(super) fn pad(&mut self) -> Option<Known> {
        let x = self.any(|known| known.elements() > 0)?;
        let (mut low, mut high, mut interior) = (vec![], vec![], vec![]);
        let mut elements = 1;
        for &length in x.ty.shape.iter() {
            let between = self.random.below(2);
            let spread = (length + (length - 1) * between) as i64;
            let before = self.random.between(-1, 2).max(1 - spread);
            let after = self.random.between(-1, 2).max(1 - spread - before.min(0));
            elements *= (spread + before + after) as usize;
            low.push(before);
            high.push(after);
            interior.push(between);
        }
        if elements > 2 * self.options.elements {
            return None;
        }
        let value = self.like(&TensorType::scalar(x.ty.dtype))?;
        let (bound, exact) = (x.bound.max(value.bound), x.exact && value.exact);
        self.push(Op::Pad { low, high, interior }, &[&x, &value], bound, exact)
    }

    pub(super) fn concat(&mut self) -> Option<Known> {
        let first = self.any(|known| known.rank() > 0)?;
        let axis = self.random.below(first.rank());
        let mut parts = vec![first];
        for _ in 0..self.random.below(3) {
            let mut lengths = parts[0].ty.shape.to_vec();
            lengths[axis] = 1 + self.random.below(self.options.length);
            if Shape::new(&lengths).elements() > self.options.elements {
                continue;
            }
            let ty = TensorType::new(parts[0].ty.dtype, &lengths[..]);
            parts.push(self.like(&ty)?);
        }
        let bound = parts.iter().fold(0.0, |bound: f64, part| bound.max(part.bound));
        let exact = parts.iter().all(|part| part.exact);
        self.push(Op::Concat { axis }, &parts.iter().collect::<Vec<_>>(), bound, exact)
    }
}
