//! The matrix of patches of an image, which exists only panel by panel.

use super::source::Source;
use crate::Element;
use crate::gemm::pack::{Panels, copy_row};
use crate::simd::{Lanes, Vector};

/// The widest panel of any tier, in elements.
const WIDEST: usize = 64;

/// Patches of some images: rows are (channel, tap), columns are (image, position).
#[derive(Clone, Copy)]
pub struct Patches<T> {
    /// The first channel of the first image, laid out as a [`Source`] says.
    pub data: *const T,
    /// From one image to the next.
    pub image: usize,
    /// From one channel to the next.
    pub channel: usize,
    /// From one plane of rows, and from one row, to the next.
    pub strides: [usize; 2],
    /// The number of positions along each axis.
    pub positions: [usize; 3],
    /// Offsets of the taps.
    pub offsets: *const usize,
    /// The number of taps.
    pub taps: usize,
}

impl<T: Element> Patches<T> {
    /// Patches at `positions` of images laid out as `source`.
    pub fn new(
        source: &Source,
        data: *const T,
        image: usize,
        positions: [usize; 3],
        offsets: *const usize,
        taps: usize,
    ) -> Patches<T> {
        let (mut strides, mut positions) = (source.strides, positions);
        if strides[1] == positions[2] || positions[1] == 1 {
            // Rows follow each other without a gap.
            positions = [positions[0], 1, positions[1] * positions[2]];
            if strides[0] == positions[2] || positions[0] == 1 {
                positions = [1, 1, positions[0] * positions[2]];
            }
            strides[1] = 0;
        }
        Patches { data, image, channel: source.channel, strides, positions, offsets, taps }
    }

    /// Calls `run(number, offset)` for the runs of adjacent elements that hold columns `first..first + count`.
    #[inline(always)]
    fn runs(&self, first: usize, count: usize, mut run: impl FnMut(usize, usize)) {
        let [p0, p1, p2] = self.positions;
        let (mut row, mut at) = (first / p2, first % p2);
        let (mut one, mut zero) = (row % p1, row / p1 % p0);
        row /= p0 * p1;
        let mut left = count;
        while left > 0 {
            let length = left.min(p2 - at);
            run(length, row * self.image + zero * self.strides[0] + one * self.strides[1] + at);
            left -= length;
            at = 0;
            one += 1;
            if one == p1 {
                (one, zero) = (0, zero + 1);
                if zero == p0 {
                    (zero, row) = (0, row + 1);
                }
            }
        }
    }

    /// The offset of a row.
    #[inline(always)]
    unsafe fn row(&self, channel: usize, tap: usize) -> usize {
        // SAFETY: the tap is one of the taps.
        channel * self.channel + unsafe { *self.offsets.add(tap) }
    }
}

impl<T: Element> Panels<T> for Patches<T> {
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
        let (mut lengths, mut starts, mut count) = ([0; WIDEST], [0; WIDEST], 0);
        self.runs(column, width, |length, start| {
            (lengths[count], starts[count]) = (length, start);
            count += 1;
        });
        let (mut channel, mut tap) = (first / self.taps, first % self.taps);
        let mut out = out;
        for _ in 0..rows {
            // SAFETY: the caller's promise.
            unsafe {
                let base = self.data.add(self.row(channel, tap));
                if count == 1 {
                    copy_row::<V>(base.add(starts[0]), width, padded, out);
                } else {
                    let mut to = out;
                    for (&length, &start) in lengths.iter().zip(&starts).take(count) {
                        copy_row::<V>(base.add(start), length, length, to);
                        to = to.add(length);
                    }
                    for l in width..padded {
                        *out.add(l) = T::ZERO;
                    }
                }
                out = out.add(padded);
            }
            tap += 1;
            if tap == self.taps {
                (tap, channel) = (0, channel + 1);
            }
        }
    }

    #[inline(always)]
    fn in_place(&self, _: usize, _: usize) -> Option<(*const T, isize)> {
        None
    }
}

/// Patches whose rows are read where they are, one run of adjacent columns at a time.
#[derive(Clone, Copy)]
pub struct Runs<T> {
    /// The patches.
    pub patches: Patches<T>,
    /// The offset of each row from a column's place in row 0's channel, which is at no offset.
    pub rows: *const usize,
}

impl<T: Element> Panels<T> for Runs<T> {
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
        unsafe { self.patches.pack::<V>(column, width, padded, first, rows, out) }
    }

    #[inline(always)]
    fn in_place(&self, _row: usize, column: usize) -> Option<(*const T, isize)> {
        let mut place = 0;
        self.patches.runs(column, 1, |_, start| place = start);
        Some((self.patches.data.wrapping_add(place), 0))
    }

    #[inline(always)]
    fn offsets(&self) -> Option<*const usize> {
        Some(self.rows)
    }

    #[inline(always)]
    fn together(&self, column: usize) -> usize {
        self.patches.positions[2] - column % self.patches.positions[2]
    }
}

/// The transpose: rows are (image, position), columns are (channel, tap).
#[derive(Clone, Copy)]
pub struct Transposed<T>(pub Patches<T>);

impl<T: Element> Panels<T> for Transposed<T> {
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
        let patches = &self.0;
        let mut bases = [0; WIDEST];
        let (mut channel, mut tap) = (column / patches.taps, column % patches.taps);
        for base in bases.iter_mut().take(width) {
            // SAFETY: the columns are within the matrix.
            *base = unsafe { patches.row(channel, tap) };
            tap += 1;
            if tap == patches.taps {
                (tap, channel) = (0, channel + 1);
            }
        }
        let mut out = out;
        patches.runs(first, rows, |length, start| {
            // SAFETY: the caller's promise.
            unsafe {
                let from = patches.data.add(start);
                let mut done = 0;
                while done < length {
                    let count = (length - done).min(16);
                    transpose::<T>(from.add(done), &bases[..width], padded, count, out);
                    out = out.add(count * padded);
                    done += count;
                }
            }
        });
    }

    #[inline(always)]
    fn in_place(&self, _: usize, _: usize) -> Option<(*const T, isize)> {
        None
    }
}

/// `out[r * padded + l] = from[bases[l] + r]`, zero for the lanes without a base.
#[inline(always)]
unsafe fn transpose<T: Element>(from: *const T, bases: &[usize], padded: usize, rows: usize, out: *mut T) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = rows / 4 * 4;
        let mut l = 0;
        while l + 4 <= bases.len() {
            let lines: [*const T; 4] = std::array::from_fn(|i| from.add(bases[l + i]));
            for r in (0..whole).step_by(4) {
                <T as Lanes>::transpose4(lines.map(|line| line.add(r)), out.add(r * padded + l), padded);
            }
            for r in whole..rows {
                for (i, line) in lines.iter().enumerate() {
                    *out.add(r * padded + l + i) = *line.add(r);
                }
            }
            l += 4;
        }
        for (l, &base) in bases.iter().enumerate().skip(l) {
            for r in 0..rows {
                *out.add(r * padded + l) = *from.add(base + r);
            }
        }
        for r in 0..rows {
            for l in bases.len()..padded {
                *out.add(r * padded + l) = T::ZERO;
            }
        }
    }
}
