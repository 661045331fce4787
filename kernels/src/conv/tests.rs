mod channels;
mod few;

use super::*;
use crate::testing::{Numbers, close};

const FORMS: [ConvForm; 3] = [ConvForm::Forward, ConvForm::InputGradient, ConvForm::WeightGradient];

/// The lengths of the operands and the result of a form.
pub(super) fn lengths(conv: &Conv, form: ConvForm) -> [usize; 3] {
    let x = conv.batch * conv.in_channels * conv.input.iter().product::<usize>();
    let y = conv.batch * conv.out_channels * conv.output.iter().product::<usize>();
    let w = conv.out_channels * (conv.in_channels / conv.groups) * conv.kernel.iter().product::<usize>();
    match form {
        ConvForm::Forward => [x, w, y],
        ConvForm::InputGradient => [y, w, x],
        ConvForm::WeightGradient => [x, y, w],
    }
}

/// The plain sums, in `f64`.
pub(super) fn expected(conv: &Conv, form: ConvForm, first: &[f64], second: &[f64]) -> Vec<f64> {
    let mut result = vec![0.0; lengths(conv, form)[2]];
    let (into, out) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let (inputs, outputs): (usize, usize) = (conv.input.iter().product(), conv.output.iter().product());
    let taps: usize = conv.kernel.iter().product();
    let split = |flat: usize, sizes: [usize; 3]| {
        [flat / (sizes[1] * sizes[2]), flat / sizes[2] % sizes[1], flat % sizes[2]]
    };
    for (place, tap) in (0..outputs).flat_map(|place| (0..taps).map(move |tap| (place, tap))) {
        let (o, t) = (split(place, conv.output), split(tap, conv.kernel));
        let at: [isize; 3] = std::array::from_fn(|d| {
            (o[d] * conv.stride[d] + t[d] * conv.dilation[d]) as isize - conv.pad_low[d]
        });
        if (0..3).any(|d| at[d] < 0 || at[d] >= conv.input[d] as isize) {
            continue;
        }
        let at = (at[0] as usize * conv.input[1] + at[1] as usize) * conv.input[2] + at[2] as usize;
        for image in 0..conv.batch {
            for o in 0..conv.out_channels {
                for i in 0..into {
                    let x = (image * conv.in_channels + o / out * into + i) * inputs + at;
                    let w = (o * into + i) * taps + tap;
                    let y = (image * conv.out_channels + o) * outputs + place;
                    match form {
                        ConvForm::Forward => result[y] += first[x] * second[w],
                        ConvForm::InputGradient => result[x] += first[y] * second[w],
                        ConvForm::WeightGradient => result[w] += first[x] * second[y],
                    }
                }
            }
        }
    }
    result
}

unsafe extern "C" fn negate_and_add_place<T: Numbers>(
    tile: *mut T,
    row_stride: usize,
    rows: usize,
    columns: usize,
    batch: usize,
    row0: usize,
    column0: usize,
    _: *const *mut u8,
) {
    for i in 0..rows {
        for j in 0..columns {
            let place = (batch * 1000 + (row0 + i) * 100 + column0 + j) as f64 / 64.0;
            let at = unsafe { &mut *tile.add(i * row_stride + j) };
            *at = T::from_f64(place - at.to_f64());
        }
    }
}

