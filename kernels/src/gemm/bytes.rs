//! Right operands of whole numbers of eight bits: the weights of quantized models.
//!
//! They are kept as bytes, a quarter of their size. Where the numbers of A are whole as well, and small enough, products
//! are computed in integers of 16 bits, two at an instruction, with sums of 32 bits: nothing is rounded before the
//! sums become floats. Where they are not, or the processor lacks these instructions, panels become floats before they
//! are multiplied. Which of the two it is, all of A tells, so no result depends on how work is divided.
//!
//! The columns stand in panels like those of [`super::packed`], with two rows side by side: for each two rows and each
//! column, a byte of either. Columns and rows that are missing are zeros.

use super::pack::Panels;
use super::packed::{panel_columns, row_length};
use super::{Gemm, Job};
use crate::simd::Vector;
use crate::{Element, Tier};
use std::ops::Range;

/// Fewer columns, or shorter sums, are not worth it.
const FEWEST: usize = 16;
/// Rows of a tile.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 8;

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
        let start = self.data.wrapping_add(column * self.rows.next_multiple_of(2));
        (start, row_length::<f32>(self.columns, column))
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
            let from = panel.wrapping_add(at / 2 * 2 * length + 2 * (column % COLUMNS) + at % 2);
            for lane in 0..padded {
                // SAFETY: within the panel, and within `out`.
                unsafe {
                    let value = if lane < width { f64::from(*from.add(2 * lane)) } else { 0.0 };
                    *out.add(row * padded + lane) = T::rounded(value);
                }
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
        let is_byte = |x: &f32| *x == x.trunc() && (-128.0..=127.0).contains(x);
        one && self.n >= FEWEST
            && self.k >= FEWEST
            && Tier::current() == Tier::Avx512
            && has_instructions()
            && b.iter().all(is_byte)
            // Zeros and ones are of matrices that select and add up, seldom whole numbers.
            && b.iter().any(|x| x.abs() > 1.0)
    }

    /// The bytes of B as bytes.
    pub fn bytes_elements(&self) -> usize {
        let whole = self.n / COLUMNS * COLUMNS;
        let last = if whole < self.n { row_length::<f32>(self.n, whole) } else { 0 };
        self.k.next_multiple_of(2) * (whole + last)
    }

    /// Packs B, whose strides are those of the problem and whose numbers fit, for a problem with [`super::PackedB::Bytes`].
    /// Panics where `b` is too short, or `packed` has not [`Gemm::bytes_elements`].
    pub fn pack_bytes(&self, b: &[f32], packed: &mut [i8]) {
        assert_eq!(packed.len(), self.bytes_elements(), "the packed matrix has its size");
        packed.fill(0);
        let [_, row, column] = self.b_strides;
        for j in 0..self.n {
            let start = j / COLUMNS * COLUMNS;
            let length = row_length::<f32>(self.n, start);
            let panel = &mut packed[start * self.k.next_multiple_of(2)..];
            for i in 0..self.k {
                let from = i as isize * row + j as isize * column;
                panel[i / 2 * 2 * length + 2 * (j - start) + i % 2] = b[from as usize] as i8;
            }
        }
    }
}

/// Elements of `T` that hold A as pairs of 16 bits.
pub(super) const fn pairs_elements<T>(gemm: &Gemm) -> usize {
    (gemm.batch * gemm.m * gemm.k.div_ceil(2) * size_of::<i32>()).div_ceil(size_of::<T>())
}

/// Whether the processor multiplies pairs of 16 bits and adds them up in one instruction.
fn has_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Writes the rows of A as pairs of 16 bits, if all of its numbers are whole and so small that no sum is too large.
///
/// # Safety
/// `a` must be valid for the A of the problem, `pairs` for its pairs, and the processor must have the instructions.
unsafe fn as_pairs(gemm: &Gemm, a: *const f32, pairs: *mut i16) -> bool {
    let Gemm { batch, group, group_strides, m, k, a_strides: [inner, a_row, a_column], .. } = *gemm;
    let most = (f64::from(i32::MAX) / 128.0 / k as f64).min(f64::from(i16::MAX)) as f32;
    (0..batch * m).all(|row| {
        let (batch, within) = (row / m, (row % m) as isize);
        let product = (batch / group) as isize * group_strides[0] + (batch % group) as isize * inner;
        // SAFETY: the caller's promise.
        unsafe {
            let from = a.offset(product + within * a_row);
            let to = pairs.add(row * k.next_multiple_of(2));
            if k % 2 == 1 {
                *to.add(k) = 0;
            }
            #[cfg(target_arch = "x86_64")]
            if a_column == 1 {
                return row_as_pairs(from, k, most, to);
            }
            (0..k).all(|i| {
                let x = *from.offset(i as isize * a_column);
                *to.add(i) = x as i16;
                x.trunc() == x && x.abs() <= most
            })
        }
    })
}

