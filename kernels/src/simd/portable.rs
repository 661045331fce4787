//! 128-bit vectors as arrays, which the compiler turns into whatever the target has.
#![allow(clippy::missing_safety_doc)]

use super::Vector;
use crate::gemm::tile::{Any, Form, Gathered, Plain, Tile, TileFunctions, compute};

/// Lanes that are added and multiplied one by one, as far as this source goes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Array<T, const N: usize>([T; N]);

/// 4 lanes of `f32`.
pub type F32x4 = Array<f32, 4>;

/// 2 lanes of `f64`.
pub type F64x2 = Array<f64, 2>;

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
    ($name:ident, $item:ty, $lanes:literal) => {
        impl Vector for $name {
            type Item = $item;
            type Mask = u32;
            const LANES: usize = $lanes;
            const ROWS: usize = 4;
            const VECTORS: usize = 2;
            const TILES: &'static [&'static [TileFunctions<$item>]] = &[
                row!($name, 1: 1 2 3 4 5 6 7 8),
                row!($name, 2: 1 2 3 4),
                row!($name, 3: 1 2),
                row!($name, 4: 1 2),
            ];

            #[inline(always)]
            unsafe fn zero() -> Self {
                Array([0.0; $lanes])
            }
            #[inline(always)]
            unsafe fn splat(value: $item) -> Self {
                Array([value; $lanes])
            }
            #[inline(always)]
            unsafe fn load(from: *const $item) -> Self {
                Array(unsafe { from.cast::<[$item; $lanes]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $item) {
                unsafe { to.cast::<[$item; $lanes]>().write_unaligned(self.0) }
            }
            #[inline(always)]
            unsafe fn mask(count: usize) -> u32 {
                (1 << count) - 1
            }
            #[inline(always)]
            unsafe fn load_masked(from: *const $item, mask: u32) -> Self {
                Array(std::array::from_fn(|lane| {
                    if mask >> lane & 1 == 1 { unsafe { *from.add(lane) } } else { 0.0 }
                }))
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $item, count: usize) {
                for (lane, value) in self.0.into_iter().enumerate().take(count) {
                    unsafe { *to.add(lane) = value };
                }
            }
            #[inline(always)]
            unsafe fn store_upper(self, to: *mut $item, count: usize) {
                for (lane, value) in self.0.into_iter().skip($lanes / 2).enumerate().take(count) {
                    unsafe { *to.add(lane) = value };
                }
            }
            #[inline(always)]
            unsafe fn multiply(self, factor: Self) -> Self {
                Array(std::array::from_fn(|lane| self.0[lane] * factor.0[lane]))
            }
            #[inline(always)]
            unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
                Array(std::array::from_fn(|lane| {
                    if cfg!(target_arch = "aarch64") {
                        self.0[lane].mul_add(factor.0[lane], addend.0[lane])
                    } else {
                        self.0[lane] * factor.0[lane] + addend.0[lane]
                    }
                }))
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Array(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
            }
            #[inline(always)]
            unsafe fn subtract(self, other: Self) -> Self {
                Array(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
            }
            #[inline(always)]
            unsafe fn at_least(self, bound: Self) -> Self {
                Array(std::array::from_fn(|lane| {
                    if bound.0[lane] > self.0[lane] { bound.0[lane] } else { self.0[lane] }
                }))
            }
            #[inline(always)]
            unsafe fn at_most(self, bound: Self) -> Self {
                Array(std::array::from_fn(|lane| {
                    if bound.0[lane] < self.0[lane] { bound.0[lane] } else { self.0[lane] }
                }))
            }
            #[inline(always)]
            unsafe fn sum(self) -> $item {
                self.0.into_iter().sum()
            }
            #[inline(always)]
            unsafe fn mask_between(first: usize, end: usize) -> u32 {
                unsafe { Self::mask(end) & !Self::mask(first) }
            }
            #[inline(always)]
            unsafe fn mask_of(bits: u32) -> u32 {
                bits
            }
            #[inline(always)]
            unsafe fn blend(self, other: Self, mask: u32) -> Self {
                Array(std::array::from_fn(
                    |lane| if mask >> lane & 1 == 1 { other.0[lane] } else { self.0[lane] },
                ))
            }
            #[inline(always)]
            unsafe fn even(low: Self, high: Self) -> Self {
                Array(std::array::from_fn(|lane| {
                    let lane = 2 * lane;
                    if lane < $lanes { low.0[lane] } else { high.0[lane - $lanes] }
                }))
            }
            #[inline(always)]
            unsafe fn odd(low: Self, high: Self) -> Self {
                Array(std::array::from_fn(|lane| {
                    let lane = 2 * lane + 1;
                    if lane < $lanes { low.0[lane] } else { high.0[lane - $lanes] }
                }))
            }
            #[inline(always)]
            unsafe fn interleaved(first: Self, second: Self) -> [Self; 2] {
                std::array::from_fn(|part| {
                    Array(std::array::from_fn(|lane| {
                        let place = part * $lanes + lane;
                        if place % 2 == 0 { first.0[place / 2] } else { second.0[place / 2] }
                    }))
                })
            }
            #[inline(always)]
            unsafe fn preceded_by(self, first: $item) -> Self {
                Array(std::array::from_fn(|lane| if lane == 0 { first } else { self.0[lane - 1] }))
            }
            #[inline(always)]
            unsafe fn followed_by(self, last: $item) -> Self {
                Array(std::array::from_fn(|lane| if lane + 1 == $lanes { last } else { self.0[lane + 1] }))
            }
        }
    };
}

vector!(F32x4, f32, 4);
vector!(F64x2, f64, 2);
