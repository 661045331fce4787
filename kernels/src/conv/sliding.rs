//! Convolutions of single channels with kernels of three by three, straight on the images: what a window reads outside
//! of them is masked, so that nothing is copied.

use super::Conv;
use crate::element::Shared;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector};
use crate::{ConvForm, Element, Epilogue, Team, Tier};

/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 100_000;
/// Rows of a result that are computed together.
const ROWS: usize = 4;
/// Lines of an image that these read at most.
const LINES: usize = 2 * (ROWS - 1) + 3;
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
                if sums {
                    T::dispatch(job.tier, Correlate { job, range });
                    return;
                }
                let together = (EPILOGUE_ELEMENTS / job.problem.area()).max(1);
                let mut at = range.start;
                while at < range.end {
                    let image_end = (at / channels + 1) * channels;
                    let end = (at + together).min(range.end).min(image_end);
                    T::dispatch(job.tier, Slide { job, range: at..end });
                    at = end;
                }
            });
        }
    }

    /// The lines that the windows of rows `row..row + R` read; zeros for those outside of the image.
    #[inline(always)]
    unsafe fn lines(&self, image: *const T, row: usize) -> [*const T; LINES] {
        let Problem { source: [height, width], stride, pad: [top, _], .. } = self.problem;
        std::array::from_fn(|line| {
            let at = (row * stride + line) as isize - top;
            if at >= 0 && (at as usize) < height {
                // SAFETY: the line is in the image.
                unsafe { image.add(at as usize * width) }
            } else {
                self.zeros.cast_const()
            }
        })
    }

    /// Calls `task` with what loads the elements of a line that the lanes from column `column` on read through one
    /// of the three columns of the kernel.
    #[inline(always)]
    unsafe fn at_column<V: Vector<Item = T>, const S: usize>(&self, column: usize, task: impl Columns<V>) {
        let (width, left) = (self.problem.source[1], self.problem.pad[1]);
        let at = (column * S) as isize - left;
        let reach = S * (V::LANES - 1) + 1;
        if at >= 0 && at as usize + 2 + reach <= width {
            task.run(|line: *const T, tap: usize| {
                let from = line.wrapping_offset(at + tap as isize);
                // SAFETY: all lanes are in the line.
                unsafe { if S == 1 { V::load(from) } else { V::load_even(from) } }
            });
        } else {
            let inside: [(usize, usize); 3] = std::array::from_fn(|tap| {
                let at = at + tap as isize;
                let end = (width as isize - at).clamp(0, reach as isize) as usize;
                (((-at).clamp(0, reach as isize) as usize).min(end), end)
            });
            task.run(|line: *const T, tap: usize| {
                let (from, (first, end)) = (line.wrapping_offset(at + tap as isize), inside[tap]);
                // SAFETY: the lanes that are read are in the line.
                unsafe {
                    if S == 1 {
                        V::load_between(from, first, end)
                    } else {
                        V::load_even_between(from, first, end)
                    }
                }
            });
        }
    }
}

/// What is done at a column, given what loads elements; a closure that is generic in its argument.
trait Columns<V: Vector> {
    fn run(self, load: impl Fn(*const V::Item, usize) -> V);
}

/// The weighted sums of all windows of some channels.
struct Slide<'a, T> {
    job: &'a Sliding<'a, T>,
    range: std::ops::Range<usize>,
}

