//! Functions of `f32` as straight code, for one value or four lanes: both give the same bits.
//!
//! Polynomials are near-minimax fits (weighted least squares with reweighting towards the maximum
//! norm), evaluated with fused multiply-add where the machine has it. Largest errors found by the
//! tests' sweep over all exponents, in units in the last place, with and without FMA: see
//! [`ULP_BOUNDS`].

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8X16};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value};

use super::ops::Ops;
use crate::loops::UnaryOp;

/// Bounds of the error of emitted `f32` functions, in units in the last place, over all finite
/// arguments (denormal arguments and results included).
pub const ULP_BOUNDS: &[(UnaryOp, f64)] = &[
    (UnaryOp::Exp, 1.5),
    (UnaryOp::ExpM1, 2.0),
    (UnaryOp::Log, 1.5),
    (UnaryOp::Log1P, 2.0),
    (UnaryOp::Sin, 2.0),
    (UnaryOp::Cos, 2.0),
    (UnaryOp::Tanh, 2.0),
    (UnaryOp::Erf, 2.0),
    (UnaryOp::Sigmoid, 2.0),
    (UnaryOp::Softplus, 2.0),
];

/// `(exp(r) - 1 - r) / r^2` on `[-log(2)/2, log(2)/2]`.
const EXP: [f64; 6] = [
    0.00019915275333914906,
    0.0013946288963779807,
    0.008333270438015461,
    0.041666265577077866,
    0.1666666716337204,
    0.5,
];
/// `(log(1 + f) - f + f^2/2) / f^3` on `[sqrt(1/2) - 1, sqrt(2) - 1]`.
const LOG: [f64; 9] = [
    0.06916452944278717,
    -0.11791481077671051,
    0.1187344342470169,
    -0.123841293156147,
    0.14218567311763763,
    -0.1666925847530365,
    0.20002231001853943,
    -0.24999986588954926,
    0.3333331048488617,
];
/// `(tanh(x) - x) / x^3` in `x^2`, for `|x| <= 0.8`.
const TANH: [f64; 7] = [
    -0.0005725035443902016,
    0.002854039194062352,
    -0.008510379120707512,
    0.02177291549742222,
    -0.053953833878040314,
    0.133332297205925,
    -0.3333333134651184,
];
/// `erf(x) / x - 1` in `x^2`, for `|x| <= 0.93`.
const ERF_SMALL: [f64; 7] = [
    8.316760067828e-05,
    -0.0008130008936859667,
    0.005199906416237354,
    -0.026858940720558167,
    0.11283687502145767,
    -0.37612631916999817,
    0.12837916612625122,
];
/// `-log(1 - erf(x)) / x` for `0.92 <= x <= 4`.
const ERF_LARGE: [f64; 8] = [
    4.8062397581816185e-06,
    -4.399712270242162e-05,
    -5.7527300668880343e-05,
    0.0029517102520912886,
    -0.022708360105752945,
    0.10529450327157974,
    0.6356092691421509,
    1.128555178642273,
];
/// `(sin(r) - r) / r^3` in `r^2`, for `|r| <= pi/4`.
const SIN: [f64; 3] = [-0.00019517098553478718, 0.008332176133990288, -0.16666655242443085];
/// `(cos(r) - 1 + r^2/2) / r^4` in `r^2`, for `|r| <= pi/4`.
const COS: [f64; 3] = [2.4438410036964342e-05, -0.001388736767694354, 0.04166664555668831];
/// `log2((1 + s) / (1 - s)) / s` in `s^2`, for `|s| <= 3 - sqrt(8)`, in `f64`.
const LOG2: [f64; 6] = [
    0.2829079428925224,
    0.3199051217142393,
    0.41220926726428214,
    0.5770779422074636,
    0.9617966941139257,
    2.8853900817778495,
];
/// `2^r` on `[-1/2, 1/2]`, in `f64`.
const EXP2: [f64; 8] = [
    1.5316235678689408e-05,
    0.000154697317756678,
    0.0013333423634202069,
    0.009618025603712594,
    0.05550410974873348,
    0.24022651213588136,
    0.6931471805354124,
    0.9999999999595492,
];

