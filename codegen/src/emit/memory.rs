//! Loads and stores of one element or one vector, with the conversions between buffer and register
//! types.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, F64X2, I8X16, I16, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value};

use super::ops::{Ops, scalar_type};
use crate::loops::Scalar;

/// A place in memory: an address and a constant distance in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub base: Value,
    pub offset: i32,
}

/// Elements need only their own alignment, so no vector access is marked as aligned; buffers may
/// alias, so no load is marked as movable.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Whether `width` neighbouring elements are loaded and stored as one vector.
pub(super) fn has_vector_access(scalar: Scalar, width: usize) -> bool {
    match scalar {
        Scalar::F32 | Scalar::I32 | Scalar::U32 | Scalar::F16 | Scalar::BF16 | Scalar::Bool => width == 4,
        Scalar::F64 => width == 2,
        Scalar::I8 | Scalar::I16 | Scalar::I64 | Scalar::U8 | Scalar::U16 | Scalar::U64 => false,
    }
}

impl Ops<'_, '_> {
    /// Loads one element.
    pub(super) fn load(&mut self, scalar: Scalar, place: Place) -> Value {
        let Place { base, offset } = place;
        match scalar {
            Scalar::F16 | Scalar::BF16 => {
                let bits = self.builder.ins().load(I16, flags(), base, offset);
                let bits = self.builder.ins().uextend(I32, bits);
                self.widen_half(scalar, bits)
            }
            Scalar::Bool => {
                let byte = self.builder.ins().load(scalar_type(scalar), flags(), base, offset);
                self.builder.ins().icmp_imm_s(IntCC::NotEqual, byte, 0)
            }
            Scalar::F32
            | Scalar::F64
            | Scalar::I8
            | Scalar::I16
            | Scalar::I32
            | Scalar::I64
            | Scalar::U8
            | Scalar::U16
            | Scalar::U32
            | Scalar::U64 => self.builder.ins().load(scalar_type(scalar), flags(), base, offset),
        }
    }

    /// Stores one element.
    pub(super) fn store(&mut self, scalar: Scalar, place: Place, value: Value) {
        let Place { base, offset } = place;
        let value = match scalar {
            Scalar::F16 | Scalar::BF16 => {
                let bits = self.narrow_half(scalar, value);
                self.builder.ins().ireduce(I16, bits)
            }
            _ => value,
        };
        self.builder.ins().store(flags(), value, base, offset);
    }

    /// Loads neighbouring elements; [`has_vector_access`] must hold.
    pub(super) fn load_vector(&mut self, scalar: Scalar, place: Place) -> Value {
        let Place { base, offset } = place;
        match scalar {
            Scalar::F16 | Scalar::BF16 => {
                let halves = self.builder.ins().load(I64, flags(), base, offset);
                let halves = self.builder.ins().scalar_to_vector(I64X2, halves);
                let halves = self.bitcast(cranelift_codegen::ir::types::I16X8, halves);
                let bits = self.builder.ins().uwiden_low(halves);
                self.widen_half(scalar, bits)
            }
            Scalar::Bool => {
                let bytes = self.builder.ins().load(I32, flags(), base, offset);
                let bytes = self.builder.ins().scalar_to_vector(I32X4, bytes);
                let bytes = self.bitcast(I8X16, bytes);
                let halves = self.builder.ins().uwiden_low(bytes);
                let words = self.builder.ins().uwiden_low(halves);
                let zero = self.int(I32X4, 0);
                self.int_compare(IntCC::NotEqual, words, zero)
            }
            Scalar::F64 => self.builder.ins().load(F64X2, flags(), base, offset),
            Scalar::F32 => self.builder.ins().load(F32X4, flags(), base, offset),
            _ => self.builder.ins().load(I32X4, flags(), base, offset),
        }
    }

    /// Loads every second element, of 32 or 64 bits, and nothing behind the last; [`has_vector_access`] must hold.
    pub(super) fn load_alternate(&mut self, scalar: Scalar, place: Place) -> Value {
        let bytes = scalar.bytes();
        let lanes = 16 / bytes;
        // The second vector ends with the last element that is wanted.
        let Place { base, offset } = place;
        let last = offset.checked_add((lanes as i32 - 1) * bytes as i32);
        let second = match last {
            Some(offset) => Place { base, offset },
            None => {
                let distance = i64::from(offset) + (lanes as i64 - 1) * bytes as i64;
                Place { base: self.builder.ins().iadd_imm_s(base, distance), offset: 0 }
            }
        };
        let vectors = [self.load_vector(scalar, place), self.load_vector(scalar, second)];
        let [low, high] = vectors.map(|vector| self.bitcast(I8X16, vector));
        let own = self.type_of(vectors[0]);
        let chosen = (0..lanes).map(|lane| {
            let whole = lane * 2;
            if whole < lanes { whole } else { lanes + whole - (lanes - 1) }
        });
        let mask: Vec<u8> =
            chosen.flat_map(|lane| (0..bytes).map(move |byte| (lane * bytes + byte) as u8)).collect();
        let mask = self.builder.func.dfg.immediates.push(mask.into());
        let joined = self.builder.ins().shuffle(low, high, mask);
        self.bitcast(own, joined)
    }

