//! Forward and input gradient as matrix products: weights times patches.

use std::ops::Range;

use super::Conv;
use super::patches::{Patches, Runs};
use super::shape::{Part, Shape};
use super::source::Fill;
use crate::element::Shared;
use crate::gemm::block::{Block, PackA, Reading, scratch_elements};
use crate::gemm::pack::{Strided, copy_row};
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector};
use crate::{ConvForm, Element, Epilogue, Team, Tier};

/// Images with fewer positions than this are computed side by side, so that few tiles have idle lanes.
const FEW_POSITIONS: usize = 144;
/// Few enough rows for all tiles to read patches where they are.
const FEW_ROWS: usize = 32;
/// Images of up to this size are read where they are by any number of rows.
const IN_PLACE_BYTES: usize = 256 << 10;
/// Images of up to this size in all are laid out together for several threads, which then meet seldom.
const TOGETHER_BYTES: usize = 512 << 10;
/// Positions of images that are computed side by side.
const SIDE_BY_SIDE: usize = 768;
/// Rows of a tile.
const TILE_ROWS: usize = 8;
/// About what a tile takes for a row of patches.
const TILE_CYCLES: usize = 24;
/// About what packing takes for the columns of a tile in a row of patches.
const PACKING_CYCLES: usize = 14;
/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 200_000;
/// About what laying an element out costs, in multiplications.
const MOVING: usize = 8;

/// Where things are in scratch memory, and how many images go together.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Images whose source is laid out at a time.
    images: usize,
    /// Whether their positions form one long row.
    side_by_side: bool,
    /// Whether tiles go straight to the target.
    direct: bool,
    /// Whether the weights are reordered.
    reorders: bool,
    offsets: usize,
    /// Offsets of the taps of all channels.
    rows: usize,
    /// Where the taps are in the kernel.
    places: usize,
    weights: usize,
    planes: usize,
    temporary: usize,
    own: usize,
    own_each: usize,
    /// Bytes in all.
    pub total: usize,
}

/// Whether the weights have to be reordered before the product.
pub fn reorders(shape: &Shape, form: ConvForm) -> bool {
    form == ConvForm::InputGradient && shape.taps() > 1
}

impl Layout {
    pub fn new<T>(shape: &Shape, form: ConvForm, packed: bool, threads: usize) -> Layout {
        let taps = shape.taps();
        let widest = (0..shape.parts).map(|part| shape.part(part).columns()).max().unwrap_or(0);
        let side_by_side = shape.batch > 1 && widest < FEW_POSITIONS && shape.rows >= 8;
        let work = shape.groups * shape.rows * shape.channels * taps * widest;
        let images = if side_by_side {
            (SIDE_BY_SIDE / widest.max(1)).max(1)
        } else if threads > 1 {
            let plane = shape.all_channels() * shape.source.channel * size_of::<T>();
            (2 * threads * CHUNK_WORK).div_ceil(work.max(1)).max(TOGETHER_BYTES / plane.max(1))
        } else {
            1
        };
        let images = images.min(shape.batch);
        let direct = shape.parts == 1 && shape.part(0).step == [1; 3] && !side_by_side;
        let reorders = !packed && reorders(shape, form);
        let mut end = 0;
        let mut take = |bytes: usize| {
            let start = end;
            end += bytes.next_multiple_of(64);
            start
        };
        let element = size_of::<T>();
        let own_each =
            scratch_elements::<T>(shape.rows, shape.channels * taps, PackA::Never, Reading::Packed);
        let own_each = own_each.next_multiple_of(64);
        let filled = if shape.source.in_place.is_some() { 0 } else { images * shape.all_channels() };
        let offsets = take(taps * size_of::<usize>());
        let rows = take(shape.channels * taps * size_of::<usize>());
        let places = take(taps * size_of::<usize>());
        let all_weights = shape.groups * shape.rows * shape.channels * taps;
        let weights = take(if reorders { all_weights * element } else { 0 });
        let planes = take(filled * shape.source.channel * element);
        let temporary = take(if direct { 0 } else { images * shape.groups * shape.rows * widest * element });
        let own = take(own_each * threads * element);
        let total = end + 64;
        Layout {
            images,
            side_by_side,
            direct,
            reorders,
            offsets,
            rows,
            places,
            weights,
            planes,
            temporary,
            own,
            own_each,
            total,
        }
    }
}

