//! What the tests share.

use crate::Element;

/// Elements that can be made and read as `f64`.
pub trait Numbers: Element {
    /// The nearest element.
    fn from_f64(value: f64) -> Self;
    /// The value.
    fn to_f64(self) -> f64;
    /// The relative rounding error.
    const EPSILON: f64;

    /// `count` numbers in -1..1, the same for the same seed.
    fn sequence(count: usize, seed: u64) -> Vec<Self> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            Self::from_f64((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
        };
        (0..count).map(|_| next()).collect()
    }
}

impl Numbers for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Numbers for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// Whether `value` is `expected` up to the rounding of a sum of `terms` products of numbers in -1..1.
pub fn close<T: Numbers>(value: T, expected: f64, terms: usize) -> bool {
    (value.to_f64() - expected).abs() <= T::EPSILON * (0.5 * terms as f64 + 4.0 + 2.0 * expected.abs())
}

/// An epilogue that adds a number of its own to each element: of its batch, row and column.
pub unsafe extern "C" fn plus_place(
    tile: *mut f32,
    row_stride: usize,
    rows: usize,
    columns: usize,
    batch: usize,
    row0: usize,
    column0: usize,
    _: *const *mut u8,
) {
    for i in 0..rows {
        for j in 0..columns {
            let place = batch * 70_000 + (row0 + i) * 500 + column0 + j;
            // SAFETY: within the tile.
            unsafe { *tile.add(i * row_stride + j) += place as f32 };
        }
    }
}
