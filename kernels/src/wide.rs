//! Elementary functions of `f32` and conversions of half-size numbers, over whole slices.
//!
//! The loops are plain; the compiler makes them as wide as each tier allows. What AVX-512 does better by its own
//! instructions is in `avx512`.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::Tier;

/// `y[i] = f(x[i])` for `i` in `0..n`. The slices may be the same, and must not overlap otherwise; both must be valid
/// for `n` elements.
pub type WidePointer = unsafe extern "C" fn(n: usize, x: *const f32, y: *mut f32);

/// An elementary function, within about 2 units in the last place; infinities, NaN and denormal numbers as in the
/// mathematical function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WideFunction {
    /// The exponential function.
    Exp,
    /// The natural logarithm.
    Log,
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// `log(1 + exp(x))`.
    Softplus,
    /// The arc tangent.
    Atan,
}

impl WideFunction {
    /// All functions.
    pub const ALL: [WideFunction; 9] = [
        WideFunction::Exp,
        WideFunction::Log,
        WideFunction::Tanh,
        WideFunction::Erf,
        WideFunction::Sigmoid,
        WideFunction::Sin,
        WideFunction::Cos,
        WideFunction::Softplus,
        WideFunction::Atan,
    ];

    /// The function for the current tier.
    pub fn pointer(self) -> WidePointer {
        self.pointer_for(Tier::current())
    }

    /// The function for a tier; it may be called only on a processor that has the tier.
    pub fn pointer_for(self, tier: Tier) -> WidePointer {
        #[cfg(target_arch = "x86_64")]
        match (self, tier) {
            (WideFunction::Exp, Tier::Avx512) => return avx512::exp,
            (WideFunction::Erf, Tier::Avx512) => return avx512::erf,
            (WideFunction::Sigmoid, Tier::Avx512) => return avx512::sigmoid,
            _ => {}
        }
        match self {
            WideFunction::Exp => exp::pointer(tier),
            WideFunction::Log => log::pointer(tier),
            WideFunction::Tanh => tanh::pointer(tier),
            WideFunction::Erf => erf::pointer(tier),
            WideFunction::Sigmoid => sigmoid::pointer(tier),
            WideFunction::Sin => sin::pointer(tier),
            WideFunction::Cos => cos::pointer(tier),
            WideFunction::Softplus => softplus::pointer(tier),
            WideFunction::Atan => atan::pointer(tier),
        }
    }
}

/// Elements at a time. Results go to an array of their own first, so that the compiler need not fear that the slices
/// overlap.
const CHUNK: usize = 64;

/// `y[i] = f(x[i])`, after `mend` had its way with each chunk; `a` and `b` only fill the arrays.
#[inline(always)]
unsafe fn map<A: Copy, B: Copy>(
    n: usize,
    x: *const A,
    y: *mut B,
    (a, b): (A, B),
    f: impl Fn(A) -> B,
    mend: impl Fn(&[A; CHUNK], &mut [B; CHUNK]),
) {
    let whole = n / CHUNK * CHUNK;
    // SAFETY: the caller's promise.
    unsafe {
        for at in (0..whole).step_by(CHUNK) {
            let to = chunk(&*x.add(at).cast(), b, &f, &mend);
            y.add(at).cast::<[B; CHUNK]>().write_unaligned(to);
        }
        if whole < n {
            let mut from = [a; CHUNK];
            from.as_mut_ptr().copy_from_nonoverlapping(x.add(whole), n - whole);
            let to = chunk(&from, b, &f, &mend);
            y.add(whole).copy_from_nonoverlapping(to.as_ptr(), n - whole);
        }
    }
}

#[inline(always)]
fn chunk<A: Copy, B: Copy>(
    from: &[A; CHUNK],
    b: B,
    f: impl Fn(A) -> B,
    mend: impl Fn(&[A; CHUNK], &mut [B; CHUNK]),
) -> [B; CHUNK] {
    let mut to = [b; CHUNK];
    for (to, from) in to.iter_mut().zip(from) {
        *to = f(*from);
    }
    mend(from, &mut to);
    to
}

