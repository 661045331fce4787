//! The last few columns of a block, as sums along k rather than tiles most of whose lanes are idle.

use std::ops::Range;

use super::block::{Block, K_BLOCK};
use super::pack::Panels;
use super::tile::dots;
use crate::Element;
use crate::simd::Vector;

/// A last panel of at most so many columns is computed as dot products if these are long.
const TAIL_COLUMNS: usize = 4;
/// The shortest dot products, of one column and of more, that are faster than a tile with idle lanes.
pub const TAIL_K: [usize; 2] = [96, 256];
/// Rows of A that dot products are made of at a time, and sums that are open at a time where rows are lanes.
const TOGETHER: usize = 4;
/// Lanes of the widest vector of any tier.
const MOST_LANES: usize = 16;

impl<T: Element, P: Panels<T>> Block<'_, T, P> {
    /// Whether the last columns are computed as sums.
    #[inline(always)]
    pub(super) fn is_tail<V: Vector<Item = T>>(&self, k: usize, columns: usize) -> bool {
        let is_long = k >= TAIL_K[usize::from(columns > 1)];
        self.ends_in_dots
            && columns <= TAIL_COLUMNS.min(V::LANES / 4)
            && k <= K_BLOCK
            && (self.a_column == 1 && is_long || self.a_row == 1)
            && !self.pack_a.applies::<V>()
    }

    /// A few columns, of rows of A with copies of the columns.
    #[inline(always)]
    pub(super) unsafe fn tail<V: Vector<Item = T>>(
        &self,
        row: usize,
        rows: usize,
        first: usize,
        k: usize,
        column: usize,
        columns: usize,
    ) {
        let mut copy = [T::ZERO; TAIL_COLUMNS * K_BLOCK];
        // SAFETY: the caller's promise.
        unsafe {
            for j in 0..columns {
                let copy = copy.as_mut_ptr().add(j * k);
                match self.b.in_place(first, column + j) {
                    Some((b, b_row)) if self.b.offsets().is_none() => {
                        (0..k).for_each(|i| *copy.add(i) = *b.offset(i as isize * b_row));
                    }
                    _ => self.b.pack::<V>(column + j, 1, 1, first, k, copy),
                }
            }
            for j in 0..columns {
                let (b, column) = (copy.as_ptr().add(j * k), column + j);
                if self.a_column == 1 {
                    self.rows_by_column::<V>(row..row + rows, first, k, b, column);
                } else {
                    self.lanes_by_column::<V>(row..row + rows, first, k, b, column);
                }
            }
            if first + k == self.k
                && let Some(epilogue) = self.epilogue
            {
                let (c, (batch, row0)) = (self.c.add(row * self.c_row + column), self.place);
                let environment = epilogue.environment;
                (epilogue.function)(c, self.c_row, rows, columns, batch, row0 + row, column, environment);
            }
        }
    }

    /// Rows of A in place, as dot products.
    #[inline(always)]
    unsafe fn rows_by_column<V: Vector<Item = T>>(
        &self,
        rows: Range<usize>,
        first: usize,
        k: usize,
        b: *const T,
        column: usize,
    ) {
        let mut at = rows.start;
        while at < rows.end {
            let many = if rows.end - at < TOGETHER { 1 } else { TOGETHER };
            // SAFETY: the caller's promise.
            unsafe {
                let a = self.a_at(at, first);
                let mut sums = [T::ZERO; TOGETHER];
                if many == TOGETHER {
                    sums = dots::<V, TOGETHER, 1>(k, a, self.a_row, b, 0).map(|row| row[0]);
                } else {
                    sums[0] = dots::<V, 1, 1>(k, a, self.a_row, b, 0)[0][0];
                }
                self.put(at, column, &sums[..many], first > 0);
            }
            at += many;
        }
    }

    /// Rows of A that are adjacent in memory, with a lane for each.
    #[inline(always)]
    unsafe fn lanes_by_column<V: Vector<Item = T>>(
        &self,
        rows: Range<usize>,
        first: usize,
        k: usize,
        b: *const T,
        column: usize,
    ) {
        for start in rows.clone().step_by(V::LANES) {
            let height = V::LANES.min(rows.end - start);
            // SAFETY: the caller's promise.
            unsafe {
                let (a, mask) = (self.a_at(start, first), V::mask(height));
                let mut sums = [V::zero(); TOGETHER];
                for at in 0..k {
                    let rows = V::load_masked(a.offset(at as isize * self.a_column), mask);
                    let sum = &mut sums[at % TOGETHER];
                    *sum = rows.multiply_add(V::splat(*b.add(at)), *sum);
                }
                let mut lanes = [T::ZERO; MOST_LANES];
                sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(lanes.as_mut_ptr());
                self.put(start, column, &lanes[..height], first > 0);
            }
        }
    }

    /// Writes, or adds, some elements of a column.
    #[inline(always)]
    unsafe fn put(&self, row: usize, column: usize, sums: &[T], adds: bool) {
        for (i, sum) in sums.iter().enumerate() {
            // SAFETY: the elements are within C.
            unsafe {
                let c = self.c.add((row + i) * self.c_row + column);
                *c = if self.accumulate || adds { sum.plus(*c) } else { *sum };
            }
        }
    }
}