fn check<T: Numbers>(conv: &Conv, tier: Tier, team: &Team, tiled: bool) {
    for form in FORMS {
        let [a, b, c] = lengths(conv, form);
        let (first, second) = (T::sequence(a, 1), T::sequence(b, 2));
        let mut result = T::sequence(c + 8, 3);
        let guard = result[c..].to_vec();
        let bytes = conv.scratch_bytes::<T>(form, team.threads());
        let mut scratch = vec![0xffu8; bytes + 64];
        let epilogue =
            Epilogue { function: negate_and_add_place::<T>, environment: std::ptr::null(), finish: None };
        unsafe {
            let (x, y, z) = (first.as_ptr(), second.as_ptr(), result.as_mut_ptr());
            conv.run_tier(tier, form, x, y, z, tiled.then_some(epilogue), scratch.as_mut_ptr(), team);
        }
        assert!(scratch[bytes..].iter().all(|byte| *byte == 0xff), "scratch overrun {conv:?}");
        assert!(result[c..] == guard, "result overrun {conv:?}");
        let wide = |v: &[T]| v.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let mut wanted = expected(conv, form, &wide(&first), &wide(&second));
        if tiled {
            let (rows, columns) = match form {
                ConvForm::InputGradient => (conv.in_channels, conv.input.iter().product::<usize>()),
                ConvForm::Forward => (conv.out_channels, conv.output.iter().product()),
                ConvForm::WeightGradient => {
                    let within = conv.in_channels / conv.groups;
                    (conv.out_channels, within * conv.kernel.iter().product::<usize>())
                }
            };
            for (index, value) in wanted.iter_mut().enumerate() {
                let (image, row, column) =
                    (index / (rows * columns), index / columns % rows, index % columns);
                *value = (image * 1000 + row * 100 + column) as f64 / 64.0 - *value;
            }
        }
        let terms = match form {
            ConvForm::WeightGradient => conv.batch * conv.output.iter().product::<usize>(),
            _ => conv.in_channels.max(conv.out_channels) * conv.kernel.iter().product::<usize>(),
        };
        // Four results of a window at a time cost precision: up to twice the error of plain sums.
        let four = Problem::new::<T>(conv, form).is_some_and(|problem| problem.out == 4)
            || Gradient::new::<T>(conv, form, 1).is_some();
        let terms = if four { 2 * terms } else { terms };
        for (index, (x, y)) in result[..c].iter().zip(&wanted).enumerate() {
            assert!(
                close(*x, *y, terms),
                "{form:?} {tier:?} tiled {tiled} {conv:?} at {index}: {x:?} is not {y}"
            );
        }
    }
}

/// A convolution with an output as large as fits, given pads on both sides.
#[allow(clippy::too_many_arguments)]
pub(super) fn conv(
    [batch, groups, in_channels, out_channels]: [usize; 4],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    dilation: [usize; 3],
    pad_low: [isize; 3],
    pad_high: [isize; 3],
) -> Conv {
    let output = std::array::from_fn(|d| {
        let room = input[d] as isize + pad_low[d] + pad_high[d];
        let reach = (kernel[d].max(1) - 1) * dilation[d] + 1;
        if room < reach as isize { 0 } else { (room as usize - reach) / stride[d] + 1 }
    });
    Conv {
        batch,
        groups,
        in_channels,
        out_channels,
        input,
        kernel,
        output,
        stride,
        dilation,
        pad_low,
        loose: false,
        packed: PackedOperand::No,
    }
}