/// Adding this to a float below 2^22 leaves its nearest integer in the low bits.
const INTEGER_MAGIC: f64 = 12_582_912.0;
const LN2_HIGH: f64 = 0.693_359_375;
const LN2_LOW: f64 = -2.121_944_4e-4;

impl Ops<'_, '_> {
    fn integers(ty: Type) -> Type {
        Self::integer_type(ty)
    }

    /// The nearest integer as a float, and in the low bits of an integer.
    fn nearest_integer(&mut self, x: Value) -> (Value, Value) {
        let magic = self.float(self.type_of(x), INTEGER_MAGIC);
        let shifted = self.add(x, magic);
        (self.sub(shifted, magic), self.bits(shifted))
    }

    /// `2^n` for an integer whose low 9 bits (two's complement) lie in -126..=127.
    fn power_of_two(&mut self, ty: Type, n: Value) -> Value {
        let bias = self.int(Self::integers(ty), 127);
        let biased = self.builder.ins().iadd(n, bias);
        let bits = self.builder.ins().ishl_imm_s(biased, 23);
        self.bitcast(ty, bits)
    }

    /// `value * 2^n` for the nearest-integer bits of -252..=254, rounded once where it is denormal.
    fn scale(&mut self, value: Value, n: Value) -> Value {
        let ty = self.type_of(value);
        // The magic number's upper bits fall off to the left.
        let n = self.builder.ins().ishl_imm_s(n, 16);
        let half = self.builder.ins().sshr_imm_s(n, 17);
        let whole = self.builder.ins().sshr_imm_s(n, 16);
        let rest = self.builder.ins().isub(whole, half);
        let half = self.power_of_two(ty, half);
        let rest = self.power_of_two(ty, rest);
        let scaled = self.mul(value, half);
        self.mul(scaled, rest)
    }

    /// `x - n log(2)` for `n` below 2^15, and `n`.
    fn reduce_exponent(&mut self, x: Value) -> (Value, Value, Value) {
        let ty = self.type_of(x);
        let log2_e = self.float(ty, std::f64::consts::LOG2_E);
        let scaled = self.mul(x, log2_e);
        let (n, bits) = self.nearest_integer(scaled);
        let high = self.float(ty, -LN2_HIGH);
        let low = self.float(ty, -LN2_LOW);
        let r = self.mul_add(n, high, x);
        let r = self.mul_add(n, low, r);
        (r, n, bits)
    }

    /// `exp(r) - 1` of a reduced argument.
    fn reduced_expm1(&mut self, r: Value) -> Value {
        let q = self.horner(&EXP, r);
        let square = self.mul(r, r);
        self.mul_add(q, square, r)
    }

    pub(super) fn exp(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let high = self.float(ty, 89.0);
        let low = self.float(ty, -105.0);
        let x = self.lesser(high, x);
        let x = self.greater(low, x);
        self.bounded_exp(x)
    }

    /// `exp` for arguments known to lie in -105..=89 (or NaN).
    fn bounded_exp(&mut self, x: Value) -> Value {
        let (r, _, n) = self.reduce_exponent(x);
        let p = self.reduced_expm1(r);
        let one = self.float(self.type_of(x), 1.0);
        let p = self.add(p, one);
        self.scale(p, n)
    }

    /// `exp` for arguments known to lie in -87..=0 (or NaN): the scale is one normal number.
    fn small_exp(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let (r, _, n) = self.reduce_exponent(x);
        let p = self.reduced_expm1(r);
        let one = self.float(ty, 1.0);
        let p = self.add(p, one);
        let power = self.power_of_two(ty, n);
        self.mul(p, power)
    }

    pub(super) fn expm1(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let high = self.float(ty, 89.0);
        let low = self.float(ty, -20.0);
        let bounded = self.lesser(high, x);
        let bounded = self.greater(low, bounded);
        let (r, _, n) = self.reduce_exponent(bounded);
        let p = self.reduced_expm1(r);
        // With s = 2^(n-1): 2 (p s + (s - 1/2)).
        let one = self.int(Self::integers(ty), 1);
        let n = self.builder.ins().isub(n, one);
        let s = self.power_of_two(ty, n);
        let half = self.float(ty, 0.5);
        let rest = self.sub(s, half);
        let y = self.mul_add(p, s, rest);
        let y = self.add(y, y);
        self.tiny_is_itself(x, y)
    }

