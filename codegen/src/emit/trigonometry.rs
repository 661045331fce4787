//! Sine and cosine of `f32`, and the way to `f64` and back that they and the power share.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8X16};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value};

use super::ops::Ops;

/// `(sin(r) - r) / r^3` in `r^2`, for `|r| <= pi/4`.
const SIN: [f64; 3] = [-0.00019517098553478718, 0.008332176133990288, -0.16666655242443085];
/// `(cos(r) - 1 + r^2/2) / r^4` in `r^2`, for `|r| <= pi/4`.
const COS: [f64; 3] = [2.4438410036964342e-05, -0.001388736767694354, 0.04166664555668831];

impl Ops<'_, '_> {
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
    pub(super) fn widen(&mut self, x: Value) -> Vec<Value> {
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
    pub(super) fn narrow(&mut self, wide: &[Value], ty: Type) -> Value {
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
}