macro_rules! tiers {
    ($($name:ident: $from:ty => $to:ty, $mend:expr;)*) => {$(
        mod $name {
            use super::*;

            pub unsafe extern "C" fn portable(n: usize, x: *const $from, y: *mut $to) {
                // SAFETY: the caller's promise.
                unsafe { map(n, x, y, Default::default(), |x| of::$name::<false>(x), $mend) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            pub unsafe extern "C" fn avx2(n: usize, x: *const $from, y: *mut $to) {
                // SAFETY: the caller's promise.
                unsafe { map(n, x, y, Default::default(), |x| of::$name::<true>(x), $mend) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            pub unsafe extern "C" fn avx512(n: usize, x: *const $from, y: *mut $to) {
                // SAFETY: the caller's promise.
                unsafe { map(n, x, y, Default::default(), |x| of::$name::<true>(x), $mend) }
            }

            pub fn pointer(tier: Tier) -> unsafe extern "C" fn(usize, *const $from, *mut $to) {
                match tier {
                    #[cfg(target_arch = "x86_64")]
                    Tier::Avx512 => avx512,
                    #[cfg(target_arch = "x86_64")]
                    Tier::Avx2 => avx2,
                    _ => portable,
                }
            }
        }
    )*};
}

/// Angles beyond this are left to the standard library.
const LARGE: f32 = 1e6;

/// Computes the results of large angles, and of infinities, anew.
#[inline(always)]
fn large(from: &[f32; CHUNK], to: &mut [f32; CHUNK], exact: impl Fn(f64) -> f64) {
    if from.iter().fold(false, |any, x| any | (x.abs() > LARGE)) {
        for (from, to) in from.iter().zip(to) {
            if from.abs() > LARGE {
                *to = exact(*from as f64) as f32;
            }
        }
    }
}

tiers! {
    exp: f32 => f32, |_, _| {};
    log: f32 => f32, |_, _| {};
    tanh: f32 => f32, |_, _| {};
    erf: f32 => f32, |_, _| {};
    sigmoid: f32 => f32, |_, _| {};
    sin: f32 => f32, |from, to| large(from, to, f64::sin);
    cos: f32 => f32, |from, to| large(from, to, f64::cos);
    softplus: f32 => f32, |_, _| {};
    atan: f32 => f32, |_, _| {};
    unpack_f16: u16 => f32, |_, _| {};
    pack_f16: f32 => u16, |_, _| {};
    unpack_bf16: u16 => f32, |_, _| {};
    pack_bf16: f32 => u16, |_, _| {};
}

macro_rules! conversion {
    ($(#[$doc:meta])* $public:ident, $name:ident: $from:ty => $to:ty) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `x` and `y` must be valid for `n` elements and must not overlap.
        pub unsafe extern "C" fn $public(n: usize, x: *const $from, y: *mut $to) {
            // SAFETY: the caller's promise; the current tier is one that the processor has.
            unsafe { $name::pointer(Tier::current())(n, x, y) }
        }
    };
}

conversion!(
    /// `y[i]` = the value of the IEEE half-precision number `x[i]`.
    f32_from_f16, unpack_f16: u16 => f32
);
conversion!(
    /// `y[i]` = the IEEE half-precision number nearest to `x[i]`, ties to even.
    f16_from_f32, pack_f16: f32 => u16
);
conversion!(
    /// `y[i]` = the value of the bfloat16 number `x[i]`.
    f32_from_bf16, unpack_bf16: u16 => f32
);
conversion!(
    /// `y[i]` = the bfloat16 number nearest to `x[i]`, ties to even.
    bf16_from_f32, pack_bf16: f32 => u16
);

/// The functions of one element, without branches. `FMA`: the processor has fused multiply-add.
mod of {
    #[inline(always)]
    fn mad<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
        if FMA { a.mul_add(b, c) } else { a * b + c }
    }

    /// The polynomial with the coefficients of falling powers.
    #[inline(always)]
    fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
        let mut sum = coefficients[0];
        let mut index = 1;
        while index < N {
            sum = mad::<FMA>(sum, x, coefficients[index]);
            index += 1;
        }
        sum
    }

    /// Adding and subtracting this rounds to an integer.
    const ROUND: f32 = 12582912.0;

    #[inline(always)]
    pub fn exp<const FMA: bool>(x: f32) -> f32 {
        let x = if x > 89.0 { 89.0 } else { x };
        let x = if x < -104.0 { -104.0 } else { x };
        let shifted = mad::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let r = mad::<FMA>(n, -0.693_359_4, x);
        let r = mad::<FMA>(n, 2.121_944_4e-4, r);
        let p = polynomial::<FMA, 6>(
            r,
            [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
        );
        let value = mad::<FMA>(r * r, p, r) + 1.0;
        // In two steps, for the sake of denormal results.
        let half = exponent >> 1;
        let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
        value * power(half) * power(exponent - half)
    }

    #[inline(always)]
    pub fn log<const FMA: bool>(x: f32) -> f32 {
        let tiny = x < f32::MIN_POSITIVE;
        let bits = (if tiny { x * 8388608.0 } else { x }).to_bits();
        let mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000);
        let big = mantissa > std::f32::consts::SQRT_2;
        let f = (if big { 0.5 * mantissa } else { mantissa }) - 1.0;
        let exponent = (bits >> 23) as i32 - 127 + big as i32 - if tiny { 23 } else { 0 };
        let e = exponent as f32;
        let p = polynomial::<FMA, 9>(
            f,
            [
                7.037_683_6e-2,
                -1.151_461e-1,
                1.167_699_9e-1,
                -1.242_014_1e-1,
                1.424_932_3e-1,
                -1.666_805_8e-1,
                2.000_071_5e-1,
                -2.499_999_4e-1,
                3.333_333e-1,
            ],
        );
        let z = f * f;
        let y = mad::<FMA>(e, -2.121_944_4e-4, f * z * p);
        let y = mad::<FMA>(z, -0.5, y);
        let value = mad::<FMA>(e, 0.693_359_4, f + y);
        let value = if x == f32::INFINITY { x } else { value };
        let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
        if x >= 0.0 { value } else { f32::NAN }
    }

    /// `(2^n, exp(x) / 2^n - 1)` of a number that is not large, both normal. `x` is reduced in one step, whose error
    /// is at most `n` times 2e-8: for those to whom that is little.
    #[inline(always)]
    fn scaled_exp<const FMA: bool>(x: f32) -> (f32, f32) {
        let shifted = mad::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32 - 127);
        let r = if FMA {
            mad::<FMA>(n, -std::f32::consts::LN_2, x)
        } else {
            mad::<FMA>(n, 2.121_944_4e-4, mad::<FMA>(n, -0.693_359_4, x))
        };
        let p = polynomial::<FMA, 6>(
            r,
            [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
        );
        (f32::from_bits((exponent as u32) << 23), mad::<FMA>(r * r, p, r))
    }

    /// By `exp(2 |x|) - 1`, which loses nothing where the power of 2 in it is 1.
    #[inline(always)]
    pub fn tanh<const FMA: bool>(x: f32) -> f32 {
        let t = x.abs();
        // In this order a NaN stays one.
        let (power, rest) = scaled_exp::<FMA>(2.0 * if t > 10.0 { 10.0 } else { t });
        let above_one = mad::<FMA>(power, rest, power - 1.0);
        // The sign of zero, too.
        (above_one / (above_one + 2.0)).copysign(x)
    }

    #[inline(always)]
    pub fn erf<const FMA: bool>(x: f32) -> f32 {
        let (t, s) = (x.abs(), x * x);
        let r = mad::<FMA>(-1.728_534_7e-5, t, 3.831_971_3e-4);
        let u = mad::<FMA>(-3.883_964_4e-3, t, 2.425_462_2e-2);
        let r = mad::<FMA>(r, s, u);
        let r = polynomial::<FMA, 5>(t, [r, -1.067_778_8e-1, -6.348_467e-1, -1.287_175e-1, 0.0]) - t;
        let (power, rest) = scaled_exp::<FMA>(if t > 4.0 { -20.0 } else { r });
        let large = (1.0 - mad::<FMA>(power, rest, power)).copysign(x);
        let p = polynomial::<FMA, 6>(
            s,
            [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_2e-1, -3.761_253_4e-1, 1.283_791_7e-1],
        );
        let small = mad::<FMA>(p, x, x);
        // A NaN is not greater, and goes through the polynomial.
        if t > 0.927_734_4 { large } else { small }
    }

    #[inline(always)]
    pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
        let e = exp::<FMA>(-x.abs());
        (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    /// By `log(1 + e) = 2 atanh(e / (2 + e))`, which loses nothing where `e` is small.
    #[inline(always)]
    pub fn softplus<const FMA: bool>(x: f32) -> f32 {
        let e = exp::<FMA>(-x.abs());
        let below = 2.0 + e;
        let s = e / below;
        let p = polynomial::<FMA, 7>(
            s * s,
            [1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0],
        );
        // What rounding took from `s`; and `2 / (2 + e)` is `1 - s`.
        let rest = if FMA { (-s).mul_add(below, e) - s * ((2.0 - below) + e) } else { 0.0 };
        let log = 2.0 * s + mad::<FMA>(2.0 * s * (s * s), p, rest * (1.0 - s));
        // A NaN is not greater, and comes in by the logarithm.
        (if x > 0.0 { x } else { 0.0 }) + log
    }

    /// By the angle from 0, from 45 degrees or from 90 degrees; the polynomial is that of the Cephes library.
    #[inline(always)]
    pub fn atan<const FMA: bool>(x: f32) -> f32 {
        use std::f32::consts::{FRAC_PI_2, FRAC_PI_4};
        let t = x.abs();
        let (steep, middle) = (t > 2.414_213_7, t > 0.414_213_57);
        let opposite = if steep {
            -1.0
        } else if middle {
            t - 1.0
        } else {
            t
        };
        let adjacent = if steep {
            t
        } else if middle {
            t + 1.0
        } else {
            1.0
        };
        let start = if steep {
            FRAC_PI_2
        } else if middle {
            FRAC_PI_4
        } else {
            0.0
        };
        let r = opposite / adjacent;
        let z = r * r;
        let p = polynomial::<FMA, 4>(z, [8.053_744_5e-2, -1.387_768_6e-1, 1.997_771e-1, -3.333_295e-1]);
        // What the angle lacks in 24 bits.
        let rest = start * (-2.185_569_4e-8 / FRAC_PI_4);
        (start + (mad::<FMA>(p * z, r, rest) + r)).copysign(x)
    }

    #[inline(always)]
    pub fn sin<const FMA: bool>(x: f32) -> f32 {
        wave::<FMA>(x, 0)
    }

    #[inline(always)]
    pub fn cos<const FMA: bool>(x: f32) -> f32 {
        wave::<FMA>(x, 1)
    }

    /// The number of quarters of a period in an angle that is not large, in the lowest bits, and the rest.
    #[inline(always)]
    fn quarters<const FMA: bool>(x: f32) -> (i32, f32) {
        if FMA {
            // Pi / 2 in three parts. The first difference is exact: it has no bits below the last of the first part.
            let shifted = mad::<FMA>(x, std::f32::consts::FRAC_2_PI, ROUND);
            let (whole, negative) = (shifted - ROUND, ROUND - shifted);
            // The signs are such that nothing that is subtracted from a zero changes the zero's sign.
            let r = mad::<FMA>(whole, -std::f32::consts::FRAC_PI_2, x);
            let r = mad::<FMA>(negative, -4.371_139e-8, r);
            return (shifted.to_bits() as i32, mad::<FMA>(negative, -1.715_124_5e-15, r));
        }
        const SHIFT: f64 = 6_755_399_441_055_744.0;
        // The upper 32 bits of pi / 2, whose products with the numbers of quarters are exact, and the rest.
        const HIGH: f64 = 1.5707963267341256;
        const LOW: f64 = 6.077100506506192e-11;
        let wide = x as f64;
        let shifted = wide * std::f64::consts::FRAC_2_PI + SHIFT;
        let whole = shifted - SHIFT;
        (shifted.to_bits() as i32, (wide - whole * HIGH - whole * LOW) as f32)
    }

    /// The sine, `quarter` quarters of a period ahead, of an angle that is not large.
    #[inline(always)]
    fn wave<const FMA: bool>(x: f32, quarter: i32) -> f32 {
        let (quarters, r) = quarters::<FMA>(x);
        let quarters = quarters.wrapping_add(quarter);
        let z = r * r;
        let p = polynomial::<FMA, 3>(z, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
        let sine = mad::<FMA>(p * z, r, r).copysign(r);
        let p = polynomial::<FMA, 3>(z, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]);
        let cosine = mad::<FMA>(p * z, z, mad::<FMA>(z, -0.5, 1.0));
        let value = if quarters & 1 == 0 { sine } else { cosine };
        f32::from_bits(value.to_bits() ^ ((quarters as u32 & 2) << 30))
    }

    #[inline(always)]
    pub fn unpack_f16<const FMA: bool>(half: u16) -> f32 {
        let (sign, rest) = ((half as u32 & 0x8000) << 16, (half as u32 & 0x7fff) << 13);
        // 2^112 moves the exponent's zero and makes denormal numbers normal.
        let value = f32::from_bits(rest) * 5.192_297e33;
        let bits = if rest >= 0x0f80_0000 { rest | 0x7f80_0000 } else { value.to_bits() };
        f32::from_bits(bits | sign)
    }

    #[inline(always)]
    pub fn pack_f16<const FMA: bool>(value: f32) -> u16 {
        let sign = value.to_bits() & 0x8000_0000;
        let bits = value.to_bits() ^ sign;
        let special = if bits > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
        // The sum's last place is the last place of a denormal half.
        let denormal = (f32::from_bits(bits) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let odd = bits >> 13 & 1;
        let normal = bits.wrapping_add(0xc800_0fff).wrapping_add(odd) >> 13;
        let small = if bits < 0x3880_0000 { denormal } else { normal };
        let result = if bits >= 0x4780_0000 { special } else { small };
        (result | sign >> 16) as u16
    }

    #[inline(always)]
    pub fn unpack_bf16<const FMA: bool>(half: u16) -> f32 {
        f32::from_bits((half as u32) << 16)
    }

    #[inline(always)]
    pub fn pack_bf16<const FMA: bool>(value: f32) -> u16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        (if value.is_nan() { bits | 0x0040_0000 } else { rounded } >> 16) as u16
    }
}

#[cfg(test)]
mod tests;