    /// `y`, but `x` where it is so small that the function is the identity (keeps -0).
    fn tiny_is_itself(&mut self, x: Value, y: Value) -> Value {
        let ty = self.type_of(x);
        let size = self.absolute(x);
        let limit = self.float(ty, 2f64.powi(-26));
        let tiny = self.float_compare(FloatCC::LessThan, size, limit);
        self.choose(tiny, x, y)
    }

    /// Splits a positive normal number into `m` in `[sqrt(1/2), sqrt(2))` and an exponent (integer).
    fn split_exponent(&mut self, x: Value) -> (Value, Value) {
        let ty = self.type_of(x);
        let integer = Self::integers(ty);
        let bits = self.bits(x);
        let offset = self.int(integer, 0x3f35_04f3);
        let shifted = self.builder.ins().isub(bits, offset);
        let exponent = self.builder.ins().sshr_imm_s(shifted, 23);
        let high = self.builder.ins().ishl_imm_s(exponent, 23);
        let mantissa = self.builder.ins().isub(bits, high);
        (self.bitcast(ty, mantissa), exponent)
    }

    /// A denormal times 2^23 with the exponent to take off again (as a float).
    fn normalize(&mut self, x: Value) -> (Value, Value) {
        let ty = self.type_of(x);
        let least = self.float(ty, f64::from(f32::MIN_POSITIVE));
        let denormal = self.float_compare(FloatCC::LessThan, x, least);
        let factor = self.float(ty, 8_388_608.0);
        let scaled = self.mul(x, factor);
        let zero = self.float(ty, 0.0);
        let shift = self.float(ty, 23.0);
        (self.choose(denormal, scaled, x), self.choose(denormal, shift, zero))
    }

    pub(super) fn log(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let (normal, shift) = self.normalize(x);
        let (m, exponent) = self.split_exponent(normal);
        let exponent = self.builder.ins().fcvt_from_sint(ty, exponent);
        let exponent = self.sub(exponent, shift);
        let one = self.float(ty, 1.0);
        let f = self.sub(m, one);
        let square = self.mul(f, f);
        let p = self.horner(&LOG, f);
        let cube = self.mul(square, f);
        let low = self.float(ty, LN2_LOW);
        let minus_half = self.float(ty, -0.5);
        let high = self.float(ty, LN2_HIGH);
        let tail = self.mul(exponent, low);
        let y = self.mul_add(cube, p, tail);
        let y = self.mul_add(square, minus_half, y);
        let y = self.add(y, f);
        let y = self.mul_add(exponent, high, y);
        // Zero, negative, infinite and NaN arguments.
        let zero = self.float(ty, 0.0);
        let infinity = self.float(ty, f64::INFINITY);
        let nan = self.float(ty, f64::NAN);
        let minus_infinity = self.float(ty, f64::NEG_INFINITY);
        let finite = self.float_compare(FloatCC::LessThan, x, infinity);
        let y = self.choose(finite, y, x);
        let positive = self.float_compare(FloatCC::LessThan, zero, x);
        let is_zero = self.float_compare(FloatCC::Equal, x, zero);
        let special = self.choose(is_zero, minus_infinity, nan);
        self.choose(positive, y, special)
    }

    pub(super) fn log1p(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let one = self.float(ty, 1.0);
        let u = self.add(x, one);
        let log = self.log(u);
        // What the sum lost, by the exact difference on either side of 1.
        let rest = self.sub(u, one);
        let lost_small = self.sub(x, rest);
        let rest = self.sub(u, x);
        let lost_large = self.sub(one, rest);
        let large = self.float_compare(FloatCC::LessThan, one, x);
        let lost = self.choose(large, lost_large, lost_small);
        let correction = self.builder.ins().fdiv(lost, u);
        let y = self.add(log, correction);
        let zero = self.float(ty, 0.0);
        let infinity = self.float(ty, f64::INFINITY);
        let positive = self.float_compare(FloatCC::LessThan, zero, u);
        let finite = self.float_compare(FloatCC::LessThan, u, infinity);
        let regular = self.builder.ins().band(positive, finite);
        let y = self.choose(regular, y, log);
        self.tiny_is_itself(x, y)
    }

