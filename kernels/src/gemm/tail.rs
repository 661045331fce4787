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

/// A column of B, copied, and its place in C.
struct Column<T> {
    /// Its elements from `first` on.
    elements: *const T,
    first: usize,
    k: usize,
    /// The number of the column.
    number: usize,
}

impl<T: Element, P: Panels<T>> Block<'_, T, P> {
    /// Whether the last columns are computed as sums.
    #[inline(always)]
    pub(super) fn is_tail<V: Vector<Item = T>>(&self, k: usize, columns: usize) -> bool {
        let is_worth_it = match self.a_column {
            1 => k >= TAIL_K[usize::from(columns > 1)],
            _ => self.a_row == 1,
        };
        self.ends_in_dots
            && columns <= TAIL_COLUMNS.min(V::LANES / 4)
            && k <= K_BLOCK
            && is_worth_it
            && !self.pack_a.applies::<V>()
    }

    /// Some rows of a few columns, with copies of these.
    #[inline(always)]
    pub(super) unsafe fn tail<V: Vector<Item = T>>(
        &self,
        rows: Range<usize>,
        [first, k]: [usize; 2],
        columns: Range<usize>,
    ) {
        let mut copy = [T::ZERO; K_BLOCK];
        // SAFETY: the caller's promise.
        unsafe {
            for number in columns.clone() {
                match self.b.in_place(first, number) {
                    Some((b, b_row)) if self.b.offsets().is_none() => {
                        for (i, element) in copy[..k].iter_mut().enumerate() {
                            *element = *b.offset(i as isize * b_row);
                        }
                    }
                    _ => self.b.pack::<V>(number, 1, 1, first, k, copy.as_mut_ptr()),
                }
                let column = Column { elements: copy.as_ptr(), first, k, number };
                if self.a_column == 1 {
                    self.dots_with::<V>(&column, rows.clone());
                } else {
                    self.lanes_with::<V>(&column, rows.clone());
                }
            }
            if first + k == self.k
                && let Some(epilogue) = self.epilogue
            {
                let (batch, row0) = self.place;
                (epilogue.function)(
                    self.c.add(rows.start * self.c_row + columns.start),
                    self.c_row,
                    rows.len(),
                    columns.len(),
                    batch,
                    row0 + rows.start,
                    columns.start,
                    epilogue.environment,
                );
            }
        }
    }

    /// Rows of A that are adjacent along k, as dot products.
    #[inline(always)]
    unsafe fn dots_with<V: Vector<Item = T>>(&self, column: &Column<T>, rows: Range<usize>) {
        let (k, b) = (column.k, column.elements);
        let mut at = rows.start;
        while at < rows.end {
            let many = if rows.end - at < TOGETHER { 1 } else { TOGETHER };
            // SAFETY: the caller's promise.
            unsafe {
                let a = self.a_at(at, column.first);
                let mut sums = [T::ZERO; TOGETHER];
                if many == TOGETHER {
                    sums = dots::<V, TOGETHER, 1, false>(k, a, self.a_row, b, 0, 0).map(|row| row[0]);
                } else {
                    sums[0] = dots::<V, 1, 1, false>(k, a, self.a_row, b, 0, 0)[0][0];
                }
                self.put(column, at, &sums[..many]);
            }
            at += many;
        }
    }

    /// Rows of A that are adjacent to each other, with a lane for each.
    #[inline(always)]
    unsafe fn lanes_with<V: Vector<Item = T>>(&self, column: &Column<T>, rows: Range<usize>) {
        for start in rows.clone().step_by(V::LANES) {
            let height = V::LANES.min(rows.end - start);
            // SAFETY: the caller's promise.
            unsafe {
                let (a, mask) = (self.a_at(start, column.first), V::mask(height));
                let mut sums = [V::zero(); TOGETHER];
                for at in 0..column.k {
                    let rows = V::load_masked(a.offset(at as isize * self.a_column), mask);
                    let sum = &mut sums[at % TOGETHER];
                    *sum = rows.multiply_add(V::splat(*column.elements.add(at)), *sum);
                }
                let mut lanes = [T::ZERO; MOST_LANES];
                sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(lanes.as_mut_ptr());
                self.put(column, start, &lanes[..height]);
            }
        }
    }

    /// Writes, or adds, some elements of a column.
    #[inline(always)]
    unsafe fn put(&self, column: &Column<T>, row: usize, sums: &[T]) {
        for (i, sum) in sums.iter().enumerate() {
            // SAFETY: the elements are within C.
            unsafe {
                let c = self.c.add((row + i) * self.c_row + column.number);
                *c = if self.accumulate || column.first > 0 { sum.plus(*c) } else { *sum };
            }
        }
    }
}
