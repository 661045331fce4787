//! The error function.
//!
//! Coefficients and method are those of FreeBSD's `msun/src/s_erf.c`:
//!
//! > Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved.
//! > Developed at SunPro, a Sun Microsystems, Inc. business.
//! > Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice
//! > is preserved.

/// `erf(x)` within 1 ULP.
pub(super) fn erf(x: f64) -> f64 {
    let size = x.abs();
    if x.is_nan() {
        x
    } else if size < 2f64.powi(-28) {
        0.125 * (8.0 * x + EFX8 * x)
    } else if size < 0.84375 {
        let square = x * x;
        x + x * (polynomial(&PP, square) / polynomial(&QQ, square))
    } else if size < 1.25 {
        let s = size - 1.0;
        (ERX + polynomial(&PA, s) / polynomial(&QA, s)).copysign(x)
    } else if size < 6.0 {
        (1.0 - complement(size)).copysign(x)
    } else {
        1f64.copysign(x)
    }
}

/// `1 - erf(x)` for x from 1.25 to 28.
fn complement(x: f64) -> f64 {
    let s = 1.0 / (x * x);
    let ratio = if x < 1.0 / 0.35 {
        polynomial(&RA, s) / polynomial(&SA, s)
    } else {
        polynomial(&RB, s) / polynomial(&SB, s)
    };
    // The square of the upper half of x is exact, so that exp(-x * x) keeps its precision.
    let upper = f64::from_bits(x.to_bits() & !0xffff_ffff);
    (-upper * upper - 0.5625).exp() * ((upper - x) * (upper + x) + ratio).exp() / x
}

/// `c[0] + c[1] x + c[2] x^2 + ...`
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, &coefficient| sum * x + coefficient)
}

/// erf(1), rounded to 24 bits.
const ERX: f64 = 0.8450629115104675;
/// 8 (2 / sqrt(pi) - 1)
const EFX8: f64 = 1.0270333367641007;
/// Numerator below 0.84375.
const PP: [f64; 5] = [
    0.12837916709551256,
    -0.3250421072470015,
    -0.02848174957559851,
    -0.005770270296489442,
    -2.3763016656650163e-05,
];
/// Denominator below 0.84375.
const QQ: [f64; 6] = [
    1.0,
    0.39791722395915535,
    0.0650222499887673,
    0.005081306281875766,
    0.00013249473800432164,
    -3.960228278775368e-06,
];
/// Numerator from 0.84375 to 1.25.
const PA: [f64; 7] = [
    -0.0023621185607526594,
    0.41485611868374833,
    -0.3722078760357013,
    0.31834661990116175,
    -0.11089469428239668,
    0.035478304325618236,
    -0.002166375594868791,
];
/// Denominator from 0.84375 to 1.25.
const QA: [f64; 7] = [
    1.0,
    0.10642088040084423,
    0.540397917702171,
    0.07182865441419627,
    0.12617121980876164,
    0.01363708391202905,
    0.011984499846799107,
];
/// Numerator from 1.25 to 1 / 0.35.
const RA: [f64; 8] = [
    -0.009864944034847148,
    -0.6938585727071818,
    -10.558626225323291,
    -62.375332450326006,
    -162.39666946257347,
    -184.60509290671104,
    -81.2874355063066,
    -9.814329344169145,
];
/// Denominator from 1.25 to 1 / 0.35.
const SA: [f64; 9] = [
    1.0,
    19.651271667439257,
    137.65775414351904,
    434.56587747522923,
    645.3872717332679,
    429.00814002756783,
    108.63500554177944,
    6.570249770319282,
    -0.0604244152148581,
];
/// Numerator from 1 / 0.35 to 28.
const RB: [f64; 7] = [
    -0.0098649429247001,
    -0.799283237680523,
    -17.757954917754752,
    -160.63638485582192,
    -637.5664433683896,
    -1025.0951316110772,
    -483.5191916086514,
];
/// Denominator from 1 / 0.35 to 28.
const SB: [f64; 8] = [
    1.0,
    30.33806074348246,
    325.7925129965739,
    1536.729586084437,
    3199.8582195085955,
    2553.0504064331644,
    474.52854120695537,
    -22.44095244658582,
];
