//! 256-bit vectors with fused multiply-add.
#![allow(clippy::missing_safety_doc)]

use std::arch::x86_64::*;

use super::{Kernel, Vector};
use crate::gemm::tile::{Any, Form, Gathered, Plain, Tile, TileFunctions, compute};

/// 8 lanes of `f32`.
#[derive(Clone, Copy)]
pub struct F32x8(__m256);

/// 4 lanes of `f64`.
#[derive(Clone, Copy)]
pub struct F64x4(__m256d);

/// Runs a kernel compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn enter<V: Vector, K: Kernel<V::Item>>(kernel: K) {
    // SAFETY: the caller's promise.
    unsafe { kernel.call::<V>() }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<V: Vector, F: Form, const R: usize, const N: usize>(tile: &Tile<V::Item>) {
    // SAFETY: the caller's promise.
    unsafe { compute::<V, F, R, N>(tile) }
}

macro_rules! row {
    ($vector:ty, $rows:literal: $($vectors:literal)*) => {
        &[$(TileFunctions {
            plain: tile::<$vector, Plain, $rows, $vectors>,
            gathered: tile::<$vector, Gathered, $rows, $vectors>,
            any: tile::<$vector, Any, $rows, $vectors>,
        }),*]
    };
}

/// A window of 8 words into this begins with `count` words of ones if it begins at `8 - count`.
static WORDS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