    pub(super) fn tanh(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let size = self.absolute(x);
        let square = self.mul(x, x);
        let p = self.horner(&TANH, square);
        let cube = self.mul(square, size);
        let small = self.mul_add(p, cube, size);
        let limit = self.float(ty, 10.0);
        let bounded = self.lesser(limit, size);
        let minus_two = self.float(ty, -2.0);
        let argument = self.mul(bounded, minus_two);
        let e = self.small_exp(argument);
        let one = self.float(ty, 1.0);
        let below = self.add(e, one);
        let numerator = self.mul(e, minus_two);
        let quotient = self.builder.ins().fdiv(numerator, below);
        let large = self.add(quotient, one);
        let limit = self.float(ty, 0.8);
        let is_large = self.float_compare(FloatCC::LessThan, limit, size);
        let y = self.choose(is_large, large, small);
        self.with_sign_of(y, x)
    }

    pub(super) fn erf(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let square = self.mul(x, x);
        let p = self.horner(&ERF_SMALL, square);
        let size = self.absolute(x);
        let small = self.mul_add(p, size, size);
        let limit = self.float(ty, 4.0);
        let bounded = self.lesser(limit, size);
        let p = self.horner(&ERF_LARGE, bounded);
        let product = self.mul(p, bounded);
        let argument = self.opposite(product);
        let e = self.small_exp(argument);
        let one = self.float(ty, 1.0);
        let large = self.sub(one, e);
        let limit = self.float(ty, 0.925);
        let is_large = self.float_compare(FloatCC::LessThan, limit, size);
        let y = self.choose(is_large, large, small);
        self.with_sign_of(y, x)
    }

    /// `exp(-|x|)`.
    fn exp_of_minus_size(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let size = self.absolute(x);
        let limit = self.float(ty, 105.0);
        let bounded = self.lesser(limit, size);
        let argument = self.opposite(bounded);
        self.bounded_exp(argument)
    }

    pub(super) fn sigmoid(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let e = self.exp_of_minus_size(x);
        let one = self.float(ty, 1.0);
        let zero = self.float(ty, 0.0);
        let negative = self.float_compare(FloatCC::LessThan, x, zero);
        let numerator = self.choose(negative, e, one);
        let denominator = self.add(e, one);
        self.builder.ins().fdiv(numerator, denominator)
    }

    pub(super) fn softplus(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        let e = self.exp_of_minus_size(x);
        let tail = self.log1p(e);
        let zero = self.float(ty, 0.0);
        let positive = self.greater(x, zero);
        self.add(positive, tail)
    }

    /// Sine (`quarter` 0) or cosine (`quarter` 1). The argument is reduced in `f64`; from 2^20 on the
    /// scalar function is called.
    pub(super) fn sine(&mut self, x: Value, quarter: i64) -> Value {
        let ty = self.type_of(x);
        let integer = Self::integers(ty);
        let wide: Vec<Value> = self.widen(x);
        let mut reduced = Vec::new();
        let mut turns = Vec::new();
        for x in wide {
            let ty = self.type_of(x);
            let two_over_pi = self.float(ty, std::f64::consts::FRAC_2_PI);
            let magic = self.float(ty, 6_755_399_441_055_744.0);
            let n = self.mul(x, two_over_pi);
            let n = self.add(n, magic);
            let n = self.sub(n, magic);
            // pi/2 in two parts; the first has 33 bits, so its product with n is exact.
            let high = self.float(ty, 1.570_796_326_734_125_6);
            let low = self.float(ty, 6.077_100_506_506_192e-11);
            let product = self.mul(n, high);
            let r = self.sub(x, product);
            let product = self.mul(n, low);
            reduced.push(self.sub(r, product));
            turns.push(n);
        }
        let r = self.narrow(&reduced, ty);
        let n = self.narrow(&turns, ty);
        let (_, n) = self.nearest_integer(n);
        let phase = self.int(integer, quarter);
        let n = self.builder.ins().iadd(n, phase);

        let square = self.mul(r, r);
        let p = self.horner(&SIN, square);
        let cube = self.mul(square, r);
        let sine = self.mul_add(p, cube, r);
        let p = self.horner(&COS, square);
        let fourth = self.mul(square, square);
        let minus_half = self.float(ty, -0.5);
        let one = self.float(ty, 1.0);
        let cosine = self.mul_add(square, minus_half, one);
        let cosine = self.mul_add(p, fourth, cosine);

        let odd = self.int(integer, 1);
        let is_odd = self.builder.ins().band(n, odd);
        let is_odd = self.int_compare(IntCC::Equal, is_odd, odd);
        let y = self.choose(is_odd, cosine, sine);
        let two = self.int(integer, 2);
        let sign = self.builder.ins().band(n, two);
        let sign = self.builder.ins().ishl_imm_s(sign, 30);
        let y = self.bits(y);
        let y = self.builder.ins().bxor(y, sign);
        let y = self.bitcast(ty, y);
        let y = if quarter == 0 { self.tiny_is_itself(x, y) } else { y };
        self.huge_by_call(x, y, if quarter == 0 { "gradc_f32_sin" } else { "gradc_f32_cos" })
    }

