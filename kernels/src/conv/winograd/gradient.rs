//! The gradient in the weights of three by three taps by way of windows: the transpose of the scheme for four results.
//! Windows of the input and tiles of four by four of the output's cotangent are transformed, multiplied element by
//! element and summed over tiles (a matrix product for each element of the window), and the sums transformed to taps.

use std::ops::Range;

use super::super::{Conv, ConvForm};
use super::plan::UNIT;
use super::scheme::{self, Four, Scheme};
use super::steps::{lay_out, transpose};
use crate::element::Shared;
use crate::gemm::part_of;
use crate::gemm::tile::{Ahead, Tile};
use crate::simd::{Kernel, Vector};
use crate::{Element, Epilogue, Team, Tier};

/// Results of a window along an axis.
const OUT: usize = Four::OUT;
/// Products of a window.
const PRODUCTS: usize = Four::IN * Four::IN;
/// Output channels of a block of sums.
const ROWS: usize = 32;
/// Input channels of a block of sums.
const COLUMNS: usize = 48;
/// Elements of a block of sums.
const BLOCK: usize = PRODUCTS * ROWS * COLUMNS;
/// Windows that are transformed at a time.
const WINDOWS: usize = 256;

/// A gradient in weights with three by three taps and stride one, and the layout of its scratch memory, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    /// Input channels and output channels.
    channels: [usize; 2],
    /// Height and width of input and output.
    sizes: [[usize; 2]; 2],
    /// Where in the input the window of the output's first element begins.
    first: [isize; 2],
    /// Rows and columns of windows in an image.
    windows: [usize; 2],
    /// Rows of windows of all images.
    lines: usize,
    /// Rows of windows that are transformed at a time.
    together: usize,
    /// From one window of the input, and from one tile of the output, to the next.
    window: [usize; 2],
    /// From one product's windows, and from its tiles, to the next's.
    product: [usize; 2],
    /// Blocks of output channels and of input channels.
    blocks: [usize; 2],
    /// Where the tiles are; the windows are at the beginning.
    tiles_at: usize,
    /// Where the sums are: of all blocks, or of one block of every worker.
    sums_at: usize,
    /// Where the workers' rows of the source are, and how much each has.
    own_at: usize,
    own_each: usize,
    /// Bytes in all.
    pub total: usize,
}

impl Gradient {
    /// The problem, if the convolution is one and if it pays.
    pub fn new<T>(conv: &Conv, form: ConvForm, threads: usize) -> Option<Gradient> {
        let plain = form == ConvForm::WeightGradient
            && conv.loose
            && size_of::<T>() == 4
            && conv.groups == 1
            && conv.kernel == [1, 3, 3]
            && conv.stride == [1; 3]
            && conv.dilation == [1; 3]
            && conv.input[0] == 1
            && conv.output[0] == 1
            && conv.pad_low[0] == 0;
        let channels = [conv.in_channels, conv.out_channels];
        let sizes = [conv.input, conv.output].map(|[_, height, width]| [height, width]);
        let windows = sizes[1].map(|size| size.div_ceil(OUT));
        let lines = conv.batch * windows[0];
        let all = lines * windows[1];
        let pairs = channels[0] * channels[1];
        // Beside the products: the transforms of windows and tiles, and of the sums.
        let cost = PRODUCTS * (all + all * 16 * (channels[0] + channels[1]) / pairs.max(1) + 9);
        let pays = channels[0].min(channels[1]) >= UNIT && cost < 9 * conv.batch * sizes[1][0] * sizes[1][1];
        if !(plain && pays) {
            return None;
        }
        let together = (WINDOWS / windows[1]).clamp(1, lines);
        let together = lines.div_ceil(lines.div_ceil(together));
        let window = channels.map(|channels| channels.next_multiple_of(UNIT) + UNIT);
        let product = window.map(|window| together * windows[1] * window + UNIT);
        let blocks = [channels[1].div_ceil(ROWS), channels[0].div_ceil(COLUMNS)];
        let tiles_at = PRODUCTS * product[0];
        let sums_at = tiles_at + PRODUCTS * product[1];
        let sums = if together < lines { blocks[0] * blocks[1] } else { threads };
        let own_at = sums_at + sums * BLOCK;
        let own_each = (OUT + 2) * (windows[1] * OUT + 2) * UNIT;
        let total = (own_at + own_each * threads) * size_of::<T>() + 64;
        let first = [-conv.pad_low[1], -conv.pad_low[2]];
        Some(Gradient {
            channels,
            sizes,
            first,
            windows,
            lines,
            together,
            window,
            product,
            blocks,
            tiles_at,
            sums_at,
            own_at,
            own_each,
            total,
        })
    }
}

