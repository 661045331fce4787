//! The innermost kernel: a tile of the target in registers.

use super::TILE_ROWS;
use crate::gemm::mask;
use std::arch::x86_64::*;

/// Eight channels of the output, and the columns of a panel.
pub(super) struct Tile {
    /// Groups of bytes in a sum.
    pub length: usize,
    /// For each group, the weights of eight rows.
    pub weights: *const i32,
    /// The sums of their weights.
    pub sums: *const i32,
    /// What was taken from the input.
    pub least: i32,
    pub panel: *const i8,
    /// Vectors of sixteen columns.
    pub vectors: usize,
    pub c: *mut f32,
    pub c_row: usize,
    /// Rows and columns in use.
    pub rows: usize,
    pub width: usize,
}

/// Repeats each of some groups of bytes as often as a tile has rows, and fills up with zeros to a whole vector.
///
/// # Safety
/// `from` must be valid for `length` elements, `to` for [`TILE_ROWS`] times as many, rounded up to an even number.
pub(super) unsafe fn spread(from: *const f32, length: usize, to: *mut f32) {
    for at in 0..length.next_multiple_of(2) {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = if at < length { *from.add(at) } else { 0.0 };
            to.add(TILE_ROWS * at).cast::<[f32; TILE_ROWS]>().write([bytes; TILE_ROWS]);
        }
    }
}

impl Tile {
    /// Computes the tile.
    ///
    /// # Safety
    /// The operands must be valid, and the processor must have the instructions.
    pub unsafe fn run(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.vectors {
                1 => self.part::<TILE_ROWS, 1>(0),
                2 => self.part::<TILE_ROWS, 2>(0),
                3 => self.part::<TILE_ROWS, 3>(0),
                _ => {
                    // All sums of eight rows would be too many for the registers.
                    self.part::<{ TILE_ROWS / 2 }, 4>(0);
                    self.part::<{ TILE_ROWS / 2 }, 4>(TILE_ROWS / 2);
                }
            }
        }
    }

    /// Computes one column of a panel that [`spread`] wrote: lanes are the rows of two groups, and no lane is idle.
    ///
    /// # Safety
    /// As for [`Tile::run`]; and what follows the weights must be readable for a group.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn column(&self) {
        let pairs = self.length.div_ceil(2);
        let mut sums = [_mm512_setzero_si512(); 4];
        // SAFETY: the caller's promise.
        unsafe {
            for pair in 0..pairs {
                let x = _mm512_loadu_si512(self.panel.add(64 * pair).cast());
                let weights = _mm512_loadu_si512(self.weights.add(2 * TILE_ROWS * pair).cast());
                // In turn, as one sum would wait for itself.
                let [next, second, third, fourth] = sums;
                sums = [second, third, fourth, _mm512_dpbusd_epi32(next, x, weights)];
            }
            let [a, b, c, d] = sums;
            let all = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
            let halves = [_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all)];
            let of_least = _mm256_loadu_si256(self.sums.cast());
            let of_least = _mm256_mullo_epi32(of_least, _mm256_set1_epi32(self.least));
            let sum = _mm256_add_epi32(_mm256_add_epi32(halves[0], halves[1]), of_least);
            let mut values = [0f32; TILE_ROWS];
            _mm256_storeu_ps(values.as_mut_ptr(), _mm256_cvtepi32_ps(sum));
            for (row, value) in values.into_iter().enumerate().take(self.rows) {
                *self.c.add(row * self.c_row) = value;
            }
        }
    }

    /// Computes `R` rows, from this one on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn part<const R: usize, const N: usize>(&self, first: usize) {
        let mut sums = [[_mm512_setzero_si512(); N]; R];
        // SAFETY: the caller's promise.
        unsafe {
            let (mut weights, mut panel) = (self.weights.add(first), self.panel);
            for _ in 0..self.length {
                let x: [__m512i; N] =
                    std::array::from_fn(|vector| _mm512_loadu_si512(panel.add(64 * vector).cast()));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let weight = _mm512_set1_epi32(*weights.add(row));
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, weight);
                    }
                }
                weights = weights.add(TILE_ROWS);
                panel = panel.add(64 * N);
            }
            let rows = self.rows.saturating_sub(first).min(R);
            for (row, sums) in sums.into_iter().enumerate().take(rows) {
                let of_least = _mm512_set1_epi32(self.least * *self.sums.add(first + row));
                for (vector, sum) in sums.into_iter().enumerate() {
                    let lanes = mask(self.width.saturating_sub(16 * vector));
                    let value = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, of_least));
                    let c = self.c.add((first + row) * self.c_row + 16 * vector);
                    _mm512_mask_storeu_ps(c, lanes, value);
                }
            }
        }
    }
}
