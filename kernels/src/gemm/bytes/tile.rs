//! The innermost kernel of products in integers: a tile of C in registers.

/// Rows of a tile.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 8;

/// Some rows and the columns of a panel.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) struct Tile {
    /// Groups of bytes in a row of A.
    pub length: usize,
    /// The first row.
    pub a: *const i32,
    /// What was taken from the numbers of each row.
    pub least: *const i32,
    pub panel: *const i8,
    pub column_sums: *const i32,
    /// Vectors of sixteen columns.
    pub vectors: usize,
    pub c: *mut f32,
    pub c_row: usize,
    pub width: usize,
    pub accumulate: bool,
    pub bias: *const f32,
}

#[cfg(not(target_arch = "x86_64"))]
impl Tile {
    pub unsafe fn run(&self, _rows: usize) -> usize {
        unreachable!("no such processor has the instructions")
    }
}

#[cfg(target_arch = "x86_64")]
impl Tile {
    /// Computes as many rows as a tile has, of these at most, and returns how many.
    ///
    /// # Safety
    /// The operands must be valid, and the processor must have the instructions.
    pub unsafe fn run(&self, rows: usize) -> usize {
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

/// The first lanes, as many as are left.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn mask(left: usize) -> u16 {
    ((1u32 << left.min(16)) - 1) as u16
}
