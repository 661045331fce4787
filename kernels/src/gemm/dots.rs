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

/// Columns that all rows read one after the other have about so many bytes, and stay in the nearest cache.
const NEAR_BYTES: usize = 16 << 10;
/// Columns of more bytes than this come from afar: a single row gets them as fast without being asked for.
const FAR_BYTES: usize = 2 << 20;
/// Columns that a single row reads at a time.
const MOST_COLUMNS: usize = 8;

impl<T: Element> Kernel<T> for &Dots<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let column_bytes = self.k * size_of::<T>();
        let near = (NEAR_BYTES / column_bytes.max(1)).max(1).next_multiple_of(MOST_COLUMNS);
        let is_far = column_bytes * self.columns.len() > FAR_BYTES && self.rows.len() > 1;
        for start in self.columns.clone().step_by(near) {
            let columns = start..(start + near).min(self.columns.end);
            let ahead = if is_far { near as isize * self.b_column } else { 0 };
            // SAFETY: the caller's promise.
            unsafe { self.block::<V>(columns, ahead) }
        }
    }
}

impl<T: Element> Dots<T> {
    /// All rows of some columns; the first rows ask for what is so far ahead of these columns.
    #[inline(always)]
    unsafe fn block<V: Vector<Item = T>>(&self, columns: Range<usize>, mut ahead: isize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut row = self.rows.start;
            while row + 4 <= self.rows.end {
                self.row::<V, 4, 4>(row, &columns, ahead);
                (row, ahead) = (row + 4, 0);
            }
            if row + 2 <= self.rows.end {
                self.row::<V, 2, 4>(row, &columns, ahead);
                (row, ahead) = (row + 2, 0);
            }
            if row < self.rows.end {
                self.row::<V, 1, MOST_COLUMNS>(row, &columns, ahead);
            }
        }
    }

    #[inline(always)]
    unsafe fn row<V: Vector<Item = T>, const R: usize, const N: usize>(
        &self,
        row: usize,
        columns: &Range<usize>,
        ahead: isize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut column = columns.start;
            while column + N <= columns.end {
                self.tile::<V, R, N>(row, column, ahead);
                column += N;
            }
            while column < columns.end {
                self.tile::<V, R, 1>(row, column, ahead);
                column += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector<Item = T>, const R: usize, const N: usize>(
        &self,
        row: usize,
        column: usize,
        ahead: isize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let a = self.a.offset(row as isize * self.a_row);
            let b = self.b.offset(column as isize * self.b_column);
            let sums = match ahead {
                0 => dots::<V, R, N, false>(self.k, a, self.a_row, b, self.b_column, 0),
                _ => dots::<V, R, N, true>(self.k, a, self.a_row, b, self.b_column, ahead),
            };
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    let c = self.c.add((row + i) * self.c_row + (column + j) * self.c_column);
                    *c = if self.accumulate { sum.plus(*c) } else { sum };
                }
            }
        }
    }
}
