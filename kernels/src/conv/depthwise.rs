//! Convolutions in which every group has one input and one output channel: no matrix products, so the channels
//! are computed one after the other, each while its image is in the cache.

mod slide;

use super::Conv;
use super::shape::{Part, Shape};
use super::source::Fill;
use crate::element::Shared;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector};
use crate::{ConvForm, Element, Epilogue, Team, Tier};
use slide::{Slide, Window};

/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 100_000;
/// Taps of the weight gradient that are summed at a time.
const TAPS: usize = 9;

/// Where things are in scratch memory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    kernel_places: usize,
    parts: usize,
    own: usize,
    own_each: usize,
    result: usize,
    /// Bytes in all.
    pub total: usize,
}

impl Layout {
    pub fn new<T>(shape: &Shape, threads: usize) -> Layout {
        let taps = (shape.taps() * size_of::<usize>()).next_multiple_of(64);
        let plane = if shape.source.in_place.is_some() { 0 } else { shape.source.channel };
        let result = (plane * size_of::<T>()).next_multiple_of(64);
        let widest = (0..shape.parts).map(|part| shape.part(part).columns()).max().unwrap_or(0);
        // Two parts may go to the target together.
        let together = shape.parts.min(2);
        let own_each = result + (together * widest * size_of::<T>()).next_multiple_of(64);
        let parts = 2 * taps;
        let own = parts + (shape.parts * size_of::<Part>()).next_multiple_of(64);
        Layout { kernel_places: taps, parts, own, own_each, result, total: own + own_each * threads + 64 }
    }
}

/// One call: of the forward or the input gradient with a source, weights and a target, or of the weight gradient
/// with the input, the output's cotangent and the weights' cotangent.
pub struct Depthwise<'a, T> {
    pub shape: Shape,
    pub layout: Layout,
    pub tier: Tier,
    pub team: &'a Team,
    pub first: *const T,
    pub second: *const T,
    pub result: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub scratch: *mut u8,
}

impl<T: Element> Depthwise<'_, T> {
    /// Computes the whole result.
    ///
    /// # Safety
    /// The pointers must be valid for the shape, the scratch memory for the layout and aligned to 64 bytes; and the
    /// processor must have the tier.
    pub unsafe fn run(&self, conv: &Conv, form: ConvForm) {
        let shape = &self.shape;
        let taps = shape.taps();
        // SAFETY: the caller's promise; every channel belongs to one thread.
        unsafe {
            let (offsets, places) = (self.at::<usize>(0), self.at::<usize>(self.layout.kernel_places));
            for index in 0..shape.parts {
                let part = shape.part(index);
                self.at::<Part>(self.layout.parts).add(index).write(part);
                for tap in 0..part.tap_count() {
                    let [t0, t1, t2] = part.tap(tap);
                    *offsets.add(part.first_tap + tap) = shape.tap_offset(&part, tap);
                    *places.add(part.first_tap + tap) = (t0 * conv.kernel[1] + t1) * conv.kernel[2] + t2;
                }
            }
            let sums = form == ConvForm::WeightGradient;
            let count = if sums { shape.groups } else { shape.batch * shape.groups };
            let work = shape.batch * shape.groups * taps * shape.part(0).columns() * shape.parts;
            let chunks = (work / CHUNK_WORK).clamp(1, 4 * self.team.threads()).min(count);
            let job = Shared(&raw const *self);
            self.team.run(chunks, &|chunk, worker| {
                for number in part_of(count, chunks, chunk, 1) {
                    if sums {
                        (*job.get()).weights(number, worker);
                    } else {
                        (*job.get()).channel(number, worker);
                    }
                }
            });
        }
    }

    fn at<P>(&self, offset: usize) -> *mut P {
        self.scratch.wrapping_add(offset).cast()
    }

    /// The laid-out channel `number` of the source.
    unsafe fn plane(&self, number: usize, worker: usize) -> *const T {
        let source = self.shape.source;
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.first.add(number * source.sizes.iter().product::<usize>());
            if source.in_place.is_some() {
                return from;
            }
            let to = self.at::<T>(self.layout.own + worker * self.layout.own_each);
            T::dispatch(self.tier, &Fill { source, from, to, zero: T::ZERO });
            to
        }
    }

    /// The vectors for sliding windows: unaligned ones of 512 bits would cross a cache line at every load.
    fn sliding_tier(&self) -> Tier {
        self.tier.min(Tier::Avx2)
    }

    fn window(&self, part: &Part, plane: *const T) -> Window<T> {
        // SAFETY: the tables are within the scratch memory.
        let table = |offset: usize| unsafe { self.at::<usize>(offset).add(part.first_tap).cast_const() };
        let strides = self.shape.source.strides;
        let (offsets, places) = (table(0), table(self.layout.kernel_places));
        Window { plane, strides, positions: part.positions, taps: part.taps, offsets, places }
    }

    unsafe fn channel(&self, number: usize, worker: usize) {
        let shape = &self.shape;
        let area = shape.area();
        // SAFETY: the caller's promise.
        unsafe {
            let plane = self.plane(number, worker);
            let target = self.result.add(number * area);
            let weights = self.second.add(number % shape.groups * shape.taps());
            if !shape.covers {
                target.write_bytes(0, area);
            }
            let own = self.at::<T>(self.layout.own + worker * self.layout.own_each + self.layout.result);
            let part = |index: usize| &*self.at::<Part>(self.layout.parts).add(index);
            let slide = |part: &Part, result: *mut T| {
                let window = self.window(part, plane);
                let grid = window.grid();
                let tier = if window.has_long_columns(grid) { self.tier } else { self.sliding_tier() };
                T::dispatch(tier, Slide { window, grid, weights, result });
            };
            let mut index = 0;
            while index < shape.parts {
                let one = part(index);
                index += 1;
                if one.columns() == 0 {
                    continue;
                }
                if one.step == [1; 3] && one.positions == shape.sizes {
                    slide(one, target);
                    continue;
                }
                slide(one, own);
                let other = if index < shape.parts { Some(part(index)) } else { None };
                match other.filter(|other| alternate(one, other)) {
                    Some(other) => {
                        let results = [own, own.add(one.columns())];
                        slide(other, results[1]);
                        index += 1;
                        let [first, second] =
                            if one.start[2] == 0 { results } else { [results[1], results[0]] };
                        let (part, sizes) = (one, shape.sizes);
                        T::dispatch(self.tier, Weave { part, first, second, target, sizes });
                    }
                    None => one.scatter(own, target, shape.sizes),
                }
            }
            if let Some(epilogue) = self.epilogue {
                let (image, channel) = (number / shape.groups, number % shape.groups);
                (epilogue.function)(target, area, 1, area, image, channel, 0, epilogue.environment);
            }
        }
    }

    unsafe fn weights(&self, channel: usize, worker: usize) {
        let (shape, taps) = (&self.shape, self.shape.taps());
        // SAFETY: the caller's promise.
        unsafe {
            let sums = self.result.add(channel * taps);
            sums.write_bytes(0, taps);
            for image in 0..shape.batch {
                let number = image * shape.groups + channel;
                let part = &*self.at::<Part>(self.layout.parts);
                let window = self.window(part, self.plane(number, worker));
                let cotangent = self.second.add(number * shape.area());
                T::dispatch(self.sliding_tier(), Correlate { window, cotangent, sums });
            }
            if let Some(epilogue) = self.epilogue {
                (epilogue.function)(sums, taps, 1, taps, 0, channel, 0, epilogue.environment);
            }
        }
    }
}

