//! Convolutions with few positions as products of patches, one row for each position of each image: lanes run along channels,
//! since positions would leave most of them idle.

use super::{Conv, ConvForm};
use crate::{Element, Epilogue, Gemm, PackedOperand, Team, Tier};
use std::ops::Range;
use std::ptr::null;

/// Positions of an image that fill lanes badly.
const FEW_POSITIONS: usize = 24;
/// Positions of all images whose patches are worth a copy, and elements of all patches: more would take much memory.
const MOST_ROWS: usize = 96;
const MOST_ELEMENTS: usize = 1 << 20;
/// Shorter patches are not worth a product of their own.
const LEAST_COLUMNS: usize = 16;
/// Channels of the output that fill lanes.
const LEAST_CHANNELS: usize = 8;

/// A convolution with few positions.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    conv: Conv,
    form: ConvForm,
    /// Positions of an image, and of all images: rows.
    positions: usize,
    rows: usize,
    /// Elements of a patch.
    columns: usize,
}

impl Problem {
    /// The problem of a form of a convolution in which no size is zero, if it has few positions.
    pub fn new(conv: &Conv, form: ConvForm) -> Option<Problem> {
        let positions = conv.output.iter().product::<usize>();
        let rows = conv.batch * positions;
        let columns = conv.in_channels * conv.kernel.iter().product::<usize>();
        let is_small = rows <= MOST_ROWS && columns <= MOST_ELEMENTS / rows.max(1);
        let fits = conv.groups == 1 && positions <= FEW_POSITIONS && is_small;
        let pays = columns >= LEAST_COLUMNS && conv.out_channels >= LEAST_CHANNELS;
        (fits && pays).then_some(Problem { conv: *conv, form, positions, rows, columns })
    }

    /// The product, of patches or of cotangents in rows.
    pub fn product(&self) -> Gemm {
        let Problem { conv, rows, columns, .. } = *self;
        let channels = conv.out_channels;
        let [row, channel] = [columns as isize, channels as isize];
        let (m, n, k, a, b) = match self.form {
            ConvForm::Forward => (rows, channels, columns, [row, 1], [1, row]),
            ConvForm::InputGradient => (rows, columns, channels, [channel, 1], [row, 1]),
            ConvForm::WeightGradient => (channels, columns, rows, [1, channel], [row, 1]),
        };
        Gemm {
            m,
            a_strides: [0, a[0], a[1]],
            c_batch_stride: m * n,
            b_packed: if conv.packed.is_packed() && self.form != ConvForm::WeightGradient {
                PackedOperand::Panels
            } else {
                PackedOperand::No
            },
            ..panels(k, n, [0, b[0], b[1]])
        }
    }

    fn patches(&self) -> usize {
        (self.rows * self.columns).next_multiple_of(64)
    }

    fn cotangents(&self) -> usize {
        (self.rows * self.conv.out_channels).next_multiple_of(64)
    }

    /// Bytes of scratch memory.
    pub fn scratch_bytes<T: Element>(&self, threads: usize) -> usize {
        (self.patches() + self.cotangents()) * size_of::<T>()
            + self.product().scratch_bytes::<T>(threads)
            + 64
    }
}

/// Products whose right operand has these sizes and strides.
pub fn panels(k: usize, n: usize, b_strides: [isize; 3]) -> Gemm {
    Gemm {
        batch: 1,
        group: 1,
        group_strides: [0; 2],
        m: 1,
        n,
        k,
        a_strides: [0, k as isize, 1],
        b_strides,
        c_batch_stride: n,
        c_row_stride: n,
        accumulate: false,
        b_packed: PackedOperand::No,
    }
}

/// The work on a [`Problem`].
pub struct Few<'t, T> {
    pub problem: Problem,
    pub tier: Tier,
    pub team: &'t Team,
    pub first: *const T,
    pub second: *const T,
    pub result: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    /// Begins with a cache line.
    pub scratch: *mut T,
}

