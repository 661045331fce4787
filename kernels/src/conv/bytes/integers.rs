//! The convolution in integers.

use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::tile::{Tile, spread};
use super::{Bytes, RANGE_CHUNK, TILE_ROWS, TOGETHER, WIDEST_PANEL, quads, rows, terms};
use crate::Element;
use crate::conv::ConvForm;
use crate::conv::patches::Patches;
use crate::conv::shape::Shape;
use crate::conv::source::Fill;
use crate::element::Shared;
use crate::gemm::pack::Panels;
use crate::gemm::{mask, part_of, range_of_row};
use crate::simd::{Kernel, Lanes, Vector};

/// Lanes of a vector of 32 bits.
const LANES: usize = 16;
/// Columns of a panel, and as many where that makes a narrow one unnecessary.
const COLUMNS: usize = 3 * LANES;
const MOST_COLUMNS: usize = WIDEST_PANEL;
/// So few last columns are computed one by one.
const MOST_SINGLE: usize = 4;
/// Rows that are finished before the epilogue sees them.
const EPILOGUE_ROWS: usize = 32;
/// Groups of products worth a thread of their own.
const CHUNK_WORK: usize = 200_000;

impl<T: Element> Bytes<'_, T> {
    /// The least number of the input, if all are whole, within a byte of it, and so small that no sum is too large; zero
    /// counts among them, as it may be around images.
    unsafe fn least(&self) -> Option<f32> {
        let conv = &self.conv;
        let plane = conv.input.iter().product::<usize>();
        let chunks = conv.in_channels.div_ceil(RANGE_CHUNK);
        let job = Shared(&raw const *self);
        self.team.run(conv.batch * chunks, &|chunk, _| {
            // SAFETY: every chunk has a place of its own; the processor has the tier.
            unsafe {
                let job = &*job.get();
                let (image, first) = (chunk / chunks, chunk % chunks * RANGE_CHUNK);
                let count = RANGE_CHUNK.min(conv.in_channels - first) * plane;
                let from = job.source.add((image * conv.in_channels + first) * plane).cast::<f32>();
                let (mut low, mut high) = (0.0, 0.0);
                let is_whole = range_of_row(from, count, &mut low, &mut high);
                let range = if is_whole { [low, high] } else { [f32::NEG_INFINITY, f32::INFINITY] };
                *job.at::<[f32; 2]>(job.layout.ranges).add(chunk) = range;
            }
        });
        let (mut low, mut high) = (0f32, 0f32);
        for chunk in 0..conv.batch * chunks {
            // SAFETY: written above.
            let [least, greatest] = unsafe { *self.at::<[f32; 2]>(self.layout.ranges).add(chunk) };
            (low, high) = (low.min(least), high.max(greatest));
        }
        (high - low <= 255.0 && self.is_small(low)).then_some(low)
    }

    /// Whether zero has a byte, and no sum is too large, if this is the least number.
    fn is_small(&self, least: f32) -> bool {
        let sum = (TOGETHER * terms(&self.conv)) as f64;
        let most = f64::from(i32::MAX) / 128.0 / sum - 255.0;
        (-255.0..=0.0).contains(&least) && f64::from(-least) <= most
    }

    /// What the first numbers of all channels make one think that the least number is.
    unsafe fn guess(&self) -> f32 {
        let conv = &self.conv;
        let plane = conv.input.iter().product::<usize>();
        let mut guess = 0f32;
        for channel in 0..conv.batch * conv.in_channels {
            let (mut low, mut high) = (0.0, 0.0);
            // SAFETY: within the input; the processor has the tier.
            unsafe {
                let from = self.source.add(channel * plane).cast::<f32>();
                range_of_row(from, plane.min(LANES), &mut low, &mut high);
            }
            guess = guess.min(low);
        }
        guess.trunc()
    }

    /// Computes the whole target, and says whether that could be done.
    pub(super) unsafe fn in_integers(&self) -> bool {
        let shape = &Shape::new(&self.conv, ConvForm::Forward);
        // SAFETY: the caller's promise.
        unsafe {
            // Activations are often bounded by zero: then a pass over the input is saved.
            let mut least = self.guess();
            if !self.is_small(least) || !self.convert(shape, least) {
                match self.least() {
                    Some(found) => least = found,
                    None => return false,
                }
                self.convert(shape, least);
            }
            self.multiply(shape, least);
        }
        true
    }

    /// Computes the target from the input as bytes.
    unsafe fn multiply(&self, shape: &Shape, least: f32) {
        let part = shape.part(0);
        // SAFETY: the caller's promise; the threads write to disjoint places.
        unsafe {
            for tap in 0..part.tap_count() {
                *self.at::<usize>(self.layout.offsets).add(tap) = shape.tap_offset(&part, tap);
            }
            let (all, columns) = (self.conv.out_channels, part.columns());
            let work = all * columns * terms(&self.conv);
            let threads = self.team.threads();
            let wanted = if threads == 1 { 1 } else { (work / CHUNK_WORK).clamp(1, 4 * threads) };
            let wanted = wanted.div_ceil(self.conv.batch.min(wanted));
            let column_parts = wanted.min(columns.div_ceil(2 * COLUMNS));
            let row_parts = wanted.div_ceil(column_parts).min(all.div_ceil(2 * TILE_ROWS));
            let job = Shared(&raw const *self);
            self.team.run(self.conv.batch * row_parts * column_parts, &|chunk, worker| {
                let rows = part_of(all, row_parts, chunk / column_parts % row_parts, TILE_ROWS);
                let columns = part_of(columns, column_parts, chunk % column_parts, COLUMNS);
                let image = chunk / (row_parts * column_parts);
                (*job.get()).block(shape, image, rows, columns, least as i32, worker);
            });
        }
    }

    /// Lays the input out as bytes, and says whether all of it could be: whole, not less than this, and within a byte of it.
    unsafe fn convert(&self, shape: &Shape, least: f32) -> bool {
        let conv = &self.conv;
        let (quads, plane) = (quads(conv), conv.input.iter().product::<usize>());
        let source = shape.source;
        let zero = f32::from_bits((-least) as u32 * 0x0101_0101);
        let count = conv.batch * quads;
        let chunks = (count * plane / (CHUNK_WORK / 8)).clamp(1, 4 * self.team.threads()).min(count);
        let fits = AtomicBool::new(true);
        let job = Shared(&raw const *self);
        self.team.run(chunks, &|chunk, worker| {
            for number in part_of(count, chunks, chunk, 1) {
                if !fits.load(Relaxed) {
                    return;
                }
                // SAFETY: every group of channels belongs to one thread.
                unsafe {
                    let job = &*job.get();
                    let (image, first) = (number / quads, number % quads * TOGETHER);
                    let from = job.source.add((image * conv.in_channels + first) * plane).cast::<f32>();
                    let channels = TOGETHER.min(conv.in_channels - first);
                    let planes = job.at::<f32>(job.layout.planes);
                    let to = planes.add(number * source.channel);
                    let is_in_order = source.in_place.is_some();
                    let own = job.at::<f32>(job.layout.own + worker * job.layout.own_each);
                    let bytes = if is_in_order { to } else { own };
                    if !as_bytes(from, channels, plane, least, bytes.cast()) {
                        fits.store(false, Relaxed);
                    } else if !is_in_order {
                        f32::dispatch(job.tier, &Fill { source, from: own, to, zero });
                    }
                }
            }
        });
        fits.into_inner()
    }

    /// Some rows and columns of an image.
    unsafe fn block(
        &self,
        shape: &Shape,
        image: usize,
        all_rows: Range<usize>,
        columns: Range<usize>,
        least: i32,
        worker: usize,
    ) {
        let (conv, source) = (&self.conv, &shape.source);
        let (length, area) = (terms(conv), shape.area());
        // SAFETY: the caller's promise.
        unsafe {
            let data = self.at::<f32>(self.layout.planes).add(image * quads(conv) * source.channel);
            let offsets = self.at::<usize>(self.layout.offsets);
            let patches = Patches::new(source, data, 0, shape.sizes, offsets, shape.taps());
            let panel = self.at::<f32>(self.layout.own + worker * self.layout.own_each);
            let sums = self.weights.add(rows(conv) * length * TOGETHER).cast::<i32>();
            let mut column = columns.start;
            while column < columns.end {
                let left = columns.end - column;
                let single = left <= MOST_SINGLE;
                let width = match left {
                    _ if single => 1,
                    _ if left > COLUMNS + MOST_SINGLE && left <= MOST_COLUMNS => left,
                    _ => left.min(COLUMNS),
                };
                let vectors = width.div_ceil(LANES);
                if single {
                    let own = panel.add(length.next_multiple_of(2) * TILE_ROWS);
                    let copy = Panel { patches: &patches, column, width, lanes: 1, length, panel: own };
                    f32::dispatch(self.tier, copy);
                    spread(own, length, panel);
                } else {
                    let lanes = vectors * LANES;
                    f32::dispatch(
                        self.tier,
                        Panel { patches: &patches, column, width, lanes, length, panel },
                    );
                }
                let mut pending = all_rows.start;
                for row in all_rows.clone().step_by(TILE_ROWS) {
                    let end = (row + TILE_ROWS).min(all_rows.end);
                    let c = self.target.add((image * conv.out_channels + row) * area + column);
                    let tile = Tile {
                        length,
                        weights: self.weights.add(row * length * TOGETHER).cast(),
                        sums: sums.add(row),
                        least,
                        panel: panel.cast(),
                        vectors,
                        c: c.cast(),
                        c_row: area,
                        rows: end - row,
                        width,
                    };
                    if single {
                        tile.column()
                    } else {
                        tile.run()
                    }
                    if let Some(epilogue) = self.epilogue
                        && (end - pending >= EPILOGUE_ROWS || end == all_rows.end)
                    {
                        let c = self.target.add((image * conv.out_channels + pending) * area + column);
                        let count = end - pending;
                        let table = epilogue.environment;
                        (epilogue.function)(c, area, count, width, image, pending, column, table);
                        pending = end;
                    }
                }
                column += width;
            }
        }
    }
}

