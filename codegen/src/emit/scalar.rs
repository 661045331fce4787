//! The operations of the loop IR on single CLIF values: scalars of every type, and vectors where
//! [`has_vector_form`] says so.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value};

use super::ops::{Ops, scalar_type};
use crate::loops::{BinaryOp, CompareOp, Scalar, ScalarOp, UnaryOp};

/// The 128-bit type for `width` lanes of a register type, if emission uses one.
pub(super) fn vector_type(scalar: Scalar, width: usize) -> Option<Type> {
    match (width, scalar) {
        (4, Scalar::F32) => Some(F32X4),
        (4, Scalar::I32 | Scalar::U32 | Scalar::Bool) => Some(I32X4),
        (2, Scalar::F64) => Some(F64X2),
        (2, Scalar::Bool) => Some(I64X2),
        _ => None,
    }
}

/// Whether an operation with a result type (and the type of its first operand) has vector code,
/// given that all its types have vectors of one width.
pub(super) fn has_vector_form(op: &ScalarOp, operand: Scalar, result: Scalar) -> bool {
    match op {
        ScalarOp::Constant(_) | ScalarOp::Select | ScalarOp::MulAdd => true,
        ScalarOp::Unary(op) => unary_has_vector_form(*op, operand),
        ScalarOp::Binary(op) => match op {
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Max
            | BinaryOp::Min
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor => true,
            BinaryOp::Div => result.is_float(),
            BinaryOp::Pow => result == Scalar::F32,
            BinaryOp::Rem | BinaryOp::Atan2 | BinaryOp::Shl | BinaryOp::Shr => false,
        },
        ScalarOp::Compare(_) => operand != Scalar::Bool,
        ScalarOp::Cast => true,
        ScalarOp::Index(_) | ScalarOp::Call(_) => false,
    }
}

fn unary_has_vector_form(op: UnaryOp, operand: Scalar) -> bool {
    match op {
        UnaryOp::Neg
        | UnaryOp::Abs
        | UnaryOp::Sign
        | UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Sqrt
        | UnaryOp::Not
        | UnaryOp::RoundF16
        | UnaryOp::RoundBf16
        | UnaryOp::IsNan => true,
        UnaryOp::Exp
        | UnaryOp::ExpM1
        | UnaryOp::Log
        | UnaryOp::Log1P
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tanh
        | UnaryOp::Erf
        | UnaryOp::Sigmoid
        | UnaryOp::Softplus => operand == Scalar::F32,
        UnaryOp::Tan
        | UnaryOp::Asin
        | UnaryOp::Acos
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Cosh
        | UnaryOp::Asinh
        | UnaryOp::Acosh
        | UnaryOp::Atanh => false,
    }
}

fn float_condition(op: CompareOp) -> FloatCC {
    match op {
        CompareOp::Eq | CompareOp::Ne => FloatCC::Equal,
        CompareOp::Lt => FloatCC::LessThan,
        CompareOp::Le => FloatCC::LessThanOrEqual,
        CompareOp::Gt => FloatCC::GreaterThan,
        CompareOp::Ge => FloatCC::GreaterThanOrEqual,
    }
}

