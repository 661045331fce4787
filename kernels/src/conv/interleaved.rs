//! Forward and input gradient of batches of small images, with the images side by side in the lanes of vectors.
//!
//! The source is copied so that one place in all images is a run of memory. Then every tap of every position is
//! a plain offset, no lanes are idle at the ends of rows, and taps outside of the image are left out instead of being
//! multiplied by zero.

use std::ops::Range;

use super::Conv;
use crate::element::Shared;
use crate::gemm::part_of;
use crate::gemm::tile::{Ahead, Tile};
use crate::simd::{Kernel, Lanes, Vector};
use crate::{ConvForm, Element, Epilogue, Team, Tier};

/// Bytes of a vector of the widest tier.
const VECTOR_BYTES: usize = 64;
/// Images are computed together up to so many vectors of the widest tier.
const MOST_VECTORS: usize = 4;
/// Images that are fewer than this many bytes of lanes are left to others.
const FEWEST_BYTES: usize = 7 * VECTOR_BYTES / 4;
/// Images as wide as this have few idle lanes when their rows are.
const WIDE: usize = 24;
/// Sums of fewer terms than this are not worth the copies.
const FEWEST_TERMS: usize = 96;
/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 200_000;
/// About what moving an element costs, in multiplications.
const MOVING: usize = 8;

/// A convolution of one group over planes.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    conv: Conv,
    form: ConvForm,
    /// Channels of the source and of the target.
    channels: usize,
    rows: usize,
    /// Height and width of the source and of the target.
    source: [usize; 2],
    target: [usize; 2],
}

impl Problem {
    /// `None` for what is left to others.
    pub fn new<T>(conv: &Conv, form: ConvForm) -> Option<Problem> {
        let Conv { in_channels, out_channels, input, output, kernel, .. } = *conv;
        let flat = [input[0], output[0], kernel[0]] == [1; 3] && conv.pad_low[0] == 0;
        let (channels, rows, source, target) = match form {
            ConvForm::Forward => (in_channels, out_channels, input, output),
            ConvForm::InputGradient => (out_channels, in_channels, output, input),
            ConvForm::WeightGradient => return None,
        };
        let worth = conv.batch * size_of::<T>() >= FEWEST_BYTES
            && rows >= 8
            && target[2] < WIDE
            && kernel[1] * kernel[2] > 1
            && channels * kernel[1] * kernel[2] >= FEWEST_TERMS * conv.stride[1] * conv.stride[2];
        (flat && conv.groups == 1 && worth).then_some(Problem {
            conv: *conv,
            form,
            channels,
            rows,
            source: [source[1], source[2]],
            target: [target[1], target[2]],
        })
    }

    fn taps(&self) -> usize {
        self.conv.kernel[1] * self.conv.kernel[2]
    }

    /// How the weights are read.
    pub fn order(&self) -> Order {
        let Problem { rows, channels, form, .. } = *self;
        Order { rows, channels, taps: self.taps(), forward: form == ConvForm::Forward }
    }

    /// Along an axis (1 or 2): the place in the source that a tap reads for a place in the target.
    fn place(&self, axis: usize, target: usize, tap: usize) -> Option<usize> {
        let conv = &self.conv;
        let (stride, reach) = (conv.stride[axis] as isize, (tap * conv.dilation[axis]) as isize);
        let place = if self.form == ConvForm::Forward {
            target as isize * stride + reach - conv.pad_low[axis]
        } else {
            let place = target as isize + conv.pad_low[axis] - reach;
            if place.rem_euclid(stride) != 0 {
                return None;
            }
            place.div_euclid(stride)
        };
        (place >= 0 && (place as usize) < self.source[axis - 1]).then_some(place as usize)
    }
}

impl Problem {
    /// Where the first tap reads for a position of the target whose taps are all within the source.
    fn place_of_all(&self, position: usize) -> Option<usize> {
        let Conv { kernel, stride, .. } = self.conv;
        let is_forward = self.form == ConvForm::Forward;
        if !is_forward && stride != [1; 3] {
            return None;
        }
        let first = |axis: usize, target: usize| {
            let ends = [0, kernel[axis] - 1].map(|tap| self.place(axis, target, tap));
            let [Some(low), Some(high)] = ends else { return None };
            Some(low.min(high))
        };
        let width = self.target[1];
        Some(first(1, position / width)? * self.source[1] + first(2, position % width)?)
    }
}

