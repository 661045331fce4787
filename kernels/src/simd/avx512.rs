//! 512-bit vectors.
#![allow(clippy::missing_safety_doc)]

use std::arch::x86_64::*;

use super::{Kernel, Vector};
use crate::gemm::tile::{Any, Form, Gathered, Plain, Tile, TileFunctions, compute};

/// 16 lanes of `f32`.
#[derive(Clone, Copy)]
pub struct F32x16(__m512);

/// 8 lanes of `f64`.
#[derive(Clone, Copy)]
pub struct F64x8(__m512d);

/// Runs a kernel compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub unsafe fn enter<V: Vector, K: Kernel<V::Item>>(kernel: K) {
    // SAFETY: the caller's promise.
    unsafe { kernel.call::<V>() }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
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

macro_rules! vector {
    ($name:ident, $item:ty, $lanes:literal, $mask:ty, $zero:ident, $splat:ident, $load:ident, $store:ident,
     $maskz_load:ident, $mask_store:ident, $fma:ident, $mul:ident, $add:ident, $sub:ident, $max:ident, $min:ident, $blend:ident,
     $sum:ident, $even:expr, $odd:ident, $interleaved:ident, $preceded:ident, $followed:ident) => {
        impl Vector for $name {
            type Item = $item;
            type Mask = $mask;
            const LANES: usize = $lanes;
            const ROWS: usize = 8;
            const VECTORS: usize = 3;
            const TILES: &'static [&'static [TileFunctions<$item>]] = &[
                row!($name, 1: 1 2 3 4 5 6 7 8),
                row!($name, 2: 1 2 3 4),
                row!($name, 3: 1 2 3 4),
                row!($name, 4: 1 2 3 4),
                row!($name, 5: 1 2 3),
                row!($name, 6: 1 2 3),
                row!($name, 7: 1 2 3),
                row!($name, 8: 1 2 3),
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
            unsafe fn mask(count: usize) -> $mask {
                ((1u32 << count) - 1) as $mask
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $item, mask: $mask) -> Self {
                unsafe { $name($maskz_load(mask, from)) }
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $item, count: usize) {
                unsafe {
                    if count == $lanes {
                        self.store(to);
                    } else {
                        $mask_store(to, Self::mask(count), self.0);
                    }
                }
            }
            #[inline(always)]
            unsafe fn store_upper(self, to: *mut $item, count: usize) {
                let half = $lanes / 2;
                let to = to.wrapping_sub(half);
                unsafe { $mask_store(to, Self::mask_between(half, half + count), self.0) }
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
            unsafe fn mask_between(first: usize, end: usize) -> $mask {
                unsafe { Self::mask(end) & !Self::mask(first) }
            }
            #[inline(always)]
            unsafe fn mask_of(bits: u32) -> $mask {
                bits as $mask
            }
            #[inline(always)]
            unsafe fn blend(self, other: Self, mask: $mask) -> Self {
                unsafe { $name($blend(mask, self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn even(low: Self, high: Self) -> Self {
                let even: unsafe fn(Self, Self) -> Self = $even;
                unsafe { even(low, high) }
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
    F32x16,
    f32,
    16,
    __mmask16,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_maskz_loadu_ps,
    _mm512_mask_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_mul_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_max_ps,
    _mm512_min_ps,
    _mm512_mask_blend_ps,
    _mm512_reduce_add_ps,
    even_f32,
    odd_f32,
    interleaved_f32,
    preceded_f32,
    followed_f32
);
vector!(
    F64x8,
    f64,
    8,
    __mmask8,
    _mm512_setzero_pd,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_maskz_loadu_pd,
    _mm512_mask_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_mul_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_max_pd,
    _mm512_min_pd,
    _mm512_mask_blend_pd,
    _mm512_reduce_add_pd,
    even_f64,
    odd_f64,
    interleaved_f64,
    preceded_f64,
    followed_f64
);

#[inline(always)]
unsafe fn even_f32(low: F32x16, high: F32x16) -> F32x16 {
    unsafe {
        let index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        F32x16(_mm512_permutex2var_ps(low.0, index, high.0))
    }
}

#[inline(always)]
unsafe fn even_f64(low: F64x8, high: F64x8) -> F64x8 {
    unsafe {
        let index = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        F64x8(_mm512_permutex2var_pd(low.0, index, high.0))
    }
}

#[inline(always)]
unsafe fn odd_f32(low: F32x16, high: F32x16) -> F32x16 {
    unsafe {
        let index = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        F32x16(_mm512_permutex2var_ps(low.0, index, high.0))
    }
}

#[inline(always)]
unsafe fn odd_f64(low: F64x8, high: F64x8) -> F64x8 {
    unsafe {
        let index = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
        F64x8(_mm512_permutex2var_pd(low.0, index, high.0))
    }
}

#[inline(always)]
unsafe fn preceded_f32(lanes: F32x16, first: f32) -> F32x16 {
    unsafe {
        let (lanes, first) = (_mm512_castps_si512(lanes.0), _mm512_castps_si512(_mm512_set1_ps(first)));
        F32x16(_mm512_castsi512_ps(_mm512_alignr_epi32::<15>(lanes, first)))
    }
}

#[inline(always)]
unsafe fn followed_f32(lanes: F32x16, last: f32) -> F32x16 {
    unsafe {
        let (lanes, last) = (_mm512_castps_si512(lanes.0), _mm512_castps_si512(_mm512_set1_ps(last)));
        F32x16(_mm512_castsi512_ps(_mm512_alignr_epi32::<1>(last, lanes)))
    }
}

#[inline(always)]
unsafe fn preceded_f64(lanes: F64x8, first: f64) -> F64x8 {
    unsafe {
        let (lanes, first) = (_mm512_castpd_si512(lanes.0), _mm512_castpd_si512(_mm512_set1_pd(first)));
        F64x8(_mm512_castsi512_pd(_mm512_alignr_epi64::<7>(lanes, first)))
    }
}

#[inline(always)]
unsafe fn followed_f64(lanes: F64x8, last: f64) -> F64x8 {
    unsafe {
        let (lanes, last) = (_mm512_castpd_si512(lanes.0), _mm512_castpd_si512(_mm512_set1_pd(last)));
        F64x8(_mm512_castsi512_pd(_mm512_alignr_epi64::<1>(last, lanes)))
    }
}

#[inline(always)]
unsafe fn interleaved_f32(first: F32x16, second: F32x16) -> [F32x16; 2] {
    unsafe {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        let (low, high) =
            (_mm512_permutex2var_ps(first.0, low, second.0), _mm512_permutex2var_ps(first.0, high, second.0));
        [F32x16(low), F32x16(high)]
    }
}

#[inline(always)]
unsafe fn interleaved_f64(first: F64x8, second: F64x8) -> [F64x8; 2] {
    unsafe {
        let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
        let (low, high) =
            (_mm512_permutex2var_pd(first.0, low, second.0), _mm512_permutex2var_pd(first.0, high, second.0));
        [F64x8(low), F64x8(high)]
    }
}
