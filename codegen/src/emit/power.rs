//! The power of `f32` values, in `f64` in between.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use super::ops::Ops;

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

impl Ops<'_, '_> {
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
