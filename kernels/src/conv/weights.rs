//! The weight gradient as a matrix product: the output's cotangent times transposed patches, summed over images in
//! order.

use std::ops::Range;

use super::Conv;
use super::patches::{Patches, Transposed};
use super::source::{Fill, Source};
use crate::element::Shared;
use crate::gemm::block::{Block, PackA, Reading, scratch_elements};
use crate::gemm::part_of;
use crate::{Element, Epilogue, Team, Tier};

/// Images with fewer positions than this are summed in one go, so that sums are read and written less often.
const FEW_POSITIONS: usize = 256;
/// Positions of images that are summed in one go.
const SIDE_BY_SIDE: usize = 1024;
/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 200_000;

/// Where things are in scratch memory, and how many images go together.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    source: Source,
    /// Images whose source is laid out at a time.
    images: usize,
    /// Whether the positions of these images form one long sum.
    side_by_side: bool,
    offsets: usize,
    planes: usize,
    /// The cotangent with the positions of all images adjacent.
    cotangent: usize,
    own: usize,
    own_each: usize,
    /// Bytes in all.
    pub total: usize,
}

impl Layout {
    pub fn new<T>(conv: &Conv, threads: usize) -> Layout {
        let source = Source::input(conv);
        let taps: usize = conv.kernel.iter().product();
        let positions: usize = conv.output.iter().product();
        let rows = conv.out_channels / conv.groups;
        let work = conv.out_channels * (conv.in_channels / conv.groups) * taps * positions;
        let side_by_side = conv.batch > 1 && positions < FEW_POSITIONS;
        let images = if side_by_side {
            SIDE_BY_SIDE.div_ceil(positions)
        } else if threads > 1 {
            (2 * threads * CHUNK_WORK).div_ceil(work.max(1))
        } else {
            1
        };
        let images = images.min(conv.batch);
        let sum = if side_by_side { images * positions } else { positions };
        let own_each = scratch_elements::<T>(rows, sum, PackA::Never, Reading::Packed).next_multiple_of(64);
        let planes = if source.in_place.is_some() { 0 } else { images * conv.in_channels * source.channel };
        let planes_at = (taps * size_of::<usize>()).next_multiple_of(64);
        let cotangent = planes_at + (planes * size_of::<T>()).next_multiple_of(64);
        let copied = if side_by_side { conv.out_channels * sum } else { 0 };
        let own = cotangent + (copied * size_of::<T>()).next_multiple_of(64);
        let total = own + own_each * threads * size_of::<T>() + 64;
        Layout {
            source,
            images,
            side_by_side,
            offsets: 0,
            planes: planes_at,
            cotangent,
            own,
            own_each,
            total,
        }
    }
}

/// One call.
pub struct Weights<'a, T> {
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

impl<T: Element> Weights<'_, T> {
    /// Computes the weight gradient.
    ///
    /// # Safety
    /// The pointers must be valid for a convolution in which no size is zero, the scratch memory for the layout and
    /// aligned to 64 bytes; and the processor must have the tier.
    pub unsafe fn run(&self) {
        let conv = &self.conv;
        let [_, k1, k2] = conv.kernel;
        let (rows, within) = (conv.out_channels / conv.groups, conv.in_channels / conv.groups);
        let taps: usize = conv.kernel.iter().product();
        let columns = within * taps;
        // SAFETY: the caller's promise; the threads write to disjoint places.
        unsafe {
            for tap in 0..taps {
                let at = [tap / (k1 * k2), tap / k2 % k1, tap % k2];
                *self.at::<usize>(self.layout.offsets).add(tap) = self.layout.source.tap(at);
            }
            let mut image = 0;
            while image < conv.batch {
                let images = image..(image + self.layout.images).min(conv.batch);
                self.fill(images.clone());
                if self.layout.side_by_side {
                    self.copy_cotangent(images.clone());
                }
                let positions: usize = conv.output.iter().product();
                let work = images.len() * conv.out_channels * columns * positions;
                let wanted = (work / CHUNK_WORK).clamp(1, 4 * self.team.threads());
                let wanted = if self.team.threads() == 1 { 1 } else { wanted.div_ceil(conv.groups) };
                let column_parts = wanted.min(columns.div_ceil(48));
                let row_parts = wanted.div_ceil(column_parts).min(rows.div_ceil(16));
                let job = Shared(&raw const *self);
                self.team.run(conv.groups * row_parts * column_parts, &|chunk, worker| {
                    let rows = part_of(rows, row_parts, chunk / column_parts % row_parts, 8);
                    let columns = part_of(columns, column_parts, chunk % column_parts, 48);
                    let group = chunk / (row_parts * column_parts);
                    (*job.get()).block(images.clone(), group, rows, columns, worker);
                });
                image = images.end;
            }
        }
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

    unsafe fn block(
        &self,
        images: Range<usize>,
        group: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        worker: usize,
    ) {
        let (conv, source) = (&self.conv, &self.layout.source);
        let (all, within) = (conv.out_channels / conv.groups, conv.in_channels / conv.groups);
        let taps: usize = conv.kernel.iter().product();
        let positions: usize = conv.output.iter().product();
        let stride = conv.in_channels * source.channel;
        let together = if self.layout.side_by_side { images.len() } else { 1 };
        for image in images.clone().step_by(together) {
            // SAFETY: the caller's promise.
            unsafe {
                let data = if source.in_place.is_some() {
                    self.x.add(image * stride)
                } else {
                    self.at::<T>(self.layout.planes).add((image - images.start) * stride).cast_const()
                };
                let data = data.add(group * within * source.channel);
                let patches =
                    Patches::new(source, data, stride, conv.output, self.at(self.layout.offsets), taps);
                let k = together * positions;
                let a = if self.layout.side_by_side {
                    self.at::<T>(self.layout.cotangent).add(group * all * k).cast_const()
                } else {
                    self.dy.add((image * conv.out_channels + group * all) * positions)
                };
                let block = Block {
                    rows: rows.clone(),
                    columns: columns.clone(),
                    k,
                    a,
                    a_row: k as isize,
                    a_column: 1,
                    pack_a: PackA::Never,
                    a_is_far: false,
                    b: &Transposed(patches),
                    reading: Reading::Packed,
                    streams: false,
                    ends_in_dots: false,
                    c: self.dw.add(group * all * within * taps),
                    c_row: within * taps,
                    accumulate: image > 0,
                    bias: std::ptr::null(),
                    epilogue: self.epilogue.filter(|_| image + together >= conv.batch),
                    place: (0, group * all),
                    scratch: self.at::<T>(self.layout.own).add(worker * self.layout.own_each),
                };
                T::dispatch(self.tier, &block);
            }
        }
    }

    /// Copies the cotangent so that the positions of the images are adjacent.
    unsafe fn copy_cotangent(&self, images: Range<usize>) {
        let positions: usize = self.conv.output.iter().product();
        let channels = self.conv.out_channels;
        let to = self.at::<T>(self.layout.cotangent);
        for (number, image) in images.clone().enumerate() {
            for channel in 0..channels {
                // SAFETY: within the cotangent, and within the memory for the copy.
                unsafe {
                    let from = self.dy.add((image * channels + channel) * positions);
                    let to = to.add((channel * images.len() + number) * positions);
                    to.copy_from_nonoverlapping(from, positions);
                }
            }
        }
    }
}