/// The integer condition of a comparison.
pub(super) fn int_condition(op: CompareOp, signed: bool) -> IntCC {
    match (op, signed) {
        (CompareOp::Eq, _) => IntCC::Equal,
        (CompareOp::Ne, _) => IntCC::NotEqual,
        (CompareOp::Lt, true) => IntCC::SignedLessThan,
        (CompareOp::Le, true) => IntCC::SignedLessThanOrEqual,
        (CompareOp::Gt, true) => IntCC::SignedGreaterThan,
        (CompareOp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (CompareOp::Lt, false) => IntCC::UnsignedLessThan,
        (CompareOp::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (CompareOp::Gt, false) => IntCC::UnsignedGreaterThan,
        (CompareOp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
    }
}

impl Ops<'_, '_> {
    /// A unary operation on a register type.
    pub(super) fn unary(&mut self, op: UnaryOp, scalar: Scalar, x: Value) -> Value {
        let ty = self.type_of(x);
        match op {
            UnaryOp::Neg if scalar.is_float() => self.opposite(x),
            UnaryOp::Neg => self.builder.ins().ineg(x),
            UnaryOp::Abs if scalar.is_float() => self.absolute(x),
            UnaryOp::Abs if scalar.is_signed() => self.builder.ins().iabs(x),
            UnaryOp::Abs => x,
            UnaryOp::Sign => self.sign(scalar, x),
            UnaryOp::Floor => self.builder.ins().floor(x),
            UnaryOp::Ceil => self.builder.ins().ceil(x),
            UnaryOp::Round => self.builder.ins().nearest(x),
            UnaryOp::Sqrt => self.builder.ins().sqrt(x),
            UnaryOp::Not if scalar == Scalar::Bool => self.negate(x),
            UnaryOp::Not => self.builder.ins().bnot(x),
            UnaryOp::IsNan => {
                let number = self.is_number(x);
                self.negate(number)
            }
            UnaryOp::RoundF16 => self.rounded(Scalar::F16, x),
            UnaryOp::RoundBf16 => self.rounded(Scalar::BF16, x),
            _ if ty.lane_type() == F64 => self.call(&format!("gradc_f64_{op}"), &[x], ty),
            UnaryOp::Exp => self.exp(x),
            UnaryOp::ExpM1 => self.expm1(x),
            UnaryOp::Log => self.log(x),
            UnaryOp::Log1P => self.log1p(x),
            UnaryOp::Sin => self.sine(x, 0),
            UnaryOp::Cos => self.sine(x, 1),
            UnaryOp::Tanh => self.tanh(x),
            UnaryOp::Erf => self.erf(x),
            UnaryOp::Sigmoid => self.sigmoid(x),
            UnaryOp::Softplus => self.softplus(x),
            UnaryOp::Tan
            | UnaryOp::Asin
            | UnaryOp::Acos
            | UnaryOp::Atan
            | UnaryOp::Sinh
            | UnaryOp::Cosh
            | UnaryOp::Asinh
            | UnaryOp::Acosh
            | UnaryOp::Atanh => self.call(&format!("gradc_f32_{op}"), &[x], ty),
        }
    }

    fn sign(&mut self, scalar: Scalar, x: Value) -> Value {
        let ty = self.type_of(x);
        if scalar.is_float() {
            let (zero, one) = (self.float(ty, 0.0), self.float(ty, 1.0));
            let minus_one = self.float(ty, -1.0);
            let positive = self.float_compare(FloatCC::LessThan, zero, x);
            let negative = self.float_compare(FloatCC::LessThan, x, zero);
            let y = self.choose(positive, one, x);
            return self.choose(negative, minus_one, y);
        }
        let one = self.int(ty, 1);
        if !scalar.is_signed() {
            return self.builder.ins().umin(x, one);
        }
        let minus_one = self.int(ty, -1);
        let low = self.builder.ins().smin(x, one);
        self.builder.ins().smax(low, minus_one)
    }

    /// A binary operation on a register type.
    pub(super) fn binary(&mut self, op: BinaryOp, scalar: Scalar, a: Value, b: Value) -> Value {
        if scalar.is_float() { self.float_binary(op, a, b) } else { self.int_binary(op, scalar, a, b) }
    }

    fn float_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        let ty = self.type_of(a);
        let prefix = if ty.lane_type() == F32 { "gradc_f32" } else { "gradc_f64" };
        match op {
            BinaryOp::Add => self.add(a, b),
            BinaryOp::Sub => self.sub(a, b),
            BinaryOp::Mul => self.mul(a, b),
            BinaryOp::Div => self.builder.ins().fdiv(a, b),
            BinaryOp::Max => {
                let greater = self.greater(a, b);
                let number = self.is_number(a);
                self.choose(number, greater, a)
            }
            BinaryOp::Min => {
                let lesser = self.lesser(a, b);
                let number = self.is_number(a);
                self.choose(number, lesser, a)
            }
            BinaryOp::Pow if ty.lane_type() == F32 => self.pow(a, b),
            BinaryOp::Pow | BinaryOp::Rem | BinaryOp::Atan2 => {
                self.call(&format!("{prefix}_{op}"), &[a, b], ty)
            }
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
                panic!("bit operation on floats in a validated kernel")
            }
        }
    }

    fn int_binary(&mut self, op: BinaryOp, scalar: Scalar, a: Value, b: Value) -> Value {
        let signed = scalar.is_signed();
        match op {
            BinaryOp::Add => self.builder.ins().iadd(a, b),
            BinaryOp::Sub => self.builder.ins().isub(a, b),
            BinaryOp::Mul => self.builder.ins().imul(a, b),
            BinaryOp::Div | BinaryOp::Rem => self.divide(op == BinaryOp::Rem, signed, a, b),
            BinaryOp::Pow => self.int_power(scalar, a, b),
            BinaryOp::Max if signed => self.builder.ins().smax(a, b),
            BinaryOp::Max => self.builder.ins().umax(a, b),
            BinaryOp::Min if signed => self.builder.ins().smin(a, b),
            BinaryOp::Min => self.builder.ins().umin(a, b),
            BinaryOp::And => self.builder.ins().band(a, b),
            BinaryOp::Or => self.builder.ins().bor(a, b),
            BinaryOp::Xor => self.builder.ins().bxor(a, b),
            BinaryOp::Shl | BinaryOp::Shr => {
                let ty = self.type_of(a);
                let shifted = match op {
                    BinaryOp::Shl => self.builder.ins().ishl(a, b),
                    _ if signed => self.builder.ins().sshr(a, b),
                    _ => self.builder.ins().ushr(a, b),
                };
                let width = self.int(ty, i64::from(ty.bits()));
                let inside = self.int_compare(IntCC::UnsignedLessThan, b, width);
                let zero = self.int(ty, 0);
                self.choose(inside, shifted, zero)
            }
            BinaryOp::Atan2 => panic!("atan2 of integers in a validated kernel"),
        }
    }

    /// Scalar division that cannot trap.
    fn divide(&mut self, remainder: bool, signed: bool, a: Value, b: Value) -> Value {
        let narrow = self.type_of(a);
        // Narrow division through 32 bits also leaves MIN / -1 in range.
        let ty = if narrow.bits() < 32 { I32 } else { narrow };
        let extend = |ops: &mut Self, value| match (narrow.bits() < 32, signed) {
            (false, _) => value,
            (true, true) => ops.builder.ins().sextend(I32, value),
            (true, false) => ops.builder.ins().uextend(I32, value),
        };
        let (a, b) = (extend(self, a), extend(self, b));
        let zero = self.int(ty, 0);
        let one = self.int(ty, 1);
        let by_zero = self.int_compare(IntCC::Equal, b, zero);
        let mut unsafe_divisor = by_zero;
        let mut minus = None;
        if signed {
            let minus_one = self.int(ty, -1);
            let by_minus_one = self.int_compare(IntCC::Equal, b, minus_one);
            unsafe_divisor = self.builder.ins().bor(by_zero, by_minus_one);
            minus = Some(by_minus_one);
        }
        let divisor = self.choose(unsafe_divisor, one, b);
        let result = match (remainder, signed) {
            (false, true) => self.builder.ins().sdiv(a, divisor),
            (false, false) => self.builder.ins().udiv(a, divisor),
            (true, true) => self.builder.ins().srem(a, divisor),
            (true, false) => self.builder.ins().urem(a, divisor),
        };
        let result = match minus {
            Some(by_minus_one) if !remainder => {
                let negative = self.builder.ins().ineg(a);
                self.choose(by_minus_one, negative, result)
            }
            Some(_) | None => result,
        };
        let result = self.choose(by_zero, zero, result);
        if narrow.bits() < 32 { self.builder.ins().ireduce(narrow, result) } else { result }
    }

    fn int_power(&mut self, scalar: Scalar, a: Value, b: Value) -> Value {
        let ty = self.type_of(a);
        let signed = scalar.is_signed();
        let (a, b) = (self.widen_int(signed, a), self.widen_int(signed, b));
        let symbol = if signed { "gradc_i64_pow" } else { "gradc_u64_pow" };
        let power = self.call(symbol, &[a, b], I64);
        if ty == I64 { power } else { self.builder.ins().ireduce(ty, power) }
    }

    fn widen_int(&mut self, signed: bool, value: Value) -> Value {
        match (self.type_of(value) == I64, signed) {
            (true, _) => value,
            (false, true) => self.builder.ins().sextend(I64, value),
            (false, false) => self.builder.ins().uextend(I64, value),
        }
    }

    /// A comparison of operands of a register type.
    pub(super) fn compare(&mut self, op: CompareOp, scalar: Scalar, a: Value, b: Value) -> Value {
        if !scalar.is_float() {
            return self.int_compare(int_condition(op, scalar.is_signed()), a, b);
        }
        let truth = self.float_compare(float_condition(op), a, b);
        if op == CompareOp::Ne { self.negate(truth) } else { truth }
    }

    /// `a * b + c` rounded once.
    pub(super) fn fused(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.builder.ins().fma(a, b, c)
    }

    /// A conversion between register types.
    pub(super) fn cast(&mut self, from: Scalar, to: Scalar, x: Value) -> Value {
        match (from, to) {
            _ if from == to => x,
            (Scalar::Bool, _) if to.is_float() => self.truth_to_float(to, x),
            (Scalar::Bool, _) => self.truth_to_int(to, x),
            (_, Scalar::Bool) if from.is_float() => {
                let zero = self.float(self.type_of(x), 0.0);
                self.compare(CompareOp::Ne, from, x, zero)
            }
            (_, Scalar::Bool) => {
                let zero = self.int(self.type_of(x), 0);
                self.int_compare(IntCC::NotEqual, x, zero)
            }
            (Scalar::F32, Scalar::F64) => self.builder.ins().fpromote(F64, x),
            (Scalar::F64, Scalar::F32) => self.builder.ins().fdemote(F32, x),
            _ if from.is_float() => self.float_to_int(to, x),
            _ if to.is_float() => self.int_to_float(from, to, x),
            _ => self.int_to_int(from.is_signed(), to, x),
        }
    }

    fn truth_to_float(&mut self, to: Scalar, x: Value) -> Value {
        let ty = self.type_of(x);
        if !ty.is_vector() {
            return self.builder.ins().fcvt_from_uint(scalar_type(to), x);
        }
        let float = if ty == I32X4 { F32X4 } else { F64X2 };
        let one = self.float(float, 1.0);
        let one = self.bits(one);
        let bits = self.builder.ins().band(x, one);
        self.bitcast(float, bits)
    }

    fn truth_to_int(&mut self, to: Scalar, x: Value) -> Value {
        let ty = self.type_of(x);
        if ty.is_vector() {
            let one = self.int(ty, 1);
            return self.builder.ins().band(x, one);
        }
        let wide = scalar_type(to);
        if wide == I8 { x } else { self.builder.ins().uextend(wide, x) }
    }

    fn float_to_int(&mut self, to: Scalar, x: Value) -> Value {
        let vector = self.type_of(x).is_vector();
        let ty = if vector { I32X4 } else { scalar_type(to) };
        if ty.lane_bits() >= 32 {
            return match to.is_signed() {
                true => self.builder.ins().fcvt_to_sint_sat(ty, x),
                false => self.builder.ins().fcvt_to_uint_sat(ty, x),
            };
        }
        // Narrow types saturate from 32 bits.
        let bits = ty.bits();
        if to.is_signed() {
            let wide = self.builder.ins().fcvt_to_sint_sat(I32, x);
            let high = self.int(I32, (1 << (bits - 1)) - 1);
            let low = self.int(I32, -(1 << (bits - 1)));
            let wide = self.builder.ins().smin(wide, high);
            let wide = self.builder.ins().smax(wide, low);
            self.builder.ins().ireduce(ty, wide)
        } else {
            let wide = self.builder.ins().fcvt_to_uint_sat(I32, x);
            let high = self.int(I32, (1 << bits) - 1);
            let wide = self.builder.ins().umin(wide, high);
            self.builder.ins().ireduce(ty, wide)
        }
    }

    fn int_to_float(&mut self, from: Scalar, to: Scalar, x: Value) -> Value {
        let ty = if self.type_of(x).is_vector() { F32X4 } else { scalar_type(to) };
        let x = match (self.type_of(x).lane_bits() < 32, from.is_signed()) {
            (false, _) => x,
            (true, true) => self.builder.ins().sextend(I32, x),
            (true, false) => self.builder.ins().uextend(I32, x),
        };
        match from.is_signed() {
            true => self.builder.ins().fcvt_from_sint(ty, x),
            false => self.builder.ins().fcvt_from_uint(ty, x),
        }
    }

    fn int_to_int(&mut self, signed: bool, to: Scalar, x: Value) -> Value {
        let from = self.type_of(x);
        let ty = scalar_type(to);
        match from.lane_bits().cmp(&ty.bits()) {
            std::cmp::Ordering::Equal => x,
            std::cmp::Ordering::Greater => self.builder.ins().ireduce(ty, x),
            std::cmp::Ordering::Less if signed => self.builder.ins().sextend(ty, x),
            std::cmp::Ordering::Less => self.builder.ins().uextend(ty, x),
        }
    }
}
