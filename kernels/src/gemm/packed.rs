//! Right operands that were packed beforehand, because they never change.
//!
//! The columns stand in panels of [`PANEL_BYTES`] a row, one panel after the other, each with all its rows; the last
//! panel is as wide as its columns need in whole cache lines, filled up with zeros. The layout is the same for every
//! tier.

use std::ops::RangeInclusive;

use super::Gemm;
use super::pack::{Panels, panel};
use super::tile::Ahead;
use crate::element::Shared;
use crate::simd::{Kernel, Vector};
use crate::{Element, Team, Tier};

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

/// Where the columns of B are adjacent: fewer rows gain nothing unless B is large, and more too little for the memory.
const ROWS_WITH_ADJACENT: RangeInclusive<usize> = 4..=64;
/// A B of more bytes is large.
const LARGE: usize = 768 << 10;

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
        let one = self.batch == 1 || self.b_strides[0] == 0 && self.reduced().0.batch == 1;
        let rows = match (self.b_strides[2] == 1, self.k * self.n * size_of::<T>() > LARGE) {
            (true, true) => 1..=*ROWS_WITH_ADJACENT.end(),
            (true, false) => ROWS_WITH_ADJACENT,
            (false, _) => 2..=usize::MAX,
        };
        one && self.n > 4 && self.k > 1 && rows.contains(&self.m)
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
        let corners = [0, (self.k as isize - 1) * row].map(|at| [at, at + (self.n as isize - 1) * column]);
        let is_within = |at: isize| usize::try_from(at).is_ok_and(|at| at < b.len());
        assert!(
            packed.is_empty() || corners.as_flattened().iter().all(|at| is_within(*at)),
            "B is large enough"
        );
        // SAFETY: both matrices lie within the slices.
        unsafe { self.pack_from(b.as_ptr(), packed.as_mut_ptr(), &Team::new(1)) }
    }

    /// As [`Gemm::pack`], on a team.
    ///
    /// # Safety
    /// `b` must be valid for the elements of B, `packed` for [`Gemm::packed_elements`].
    pub unsafe fn pack_from<T: Element>(&self, b: *const T, packed: *mut T, team: &Team) {
        let columns = panel_columns::<T>();
        let tier = Tier::current();
        let (b, packed) = (Shared(b), Shared(packed));
        team.run(self.n.div_ceil(columns), &|panel, _| {
            let pack = PackPanel { gemm: self, b: b.get(), packed: packed.get(), column: panel * columns };
            // SAFETY: the caller's promise; the panels do not overlap.
            unsafe { T::dispatch(tier, pack) }
        });
    }
}

/// Packs the panel that begins at a column.
struct PackPanel<'g, T> {
    gemm: &'g Gemm,
    b: *const T,
    packed: *mut T,
    column: usize,
}

impl<T: Element> Kernel<T> for PackPanel<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let Gemm { n, k, b_strides: [_, row, column], .. } = *self.gemm;
        let length = row_length::<T>(n, self.column);
        let width = length.min(n - self.column);
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.b.offset(self.column as isize * column);
            panel::<V>(from, column, row, width, length, k, self.packed.add(self.column * k));
        }
    }
}
