//! The numbers that the kernels compute with.

use crate::simd::Lanes;

/// `f32` or `f64`.
pub trait Element: Lanes + Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Zero.
    const ZERO: Self;
    /// Infinity.
    const INFINITY: Self;
    /// The nearest to a number.
    fn rounded(value: f64) -> Self;
    /// The sum of two.
    fn plus(self, other: Self) -> Self;
    /// The product of two.
    fn times(self, other: Self) -> Self;
    /// The other sign.
    fn negated(self) -> Self;
}

impl Element for f32 {
    const ZERO: f32 = 0.0;
    const INFINITY: f32 = f32::INFINITY;
    #[inline(always)]
    fn rounded(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn plus(self, other: f32) -> f32 {
        self + other
    }
    #[inline(always)]
    fn times(self, other: f32) -> f32 {
        self * other
    }
    #[inline(always)]
    fn negated(self) -> f32 {
        -self
    }
}

impl Element for f64 {
    const ZERO: f64 = 0.0;
    const INFINITY: f64 = f64::INFINITY;
    #[inline(always)]
    fn rounded(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn plus(self, other: f64) -> f64 {
        self + other
    }
    #[inline(always)]
    fn times(self, other: f64) -> f64 {
        self * other
    }
    #[inline(always)]
    fn negated(self) -> f64 {
        -self
    }
}

/// A pointer that may go to other threads; whoever makes one sees to it that no two threads write to one place.
#[derive(Clone, Copy)]
pub(crate) struct Shared<P>(pub P);

// SAFETY: a pointer alone does nothing; its uses are unsafe and say why they are sound.
unsafe impl<P> Send for Shared<P> {}
unsafe impl<P> Sync for Shared<P> {}

impl<P: Copy> Shared<P> {
    /// The pointer.
    #[inline(always)]
    pub(crate) fn get(&self) -> P {
        self.0
    }
}
