//! Products in which both operands are adjacent along k and one side is short: dot products.

use std::ops::Range;

use super::tile::dots;
use crate::Element;
use crate::simd::{Kernel, Vector};

/// `c[i * c_row + j * c_column] (+)= sum over k of a[i * a_row + k] * b[j * b_column + k]`.
pub struct Dots<T> {
    /// The rows to compute.
    pub rows: Range<usize>,
    /// The columns to compute.
    pub columns: Range<usize>,
    /// The length of the sums.
    pub k: usize,
    /// The first row of A.
    pub a: *const T,
    /// From one row of A to the next.
    pub a_row: isize,
    /// The first column of B.
    pub b: *const T,
    /// From one column of B to the next.
    pub b_column: isize,
    /// C, from row 0 and column 0.
    pub c: *mut T,
    /// From one row of C to the next.
    pub c_row: usize,
    /// From one column of C to the next.
    pub c_column: usize,
    /// Whether to add to C.
    pub accumulate: bool,
}

impl<T: Element> Kernel<T> for &Dots<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut row = self.rows.start;
            while row + 4 <= self.rows.end {
                self.row::<V, 4, 2>(row);
                row += 4;
            }
            if row + 2 <= self.rows.end {
                self.row::<V, 2, 4>(row);
                row += 2;
            }
            if row < self.rows.end {
                self.row::<V, 1, 8>(row);
            }
        }
    }
}

impl<T: Element> Dots<T> {
    #[inline(always)]
    unsafe fn row<V: Vector<Item = T>, const R: usize, const N: usize>(&self, row: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = self.columns.start;
            while column + N <= self.columns.end {
                self.tile::<V, R, N>(row, column);
                column += N;
            }
            while column < self.columns.end {
                self.tile::<V, R, 1>(row, column);
                column += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector<Item = T>, const R: usize, const N: usize>(&self, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let a = self.a.offset(row as isize * self.a_row);
            let b = self.b.offset(column as isize * self.b_column);
            let sums = dots::<V, R, N>(self.k, a, self.a_row, b, self.b_column);
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    let c = self.c.add((row + i) * self.c_row + (column + j) * self.c_column);
                    *c = if self.accumulate { sum.plus(*c) } else { sum };
                }
            }
        }
    }
}
