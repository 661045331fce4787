//! Sliding windows.

use super::shape::pairs;
use super::tensor::{Data, Number, Tensor, each};
use crate::*;
use std::collections::BTreeMap;

/// Calls `visit` for every position of the window (row-major, as an offset into the window) that meets the input,
/// with the pairs (input position, output position) that it connects:
/// `input position = output position * stride + window position * dilation - pad_low`, inside the input.
pub(super) fn taps(
    window: &[usize],
    input: &[usize],
    output: &[usize],
    stride: &[usize],
    dilation: &[usize],
    pad_low: &[i64],
    mut visit: impl FnMut(usize, &[(usize, usize)]),
) {
    if input.contains(&0) || output.contains(&0) || window.contains(&0) {
        return;
    }
    let axes: Vec<Axis> = (0..window.len())
        .map(|axis| {
            let (window, input, pad) = (window[axis] as i128, input[axis] as i128, pad_low[axis] as i128);
            let (stride, dilation) = (stride[axis] as i128, dilation[axis] as i128);
            let mut connected = Axis::new();
            for place in 0..output[axis] {
                let first = place as i128 * stride - pad;
                // Window positions from `low` to `high` lie inside the input.
                let low = ((-first).max(0) + dilation - 1) / dilation;
                let high = (input - 1 - first).div_euclid(dilation).min(window - 1);
                for tap in low..=high {
                    let position = (first + tap * dilation) as usize;
                    connected.entry(tap as usize).or_default().push((position, place));
                }
            }
            connected
        })
        .collect();
    let strides = |lengths: &[usize]| Shape::new(lengths).strides();
    let (window, input, output) = (strides(window), strides(input), strides(output));
    let mut chosen = Vec::new();
    walk(&axes, 0, &window, &mut chosen, &mut |tap, chosen| visit(tap, &pairs(chosen, &input, &output)));
}

/// For each window position of one axis, the (input index, output index) pairs that it connects.
type Axis = BTreeMap<usize, Vec<(usize, usize)>>;

fn walk<'a>(
    axes: &'a [Axis],
    offset: usize,
    window: &[usize],
    chosen: &mut Vec<&'a Vec<(usize, usize)>>,
    visit: &mut impl FnMut(usize, &[&'a Vec<(usize, usize)>]),
) {
    let Some((axis, rest)) = axes.split_first() else { return visit(offset, chosen) };
    for (&tap, connected) in axis {
        chosen.push(connected);
        walk(rest, offset + tap * window[0], &window[1..], chosen, visit);
        chosen.pop();
    }
}

pub(super) fn window(op: &WindowOp, x: &Tensor, ty: &TensorType) -> Tensor {
    let (input, output) = match &op.kind {
        WindowKind::Sum | WindowKind::Max | WindowKind::ArgMax => (x.shape(), &ty.shape),
        WindowKind::Spread { .. } => (&ty.shape, x.shape()),
    };
    let each_tap = |visit: &mut dyn FnMut(usize, usize)| {
        taps(&op.window, input, output, &op.stride, &op.dilation, &op.pad_low, |_, pairs| {
            pairs.iter().for_each(|&(i, o)| visit(i, o));
        });
    };
    let length = ty.shape.elements();
    let data = match &op.kind {
        WindowKind::Sum => each!(x, x => {
            let mut result = vec![Number::ZERO; length];
            each_tap(&mut |i, o| result[o] = Number::add(result[o], x[i]));
            result
        }),
        WindowKind::Max => each!(x, x => {
            let mut result = vec![Number::least(ty.dtype); length];
            each_tap(&mut |i, o| result[o] = Number::greater(result[o], x[i]));
            result
        }),
        WindowKind::Spread { .. } => each!(x, x => {
            let mut result = vec![Number::ZERO; length];
            each_tap(&mut |i, o| result[i] = Number::add(result[i], x[o]));
            result
        }),
        WindowKind::ArgMax => {
            fn better<T: Number>(x: &[T], i: usize, best: usize) -> bool {
                x[i].order(x[best]).is_gt()
            }
            // Taps come in row-major order, so the first of equals is met first.
            let mut best = vec![None; length];
            each_tap(&mut |i, o| {
                let wins = best[o].is_none_or(|best| match &*x.data {
                    Data::Float(x) => better(x, i, best),
                    Data::Integer(x) => better(x, i, best),
                });
                if wins {
                    best[o] = Some(i);
                }
            });
            Data::Integer(best.into_iter().map(|best| best.unwrap_or(0) as i128).collect())
        }
    };
    Tensor::computed(ty.clone(), data)
}
