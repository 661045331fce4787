//! Functions of `f64` that `std` lacks or computes loosely.

/// The error function: a polynomial fit for small arguments, and one minus W. J. Cody's rational
/// Chebyshev approximations of the complement ("Rational Chebyshev approximations for the error
/// function", Mathematics of Computation 23, 1969) for others. The error stays below 2 units in
/// the last place.
pub(super) fn erf(x: f64) -> f64 {
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

const FRAC_1_SQRT_PI: f64 = 5.641_895_835_477_562_869_5e-1;
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
    2.153_115_354_744_038_46e-8,
    5.641_884_969_886_700_89e-1,
    8.883_149_794_388_375_94e0,
    6.611_919_063_714_162_95e1,
    2.986_351_381_974_001_31e2,
    8.819_522_212_417_690_90e2,
    1.712_047_612_634_070_58e3,
    2.051_078_377_826_071_47e3,
    1.230_339_354_797_997_25e3,
];
const ERFC_MIDDLE_DENOMINATOR: [f64; 9] = [
    1.0,
    1.574_492_611_070_983_47e1,
    1.176_939_508_913_124_99e2,
    5.371_811_018_620_098_58e2,
    1.621_389_574_566_690_19e3,
    3.290_799_235_733_459_63e3,
    4.362_619_090_143_247_16e3,
    3.439_367_674_143_721_64e3,
    1.230_339_354_803_749_42e3,
];
const ERFC_LARGE_NUMERATOR: [f64; 6] = [
    1.631_538_713_730_209_78e-2,
    3.053_266_349_612_323_44e-1,
    3.603_448_999_498_044_39e-1,
    1.257_817_261_112_292_46e-1,
    1.608_378_514_874_227_66e-2,
    6.587_491_615_298_378_03e-4,
];
const ERFC_LARGE_DENOMINATOR: [f64; 6] = [
    1.0,
    2.568_520_192_289_822_42e0,
    1.872_952_849_923_460_47e0,
    5.279_051_029_514_284_12e-1,
    6.051_834_131_244_131_91e-2,
    2.335_204_976_268_691_85e-3,
];

/// `1 / (1 + exp(-x))` without overflow or cancellation.
pub(super) fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// `log(1 + exp(x))` without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    let tail = (-x.abs()).exp().ln_1p();
    if x > 0.0 { x + tail } else { tail }
}

/// Inverse hyperbolic sine; `log1p` keeps small arguments exact.
pub(super) fn asinh(x: f64) -> f64 {
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
pub(super) fn acosh(x: f64) -> f64 {
    if x > 1e8 {
        return x.ln() + std::f64::consts::LN_2;
    }
    let t = x - 1.0;
    (t + (2.0 * t + t * t).sqrt()).ln_1p()
}

/// Inverse hyperbolic tangent; infinite at -1 and 1, NaN outside.
pub(super) fn atanh(x: f64) -> f64 {
    let y = x.abs();
    (0.5 * (2.0 * y / (1.0 - y)).ln_1p()).copysign(x)
}
