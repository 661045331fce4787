//! Right operands that were packed beforehand, because they never change.
//!
//! The columns stand in panels of [`PANEL_BYTES`] a row, one panel after the other, each with all its rows; the last
//! panel is as wide as its columns need in whole cache lines, filled up with zeros. The layout is the same for every
//! tier.

use super::Gemm;
use super::pack::Panels;
use super::tile::Ahead;
use crate::Element;
use crate::simd::Vector;

/// Bytes of a row of a panel: a multiple of the width of every tier's widest tile.
const PANEL_BYTES: usize = 3 * LINE;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Columns of a panel.
pub(super) const fn panel_columns<T>() -> usize {
    PANEL_BYTES / size_of::<T>()
}

/// The length of the rows of the panel that begins at `column`.
#[inline(always)]
pub(super) fn row_length<T>(columns: usize, column: usize) -> usize {
    (columns - column).min(panel_columns::<T>()).next_multiple_of(LINE / size_of::<T>())
}

/// A packed matrix.
pub struct Packed<T> {
    /// The first panel, at the beginning of a cache line.
    pub data: *const T,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
}

impl<T: Element> Panels<T> for Packed<T> {
    #[inline(always)]
    unsafe fn pack<V: Vector<Item = T>>(
        &self,
        _column: usize,
        _width: usize,
        _padded: usize,
        _first: usize,
        _rows: usize,
        _out: *mut T,
    ) {
        unreachable!("what is packed is read in place")
    }

    #[inline(always)]
    fn in_place(&self, row: usize, column: usize) -> Option<(*const T, isize)> {
        let within = column % panel_columns::<T>();
        let start = column - within;
        let length = row_length::<T>(self.columns, start);
        Some((self.data.wrapping_add(start * self.rows + row * length + within), length as isize))
    }

    #[inline(always)]
    fn together(&self, column: usize) -> usize {
        panel_columns::<T>() - column % panel_columns::<T>()
    }

    #[inline(always)]
    fn ahead(&self, first: usize, rows: usize, column: usize, width: usize) -> Ahead<T> {
        match self.in_place(first, column) {
            Some((start, length)) => Ahead::new(start, width, length, rows),
            None => Ahead::NOTHING,
        }
    }
}

impl Gemm {
    /// Whether it pays to pack B, if that has to be done only once.
    pub fn prefers_packed<T: Element>(&self) -> bool {
        let strided = self.b_strides[2] != 1 && self.m > 1;
        let one = self.batch == 1 || self.b_strides[0] == 0 && self.reduced().0.batch == 1;
        one && self.n > 4 && self.k > 1 && strided
    }

    /// The elements of B when it is packed.
    pub fn packed_elements<T: Element>(&self) -> usize {
        let whole = self.n / panel_columns::<T>() * panel_columns::<T>();
        self.k * if whole < self.n { whole + row_length::<T>(self.n, whole) } else { whole }
    }

    /// Packs B, whose strides are those of the problem, for a problem with [`Gemm::b_packed`]. `packed` has
    /// [`Gemm::packed_elements`], and should begin with a cache line. Panics where `b` is too short.
    pub fn pack<T: Element>(&self, b: &[T], packed: &mut [T]) {
        assert_eq!(packed.len(), self.packed_elements::<T>(), "the packed matrix has its size");
        let [_, row, column] = self.b_strides;
        let mut rest = packed;
        for start in (0..self.n).step_by(panel_columns::<T>()) {
            let length = row_length::<T>(self.n, start);
            let (panel, later) = rest.split_at_mut(self.k * length);
            for (r, line) in panel.chunks_exact_mut(length).enumerate() {
                for (c, element) in line.iter_mut().enumerate() {
                    let offset = r as isize * row + (start + c) as isize * column;
                    *element = if start + c < self.n { b[offset as usize] } else { T::ZERO };
                }
            }
            rest = later;
        }
    }
}
