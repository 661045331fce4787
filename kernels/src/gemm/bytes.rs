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

use super::pack::Panels;
use super::packed::{panel_columns, row_length};
use super::{Gemm, Job};
use crate::simd::Vector;
use crate::{Element, Tier};
use std::ops::Range;

/// Fewer columns, or shorter sums, are not worth it.
const FEWEST: usize = 16;
/// Longer sums might not fit.
const LONGEST: usize = 1 << 16;
/// Rows of B side by side.
const TOGETHER: usize = 4;
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
            let from = panel.wrapping_add(group * length + TOGETHER * (column % COLUMNS) + within);
            for lane in 0..padded {
                // SAFETY: within the panel, and within `out`.
                unsafe {
                    let value = if lane < width { f64::from(*from.add(TOGETHER * lane)) } else { 0.0 };
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
        let is_byte = |x: &f32| f32::from(*x as i8) == *x;
        one && self.n >= FEWEST
            && (FEWEST..=LONGEST).contains(&self.k)
            && Tier::current() == Tier::Avx512
            && has_instructions()
            && b.iter().all(is_byte)
            // Zeros and ones are of matrices that select and add up, seldom whole numbers.
            && b.iter().any(|x| x.abs() > 1.0)
    }

    /// The bytes of B as bytes.
    pub fn bytes_elements(&self) -> usize {
        padded(self.n) * (self.k.next_multiple_of(TOGETHER) + size_of::<i32>())
    }

    /// Packs B, whose strides are those of the problem and whose numbers fit, for a problem with [`super::PackedB::Bytes`];
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
fn has_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Writes the rows of A as bytes, and before them the least number of each row, if all of its numbers are whole, close
/// together, and so small that no sum is too large.
///
/// # Safety
/// `a` must be valid for the A of the problem, `out` for [`rows_elements`], and the processor must have the instructions.
#[cfg(target_arch = "x86_64")]
unsafe fn as_bytes(gemm: &Gemm, a: *const f32, out: *mut i32) -> bool {
    let Gemm { batch, group, group_strides, m, k, a_strides: [inner, a_row, a_column], .. } = *gemm;
    let most = f64::from(i32::MAX) / 128.0 / k as f64 - 255.0;
    (0..batch * m).all(|row| {
        let (batch, within) = (row / m, (row % m) as isize);
        let product = (batch / group) as isize * group_strides[0] + (batch % group) as isize * inner;
        // SAFETY: the caller's promise.
        unsafe {
            let from = a.offset(product + within * a_row);
            let to = out.add(gemm.batch * m + row * k.div_ceil(TOGETHER)).cast::<u8>();
            to.cast::<i32>().add(k.div_ceil(TOGETHER) - 1).write(0);
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            let is_whole = match a_column {
                1 => row_range(from, k, &mut low, &mut high),
                _ => (0..k).all(|i| {
                    let x = *from.offset(i as isize * a_column);
                    (low, high) = (low.min(x), high.max(x));
                    x.trunc() == x
                }),
            };
            if !is_whole || high - low > 255.0 || f64::from(low.abs()) > most {
                return false;
            }
            *out.add(row) = low as i32;
            match a_column {
                1 => row_as_bytes(from, k, low, to),
                _ => (0..k).for_each(|i| *to.add(i) = (*from.offset(i as isize * a_column) - low) as u8),
            }
            true
        }
    })
}

/// The least and the greatest of some adjacent numbers, and whether all are whole.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn row_range(from: *const f32, k: usize, least: &mut f32, greatest: &mut f32) -> bool {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    let number = |at: usize| unsafe { _mm512_maskz_loadu_ps(mask(k - at), from.add(at)) };
    let (mut low, mut high) = (_mm512_set1_ps(f32::INFINITY), _mm512_set1_ps(f32::NEG_INFINITY));
    let mut all_whole = !0;
    for at in (0..k).step_by(16) {
        let x = number(at);
        let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x);
        all_whole &= _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(whole, x);
        low = _mm512_mask_min_ps(low, mask(k - at), low, x);
        high = _mm512_mask_max_ps(high, mask(k - at), high, x);
    }
    (*least, *greatest) = (_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high));
    all_whole == !0
}

/// Writes some adjacent whole numbers, less the least, as bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn row_as_bytes(from: *const f32, k: usize, least: f32, to: *mut u8) {
    use std::arch::x86_64::*;
    let least = _mm512_set1_ps(least);
    for at in (0..k).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask(k - at), from.add(at));
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(_mm512_sub_ps(x, least)));
            _mm_mask_storeu_epi8(to.add(at).cast(), mask(k - at), bytes);
        }
    }
}

/// The first lanes, as many as are left.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn mask(left: usize) -> u16 {
    ((1u32 << left.min(16)) - 1) as u16
}

impl<T: Element> Job<T> {
    /// Writes A as bytes into the scratch memory in common, where products can be computed in integers.
    pub(super) unsafe fn convert_rows(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if size_of::<T>() == size_of::<f32>() && self.tier == Tier::Avx512 && has_instructions() {
            // SAFETY: elements of this size are `f32`; the scratch memory was measured; the processor was asked.
            self.is_whole = unsafe { as_bytes(&self.problem, self.a.cast(), self.scratch.cast()) };
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

/// Some rows and the columns of a panel.
struct Tile {
    /// Groups of bytes in a row of A.
    length: usize,
    /// The first row.
    a: *const i32,
    /// What was taken from the numbers of each row.
    least: *const i32,
    panel: *const i8,
    column_sums: *const i32,
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
        // Sums of few rows wait for each other: then even and odd groups have sums of their own.
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
                let least = _mm512_set1_epi32(*self.least.add(row));
                for (vector, (even, odd)) in sums.into_iter().zip(odd).enumerate() {
                    let mask = mask(self.width.saturating_sub(16 * vector));
                    let of_least = _mm512_loadu_si512(self.column_sums.add(16 * vector).cast());
                    let of_least = _mm512_mullo_epi32(least, of_least);
                    let c = self.c.add(row * self.c_row + 16 * vector);
                    let sum = _mm512_add_epi32(_mm512_add_epi32(even, odd), of_least);
                    let mut value = _mm512_cvtepi32_ps(sum);
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

        /// Adds the products of one group of terms.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn add<const R: usize, const N: usize>(tile: &Tile, at: usize, sums: &mut [[__m512i; N]; R]) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = tile.panel.add(at * 64 * N);
                let b: [__m512i; N] =
                    std::array::from_fn(|vector| _mm512_loadu_si512(from.add(64 * vector).cast()));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_epi32(*tile.a.add(row * tile.length + at));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_dpbusd_epi32(*sum, a, b);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
