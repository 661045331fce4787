//! The innermost kernel of a matrix product: a tile of C in registers.

use super::finish::{Finish, bounded, shifted};
use crate::Element;
use crate::simd::Vector;
use std::hint::black_box;
use std::ptr::null_mut;

/// One tile: `R` rows of `N` vectors, the last of which has `tail` lanes in use.
pub struct Tile<T> {
    /// The length of the sums.
    pub k: usize,
    /// The tile's first row of A, at any strides.
    pub a: *const T,
    /// From one row of A to the next.
    pub a_row: isize,
    /// From one column of A to the next.
    pub a_column: isize,
    /// The tile's first columns of B; adjacent columns.
    pub b: *const T,
    /// From one row of B to the next.
    pub b_row: isize,
    /// If not null, the offset of each row of B, instead of `b_row`; such a B is neither padded nor copied.
    pub b_offsets: *const usize,
    /// Whether B may be read beyond the last column in use, to the end of its vector.
    pub b_padded: bool,
    /// If not null, receives the rows of B as they are read, padded with zeros to `N` vectors.
    pub b_copy: *mut T,
    /// The tile of C; adjacent columns.
    pub c: *mut T,
    /// From one row of C to the next.
    pub c_row: usize,
    /// Lanes in use of the last vector of a row: 1 to all.
    pub tail: usize,
    /// Whether to add to C.
    pub accumulate: bool,
    /// If not null, numbers to add to each row, one for each lane in use.
    pub bias: *const T,
    /// What is done with the elements of C, from the first row of the tile on, before they are stored for the last time.
    pub finish: Option<Finish<T>>,
    /// What a later tile reads, to be brought near meanwhile.
    pub ahead: Ahead<T>,
}

/// Runs of memory at a stride that will be read soon.
#[derive(Clone, Copy)]
pub struct Ahead<T> {
    /// The first run.
    pub start: *const T,
    /// Cache lines in a run.
    pub lines: usize,
    /// From one run to the next, in elements.
    pub stride: isize,
    /// How many runs.
    pub runs: usize,
}

impl<T> Ahead<T> {
    /// Nothing to bring near.
    pub const NOTHING: Ahead<T> = Ahead { start: std::ptr::null(), lines: 1, stride: 0, runs: 0 };

    /// Runs of so many elements.
    pub fn new(start: *const T, elements: usize, stride: isize, runs: usize) -> Ahead<T> {
        let offset = start as usize % LINE / size_of::<T>();
        let lines = ((offset + elements) * size_of::<T>()).div_ceil(LINE).max(1);
        Ahead { start, lines, stride, runs }
    }

    /// The first byte of each line.
    #[inline(always)]
    fn all_lines(self) -> impl Iterator<Item = *const u8> {
        let start = self.start.cast::<u8>();
        let stride = self.stride.wrapping_mul(size_of::<T>() as isize);
        (0..self.runs as isize).flat_map(move |run| {
            let run = start.wrapping_offset(run * stride);
            (0..self.lines).map(move |line| run.wrapping_add(line * LINE))
        })
    }

    /// The runs in so many parts of about the same size.
    pub fn in_parts(self, parts: usize) -> impl Iterator<Item = Ahead<T>> {
        let most = self.runs.div_ceil(parts.max(1));
        let (mut start, mut left) = (self.start, self.runs);
        std::iter::from_fn(move || {
            let part = Ahead { start, runs: most.min(left), ..self };
            start = start.wrapping_offset(most as isize * self.stride);
            left -= part.runs;
            (part.runs > 0).then_some(part)
        })
    }
}

/// Terms of a sum between which nothing is done but arithmetic.
const TOGETHER: usize = 4;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Computes a tile of a fixed shape.
pub type TileFunction<T> = unsafe fn(&Tile<T>);

/// The kernels of a fixed shape. They are apart because what one needs would cost the others their registers: where ways to
/// make sums meet, all sums go through memory.
pub struct TileFunctions<T> {
    /// For rows of B at a stride, of whole vectors.
    pub plain: TileFunction<T>,
    /// For rows of B where offsets say, of whole vectors.
    pub gathered: TileFunction<T>,
    /// For all.
    pub any: TileFunction<T>,
}