impl<T: Element> Kernel<T> for Slide<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Problem { channels, source, other: [height, width], stride, .. } = self.job.problem;
        let area = height * width;
        let flip = self.job.problem.form == ConvForm::InputGradient;
        // Rows between two calls of the epilogue.
        let rows = (EPILOGUE_ELEMENTS / width).next_multiple_of(ROWS).max(ROWS);
        // SAFETY: the caller's promise.
        unsafe {
            for number in self.range.clone() {
                let image = self.job.first.add(number * source[0] * source[1]);
                let weights = self.job.second.add(number % channels * 9);
                let weights: [V; 9] =
                    std::array::from_fn(|tap| V::splat(*weights.add(if flip { 8 - tap } else { tap })));
                let target = self.job.result.add(number * area);
                let mut row = 0;
                while row < height {
                    let end = (row + rows).min(height);
                    let begin = row;
                    while row < end {
                        let many = (end - row).min(ROWS);
                        let lines = self.job.lines(image, row);
                        let to = target.add(row * width);
                        match (stride, many) {
                            (1, 4) => self.rows::<V, 1, 4>(&lines, &weights, to),
                            (1, 3) => self.rows::<V, 1, 3>(&lines, &weights, to),
                            (1, 2) => self.rows::<V, 1, 2>(&lines, &weights, to),
                            (1, _) => self.rows::<V, 1, 1>(&lines, &weights, to),
                            (_, 4) => self.rows::<V, 2, 4>(&lines, &weights, to),
                            (_, 3) => self.rows::<V, 2, 3>(&lines, &weights, to),
                            (_, 2) => self.rows::<V, 2, 2>(&lines, &weights, to),
                            (_, _) => self.rows::<V, 2, 1>(&lines, &weights, to),
                        }
                        row += many;
                    }
                    if area > EPILOGUE_ELEMENTS {
                        self.finish(number, 1, begin * width, (end - begin) * width);
                    }
                }
            }
            if area <= EPILOGUE_ELEMENTS {
                self.finish(self.range.start, self.range.len(), 0, area);
            }
        }
    }
}

impl<T: Element> Slide<'_, T> {
    /// Calls the epilogue on columns of some channels.
    #[inline(always)]
    unsafe fn finish(&self, number: usize, count: usize, column: usize, columns: usize) {
        let Some(epilogue) = self.job.epilogue else { return };
        let (area, channels) = (self.job.problem.area(), self.job.problem.channels);
        let (image, channel) = (number / channels, number % channels);
        // SAFETY: these elements are final.
        unsafe {
            let tile = self.job.result.add(number * area + column);
            (epilogue.function)(tile, area, count, columns, image, channel, column, epilogue.environment);
        }
    }

    /// `R` rows of the result.
    #[inline(always)]
    unsafe fn rows<V: Vector<Item = T>, const S: usize, const R: usize>(
        &self,
        lines: &[*const T; LINES],
        weights: &[V; 9],
        to: *mut T,
    ) {
        let width = self.job.problem.other[1];
        let mut column = 0;
        while column < width {
            // The last vector may overlap the one before.
            let first = if column + V::LANES > width { width.saturating_sub(V::LANES) } else { column };
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.add(first);
                let count = (width - first).min(V::LANES);
                self.job.at_column::<V, S>(first, Sum::<V, S, R> { lines, weights, to, width, count });
            }
            column = first + V::LANES;
        }
    }
}

/// `R` rows of a result at one column.
struct Sum<'a, V: Vector, const S: usize, const R: usize> {
    lines: &'a [*const V::Item; LINES],
    weights: &'a [V; 9],
    to: *mut V::Item,
    width: usize,
    count: usize,
}

impl<V: Vector, const S: usize, const R: usize> Columns<V> for Sum<'_, V, S, R> {
    #[inline(always)]
    fn run(self, load: impl Fn(*const V::Item, usize) -> V) {
        // SAFETY: whoever made this promised that the rows are within the result.
        unsafe {
            let mut sums = [V::zero(); R];
            for (number, &line) in self.lines.iter().enumerate().take((R - 1) * S + 3) {
                for tap in 0..3 {
                    let elements = load(line, tap);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        if number >= row * S && number - row * S < 3 {
                            let weight = self.weights[3 * (number - row * S) + tap];
                            *sum = weight.multiply_add(elements, *sum);
                        }
                    }
                }
            }
            for (row, sum) in sums.into_iter().enumerate() {
                let to = self.to.add(row * self.width);
                if self.count == V::LANES { sum.store(to) } else { sum.store_masked(to, V::mask(self.count)) }
            }
        }
    }
}

