//! A block of rows and columns of one product, tile by tile.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::ptr::{null, null_mut};

use super::finish::Finish;
use super::pack::{Panels, copy_row, panel};
use super::tile::{Ahead, Tile};
use crate::simd::{Kernel, Vector};
use crate::{Element, Epilogue};

/// Elements of a column of B (or of a row of A) that are multiplied before the next panel's turn: the more, the less often
/// sums are read and written.
pub(super) const K_BLOCK: usize = 1024;
/// As many where a panel is narrow, so that it stays in the first-level cache, or A is read across memory: every element of
/// a column from a cache line of its own.
const SHORT_K_BLOCK: usize = 384;
/// Bytes of A that are packed at a time, and as many where panels are narrow, so that they stay in the second-level cache.
const PACKED_A: usize = 4 << 20;
const PACKED_A_OF_NARROW: usize = 512 << 10;
/// Where rows of A are adjacent, so many tiles are packed side by side, and so many columns ahead are asked for.
const PACKED_TOGETHER: usize = 8;
const PACKED_AHEAD: isize = 12;
/// Rows of a tile that are finished before the epilogue sees them.
const EPILOGUE_ROWS: usize = 32;
/// Rows of B that are read side by side when streaming.
const STREAMED_ROWS: usize = 16;
/// An A of more bytes than this that several panels read is read block by block, each while it is in the cache.
const LARGE_A: usize = 128 << 10;
/// Rows of such a block.
const BLOCK_ROWS: usize = 64;
/// Where narrow panels are copied, for each block anew, an A of more bytes than this is, in blocks of so many rows: the
/// processors that have no wider vectors have second-level caches of 256 KiB and more.
const LARGE_A_OF_NARROW: usize = 256 << 10;
const BLOCK_ROWS_OF_NARROW: usize = 128;
/// A panel that is spread over three times its size stays in the first-level cache with so many terms.
const SPREAD_K: usize = 128;
/// Rows of the largest tile of any tier.
const TILE_ROWS: usize = 8;
/// Bytes of a row of a narrow panel, at most: so many panels read A that it is worth much to have it near.
const NARROW: usize = 64;
/// Elements in a row of the widest tile of any tier, in bytes.
const PANEL_BYTES: usize = 3 * 64;

/// What to do with B.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Read in place by every tile; its columns are adjacent.
    InPlace,
    /// As `InPlace`, by so few rows that the cache need not keep it for others.
    InPlaceByFew,
    /// Read in place by the first tile of a panel, which leaves a packed copy to the others.
    CopiedOnTheWay,
    /// As `CopiedOnTheWay` where panels are narrow and more than a few rows read them, else as `InPlace`: for a B whose rows
    /// are as long as a wide panel's, so that a narrow panel is spread over three times its size.
    CopiedIfNarrow,
    /// Packed before use.
    Packed,
}

/// Whether to pack A.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackA {
    /// Read in place.
    Never,
    /// Where panels are narrow, since the lines of its columns push one another out of the cache.
    ForNarrowPanels,
    /// Its elements are adjacent in neither direction, or those of its columns are, and many panels read them.
    Always,
}

impl PackA {
    #[inline(always)]
    pub(super) fn applies<V: Vector>(self) -> bool {
        match self {
            PackA::Never => false,
            PackA::ForNarrowPanels => is_narrow::<V>(),
            PackA::Always => true,
        }
    }
}

/// Whether panels are narrow.
#[inline(always)]
fn is_narrow<V: Vector>() -> bool {
    V::VECTORS * V::LANES * size_of::<V::Item>() <= NARROW
}

impl Reading {
    /// Whether every tile reads B where it is.
    fn is_in_place(self) -> bool {
        matches!(self, Reading::InPlace | Reading::InPlaceByFew)
    }
}

/// A block of `C (+)= A B`.
pub struct Block<'a, T, P> {
    /// The rows to compute.
    pub rows: Range<usize>,
    /// The columns to compute.
    pub columns: Range<usize>,
    /// The length of the sums.
    pub k: usize,
    /// A, from row 0.
    pub a: *const T,
    /// From one row of A to the next.
    pub a_row: isize,
    /// From one column of A to the next.
    pub a_column: isize,
    /// Whether to pack A.
    pub pack_a: PackA,
    /// Whether A, rather than B, has to be brought from memory.
    pub a_is_far: bool,
    /// B.
    pub b: &'a P,
    /// What to do with B.
    pub reading: Reading,
    /// Whether B is so large that few rows should read it in the order of memory, as far as possible.
    pub streams: bool,
    /// Whether a few last columns may be computed as dot products.
    pub ends_in_dots: bool,
    /// C, from row 0 and column 0.
    pub c: *mut T,
    /// From one row of C to the next.
    pub c_row: usize,
    /// Whether to add to C.
    pub accumulate: bool,
    /// If not null, a number for each column of C that is added to its rows; nothing may end in dot products then.
    pub bias: *const T,
    /// Called on finished tiles.
    pub epilogue: Option<Epilogue<T>>,
    /// For the epilogue: the batch, and the number of row 0.
    pub place: (usize, usize),
    /// Memory for [`scratch_elements`], if anything is packed.
    pub scratch: *mut T,
}