/// Copies some columns of all patches.
struct Panel<'a> {
    patches: &'a Patches<f32>,
    column: usize,
    width: usize,
    lanes: usize,
    length: usize,
    panel: *mut f32,
}

impl Kernel<f32> for Panel<'_> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = f32>>(self) {
        let Panel { patches, column, width, lanes, length, panel } = self;
        // SAFETY: the caller's promise.
        unsafe { patches.pack::<V>(column, width, lanes, 0, length, panel) }
    }
}

/// Writes the numbers of up to four channels, less the least, as bytes side by side, and says whether all are whole and
/// have a byte.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn as_bytes(from: *const f32, channels: usize, plane: usize, least: f32, to: *mut i32) -> bool {
    let least = _mm512_set1_ps(least);
    let mut fits = !0;
    for at in (0..plane).step_by(LANES) {
        let lanes = mask(plane - at);
        let mut all = _mm512_setzero_si512();
        for channel in (0..channels).rev() {
            // SAFETY: the caller's promise.
            let x = unsafe { _mm512_maskz_loadu_ps(lanes, from.add(channel * plane + at)) };
            let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x);
            let bytes = _mm512_cvttps_epi32(_mm512_sub_ps(x, least));
            fits &= _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(whole, x);
            fits &= _mm512_cmple_epu32_mask(bytes, _mm512_set1_epi32(255));
            all = _mm512_or_si512(_mm512_slli_epi32::<8>(all), bytes);
        }
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_epi32(to.add(at), lanes, all) };
    }
    fits == !0
}
