//! Instructions on single CLIF values, of a scalar type or of a 128-bit vector type alike.
//!
//! Truth values are bytes (0 or 1) beside scalars, and masks (integer lanes of all ones or zeros)
//! beside vectors.

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F64, I8, I16, I32, I64};
use cranelift_codegen::ir::{
    AbiParam, ConstantData, Endianness, FuncRef, InstBuilder, MemFlagsData, Signature, StackSlotData,
    StackSlotKind, Type, Value,
};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{Linkage, Module};

use super::EmitError;
use crate::loops::Scalar;

/// A function under construction.
pub(super) struct Ops<'a, 'b> {
    pub(super) builder: FunctionBuilder<'b>,
    pub(super) module: &'a mut dyn Module,
    pub(super) fma: bool,
    imports: BTreeMap<String, FuncRef>,
    /// The first error of a declaration; emission goes on with a dead value.
    pub(super) failure: Option<EmitError>,
}

/// CLIF type of a register outside of vector loops.
pub(super) fn scalar_type(scalar: Scalar) -> Type {
    match scalar {
        Scalar::F32 => F32,
        Scalar::F64 => F64,
        Scalar::I8 | Scalar::U8 | Scalar::Bool => I8,
        Scalar::I16 | Scalar::U16 | Scalar::F16 | Scalar::BF16 => I16,
        Scalar::I32 | Scalar::U32 => I32,
        Scalar::I64 | Scalar::U64 => I64,
    }
}

impl<'a, 'b> Ops<'a, 'b> {
    pub(super) fn new(builder: FunctionBuilder<'b>, module: &'a mut dyn Module) -> Ops<'a, 'b> {
        let fma = super::isa::has_fma(module.isa());
        Ops { builder, module, fma, imports: BTreeMap::new(), failure: None }
    }

    pub(super) fn type_of(&self, value: Value) -> Type {
        self.builder.func.dfg.value_type(value)
    }

    /// The integer type (or vector of integers) of the same shape.
    pub(super) fn integer_type(ty: Type) -> Type {
        let lane = Type::int(ty.lane_bits() as u16).expect("lanes have 8 to 64 bits");
        if ty.is_vector() { lane.by(ty.lane_count()).expect("as many lanes as before") } else { lane }
    }

    /// The same bits in another type of the same size.
    pub(super) fn bitcast(&mut self, ty: Type, value: Value) -> Value {
        if self.type_of(value) == ty {
            return value;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        let flags =
            if ty.is_vector() || self.type_of(value).is_vector() { flags } else { MemFlagsData::new() };
        self.builder.ins().bitcast(ty, flags, value)
    }

    /// The bits as integers.
    pub(super) fn bits(&mut self, value: Value) -> Value {
        let ty = Self::integer_type(self.type_of(value));
        self.bitcast(ty, value)
    }

    /// A float constant in every lane of `ty`.
    pub(super) fn float(&mut self, ty: Type, value: f64) -> Value {
        match (ty.lane_type() == F32, ty.is_vector()) {
            (true, false) => self.builder.ins().f32const(value as f32),
            (false, false) => self.builder.ins().f64const(value),
            (true, true) => self.vector_constant(ty, &(value as f32).to_bits().to_le_bytes()),
            (false, true) => self.vector_constant(ty, &value.to_bits().to_le_bytes()),
        }
    }

    /// An integer constant in every lane of `ty`.
    pub(super) fn int(&mut self, ty: Type, value: i64) -> Value {
        if ty.is_vector() {
            let size = ty.lane_bits() as usize / 8;
            return self.vector_constant(ty, &value.to_le_bytes()[..size]);
        }
        let unused = 64 - ty.bits();
        let zero_extended = (value as u64) << unused >> unused;
        self.builder.ins().iconst(ty, zero_extended as i64)
    }

    fn vector_constant(&mut self, ty: Type, lane: &[u8]) -> Value {
        let data: ConstantData = lane.repeat(ty.lane_count() as usize).into();
        let constant = self.builder.func.dfg.constants.insert(data);
        self.builder.ins().vconst(ty, constant)
    }

    /// Comparison of floats with an ordered condition; the result is a truth value.
    pub(super) fn float_compare(&mut self, condition: FloatCC, a: Value, b: Value) -> Value {
        self.builder.ins().fcmp(condition, a, b)
    }

    pub(super) fn int_compare(&mut self, condition: IntCC, a: Value, b: Value) -> Value {
        self.builder.ins().icmp(condition, a, b)
    }

    /// Whether the float is not NaN.
    pub(super) fn is_number(&mut self, value: Value) -> Value {
        self.float_compare(FloatCC::Equal, value, value)
    }

    /// The opposite truth value.
    pub(super) fn negate(&mut self, truth: Value) -> Value {
        if self.type_of(truth).is_vector() {
            self.builder.ins().bnot(truth)
        } else {
            self.builder.ins().bxor_imm_s(truth, 1)
        }
    }

    /// `a` where the truth value holds, elsewhere `b`.
    pub(super) fn choose(&mut self, truth: Value, a: Value, b: Value) -> Value {
        let ty = self.type_of(a);
        if !ty.is_vector() {
            return self.builder.ins().select(truth, a, b);
        }
        let mask = self.bitcast(ty, truth);
        self.builder.ins().bitselect(mask, a, b)
    }

    /// One byte: whether the truth value holds in some lane.
    pub(super) fn any(&mut self, truth: Value) -> Value {
        if !self.type_of(truth).is_vector() {
            return truth;
        }
        let bits = self.builder.ins().vhigh_bits(I32, truth);
        self.builder.ins().icmp_imm_s(IntCC::NotEqual, bits, 0)
    }

    /// `a * b + c`, in one instruction where the machine has one (then rounded once).
    pub(super) fn mul_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.fma {
            return self.builder.ins().fma(a, b, c);
        }
        let product = self.builder.ins().fmul(a, b);
        self.builder.ins().fadd(product, c)
    }

