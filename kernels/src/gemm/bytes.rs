//! Right operands of whole numbers of eight bits: the weights of quantized models.
//!
//! They are kept as bytes, a quarter of their size. Where the numbers of A are whole as well, and those of a row lie close
//! together, as quantized ones do, products are computed in integers: a row of A without its least number is a row of
//! unsigned bytes, four of which an instruction multiplies with four of a column of B and adds to a sum of 32 bits. The
//! least number times the sum of the column is added at the end. Nothing is rounded before the sums become floats.
//! Where A has other numbers, or the processor lacks the instruction, panels become floats before they are multiplied.
//! Which of the two it is, all of A tells, so no result depends on how work is divided.
//!
//! The columns stand in panels like those of [`super::packed`], with four rows side by side: for each four rows and each
//! column, a byte of each. Columns and rows that are missing are zeros. Behind the panels stand the sums of the columns.

#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(target_arch = "x86_64")]
pub(crate) use rows::range_of_row;
#[cfg(test)]
mod tests;
mod tile;

use super::pack::Panels;
use super::packed::{panel_columns, row_length};
use super::{Gemm, Job};
use crate::simd::Vector;
use crate::{Element, Tier};
use std::ops::Range;
use tile::Tile;
#[cfg(target_arch = "x86_64")]
pub(crate) use tile::mask;

/// Fewer columns, or shorter sums, are not worth it.
const FEWEST: usize = 16;
/// Longer sums might not fit.
const LONGEST: usize = 1 << 16;
/// Rows of B side by side.
const TOGETHER: usize = 4;
/// Columns of a panel.
pub(super) const COLUMNS: usize = panel_columns::<f32>();

/// A packed matrix of bytes.
pub(super) struct Bytes {
    /// The first panel.
    pub data: *const i8,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
}

impl Bytes {
    /// Where the panel that begins at a column is, and how many columns it has, the missing ones included.
    #[inline(always)]
    fn panel(&self, column: usize) -> (*const i8, usize) {
        let start = self.data.wrapping_add(column * self.rows.next_multiple_of(TOGETHER));
        (start, row_length::<f32>(self.columns, column))
    }

    /// The sums of the columns.
    #[inline(always)]
    fn sums(&self) -> *const i32 {
        self.data.wrapping_add(self.rows.next_multiple_of(TOGETHER) * padded(self.columns)).cast()
    }
}

impl<T: Element> Panels<T> for Bytes {
    #[inline(always)]
    unsafe fn pack<V: Vector<Item = T>>(
        &self,
        column: usize,
        width: usize,
        padded: usize,
        first: usize,
        rows: usize,
        out: *mut T,
    ) {
        let (panel, length) = self.panel(column / COLUMNS * COLUMNS);
        for row in 0..rows {
            let at = first + row;
            let (group, within) = (at / TOGETHER * TOGETHER, at % TOGETHER);
            let groups = panel.wrapping_add(group * length + TOGETHER * (column % COLUMNS)).cast::<i32>();
            let out = out.wrapping_add(row * padded);
            // SAFETY: within the panel, and within `out`.
            unsafe {
                for lane in 0..width {
                    let bytes = i32::from_le(groups.add(lane).read_unaligned());
                    let byte = bytes << (24 - 8 * within) >> 24;
                    *out.add(lane) = T::rounded(f64::from(byte));
                }
                (width..padded).for_each(|lane| *out.add(lane) = T::ZERO);
            }
        }
    }

    #[inline(always)]
    fn in_place(&self, _row: usize, _column: usize) -> Option<(*const T, isize)> {
        None
    }
}

impl Gemm {
    /// Whether it pays to keep B, which never changes, as bytes.
    pub fn prefers_bytes(&self, b: &[f32]) -> bool {
        let one = self.batch == 1 || self.b_strides[0] == 0 && self.reduced().0.batch == 1;
        let is_byte = |x: &f32| f32::from(*x as i8) == *x;
        one && self.n >= FEWEST
            && (FEWEST..=LONGEST).contains(&self.k)
            && Tier::current() == Tier::Avx512
            && has_byte_products()
            && b.iter().all(is_byte)
            // Zeros and ones are of matrices that select and add up, seldom whole numbers.
            && b.iter().any(|x| x.abs() > 1.0)
    }

    /// The bytes of B as bytes.
    pub fn bytes_elements(&self) -> usize {
        padded(self.n) * (self.k.next_multiple_of(TOGETHER) + size_of::<i32>())
    }