    /// Stores neighbouring elements; [`has_vector_access`] must hold.
    pub(super) fn store_vector(&mut self, scalar: Scalar, place: Place, value: Value) {
        let Place { base, offset } = place;
        let value = match scalar {
            Scalar::F16 | Scalar::BF16 => {
                let bits = self.narrow_half(scalar, value);
                let halves = self.builder.ins().unarrow(bits, bits);
                let halves = self.bitcast(I64X2, halves);
                self.builder.ins().extractlane(halves, 0)
            }
            Scalar::Bool => {
                let words = self.builder.ins().ushr_imm_s(value, 31);
                let halves = self.builder.ins().unarrow(words, words);
                let bytes = self.builder.ins().unarrow(halves, halves);
                let bytes = self.bitcast(I32X4, bytes);
                self.builder.ins().extractlane(bytes, 0)
            }
            _ => value,
        };
        self.builder.ins().store(flags(), value, base, offset);
    }

    /// An `f32` (or four lanes) rounded to a value of 16 bits.
    pub(super) fn rounded(&mut self, scalar: Scalar, value: Value) -> Value {
        let bits = self.narrow_half(scalar, value);
        self.widen_half(scalar, bits)
    }

    /// 16 bits in the low half of a word (or of four lanes) as an `f32`, exactly.
    fn widen_half(&mut self, scalar: Scalar, bits: Value) -> Value {
        let integer = self.type_of(bits);
        let float = if integer.is_vector() { F32X4 } else { F32 };
        if scalar == Scalar::BF16 {
            let bits = self.builder.ins().ishl_imm_s(bits, 16);
            return self.bitcast(float, bits);
        }
        let sign_mask = self.int(integer, 0x8000);
        let sign = self.builder.ins().band(bits, sign_mask);
        let sign = self.builder.ins().ishl_imm_s(sign, 16);
        let size_mask = self.int(integer, 0x7fff);
        let size = self.builder.ins().band(bits, size_mask);
        let shifted = self.builder.ins().ishl_imm_s(size, 13);
        let unscaled = self.bitcast(float, shifted);
        let factor = self.float(float, 2f64.powi(112));
        let scaled = self.mul(unscaled, factor);
        let scaled = self.bits(scaled);
        let first_special = self.int(integer, 0x7bff);
        let special = self.int_compare(IntCC::SignedGreaterThan, size, first_special);
        let exponent = self.int(integer, 0x7f80_0000);
        let infinite = self.builder.ins().bor(scaled, exponent);
        let size = self.choose(special, infinite, scaled);
        let bits = self.builder.ins().bor(size, sign);
        self.bitcast(float, bits)
    }

    /// An `f32` (or four lanes) rounded to nearest even in 16 bits of the low half of a word.
    fn narrow_half(&mut self, scalar: Scalar, value: Value) -> Value {
        let bits = self.bits(value);
        let integer = self.type_of(bits);
        let number = self.is_number(value);
        let one = self.int(integer, 1);
        if scalar == Scalar::BF16 {
            let high = self.builder.ins().ushr_imm_s(bits, 16);
            let odd = self.builder.ins().band(high, one);
            let bias = self.int(integer, 0x7fff);
            let rounded = self.builder.ins().iadd(bits, bias);
            let rounded = self.builder.ins().iadd(rounded, odd);
            let rounded = self.builder.ins().ushr_imm_s(rounded, 16);
            let quiet = self.int(integer, 0x40);
            let nan = self.builder.ins().bor(high, quiet);
            return self.choose(number, rounded, nan);
        }
        let sign_mask = self.int(integer, 0x8000);
        let sign = self.builder.ins().ushr_imm_s(bits, 16);
        let sign = self.builder.ins().band(sign, sign_mask);
        let size_mask = self.int(integer, 0x7fff_ffff);
        let size = self.builder.ins().band(bits, size_mask);
        // Normal results: move the exponent, add half of the last place (ties to even).
        let odd = self.builder.ins().ushr_imm_s(size, 13);
        let odd = self.builder.ins().band(odd, one);
        let bias = self.int(integer, i64::from(0xc800_0fffu32 as i32));
        let normal = self.builder.ins().iadd(size, bias);
        let normal = self.builder.ins().iadd(normal, odd);
        let normal = self.builder.ins().ushr_imm_s(normal, 13);
        // Denormal results: a float addition shifts and rounds.
        let float = self.type_of(value);
        let half = self.float(float, 0.5);
        let absolute = self.bitcast(float, size);
        let sum = self.add(absolute, half);
        let sum = self.bits(sum);
        let half = self.bits(half);
        let denormal = self.builder.ins().isub(sum, half);
        let least_normal = self.int(integer, 113 << 23);
        let small = self.int_compare(IntCC::SignedLessThan, size, least_normal);
        let finite = self.choose(small, denormal, normal);
        // From 2^16 on infinity; NaN becomes the quiet NaN.
        let limit = self.int(integer, 0x477f_ffff);
        let large = self.int_compare(IntCC::SignedGreaterThan, size, limit);
        let infinity = self.int(integer, 0x7c00);
        let result = self.choose(large, infinity, finite);
        let nan = self.int(integer, 0x7e00);
        let result = self.choose(number, result, nan);
        self.builder.ins().bor(result, sign)
    }
}
