//! The weight gradient turned around: windows of the input are broadcast from where they are, and the lanes are
//! channels of the output's cotangent, of which each element is laid out once, and not once for every tap.

use std::ops::Range;

use super::Conv;
use super::source::{Fill, Source};
use crate::element::Shared;
use crate::gemm::pack::panel;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector, prefetch};
use crate::{Element, Epilogue, Team, Tier};

/// Positions that are summed before the next tile's turn.
const POSITIONS: usize = 128;
/// Bytes of a vector of the widest tier.
const VECTOR_BYTES: usize = 64;
/// Vectors of the widest tier in a panel of the cotangent.
const PANEL_VECTORS: usize = 3;
/// Rows of the largest tile.
const MOST_ROWS: usize = 8;
/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 200_000;

/// Where things are in scratch memory, and how many images go together.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    source: Source,
    /// Images whose source is laid out at a time.
    images: usize,
    /// Elements of the sums' rows.
    width: usize,
    /// Offsets of (channel, tap) in an image.
    rows: usize,
    planes: usize,
    sums: usize,
    own: usize,
    own_each: usize,
    /// Bytes in all.
    pub total: usize,
}

impl Layout {
    /// `None` where the usual way is as fast.
    pub fn new<T>(conv: &Conv, threads: usize) -> Option<Layout> {
        let lanes = VECTOR_BYTES / size_of::<T>();
        let outputs = conv.out_channels / conv.groups;
        let width = outputs.next_multiple_of(lanes);
        let taps: usize = conv.kernel.iter().product();
        let count = conv.in_channels / conv.groups * taps;
        let panels = width.div_ceil(PANEL_VECTORS * lanes);
        if taps == 1 && count < 2 * outputs || 4 * outputs < 3 * width || panels > 1 || count < MOST_ROWS {
            return None;
        }
        let source = Source::input(conv);
        let positions: usize = conv.output.iter().product();
        // As many for any number of threads: sums are in the order of these.
        let images = POSITIONS.div_ceil(positions).min(conv.batch);
        let planes = if source.in_place.is_some() { 0 } else { images * conv.in_channels * source.channel };
        let bytes = |elements: usize| (elements * size_of::<T>()).next_multiple_of(VECTOR_BYTES);
        let planes_at = (count * size_of::<usize>()).next_multiple_of(VECTOR_BYTES);
        let sums = planes_at + bytes(planes);
        let own = sums + bytes(conv.groups * count * width);
        let own_each = bytes(POSITIONS * PANEL_VECTORS * lanes);
        let total = own + own_each * threads + VECTOR_BYTES;
        Some(Layout { source, images, width, rows: 0, planes: planes_at, sums, own, own_each, total })
    }
}

/// One call.
pub struct Turned<'a, T> {
    pub conv: Conv,
    pub layout: Layout,
    pub tier: Tier,
    pub team: &'a Team,
    pub x: *const T,
    pub dy: *const T,
    pub dw: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub scratch: *mut u8,
}