/// Where things are in scratch memory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Images that are computed together, and the elements of their run.
    images: usize,
    run: usize,
    weights: usize,
    /// Where the terms of a sum are, from the first on, where none is outside of the image.
    offsets: usize,
    source: usize,
    target: usize,
    /// Bytes in all.
    pub total: usize,
}

impl Layout {
    pub fn new<T>(problem: &Problem) -> Layout {
        let packed = problem.conv.packed.is_packed();
        let lanes = VECTOR_BYTES / size_of::<T>();
        let images = problem.conv.batch.min(MOST_VECTORS * lanes);
        let run = images.next_multiple_of(lanes);
        let bytes = |elements: usize| (elements * size_of::<T>()).next_multiple_of(VECTOR_BYTES);
        let weights = 0;
        let own = if packed { 0 } else { problem.rows * problem.channels * problem.taps() };
        let offsets = weights + bytes(own);
        let terms = problem.channels * problem.taps() * size_of::<usize>();
        let source = offsets + terms.next_multiple_of(VECTOR_BYTES);
        let target = source + bytes(problem.source[0] * problem.source[1] * problem.channels * run);
        let end = target + bytes(problem.target[0] * problem.target[1] * problem.rows * run);
        Layout { images, run, weights, offsets, source, target, total: end + VECTOR_BYTES }
    }
}

/// One call.
pub struct Interleaved<'a, T> {
    pub problem: Problem,
    pub layout: Layout,
    pub tier: Tier,
    pub team: &'a Team,
    pub source: *const T,
    pub weights: *const T,
    pub target: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub scratch: *mut u8,
}

impl<T: Element> Interleaved<'_, T> {
    /// Computes the whole target.
    ///
    /// # Safety
    /// The pointers must be valid for the problem, the scratch memory for the layout and aligned to 64 bytes; and the
    /// processor must have the tier.
    pub unsafe fn run(&self) {
        let Problem { channels, rows, target: [height, width], conv, .. } = self.problem;
        // SAFETY: the caller's promise; the threads write to disjoint places.
        unsafe {
            if !conv.packed.is_packed() {
                self.problem.order().run(self.weights, self.at(self.layout.weights), self.team);
            }
            self.number_terms();
            let mut first = 0;
            while first < conv.batch {
                let images = first..(first + self.layout.images).min(conv.batch);
                let area = self.problem.source[0] * self.problem.source[1];
                self.each(channels, MOVING * area * images.len(), |job, channels| {
                    T::dispatch(job.tier, Fill { job, images: images.clone(), channels });
                });
                let work = rows * channels * self.problem.taps() * images.len();
                self.each(height * width, work, |job, positions| {
                    T::dispatch(job.tier, Multiply { job, positions });
                });
                let groups = images.len().div_ceil(4);
                self.each(groups, 4 * MOVING * rows * height * width, |job, groups| {
                    let end = (images.start + 4 * groups.end).min(images.end);
                    let some = images.start + 4 * groups.start..end;
                    T::dispatch(job.tier, Finish { job, first: images.start, images: some });
                });
                first = images.end;
            }
        }
    }

    /// Writes how far the terms of a sum are from the first one, in the order of the weights.
    unsafe fn number_terms(&self) {
        let Problem { channels, source: [_, width], conv, .. } = self.problem;
        let [_, _, across] = conv.kernel;
        let offsets = self.at::<usize>(self.layout.offsets);
        for tap in 0..self.problem.taps() {
            let place = tap / across * conv.dilation[1] * width + tap % across * conv.dilation[2];
            for channel in 0..channels {
                let offset = (place * channels + channel) * self.layout.run;
                // SAFETY: the scratch memory has room for all terms.
                unsafe { *offsets.add(tap * channels + channel) = offset };
            }
        }
    }

    fn at<U>(&self, offset: usize) -> *mut U {
        self.scratch.wrapping_add(offset).cast()
    }

    /// Calls `task` with parts of the numbers below `count`, if each costs about `work`.
    fn each(&self, count: usize, work: usize, task: impl Fn(&Self, Range<usize>) + Sync) {
        let chunks = (count * work / CHUNK_WORK).clamp(1, 4 * self.team.threads()).min(count);
        let job = Shared(&raw const *self);
        self.team.run(chunks, &|chunk, _| {
            // SAFETY: this frame outlives the run.
            task(unsafe { &*job.get() }, part_of(count, chunks, chunk, 1));
        });
    }

    /// The weights in the order of [`Order`].
    fn ordered(&self) -> *const T {
        if self.problem.conv.packed.is_packed() { self.weights } else { self.at(self.layout.weights) }
    }
}

