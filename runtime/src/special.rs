//! Functions of `f64` that `std` lacks or computes loosely.

/// The error function: a polynomial fit for small arguments, and one minus W. J. Cody's rational
/// Chebyshev approximations of the complement ("Rational Chebyshev approximations for the error
/// function", Mathematics of Computation 23, 1969) for others. The error stays below 2 units in
/// the last place.
pub(crate) fn erf(x: f64) -> f64 {
    let y = x.abs();
    if x.is_nan() {
        return x;
    }
    if y <= 0.85 {
        let square = x * x;
        return x + x * ERF_SMALL.iter().fold(0.0, |sum, c| sum * square + c);
    }
    let complement = if y <= 4.0 {
        gaussian(y) * ratio(y, &ERFC_MIDDLE_NUMERATOR, &ERFC_MIDDLE_DENOMINATOR)
    } else if y < 6.0 {
        let square = 1.0 / (y * y);
        let series = square * ratio(square, &ERFC_LARGE_NUMERATOR, &ERFC_LARGE_DENOMINATOR);
        gaussian(y) * (FRAC_1_SQRT_PI - series) / y
    } else {
        0.0
    };
    (1.0 - complement).copysign(x)
}

/// `exp(-y * y)`, with the square split so that its rounding does not reach the result.
fn gaussian(y: f64) -> f64 {
    let high = (y * 16.0).trunc() / 16.0;
    let rest = (y - high) * (y + high);
    (-high * high).exp() * (-rest).exp()
}

/// Quotient of two polynomials, coefficients from the highest power down.
fn ratio(x: f64, numerator: &[f64], denominator: &[f64]) -> f64 {
    let horner = |coefficients: &[f64]| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    horner(numerator) / horner(denominator)
}

const FRAC_1_SQRT_PI: f64 = 0.5641895835477563;
/// `erf(x) / x - 1` in `x^2`, for `|x| <= 0.86`.
const ERF_SMALL: [f64; 13] = [
    6.709115892464747e-11,
    -1.1747878654392421e-09,
    1.4742073960627408e-08,
    -1.6360743271192746e-07,
    1.6461842998815954e-06,
    -1.4925640417652111e-05,
    0.000120553327321066,
    -0.0008548327019244143,
    0.005223977625396665,
    -0.02686617064512832,
    0.11283791670955116,
    -0.37612638903183754,
    0.1283791670955126,
];
const ERFC_MIDDLE_NUMERATOR: [f64; 9] = [
    2.1531153547440383e-08,
    0.5641884969886701,
    8.883149794388377,
    66.11919063714163,
    298.6351381974001,
    881.952221241769,
    1712.0476126340707,
    2051.0783778260716,
    1230.3393547979972,
];
const ERFC_MIDDLE_DENOMINATOR: [f64; 9] = [
    1.0,
    15.744926110709835,
    117.6939508913125,
    537.1811018620099,
    1621.3895745666903,
    3290.7992357334597,
    4362.619090143247,
    3439.3676741437216,
    1230.3393548037495,
];
const ERFC_LARGE_NUMERATOR: [f64; 6] = [
    0.016315387137302097,
    0.30532663496123236,
    0.36034489994980445,
    0.12578172611122926,
    0.016083785148742275,
    0.0006587491615298378,
];
const ERFC_LARGE_DENOMINATOR: [f64; 6] = [
    1.0,
    2.568520192289822,
    1.8729528499234604,
    0.5279051029514285,
    0.06051834131244132,
    0.0023352049762686918,
];

/// `1 / (1 + exp(-x))` without overflow or cancellation.
pub(crate) fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// `log(1 + exp(x))` without overflow.
pub(crate) fn softplus(x: f64) -> f64 {
    let tail = (-x.abs()).exp().ln_1p();
    if x > 0.0 { x + tail } else { tail }
}

/// Inverse hyperbolic sine; `log1p` keeps small arguments exact.
pub(crate) fn asinh(x: f64) -> f64 {
    let y = x.abs();
    let size = if y > 1e8 {
        y.ln() + std::f64::consts::LN_2
    } else {
        let square = y * y;
        (y + square / (1.0 + (square + 1.0).sqrt())).ln_1p()
    };
    size.copysign(x)
}

/// Inverse hyperbolic cosine; NaN below 1.
pub(crate) fn acosh(x: f64) -> f64 {
    if x > 1e8 {
        return x.ln() + std::f64::consts::LN_2;
    }
    let t = x - 1.0;
    (t + (2.0 * t + t * t).sqrt()).ln_1p()
}

/// Inverse hyperbolic tangent; infinite at -1 and 1, NaN outside.
pub(crate) fn atanh(x: f64) -> f64 {
    let y = x.abs();
    (0.5 * (2.0 * y / (1.0 - y)).ln_1p()).copysign(x)
}
