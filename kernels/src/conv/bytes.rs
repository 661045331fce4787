//! Forward convolutions whose weights are whole numbers of eight bits: those of quantized models.
//!
//! As in products with [`PackedOperand::Bytes`], sums are integers where the input is whole as well, and within a byte of
//! its least number: the input less that number is unsigned bytes, four of which an instruction multiplies with four weights
//! and adds to a sum of 32 bits. Here the four are channels, and lanes run along positions. So a place in an image has four
//! channels in one element of 32 bits, and otherwise such images are laid out, and their patches found, like those of `f32`.
//! Zeros around an image are the byte that stands for zero; the least number times the sum of the weights of a channel is
//! added at the end. Where the input has other numbers, or the processor lacks the instruction, the weights become floats.
//! Which of the two it is, all of the input tells, so no result depends on how work is divided.

#[cfg(target_arch = "x86_64")]
mod integers;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile;

use super::implicit::{self, Implicit};
use super::shape::Shape;
use super::{Conv, ConvForm, few};
use crate::element::Shared;
use crate::gemm::has_byte_products;
use crate::{Element, Epilogue, PackedOperand, Team, Tier};

/// Channels of the input side by side.
const TOGETHER: usize = 4;
/// Channels of the output side by side in the packed weights.
const TILE_ROWS: usize = 8;
/// Fewer channels of the output are not worth making bytes of the input, with several taps and with one; nor are shorter sums.
const FEWEST_ROWS: usize = 8;
const FEWEST_ROWS_OF_POINTS: usize = 24;
const SHORTEST: usize = 32;
/// Panels of longer sums would not stay in the second-level cache.
const LONGEST: usize = 9 << 10;
/// Elements in a row of the widest panel.
const WIDEST_PANEL: usize = 64;
/// Channels of an image whose range is found at a time.
const RANGE_CHUNK: usize = 8;

/// Where things are in scratch memory, in bytes.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub struct Layout {
    /// The range of some channels at a time.
    ranges: usize,
    /// Offsets of the taps.
    offsets: usize,
    /// The input as bytes.
    planes: usize,
    /// Of each worker: a channel as bytes in the order of the input, or a panel of patches.
    own: usize,
    own_each: usize,
    /// Instead: the weights as floats, at the beginning, and from here on what a convolution with these needs.
    others: usize,
    /// Bytes in all.
    pub total: usize,
}

/// Groups of channels of the input.
fn quads(conv: &Conv) -> usize {
    conv.in_channels.div_ceil(TOGETHER)
}

/// Groups of terms in a sum.
fn terms(conv: &Conv) -> usize {
    quads(conv) * conv.kernel.iter().product::<usize>()
}

/// Channels of the output with those that are missing in the last tile.
fn rows(conv: &Conv) -> usize {
    conv.out_channels.next_multiple_of(TILE_ROWS)
}

impl Conv {
    /// Whether it pays to keep the weights of a forward convolution, which never change, as bytes.
    pub fn prefers_bytes(&self, weights: &[f32]) -> bool {
        let taps = self.kernel.iter().product::<usize>();
        let sum = self.in_channels * taps;
        let is_byte = |x: &f32| f32::from(*x as i8) == *x;
        !self.is_degenerate()
            && self.groups == 1
            && self.out_channels >= if taps > 1 { FEWEST_ROWS } else { FEWEST_ROWS_OF_POINTS }
            && (SHORTEST..=LONGEST).contains(&sum)
            && few::Problem::new(self, ConvForm::Forward).is_none()
            && Tier::current() == Tier::Avx512
            && has_byte_products()
            && weights.iter().all(is_byte)
            // Zeros and ones are of filters that select and add up, seldom whole numbers.
            && weights.iter().any(|x| x.abs() > 1.0)
    }

    /// The bytes of weights as bytes.
    pub fn bytes_elements(&self) -> usize {
        rows(self) * (terms(self) + 1) * TOGETHER
    }

    /// Packs weights whose numbers fit, for a convolution with [`PackedOperand::Bytes`]; `packed` should begin with a cache
    /// line. Panics where a length does not fit.
    ///
    /// For each tile of rows and each group of four channels and each tap, the bytes of all rows; then the sums of all rows.
    pub fn pack_bytes(&self, weights: &[f32], packed: &mut [i8]) {
        assert_eq!(packed.len(), self.bytes_elements(), "the packed weights have their size");
        let taps = self.kernel.iter().product::<usize>();
        let tile_bytes = terms(self) * TILE_ROWS * TOGETHER;
        let (tiles, sums) = packed.split_at_mut(rows(self) * terms(self) * TOGETHER);
        let mut sums = sums.chunks_exact_mut(size_of::<i32>());
        for (tile, bytes) in tiles.chunks_exact_mut(tile_bytes).enumerate() {
            let mut totals = [0i32; TILE_ROWS];
            for (at, byte) in bytes.iter_mut().enumerate() {
                let (term, row, within) =
                    (at / (TILE_ROWS * TOGETHER), at / TOGETHER % TILE_ROWS, at % TOGETHER);
                let (output, input) = (tile * TILE_ROWS + row, term / taps * TOGETHER + within);
                *byte = match output < self.out_channels && input < self.in_channels {
                    true => weights[(output * self.in_channels + input) * taps + term % taps] as i8,
                    false => 0,
                };
                totals[row] += i32::from(*byte);
            }
            for (total, place) in totals.iter().zip(&mut sums) {
                place.copy_from_slice(&total.to_ne_bytes().map(|byte| byte as i8));
            }
        }
    }