    /// `y`, but calls of a scalar function in all lanes if some `|x|` is 2^20 or more.
    fn huge_by_call(&mut self, x: Value, y: Value, symbol: &str) -> Value {
        let ty = self.type_of(x);
        let size = self.absolute(x);
        let limit = self.float(ty, 1_048_576.0);
        let huge = self.float_compare(FloatCC::LessThanOrEqual, limit, size);
        let some = self.any(huge);
        let slow = self.builder.create_block();
        let done = self.builder.create_block();
        let result = self.builder.append_block_param(done, ty);
        self.builder.set_cold_block(slow);
        self.builder.ins().brif(some, slow, &[], done, &[BlockArg::Value(y)]);
        self.builder.switch_to_block(slow);
        let exact = self.each_lane(x, |ops, lane| ops.call(symbol, &[lane], F32));
        self.builder.ins().jump(done, &[BlockArg::Value(exact)]);
        self.builder.switch_to_block(done);
        result
    }

    /// Applies a scalar function of `f32` to each lane.
    pub(super) fn each_lane(&mut self, x: Value, mut f: impl FnMut(&mut Self, Value) -> Value) -> Value {
        let ty = self.type_of(x);
        if !ty.is_vector() {
            return f(self, x);
        }
        let mut result = x;
        for lane in 0..ty.lane_count() as u8 {
            let value = self.builder.ins().extractlane(x, lane);
            let value = f(self, value);
            result = self.builder.ins().insertlane(result, value, lane);
        }
        result
    }

    /// `f32` as `f64`: one scalar, or two vectors of two lanes.
    fn widen(&mut self, x: Value) -> Vec<Value> {
        if !self.type_of(x).is_vector() {
            return vec![self.builder.ins().fpromote(F64, x)];
        }
        let bytes = self.bitcast(I8X16, x);
        let mask: Vec<u8> = (8..16).chain(8..16).collect();
        let mask = self.builder.func.dfg.immediates.push(mask.into());
        let upper = self.builder.ins().shuffle(bytes, bytes, mask);
        let upper = self.bitcast(F32X4, upper);
        vec![self.builder.ins().fvpromote_low(x), self.builder.ins().fvpromote_low(upper)]
    }

    /// Undoes [`Ops::widen`], rounding.
    fn narrow(&mut self, wide: &[Value], ty: Type) -> Value {
        let [lower, upper] = *wide else { return self.builder.ins().fdemote(F32, wide[0]) };
        debug_assert!(ty == F32X4 && self.type_of(lower) == F64X2);
        let lower = self.builder.ins().fvdemote(lower);
        let upper = self.builder.ins().fvdemote(upper);
        let lower = self.bitcast(I8X16, lower);
        let upper = self.bitcast(I8X16, upper);
        let mask: Vec<u8> = (0..8).chain(16..24).collect();
        let mask = self.builder.func.dfg.immediates.push(mask.into());
        let joined = self.builder.ins().shuffle(lower, upper, mask);
        self.bitcast(F32X4, joined)
    }

