//! Vectors of one instruction set each, and code that is compiled once for every set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::Tier;
use crate::gemm::tile::TileFunctions;

/// A vector register. All functions are inlined into a [`Kernel`] that was entered through [`Lanes::dispatch`].
///
/// # Safety
/// All functions require that the processor has the vector's instruction set; loads and stores that the pointer be
/// valid for all lanes, or for the lanes of the mask, with any alignment of the pointer.
pub trait Vector: Copy + 'static {
    /// The type of a lane.
    type Item: crate::Element;
    /// Some lanes of a vector.
    type Mask: Copy;
    /// The number of lanes.
    const LANES: usize;
    /// Rows of the largest tile of a matrix product.
    const ROWS: usize;
    /// Vectors in a row of the largest tile of a matrix product.
    const VECTORS: usize;
    /// The tile kernels, by rows - 1 and vectors - 1; with few rows they have more vectors than `VECTORS`.
    const TILES: &'static [&'static [TileFunctions<Self::Item>]];

    unsafe fn zero() -> Self;
    unsafe fn splat(value: Self::Item) -> Self;
    unsafe fn load(from: *const Self::Item) -> Self;
    unsafe fn store(self, to: *mut Self::Item);
    /// The first `count` lanes, `count <= LANES`.
    unsafe fn mask(count: usize) -> Self::Mask;
    /// Loads the lanes of the mask, and zeros elsewhere.
    unsafe fn load_masked(from: *const Self::Item, mask: Self::Mask) -> Self;
    /// Stores the first `count` lanes, `count <= LANES`. (Not lanes of a mask, which Zen processors with AVX2 store slowly.)
    unsafe fn store_first(self, to: *mut Self::Item, count: usize);
    /// Stores the first `count` lanes of the upper half, `count <= LANES / 2`.
    unsafe fn store_upper(self, to: *mut Self::Item, count: usize);
    unsafe fn multiply(self, factor: Self) -> Self;
    /// `self * factor + addend`, fused where the instruction set can.
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    /// `bound` where a lane is less than that; NaN stays.
    unsafe fn at_least(self, bound: Self) -> Self;
    /// `bound` where a lane is greater than that; NaN stays.
    unsafe fn at_most(self, bound: Self) -> Self;
    /// The sum of the lanes, in a fixed order.
    unsafe fn sum(self) -> Self::Item;
    /// The lanes from `first` up to before `end`, `first <= end <= LANES`.
    unsafe fn mask_between(first: usize, end: usize) -> Self::Mask;
    /// The lanes whose bits are set, the first lane's being the lowest.
    unsafe fn mask_of(bits: u32) -> Self::Mask;
    /// The lanes of `other` where the mask has them, of this elsewhere.
    unsafe fn blend(self, other: Self, mask: Self::Mask) -> Self;
    /// Every second lane of two vectors, beginning with the first.
    unsafe fn even(low: Self, high: Self) -> Self;
    /// Every second lane of two vectors, beginning with the second.
    unsafe fn odd(low: Self, high: Self) -> Self;
    /// The lanes of two vectors in turn.
    unsafe fn interleaved(first: Self, second: Self) -> [Self; 2];
    /// The lanes moved up by one, behind this one.
    unsafe fn preceded_by(self, first: Self::Item) -> Self;
    /// The lanes moved down by one, before this one.
    unsafe fn followed_by(self, last: Self::Item) -> Self;
    /// Every second element of the `2 * LANES - 1` at `from`, beginning with the first.
    #[inline(always)]
    unsafe fn load_even(from: *const Self::Item) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let high = Self::load_masked(from.add(Self::LANES), Self::mask(Self::LANES - 1));
            Self::even(Self::load(from), high)
        }
    }
}

/// Code to be compiled for every instruction set. `call` must be `#[inline(always)]`.
pub trait Kernel<T> {
    /// Runs the code.
    ///
    /// # Safety
    /// Whatever the kernel asks for; and the processor must have the vector's instruction set.
    unsafe fn call<V: Vector<Item = T>>(self);
}