/// The elements of scratch memory that a block needs.
pub fn scratch_elements<T>(rows: usize, k: usize, pack_a: PackA, reading: Reading) -> usize {
    let of_a = |most_k, bytes| packed_rows::<T>(rows, k.min(most_k), bytes) * k.min(most_k);
    let a = match pack_a {
        PackA::Never => 0,
        PackA::ForNarrowPanels => of_a(SHORT_K_BLOCK, PACKED_A_OF_NARROW),
        PackA::Always => of_a(K_BLOCK, PACKED_A).max(of_a(SHORT_K_BLOCK, PACKED_A_OF_NARROW)),
    };
    let b = match reading {
        Reading::InPlace | Reading::InPlaceByFew => 0,
        Reading::CopiedIfNarrow => k.min(SHORT_K_BLOCK) * (NARROW / size_of::<T>()),
        Reading::CopiedOnTheWay | Reading::Packed => k.min(K_BLOCK) * (PANEL_BYTES / size_of::<T>()),
    };
    a.next_multiple_of(64) + b
}

/// How many of some rows of A, of so many columns, are packed at a time: of as many bytes, but never less than a tile.
fn packed_rows<T>(rows: usize, k: usize, bytes: usize) -> usize {
    rows.min((bytes / size_of::<T>() / k.max(1) / TILE_ROWS * TILE_ROWS).max(TILE_ROWS))
}

/// A range in parts of nearly equal size, each at most `most`.
fn balanced(range: Range<usize>, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let left = range.end - at;
        (left > 0).then(|| {
            let size = left.div_ceil(left.div_ceil(most));
            at += size;
            (at - size, size)
        })
    })
}

impl<T: Element, P: Panels<T>> Kernel<T> for &Block<'_, T, P> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the promise made to `Block::run`.
        unsafe { self.run::<V>() }
    }
}

impl<'a, T, P> Block<'a, T, P> {
    /// The same block with another B.
    pub fn reading<Q>(self, b: &'a Q, reading: Reading) -> Block<'a, T, Q> {
        let Block {
            rows,
            columns,
            k,
            a,
            a_row,
            a_column,
            pack_a,
            a_is_far,
            streams,
            ends_in_dots,
            c,
            c_row,
            ..
        } = self;
        let Block { accumulate, bias, epilogue, place, scratch, .. } = self;
        Block {
            rows,
            columns,
            k,
            a,
            a_row,
            a_column,
            pack_a,
            a_is_far,
            b,
            reading,
            streams,
            ends_in_dots,
            c,
            c_row,
            accumulate,
            bias,
            epilogue,
            place,
            scratch,
        }
    }
}

impl<T: Element, P: Panels<T>> Block<'_, T, P> {
    #[inline(always)]
    unsafe fn run<V: Vector<Item = T>>(&self) {
        let reading = self.way::<V>();
        let most_k = match reading {
            Reading::InPlaceByFew if self.rows.len() <= 2 && self.streams => STREAMED_ROWS,
            Reading::InPlaceByFew if self.rows.len() <= V::ROWS => self.k,
            Reading::InPlace
            | Reading::InPlaceByFew
            | Reading::CopiedOnTheWay
            | Reading::CopiedIfNarrow
            | Reading::Packed => self.k_block::<V>(),
        };
        let bytes = self.rows.len() * self.k.min(most_k) * size_of::<T>();
        let several = self.columns.len() > V::VECTORS * V::LANES;
        let pack_a = self.pack_a.applies::<V>();
        let most_rows = match reading {
            _ if pack_a => self.packed_rows::<V>(),
            Reading::InPlace if several && bytes > LARGE_A => BLOCK_ROWS,
            Reading::CopiedOnTheWay if several && is_narrow::<V>() && bytes > LARGE_A_OF_NARROW => {
                BLOCK_ROWS_OF_NARROW
            }
            _ => self.rows.len().next_multiple_of(V::ROWS).max(V::ROWS),
        };
        let most_rows = (most_rows / V::ROWS * V::ROWS).max(V::ROWS);
        for (first, k) in balanced(0..self.k, most_k) {
            for (row, rows) in balanced(self.rows.clone(), most_rows) {
                // SAFETY: the caller's promise.
                unsafe {
                    if pack_a {
                        self.pack_rows::<V>(row, rows, first, k);
                    }
                    self.panels::<V>(row, rows, first, k);
                }
            }
        }
    }