impl<T> TileFunctions<T> {
    /// Computes a tile.
    ///
    /// # Safety
    /// As for [`compute`].
    #[inline(always)]
    pub unsafe fn run(&self, lanes: usize, tile: &Tile<T>) {
        let function = match (tile.tail == lanes && tile.b_copy.is_null(), tile.b_offsets.is_null()) {
            (true, true) => self.plain,
            (true, false) => self.gathered,
            (false, _) => self.any,
        };
        // SAFETY: the caller's promise.
        unsafe { function(tile) }
    }
}

/// How a kind of tiles makes its sums.
pub trait Form {
    /// Whether all lanes of all vectors of such tiles are in use.
    const WHOLE: bool;

    /// The sums of a tile of `R` rows by `N` vectors.
    ///
    /// # Safety
    /// As for [`compute`].
    unsafe fn sums<V: Vector, const R: usize, const N: usize>(
        tile: &Tile<V::Item>,
        mask: V::Mask,
    ) -> [[V; N]; R];
}

/// Whole vectors from rows of B at a stride.
pub struct Plain;

/// Whole vectors from rows of B where offsets say.
pub struct Gathered;

/// All tiles.
pub struct Any;

impl Form for Plain {
    const WHOLE: bool = true;

    #[inline(always)]
    unsafe fn sums<V: Vector, const R: usize, const N: usize>(
        tile: &Tile<V::Item>,
        mask: V::Mask,
    ) -> [[V; N]; R] {
        // SAFETY: the caller's promise.
        unsafe { in_rows::<V, R, N, false, false>(tile, mask) }
    }
}

impl Form for Gathered {
    const WHOLE: bool = true;

    #[inline(always)]
    unsafe fn sums<V: Vector, const R: usize, const N: usize>(
        tile: &Tile<V::Item>,
        mask: V::Mask,
    ) -> [[V; N]; R] {
        // SAFETY: the caller's promise.
        unsafe { gathered::<V, R, N, false>(tile, mask) }
    }
}

impl Form for Any {
    const WHOLE: bool = false;

    #[inline(always)]
    unsafe fn sums<V: Vector, const R: usize, const N: usize>(
        tile: &Tile<V::Item>,
        mask: V::Mask,
    ) -> [[V; N]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            if !tile.b_offsets.is_null() {
                gathered::<V, R, N, true>(tile, mask)
            } else if !tile.b_copy.is_null() {
                in_rows::<V, R, N, true, true>(tile, mask)
            } else if tile.b_padded || tile.tail == V::LANES {
                in_rows::<V, R, N, false, false>(tile, mask)
            } else {
                in_rows::<V, R, N, true, false>(tile, mask)
            }
        }
    }
}

/// Computes a tile of `R` rows by `N` vectors, which must be of the form.
///
/// # Safety
/// A must be valid for `R` rows and `k` columns, B for `k` rows of all lanes in use (or of all lanes if padded), C and
/// the bias for the lanes in use, the copy for `k * N` vectors; and the processor must have the vector's instruction set.
#[inline(always)]
pub unsafe fn compute<V: Vector, F: Form, const R: usize, const N: usize>(tile: &Tile<V::Item>) {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = V::mask(tile.tail);
        // C comes while the sums are made, instead of when they are stored.
        for i in 0..R {
            for j in 0..N {
                crate::simd::prefetch_near(tile.c.wrapping_add(i * tile.c_row + j * V::LANES).cast());
            }
        }
        let mut sums = F::sums::<V, R, N>(tile, mask);
        let whole = F::WHOLE || tile.tail == V::LANES;
        if !tile.bias.is_null() {
            for j in 0..N {
                let bias = tile.bias.add(j * V::LANES);
                let bias = if whole || j + 1 < N { V::load(bias) } else { V::load_masked(bias, mask) };
                for row in &mut sums {
                    row[j] = row[j].add(bias);
                }
            }
        }
        let bounded = tile.finish.as_ref().map(Finish::is_bounded);
        match (bounded, tile.accumulate) {
            (None, false) => store::<V, F, R, N, false, false, false>(tile, mask, &sums),
            (None, true) => store::<V, F, R, N, true, false, false>(tile, mask, &sums),
            (Some(false), false) => store::<V, F, R, N, false, true, false>(tile, mask, &sums),
            (Some(false), true) => store::<V, F, R, N, true, true, false>(tile, mask, &sums),
            (Some(true), false) => store::<V, F, R, N, false, true, true>(tile, mask, &sums),
            (Some(true), true) => store::<V, F, R, N, true, true, true>(tile, mask, &sums),
        }
    }
}

