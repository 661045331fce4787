//! The transpose of a small matrix, for kernels that read along one axis and write along another.

use crate::simd::Lanes;

/// Rows and columns of a block that is transposed in registers.
const BLOCK: usize = 4;

/// `to[columns r + c] = from[r + stride c]` for `r` in `0..rows` and `c` in `0..columns`.
///
/// # Safety
/// Both pointers must be valid for the elements named, which must not overlap.
pub unsafe extern "C" fn transpose_f32(
    from: *const f32,
    stride: usize,
    to: *mut f32,
    rows: usize,
    columns: usize,
) {
    let whole = [rows / BLOCK * BLOCK, columns / BLOCK * BLOCK];
    // SAFETY: the caller's promise; blocks lie within.
    unsafe {
        for c in (0..whole[1]).step_by(BLOCK) {
            let lines = [0, 1, 2, 3].map(|line| from.add(stride * (c + line)));
            for r in (0..whole[0]).step_by(BLOCK) {
                f32::transpose4(lines.map(|line| line.add(r)), to.add(columns * r + c), columns);
            }
        }
        let single = |r: usize, c: usize| *to.add(columns * r + c) = *from.add(r + stride * c);
        for r in 0..rows {
            // The columns, or the rows, that are left.
            let first = if r < whole[0] { whole[1] } else { 0 };
            (first..columns).for_each(|c| single(r, c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_moved_once() {
        for (rows, columns, stride) in [(1, 1, 1), (3, 7, 5), (4, 4, 4), (16, 8, 21), (9, 10, 9), (32, 3, 40)]
        {
            let from: Vec<f32> = (0..stride * columns).map(|at| at as f32).collect();
            let mut to = vec![-1.0; rows * columns + 1];
            // SAFETY: the vectors have these elements.
            unsafe { transpose_f32(from.as_ptr(), stride, to.as_mut_ptr(), rows, columns) };
            let wanted = (0..rows).flat_map(|r| (0..columns).map(move |c| (r + stride * c) as f32));
            assert!(wanted.chain([-1.0]).eq(to), "{rows} {columns} {stride}");
        }
    }
}
