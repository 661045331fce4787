//! Copies of parts of a matrix in the order in which the tile kernel reads them.

use super::tile::Ahead;
use crate::Element;
use crate::simd::{Lanes, Vector};

/// A source of panels of B: `width` adjacent columns as rows of `padded` elements, the rest zeros.
pub trait Panels<T> {
    /// Writes rows `first..first + rows` of the panel that begins at `column`.
    ///
    /// # Safety
    /// The source's memory must be alive, the rows and columns within it, `out` valid for `rows * padded` elements,
    /// and the processor must have the vector's instruction set.
    unsafe fn pack<V: Vector<Item = T>>(
        &self,
        column: usize,
        width: usize,
        padded: usize,
        first: usize,
        rows: usize,
        out: *mut T,
    );

    /// Where the element at (`row`, `column`) is and how far the next row is, if columns are adjacent in memory.
    fn in_place(&self, row: usize, column: usize) -> Option<(*const T, isize)>;

    /// Where rows do not follow at one distance: the offset of each row from what [`Panels::in_place`] gives.
    #[inline(always)]
    fn offsets(&self) -> Option<*const usize> {
        None
    }

    /// How many columns from `column` on [`Panels::in_place`] reaches.
    #[inline(always)]
    fn together(&self, _column: usize) -> usize {
        usize::MAX
    }

    /// The memory behind `rows` rows from `first` of `width` columns from `column`, if it is worth asking for early.
    fn ahead(&self, _first: usize, _rows: usize, _column: usize, _width: usize) -> Ahead<T> {
        Ahead::NOTHING
    }
}

/// A matrix in memory with a stride for each dimension.
#[derive(Clone, Copy)]
pub struct Strided<T> {
    /// The first element.
    pub data: *const T,
    /// From one row to the next.
    pub row: isize,
    /// From one column to the next.
    pub column: isize,
}

impl<T: Element> Panels<T> for Strided<T> {
    #[inline(always)]
    unsafe fn pack<V: Vector<Item = T>>(
        &self,
        column: usize,
        width: usize,
        padded: usize,
        first: usize,
        rows: usize,
        out: *mut T,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.data.offset(first as isize * self.row + column as isize * self.column);
            panel::<V>(from, self.column, self.row, width, padded, rows, out);
        }
    }

    #[inline(always)]
    fn in_place(&self, row: usize, column: usize) -> Option<(*const T, isize)> {
        let offset = row as isize * self.row + column as isize * self.column;
        (self.column == 1).then_some((self.data.wrapping_offset(offset), self.row))
    }

    #[inline(always)]
    fn ahead(&self, first: usize, rows: usize, column: usize, width: usize) -> Ahead<T> {
        let offset = first as isize * self.row + column as isize * self.column;
        let start = self.data.wrapping_offset(offset);
        match (self.column, self.row) {
            (1, _) => Ahead::new(start, width, self.row, rows),
            (_, 1) => Ahead::new(start, rows, self.column, width),
            _ => Ahead::NOTHING,
        }
    }
}

/// `out[r * padded + l] = from[l * lane + r * row]` for `width` lanes, zero for the lanes up to `padded`.
///
/// # Safety
/// The pointers must be valid for these elements, and the processor must have the vector's instruction set.
#[inline(always)]
pub unsafe fn panel<V: Vector>(
    from: *const V::Item,
    lane: isize,
    row: isize,
    width: usize,
    padded: usize,
    rows: usize,
    out: *mut V::Item,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if lane == 1 {
            for r in 0..rows {
                copy_row::<V>(from.offset(r as isize * row), width, padded, out.add(r * padded));
            }
            return;
        }
        let (mut done_rows, whole) = (0, width / 4 * 4);
        if row == 1 {
            // A cache line of every lane at a time.
            while done_rows + 4 <= rows {
                let until = (done_rows + 16).min(rows / 4 * 4);
                for l in (0..whole).step_by(4) {
                    for r in (done_rows..until).step_by(4) {
                        let line = |i: usize| from.offset((l + i) as isize * lane).add(r);
                        let lines = [line(0), line(1), line(2), line(3)];
                        V::Item::transpose4(lines, out.add(r * padded + l), padded);
                    }
                }
                for l in whole..width {
                    for r in done_rows..until {
                        *out.add(r * padded + l) = *from.offset(l as isize * lane).add(r);
                    }
                }
                for r in done_rows..until {
                    for l in width..padded {
                        *out.add(r * padded + l) = V::Item::ZERO;
                    }
                }
                done_rows = until;
            }
        }
        for r in done_rows..rows {
            for l in 0..padded {
                let value = if l < width {
                    *from.offset(l as isize * lane + r as isize * row)
                } else {
                    V::Item::ZERO
                };
                *out.add(r * padded + l) = value;
            }
        }
    }
}

/// Copies `width` elements and appends zeros up to `padded`.
///
/// # Safety
/// As for [`panel`].
#[inline(always)]
pub unsafe fn copy_row<V: Vector>(from: *const V::Item, width: usize, padded: usize, out: *mut V::Item) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut at = 0;
        while at + V::LANES <= width {
            V::load(from.add(at)).store(out.add(at));
            at += V::LANES;
        }
        if at < width {
            let left = width - at;
            V::load_masked(from.add(at), V::mask(left)).store_first(out.add(at), left);
            at = width;
        }
        while at < padded {
            *out.add(at) = V::Item::ZERO;
            at += 1;
        }
    }
}