    /// Packs B, whose strides are those of the problem and whose numbers fit, for a problem with [`super::PackedOperand::Bytes`];
    /// `packed` should begin with a cache line. Panics where `b` is too short, or `packed` has not
    /// [`Gemm::bytes_elements`].
    pub fn pack_bytes(&self, b: &[f32], packed: &mut [i8]) {
        assert_eq!(packed.len(), self.bytes_elements(), "the packed matrix has its size");
        let [_, row, column] = self.b_strides;
        let rows = self.k.next_multiple_of(TOGETHER);
        let (panels, sums) = packed.split_at_mut(rows * padded(self.n));
        let number = |i: usize, j: usize| match i < self.k && j < self.n {
            true => b[(i as isize * row + j as isize * column) as usize] as i8,
            false => 0,
        };
        for start in (0..self.n).step_by(COLUMNS) {
            let length = row_length::<f32>(self.n, start);
            let mut totals = [0i32; COLUMNS];
            let panel = &mut panels[start * rows..][..length * rows];
            for (group, lines) in panel.chunks_exact_mut(TOGETHER * length).enumerate() {
                let columns = lines.chunks_exact_mut(TOGETHER).zip(&mut totals);
                for (j, (bytes, total)) in columns.enumerate() {
                    for (i, byte) in bytes.iter_mut().enumerate() {
                        *byte = number(group * TOGETHER + i, start + j);
                        *total += i32::from(*byte);
                    }
                }
            }
            let places = sums[start * size_of::<i32>()..].chunks_exact_mut(size_of::<i32>());
            for (place, total) in places.zip(&totals[..length]) {
                place.copy_from_slice(&total.to_ne_bytes().map(|byte| byte as i8));
            }
        }
    }
}

/// Columns with those that are missing in the last panel.
const fn padded(columns: usize) -> usize {
    let whole = columns / COLUMNS * COLUMNS;
    whole + (columns - whole).next_multiple_of(16)
}

/// Elements of `T` that hold the rows of A as bytes, and their least numbers.
pub(super) const fn rows_elements<T>(gemm: &Gemm) -> usize {
    (gemm.batch * gemm.m * (gemm.k.div_ceil(TOGETHER) + 1) * size_of::<i32>()).div_ceil(size_of::<T>())
}

/// Whether the processor multiplies four bytes and adds them up in one instruction.
pub(crate) fn has_byte_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

impl<T: Element> Job<T> {
    /// Writes A as bytes into the scratch memory in common, where products can be computed in integers.
    pub(super) unsafe fn convert_rows(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if size_of::<T>() == size_of::<f32>() && self.tier == Tier::Avx512 && has_byte_products() {
            // SAFETY: elements of this size are `f32`; the scratch memory was measured; the processor was asked.
            self.is_whole = unsafe { rows::as_bytes(&self.problem, self.a.cast(), self.scratch.cast()) };
        }
    }

    /// Some rows and columns, which begin with a panel, in integers.
    pub(super) unsafe fn in_integers(&self, b: &Bytes, [rows, columns]: [Range<usize>; 2], batch: usize) {
        let Gemm { m, k, c_batch_stride, c_row_stride, accumulate, .. } = self.problem;
        let length = k.div_ceil(TOGETHER);
        let least = self.scratch.cast_const().cast::<i32>();
        for column in columns.clone().step_by(COLUMNS) {
            let (panel, padded) = b.panel(column);
            let width = padded.min(columns.end - column);
            let mut row = rows.start;
            while row < rows.end {
                // SAFETY: the caller's promise.
                unsafe {
                    let c = self.c.add(batch * c_batch_stride + row * c_row_stride + column);
                    let number = batch * m + row;
                    let tile = Tile {
                        length,
                        a: least.add(self.problem.batch * m + number * length),
                        least: least.add(number),
                        panel,
                        column_sums: b.sums().add(column),
                        vectors: padded / 16,
                        c: c.cast::<f32>(),
                        c_row: c_row_stride,
                        width,
                        accumulate,
                        bias: if self.bias.is_null() { self.bias } else { self.bias.add(column) }.cast(),
                    };
                    let count = tile.run(rows.end - row);
                    if let Some(epilogue) = self.epilogue {
                        let place = (self.first.0 + batch, self.first.1 + row);
                        let table = epilogue.environment;
                        (epilogue.function)(c, c_row_stride, count, width, place.0, place.1, column, table);
                    }
                    row += count;
                }
            }
        }
    }
}