    /// `x` to the power of `y`, by `2^(y log2|x|)` in `f64`.
    pub(super) fn pow(&mut self, x: Value, y: Value) -> Value {
        let ty = self.type_of(x);
        let size = self.absolute(x);
        let (normal, shift) = self.normalize(size);
        let (m, exponent) = self.split_exponent(normal);
        let exponent = self.builder.ins().fcvt_from_sint(ty, exponent);
        let exponent = self.sub(exponent, shift);
        let (m, exponent, wide_y) = (self.widen(m), self.widen(exponent), self.widen(y));
        let (mut powers, mut exponents) = (Vec::new(), Vec::new());
        for ((m, exponent), y) in m.into_iter().zip(exponent).zip(wide_y) {
            let ty = self.type_of(m);
            let one = self.float(ty, 1.0);
            let (below, above) = (self.sub(m, one), self.add(m, one));
            let s = self.builder.ins().fdiv(below, above);
            let square = self.mul(s, s);
            let p = self.horner(&LOG2, square);
            let log2 = self.mul_add(p, s, exponent);
            let product = self.mul(log2, y);
            let limit = self.float(ty, 140.0);
            let product = self.lesser(limit, product);
            let limit = self.float(ty, -160.0);
            let product = self.greater(limit, product);
            let magic = self.float(ty, 6_755_399_441_055_744.0);
            let n = self.add(product, magic);
            let n = self.sub(n, magic);
            let r = self.sub(product, n);
            powers.push(self.horner(&EXP2, r));
            exponents.push(n);
        }
        let power = self.narrow(&powers, ty);
        let n = self.narrow(&exponents, ty);
        let (_, n) = self.nearest_integer(n);
        let result = self.scale(power, n);
        self.pow_specials(x, y, size, result)
    }

    /// Corrects `result`, which is right for positive finite `x` and finite `y`.
    fn pow_specials(&mut self, x: Value, y: Value, size: Value, result: Value) -> Value {
        let ty = self.type_of(x);
        let zero = self.float(ty, 0.0);
        let one = self.float(ty, 1.0);
        let infinity = self.float(ty, f64::INFINITY);
        let nan = self.float(ty, f64::NAN);
        // |x| = 0 or infinity: 0 or infinity by the sign of y (y = 0 comes last).
        let is_zero = self.float_compare(FloatCC::Equal, size, zero);
        let is_infinite = self.float_compare(FloatCC::Equal, size, infinity);
        let y_negative = self.float_compare(FloatCC::LessThan, y, zero);
        let grows = self.builder.ins().bxor(is_infinite, y_negative);
        let extreme = self.choose(grows, infinity, zero);
        let at_extreme = self.builder.ins().bor(is_zero, is_infinite);
        let result = self.choose(at_extreme, extreme, result);
        // Infinite y: 0, 1 or infinity by |x|.
        let y_size = self.absolute(y);
        let y_infinite = self.float_compare(FloatCC::Equal, y_size, infinity);
        let above_one = self.float_compare(FloatCC::LessThan, one, size);
        let grows = self.builder.ins().bxor(above_one, y_negative);
        let extreme = self.choose(grows, infinity, zero);
        let is_one = self.float_compare(FloatCC::Equal, size, one);
        let extreme = self.choose(is_one, one, extreme);
        let result = self.choose(y_infinite, extreme, result);
        // NaN operands.
        let x_number = self.is_number(x);
        let y_number = self.is_number(y);
        let numbers = self.builder.ins().band(x_number, y_number);
        let result = self.choose(numbers, result, nan);
        // Negative x: the sign of odd y, NaN for fractional y.
        let floor = self.builder.ins().floor(y);
        let whole = self.float_compare(FloatCC::Equal, floor, y);
        let half = self.float(ty, 0.5);
        let half_y = self.mul(y, half);
        let floor = self.builder.ins().floor(half_y);
        let even = self.float_compare(FloatCC::Equal, floor, half_y);
        let even = self.negate(even);
        let odd = self.builder.ins().band(even, whole);
        let signed = self.with_sign_of(result, x);
        let result = self.choose(odd, signed, result);
        let negative = self.float_compare(FloatCC::LessThan, x, zero);
        let fractional = self.negate(whole);
        let undefined = self.builder.ins().band(negative, fractional);
        let finite = self.float_compare(FloatCC::LessThan, size, infinity);
        let undefined = self.builder.ins().band(undefined, finite);
        let result = self.choose(undefined, nan, result);
        // 1 to any power and any number to the power of 0, NaN included.
        let x_one = self.float_compare(FloatCC::Equal, x, one);
        let y_zero = self.float_compare(FloatCC::Equal, y, zero);
        let is_one = self.builder.ins().bor(x_one, y_zero);
        self.choose(is_one, one, result)
    }
}