/// The weights as a matrix: rows are channels of the target, columns are (tap, channel of the source), the taps of the
/// input gradient backwards, so that they read the source forwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Order {
    pub rows: usize,
    pub channels: usize,
    pub taps: usize,
    pub forward: bool,
}

impl Order {
    /// Writes the weights in this order.
    ///
    /// # Safety
    /// Both pointers must be valid for all weights.
    pub unsafe fn run<T: Element>(&self, weights: *const T, to: *mut T, team: &Team) {
        let Order { rows, channels, taps, forward } = *self;
        let chunks = (rows * channels * taps * MOVING / CHUNK_WORK).clamp(1, 4 * team.threads()).min(rows);
        let (from, to) = (Shared(weights), Shared(to));
        team.run(chunks, &|chunk, _| {
            for row in part_of(rows, chunks, chunk, 1) {
                for channel in 0..channels {
                    for tap in 0..taps {
                        let place = match forward {
                            true => (row * channels + channel) * taps + tap,
                            false => (channel * rows + row) * taps + taps - 1 - tap,
                        };
                        // SAFETY: within the weights, and every row belongs to one thread.
                        unsafe {
                            *to.get().add((row * taps + tap) * channels + channel) = *from.get().add(place);
                        }
                    }
                }
            }
        });
    }
}

/// `to[j * to_row + i] = from[i * from_row + j]` for `i < lines`, `j < length`.
#[inline(always)]
unsafe fn transpose<T: Element>(
    from: *const T,
    from_row: usize,
    lines: usize,
    length: usize,
    to: *mut T,
    to_row: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = if lines == 4 { length / 4 * 4 } else { 0 };
        for j in (0..whole).step_by(4) {
            let rows = std::array::from_fn(|i| from.add(i * from_row + j));
            <T as Lanes>::transpose4(rows, to.add(j * to_row), to_row);
        }
        for j in whole..length {
            for i in 0..lines {
                *to.add(j * to_row + i) = *from.add(i * from_row + j);
            }
        }
    }
}

/// Copies channels of some images: `[place, channel, image]`.
struct Fill<'a, T> {
    job: &'a Interleaved<'a, T>,
    images: Range<usize>,
    channels: Range<usize>,
}

impl<T: Element> Kernel<T> for Fill<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Problem { channels, source: [height, width], .. } = self.job.problem;
        let (area, run) = (height * width, self.job.layout.run);
        let count = self.images.len();
        for channel in self.channels {
            // SAFETY: the caller's promise.
            unsafe {
                let from = self.job.source.add((self.images.start * channels + channel) * area);
                let to = self.job.at::<T>(self.job.layout.source).add(channel * run);
                for place in (0..area).step_by(4) {
                    let length = (area - place).min(4);
                    for image in (0..count).step_by(4) {
                        let from = from.add(image * channels * area + place);
                        let to = to.add(place * channels * run + image);
                        transpose(from, channels * area, (count - image).min(4), length, to, channels * run);
                    }
                    for place in place..place + length {
                        for idle in count..run {
                            *to.add(place * channels * run + idle) = T::ZERO;
                        }
                    }
                }
            }
        }
    }
}

/// Computes positions of the target: `[position, row, image]`.
struct Multiply<'a, T> {
    job: &'a Interleaved<'a, T>,
    positions: Range<usize>,
}

