//! Loops.

use super::tensor::{Data, Tensor};
use super::{EvalError, Meter, Parts, run};
use crate::*;

pub(super) fn scan(
    op: &ScanOp,
    operands: &[Tensor],
    types: &[TensorType],
    meter: &mut Meter,
) -> Result<Parts, EvalError> {
    let (constants, rest) = operands.split_at(op.constants);
    let (initial, sequences) = rest.split_at(op.carries);
    let mut carries = initial.to_vec();
    let mut stacked: Vec<Vec<Tensor>> = types[op.carries..].iter().map(|_| Vec::new()).collect();
    for step in 0..op.trip {
        let position = if op.reverse { op.trip - 1 - step } else { step };
        let slices = sequences.iter().map(|sequence| slice(sequence, position));
        let inputs: Vec<Tensor> = constants.iter().chain(&carries).cloned().chain(slices).collect();
        let mut outputs = run(&op.body, &inputs, meter)?;
        for (slices, slice) in stacked.iter_mut().zip(outputs.drain(op.carries..)) {
            slices.push(slice);
        }
        carries = outputs;
    }
    let stacks = stacked.into_iter().zip(&types[op.carries..]).map(|(mut slices, ty)| {
        if op.reverse {
            slices.reverse();
        }
        stack(&slices, ty)
    });
    Ok(carries.into_iter().chain(stacks).collect())
}

/// The slice of a tensor at a position of its leading axis.
fn slice(sequence: &Tensor, position: usize) -> Tensor {
    let ty = TensorType::new(sequence.ty.dtype, &sequence.shape()[1..]);
    let length = ty.shape.elements();
    let mut data = Data::with_capacity(ty.dtype, length);
    data.append(&sequence.data, position * length..(position + 1) * length);
    Tensor::moved(ty, data)
}

/// Tensors one after another along a new leading axis.
fn stack(slices: &[Tensor], ty: &TensorType) -> Tensor {
    let mut data = Data::with_capacity(ty.dtype, ty.shape.elements());
    for slice in slices {
        data.append(&slice.data, 0..slice.data.len());
    }
    Tensor::moved(ty.clone(), data)
}
