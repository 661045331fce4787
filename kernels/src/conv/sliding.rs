//! Convolutions of single channels with kernels of three by three, straight on the images: what a window reads outside
//! of them is masked, so that nothing is copied.

use super::Conv;
use crate::element::Shared;
use crate::gemm::finish::bounded;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector};
use crate::{ConvForm, Element, Epilogue, Team, Tier};

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
                    T::dispatch(job.tier, Channels { job, range });
                    return;
                }
                let together = (EPILOGUE_ELEMENTS / job.problem.area()).max(1);
                let mut at = range.start;
                while at < range.end {
                    let image_end = (at / channels + 1) * channels;
                    let end = (at + together).min(range.end).min(image_end);
                    T::dispatch(job.tier, Channels { job, range: at..end });
                    at = end;
                }
            });
        }
    }

    /// A line of an image, counted from the first window's; zeros outside of the image.
    #[inline(always)]
    unsafe fn line(&self, image: *const T, line: usize) -> *const T {
        let Problem { source: [height, width], pad: [top, _], .. } = self.problem;
        let at = line as isize - top;
        if at >= 0 && (at as usize) < height {
            // SAFETY: the line is in the image.
            unsafe { image.add(at as usize * width) }
        } else {
            self.zeros.cast_const()
        }
    }

    /// What the lanes from column `column` on read of a line through the three columns of the kernel; no element is loaded
    /// twice. `CENTERED` says that the first column of the image is in the middle of the first window: then vectors begin
    /// where lines do.
    #[inline(always)]
    unsafe fn taps<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(
        &self,
        line: *const T,
        column: usize,
    ) -> [V; 3] {
        let lanes = V::LANES as isize;
        // SAFETY: what is loaded is in the line.
        unsafe {
            if CENTERED {
                let (start, width) = (column * S, self.problem.source[1]);
                let from = line.wrapping_add(start);
                // Windows may lie beyond the line altogether.
                let before = if start == 0 || start > width { T::ZERO } else { *line.add(start - 1) };
                let left = width.saturating_sub(start);
                let low = first::<V>(from, left);
                if S == 1 {
                    let after = if left > V::LANES { *from.add(V::LANES) } else { T::ZERO };
                    return [low.preceded_by(before), low, low.followed_by(after)];
                }
                let high = first::<V>(from.wrapping_add(V::LANES), left.saturating_sub(V::LANES));
                let odd = V::odd(low, high);
                return [odd.preceded_by(before), V::even(low, high), odd];
            }
            let at = (column * S) as isize - self.problem.pad[1];
            let low = self.lanes::<V>(line, at);
            if S == 1 {
                let next = low.followed_by(self.element(line, at + lanes));
                return [low, next, next.followed_by(self.element(line, at + lanes + 1))];
            }
            let high = self.lanes::<V>(line, at + lanes);
            let even = V::even(low, high);
            [even, V::odd(low, high), even.followed_by(self.element(line, at + 2 * lanes))]
        }
    }

    /// Adjacent elements of a line from this place on; zeros outside of it.
    #[inline(always)]
    unsafe fn lanes<V: Vector<Item = T>>(&self, line: *const T, at: isize) -> V {
        let (width, lanes) = (self.problem.source[1] as isize, V::LANES as isize);
        // SAFETY: what is loaded is in the line.
        unsafe {
            if at >= 0 && at + lanes <= width {
                return V::load(line.offset(at));
            }
            let (first, end) = ((-at).clamp(0, lanes), (width - at).clamp(0, lanes));
            V::load_between(line.wrapping_offset(at), first.min(end) as usize, end as usize)
        }
    }

    /// An element of a line; zero outside of it.
    #[inline(always)]
    unsafe fn element(&self, line: *const T, at: isize) -> T {
        let inside = at >= 0 && at < self.problem.source[1] as isize;
        // SAFETY: it is in the line.
        if inside { unsafe { *line.offset(at) } } else { T::ZERO }
    }

    /// Calls `task` with the row and what its lanes from `column` on read through the kernel, for each of some rows.
    #[inline(always)]
    unsafe fn rows<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(
        &self,
        image: *const T,
        rows: std::ops::Range<usize>,
        column: usize,
        mut task: impl Task<V>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut window = [[V::zero(); 3]; 3];
            for line in 0..3 - S {
                let from = self.line(image, rows.start * S + line);
                window[line + S] = self.taps::<V, S, CENTERED>(from, column);
            }
            for row in rows {
                for line in 0..3 - S {
                    window[line] = window[line + S];
                }
                for (line, taps) in window.iter_mut().enumerate().skip(3 - S) {
                    *taps = self.taps::<V, S, CENTERED>(self.line(image, row * S + line), column);
                }
                task.run(row, &window);
            }
        }
    }
}

/// The first `left` elements, or as many as there are lanes; zeros behind.
#[inline(always)]
unsafe fn first<V: Vector>(from: *const V::Item, left: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if left >= V::LANES { V::load(from) } else { V::load_masked(from, V::mask(left)) } }
}

/// What is done with the elements that the lanes of a row read; a closure that is always inlined.
trait Task<V: Vector> {
    unsafe fn run(&mut self, row: usize, window: &[[V; 3]; 3]);
}

/// Some channels of the result.
struct Channels<'a, T> {
    job: &'a Sliding<'a, T>,
    range: std::ops::Range<usize>,
}

impl<T: Element> Kernel<T> for Channels<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.job.problem.stride, self.job.problem.pad[1]) {
                (1, 1) => self.all::<V, 1, true>(),
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