impl<T: Element> Kernel<T> for Multiply<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Problem { channels, rows, form, source: [_, source_width], target: [_, width], conv, .. } =
            self.job.problem;
        let (taps, run) = (self.job.problem.taps(), self.job.layout.run);
        let [_, k1, k2] = conv.kernel;
        for position in self.positions {
            // SAFETY: the caller's promise.
            unsafe {
                let to = self.job.at::<T>(self.job.layout.target).add(position * rows * run);
                let mut accumulate = false;
                let finish = self.job.epilogue.and_then(|epilogue| epilogue.finish);
                let mut multiply =
                    |tap: usize, place: usize, many: usize, offsets: *const usize, last: bool| {
                        let a = self.job.ordered().add(tap * channels);
                        let b =
                            self.job.at::<T>(self.job.layout.source).add(place * channels * run).cast_const();
                        let mut column = 0;
                        while column < run {
                            let left = (run - column) / V::LANES;
                            let vectors = if left == 4 { 2 } else { left.min(V::VECTORS) };
                            let mut row = 0;
                            while row < rows {
                                let left = rows - row;
                                let height = left.div_ceil(left.div_ceil(V::ROWS));
                                let tile = Tile {
                                    k: many * channels,
                                    a: a.add(row * taps * channels),
                                    a_row: (taps * channels) as isize,
                                    a_column: 1,
                                    b: b.add(column),
                                    b_row: run as isize,
                                    b_offsets: offsets,
                                    b_padded: true,
                                    b_copy: std::ptr::null_mut(),
                                    c: to.add(row * run + column),
                                    c_row: run,
                                    tail: V::LANES,
                                    accumulate,
                                    bias: std::ptr::null(),
                                    finish: finish.filter(|_| last).map(|finish| finish.from_row(row)),
                                    ahead: Ahead::NOTHING,
                                };
                                V::TILES[height - 1][vectors - 1].run(V::LANES, &tile);
                                row += height;
                            }
                            column += vectors * V::LANES;
                        }
                        accumulate = true;
                    };
                let none = std::ptr::null();
                if let Some(place) = self.job.problem.place_of_all(position) {
                    let offsets = self.job.at::<usize>(self.job.layout.offsets);
                    multiply(0, place, taps, offsets.cast_const(), true);
                    continue;
                }
                // Taps that follow each other, in the order of the weights, and where the first one reads.
                let (mut first, mut start, mut many) = (0, 0, 0);
                for t1 in 0..k1 {
                    let turned = |tap: usize, all: usize| {
                        if form == ConvForm::Forward { tap } else { all - 1 - tap }
                    };
                    let Some(line) = self.job.problem.place(1, position / width, turned(t1, k1)) else {
                        continue;
                    };
                    for t2 in 0..k2 {
                        let place = self.job.problem.place(2, position % width, turned(t2, k2));
                        let Some(place) = place.map(|place| line * source_width + place) else { continue };
                        let tap = t1 * k2 + t2;
                        if many > 0 && first + many == tap && start + many == place {
                            many += 1;
                            continue;
                        }
                        if many > 0 {
                            multiply(first, start, many, none, false);
                        }
                        (first, start, many) = (tap, place, 1);
                    }
                }
                // With no tap at all, sums of nothing.
                multiply(first, start, many, none, true);
            }
        }
    }
}

/// Copies some images to the target, and calls the epilogue on them.
struct Finish<'a, T> {
    job: &'a Interleaved<'a, T>,
    /// The number of the first image in the memory.
    first: usize,
    images: Range<usize>,
}

impl<T: Element> Kernel<T> for Finish<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Problem { rows, target: [height, width], .. } = self.job.problem;
        let (area, run) = (height * width, self.job.layout.run);
        // SAFETY: the caller's promise.
        unsafe {
            for image in self.images.clone().step_by(4) {
                let count = (self.images.end - image).min(4);
                for place in (0..area).step_by(4) {
                    let length = (area - place).min(4);
                    for row in 0..rows {
                        let from = self.job.at::<T>(self.job.layout.target);
                        let from = from.add((place * rows + row) * run + image - self.first);
                        let to = self.job.target.add((image * rows + row) * area + place);
                        transpose(from, rows * run, length, count, to, rows * area);
                    }
                }
                let left = self.job.epilogue.filter(|epilogue| epilogue.finish.is_none());
                let Some(epilogue) = left else { continue };
                for image in image..image + count {
                    let tile = self.job.target.add(image * rows * area);
                    (epilogue.function)(tile, area, rows, area, image, 0, 0, epilogue.environment);
                }
            }
        }
    }
}