impl<T: Element> Turned<'_, T> {
    /// Computes the weight gradient.
    ///
    /// # Safety
    /// The pointers must be valid for a convolution in which no size is zero, the scratch memory for the layout and
    /// aligned to 64 bytes; and the processor must have the tier.
    pub unsafe fn run(&self) {
        let conv = &self.conv;
        let [_, k1, k2] = conv.kernel;
        let taps: usize = conv.kernel.iter().product();
        let (count, outputs) = (self.count(), conv.out_channels / conv.groups);
        let positions: usize = conv.output.iter().product();
        let lanes = VECTOR_BYTES / size_of::<T>();
        let panels = outputs.div_ceil(PANEL_VECTORS * lanes);
        // SAFETY: the caller's promise; the threads write to disjoint places.
        unsafe {
            for row in 0..count {
                let tap = row % taps;
                let at = self.layout.source.tap([tap / (k1 * k2), tap / k2 % k1, tap % k2]);
                *self.at::<usize>(self.layout.rows).add(row) = row / taps * self.layout.source.channel + at;
            }
            let mut image = 0;
            while image < conv.batch {
                let images = image..(image + self.layout.images).min(conv.batch);
                self.fill(images.clone());
                let work = images.len() * conv.out_channels * count * positions;
                let wanted = (work / CHUNK_WORK).clamp(1, 4 * self.team.threads());
                let wanted = if self.team.threads() == 1 { 1 } else { wanted.div_ceil(conv.groups * panels) };
                let parts = wanted.min(count.div_ceil(2 * MOST_ROWS));
                let job = Shared(&raw const *self);
                self.team.run(conv.groups * panels * parts, &|chunk, worker| {
                    let job = &*job.get();
                    let rows = part_of(count, parts, chunk % parts, MOST_ROWS);
                    let first = chunk / parts % panels * PANEL_VECTORS * lanes;
                    let columns = first..(first + PANEL_VECTORS * lanes).min(outputs);
                    let (images, group) = (images.clone(), chunk / (parts * panels));
                    T::dispatch(job.tier, Sums { job, images, group, rows, columns, worker });
                });
                image = images.end;
            }
            let job = Shared(&raw const *self);
            let chunks = conv.out_channels.min(self.team.threads());
            self.team.run(chunks, &|chunk, _| {
                let job = &*job.get();
                for output in part_of(conv.out_channels, chunks, chunk, 1) {
                    job.finish(output);
                }
            });
        }
    }

    /// The number of (channel, tap) in a group.
    fn count(&self) -> usize {
        self.conv.in_channels / self.conv.groups * self.conv.kernel.iter().product::<usize>()
    }

    fn at<P>(&self, offset: usize) -> *mut P {
        self.scratch.wrapping_add(offset).cast()
    }

    unsafe fn fill(&self, images: Range<usize>) {
        let source = self.layout.source;
        if source.in_place.is_some() {
            return;
        }
        let size: usize = source.sizes.iter().product();
        let count = images.len() * self.conv.in_channels;
        let chunks = (2 * count * source.channel / CHUNK_WORK).clamp(1, 4 * self.team.threads()).min(count);
        let job = Shared(&raw const *self);
        self.team.run(chunks, &|chunk, _| {
            for number in part_of(count, chunks, chunk, 1) {
                // SAFETY: every channel belongs to one thread.
                unsafe {
                    let job = &*job.get();
                    let from = job.x.add((images.start * job.conv.in_channels + number) * size);
                    let to = job.at::<T>(job.layout.planes).add(number * source.channel);
                    T::dispatch(job.tier, &Fill { source, from, to, zero: T::ZERO });
                }
            }
        });
    }

    /// Copies the sums of an output channel to their places, and calls the epilogue on them.
    unsafe fn finish(&self, output: usize) {
        let (count, outputs) = (self.count(), self.conv.out_channels / self.conv.groups);
        // SAFETY: within the sums and the result.
        unsafe {
            let from = self.at::<T>(self.layout.sums);
            let from = from.add(output / outputs * count * self.layout.width + output % outputs);
            let to = self.dw.add(output * count);
            for row in 0..count {
                *to.add(row) = *from.add(row * self.layout.width);
            }
            if let Some(epilogue) = self.epilogue {
                (epilogue.function)(to, count, 1, count, 0, output, 0, epilogue.environment);
            }
        }
    }
}

/// Sums for some rows, (channel, tap), and some columns, channels of the output, of a group.
struct Sums<'a, T> {
    job: &'a Turned<'a, T>,
    images: Range<usize>,
    group: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    worker: usize,
}

/// A run of adjacent positions: where its first window is, and its length.
#[derive(Clone, Copy)]
struct Run {
    offset: usize,
    length: usize,
}