/// Asks for a cache line that will be read soon; any address will do.
#[inline(always)]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect on the program, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for a cache line that will be read or written at once; any address will do.
#[inline(always)]
pub fn prefetch_near(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect on the program, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Entry into code for a tier; the vectors of an element type.
pub trait Lanes: Sized {
    /// Runs `kernel` with the vectors of `tier`.
    ///
    /// # Safety
    /// Whatever the kernel asks for; and the processor must have the tier.
    unsafe fn dispatch<K: Kernel<Self>>(tier: Tier, kernel: K);

    /// Writes the transpose of a block of 4 by 4: `to[j * to_row + i] = from[i][j]`.
    ///
    /// # Safety
    /// The pointers must be valid for the elements named.
    unsafe fn transpose4(from: [*const Self; 4], to: *mut Self, to_row: usize);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose4_f32(from: [*const f32; 4], to: *mut f32, to_row: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise; SSE is part of x86-64.
    unsafe {
        let mut rows: [__m128; 4] = from.map(|line| _mm_loadu_ps(line));
        let [r0, r1, r2, r3] = &mut rows;
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        for (j, row) in rows.into_iter().enumerate() {
            _mm_storeu_ps(to.add(j * to_row), row);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose4_f64(from: [*const f64; 4], to: *mut f64, to_row: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise; SSE2 is part of x86-64.
    unsafe {
        for j in [0, 2] {
            let [a, b, c, d] = from.map(|line| _mm_loadu_pd(line.add(j)));
            let (first, second) = (to.add(j * to_row), to.add((j + 1) * to_row));
            _mm_storeu_pd(first, _mm_unpacklo_pd(a, b));
            _mm_storeu_pd(first.add(2), _mm_unpacklo_pd(c, d));
            _mm_storeu_pd(second, _mm_unpackhi_pd(a, b));
            _mm_storeu_pd(second.add(2), _mm_unpackhi_pd(c, d));
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
use {transpose4_any as transpose4_f32, transpose4_any as transpose4_f64};

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn transpose4_any<T: Copy>(from: [*const T; 4], to: *mut T, to_row: usize) {
    for (i, line) in from.into_iter().enumerate() {
        for j in 0..4 {
            // SAFETY: the caller's promise.
            unsafe { *to.add(j * to_row + i) = *line.add(j) };
        }
    }
}

macro_rules! lanes {
    ($item:ty, $avx512:ty, $avx2:ty, $portable:ty, $transpose4:path) => {
        impl Lanes for $item {
            #[inline]
            unsafe fn dispatch<K: Kernel<Self>>(tier: Tier, kernel: K) {
                // SAFETY: the caller's promise.
                unsafe {
                    match tier {
                        #[cfg(target_arch = "x86_64")]
                        Tier::Avx512 => avx512::enter::<$avx512, K>(kernel),
                        #[cfg(target_arch = "x86_64")]
                        Tier::Avx2 => avx2::enter::<$avx2, K>(kernel),
                        _ => kernel.call::<$portable>(),
                    }
                }
            }

            #[inline(always)]
            unsafe fn transpose4(from: [*const Self; 4], to: *mut Self, to_row: usize) {
                // SAFETY: the caller's promise.
                unsafe { $transpose4(from, to, to_row) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
lanes!(f32, avx512::F32x16, avx2::F32x8, portable::F32x4, transpose4_f32);
#[cfg(target_arch = "x86_64")]
lanes!(f64, avx512::F64x8, avx2::F64x4, portable::F64x2, transpose4_f64);
#[cfg(not(target_arch = "x86_64"))]
lanes!(f32, (), (), portable::F32x4, transpose4_f32);
#[cfg(not(target_arch = "x86_64"))]
lanes!(f64, (), (), portable::F64x2, transpose4_f64);

#[cfg(test)]
mod tests;
