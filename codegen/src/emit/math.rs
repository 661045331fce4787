//! Functions of `f32` as straight code, for one value or four lanes: both give the same bits.
//!
//! Polynomials are near-minimax fits (weighted least squares with reweighting towards the maximum
//! norm), evaluated with fused multiply-add where the machine has it. Largest errors found by the
//! tests' sweep over all exponents, in units in the last place, with and without FMA: see
//! [`ULP_BOUNDS`].

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value};

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

/// Adding this to a float below 2^22 leaves its nearest integer in the low bits.
const INTEGER_MAGIC: f64 = 12_582_912.0;
const LN2_HIGH: f64 = 0.693_359_375;
const LN2_LOW: f64 = -2.121_944_4e-4;

impl Ops<'_, '_> {
    pub(super) fn integers(ty: Type) -> Type {
        Self::integer_type(ty)
    }

    /// The nearest integer as a float, and in the low bits of an integer.
    pub(super) fn nearest_integer(&mut self, x: Value) -> (Value, Value) {
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
    pub(super) fn scale(&mut self, value: Value, n: Value) -> Value {
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
    pub(super) fn tiny_is_itself(&mut self, x: Value, y: Value) -> Value {
        let ty = self.type_of(x);
        let size = self.absolute(x);
        let limit = self.float(ty, 2f64.powi(-26));
        let tiny = self.float_compare(FloatCC::LessThan, size, limit);
        self.choose(tiny, x, y)
    }

    /// Splits a positive normal number into `m` in `[sqrt(1/2), sqrt(2))` and an exponent (integer).
    pub(super) fn split_exponent(&mut self, x: Value) -> (Value, Value) {
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
    pub(super) fn normalize(&mut self, x: Value) -> (Value, Value) {
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
}
