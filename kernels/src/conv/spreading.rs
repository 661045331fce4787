//! The input gradient of convolutions of single channels with kernels of three by three that move by two: each cotangent
//! is spread over three by three elements, which is nine products for four elements of the result.
//!
//! With `d` the cotangents and `w` the kernel, where the first window begins one line above and one column to the left:
//!
//! ```text
//! x[2r,   2c]   = w11 d[r, c]
//! x[2r,   2c+1] = w12 d[r, c]   + w10 d[r, c+1]
//! x[2r+1, 2c]   = w21 d[r, c]   + w01 d[r+1, c]
//! x[2r+1, 2c+1] = w22 d[r, c]   + w20 d[r, c+1] + w02 d[r+1, c] + w00 d[r+1, c+1]
//! ```

use super::Conv;
use crate::element::Shared;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector};
use crate::{ConvForm, Element, Epilogue, Team, Tier};

/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 100_000;

/// An input gradient in which every channel of the cotangent makes one channel of the result.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    batch: usize,
    channels: usize,
    /// Height and width of the cotangent.
    cotangent: [usize; 2],
    /// Height and width of the result.
    result: [usize; 2],
}

impl Problem {
    /// `None` for what is left to others.
    pub fn new(conv: &Conv, form: ConvForm) -> Option<Problem> {
        let flat = conv.input[0] == 1 && conv.output[0] == 1;
        let fits = conv.kernel == [1, 3, 3]
            && conv.dilation[1..] == [1, 1]
            && conv.stride[1..] == [2, 2]
            && conv.pad_low == [0, 1, 1];
        let [_, height, width] = conv.input;
        let [_, rows, columns] = conv.output;
        (form == ConvForm::InputGradient && flat && fits).then_some(Problem {
            batch: conv.batch,
            channels: conv.groups,
            cotangent: [rows, columns],
            result: [height, width],
        })
    }

    /// Bytes of scratch memory: a line of zeros.
    pub fn scratch_bytes<T>(&self) -> usize {
        self.cotangent[1] * size_of::<T>() + 64
    }
}

/// One call.
pub struct Spreading<'a, T> {
    pub problem: Problem,
    pub tier: Tier,
    pub team: &'a Team,
    pub cotangent: *const T,
    pub weights: *const T,
    pub result: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub zeros: *mut T,
}

impl<T: Element> Spreading<'_, T> {
    /// Computes the whole result.
    ///
    /// # Safety
    /// The pointers must be valid for the problem, `zeros` for a line of the cotangent; and the processor must have the
    /// tier.
    pub unsafe fn run(&self) {
        let Problem { batch, channels, result: [height, width], .. } = self.problem;
        // SAFETY: the caller's promise; every channel belongs to one thread.
        unsafe {
            self.zeros.write_bytes(0, self.problem.cotangent[1]);
            let (count, work) = (batch * channels, 9 * batch * channels * height * width / 4);
            let chunks = (work / CHUNK_WORK).clamp(1, 4 * self.team.threads()).min(count);
            let job = Shared(&raw const *self);
            self.team.run(chunks, &|chunk, _| {
                let job = &*job.get();
                T::dispatch(job.tier, Spread { job, range: part_of(count, chunks, chunk, 1) });
            });
        }
    }

    /// A line of a channel of the cotangent; zeros for those after the last.
    #[inline(always)]
    unsafe fn line(&self, channel: *const T, line: usize) -> *const T {
        let [height, width] = self.problem.cotangent;
        // SAFETY: the line is in the channel.
        if line < height { unsafe { channel.add(line * width) } } else { self.zeros.cast_const() }
    }

    /// The elements of a line from a column on, and those from the next column on.
    #[inline(always)]
    unsafe fn two<V: Vector<Item = T>>(&self, line: *const T, column: usize) -> [V; 2] {
        let left = self.problem.cotangent[1].saturating_sub(column);
        let from = line.wrapping_add(column);
        // SAFETY: what is loaded is in the line.
        unsafe {
            let elements = match left >= V::LANES {
                true => V::load(from),
                false => V::load_masked(from, V::mask(left)),
            };
            let next = if left > V::LANES { *from.add(V::LANES) } else { T::ZERO };
            [elements, elements.followed_by(next)]
        }
    }
}

/// Some channels of the result.
struct Spread<'a, T> {
    job: &'a Spreading<'a, T>,
    range: std::ops::Range<usize>,
}

impl<T: Element> Kernel<T> for Spread<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let job = self.job;
        let Problem { channels, cotangent: [rows, columns], result: [height, width], .. } = job.problem;
        let area = height * width;
        // SAFETY: the caller's promise.
        unsafe {
            for number in self.range {
                let from = job.cotangent.add(number * rows * columns);
                let to = job.result.add(number * area);
                let weights = job.weights.add(number % channels * 9);
                let weights: [V; 9] = std::array::from_fn(|tap| V::splat(*weights.add(tap)));
                for row in 0..height.div_ceil(2) {
                    let lines = [job.line(from, row), job.line(from, row + 1)];
                    let to = to.add(2 * row * width);
                    for column in (0..width).step_by(2 * V::LANES) {
                        let above = job.two::<V>(lines[0], column / 2);
                        even::<V>(&weights, above, to.add(column), width - column);
                        if 2 * row + 1 < height {
                            let below = job.two::<V>(lines[1], column / 2);
                            odd::<V>(&weights, above, below, to.add(width + column), width - column);
                        }
                    }
                }
                if let Some(epilogue) = job.epilogue {
                    let (image, channel) = (number / channels, number % channels);
                    (epilogue.function)(to, area, 1, area, image, channel, 0, epilogue.environment);
                }
            }
        }
    }
}

/// Part of a line of even number.
#[inline(always)]
unsafe fn even<V: Vector>(w: &[V; 9], [d, next]: [V; 2], to: *mut V::Item, left: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::zero();
        let first = w[4].multiply_add(d, zero);
        let second = w[3].multiply_add(next, w[5].multiply_add(d, zero));
        store(first, second, to, left);
    }
}

/// Part of a line of odd number.
#[inline(always)]
unsafe fn odd<V: Vector>(
    w: &[V; 9],
    [d, next]: [V; 2],
    [below, next_below]: [V; 2],
    to: *mut V::Item,
    left: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::zero();
        let first = w[1].multiply_add(below, w[7].multiply_add(d, zero));
        let second = w[6].multiply_add(next, w[8].multiply_add(d, zero));
        let second = w[0].multiply_add(next_below, w[2].multiply_add(below, second));
        store(first, second, to, left);
    }
}

/// Stores elements of even and of odd columns in turn, as far as the line goes.
#[inline(always)]
unsafe fn store<V: Vector>(first: V, second: V, to: *mut V::Item, left: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        for (part, elements) in V::interleaved(first, second).into_iter().enumerate() {
            let left = left.saturating_sub(part * V::LANES);
            let to = to.wrapping_add(part * V::LANES);
            if left >= V::LANES {
                elements.store(to);
            } else {
                elements.store_first(to, left);
            }
        }
    }
}
