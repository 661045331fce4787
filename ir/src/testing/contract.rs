//! Products, convolutions and sliding windows.

use super::generator::{Generator, Known};
use crate::*;

impl Generator<'_> {
    pub(super) fn dot(&mut self) -> Option<Known> {
        let x = self.any(|known| known.ty.dtype != DType::Bool && known.rank() <= self.options.rank)?;
        let mut roles: Vec<usize> = (0..x.rank()).collect();
        self.random.shuffle(&mut roles);
        let batch = self.random.below(x.rank().min(2) + 1);
        let contracted = self.random.below(x.rank() - batch + 1);
        let lhs_batch = roles[..batch].to_vec();
        let lhs_contract = roles[batch..batch + contracted].to_vec();
        let mut lengths: Vec<(Option<usize>, usize)> = Vec::new();
        for &axis in lhs_batch.iter().chain(&lhs_contract) {
            lengths.push((Some(lengths.len()), x.ty.shape[axis]));
        }
        let mut elements = x.elements();
        for _ in 0..self.random.below(3) {
            let length = 1 + self.random.below(self.options.length);
            elements *= length;
            lengths.push((None, length));
        }
        if elements > 4 * self.options.elements {
            return None;
        }
        self.random.shuffle(&mut lengths);
        let place = |role: usize| lengths.iter().position(|(found, _)| *found == Some(role));
        let rhs_batch = (0..batch).filter_map(place).collect();
        let rhs_contract = (batch..batch + contracted).filter_map(place).collect();
        let shape: Shape = lengths.iter().map(|&(_, length)| length).collect();
        let y = self.like(&TensorType { dtype: x.ty.dtype, shape })?;
        let products: usize = lhs_contract.iter().map(|&axis| x.ty.shape[axis]).product();
        let bound = x.bound * y.bound * products as f64;
        let dims = DotDims { lhs_batch, rhs_batch, lhs_contract, rhs_contract };
        self.push(Op::Dot(dims), &[&x, &y], bound, false)
    }

    pub(super) fn conv(&mut self) -> Option<Known> {
        let dtype = self.any_float()?.ty.dtype;
        let spatial = *self.random.pick(&[0, 1, 1, 2, 2, 2, 3])?;
        let (batch, groups) = (1 + self.random.below(2), 1 + self.random.below(2));
        let channels = groups * (1 + self.random.below(2));
        let features = groups * (1 + self.random.below(2));
        let mut op = ConvOp {
            form: *self.random.pick(&[ConvForm::Forward, ConvForm::Input, ConvForm::Weight])?,
            input: vec![],
            kernel: vec![],
            output: vec![],
            stride: vec![],
            dilation: vec![],
            pad_low: vec![],
            groups,
        };
        for _ in 0..spatial {
            let (input, kernel) = (self.random.between(1, 5), self.random.between(1, 3));
            let (stride, dilation) = (self.random.between(1, 2), self.random.between(1, 2));
            let (low, high) = (self.random.between(-1, 2), self.random.between(-1, 2));
            let output = (input + low + high - (kernel - 1) * dilation - 1) / stride + 1;
            op.input.push(input as usize);
            op.kernel.push(kernel as usize);
            op.output.push(output.max(1) as usize);
            op.stride.push(stride as usize);
            op.dilation.push(dilation as usize);
            op.pad_low.push(low);
        }
        let ty = |first: usize, second: usize, spatial: &[usize]| {
            let lengths = [first, second].into_iter().chain(spatial.iter().copied());
            TensorType { dtype, shape: lengths.collect() }
        };
        let x = ty(batch, channels, &op.input);
        let w = ty(features, channels / groups, &op.kernel);
        let y = ty(batch, features, &op.output);
        let volume = |lengths: &[usize]| lengths.iter().product::<usize>();
        let (first, second, products) = match op.form {
            ConvForm::Forward => (x, w, channels * volume(&op.kernel)),
            ConvForm::Input => (y, w, features * volume(&op.kernel)),
            ConvForm::Weight => (x, y, batch * volume(&op.output)),
        };
        let (first, second) = (self.like(&first)?, self.like(&second)?);
        let bound = first.bound * second.bound * products as f64;
        self.push(Op::Conv(op), &[&first, &second], bound, false)
    }

    pub(super) fn window(&mut self) -> Option<Known> {
        let kinds = [WindowKind::Sum, WindowKind::Max, WindowKind::ArgMax];
        let spreads = self.random.percent(30);
        let kind = self.random.pick(&kinds)?.clone();
        let exact_only = kind == WindowKind::ArgMax;
        let model = self.any(|known| {
            known.ty.dtype != DType::Bool && known.elements() > 0 && (known.exact || !exact_only)
        })?;
        let op = self.random_window(kind, &model.ty.shape);
        let windows = op.output_shape(&model.ty.shape).ok()?;
        if windows.elements() == 0 || windows.elements() > 2 * self.options.elements {
            return None;
        }
        let covered = op.window.iter().product::<usize>() as f64;
        if spreads {
            let x = self.like(&TensorType { dtype: model.ty.dtype, shape: windows })?;
            let op = WindowOp { kind: WindowKind::Spread { shape: model.ty.shape }, ..op };
            return self.push(Op::Window(op), &[&x], x.bound * covered, false);
        }
        match op.kind {
            WindowKind::ArgMax => {
                let bound = model.elements() as f64;
                self.positions(Op::Window(op), &model, bound)
            }
            // A window wholly outside would yield -inf.
            WindowKind::Max if model.is_float() && !touches(&op, &model.ty.shape) => None,
            WindowKind::Max => self.push(Op::Window(op), &[&model], model.bound, model.exact),
            WindowKind::Sum | WindowKind::Spread { .. } => {
                self.push(Op::Window(op), &[&model], model.bound * covered, false)
            }
        }
    }

    fn random_window(&mut self, kind: WindowKind, shape: &Shape) -> WindowOp {
        let (window, stride, dilation, pad_low, pad_high) = (vec![], vec![], vec![], vec![], vec![]);
        let mut op = WindowOp { kind, window, stride, dilation, pad_low, pad_high };
        for &length in shape.iter() {
            op.window.push(1 + self.random.below(length.min(3)));
            op.stride.push(1 + self.random.below(2));
            op.dilation.push(1 + self.random.below(2));
            op.pad_low.push(self.random.between(-1, 2));
            op.pad_high.push(self.random.between(-1, 2));
        }
        op
    }
}

/// Whether every window holds an element of a tensor of this shape.
fn touches(op: &WindowOp, shape: &Shape) -> bool {
    let Ok(windows) = op.output_shape(shape) else { return false };
    (0..shape.rank()).all(|axis| {
        (0..windows[axis]).all(|window| {
            (0..op.window[axis]).any(|element| {
                let at = (window * op.stride[axis] + element * op.dilation[axis]) as i64 - op.pad_low[axis];
                (0..shape[axis] as i64).contains(&at)
            })
        })
    })
}