/// One call.
pub struct GradientJob<'a, T> {
    pub gradient: Gradient,
    pub tier: Tier,
    pub team: &'a Team,
    pub x: *const T,
    pub dy: *const T,
    pub dw: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub scratch: *mut T,
}

impl<T: Element> GradientJob<'_, T> {
    /// Computes the whole gradient.
    ///
    /// # Safety
    /// The pointers must be valid for the problem, the scratch memory too and aligned to 64 bytes; and the processor
    /// must have the tier.
    pub unsafe fn run(&self) {
        let gradient = &self.gradient;
        let job = Shared(&raw const *self);
        let groups = gradient.channels.map(|channels| channels.div_ceil(UNIT));
        for first in (0..gradient.lines).step_by(gradient.together) {
            let lines = first..(first + gradient.together).min(gradient.lines);
            let count = groups[0] + groups[1];
            self.team.run(lines.len() * count, &|chunk, worker| {
                let (line, group) = (lines.start + chunk / count, chunk % count);
                let (side, group) = if group < groups[0] { (0, group) } else { (1, group - groups[0]) };
                // SAFETY: every task writes to other places.
                unsafe {
                    let job = &*job.get();
                    let own = job.scratch.add(job.gradient.own_at + worker * job.gradient.own_each);
                    let at = line - lines.start;
                    T::dispatch(job.tier, Transform { job, side, line, at, channel: group * UNIT, own });
                }
            });
            let [down, across] = gradient.blocks;
            self.team.run(down * across, &|chunk, worker| {
                // SAFETY: every task writes to other places.
                unsafe {
                    let job = &*job.get();
                    let gradient = &job.gradient;
                    let whole = gradient.together == gradient.lines;
                    let sums = job.scratch.add(gradient.sums_at + if whole { worker } else { chunk } * BLOCK);
                    let row = part_of(down, down, chunk / across, 1).start * ROWS;
                    let column = chunk % across * COLUMNS;
                    T::dispatch(job.tier, Sums { job, lines: lines.clone(), row, column, sums });
                    if let Some(epilogue) = job.epilogue.filter(|_| lines.end == gradient.lines) {
                        let [channels, all] = gradient.channels;
                        let (rows, columns) = (ROWS.min(all - row), COLUMNS.min(channels - column));
                        let tile = job.dw.add((row * channels + column) * 9);
                        let (f, environment) = (epilogue.function, epilogue.environment);
                        f(tile, channels * 9, rows, columns * 9, 0, row, column * 9, environment);
                    }
                }
            });
        }
    }
}

/// Transforms a line of windows of the input (side 0) or of tiles of the cotangent (side 1) for `UNIT` channels.
struct Transform<'a, 'b, T> {
    job: &'a GradientJob<'b, T>,
    side: usize,
    line: usize,
    /// The line's place among those that are transformed.
    at: usize,
    channel: usize,
    /// Memory for the source rows of the line.
    own: *mut T,
}