    /// The convolution with weights as they were.
    fn with_floats(&self) -> Conv {
        Conv { packed: PackedOperand::No, ..*self }
    }
}

impl Layout {
    pub fn new(conv: &Conv, threads: usize) -> Layout {
        let shape = Shape::new(conv, ConvForm::Forward);
        let element = size_of::<f32>();
        let panel = terms(conv) * WIDEST_PANEL;
        let plane = conv.input.iter().product::<usize>();
        let own_each = (panel.max(plane) * element).next_multiple_of(64);
        let mut end = 0;
        let mut take = |bytes: usize| {
            end += bytes.next_multiple_of(64);
            end - bytes.next_multiple_of(64)
        };
        let ranges = take(conv.batch * conv.in_channels.div_ceil(RANGE_CHUNK) * size_of::<[f32; 2]>());
        let offsets = take(shape.taps() * size_of::<usize>());
        let planes = take(conv.batch * quads(conv) * shape.source.channel * element);
        let own = take(own_each * threads);
        let in_integers = end;
        // Nothing of these is needed at the same time.
        let weights = conv.out_channels * conv.in_channels * shape.taps() * element;
        let others = weights.next_multiple_of(64);
        let implicit =
            |threads| implicit::Layout::new::<f32>(&shape, ConvForm::Forward, false, threads).total;
        // A smaller team may divide the work in a way that takes more memory.
        let in_floats = others + (1..=threads).map(implicit).max().unwrap_or(0);
        Layout { ranges, offsets, planes, own, own_each, others, total: in_integers.max(in_floats) + 64 }
    }
}

/// One call.
pub struct Bytes<'a, T> {
    pub conv: Conv,
    pub layout: Layout,
    pub tier: Tier,
    pub team: &'a Team,
    pub source: *const T,
    /// What [`Conv::pack_bytes`] wrote.
    pub weights: *const i8,
    pub target: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    /// Begins with a cache line.
    pub scratch: *mut u8,
}

impl<T: Element> Bytes<'_, T> {
    /// Computes the whole target.
    ///
    /// # Safety
    /// As for [`Conv::forward`].
    pub unsafe fn run(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if size_of::<T>() == size_of::<f32>()
                && self.tier == Tier::Avx512
                && has_byte_products()
                && self.in_integers()
            {
                return;
            }
            self.in_floats();
        }
    }

    fn at<P>(&self, offset: usize) -> *mut P {
        self.scratch.wrapping_add(offset).cast()
    }

    /// The convolution with weights that are floats again.
    unsafe fn in_floats(&self) {
        let Bytes { tier, team, source, target, epilogue, .. } = *self;
        let conv = self.conv.with_floats();
        let (taps, terms) = (conv.kernel.iter().product::<usize>(), terms(&conv));
        let weights = self.at::<T>(0);
        let job = Shared(&raw const *self);
        let to = Shared(weights.cast_const());
        // SAFETY: the scratch memory has room for all weights; every row belongs to one thread.
        team.run(conv.out_channels, &|row, _| unsafe {
            let bytes = (*job.get()).weights.add(row / TILE_ROWS * terms * TILE_ROWS * TOGETHER);
            let to = to.get().cast_mut().add(row * conv.in_channels * taps);
            for channel in 0..conv.in_channels {
                for tap in 0..taps {
                    let term = channel / TOGETHER * taps + tap;
                    let at = (term * TILE_ROWS + row % TILE_ROWS) * TOGETHER + channel % TOGETHER;
                    *to.add(channel * taps + tap) = T::rounded(f64::from(*bytes.add(at)));
                }
            }
        });
        let shape = Shape::new(&conv, ConvForm::Forward);
        let layout = implicit::Layout::new::<T>(&shape, ConvForm::Forward, false, team.threads());
        let scratch = self.at(self.layout.others);
        let (packed, weights) = (false, weights.cast_const());
        let job = Implicit { shape, layout, tier, team, source, weights, packed, target, epilogue, scratch };
        // SAFETY: the caller's promise.
        unsafe { job.run(&conv) }
    }
}
