//! Products of few rows with a right operand whose columns are adjacent along k, as those of a layer whose weights are inputs:
//! computed as the transpose, `B' A'`. So the large operand is read where it is, and only the small one is packed.

use std::ops::Range;
use std::ptr::{null, null_mut};

use super::block::{Block, PackA, Reading};
use super::pack::panel;
use super::packed::{LINE, Packed, panel_columns, row_length};
use super::{Gemm, Job};
use crate::Element;
use crate::simd::{Kernel, Vector};

/// Columns of the product that are computed before they are brought to their places.
pub const COLUMNS: usize = 64;

/// Elements of scratch memory in common, for A as panels.
pub fn common_elements<T>(m: usize, k: usize) -> usize {
    (0..m).step_by(panel_columns::<T>()).map(|start| k * row_length::<T>(m, start)).sum()
}

/// Elements of scratch memory for each worker.
pub fn own_elements<T>(m: usize) -> usize {
    COLUMNS * sums_row::<T>(m)
}

/// The length of the rows of the transposed sums: whole cache lines.
fn sums_row<T>(m: usize) -> usize {
    m.next_multiple_of(LINE / size_of::<T>())
}

/// Writes the transpose of A as panels.
struct PackRows<T> {
    m: usize,
    k: usize,
    a: *const T,
    a_row: isize,
    a_column: isize,
    to: *mut T,
}

impl<T: Element> Kernel<T> for PackRows<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let mut to = self.to;
        for start in (0..self.m).step_by(panel_columns::<T>()) {
            let length = row_length::<T>(self.m, start);
            let width = length.min(self.m - start);
            // SAFETY: within A, and within the scratch memory in common.
            unsafe {
                let from = self.a.offset(start as isize * self.a_row);
                panel::<V>(from, self.a_row, self.a_column, width, length, self.k, to);
                to = to.add(length * self.k);
            }
        }
    }
}

impl<T: Element> Job<T> {
    /// Packs the left operand for [`Job::transposed`].
    pub(super) unsafe fn pack_rows(&self) {
        let [_, a_row, a_column] = self.problem.a_strides;
        let pack =
            PackRows { m: self.problem.m, k: self.problem.k, a: self.a, a_row, a_column, to: self.scratch };
        // SAFETY: the caller's promise.
        unsafe { T::dispatch(self.tier, pack) }
    }

    /// Computes some columns of a single product.
    pub(super) unsafe fn transposed(&self, columns: Range<usize>, worker: usize) {
        let Gemm { m, k, b_strides, c_row_stride, .. } = self.problem;
        let row = sums_row::<T>(m);
        let b = Packed { data: self.scratch.cast_const(), rows: k, columns: m };
        for start in columns.clone().step_by(COLUMNS) {
            let count = COLUMNS.min(columns.end - start);
            // SAFETY: the caller's promise.
            unsafe {
                let sums = self.scratch.add(self.plan.common + worker * self.plan.own);
                let adds = self.begin(sums, row, start..start + count);
                let block = Block {
                    rows: 0..count,
                    columns: 0..m,
                    k,
                    a: self.b.offset(start as isize * b_strides[2]),
                    a_row: b_strides[2],
                    a_column: 1,
                    pack_a: PackA::Never,
                    a_is_far: true,
                    b: &b,
                    reading: Reading::InPlace,
                    streams: false,
                    ends_in_dots: false,
                    c: sums,
                    c_row: row,
                    accumulate: adds,
                    bias: null(),
                    epilogue: None,
                    place: (0, 0),
                    scratch: null_mut(),
                };
                T::dispatch(self.tier, &block);
                let c = self.c.add(start);
                turn(sums, row, [count, m], c, c_row_stride);
                if let Some(epilogue) = self.epilogue {
                    let (batch, first) = self.first;
                    let environment = epilogue.environment;
                    (epilogue.function)(c, c_row_stride, m, count, batch, first, start, environment);
                }
            }
        }
    }

    /// Writes what the sums of some columns are added to: what is in C, and the bias. Tells whether there is anything.
    unsafe fn begin(&self, sums: *mut T, row: usize, columns: Range<usize>) -> bool {
        let Gemm { m, c_row_stride, accumulate, .. } = self.problem;
        // SAFETY: within C, the bias and the sums.
        unsafe {
            if accumulate {
                turn(self.c.add(columns.start), c_row_stride, [m, columns.len()], sums, row);
            }
            if !self.bias.is_null() {
                for (j, column) in columns.enumerate() {
                    let (bias, line) = (*self.bias.add(column), sums.add(j * row));
                    for i in 0..m {
                        *line.add(i) = if accumulate { bias.plus(*line.add(i)) } else { bias };
                    }
                }
            }
        }
        accumulate || !self.bias.is_null()
    }
}

/// `to[i * to_row + j] = from[j * from_row + i]` for `j` below the first size and `i` below the second.
unsafe fn turn<T: Element>(
    from: *const T,
    from_row: usize,
    [lines, length]: [usize; 2],
    to: *mut T,
    to_row: usize,
) {
    let whole = [lines / 4 * 4, length / 4 * 4];
    // SAFETY: the caller's promise.
    unsafe {
        for i in (0..whole[1]).step_by(4) {
            for j in (0..whole[0]).step_by(4) {
                let line = |number: usize| from.add((j + number) * from_row + i);
                T::transpose4([line(0), line(1), line(2), line(3)], to.add(i * to_row + j), to_row);
            }
        }
        for i in 0..length {
            for j in if i < whole[1] { whole[0] } else { 0 }..lines {
                *to.add(i * to_row + j) = *from.add(j * from_row + i);
            }
        }
    }
}