/// The products of windows and cotangents of some channels, summed over images and positions.
struct Correlate<'a, T> {
    job: &'a Sliding<'a, T>,
    range: std::ops::Range<usize>,
}

impl<T: Element> Kernel<T> for Correlate<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Problem { batch, channels, source, other: [height, width], stride, .. } = self.job.problem;
        // SAFETY: the caller's promise.
        unsafe {
            for channel in self.range.clone() {
                let mut sums = [V::zero(); 9];
                for number in (0..batch).map(|image| image * channels + channel) {
                    let image = self.job.first.add(number * source[0] * source[1]);
                    let cotangent = self.job.second.add(number * height * width);
                    let mut row = 0;
                    while row < height {
                        let many = if height - row < ROWS { 1 } else { ROWS };
                        let lines = self.job.lines(image, row);
                        let from = cotangent.add(row * width);
                        match (stride, many) {
                            (1, 1) => self.rows::<V, 1, 1>(&lines, from, &mut sums),
                            (1, _) => self.rows::<V, 1, ROWS>(&lines, from, &mut sums),
                            (_, 1) => self.rows::<V, 2, 1>(&lines, from, &mut sums),
                            (_, _) => self.rows::<V, 2, ROWS>(&lines, from, &mut sums),
                        }
                        row += many;
                    }
                }
                for (tap, sum) in sums.into_iter().enumerate() {
                    *self.job.result.add(channel * 9 + tap) = sum.sum();
                }
            }
            if let Some(epilogue) = self.job.epilogue {
                let (first, count) = (self.range.start, self.range.len());
                let tile = self.job.result.add(first * 9);
                (epilogue.function)(tile, 9, count, 9, 0, first, 0, epilogue.environment);
            }
        }
    }
}

impl<T: Element> Correlate<'_, T> {
    #[inline(always)]
    unsafe fn rows<V: Vector<Item = T>, const S: usize, const R: usize>(
        &self,
        lines: &[*const T; LINES],
        from: *const T,
        sums: &mut [V; 9],
    ) {
        let width = self.job.problem.other[1];
        for column in (0..width).step_by(V::LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let count = (width - column).min(V::LANES);
                let from = from.add(column);
                self.job.at_column::<V, S>(column, Products::<V, S, R> { lines, from, width, count, sums });
            }
        }
    }
}

/// The products of `R` rows of cotangents at one column, added to the sums.
struct Products<'a, V: Vector, const S: usize, const R: usize> {
    lines: &'a [*const V::Item; LINES],
    from: *const V::Item,
    width: usize,
    count: usize,
    sums: &'a mut [V; 9],
}

impl<V: Vector, const S: usize, const R: usize> Columns<V> for Products<'_, V, S, R> {
    #[inline(always)]
    fn run(self, load: impl Fn(*const V::Item, usize) -> V) {
        // SAFETY: whoever made this promised that the rows are within the cotangent.
        unsafe {
            let whole = self.count == V::LANES;
            let mask = V::mask(self.count);
            let cotangents: [V; R] = std::array::from_fn(|row| {
                let from = self.from.add(row * self.width);
                if whole { V::load(from) } else { V::load_masked(from, mask) }
            });
            for (number, &line) in self.lines.iter().enumerate().take((R - 1) * S + 3) {
                for tap in 0..3 {
                    let elements = load(line, tap);
                    for (row, cotangent) in cotangents.into_iter().enumerate() {
                        if number >= row * S && number - row * S < 3 {
                            let sum = &mut self.sums[3 * (number - row * S) + tap];
                            *sum = elements.multiply_add(cotangent, *sum);
                        }
                    }
                }
            }
        }
    }
}