    /// The weighted sums of all windows.
    #[inline(always)]
    unsafe fn slide<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(&self) {
        let Problem { channels, source, other: [height, width], .. } = self.job.problem;
        let area = height * width;
        let flip = self.job.problem.form == ConvForm::InputGradient;
        // Rows between two calls of the epilogue: few enough for their lines to be in the cache for the next column.
        let rows = EPILOGUE_ELEMENTS.div_ceil(width);
        // SAFETY: the caller's promise.
        unsafe {
            for number in self.range.clone() {
                let image = self.job.first.add(number * source[0] * source[1]);
                let weights = self.job.second.add(number % channels * 9);
                let weights: [V; 9] =
                    std::array::from_fn(|tap| V::splat(*weights.add(if flip { 8 - tap } else { tap })));
                let last = self.last::<V>(number % channels);
                let target = self.job.result.add(number * area);
                for begin in (0..height).step_by(rows) {
                    let end = (begin + rows).min(height);
                    let mut column = 0;
                    while column < width {
                        // The last vector may overlap the one before.
                        let first =
                            if column + V::LANES > width { width.saturating_sub(V::LANES) } else { column };
                        let count = (width - first).min(V::LANES);
                        let sum = Sum { weights: &weights, last, to: target.add(first), width, count };
                        self.job.rows::<V, S, CENTERED>(image, begin..end, first, sum);
                        column = first + V::LANES;
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

    /// Calls the epilogue on columns of some channels.
    #[inline(always)]
    unsafe fn finish(&self, number: usize, count: usize, column: usize, columns: usize) {
        let Some(epilogue) = self.job.epilogue.filter(|epilogue| epilogue.finish.is_none()) else { return };
        let (area, channels) = (self.job.problem.area(), self.job.problem.channels);
        let (image, channel) = (number / channels, number % channels);
        // SAFETY: these elements are final.
        unsafe {
            let tile = self.job.result.add(number * area + column);
            (epilogue.function)(tile, area, count, columns, image, channel, column, epilogue.environment);
        }
    }

    /// What is done with the sums of a channel before they are stored.
    #[inline(always)]
    unsafe fn last<V: Vector<Item = T>>(&self, channel: usize) -> Last<V> {
        let finish = self.job.epilogue.as_ref()?.finish.as_ref()?;
        // SAFETY: the epilogue's numbers are as many as channels.
        unsafe {
            let bounds = if finish.is_bounded() { Some(finish.bounds::<V>()) } else { None };
            Some((finish.shift::<V>(channel, bounds.is_some()), bounds))
        }
    }
}

/// The shift of a channel, and the bounds.
type Last<V> = Option<(V, Option<[V; 2]>)>;

/// Rows of a result at one column.
struct Sum<'a, V: Vector> {
    weights: &'a [V; 9],
    last: Last<V>,
    to: *mut V::Item,
    width: usize,
    count: usize,
}

impl<V: Vector> Task<V> for Sum<'_, V> {
    #[inline(always)]
    unsafe fn run(&mut self, row: usize, window: &[[V; 3]; 3]) {
        // SAFETY: whoever made this promised that the rows are within the result.
        unsafe {
            // Lines are summed apart: what has to wait for what is a third as long.
            let mut sums = [V::zero(); 3];
            for ((sum, weights), line) in sums.iter_mut().zip(self.weights.as_chunks::<3>().0).zip(window) {
                for (weight, &elements) in weights.iter().zip(line) {
                    *sum = weight.multiply_add(elements, *sum);
                }
            }
            let mut sum = sums[0].add(sums[1]).add(sums[2]);
            if let Some((shift, bounds)) = self.last {
                sum = sum.add(shift);
                if let Some(bounds) = bounds {
                    sum = bounded(sum, bounds);
                }
            }
            let to = self.to.add(row * self.width);
            if self.count == V::LANES { sum.store(to) } else { sum.store_masked(to, V::mask(self.count)) }
        }
    }
}

impl<T: Element> Channels<'_, T> {
    /// The products of windows and cotangents, summed over images and positions.
    #[inline(always)]
    unsafe fn correlate<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(&self) {
        let Problem { batch, channels, source, other: [height, width], .. } = self.job.problem;
        let rows = EPILOGUE_ELEMENTS.div_ceil(width);
        // SAFETY: the caller's promise.
        unsafe {
            for channel in self.range.clone() {
                let mut sums = [V::zero(); 9];
                for number in (0..batch).map(|image| image * channels + channel) {
                    let image = self.job.first.add(number * source[0] * source[1]);
                    let cotangent = self.job.second.add(number * height * width);
                    for begin in (0..height).step_by(rows) {
                        let end = (begin + rows).min(height);
                        for column in (0..width).step_by(V::LANES) {
                            let count = (width - column).min(V::LANES);
                            let from = cotangent.add(column);
                            let products = Products { from, width, count, sums: &mut sums };
                            self.job.rows::<V, S, CENTERED>(image, begin..end, column, products);
                        }
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

/// The products of rows of cotangents at one column, added to the sums.
struct Products<'a, V: Vector> {
    from: *const V::Item,
    width: usize,
    count: usize,
    sums: &'a mut [V; 9],
}

impl<V: Vector> Task<V> for Products<'_, V> {
    #[inline(always)]
    unsafe fn run(&mut self, row: usize, window: &[[V; 3]; 3]) {
        // SAFETY: whoever made this promised that the rows are within the cotangent.
        unsafe {
            let from = self.from.add(row * self.width);
            let whole = self.count == V::LANES;
            let factor = if whole { V::load(from) } else { V::load_masked(from, V::mask(self.count)) };
            for (sum, &elements) in self.sums.iter_mut().zip(window.as_flattened()) {
                *sum = factor.multiply_add(elements, *sum);
            }
        }
    }
}