/// Stores the sums, added to C where the tile says so, after what finishes them, if anything does.
///
/// # Safety
/// As for [`compute`]; with `FINISH` the tile must have a finish.
#[inline(always)]
unsafe fn store<
    V: Vector,
    F: Form,
    const R: usize,
    const N: usize,
    const ACCUMULATE: bool,
    const FINISH: bool,
    const BOUNDED: bool,
>(
    tile: &Tile<V::Item>,
    mask: V::Mask,
    sums: &[[V; N]; R],
) {
    let whole = F::WHOLE || tile.tail == V::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let bounds = match &tile.finish {
            Some(finish) if BOUNDED => finish.bounds::<V>(),
            _ => [V::zero(); 2],
        };
        for (i, row) in sums.iter().enumerate() {
            let c = tile.c.add(i * tile.c_row);
            let shifts = match &tile.finish {
                Some(finish) if FINISH => finish.shifts::<V>(i, BOUNDED),
                _ => [V::zero(); 2],
            };
            for (j, &sum) in row.iter().enumerate() {
                let c = c.add(j * V::LANES);
                let part = !whole && j + 1 == N;
                let mut sum = sum;
                if ACCUMULATE {
                    sum = sum.add(if part { V::load_masked(c, mask) } else { V::load(c) });
                }
                if FINISH {
                    sum = shifted(sum, shifts);
                }
                if BOUNDED {
                    sum = bounded(sum, bounds);
                }
                if part { sum.store_first(c, tile.tail) } else { sum.store(c) }
            }
        }
    }
}

#[inline(always)]
unsafe fn in_rows<V: Vector, const R: usize, const N: usize, const MASKED: bool, const COPY: bool>(
    tile: &Tile<V::Item>,
    mask: V::Mask,
) -> [[V; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        let (mut a, mut b, mut copy) = (tile.a, tile.b, tile.b_copy);
        let rows = Rows::new::<V::Item, R>(tile.a_row);
        let mut left = tile.k;
        for line in tile.ahead.all_lines() {
            if left == 0 {
                break;
            }
            crate::simd::prefetch(line);
            step::<V, R, N, MASKED, COPY>(&mut sums, rows, (a, b, copy), mask);
            (a, b) = (a.offset(tile.a_column), b.offset(tile.b_row));
            copy = copy.wrapping_add(N * V::LANES);
            left -= 1;
        }
        // Distances that the instructions hold cost nothing to add.
        if !MASKED && !COPY && tile.b_row == (N * V::LANES) as isize && tile.a_column == 1 {
            while left >= TOGETHER {
                for number in 0..TOGETHER {
                    let operands = (a.add(number), b.add(number * N * V::LANES), copy);
                    step::<V, R, N, MASKED, COPY>(&mut sums, rows, operands, mask);
                }
                (a, b) = (a.add(TOGETHER), b.add(TOGETHER * N * V::LANES));
                left -= TOGETHER;
            }
        }
        for _ in 0..left {
            step::<V, R, N, MASKED, COPY>(&mut sums, rows, (a, b, copy), mask);
            (a, b) = (a.offset(tile.a_column), b.offset(tile.b_row));
            copy = copy.wrapping_add(N * V::LANES);
        }
        sums
    }
}

/// Adds the products of a column of A with a row of B.
#[inline(always)]
unsafe fn step<V: Vector, const R: usize, const N: usize, const MASKED: bool, const COPY: bool>(
    sums: &mut [[V; N]; R],
    rows: Rows,
    (a, b, copy): (*const V::Item, *const V::Item, *mut V::Item),
    mask: V::Mask,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = [V::zero(); N];
        for (j, vector) in row.iter_mut().enumerate() {
            let b = b.add(j * V::LANES);
            *vector = if MASKED && j + 1 == N { V::load_masked(b, mask) } else { V::load(b) };
            if COPY {
                vector.store(copy.add(j * V::LANES));
            }
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let factor = V::splat(*a.byte_offset(rows.offset(i)));
            for (sum, &vector) in sums.iter_mut().zip(&row) {
                *sum = factor.multiply_add(vector, *sum);
            }
        }
    }
}

