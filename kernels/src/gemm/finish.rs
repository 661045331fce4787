//! Epilogues so plain that kernels apply them in registers, before an element is stored.

use crate::Element;
use crate::simd::Vector;

/// `y = x + shift[row]` or `x - shift[row]`, then `low` where `y <= low`, then `high` where that is `>= high`: each step
/// rounds as the operation by itself does, NaN passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finish<T> {
    /// If not null, a number for each row.
    pub shift: *const T,
    /// Whether the shift is subtracted.
    pub subtracts: bool,
    /// The least result, not -0; minus infinity if there is none.
    pub low: T,
    /// The greatest result, not a zero; infinity if there is none.
    pub high: T,
}

impl<T: Element> Finish<T> {
    /// The same for the rows from this one on.
    #[inline(always)]
    pub fn from_row(&self, row: usize) -> Finish<T> {
        let shift = if self.shift.is_null() { self.shift } else { self.shift.wrapping_add(row) };
        Finish { shift, ..*self }
    }

    /// Whether `low` or `high` is a bound.
    #[inline(always)]
    pub fn is_bounded(&self) -> bool {
        self.low != T::INFINITY.negated() || self.high != T::INFINITY
    }

    /// What is added to a row before the bounds, if those are to be applied.
    ///
    /// # Safety
    /// The row must be within the numbers; and the processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn shift<V: Vector<Item = T>>(&self, row: usize, bounded: bool) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let shift = match self.subtracts {
                // -0 changes no number that it is added to.
                _ if self.shift.is_null() => T::ZERO.negated(),
                false => *self.shift.add(row),
                true => (*self.shift.add(row)).negated(),
            };
            // No sum with a shift that is not -0 is -0, which the bound 0 would let pass.
            V::splat(if bounded && self.low == T::ZERO { shift.plus(T::ZERO) } else { shift })
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