impl<T: Element> Kernel<T> for Transform<'_, '_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let (gradient, side) = (&self.job.gradient, self.side);
        let [down, across] = gradient.windows;
        let (image, line) = (self.line / down, self.line % down);
        let (count, more) = if side == 0 { (Four::IN, 2) } else { (OUT, 0) };
        let length = across * OUT + more;
        let ([height, width], channels) = (gradient.sizes[side], gradient.channels[side]);
        let first = if side == 0 { gradient.first } else { [0, 0] };
        let first = [first[0] + (line * OUT) as isize, first[1]];
        let row = length * UNIT;
        // SAFETY: the caller's promise.
        unsafe {
            let source = if side == 0 { self.job.x } else { self.job.dy };
            let source = source.add((image * channels + self.channel) * height * width);
            let some = UNIT.min(channels - self.channel);
            lay_out(source, [height, width], some, first, [count, length], self.own);
            let to = self.job.scratch.add(if side == 0 { 0 } else { gradient.tiles_at });
            for x in 0..across {
                for lane in (0..UNIT).step_by(V::LANES) {
                    let from = self.own.add(x * OUT * UNIT + lane);
                    let to = to.add((self.at * across + x) * gradient.window[side] + self.channel + lane);
                    let load = |i: usize, j: usize| V::load(from.add(i * row + j * UNIT));
                    let store =
                        |product: usize, value: V| value.store(to.add(product * gradient.product[side]));
                    if side == 0 {
                        scheme::source::<V, Four>(load, store);
                    } else {
                        scheme::cotangent::<V, Four>(load, store);
                    }
                }
            }
        }
    }
}

/// Multiplies the windows and tiles of some lines for a block of sums; after the last lines, transforms these to taps.
struct Sums<'a, 'b, T> {
    job: &'a GradientJob<'b, T>,
    lines: Range<usize>,
    row: usize,
    column: usize,
    sums: *mut T,
}

impl<T: Element> Kernel<T> for Sums<'_, '_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let gradient = &self.job.gradient;
        let [channels, all_rows] = gradient.channels;
        let rows = ROWS.min(all_rows - self.row);
        let columns = COLUMNS.min(channels - self.column);
        let width = columns.next_multiple_of(V::LANES);
        let windows = self.lines.len() * gradient.windows[1];
        // SAFETY: the caller's promise; windows, tiles and sums are padded.
        unsafe {
            for product in 0..PRODUCTS {
                let x = self.job.scratch.add(product * gradient.product[0] + self.column);
                let dy = self.job.scratch.add(gradient.tiles_at + product * gradient.product[1] + self.row);
                let to = self.sums.add(product * ROWS * COLUMNS);
                let down = rows.div_ceil(V::ROWS);
                let mut column = 0;
                while column < width {
                    let vectors = ((width - column) / V::LANES).min(V::VECTORS);
                    let mut row = 0;
                    for number in 0..down {
                        let height = rows / down + usize::from(number < rows % down);
                        let tile = Tile {
                            k: windows,
                            a: dy.add(row),
                            a_row: 1,
                            a_column: gradient.window[1] as isize,
                            b: x.add(column),
                            b_row: gradient.window[0] as isize,
                            b_offsets: std::ptr::null(),
                            b_padded: true,
                            b_copy: std::ptr::null_mut(),
                            c: to.add(row * COLUMNS + column),
                            c_row: COLUMNS,
                            tail: V::LANES,
                            accumulate: self.lines.start > 0,
                            bias: std::ptr::null(),
                            finish: None,
                            ahead: Ahead::NOTHING,
                        };
                        V::TILES[height - 1][vectors - 1].run(V::LANES, &tile);
                        row += height;
                    }
                    column += vectors * V::LANES;
                }
            }
            if self.lines.end < gradient.lines {
                return;
            }
            let mut taps = [T::ZERO; 9 * UNIT];
            let taps = taps.as_mut_ptr();
            for row in 0..rows {
                for lane in (0..columns).step_by(V::LANES) {
                    let from = self.sums.add(row * COLUMNS + lane);
                    scheme::taps::<V, Four>(
                        |product| V::load(from.add(product * ROWS * COLUMNS)),
                        |tap, value| value.store(taps.add(tap * V::LANES)),
                    );
                    let to = ((self.row + row) * channels + self.column + lane) * 9;
                    transpose(taps, V::LANES, 9, V::LANES.min(columns - lane), self.job.dw.add(to), 9);
                }
            }
        }
    }
}