/// One call.
pub struct Implicit<'a, T> {
    pub shape: Shape,
    pub layout: Layout,
    pub tier: Tier,
    pub team: &'a Team,
    pub source: *const T,
    pub weights: *const T,
    /// Whether the weights are what [`Implicit::pack`] wrote.
    pub packed: bool,
    pub target: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub scratch: *mut u8,
}

impl<T: Element> Implicit<'_, T> {
    /// Computes the whole target.
    ///
    /// # Safety
    /// The pointers must be valid for the shape, the scratch memory for the layout and aligned to 64 bytes; and the
    /// processor must have the tier.
    pub unsafe fn run(&self, conv: &Conv) {
        let shape = &self.shape;
        // SAFETY: the caller's promise; the threads write to disjoint places.
        unsafe {
            self.number_taps(conv);
            if self.layout.reorders {
                self.reorder(self.at(self.layout.weights));
            }
            let mut image = 0;
            while image < shape.batch {
                let images = image..(image + self.layout.images).min(shape.batch);
                self.fill(images.clone());
                if !shape.covers {
                    self.for_channels(images.clone(), |target, _, _| target.write_bytes(0, shape.area()));
                }
                for index in 0..shape.parts {
                    let part = shape.part(index);
                    if part.columns() > 0 {
                        self.multiply(&part, images.clone());
                        if !self.layout.direct {
                            self.scatter(&part, images.clone());
                        }
                    }
                }
                if !self.layout.direct {
                    self.finish(images.clone());
                }
                image = images.end;
            }
        }
    }

    /// Writes the weights as [`Implicit::run`] reads them if they are packed.
    ///
    /// # Safety
    /// As for [`Implicit::run`], but for source and target, which are not used.
    pub unsafe fn pack(&self, conv: &Conv, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe {
            self.number_taps(conv);
            self.reorder(to);
        }
    }

    /// Writes where the taps are in the source and in the kernel.
    unsafe fn number_taps(&self, conv: &Conv) {
        let shape = &self.shape;
        // SAFETY: the scratch memory has room for all taps.
        unsafe {
            let offsets = self.at::<usize>(self.layout.offsets);
            let places = self.at::<usize>(self.layout.places);
            for index in 0..shape.parts {
                let part = shape.part(index);
                for tap in 0..part.tap_count() {
                    let [t0, t1, t2] = part.tap(tap);
                    *offsets.add(part.first_tap + tap) = shape.tap_offset(&part, tap);
                    *places.add(part.first_tap + tap) = (t0 * conv.kernel[1] + t1) * conv.kernel[2] + t2;
                }
                if self.in_runs(&part) {
                    let mut row = self.rows(&part);
                    for channel in 0..shape.channels {
                        for tap in 0..part.tap_count() {
                            *row = channel * shape.source.channel + *offsets.add(part.first_tap + tap);
                            row = row.add(1);
                        }
                    }
                }
            }
        }
    }

    fn at<P>(&self, offset: usize) -> *mut P {
        self.scratch.wrapping_add(offset).cast()
    }

    /// Where the offsets of a part's taps of all channels are.
    fn rows(&self, part: &Part) -> *mut usize {
        self.at::<usize>(self.layout.rows).wrapping_add(self.shape.channels * part.first_tap)
    }

    /// Whether a part's patches are read where they are: lanes that are idle at the ends of runs cost less than packing.
    fn in_runs(&self, part: &Part) -> bool {
        if self.layout.side_by_side {
            return false;
        }
        let (run, lanes) = (part.run(&self.shape.source), 64 / size_of::<T>());
        if part.tap_count() == 1 && run == part.columns() {
            return true;
        }
        let tiles = self.shape.rows.div_ceil(TILE_ROWS);
        let idle = (run.next_multiple_of(lanes) - run) * tiles * TILE_CYCLES;
        idle <= run * PACKING_CYCLES
    }

    /// Runs `task` for every number below `count`, in chunks that are worth it, if each costs about `work`.
    fn each(&self, count: usize, work: usize, task: impl Fn(usize, usize) + Sync) {
        let chunks = (count * work / CHUNK_WORK).clamp(1, 4 * self.team.threads()).min(count);
        self.team.run(chunks, &|chunk, worker| {
            for number in part_of(count, chunks, chunk, 1) {
                task(number, worker);
            }
        });
    }

    /// Writes the weights of the input gradient as matrices: for every part and group, rows are input channels and
    /// columns are (output channel, tap).
    unsafe fn reorder(&self, to: *mut T) {
        let Shape { groups, rows, channels, .. } = self.shape;
        let all: usize = self.shape.taps();
        let (job, to) = (Shared(&raw const *self), Shared(to.cast_const()));
        // So few channels that what is read stays for all parts, and so many that rows are written by the line.
        const CHANNELS: usize = 16;
        let blocks = channels.div_ceil(CHANNELS);
        self.each(groups * blocks, CHANNELS * rows * all * 4, |number, _| {
            // SAFETY: every block of channels belongs to one thread.
            unsafe {
                let job = &*job.get();
                let (group, first) = (number / blocks, number % blocks * CHANNELS);
                for index in 0..job.shape.parts {
                    let part = job.shape.part(index);
                    let taps = part.tap_count();
                    let reorder = Reorder {
                        channels: CHANNELS.min(channels - first),
                        rows,
                        taps,
                        all,
                        places: job.at::<usize>(job.layout.places).add(part.first_tap),
                        from: job.weights.add((group * channels + first) * rows * all),
                        from_channel: rows * all,
                        to: to.get().cast_mut().add(
                            groups * rows * channels * part.first_tap
                                + (group * rows * channels + first) * taps,
                        ),
                        to_row: channels * taps,
                    };
                    T::dispatch(job.tier, reorder);
                }
            }
        });
    }

    /// Lays the images out.
    unsafe fn fill(&self, images: Range<usize>) {
        let (source, channels) = (self.shape.source, self.shape.all_channels());
        if source.in_place.is_some() {
            return;
        }
        let size: usize = source.sizes.iter().product();
        let job = Shared(&raw const *self);
        self.each(images.len() * channels, MOVING * source.channel, |number, _| {
            // SAFETY: every channel belongs to one thread.
            unsafe {
                let job = &*job.get();
                let from = job.source.add((images.start * channels + number) * size);
                let to = job.at::<T>(job.layout.planes).add(number * source.channel);
                T::dispatch(job.tier, &Fill { source, from, to, zero: T::ZERO });
            }
        });
    }

    /// The products of a part for some images, to the target or to temporary memory.
    unsafe fn multiply(&self, part: &Part, images: Range<usize>) {
        let shape = &self.shape;
        let count = images.len();
        let (products, columns) =
            if self.layout.side_by_side { (1, count * part.columns()) } else { (count, part.columns()) };
        let k = shape.channels * part.tap_count();
        let work = products * shape.groups * shape.rows * columns * k;
        let wanted = (work / CHUNK_WORK).clamp(1, 4 * self.team.threads());
        let wanted = if self.team.threads() == 1 { 1 } else { wanted.div_ceil(products * shape.groups) };
        let column_parts = wanted.min(columns.div_ceil(96));
        let row_parts = wanted.div_ceil(column_parts).min(shape.rows.div_ceil(16));
        let job = Shared(&raw const *self);
        self.team.run(products * shape.groups * row_parts * column_parts, &|chunk, worker| {
            let rows = part_of(shape.rows, row_parts, chunk / column_parts % row_parts, 8);
            let columns = part_of(columns, column_parts, chunk % column_parts, 48);
            let number = chunk / (row_parts * column_parts);
            let (group, image) = (number % shape.groups, number / shape.groups);
            // SAFETY: the blocks do not overlap.
            unsafe { (*job.get()).block(part, images.clone(), image, group, rows, columns, worker) };
        });
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn block(
        &self,
        part: &Part,
        images: Range<usize>,
        image: usize,
        group: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        worker: usize,
    ) {
        let (shape, layout) = (&self.shape, &self.layout);
        let (taps, source) = (part.tap_count(), &shape.source);
        let k = shape.channels * taps;
        let stride = shape.all_channels() * source.channel;
        // SAFETY: the caller's promise.
        unsafe {
            let data = if source.in_place.is_some() {
                self.source.add(images.start * stride)
            } else {
                self.at::<T>(layout.planes).cast_const()
            };
            let data = data.add(image * stride + group * shape.channels * source.channel);
            let offsets = self.at::<usize>(layout.offsets).add(part.first_tap);
            let patches = Patches::new(source, data, stride, part.positions, offsets, taps);
            let all_rows = shape.groups * shape.rows;
            let (c, c_row) = if layout.direct {
                let first = (images.start + image) * all_rows + group * shape.rows;
                (self.target.add(first * shape.area()), shape.area())
            } else {
                let row = if layout.side_by_side { images.len() * part.columns() } else { part.columns() };
                (self.at::<T>(layout.temporary).add((image * all_rows + group * shape.rows) * row), row)
            };
            let (a, a_row, a_column) = if layout.reorders || self.packed {
                let first = all_rows * shape.channels * part.first_tap + group * shape.rows * k;
                let matrices = if self.packed { self.weights } else { self.at(layout.weights) };
                (matrices.add(first), k as isize, 1)
            } else if shape.is_transposed() {
                (self.weights.add(group * shape.rows * k), 1, shape.rows as isize)
            } else {
                (self.weights.add(group * shape.rows * k), k as isize, 1)
            };
            let block = Block {
                rows,
                columns,
                k,
                a,
                a_row,
                a_column,
                pack_a: PackA::Never,
                a_is_far: true,
                b: &patches,
                reading: Reading::Packed,
                streams: false,
                ends_in_dots: shape.rows > TILE_ROWS,
                c,
                c_row,
                accumulate: false,
                bias: std::ptr::null(),
                epilogue: if layout.direct { self.epilogue } else { None },
                place: (images.start + image, group * shape.rows),
                scratch: self.at::<T>(layout.own).add(worker * layout.own_each),
            };
            if !self.in_runs(part) {
                T::dispatch(self.tier, &block);
            } else if taps == 1 && patches.positions[..2] == [1, 1] {
                let b = Strided { data: data.add(*offsets), row: source.channel as isize, column: 1 };
                let reading = if shape.rows <= TILE_ROWS {
                    Reading::InPlaceByFew
                } else if shape.rows <= FEW_ROWS || k * part.columns() * size_of::<T>() <= IN_PLACE_BYTES {
                    Reading::InPlace
                } else {
                    Reading::CopiedOnTheWay
                };
                T::dispatch(self.tier, &block.reading(&b, reading));
            } else {
                let b = Runs { patches, rows: self.rows(part) };
                let reading = if shape.rows <= TILE_ROWS { Reading::InPlaceByFew } else { Reading::InPlace };
                T::dispatch(self.tier, &block.reading(&b, reading));
            }
        }
    }

    /// Calls `task` with every channel of the target of some images, the image's number among them and the
    /// channel's.
    fn for_channels(&self, images: Range<usize>, task: impl Fn(*mut T, usize, usize)) {
        let channels = self.shape.groups * self.shape.rows;
        let job = Shared(&raw const *self);
        let task = Shared(&raw const task);
        self.each(images.len() * channels, 2 * self.shape.area(), |number, _| {
            // SAFETY: this frame outlives the run, `task` only reads what it holds, and channels do not overlap.
            unsafe {
                let job = &*job.get();
                let target = job.target.add((images.start * channels + number) * job.shape.area());
                (*task.get())(target, number / channels, number % channels);
            }
        });
    }

    /// Moves the result of a part from temporary memory to its places in the target.
    unsafe fn scatter(&self, part: &Part, images: Range<usize>) {
        let columns = part.columns();
        let count = images.len();
        let rows = self.shape.groups * self.shape.rows;
        self.for_channels(images, |target, image, row| {
            // SAFETY: the temporary memory holds the part; its places are within the target.
            unsafe {
                let from = self.at::<T>(self.layout.temporary);
                let from = if self.layout.side_by_side {
                    from.add((row * count + image) * columns)
                } else {
                    from.add((image * rows + row) * columns)
                };
                part.scatter(from, target, self.shape.sizes);
            }
        });
    }

    /// Calls the epilogue on whole channels.
    unsafe fn finish(&self, images: Range<usize>) {
        let Some(epilogue) = self.epilogue else { return };
        let first = images.start;
        self.for_channels(images, |target, image, channel| {
            let area = self.shape.area();
            // SAFETY: the channel is final.
            unsafe {
                (epilogue.function)(target, area, 1, area, first + image, channel, 0, epilogue.environment);
            }
        });
    }
}

/// `to[row * to_row + channel * taps + tap] = from[channel * from_channel + row * all + places[tap]]`
struct Reorder<T> {
    channels: usize,
    rows: usize,
    taps: usize,
    all: usize,
    places: *const usize,
    from: *const T,
    from_channel: usize,
    to: *mut T,
    to_row: usize,
}

impl<T: Element> Kernel<T> for Reorder<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Reorder { channels, rows, taps, all, places, .. } = self;
        // SAFETY: the caller's promise.
        unsafe {
            for row in 0..rows {
                for channel in 0..channels {
                    let from = self.from.add(channel * self.from_channel + row * all);
                    let to = self.to.add(row * self.to_row + channel * taps);
                    if taps == all {
                        copy_row::<V>(from, taps, taps, to);
                    } else {
                        for tap in 0..taps {
                            *to.add(tap) = *from.add(*places.add(tap));
                        }
                    }
                }
            }
        }
    }
}