    /// `a + b`.
    pub(super) fn add(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fadd(a, b)
    }

    /// `a - b`.
    pub(super) fn sub(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fsub(a, b)
    }

    /// `a * b`.
    pub(super) fn mul(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fmul(a, b)
    }

    /// The float without its sign. A mask from memory beats the three instructions of `fabs`.
    pub(super) fn absolute(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        if !ty.is_vector() {
            return self.builder.ins().fabs(x);
        }
        let integer = Self::integer_type(ty);
        let mask = self.int(integer, i64::MAX >> (64 - ty.lane_bits()));
        let bits = self.bits(x);
        let bits = self.builder.ins().band(bits, mask);
        self.bitcast(ty, bits)
    }

    /// The float with the other sign.
    pub(super) fn opposite(&mut self, x: Value) -> Value {
        let ty = self.type_of(x);
        if !ty.is_vector() {
            return self.builder.ins().fneg(x);
        }
        let integer = Self::integer_type(ty);
        let mask = self.int(integer, i64::MIN >> (64 - ty.lane_bits()));
        let bits = self.bits(x);
        let bits = self.builder.ins().bxor(bits, mask);
        self.bitcast(ty, bits)
    }

    /// The lesser float; `b` if one is NaN.
    pub(super) fn lesser(&mut self, a: Value, b: Value) -> Value {
        let less = self.float_compare(FloatCC::LessThan, a, b);
        self.choose(less, a, b)
    }

    /// The greater float; `b` if one is NaN.
    pub(super) fn greater(&mut self, a: Value, b: Value) -> Value {
        let more = self.float_compare(FloatCC::LessThan, b, a);
        self.choose(more, a, b)
    }

    /// A polynomial, coefficients from the highest power down.
    pub(super) fn horner(&mut self, coefficients: &[f64], x: Value) -> Value {
        let ty = self.type_of(x);
        let mut sum = self.float(ty, coefficients[0]);
        for coefficient in &coefficients[1..] {
            let next = self.float(ty, *coefficient);
            sum = self.mul_add(sum, x, next);
        }
        sum
    }

    /// `value` with the sign bit of `sign`; `value` must not be negative.
    pub(super) fn with_sign_of(&mut self, value: Value, sign: Value) -> Value {
        let ty = self.type_of(value);
        let integer = Self::integer_type(ty);
        let mask = self.int(integer, i64::MIN >> (64 - ty.lane_bits()));
        let sign = self.bits(sign);
        let sign = self.builder.ins().band(sign, mask);
        let value = self.bits(value);
        let joined = self.builder.ins().bor(value, sign);
        self.bitcast(ty, joined)
    }

    /// Calls an external function of scalars.
    pub(super) fn call(&mut self, symbol: &str, args: &[Value], result: Type) -> Value {
        let Some(function) = self.function(symbol, args, Some(result)) else {
            return if result.is_float() { self.float(result, 0.0) } else { self.int(result, 0) };
        };
        let call = self.builder.ins().call(function, args);
        self.builder.inst_results(call)[0]
    }

    /// Calls an external function without a result.
    pub(super) fn perform(&mut self, symbol: &str, args: &[Value]) {
        if let Some(function) = self.function(symbol, args, None) {
            self.builder.ins().call(function, args);
        }
    }

    /// Memory of this call of the function, aligned for vectors.
    pub(super) fn stack_memory(&mut self, bytes: usize) -> Value {
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 4);
        let slot = self.builder.create_sized_stack_slot(slot);
        self.builder.ins().stack_addr(I64, slot, 0)
    }

    /// The function of a symbol, or nothing where it cannot be declared.
    fn function(&mut self, symbol: &str, args: &[Value], result: Option<Type>) -> Option<FuncRef> {
        if let Some(function) = self.imports.get(symbol) {
            return Some(*function);
        }
        self.import(symbol, args, result).map_err(|error| self.failure.get_or_insert(error)).ok()
    }

    fn import(&mut self, symbol: &str, args: &[Value], result: Option<Type>) -> Result<FuncRef, EmitError> {
        let mut signature = Signature::new(self.module.isa().default_call_conv());
        // Narrow integers are extended by the caller on some targets; the C ABI of Rust does so.
        signature.params.extend(args.iter().map(|arg| AbiParam::new(self.type_of(*arg))));
        signature.returns.extend(result.map(AbiParam::new));
        let id = self.module.declare_function(symbol, Linkage::Import, &signature)?;
        let function = self.module.declare_func_in_func(id, self.builder.func);
        self.imports.insert(symbol.into(), function);
        Ok(function)
    }
}