macro_rules! vector {
    ($name:ident, $item:ty, $lanes:literal, $zero:ident, $splat:ident, $load:ident, $store:ident,
     $maskload:ident, $store_first:ident, $store_upper:ident, $fma:ident, $mul:ident, $add:ident, $sub:ident, $max:ident, $min:ident, $blend:ident, $cast:ident,
     $sum:ident, $even:ident, $odd:ident, $interleaved:ident, $preceded:ident, $followed:ident) => {
        impl Vector for $name {
            type Item = $item;
            type Mask = __m256i;
            const LANES: usize = $lanes;
            const ROWS: usize = 6;
            const VECTORS: usize = 2;
            const TILES: &'static [&'static [TileFunctions<$item>]] = &[
                row!($name, 1: 1 2 3 4 5 6 7 8),
                row!($name, 2: 1 2 3 4),
                row!($name, 3: 1 2 3),
                row!($name, 4: 1 2),
                row!($name, 5: 1 2),
                row!($name, 6: 1 2),
            ];

            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { $name($zero()) }
            }
            #[inline(always)]
            unsafe fn splat(value: $item) -> Self {
                unsafe { $name($splat(value)) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $item) -> Self {
                unsafe { $name($load(from)) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $item) {
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            unsafe fn mask(count: usize) -> __m256i {
                let words = count * (8 / $lanes);
                unsafe { _mm256_loadu_si256(WORDS.as_ptr().add(8 - words).cast()) }
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $item, mask: __m256i) -> Self {
                unsafe { $name($maskload(from, mask)) }
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $item, count: usize) {
                unsafe { if count == $lanes { $store(to, self.0) } else { $store_first(self, to, count) } }
            }
            #[inline(always)]
            unsafe fn store_upper(self, to: *mut $item, count: usize) {
                unsafe { $store_upper(self, to, count) }
            }
            #[inline(always)]
            unsafe fn multiply(self, factor: Self) -> Self {
                unsafe { $name($mul(self.0, factor.0)) }
            }
            #[inline(always)]
            unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
                unsafe { $name($fma(self.0, factor.0, addend.0)) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { $name($add(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn subtract(self, other: Self) -> Self {
                unsafe { $name($sub(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn at_least(self, bound: Self) -> Self {
                // Where neither is greater, the second operand is the answer.
                unsafe { $name($max(bound.0, self.0)) }
            }
            #[inline(always)]
            unsafe fn at_most(self, bound: Self) -> Self {
                unsafe { $name($min(bound.0, self.0)) }
            }
            #[inline(always)]
            unsafe fn sum(self) -> $item {
                unsafe { $sum(self.0) }
            }
            #[inline(always)]
            unsafe fn mask_between(first: usize, end: usize) -> __m256i {
                unsafe { _mm256_andnot_si256(Self::mask(first), Self::mask(end)) }
            }
            #[inline(always)]
            unsafe fn mask_of(bits: u32) -> __m256i {
                let words =
                    std::array::from_fn::<i32, 8, _>(|word| -((bits >> (word * $lanes / 8) & 1) as i32));
                unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
            }
            #[inline(always)]
            unsafe fn blend(self, other: Self, mask: __m256i) -> Self {
                unsafe { $name($blend(self.0, other.0, $cast(mask))) }
            }
            #[inline(always)]
            unsafe fn even(low: Self, high: Self) -> Self {
                unsafe { $even(low, high) }
            }
            #[inline(always)]
            unsafe fn odd(low: Self, high: Self) -> Self {
                unsafe { $odd(low, high) }
            }
            #[inline(always)]
            unsafe fn interleaved(first: Self, second: Self) -> [Self; 2] {
                unsafe { $interleaved(first, second) }
            }
            #[inline(always)]
            unsafe fn preceded_by(self, first: $item) -> Self {
                unsafe { $preceded(self, first) }
            }
            #[inline(always)]
            unsafe fn followed_by(self, last: $item) -> Self {
                unsafe { $followed(self, last) }
            }
        }
    };
}

vector!(
    F32x8,
    f32,
    8,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_maskload_ps,
    store_first_f32,
    store_upper_f32,
    _mm256_fmadd_ps,
    _mm256_mul_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_max_ps,
    _mm256_min_ps,
    _mm256_blendv_ps,
    _mm256_castsi256_ps,
    sum_f32,
    even_f32,
    odd_f32,
    interleaved_f32,
    preceded_f32,
    followed_f32
);
vector!(
    F64x4,
    f64,
    4,
    _mm256_setzero_pd,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_maskload_pd,
    store_first_f64,
    store_upper_f64,
    _mm256_fmadd_pd,
    _mm256_mul_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_max_pd,
    _mm256_min_pd,
    _mm256_blendv_pd,
    _mm256_castsi256_pd,
    sum_f64,
    even_f64,
    odd_f64,
    interleaved_f64,
    preceded_f64,
    followed_f64
);

// Zen processors take 12 cycles for a store under a mask.

#[inline(always)]
unsafe fn store_first_f32(lanes: F32x8, to: *mut f32, count: usize) {
    unsafe {
        let four = _mm256_castps256_ps128(lanes.0);
        if count >= 4 {
            _mm_storeu_ps(to, four);
            store_few_f32(_mm256_extractf128_ps::<1>(lanes.0), to.add(4), count - 4);
        } else {
            store_few_f32(four, to, count);
        }
    }
}

#[inline(always)]
unsafe fn store_upper_f32(lanes: F32x8, to: *mut f32, count: usize) {
    unsafe {
        let four = _mm256_extractf128_ps::<1>(lanes.0);
        if count == 4 { _mm_storeu_ps(to, four) } else { store_few_f32(four, to, count) }
    }
}

/// Stores the first 0 to 3 lanes.
#[inline(always)]
unsafe fn store_few_f32(lanes: __m128, to: *mut f32, count: usize) {
    unsafe {
        if count >= 2 {
            _mm_storel_epi64(to.cast(), _mm_castps_si128(lanes));
        }
        match count {
            1 => _mm_store_ss(to, lanes),
            3 => _mm_store_ss(to.add(2), _mm_movehl_ps(lanes, lanes)),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn store_first_f64(lanes: F64x4, to: *mut f64, count: usize) {
    unsafe {
        let two = _mm256_castpd256_pd128(lanes.0);
        if count >= 2 {
            _mm_storeu_pd(to, two);
            store_upper_f64(lanes, to.add(2), count - 2);
        } else if count == 1 {
            _mm_store_sd(to, two);
        }
    }
}

#[inline(always)]
unsafe fn store_upper_f64(lanes: F64x4, to: *mut f64, count: usize) {
    unsafe {
        let two = _mm256_extractf128_pd::<1>(lanes.0);
        match count {
            0 => {}
            1 => _mm_store_sd(to, two),
            _ => _mm_storeu_pd(to, two),
        }
    }
}

#[inline(always)]
unsafe fn sum_f32(lanes: __m256) -> f32 {
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

#[inline(always)]
unsafe fn sum_f64(lanes: __m256d) -> f64 {
    unsafe {
        let two = _mm_add_pd(_mm256_castpd256_pd128(lanes), _mm256_extractf128_pd::<1>(lanes));
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
}

#[inline(always)]
unsafe fn even_f32(low: F32x8, high: F32x8) -> F32x8 {
    unsafe {
        let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(low.0, high.0));
        F32x8(_mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(mixed)))
    }
}

#[inline(always)]
unsafe fn even_f64(low: F64x4, high: F64x4) -> F64x4 {
    unsafe { F64x4(_mm256_permute4x64_pd::<0xd8>(_mm256_unpacklo_pd(low.0, high.0))) }
}

#[inline(always)]
unsafe fn odd_f32(low: F32x8, high: F32x8) -> F32x8 {
    unsafe {
        let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<0xdd>(low.0, high.0));
        F32x8(_mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(mixed)))
    }
}

#[inline(always)]
unsafe fn odd_f64(low: F64x4, high: F64x4) -> F64x4 {
    unsafe { F64x4(_mm256_permute4x64_pd::<0xd8>(_mm256_unpackhi_pd(low.0, high.0))) }
}

#[inline(always)]
unsafe fn preceded_f32(lanes: F32x8, first: f32) -> F32x8 {
    unsafe {
        let moved = _mm256_permutevar8x32_ps(lanes.0, _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6));
        F32x8(_mm256_blend_ps::<1>(moved, _mm256_set1_ps(first)))
    }
}

#[inline(always)]
unsafe fn followed_f32(lanes: F32x8, last: f32) -> F32x8 {
    unsafe {
        let moved = _mm256_permutevar8x32_ps(lanes.0, _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0));
        F32x8(_mm256_blend_ps::<0x80>(moved, _mm256_set1_ps(last)))
    }
}

#[inline(always)]
unsafe fn preceded_f64(lanes: F64x4, first: f64) -> F64x4 {
    unsafe { F64x4(_mm256_blend_pd::<1>(_mm256_permute4x64_pd::<0x93>(lanes.0), _mm256_set1_pd(first))) }
}

#[inline(always)]
unsafe fn followed_f64(lanes: F64x4, last: f64) -> F64x4 {
    unsafe { F64x4(_mm256_blend_pd::<8>(_mm256_permute4x64_pd::<0x39>(lanes.0), _mm256_set1_pd(last))) }
}

#[inline(always)]
unsafe fn interleaved_f32(first: F32x8, second: F32x8) -> [F32x8; 2] {
    unsafe {
        let (low, high) = (_mm256_unpacklo_ps(first.0, second.0), _mm256_unpackhi_ps(first.0, second.0));
        [F32x8(_mm256_permute2f128_ps::<0x20>(low, high)), F32x8(_mm256_permute2f128_ps::<0x31>(low, high))]
    }
}

#[inline(always)]
unsafe fn interleaved_f64(first: F64x4, second: F64x4) -> [F64x4; 2] {
    unsafe {
        let (low, high) = (_mm256_unpacklo_pd(first.0, second.0), _mm256_unpackhi_pd(first.0, second.0));
        [F64x4(_mm256_permute2f128_pd::<0x20>(low, high)), F64x4(_mm256_permute2f128_pd::<0x31>(low, high))]
    }
}