/// Where the rows of A are: the multiples of a stride, each of which is one operand of an instruction. Without this they
/// become a chain of additions, each of which waits for the one before: longer than the arithmetic of a narrow tile.
#[derive(Clone, Copy)]
struct Rows {
    one: isize,
    three: isize,
    five: isize,
    seven: isize,
}

impl Rows {
    /// Of `R` rows, which are so many elements apart.
    #[inline(always)]
    fn new<T, const R: usize>(stride: isize) -> Rows {
        let one = stride * size_of::<T>() as isize;
        // As if they had nothing to do with each other.
        let apart = |multiple: isize, row: usize| if row < R { black_box(multiple) } else { multiple };
        Rows { one, three: apart(3 * one, 3), five: apart(5 * one, 5), seven: apart(7 * one, 7) }
    }

    /// Bytes from the first row to this one.
    #[inline(always)]
    fn offset(self, row: usize) -> isize {
        match row {
            0 => 0,
            1 => self.one,
            2 => 2 * self.one,
            3 => self.three,
            4 => 4 * self.one,
            5 => self.five,
            6 => 2 * self.three,
            7 => self.seven,
            more => more as isize * self.one,
        }
    }
}

/// As [`in_rows`], for rows of B at any offsets.
#[inline(always)]
unsafe fn gathered<V: Vector, const R: usize, const N: usize, const MASKED: bool>(
    tile: &Tile<V::Item>,
    mask: V::Mask,
) -> [[V; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        let (mut a, mut offsets) = (tile.a, tile.b_offsets);
        let rows = Rows::new::<V::Item, R>(tile.a_row);
        let mut left = tile.k;
        if !MASKED && tile.a_column == 1 {
            while left >= TOGETHER {
                for number in 0..TOGETHER {
                    let operands = (a.add(number), tile.b.add(*offsets.add(number)), null_mut());
                    step::<V, R, N, MASKED, false>(&mut sums, rows, operands, mask);
                }
                (a, offsets) = (a.add(TOGETHER), offsets.add(TOGETHER));
                left -= TOGETHER;
            }
        }
        for _ in 0..left {
            let operands = (a, tile.b.add(*offsets), null_mut());
            step::<V, R, N, MASKED, false>(&mut sums, rows, operands, mask);
            (a, offsets) = (a.offset(tile.a_column), offsets.add(1));
        }
        sums
    }
}

/// `sums[i][j]` = the sum over k of `a[i * a_row + k] * b[j * b_column + k]`: both operands adjacent along k. With `AHEAD`,
/// what is so many elements behind what is read of B is asked for.
///
/// # Safety
/// The pointers must be valid for `k` elements in each of `R` rows and `N` columns; and the processor must have the
/// vector's instruction set.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub unsafe fn dots<V: Vector, const R: usize, const N: usize, const AHEAD: bool>(
    k: usize,
    a: *const V::Item,
    a_row: isize,
    b: *const V::Item,
    b_column: isize,
    ahead: isize,
) -> [[V::Item; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        let mut at = 0;
        while at + V::LANES <= k {
            let row: [V; R] = std::array::from_fn(|i| V::load(a.offset(i as isize * a_row).add(at)));
            for j in 0..N {
                let b = b.offset(j as isize * b_column).add(at);
                if AHEAD {
                    crate::simd::prefetch(b.wrapping_offset(ahead).cast());
                }
                let vector = V::load(b);
                for i in 0..R {
                    sums[i][j] = row[i].multiply_add(vector, sums[i][j]);
                }
            }
            at += V::LANES;
        }
        if at < k {
            let mask = V::mask(k - at);
            for j in 0..N {
                let vector = V::load_masked(b.offset(j as isize * b_column).add(at), mask);
                for i in 0..R {
                    let factor = V::load_masked(a.offset(i as isize * a_row).add(at), mask);
                    sums[i][j] = factor.multiply_add(vector, sums[i][j]);
                }
            }
        }
        let mut result = [[V::Item::ZERO; N]; R];
        for i in 0..R {
            for j in 0..N {
                result[i][j] = sums[i][j].sum();
            }
        }
        result
    }
}