fn cases() -> Vec<Conv> {
    let one = [1, 1, 1];
    let none = [0, 0, 0];
    vec![
        conv([1, 1, 1, 1], [1, 1, 1], one, one, one, none, none),
        conv([2, 1, 3, 5], [1, 7, 9], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([1, 1, 4, 9], [1, 17, 20], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([3, 1, 8, 10], [1, 7, 7], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([2, 1, 9, 17], [1, 14, 14], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([2, 1, 9, 17], [1, 15, 13], [1, 1, 1], [1, 2, 2], one, none, none),
        conv([5, 1, 6, 11], [1, 5, 6], one, one, one, none, none),
        conv([1, 1, 3, 8], [1, 31, 33], [1, 7, 7], [1, 2, 2], one, [0, 3, 3], [0, 3, 3]),
        conv([1, 1, 3, 8], [1, 32, 32], [1, 8, 8], [1, 8, 8], one, none, none),
        conv([1, 1, 2, 3], [1, 20, 23], [1, 3, 2], [1, 3, 5], one, [0, 2, 0], [0, 0, 3]),
        conv([1, 1, 2, 3], [1, 24, 23], [1, 3, 4], [1, 2, 4], [1, 2, 2], [0, 2, 4], [0, 4, 1]),
        conv([2, 1, 2, 3], [1, 24, 29], [1, 3, 4], [1, 3, 4], [1, 2, 6], [0, 2, 4], [0, 4, 1]),
        conv([2, 1, 4, 6], [1, 1, 50], [1, 1, 5], [1, 1, 2], [1, 1, 3], [0, 0, 4], [0, 0, 7]),
        conv([1, 1, 2, 3], [1, 1, 300], [1, 1, 3], one, [1, 1, 128], [0, 0, 256], [0, 0, 0]),
        conv([1, 1, 1, 2], [1, 1, 40], [1, 1, 3], one, [1, 1, 4096], [0, 0, 8192], none),
        conv([1, 1, 2, 2], [1, 1, 700], [1, 1, 512], [1, 1, 3], one, [0, 0, 100], [0, 0, 9]),
        conv([1, 1, 2, 4], [5, 6, 7], [3, 2, 3], [1, 2, 1], [1, 1, 2], [1, 0, 2], [1, 1, 2]),
        conv([2, 1, 3, 4], [6, 5, 8], [2, 3, 3], [2, 1, 2], [2, 1, 1], [1, 1, 1], [0, 1, 1]),
        conv([1, 1, 2, 3], [1, 9, 9], [1, 3, 3], one, one, [0, -2, -1], [0, -1, 0]),
        conv([1, 1, 2, 3], [1, 9, 11], [1, 2, 3], [1, 2, 3], one, [0, -2, -3], [0, -1, -1]),
        conv([1, 1, 2, 3], [1, 4, 4], [1, 2, 2], one, one, [0, 6, 5], [0, 5, 6]),
        conv([1, 1, 2, 3], [1, 4, 4], [1, 2, 2], [1, 3, 3], one, [0, 6, 5], [0, 5, 6]),
        conv([2, 2, 4, 6], [1, 8, 9], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([2, 4, 8, 8], [1, 8, 9], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([2, 3, 3, 6], [1, 8, 9], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([2, 3, 6, 3], [1, 6, 5], [1, 1, 1], one, one, none, none),
        conv([2, 5, 5, 5], [1, 7, 7], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([1, 7, 7, 7], [1, 30, 37], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([2, 3, 3, 3], [1, 12, 19], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([2, 3, 3, 3], [1, 11, 70], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([1, 3, 3, 3], [1, 14, 67], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 0, 0]),
        conv([1, 3, 3, 3], [1, 9, 35], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 3, 4]),
        conv([1, 3, 3, 3], [1, 9, 40], [1, 3, 3], [1, 2, 2], one, [0, 0, 1], [0, 1, 1]),
        conv([1, 3, 3, 3], [1, 9, 40], [1, 3, 3], [1, 2, 2], one, none, none),
        conv([1, 3, 3, 3], [1, 9, 40], [1, 3, 3], one, one, [0, 0, 1], [0, 2, 0]),
        conv([2, 4, 4, 4], [1, 5, 16], [1, 3, 3], one, one, none, none),
        conv([1, 4, 4, 4], [1, 5, 17], [1, 3, 3], one, one, [0, 2, 2], [0, 2, 2]),
        conv([1, 4, 4, 4], [1, 130, 33], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 2]),
        conv([1, 4, 4, 4], [1, 150, 33], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 2]),
        conv([1, 4, 4, 4], [1, 1, 3], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        // Lines of more vectors than are kept at a time, and images of few vectors.
        conv([1, 3, 3, 3], [1, 5, 150], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([1, 3, 3, 3], [1, 33, 270], [1, 3, 3], one, one, [0, 0, 1], [0, 1, 0]),
        conv([1, 3, 3, 3], [1, 7, 310], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([2, 6, 6, 6], [1, 6, 5], [1, 3, 3], one, one, [0, 2, 0], [0, 0, 2]),
        conv([1, 5, 5, 5], [1, 9, 13], [1, 3, 3], one, one, [0, 0, 2], [0, 2, 0]),
        // Two channels side by side, of odd and even numbers, some taller than the epilogue sees at a time.
        conv([2, 7, 7, 7], [1, 14, 14], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([1, 6, 6, 6], [1, 9, 15], [1, 3, 3], [1, 2, 2], one, none, [0, 0, 1]),
        conv([1, 5, 5, 5], [1, 900, 11], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([1, 4, 4, 4], [1, 8, 4], [1, 3, 3], [1, 2, 2], one, [0, 2, 3], [0, 1, 2]),
        conv([2, 3, 3, 3], [1, 12, 18], [1, 5, 5], one, one, [0, 2, 2], [0, 2, 2]),
        conv([1, 3, 3, 3], [1, 12, 18], [1, 5, 5], [1, 2, 2], one, [0, 1, 2], [0, 2, 1]),
        // Grids of taps below each other: whole and broken vectors, one and two, and rows that are left.
        conv([2, 3, 3, 3], [1, 13, 37], [1, 7, 7], one, one, [0, 3, 3], [0, 3, 3]),
        conv([1, 2, 2, 2], [1, 9, 48], [1, 4, 3], one, one, [0, 1, 1], [0, 2, 1]),
        conv([1, 2, 2, 2], [1, 3, 32], [1, 9, 1], one, one, [0, 5, 0], [0, 4, 0]),
        conv([1, 2, 2, 2], [1, 14, 11], [1, 12, 12], one, one, [0, 4, 6], [0, 6, 5]),
        conv([1, 2, 2, 2], [1, 14, 30], [1, 7, 5], one, [1, 2, 1], [0, 6, 2], [0, 6, 2]),
        conv([1, 2, 2, 2], [1, 1, 90], [1, 1, 31], one, one, [0, 0, 15], [0, 0, 15]),
        conv([1, 2, 2, 2], [4, 5, 6], [2, 3, 2], [2, 1, 1], [1, 1, 2], [1, 1, 0], [1, 1, 0]),
        conv([1, 2, 2, 2], [1, 9, 9], [1, 3, 3], [1, 4, 1], [1, 2, 3], [0, -1, 1], [0, 4, 5]),
        conv([0, 1, 2, 2], [1, 4, 4], [1, 3, 3], one, one, none, none),
        conv([1, 1, 0, 2], [1, 4, 4], [1, 3, 3], one, one, none, none),
        conv([1, 1, 2, 0], [1, 4, 4], [1, 3, 3], one, one, none, none),
        conv([1, 1, 2, 2], [1, 0, 4], [1, 1, 3], one, one, [0, 2, 0], [0, 1, 0]),
        conv([1, 1, 2, 2], [1, 2, 4], [1, 3, 3], one, one, none, none),
        conv([1, 1, 2, 2], [1, 4, 4], [1, 0, 3], one, one, none, none),
        conv([1, 1, 40, 33], [1, 26, 25], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([1, 1, 16, 16], [1, 3, 4], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([2, 1, 17, 33], [1, 9, 13], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([5, 1, 32, 19], [1, 7, 7], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([1, 1, 20, 50], [1, 22, 31], [1, 3, 3], one, one, none, none),
        conv([2, 1, 50, 20], [1, 12, 9], [1, 3, 3], one, one, [0, 2, 0], [0, 0, 2]),
        conv([1, 1, 24, 40], [1, 10, 11], [1, 3, 3], one, one, [0, -2, 3], [0, 4, -1]),
        conv([1, 1, 18, 16], [1, 5, 5], [1, 3, 3], one, one, [0, 7, 6], [0, 6, 7]),
        conv([6, 1, 20, 19], [1, 12, 12], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([2, 1, 50, 35], [1, 45, 52], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([2, 1, 3, 5], [1, 9, 45], [1, 5, 5], one, one, [0, 2, 2], [0, 2, 2]),
        conv([2, 1, 1, 16], [1, 13, 28], [1, 5, 5], one, one, [0, 2, 2], [0, 2, 2]),
        conv([1, 2, 10, 22], [1, 6, 64], [1, 2, 5], one, [1, 2, 1], [0, 1, 0], [0, 1, 4]),
        conv([1, 1, 3, 40], [1, 11, 95], [1, 7, 7], [1, 2, 2], one, [0, 3, 3], [0, 3, 3]),
        conv([1, 1, 7, 9], [4, 3, 47], [2, 2, 3], one, one, [1, 0, 1], [0, 1, 1]),
        conv([2, 1, 70, 50], [1, 23, 17], one, one, one, none, none),
        conv([1, 1, 130, 11], [1, 14, 14], one, one, one, none, none),
        // One and two columns more than panels hold, and many more channels of the input than of the output.
        conv([1, 1, 20, 30], [1, 7, 7], one, one, one, none, none),
        conv([1, 1, 45, 33], [1, 5, 10], one, one, one, none, none),
        conv([3, 1, 60, 24], [1, 13, 11], one, one, one, none, none),
        conv([2, 1, 45, 3], [1, 11, 13], [1, 5, 5], [1, 2, 1], one, [0, 2, 2], [0, 2, 2]),
        conv([32, 1, 10, 9], [1, 7, 6], [1, 5, 5], one, one, none, none),
        conv([35, 1, 12, 8], [1, 6, 7], [1, 4, 3], one, one, [0, 2, 1], [0, 1, 2]),
        conv([67, 1, 49, 50], [1, 5, 4], [1, 3, 3], [1, 2, 2], one, [0, 1, 1], [0, 1, 1]),
        conv([29, 1, 60, 55], [1, 7, 7], [1, 3, 3], one, [1, 2, 3], [0, 2, 3], [0, 2, 3]),
        conv([31, 1, 55, 60], [1, 3, 3], [1, 3, 4], one, one, [0, 5, 6], [0, 5, 4]),
        conv([28, 1, 100, 100], [1, 5, 7], [1, 2, 1], [1, 2, 1], one, [0, -2, 0], [0, 0, 0]),
        conv([64, 1, 100, 100], [1, 4, 4], [1, 2, 2], [1, 3, 1], one, none, none),
        // Taps as far apart as results: all of them can be within the image.
        conv([30, 1, 44, 44], [1, 9, 9], [1, 3, 3], [1, 2, 2], [1, 2, 2], [0, 2, 2], [0, 2, 2]),
        conv([2, 1, 5, 16], [1, 9, 150], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([3, 2, 6, 48], [1, 11, 12], [1, 3, 2], [1, 2, 1], one, [0, 1, 1], [0, 1, 1]),
        conv([9, 1, 11, 31], [2, 4, 5], [2, 2, 2], one, [1, 1, 2], [1, 0, 1], [0, 1, 1]),
        conv([2, 1, 1, 48], [1, 6, 7], [1, 3, 3], one, one, none, none),
        conv([3, 1, 7, 7], [1, 14, 11], [1, 1, 3], [1, 1, 2], one, none, none),
    ]
}

fn check_all<T: Numbers>() {
    let teams = [Team::new(1), Team::new(3)];
    for tier in Tier::available() {
        for (number, conv) in cases().iter().enumerate() {
            check::<T>(conv, tier, &teams[number % 2], true);
            check::<T>(&Conv { loose: true, ..*conv }, tier, &teams[(number + 1) % 2], false);
        }
    }
}

#[test]
fn all_forms_in_f32_agree_with_plain_sums() {
    check_all::<f32>();
}

#[test]
fn all_forms_in_f64_agree_with_plain_sums() {
    check_all::<f64>();
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let three = [0, 1, 1];
    for conv in [
        conv([4, 1, 32, 48], [1, 28, 28], [1, 3, 3], [1, 1, 1], [1, 1, 1], three, three),
        conv([4, 1, 64, 64], [1, 40, 40], [1, 3, 3], [1, 1, 1], [1, 1, 1], three, three),
        conv([1, 1, 64, 70], [1, 56, 56], [1, 3, 3], [1, 1, 1], [1, 1, 1], three, three),
        conv([4, 1, 32, 48], [1, 14, 14], [1, 3, 3], [1, 2, 2], [1, 1, 1], three, three),
        conv([1, 1, 256, 256], [1, 7, 7], [1, 3, 3], [1, 1, 1], [1, 1, 1], three, three),
        conv([1, 96, 96, 96], [1, 56, 56], [1, 3, 3], [1, 1, 1], [1, 1, 1], three, three),
        conv([1, 301, 301, 301], [1, 30, 14], [1, 3, 3], [1, 2, 2], [1, 1, 1], three, three),
        conv([1, 901, 901, 901], [1, 7, 7], [1, 3, 3], [1, 1, 1], [1, 1, 1], three, three),
        conv([1, 1, 300, 64], [1, 7, 7], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0; 3], [0; 3]),
        conv([1, 1, 64, 400], [1, 7, 7], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0; 3], [0; 3]),
        conv([1, 1, 144, 24], [1, 56, 56], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0; 3], [0; 3]),
        conv([32, 1, 16, 32], [1, 14, 14], [1, 5, 5], [1, 1, 1], [1, 1, 1], [0; 3], [0; 3]),
        conv([1, 1, 3, 16], [1, 64, 64], [1, 7, 7], [1, 2, 2], [1, 1, 1], [0, 3, 3], [0, 3, 3]),
    ] {
        for form in FORMS {
            let [a, b, c] = lengths(&conv, form);
            let (first, second) = (f32::sequence(a, 1), f32::sequence(b, 2));
            let conv = Conv { loose: conv.batch == 4, ..conv };
            let results = [1, 2, 5].map(|threads| {
                let team = Team::new(threads);
                let mut result = vec![0f32; c];
                let mut scratch = vec![0u8; conv.scratch_bytes::<f32>(form, threads)];
                unsafe {
                    let (x, y, z) = (first.as_ptr(), second.as_ptr(), result.as_mut_ptr());
                    conv.run_tier(Tier::current(), form, x, y, z, None, scratch.as_mut_ptr(), &team);
                }
                result
            });
            assert!(results[0] == results[1] && results[0] == results[2], "{form:?} {conv:?}");
        }
    }
}

/// A team may turn out smaller than the one that memory was measured for.
#[test]
fn memory_for_a_team_is_enough_for_a_smaller_one() {
    let three = [0, 1, 1];
    let mut all = cases();
    for [batch, channels, size] in [[1, 64, 56], [1, 128, 28], [1, 512, 7], [8, 64, 56], [8, 256, 14]] {
        let sizes = [batch, 1, channels, channels];
        all.push(conv(sizes, [1, size, size], [1, 3, 3], [1; 3], [1; 3], three, three));
    }
    for conv in all {
        for (form, loose, packed) in
            FORMS.into_iter().flat_map(|form| [(form, false, false), (form, true, false), (form, true, true)])
        {
            let packed = match packed && conv.packing::<f32>(form).is_some() {
                true => PackedOperand::Panels,
                false => PackedOperand::No,
            };
            let conv = Conv { loose, packed, ..conv };
            let bytes: Vec<usize> =
                (1..=12).map(|threads| conv.scratch_bytes::<f32>(form, threads)).collect();
            assert!(bytes.is_sorted(), "{form:?} {conv:?}: {bytes:?}");
        }
    }
}

/// The error of a form relative to the result's norm, for data in -1..1.
fn error(conv: &Conv, form: ConvForm) -> f64 {
    let [a, b, c] = lengths(conv, form);
    let (first, second) = (f32::sequence(a, 1), f32::sequence(b, 2));
    let mut result = vec![0f32; c];
    let mut scratch = vec![0u8; conv.scratch_bytes::<f32>(form, 1)];
    let team = Team::new(1);
    unsafe {
        let (x, y, z) = (first.as_ptr(), second.as_ptr(), result.as_mut_ptr());
        conv.run_tier(Tier::current(), form, x, y, z, None, scratch.as_mut_ptr(), &team);
    }
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let wanted = expected(conv, form, &wide(&first), &wide(&second));
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut result.iter().zip(&wanted).map(|(x, y)| f64::from(*x) - y)) / norm(&mut wanted.iter().copied())
}

#[test]
fn windows_of_two_are_more_precise_than_plain_sums_and_those_of_four_nearly_so() {
    let pad = [0, 1, 1];
    let layer = |channels: usize, size: usize, loose: bool| {
        let conv = conv([1, 1, channels, channels], [1, size, size], [1, 3, 3], [1; 3], [1; 3], pad, pad);
        Conv { loose, ..conv }
    };
    let (forward, backward) = (ConvForm::Forward, ConvForm::InputGradient);
    for (channels, size, loose, form, out) in [
        (64, 16, false, forward, 2),
        (64, 16, false, backward, 2),
        (64, 16, true, forward, 4),
        (64, 16, true, backward, 4),
        (512, 7, true, backward, 2),
    ] {
        let conv = layer(channels, size, loose);
        assert_eq!(Problem::new::<f32>(&conv, form).map(|problem| problem.out), Some(out), "{conv:?}");
        // Plain sums of that many terms are off by 4e-7 and 1.2e-6.
        let error = error(&conv, form);
        assert!(error < if out == 4 { 1.2e-6 } else { 8e-7 }, "{form:?} {conv:?}: {error}");
    }
}

#[test]
fn gradients_in_weights_by_windows_are_precise() {
    let pad = [0, 1, 1];
    for (batch, channels, size) in [(1, 32, 56), (2, 64, 28), (1, 64, 14), (8, 64, 7)] {
        let size = [1, size, size];
        let plain = conv([batch, 1, channels, channels], size, [1, 3, 3], [1; 3], [1; 3], pad, pad);
        let loose = Conv { loose: true, ..plain };
        let form = ConvForm::WeightGradient;
        assert!(Gradient::new::<f32>(&plain, form, 1).is_none());
        assert!(Gradient::new::<f32>(&loose, form, 1).is_some(), "{loose:?}");
        // Plain sums in blocks are off by 2e-7 to 4e-7.
        let error = error(&loose, form);
        assert!(error < 1.6e-6, "{loose:?}: {error}");
    }
}

/// Weights, and what [`Conv::packing`] makes of them; none if it makes nothing.
fn packed<T: Numbers>(conv: &Conv, form: ConvForm, threads: usize) -> Option<[Vec<T>; 2]> {
    let packing = conv.packing::<T>(form)?;
    let weights = T::sequence(lengths(conv, form)[1], 2);
    // Nothing may be left out but what no tile reads.
    let mut packed = vec![T::from_f64(0.0); packing.elements::<T>()];
    packing.pack(&weights, &mut packed, &Team::new(threads));
    Some([weights, packed])
}

fn check_packed<T: Numbers>(conv: &Conv, tier: Tier, team: &Team) -> usize {
    let mut checked = 0;
    for form in [ConvForm::Forward, ConvForm::InputGradient] {
        let Some([weights, packed]) = packed::<T>(conv, form, team.threads()) else { continue };
        let [a, _, c] = lengths(conv, form);
        let first = T::sequence(a, 1);
        let wide = |v: &[T]| v.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let wanted = expected(conv, form, &wide(&first), &wide(&weights));
        let conv = Conv { packed: PackedOperand::Panels, ..*conv };
        let mut result = vec![T::from_f64(f64::NAN); c];
        let mut scratch = vec![0xffu8; conv.scratch_bytes::<T>(form, team.threads())];
        unsafe {
            let (x, w, y) = (first.as_ptr(), packed.as_ptr(), result.as_mut_ptr());
            conv.run_tier(tier, form, x, w, y, None, scratch.as_mut_ptr(), team);
        }
        let terms = conv.in_channels.max(conv.out_channels) * conv.kernel.iter().product::<usize>();
        let four = Problem::new::<T>(&conv, form).is_some_and(|problem| problem.out == 4);
        let terms = if four { 2 * terms } else { terms };
        for (index, (x, y)) in result.iter().zip(&wanted).enumerate() {
            assert!(close(*x, *y, terms), "{tier:?} {form:?} {conv:?} at {index}: {x:?} is not {y}");
        }
        checked += 1;
    }
    checked
}

#[test]
fn packed_weights_give_what_weights_give() {
    let mut checked = 0;
    for tier in Tier::available() {
        for (number, conv) in cases().iter().enumerate() {
            let conv = Conv { loose: number % 3 != 0, ..*conv };
            let team = Team::new(1 + number % 2 * 2);
            checked += check_packed::<f32>(&conv, tier, &team) + check_packed::<f64>(&conv, tier, &team);
        }
    }
    assert!(checked > 40 * Tier::available().count(), "{checked}");
}

#[test]
fn packed_weights_do_not_depend_on_the_number_of_threads_and_are_shared_between_sizes() {
    let pad = [0, 1, 1];
    let layer = |batch, size, stride| {
        let stride = [1, stride, stride];
        let conv = conv([batch, 1, 80, 96], [1, size, size], [1, 3, 3], stride, [1; 3], pad, pad);
        Conv { loose: true, ..conv }
    };
    for form in [ConvForm::Forward, ConvForm::InputGradient] {
        assert_eq!(layer(1, 20, 1).packing::<f32>(form), layer(2, 40, 1).packing::<f32>(form));
        let packings = [1, 2, 4].map(|threads| packed::<f32>(&layer(1, 20, 1), form, threads));
        assert!(packings[0].is_some() && packings.iter().all(|packing| *packing == packings[0]));
    }
    let form = ConvForm::InputGradient;
    assert_eq!(layer(1, 20, 2).packing::<f32>(form), layer(3, 20, 2).packing::<f32>(form));
    assert!(layer(1, 20, 2).packing::<f64>(form).is_some());
    assert_eq!(layer(1, 20, 1).packing::<f32>(ConvForm::WeightGradient), None);
}
