//! Epilogues so plain that kernels apply them in registers, before an element is stored.

use crate::Element;
use crate::simd::Vector;

/// `y = (x - minus[row]) + plus[row]`, then `low` where `y <= low`, then `high` where that is `>= high`: each step
/// rounds as the operation by itself does, NaN passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finish<T> {
    /// If not null, a number for each row.
    pub minus: *const T,
    /// If not null, a number for each row.
    pub plus: *const T,
    /// The least result, not -0; minus infinity if there is none.
    pub low: T,
    /// The greatest result, not a zero; infinity if there is none.
    pub high: T,
}

impl<T: Element> Finish<T> {
    /// The same for the rows from this one on.
    #[inline(always)]
    pub fn from_row(&self, row: usize) -> Finish<T> {
        let later = |start: *const T| if start.is_null() { start } else { start.wrapping_add(row) };
        Finish { minus: later(self.minus), plus: later(self.plus), ..*self }
    }

    /// Whether `low` or `high` is a bound.
    #[inline(always)]
    pub fn is_bounded(&self) -> bool {
        self.low != T::INFINITY.negated() || self.high != T::INFINITY
    }

    /// What is subtracted from and added to a row before the bounds, if those are to be applied: numbers that change nothing
    /// where there is nothing to do.
    ///
    /// # Safety
    /// The row must be within the numbers; and the processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn shifts<V: Vector<Item = T>>(&self, row: usize, bounded: bool) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            // 0 changes no number that it is subtracted from, -0 none that it is added to.
            let minus = if self.minus.is_null() { T::ZERO } else { *self.minus.add(row) };
            let plus = if self.plus.is_null() { T::ZERO.negated() } else { *self.plus.add(row) };
            // No sum with what is not -0 is -0, which the bound 0 would let pass.
            let plus = if bounded && self.low == T::ZERO { plus.plus(T::ZERO) } else { plus };
            [V::splat(minus), V::splat(plus)]
        }
    }

    /// The bounds.
    ///
    /// # Safety
    /// The processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn bounds<V: Vector<Item = T>>(&self) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [V::splat(self.low), V::splat(self.high)] }
    }
}

/// Applies the shifts of a row.
///
/// # Safety
/// The processor must have the vector's instruction set.
#[inline(always)]
pub unsafe fn shifted<V: Vector>(x: V, [minus, plus]: [V; 2]) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.subtract(minus).add(plus) }
}

/// Applies the bounds.
///
/// # Safety
/// The processor must have the vector's instruction set.
#[inline(always)]
pub unsafe fn bounded<V: Vector>(x: V, [low, high]: [V; 2]) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.at_least(low).at_most(high) }
}

#[cfg(test)]
mod tests;
