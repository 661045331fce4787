//! What the lanes of a vector of results read of the lines of the source.

use super::Problem;
use crate::Element;
use crate::simd::Vector;

/// Vectors whose masks are kept at a time.
const MOST: usize = 8;

/// Results at some columns of a line, of one channel or, with `PAIR`, of two narrow ones whose windows move by two: the
/// first in the lower half of the lanes, the second in the upper half. `S` is the stride; `CENTERED` says that the first
/// column of the source is in the middle of the first window, so that vectors that move by two begin where lines do.
#[derive(Clone, Copy)]
pub struct Column<V: Vector, const S: usize, const CENTERED: bool, const PAIR: bool> {
    /// The first column.
    pub start: usize,
    /// How many there are.
    pub count: usize,
    /// The lanes of the results of the first channel.
    pub lanes: V::Mask,
    /// From the start of a line to what lane 0 loads first.
    from: isize,
    /// Lanes whose elements are in the line: of what is read through the columns of the kernel if windows move by one, else
    /// of two vectors that follow each other, or of one and of that two elements on for a pair.
    masks: [V::Mask; 3],
    /// Whether the element next to two vectors is in the line.
    has_next: bool,
}

impl<V: Vector, const S: usize, const CENTERED: bool, const PAIR: bool> Column<V, S, CENTERED, PAIR> {
    /// The results from a column on, as far as the line and a channel's lanes go.
    ///
    /// # Safety
    /// The processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn new(problem: &Problem, start: usize) -> Self {
        let Problem { source: [_, width], other: [_, columns], pad: [_, left], .. } = *problem;
        let half = V::LANES / 2;
        let count = (columns - start).min(if PAIR { half } else { V::LANES });
        let shift = isize::from(S == 2 && CENTERED && !PAIR);
        let from = (start * S) as isize - left + shift;
        // Elements from a lane to the same lane of what the next mask is for.
        let step = match (S, PAIR) {
            (1, _) => 1,
            (_, false) => V::LANES as isize,
            (_, true) => 2,
        };
        let next = from + if CENTERED { -1 } else { 2 * V::LANES as isize };
        // SAFETY: the caller's promise.
        unsafe {
            let mut masks = [V::mask(0); 3];
            for (part, mask) in masks.iter_mut().enumerate() {
                *mask = inside::<V>(from + part as isize * step, width);
            }
            Column {
                start,
                count,
                lanes: V::mask(count),
                from,
                masks,
                has_next: next >= 0 && next < width as isize,
            }
        }
    }

    /// What the lanes read of a line, and of that line of the second channel, through the three columns of the kernel;
    /// zeros outside.
    ///
    /// # Safety
    /// The lines must be valid; and the processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn taps(&self, line: *const V::Item, second: *const V::Item) -> [V; 3] {
        let (from, also) = (line.wrapping_offset(self.from), second.wrapping_offset(self.from));
        // SAFETY: what the masks have is in the lines.
        unsafe {
            match (S, PAIR) {
                (1, _) => [
                    self.load(from, 0),
                    self.load(from.wrapping_add(1), 1),
                    self.load(from.wrapping_add(2), 2),
                ],
                (_, false) => {
                    let (low, high) = (self.load(from, 0), self.load(from.wrapping_add(V::LANES), 1));
                    let (even, odd) = (V::even(low, high), V::odd(low, high));
                    let next = from.wrapping_offset(if CENTERED { -1 } else { 2 * V::LANES as isize });
                    let next = if self.has_next { *next } else { V::Item::ZERO };
                    if CENTERED {
                        [odd.preceded_by(next), even, odd]
                    } else {
                        [even, odd, even.followed_by(next)]
                    }
                }
                (_, true) => {
                    let (first, second) = (self.load(from, 0), self.load(also, 0));
                    let later =
                        V::even(self.load(from.wrapping_add(2), 1), self.load(also.wrapping_add(2), 1));
                    [V::even(first, second), V::odd(first, second), later]
                }
            }
        }
    }

    /// The lanes of a mask, zeros elsewhere.
    #[inline(always)]
    unsafe fn load(&self, from: *const V::Item, mask: usize) -> V {
        // SAFETY: what the mask has is in the line.
        unsafe { V::load_masked(from, self.masks[mask]) }
    }
}

/// The lanes that are in a line of so many elements, if the first lane is so far from its start.
#[inline(always)]
unsafe fn inside<V: Vector>(at: isize, width: usize) -> V::Mask {
    let lanes = V::LANES as isize;
    let first = (-at).clamp(0, lanes) as usize;
    let end = (width as isize - at).clamp(first as isize, lanes) as usize;
    // SAFETY: the caller's promise.
    unsafe { V::mask_between(first, end) }
}

/// Some columns of a line, vector by vector.
pub struct Columns<V: Vector, const S: usize, const CENTERED: bool, const PAIR: bool> {
    columns: [Column<V, S, CENTERED, PAIR>; MOST],
    count: usize,
}

impl<V: Vector, const S: usize, const CENTERED: bool, const PAIR: bool> Columns<V, S, CENTERED, PAIR> {
    /// The vectors from this column on. The last one of a line may overlap the one before if `overlaps`.
    ///
    /// # Safety
    /// The processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn new(problem: &Problem, start: usize, overlaps: bool) -> Self {
        let width = problem.other[1];
        // SAFETY: the caller's promise.
        unsafe {
            let mut columns = [Column::new(problem, start); MOST];
            let count = (width - start).div_ceil(V::LANES).min(MOST);
            for (number, column) in columns.iter_mut().enumerate().take(count).skip(1) {
                let at = start + number * V::LANES;
                let is_last = overlaps && at + V::LANES > width;
                *column = Column::new(problem, if is_last { width - V::LANES } else { at });
            }
            Columns { columns, count }
        }
    }

    /// The vectors.
    #[inline(always)]
    pub fn all(&self) -> &[Column<V, S, CENTERED, PAIR>] {
        &self.columns[..self.count]
    }

    /// The column after them.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.columns[self.count - 1].start + V::LANES
    }
}
