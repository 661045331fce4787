//! Convolutions of single channels with kernels of three by three, straight on the images: what a window reads outside
//! of them is masked, so that nothing is copied.

mod column;
mod correlate;
mod flat;
mod slide;

use super::Conv;
use crate::element::Shared;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector, prefetch};
use crate::{ConvForm, Element, Epilogue, Team, Tier};
use column::{Column, Columns};
use flat::Flat;
use std::ops::Range;

/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 100_000;
/// Elements of a result that the epilogue sees at a time, or a little more.
const EPILOGUE_ELEMENTS: usize = 2048;

/// A convolution in which every channel of the source makes one channel of the result. The weight gradient reads the
/// input as the forward form does.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    form: ConvForm,
    batch: usize,
    channels: usize,
    /// Height and width of the image that windows slide over.
    source: [usize; 2],
    /// Height and width of the other: the result, or the cotangent of the weight gradient.
    other: [usize; 2],
    stride: usize,
    /// Lines above, and columns to the left, of the first element of the source in the first window.
    pad: [isize; 2],
}

impl Problem {
    /// `None` for what is left to others.
    pub fn new(conv: &Conv, form: ConvForm) -> Option<Problem> {
        let flat = conv.input[0] == 1 && conv.output[0] == 1 && conv.pad_low[0] == 0;
        let square = conv.kernel == [1, 3, 3] && conv.dilation[1..] == [1, 1];
        let stride = conv.stride[1];
        if !flat || !square || stride != conv.stride[2] || stride > 2 {
            return None;
        }
        let [_, h, w] = conv.input;
        let [_, oh, ow] = conv.output;
        let [_, top, left] = conv.pad_low;
        let (source, other, pad) = match form {
            ConvForm::Forward | ConvForm::WeightGradient => ([h, w], [oh, ow], [top, left]),
            ConvForm::InputGradient if stride == 1 => ([oh, ow], [h, w], [2 - top, 2 - left]),
            ConvForm::InputGradient => return None,
        };
        Some(Problem { form, batch: conv.batch, channels: conv.groups, source, other, stride, pad })
    }

    /// Bytes of scratch memory: a line of zeros.
    pub fn scratch_bytes<T>(&self) -> usize {
        self.source[1] * size_of::<T>() + 64
    }

    fn area(&self) -> usize {
        self.other[0] * self.other[1]
    }
}

/// Rows of a result between two calls of the epilogue: few enough for their lines to be in the cache for the next column,
/// and about as many each time, so that all are asked for in time.
#[inline(always)]
fn block(height: usize, width: usize) -> usize {
    height.div_ceil((height * width).div_ceil(EPILOGUE_ELEMENTS))
}

/// One call, with the operands as for [`Conv::run_tier`].
pub struct Sliding<'a, T> {
    pub problem: Problem,
    pub tier: Tier,
    pub team: &'a Team,
    pub first: *const T,
    pub second: *const T,
    pub result: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub zeros: *mut T,
}

impl<T: Element> Sliding<'_, T> {
    /// Computes the whole result.
    ///
    /// # Safety
    /// The pointers must be valid for the problem, `zeros` for a line of the source; and the processor must have the
    /// tier.
    pub unsafe fn run(&self) {
        let Problem { form, batch, channels, .. } = self.problem;
        // SAFETY: the caller's promise; every channel belongs to one thread.
        unsafe {
            self.zeros.write_bytes(0, self.problem.source[1]);
            let sums = form == ConvForm::WeightGradient;
            let count = if sums { channels } else { batch * channels };
            let work = 9 * batch * channels * self.problem.area();
            let chunks = (work / CHUNK_WORK).clamp(1, 4 * self.team.threads()).min(count);
            let job = Shared(&raw const *self);
            self.team.run(chunks, &|chunk, _| {
                let job = &*job.get();
                let range = part_of(count, chunks, chunk, 1);
                T::dispatch(job.tier, Channels { job, range });
            });
        }
    }

    /// Calls `task` with the row and what its lanes read through the kernel, for each of some rows. With `PAIR` the image of
    /// the next channel is read, too.
    #[inline(always)]
    unsafe fn rows<V: Vector<Item = T>, const S: usize, const CENTERED: bool, const PAIR: bool>(
        &self,
        image: *const T,
        rows: Range<usize>,
        column: &Column<V, S, CENTERED, PAIR>,
        ahead: &mut Ahead<T>,
        mut task: impl Task<V>,
    ) {
        let Problem { source: [height, width], pad: [top, _], .. } = self.problem;
        let number = (rows.start * S) as isize - top;
        let from = image.wrapping_offset(number * width as isize);
        let mut lines = Lines { number, from, height, width, zeros: self.zeros };
        // SAFETY: the caller's promise.
        unsafe {
            // Lines stay in their registers: rows that follow each other take them in turn.
            let mut row = rows.start;
            if S == 1 {
                let (mut first, mut second) = (lines.next(column), lines.next(column));
                while row + 3 <= rows.end {
                    let third = lines.next(column);
                    ahead.step::<V, S>();
                    task.run([&first, &second, &third]);
                    first = lines.next(column);
                    ahead.step::<V, S>();
                    task.run([&second, &third, &first]);
                    second = lines.next(column);
                    ahead.step::<V, S>();
                    task.run([&third, &first, &second]);
                    row += 3;
                }
                while row < rows.end {
                    let third = lines.next(column);
                    ahead.step::<V, S>();
                    task.run([&first, &second, &third]);
                    (first, second) = (second, third);
                    row += 1;
                }
            } else {
                let mut first = lines.next(column);
                while row < rows.end {
                    let (second, third) = (lines.next(column), lines.next(column));
                    ahead.step::<V, S>();
                    task.run([&first, &second, &third]);
                    first = third;
                    row += 1;
                }
            }
        }
    }
}