/// Whether the results of two parts alternate in all lines of the target that they share.
fn alternate(one: &Part, other: &Part) -> bool {
    one.step[2] == 2
        && one.positions == other.positions
        && one.start[..2] == other.start[..2]
        && one.start[2] + other.start[2] == 1
}

/// Brings the results of two parts that alternate to their places.
struct Weave<'a, T> {
    part: &'a Part,
    /// The results at even places, and those at odd ones.
    first: *const T,
    second: *const T,
    target: *mut T,
    sizes: [usize; 3],
}

impl<T: Element> Kernel<T> for Weave<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Weave { part, first, second, target, sizes: [_, height, width] } = self;
        let [_, lines, count] = part.positions;
        for line in 0..part.columns() / count {
            let at0 = part.start[0] + line / lines * part.step[0];
            let at1 = part.start[1] + line % lines * part.step[1];
            // SAFETY: the caller's promise.
            unsafe {
                let to = target.add((at0 * height + at1) * width);
                let [first, second] = [first, second].map(|results| results.add(line * count));
                let mut at = 0;
                while at + V::LANES <= count {
                    let both = V::interleaved(V::load(first.add(at)), V::load(second.add(at)));
                    both[0].store(to.add(2 * at));
                    both[1].store(to.add(2 * at + V::LANES));
                    at += V::LANES;
                }
                for at in at..count {
                    *to.add(2 * at) = *first.add(at);
                    *to.add(2 * at + 1) = *second.add(at);
                }
            }
        }
    }
}

/// Adds the products of the windows and a cotangent to the sums, one for each tap.
struct Correlate<T> {
    window: Window<T>,
    cotangent: *const T,
    sums: *mut T,
}

impl<T: Element> Kernel<T> for Correlate<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let count = self.window.count();
        // SAFETY: the caller's promise.
        unsafe {
            let mut tap = 0;
            while tap + TAPS <= count {
                self.taps::<V, TAPS>(tap);
                tap += TAPS;
            }
            while tap + 4 <= count {
                self.taps::<V, 4>(tap);
                tap += 4;
            }
            while tap < count {
                self.taps::<V, 1>(tap);
                tap += 1;
            }
        }
    }
}

impl<T: Element> Correlate<T> {
    #[inline(always)]
    unsafe fn taps<V: Vector<Item = T>, const N: usize>(&self, first: usize) {
        let [n0, n1, n2] = self.window.positions;
        let strides = self.window.strides;
        // SAFETY: the caller's promise.
        unsafe {
            let offsets: [usize; N] = std::array::from_fn(|i| *self.window.offsets.add(first + i));
            let mut sums = [V::zero(); N];
            let tail = V::mask(n2 % V::LANES);
            for line in 0..n0 * n1 {
                let plane = self.window.plane.add(line / n1 * strides[0] + line % n1 * strides[1]);
                let cotangent = self.cotangent.add(line * n2);
                let mut at = 0;
                while at + V::LANES <= n2 {
                    let factor = V::load(cotangent.add(at));
                    for (sum, offset) in sums.iter_mut().zip(offsets) {
                        *sum = factor.multiply_add(V::load(plane.add(offset + at)), *sum);
                    }
                    at += V::LANES;
                }
                if at < n2 {
                    let factor = V::load_masked(cotangent.add(at), tail);
                    for (sum, offset) in sums.iter_mut().zip(offsets) {
                        *sum = factor.multiply_add(V::load_masked(plane.add(offset + at), tail), *sum);
                    }
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                let to = self.sums.add(first + i);
                *to = (*to).plus(sum.sum());
            }
        }
    }
}
