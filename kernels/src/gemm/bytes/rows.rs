//! The rows of A as bytes.

use super::super::Gemm;
use super::TOGETHER;
use super::tile::mask;
use std::arch::x86_64::*;

/// Writes the rows of A as bytes, and before them the least number of each row, if all of its numbers are whole, close
/// together, and so small that no sum is too large.
///
/// # Safety
/// `a` must be valid for the A of the problem, `out` for [`super::rows_elements`], and the processor must have the instructions.
pub(super) unsafe fn as_bytes(gemm: &Gemm, a: *const f32, out: *mut i32) -> bool {
    let Gemm { batch, group, group_strides, m, k, a_strides: [inner, a_row, a_column], .. } = *gemm;
    let most = f64::from(i32::MAX) / 128.0 / k as f64 - 255.0;
    (0..batch * m).all(|row| {
        let (batch, within) = (row / m, (row % m) as isize);
        let product = (batch / group) as isize * group_strides[0] + (batch % group) as isize * inner;
        // SAFETY: the caller's promise.
        unsafe {
            let from = a.offset(product + within * a_row);
            let to = out.add(gemm.batch * m + row * k.div_ceil(TOGETHER)).cast::<u8>();
            to.cast::<i32>().add(k.div_ceil(TOGETHER) - 1).write(0);
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            let is_whole = match a_column {
                1 => range_of_row(from, k, &mut low, &mut high),
                _ => (0..k).all(|i| {
                    let x = *from.offset(i as isize * a_column);
                    (low, high) = (low.min(x), high.max(x));
                    x.trunc() == x
                }),
            };
            if !is_whole || high - low > 255.0 || f64::from(low.abs()) > most {
                return false;
            }
            *out.add(row) = low as i32;
            match a_column {
                1 => row_as_bytes(from, k, low, to),
                _ => (0..k).for_each(|i| *to.add(i) = (*from.offset(i as isize * a_column) - low) as u8),
            }
            true
        }
    })
}

/// The least and the greatest of some adjacent numbers, and whether all are whole.
///
/// # Safety
/// `from` must be valid for `k` numbers, and the processor must have the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) unsafe fn range_of_row(from: *const f32, k: usize, least: &mut f32, greatest: &mut f32) -> bool {
    // SAFETY: the caller's promise.
    let number = |at: usize| unsafe { _mm512_maskz_loadu_ps(mask(k - at), from.add(at)) };
    let (mut low, mut high) = (_mm512_set1_ps(f32::INFINITY), _mm512_set1_ps(f32::NEG_INFINITY));
    let mut all_whole = !0;
    for at in (0..k).step_by(16) {
        let x = number(at);
        let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x);
        all_whole &= _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(whole, x);
        low = _mm512_mask_min_ps(low, mask(k - at), low, x);
        high = _mm512_mask_max_ps(high, mask(k - at), high, x);
    }
    (*least, *greatest) = (_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high));
    all_whole == !0
}

/// Writes some adjacent whole numbers, less the least, as bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn row_as_bytes(from: *const f32, k: usize, least: f32, to: *mut u8) {
    let least = _mm512_set1_ps(least);
    for at in (0..k).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask(k - at), from.add(at));
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(_mm512_sub_ps(x, least)));
            _mm_mask_storeu_epi8(to.add(at).cast(), mask(k - at), bytes);
        }
    }
}