/// What will be read of the source, and of the result or the cotangent, to be brought near meanwhile: vectors walk down
/// columns, and no processor foresees that.
struct Ahead<T> {
    source: *const T,
    other: *const T,
}

/// Bytes ahead, at least.
const LEAST_AHEAD: usize = 4096;

impl<T> Ahead<T> {
    /// What follows some rows of a channel.
    #[inline(always)]
    fn after<const S: usize>(
        problem: &Problem,
        rows: Range<usize>,
        image: *const T,
        other: *const T,
    ) -> Ahead<T> {
        let [line, width] = [S * problem.source[1], problem.other[1]];
        let [image, other] = [image.wrapping_add(rows.start * line), other.wrapping_add(rows.start * width)];
        Ahead::new(image, rows.len() * line, other, rows.len() * width)
    }

    /// For so many elements of both, which begin here.
    #[inline(always)]
    fn new(source: *const T, of_source: usize, other: *const T, of_other: usize) -> Ahead<T> {
        let least = LEAST_AHEAD / size_of::<T>();
        let source = source.wrapping_add(of_source.max(least));
        Ahead { source, other: other.wrapping_add(of_other.max(least)) }
    }

    /// Asks for as much as a vector of results takes.
    #[inline(always)]
    fn step<V: Vector<Item = T>, const S: usize>(&mut self) {
        for part in 0..S * S {
            prefetch(self.source.wrapping_add(part * V::LANES).cast());
        }
        prefetch(self.other.cast());
        self.source = self.source.wrapping_add(S * S * V::LANES);
        self.other = self.other.wrapping_add(V::LANES);
    }
}

/// Lines of an image, one after the other.
struct Lines<T> {
    /// The number of the next one.
    number: isize,
    from: *const T,
    height: usize,
    width: usize,
    /// What lines outside of the image are.
    zeros: *const T,
}

impl<T> Lines<T> {
    /// What lanes read of the next line.
    #[inline(always)]
    unsafe fn next<V: Vector<Item = T>, const S: usize, const CENTERED: bool, const PAIR: bool>(
        &mut self,
        column: &Column<V, S, CENTERED, PAIR>,
    ) -> [V; 3] {
        let is_inside = (self.number as usize) < self.height;
        let second = self.from.wrapping_add(self.height * self.width);
        let lines = if is_inside { [self.from, second] } else { [self.zeros; 2] };
        self.number += 1;
        self.from = self.from.wrapping_add(self.width);
        // SAFETY: the lines are in the images, or zeros.
        unsafe { column.taps(lines[0], lines[1]) }
    }
}

/// What is done with the elements that the lanes of a row read, row after row; a closure that is always inlined.
trait Task<V: Vector> {
    /// Takes the next row: for each line of the kernel, what is read through its three columns.
    unsafe fn run(&mut self, window: [&[V; 3]; 3]);
}

/// Some channels of the result.
struct Channels<'a, T> {
    job: &'a Sliding<'a, T>,
    range: Range<usize>,
}

impl<T: Element> Kernel<T> for Channels<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.job.problem.stride, self.job.problem.pad[1]) {
                (1, _) => self.all::<V, 1, false>(),
                (_, 1) => self.all::<V, 2, true>(),
                (_, _) => self.all::<V, 2, false>(),
            }
        }
    }
}

impl<T: Element> Channels<'_, T> {
    #[inline(always)]
    unsafe fn all<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.job.problem.form {
                ConvForm::WeightGradient => self.correlate::<V, S, CENTERED>(),
                ConvForm::Forward | ConvForm::InputGradient => self.slide::<V, S, CENTERED>(),
            }
        }
    }
}
