//! All three forms by one walk over (output element, input channel, tap): slow, and plainly right.

use super::{Conv, ConvForm};
use crate::{Element, Epilogue};

/// Computes `form` of `conv`.
///
/// # Safety
/// As for [`Conv::forward`].
pub(super) unsafe fn run<T: Element>(
    conv: &Conv,
    form: ConvForm,
    first: *const T,
    second: *const T,
    result: *mut T,
    epilogue: Option<Epilogue<T>>,
) {
    let inputs: usize = conv.input.iter().product();
    let outputs: usize = conv.output.iter().product();
    let taps: usize = conv.kernel.iter().product();
    let groups = conv.groups.max(1);
    let (group_in, group_out) = (conv.in_channels / groups, conv.out_channels / groups);
    let (channels, positions) = match form {
        ConvForm::Forward => (conv.batch * conv.out_channels, outputs),
        ConvForm::InputGradient => (conv.batch * conv.in_channels, inputs),
        ConvForm::WeightGradient => (conv.out_channels * group_in, taps),
    };
    // SAFETY: the caller's promise; every index below is within its tensor.
    unsafe {
        for index in 0..channels * positions {
            *result.add(index) = T::ZERO;
        }
        for image in 0..conv.batch {
            for out in 0..conv.out_channels {
                for place in 0..outputs {
                    for within in 0..group_in {
                        let channel = out / group_out * group_in + within;
                        for tap in 0..taps {
                            let Some(input) = input_position(conv, place, tap) else { continue };
                            let x = (image * conv.in_channels + channel) * inputs + input;
                            let w = (out * group_in + within) * taps + tap;
                            let y = (image * conv.out_channels + out) * outputs + place;
                            let (one, two, to) = match form {
                                ConvForm::Forward => (x, w, y),
                                ConvForm::InputGradient => (y, w, x),
                                ConvForm::WeightGradient => (x, y, w),
                            };
                            let to = result.add(to);
                            *to = to.read().plus((*first.add(one)).times(*second.add(two)));
                        }
                    }
                }
            }
        }
        if let Some(epilogue) = epilogue
            && channels * positions > 0
        {
            let (batches, rows, columns) = match form {
                ConvForm::Forward => (conv.batch, conv.out_channels, positions),
                ConvForm::InputGradient => (conv.batch, conv.in_channels, positions),
                ConvForm::WeightGradient => (1, conv.out_channels, group_in * taps),
            };
            for batch in 0..batches {
                let tile = result.add(batch * rows * columns);
                (epilogue.function)(tile, columns, rows, columns, batch, 0, 0, epilogue.environment);
            }
        }
    }
}

fn input_position(conv: &Conv, place: usize, tap: usize) -> Option<usize> {
    let [_, o1, o2] = conv.output;
    let [_, k1, k2] = conv.kernel;
    let place = [place / (o1 * o2), place / o2 % o1, place % o2];
    let tap = [tap / (k1 * k2), tap / k2 % k1, tap % k2];
    let mut flat = 0;
    for d in 0..3 {
        let at = (place[d] * conv.stride[d] + tap[d] * conv.dilation[d]) as isize - conv.pad_low[d];
        if at < 0 || at >= conv.input[d] as isize {
            return None;
        }
        flat = flat * conv.input[d] + at as usize;
    }
    Some(flat)
}