impl<T: Element> Kernel<T> for Sums<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let (job, conv, layout) = (self.job, &self.job.conv, &self.job.layout);
        let source = &layout.source;
        let [p0, p1, p2] = conv.output;
        let (positions, within) = (p0 * p1 * p2, conv.in_channels / conv.groups);
        let outputs = conv.out_channels / conv.groups;
        let image_stride = conv.in_channels * source.channel;
        let width = self.columns.len();
        let padded = width.next_multiple_of(V::LANES);
        // SAFETY: the caller's promise.
        unsafe {
            let data = if source.in_place.is_some() {
                job.x.add(self.images.start * image_stride)
            } else {
                job.at::<T>(layout.planes).cast_const()
            };
            let data = data.add(self.group * within * source.channel);
            let packed = job.at::<T>(layout.own + self.worker * layout.own_each);
            let mut runs = [Run { offset: 0, length: 0 }; POSITIONS];
            let (mut count, mut filled) = (0, 0);
            let mut accumulate = self.images.start > 0;
            for (number, image) in self.images.clone().enumerate() {
                let cotangent = job
                    .dy
                    .add((image * conv.out_channels + self.group * outputs + self.columns.start) * positions);
                for line in 0..p0 * p1 {
                    let place = line / p1 * source.strides[0] + line % p1 * source.strides[1];
                    let mut at = 0;
                    while at < p2 {
                        let length = (p2 - at).min(POSITIONS - filled);
                        let out = packed.add(filled * padded);
                        let from = cotangent.add(line * p2 + at);
                        panel::<V>(from, positions as isize, 1, width, padded, length, out);
                        runs[count] = Run { offset: number * image_stride + place + at, length };
                        (count, filled, at) = (count + 1, filled + length, at + length);
                        let last = number + 1 == self.images.len() && line + 1 == p0 * p1 && at == p2;
                        if filled == POSITIONS || last {
                            self.multiply::<V>(data, &runs[..count], packed, padded, accumulate);
                            (count, filled, accumulate) = (0, 0, true);
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> Sums<'_, T> {
    /// Adds the products for some runs.
    #[inline(always)]
    unsafe fn multiply<V: Vector<Item = T>>(
        &self,
        data: *const T,
        runs: &[Run],
        packed: *const T,
        padded: usize,
        accumulate: bool,
    ) {
        let layout = &self.job.layout;
        // With one tap every element is read once, by one tile.
        let is_far = layout.source.in_place.is_some() && self.job.conv.kernel == [1; 3];
        // SAFETY: the caller's promise.
        unsafe {
            let rows = self.job.at::<usize>(layout.rows);
            let sums = self.job.at::<T>(layout.sums);
            let sums = sums.add(self.group * self.job.count() * layout.width + self.columns.start);
            let mut row = self.rows.start;
            while row < self.rows.end {
                let left = self.rows.end - row;
                let height = left.div_ceil(left.div_ceil(V::ROWS.min(MOST_ROWS)));
                let mut column = 0;
                while column < padded {
                    let vectors = ((padded - column) / V::LANES).min(V::VECTORS);
                    let tile = Tile {
                        data,
                        rows: rows.add(row),
                        runs,
                        packed: packed.add(column),
                        packed_row: padded,
                        sums: sums.add(row * layout.width + column),
                        sums_row: layout.width,
                        accumulate,
                        is_far,
                    };
                    match (height, vectors) {
                        (8, 3) => tile.compute::<V, 8, 3>(),
                        (7, 3) => tile.compute::<V, 7, 3>(),
                        (6, 3) => tile.compute::<V, 6, 3>(),
                        (5, 3) => tile.compute::<V, 5, 3>(),
                        (8, 2) => tile.compute::<V, 8, 2>(),
                        (7, 2) => tile.compute::<V, 7, 2>(),
                        (6, 2) => tile.compute::<V, 6, 2>(),
                        (5, 2) => tile.compute::<V, 5, 2>(),
                        (4, 2) => tile.compute::<V, 4, 2>(),
                        (3, 2) => tile.compute::<V, 3, 2>(),
                        (8, 1) => tile.compute::<V, 8, 1>(),
                        (7, 1) => tile.compute::<V, 7, 1>(),
                        (6, 1) => tile.compute::<V, 6, 1>(),
                        (5, 1) => tile.compute::<V, 5, 1>(),
                        (4, 1) => tile.compute::<V, 4, 1>(),
                        (3, 1) => tile.compute::<V, 3, 1>(),
                        _ => {
                            for row in 0..height {
                                for vector in 0..vectors {
                                    tile.part::<V>(row, vector).compute::<V, 1, 1>();
                                }
                            }
                        }
                    }
                    column += vectors * V::LANES;
                }
                row += height;
            }
        }
    }
}

/// A tile of the sums.
struct Tile<'a, T> {
    data: *const T,
    rows: *const usize,
    runs: &'a [Run],
    packed: *const T,
    packed_row: usize,
    sums: *mut T,
    sums_row: usize,
    accumulate: bool,
    /// Whether the data have to be brought from memory.
    is_far: bool,
}

impl<T: Element> Tile<'_, T> {
    /// One row and vector of the tile.
    #[inline(always)]
    unsafe fn part<V: Vector<Item = T>>(&self, row: usize, vector: usize) -> Self {
        let (rows, at) = (self.rows.wrapping_add(row), vector * V::LANES);
        let sums = self.sums.wrapping_add(row * self.sums_row + at);
        Tile { rows, packed: self.packed.wrapping_add(at), sums, ..*self }
    }

    #[inline(always)]
    unsafe fn compute<V: Vector<Item = T>, const R: usize, const N: usize>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[V::zero(); N]; R];
            let mut packed = self.packed;
            for run in self.runs {
                let lines: [*const T; R] =
                    std::array::from_fn(|i| self.data.add(run.offset + *self.rows.add(i)));
                let mut at = 0;
                while at < run.length {
                    if self.is_far {
                        for line in lines {
                            prefetch(line.wrapping_add(at + POSITIONS).cast());
                        }
                    }
                    let until = (at + V::LANES).min(run.length);
                    for at in at..until {
                        let vectors: [V; N] = std::array::from_fn(|j| V::load(packed.add(j * V::LANES)));
                        for (line, sums) in lines.iter().zip(&mut sums) {
                            let factor = V::splat(*line.add(at));
                            for (sum, vector) in sums.iter_mut().zip(vectors) {
                                *sum = factor.multiply_add(vector, *sum);
                            }
                        }
                        packed = packed.add(self.packed_row);
                    }
                    at = until;
                }
            }
            for (i, row) in sums.into_iter().enumerate() {
                for (j, sum) in row.into_iter().enumerate() {
                    let to = self.sums.add(i * self.sums_row + j * V::LANES);
                    if self.accumulate { sum.add(V::load(to)) } else { sum }.store(to);
                }
            }
        }
    }
}