/// As [`as_pairs`], adjacent numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn row_as_pairs(from: *const f32, k: usize, most: f32, to: *mut i16) -> bool {
    use std::arch::x86_64::*;
    let most = _mm512_set1_ps(most);
    for at in (0..k).step_by(16) {
        let mask = ((1u32 << (k - at).min(16)) - 1) as __mmask16;
        // SAFETY: the caller's promise.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask, from.add(at));
            let whole = _mm512_cvttps_epi32(x);
            let is_whole = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(_mm512_cvtepi32_ps(whole), x);
            let is_small = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(_mm512_abs_ps(x), most);
            if is_whole & is_small != !0 {
                return false;
            }
            _mm256_mask_storeu_epi16(to.add(at), mask, _mm512_cvtepi32_epi16(whole));
        }
    }
    true
}

impl<T: Element> Job<T> {
    /// Writes A as pairs into the scratch memory in common, where products can be computed in integers.
    pub(super) unsafe fn convert_rows(&mut self) {
        let fits = size_of::<T>() == size_of::<f32>() && self.tier == Tier::Avx512 && has_instructions();
        // SAFETY: elements of this size are `f32`; the scratch memory was measured for the pairs; the processor was asked.
        self.is_whole = fits && unsafe { as_pairs(&self.problem, self.a.cast(), self.scratch.cast()) };
    }

    /// Some rows and columns, which begin with a panel, in integers.
    pub(super) unsafe fn in_integers(&self, b: &Bytes, [rows, columns]: [Range<usize>; 2], batch: usize) {
        let Gemm { m, k, c_batch_stride, c_row_stride, accumulate, .. } = self.problem;
        let length = k.div_ceil(2);
        let pairs = self.scratch.cast_const().cast::<i32>();
        for column in columns.clone().step_by(COLUMNS) {
            let (panel, padded) = b.panel(column);
            let width = padded.min(columns.end - column);
            let mut row = rows.start;
            while row < rows.end {
                // SAFETY: the caller's promise.
                unsafe {
                    let c = self.c.add(batch * c_batch_stride + row * c_row_stride + column);
                    let tile = Tile {
                        length,
                        pairs: pairs.add((batch * m + row) * length),
                        panel,
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

/// Some rows and the columns of a panel.
struct Tile {
    /// Pairs of a row of A.
    length: usize,
    pairs: *const i32,
    panel: *const i8,
    /// Vectors of sixteen columns.
    vectors: usize,
    c: *mut f32,
    c_row: usize,
    width: usize,
    accumulate: bool,
    bias: *const f32,
}

#[cfg(not(target_arch = "x86_64"))]
impl Tile {
    unsafe fn run(&self, _rows: usize) -> usize {
        unreachable!("no such processor has the instructions")
    }
}

#[cfg(target_arch = "x86_64")]
impl Tile {
    /// Computes as many rows as a tile has, of these at most, and returns how many.
    ///
    /// # Safety
    /// The operands must be valid, and the processor must have the instructions.
    unsafe fn run(&self, rows: usize) -> usize {
        macro_rules! of_rows {
            ($($rows:literal),*) => {
                match (rows.min(ROWS), self.vectors) {
                    $(
                        ($rows, 1) => self.sums::<$rows, 1>(),
                        ($rows, 2) => self.sums::<$rows, 2>(),
                        ($rows, _) => self.sums::<$rows, 3>(),
                    )*
                    _ => unreachable!("a tile has 1 to 8 rows"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { of_rows!(1, 2, 3, 4, 5, 6, 7, 8) }
        rows.min(ROWS)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn sums<const R: usize, const N: usize>(&self) {
        use std::arch::x86_64::*;
        // Sums of few rows wait for each other: then even and odd pairs have sums of their own.
        const { assert!(R >= 1 && R <= ROWS && N >= 1 && N <= 3) };
        let mut sums = [[_mm512_setzero_si512(); N]; R];
        let mut odd = [[_mm512_setzero_si512(); N]; R];
        let at_once = if R <= 2 { 2 } else { 1 };
        let mut at = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while at + at_once <= self.length {
                add::<R, N>(self, at, &mut sums);
                if R <= 2 {
                    add::<R, N>(self, at + 1, &mut odd);
                }
                at += at_once;
            }
            if at < self.length {
                add::<R, N>(self, at, &mut sums);
            }
            for (row, (sums, odd)) in sums.into_iter().zip(odd).enumerate() {
                for (vector, (even, odd)) in sums.into_iter().zip(odd).enumerate() {
                    let left = self.width.saturating_sub(16 * vector).min(16);
                    let mask = ((1u32 << left) - 1) as __mmask16;
                    let c = self.c.add(row * self.c_row + 16 * vector);
                    let mut value = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                    if self.accumulate {
                        value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), value);
                    }
                    if !self.bias.is_null() {
                        value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, self.bias.add(16 * vector)));
                    }
                    _mm512_mask_storeu_ps(c, mask, value);
                }
            }
        }

        /// Adds the products of one pair of terms.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn add<const R: usize, const N: usize>(tile: &Tile, at: usize, sums: &mut [[__m512i; N]; R]) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = tile.panel.add(at * 32 * N);
                let b: [__m512i; N] = std::array::from_fn(|vector| {
                    _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.add(32 * vector).cast()))
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_epi32(*tile.pairs.add(row * tile.length + at));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_dpwssd_epi32(*sum, a, b);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