impl<T: Element> Few<'_, T> {
    /// Computes the result.
    ///
    /// # Safety
    /// As for [`Conv::forward`] and so on.
    pub unsafe fn run(&self) {
        let Few { problem, first, second, result, epilogue, .. } = *self;
        let Problem { conv, form, positions, .. } = problem;
        // SAFETY: the caller's promise; the scratch memory holds patches, cotangents in rows and that of the product.
        unsafe {
            let (patches, by_rows) = (self.scratch, self.scratch.add(problem.patches()));
            match form {
                ConvForm::Forward => {
                    self.each_run(|patch, image, taps| {
                        copy(first.wrapping_add(image), patches.add(patch), conv.dilation[2], taps);
                    });
                    self.multiply(patches, second, by_rows);
                    self.turn_back(by_rows, result);
                }
                ConvForm::InputGradient => {
                    self.turn(first, by_rows);
                    self.multiply(by_rows, second, patches);
                    let inputs = conv.batch * conv.in_channels * conv.input.iter().product::<usize>();
                    result.write_bytes(0, inputs);
                    self.each_run(|patch, image, taps| {
                        for tap in taps {
                            let to = result.wrapping_add(image).wrapping_add(tap * conv.dilation[2]);
                            *to = (*to).plus(*patches.add(patch + tap));
                        }
                    });
                }
                ConvForm::WeightGradient => {
                    self.each_run(|patch, image, taps| {
                        copy(first.wrapping_add(image), patches.add(patch), conv.dilation[2], taps);
                    });
                    self.turn(second, by_rows);
                    self.multiply(by_rows, patches, result);
                }
            }
            let Some(epilogue) = epilogue else { return };
            let (images, rows, columns) = match form {
                ConvForm::Forward => (conv.batch, conv.out_channels, positions),
                ConvForm::InputGradient => (conv.batch, conv.in_channels, conv.input.iter().product()),
                ConvForm::WeightGradient => (1, conv.out_channels, problem.columns),
            };
            for image in 0..images {
                let to = result.add(image * rows * columns);
                (epilogue.function)(to, columns, rows, columns, image, 0, 0, epilogue.environment);
            }
        }
    }

    unsafe fn multiply(&self, a: *const T, b: *const T, c: *mut T) {
        let memory = self.scratch.wrapping_add(self.problem.patches() + self.problem.cotangents());
        // SAFETY: the caller's promise.
        unsafe { self.problem.product().run_tier(self.tier, a, b, null(), c, None, memory.cast(), self.team) }
    }

    /// Calls `visit` for each run of taps along the last axis, which is in one channel of one patch: with the position of
    /// its first tap among all patches, that of the same in the input (which may lie outside), and the taps that lie inside.
    /// Taps outside are zeros in the patches.
    unsafe fn each_run(&self, mut visit: impl FnMut(usize, usize, Range<usize>)) {
        let Problem { conv, form, positions, rows, columns } = self.problem;
        let Conv { input, kernel, output, stride, dilation, pad_low, .. } = conv;
        let at = |axis: usize, position: usize, tap: usize| {
            (position * stride[axis] + tap * dilation[axis]) as isize - pad_low[axis]
        };
        let is_inside = |axis: usize, at: isize| (0..input[axis] as isize).contains(&at);
        let taps = kernel.iter().product::<usize>();
        // The first and the last positions along the last axis need not see all taps.
        let last_runs = (0..output[2]).map(|position| {
            let inside = |tap: &usize| is_inside(2, at(2, position, *tap));
            let first = (0..kernel[2]).find(inside).unwrap_or(kernel[2]);
            first..(first..kernel[2]).take_while(inside).last().map_or(first, |last| last + 1)
        });
        let has_outside = (0..3).any(|axis| {
            let last = at(axis, output[axis] - 1, kernel[axis] - 1);
            !is_inside(axis, at(axis, 0, 0)) || !is_inside(axis, last)
        });
        if has_outside && form != ConvForm::InputGradient {
            // SAFETY: the patches are as large.
            unsafe { self.scratch.write_bytes(0, rows * columns) };
        }
        for (p2, inside) in last_runs.enumerate() {
            for line in (0..rows / output[2]).filter(|_| !inside.is_empty()) {
                let row = line * output[2] + p2;
                let (image, place) = (row / positions, row % positions);
                let [p0, p1] = [place / (output[1] * output[2]), place / output[2] % output[1]];
                for (tap0, tap1) in
                    (0..kernel[0]).flat_map(|tap0| (0..kernel[1]).map(move |tap1| (tap0, tap1)))
                {
                    let [at0, at1] = [at(0, p0, tap0), at(1, p1, tap1)];
                    if !is_inside(0, at0) || !is_inside(1, at1) {
                        continue;
                    }
                    let inputs = input.iter().product::<usize>();
                    let start = (at0 as usize * input[1] + at1 as usize) * input[2];
                    let start = (image * conv.in_channels * inputs + start).wrapping_add_signed(at(2, p2, 0));
                    let patch = row * columns + (tap0 * kernel[1] + tap1) * kernel[2];
                    for channel in 0..conv.in_channels {
                        visit(patch + channel * taps, start.wrapping_add(channel * inputs), inside.clone());
                    }
                }
            }
        }
    }

    /// Brings a tensor of the output's shape into rows, one for each position of each image.
    unsafe fn turn(&self, from: *const T, to: *mut T) {
        let (positions, channels) = (self.problem.positions, self.problem.conv.out_channels);
        for row in 0..self.problem.rows {
            let (image, position) = (row / positions, row % positions);
            for channel in 0..channels {
                // SAFETY: the caller's promise.
                unsafe {
                    *to.add(row * channels + channel) =
                        *from.add((image * channels + channel) * positions + position);
                }
            }
        }
    }

    /// The inverse of [`Few::turn`].
    unsafe fn turn_back(&self, from: *const T, to: *mut T) {
        let (positions, channels) = (self.problem.positions, self.problem.conv.out_channels);
        for line in 0..self.problem.conv.batch * channels {
            let (image, channel) = (line / channels, line % channels);
            for position in 0..positions {
                // SAFETY: the caller's promise.
                unsafe {
                    *to.add(line * positions + position) =
                        *from.add((image * positions + position) * channels + channel);
                }
            }
        }
    }
}

/// Copies the taps of a run, which are so many elements apart in the input.
#[inline(always)]
unsafe fn copy<T: Copy>(from: *const T, to: *mut T, apart: usize, taps: Range<usize>) {
    for tap in taps {
        // SAFETY: the caller's promise.
        unsafe { *to.add(tap) = *from.wrapping_add(tap * apart) };
    }
}
