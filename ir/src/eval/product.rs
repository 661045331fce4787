//! Products: dot and convolution. Floats accumulate in f64 and are rounded once.

use super::shape::{offsets, offsets_of};
use super::tensor::{Data, Number, Tensor, both};
use super::window::taps;
use crate::*;

pub(super) fn dot(dims: &DotDims, lhs: &Tensor, rhs: &Tensor, ty: &TensorType) -> Tensor {
    fn multiply<T: Number>(lhs: &Sides, rhs: &Sides, x: &[T], y: &[T]) -> Vec<T> {
        let columns = rhs.free.len();
        let mut result = vec![T::ZERO; lhs.batch.len() * lhs.free.len() * columns];
        let mut rows = result.chunks_exact_mut(columns);
        for (left, right) in lhs.batch.iter().zip(&rhs.batch) {
            // The right operand as a matrix: a row for each contracted position.
            let starts = rhs.contract.iter().map(|contract| right + contract);
            let matrix: Vec<T> =
                starts.flat_map(|start| rhs.free.iter().map(move |free| y[start + free])).collect();
            for (free, row) in lhs.free.iter().zip(&mut rows) {
                for (contract, terms) in lhs.contract.iter().zip(matrix.chunks_exact(columns)) {
                    let factor = x[left + free + contract];
                    row.iter_mut().zip(terms).for_each(|(sum, &term)| *sum = sum.add(factor.mul(term)));
                }
            }
        }
        result
    }
    if ty.shape.elements() == 0 {
        return Tensor::moved(ty.clone(), Data::with_capacity(ty.dtype, 0));
    }
    let left = Sides::new(lhs, &dims.lhs_batch, &dims.lhs_free(lhs.shape().rank()), &dims.lhs_contract);
    let right = Sides::new(rhs, &dims.rhs_batch, &dims.rhs_free(rhs.shape().rank()), &dims.rhs_contract);
    Tensor::computed(ty.clone(), both!(lhs, rhs, (x, y) => multiply(&left, &right, x, y)))
}

/// Where the elements of an operand of a product lie, by the role of their axes.
struct Sides {
    batch: Vec<usize>,
    free: Vec<usize>,
    contract: Vec<usize>,
}

impl Sides {
    fn new(x: &Tensor, batch: &[usize], free: &[usize], contract: &[usize]) -> Sides {
        let [batch, free, contract] = [batch, free, contract].map(|axes| offsets_of(x.shape(), axes));
        Sides { batch, free, contract }
    }
}

/// All three forms come from one loop over the terms `x·w·y` of the trilinear form; which of the three is summed
/// into is the form.
pub(super) fn convolution(conv: &ConvOp, first: &Tensor, second: &Tensor, ty: &TensorType) -> Tensor {
    let (Data::Float(a), Data::Float(b)) = (&*first.data, &*second.data) else {
        unreachable!("the type rules demand floats")
    };
    let mut result = vec![0.0; ty.shape.elements()];
    if a.is_empty() || b.is_empty() || result.is_empty() {
        return Tensor::moved(ty.clone(), Data::Float(result));
    }
    let (x, w, y) = match conv.form {
        ConvForm::Forward => (first.shape(), second.shape(), &ty.shape),
        ConvForm::Input => (&ty.shape, second.shape(), first.shape()),
        ConvForm::Weight => (first.shape(), &ty.shape, second.shape()),
    };
    let size = |lengths: &[usize]| lengths.iter().product::<usize>();
    let (x_size, w_size, y_size) = (size(&conv.input), size(&conv.kernel), size(&conv.output));
    let (x_channels, y_channels) = (w[1], y[1] / conv.groups);
    // (x channel, w, y channel) of every pair of channels that meet, as offsets.
    let mut channels = Vec::new();
    for (y_channel, group) in (0..y[1]).map(|channel| (channel, channel / y_channels)) {
        for channel in 0..x_channels {
            let w_start = (y_channel * x_channels + channel) * w_size;
            channels.push(((group * x_channels + channel) * x_size, w_start, y_channel * y_size));
        }
    }
    let batches = offsets(&[x[0]], |_, batch| batch);
    taps(
        &conv.kernel,
        &conv.input,
        &conv.output,
        &conv.stride,
        &conv.dilation,
        &conv.pad_low,
        |tap, pairs| {
            for &batch in &batches {
                let (x_batch, y_batch) = (batch * x[1] * x_size, batch * y[1] * y_size);
                for &(x_channel, w_channel, y_channel) in &channels {
                    let (x, w, y) = (x_batch + x_channel, w_channel + tap, y_batch + y_channel);
                    match conv.form {
                        ConvForm::Forward => {
                            pairs.iter().for_each(|&(i, o)| result[y + o] += a[x + i] * b[w])
                        }
                        ConvForm::Input => pairs.iter().for_each(|&(i, o)| result[x + i] += a[y + o] * b[w]),
                        ConvForm::Weight => pairs.iter().for_each(|&(i, o)| result[w] += a[x + i] * b[y + o]),
                    }
                }
            }
        },
    );
    Tensor::computed(ty.clone(), Data::Float(result))
}
