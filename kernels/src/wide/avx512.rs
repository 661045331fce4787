//! Elementary functions in vectors of 512 bits, where AVX-512 has instructions that plain code has no words for: one
//! scales by a power of two, denormal results included, and one looks up 16 numbers in a table that is a register.

use std::arch::x86_64::*;

/// `y[i] = f(x[i])`, vector by vector.
macro_rules! over_slices {
    ($($name:ident)*) => {$(
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        pub unsafe extern "C" fn $name(n: usize, x: *const f32, y: *mut f32) {
            let whole = n / 16 * 16;
            // SAFETY: the caller's promise; the mask leaves out what lies behind the slices.
            unsafe {
                for at in (0..whole).step_by(16) {
                    _mm512_storeu_ps(y.add(at), of::$name(_mm512_loadu_ps(x.add(at))));
                }
                if whole < n {
                    let mask = (1 << (n - whole)) - 1;
                    let from = _mm512_maskz_loadu_ps(mask, x.add(whole));
                    _mm512_mask_storeu_ps(y.add(whole), mask, of::$name(from));
                }
            }
        }
    )*};
}

over_slices! { exp erf sigmoid }

/// The functions of one vector. The arithmetic of `exp` and `sigmoid` is that of the functions for other tiers.
#[allow(clippy::missing_safety_doc)]
mod of {
    use super::*;

    /// Adding and subtracting this rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12582912.0;
    const SIGN: f32 = -0.0;

    #[inline(always)]
    unsafe fn number(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    /// The polynomial with the coefficients of falling powers.
    #[inline(always)]
    unsafe fn polynomial<const N: usize>(x: __m512, coefficients: [__m512; N]) -> __m512 {
        let mut sum = coefficients[0];
        let mut index = 1;
        while index < N {
            sum = unsafe { _mm512_fmadd_ps(sum, x, coefficients[index]) };
            index += 1;
        }
        sum
    }

    #[inline(always)]
    pub unsafe fn exp(x: __m512) -> __m512 {
        unsafe {
            // In this order a NaN stays one.
            let x = _mm512_min_ps(number(89.0), x);
            let x = _mm512_max_ps(number(-104.0), x);
            let n = _mm512_sub_ps(
                _mm512_fmadd_ps(x, number(std::f32::consts::LOG2_E), number(ROUND)),
                number(ROUND),
            );
            let r = _mm512_fmadd_ps(n, number(-0.693_359_4), x);
            let r = _mm512_fmadd_ps(n, number(2.121_944_4e-4), r);
            let p = polynomial(
                r,
                [
                    number(1.987_569_1e-4),
                    number(1.398_2e-3),
                    number(8.333_452e-3),
                    number(4.166_579_6e-2),
                    number(1.666_666_5e-1),
                    number(0.5),
                ],
            );
            let value = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r), number(1.0));
            _mm512_scalef_ps(value, n)
        }
    }

    #[inline(always)]
    pub unsafe fn sigmoid(x: __m512) -> __m512 {
        unsafe {
            let e = exp(_mm512_or_ps(x, number(SIGN)));
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
            let numerator = _mm512_mask_mov_ps(number(1.0), negative, e);
            _mm512_div_ps(numerator, _mm512_add_ps(number(1.0), e))
        }
    }

    /// Pieces of the error function a unit has.
    const PER_UNIT: f32 = 3.875;

    /// What the error function is 1 of, and is in the last piece.
    const LARGEST: f32 = 3.99;

    /// A polynomial for each of 16 pieces of `[0, 4]`, around the piece's middle `i / PER_UNIT`.
    #[inline(always)]
    pub unsafe fn erf(x: __m512) -> __m512 {
        unsafe {
            // In this order a NaN stays one.
            let t = _mm512_min_ps(number(LARGEST), _mm512_andnot_ps(number(SIGN), x));
            let shifted = _mm512_fmadd_ps(t, number(PER_UNIT), number(ROUND));
            let middle = _mm512_sub_ps(shifted, number(ROUND));
            let distance = _mm512_fnmadd_ps(middle, number(1.0 / PER_UNIT), t);
            let piece = _mm512_castps_si512(shifted);
            let coefficient =
                |power: usize| _mm512_permutexvar_ps(piece, _mm512_loadu_ps(PIECES[power].as_ptr()));
            let slope = polynomial(
                distance,
                [coefficient(5), coefficient(4), coefficient(3), coefficient(2), coefficient(1)],
            );
            let is_first = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(middle, number(0.0));
            let start = _mm512_mask_mov_ps(coefficient(0), is_first, t);
            let value = _mm512_min_ps(number(1.0), _mm512_fmadd_ps(slope, distance, start));
            _mm512_or_ps(value, _mm512_and_ps(number(SIGN), x))
        }
    }

    /// The coefficients of rising powers of the pieces' polynomials: least relative error (4e-8), found by weighted
    /// least squares. To the first piece, which has no constant, the distance itself is added, so that small numbers
    /// keep their digits.
    #[rustfmt::skip]
    const PIECES: [[f32; 16]; 6] = [
        [0.0, 2.8485748e-1, 5.345589e-1, 7.2642857e-1, 8.5566413e-1, 9.319675e-1, 9.714576e-1, 9.893723e-1, 9.9649596e-1, 9.989788e-1, 9.997373e-1, 9.9994045e-1, 9.999881e-1, 9.999979e-1, 9.999997e-1, 9.9999994e-1],
        [1.2837917e-1, 1.0556799, 8.644975e-1, 6.1965436e-1, 3.8876727e-1, 2.1349326e-1, 1.0262022e-1, 4.3175373e-2, 1.589987e-2, 5.1251356e-3, 1.4460105e-3, 3.5710173e-4, 7.7191005e-5, 1.4604807e-5, 2.4186847e-6, 3.506041e-7],
        [2.6149542e-7, -2.724274e-1, -4.461953e-1, -4.7971922e-1, -4.013211e-1, -2.7546647e-1, -1.5888683e-1, -7.799293e-2, -3.283605e-2, -1.1891529e-2, -3.7257797e-3, -1.0213439e-3, -2.2670777e-4, -5.1113206e-5, -2.0710562e-5, 6.1262763e-6],
        [-3.7614128e-1, -3.0504617e-1, -1.3465768e-1, 4.1059073e-2, 1.4657263e-1, 1.6580595e-1, 1.2981685e-1, 7.9537764e-2, 3.9879464e-2, 1.6722992e-2, 5.937943e-3, 1.7992989e-3, 4.677385e-4, 1.0470026e-4, 2.0236559e-5, 3.3843758e-6],
        [2.8320798e-4, 1.2915616e-1, 1.828403e-1, 1.428347e-1, 5.9023794e-2, -1.5298766e-2, -4.7783036e-2, -4.5807913e-2, -2.9607836e-2, -1.6224112e-2, -6.8103615e-3, -1.7795681e-3, -1.3927448e-3, -3.5124613e-5, 6.834912e-4, -4.5496848e-4],
        [1.1097503e-1, 7.891748e-2, 3.8439245e-3, -5.7006333e-2, -6.730153e-2, -4.2043507e-2, -9.719129e-3, 9.107554e-3, 1.2941163e-2, 9.331007e-3, 4.8593725e-3, 1.990862e-3, 6.654118e-4, 1.8518217e-4, 4.3404732e-5, 8.63671e-6],
    ];
}