    /// What is done with B.
    #[inline(always)]
    fn way<V: Vector<Item = T>>(&self) -> Reading {
        let few = self.rows.len() <= 4 * V::ROWS && self.k <= SPREAD_K;
        match self.reading {
            Reading::CopiedIfNarrow if is_narrow::<V>() && !few => Reading::CopiedOnTheWay,
            Reading::CopiedIfNarrow => Reading::InPlace,
            other => other,
        }
    }

    /// Terms of the sums that are multiplied before the next panel's turn.
    #[inline(always)]
    fn k_block<V: Vector<Item = T>>(&self) -> usize {
        let is_across = self.a_column != 1 && !self.pack_a.applies::<V>();
        if is_narrow::<V>() || is_across { SHORT_K_BLOCK } else { K_BLOCK }
    }

    /// Rows of A that are packed at a time.
    #[inline(always)]
    fn packed_rows<V: Vector<Item = T>>(&self) -> usize {
        let bytes = if is_narrow::<V>() { PACKED_A_OF_NARROW } else { PACKED_A };
        packed_rows::<T>(self.rows.len(), self.k.min(self.k_block::<V>()), bytes)
    }

    #[inline(always)]
    pub(super) unsafe fn a_at(&self, row: usize, column: usize) -> *const T {
        // SAFETY: the caller asks for elements of A.
        unsafe { self.a.offset(row as isize * self.a_row + column as isize * self.a_column) }
    }

    #[inline(always)]
    unsafe fn pack_rows<V: Vector<Item = T>>(&self, row: usize, rows: usize, first: usize, k: usize) {
        if self.a_row != 1 {
            for (start, height) in balanced(row..row + rows, V::ROWS) {
                // SAFETY: within A, and within the scratch memory for A.
                unsafe {
                    let out = self.scratch.add((start - row) * k);
                    panel::<V>(self.a_at(start, first), self.a_row, self.a_column, height, height, k, out);
                }
            }
            return;
        }
        // Several tiles at a time, since what is adjacent in memory comes together.
        let mut tiles = balanced(row..row + rows, V::ROWS);
        loop {
            let together: [_; PACKED_TOGETHER] = std::array::from_fn(|_| tiles.next());
            if together[0].is_none() {
                return;
            }
            for column in 0..k {
                for (start, height) in together.into_iter().flatten() {
                    // SAFETY: as above.
                    unsafe {
                        let out = self.scratch.add((start - row) * k + column * height);
                        let from = self.a_at(start, first + column);
                        crate::simd::prefetch_near(from.wrapping_offset(PACKED_AHEAD * self.a_column).cast());
                        if height == TILE_ROWS {
                            out.cast::<[T; TILE_ROWS]>().write(from.cast::<[T; TILE_ROWS]>().read());
                        } else {
                            copy_row::<V>(from, height, height, out);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn panels<V: Vector<Item = T>>(&self, row: usize, rows: usize, first: usize, k: usize) {
        let mut column = self.columns.start;
        while column < self.columns.end {
            let left = (self.columns.end - column).min(self.b.together(column));
            if self.is_tail::<V>(k, left) {
                // SAFETY: the caller's promise.
                unsafe { self.tail::<V>(row..row + rows, [first, k], column..column + left) };
                column += left;
                continue;
            }
            // Without a panel, few rows may take wider tiles.
            let single = self.way::<V>().is_in_place() && rows <= V::ROWS;
            let most = if single { V::TILES[rows - 1].len() } else { V::VECTORS };
            let vectors = match left.div_ceil(V::LANES) {
                // Two halves rather than a whole panel and a narrow one.
                all if self.b.offsets().is_some() && all > most && all < 2 * most => all.div_ceil(2),
                all => all.min(most),
            };
            let width = left.min(vectors * V::LANES);
            // SAFETY: the caller's promise.
            unsafe { self.panel::<V>(row, rows, first, k, column, width, vectors) };
            column += width;
        }
    }

    /// What is done with a tile's elements at last, from this row of the block on.
    #[inline(always)]
    fn finish(&self, row: usize) -> Option<Finish<T>> {
        let finish = self.epilogue.as_ref()?.finish.as_ref()?;
        Some(finish.from_row(self.place.1 + row))
    }

    /// What the panel after the one that ends at a column reads.
    #[inline(always)]
    fn ahead<V: Vector<Item = T>>(&self, first: usize, k: usize, column: usize) -> Ahead<T> {
        let (first, column) =
            if column < self.columns.end { (first, column) } else { (first + k, self.columns.start) };
        let width = (self.columns.end - column).min(V::VECTORS * V::LANES).min(self.b.together(column));
        if first < self.k {
            self.b.ahead(first, k.min(self.k - first), column, width)
        } else {
            Ahead::NOTHING
        }
    }

    /// What the next tile reads of A.
    #[inline(always)]
    unsafe fn rows_ahead(&self, rows: Range<usize>, height: usize, first: usize, k: usize) -> Ahead<T> {
        if rows.is_empty() {
            return Ahead::NOTHING;
        }
        let height = height.min(rows.len());
        // SAFETY: the row is a row of A.
        let start = unsafe { self.a_at(rows.start, first) };
        match self.a_column {
            1 => Ahead::new(start, k, self.a_row, height),
            column => Ahead::new(start, height, column, k),
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn panel<V: Vector<Item = T>>(
        &self,
        row: usize,
        rows: usize,
        first: usize,
        k: usize,
        column: usize,
        width: usize,
        vectors: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let padded = vectors * V::LANES;
            let pack_a = self.pack_a.applies::<V>();
            let reading = self.way::<V>();
            let own = reading.is_in_place();
            let packed = if own {
                null_mut()
            } else {
                let k = self.k.min(self.k_block::<V>());
                let a = if pack_a { self.packed_rows::<V>() * k } else { 0 };
                self.scratch.add(a.next_multiple_of(64))
            };
            if reading == Reading::Packed {
                self.b.pack::<V>(column, width, padded, first, k, packed);
            }
            let in_place = self.b.in_place(first, column).unwrap_or((packed, 0));
            let ahead = self.ahead::<V>(first, k, column + width);
            let tiles = rows.div_ceil(V::ROWS);
            // The first panel is the first to read A.
            let is_read_in_order = self.a_column == 1 || self.a_row == 1;
            // Across memory nothing foresees it, and wide numbers are read twice as often.
            let is_across =
                self.a_row == 1 && size_of::<T>() == 8 && !is_narrow::<V>() && self.k > SHORT_K_BLOCK;
            let comes_from_afar =
                (self.a_is_far || is_across) && column == self.columns.start && is_read_in_order && !pack_a;
            let is_last = first + k == self.k;
            let mut tile = Tile {
                k,
                a: self.a,
                a_row: self.a_row,
                a_column: self.a_column,
                b: in_place.0,
                b_row: in_place.1,
                b_offsets: self.b.offsets().map_or(null(), |offsets| offsets.add(first)),
                b_padded: false,
                b_copy: null_mut(),
                c: self.c,
                c_row: self.c_row,
                tail: width - (vectors - 1) * V::LANES,
                accumulate: self.accumulate || first > 0,
                bias: if first == 0 && !self.bias.is_null() { self.bias.add(column) } else { null() },
                finish: None,
                ahead: Ahead::NOTHING,
            };
            let (mut pending, mut start, mut ahead) = (row, row, ahead.in_parts(tiles));
            for number in 0..tiles {
                // The first ones are the higher ones.
                let height = rows / tiles + usize::from(number < rows % tiles);
                let copying = reading == Reading::CopiedOnTheWay && number == 0;
                if !own && !copying {
                    (tile.b, tile.b_row, tile.b_padded) = (packed, padded as isize, true);
                }
                tile.b_copy = if copying && tiles > 1 { packed } else { null_mut() };
                if pack_a {
                    tile.a = self.scratch.add((start - row) * k);
                    (tile.a_row, tile.a_column) = (1, height as isize);
                } else {
                    tile.a = self.a_at(start, first);
                }
                tile.c = self.c.add(start * self.c_row + column);
                tile.finish = if is_last { self.finish(start) } else { None };
                tile.ahead = if comes_from_afar {
                    self.rows_ahead(start + height..row + rows, height, first, k)
                } else {
                    ahead.next().unwrap_or(Ahead::NOTHING)
                };
                V::TILES[height - 1][vectors - 1].run(V::LANES, &tile);
                start += height;
                if is_last
                    && let Some(epilogue) = self.epilogue
                    && epilogue.finish.is_none()
                {
                    let done = start;
                    if done - pending > EPILOGUE_ROWS - V::ROWS || done == row + rows {
                        let (batch, row0) = self.place;
                        (epilogue.function)(
                            self.c.add(pending * self.c_row + column),
                            self.c_row,
                            done - pending,
                            width,
                            batch,
                            row0 + pending,
                            column,
                            epilogue.environment,
                        );
                        pending = done;
                    }
                }
            }
        }
    }
}
