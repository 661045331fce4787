//! Vectors of 256 bits: eight lanes. Truth values are vectors, too, of ones or zeros in all bits of a lane.

use iced_x86::Register;
use iced_x86::code_asm::*;

use super::Beyond;
use super::machine::{Direction, Extreme, Logic, Machine, Predicate, Simple};
use crate::loops::{Scalar, UnaryOp};

/// Lanes that a vector loop's last iterations have.
const TAIL: AsmRegisterYmm = ymm13;

pub(super) struct Avx2;

type Ymm = AsmRegisterYmm;
type Done = Result<(), Beyond>;

/// The lower half of a register.
fn half(register: Ymm) -> AsmRegisterXmm {
    const HALVES: [AsmRegisterXmm; 16] = [
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15,
    ];
    HALVES[Register::from(register) as usize - Register::YMM0 as usize]
}

impl Machine for Avx2 {
    type Vector = Ymm;
    type Mask = Ymm;

    const LANES: i32 = 8;
    const VECTORS: &'static [Ymm] =
        &[ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12];
    const MASKS: &'static [Ymm] = &[];
    const PASSING: [Ymm; 2] = [ymm14, ymm15];
    const TURNS: usize = 4;

    fn as_mask(vector: Ymm) -> Option<Ymm> {
        Some(vector)
    }

    fn as_vector(mask: Ymm) -> Option<Ymm> {
        Some(mask)
    }

    fn begin(_: &mut CodeAssembler) {}

    fn has_masked(scalar: Scalar) -> bool {
        scalar == Scalar::F32
    }

    fn set_tail(code: &mut CodeAssembler) -> Done {
        // A byte for each lane, then a word.
        code.shl(edx, 3)?;
        code.mov(rcx, -1i64)?;
        code.bzhi(rcx, rcx, rdx)?;
        code.vmovq(half(TAIL), rcx)?;
        Ok(code.vpmovsxbd(TAIL, half(TAIL))?)
    }

    fn set_single_tail(code: &mut CodeAssembler) -> Done {
        code.mov(edx, -1)?;
        Ok(code.vmovd(half(TAIL), edx)?)
    }

    fn fill_bits(code: &mut CodeAssembler, to: Ymm, bits: u32) -> Done {
        match bits {
            0 => return Ok(code.vxorps(to, to, to)?),
            u32::MAX => return Ok(code.vpcmpeqd(to, to, to)?),
            _ => {}
        }
        code.mov(edx, bits)?;
        code.vmovd(half(to), edx)?;
        Ok(code.vpbroadcastd(to, half(to))?)
    }

    fn copy(code: &mut CodeAssembler, to: Ymm, from: Ymm) -> Done {
        Ok(code.vmovaps(to, from)?)
    }

    fn load(code: &mut CodeAssembler, to: Ymm, from: AsmMemoryOperand, tail: bool) -> Done {
        let from = ymmword_ptr(from);
        Ok(if tail { code.vmaskmovps(to, TAIL, from) } else { code.vmovups(to, from) }?)
    }

    fn load_one(code: &mut CodeAssembler, to: Ymm, from: AsmMemoryOperand) -> Done {
        Ok(code.vbroadcastss(to, dword_ptr(from))?)
    }

    fn store(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Ymm, tail: bool) -> Done {
        let to = ymmword_ptr(to);
        Ok(if tail { code.vmaskmovps(to, TAIL, from) } else { code.vmovups(to, from) }?)
    }

    fn store_one(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Ymm) -> Done {
        Ok(code.vmovss(dword_ptr(to), half(from))?)
    }

    fn load_truth(code: &mut CodeAssembler, to: Ymm, from: AsmMemoryOperand, tail: bool) -> Done {
        let zero = Self::PASSING[0];
        if tail {
            code.movzx(edx, byte_ptr(from))?;
            code.vmovd(half(to), edx)?;
        } else {
            code.vpmovzxbd(to, qword_ptr(from))?;
        }
        code.vpxor(zero, zero, zero)?;
        Ok(code.vpcmpgtd(to, to, zero)?)
    }

    fn store_truth(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Ymm, tail: bool) -> Done {
        let [low, high] = Self::PASSING.map(half);
        code.vextracti128(high, from, 1)?;
        code.vpackssdw(low, half(from), high)?;
        code.vpacksswb(low, low, low)?;
        code.vpabsb(low, low)?;
        Ok(if tail { code.vpextrb(byte_ptr(to), low, 0) } else { code.vmovq(qword_ptr(to), low) }?)
    }

    fn keep(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Ymm) -> Done {
        Ok(code.vmovaps(ymmword_ptr(to), from)?)
    }

    fn bring_back(code: &mut CodeAssembler, to: Ymm, from: AsmMemoryOperand) -> Done {
        Ok(code.vmovaps(to, ymmword_ptr(from))?)
    }

    fn keep_mask(_: &mut CodeAssembler, _: AsmMemoryOperand, _: Ymm) -> Done {
        Err(Beyond::Kind)
    }

    fn bring_back_mask(_: &mut CodeAssembler, _: Ymm, _: AsmMemoryOperand) -> Done {
        Err(Beyond::Kind)
    }

    fn simple(code: &mut CodeAssembler, op: Simple, to: Ymm, a: Ymm, b: Ymm) -> Done {
        match op {
            Simple::Add => code.vaddps(to, a, b)?,
            Simple::Sub => code.vsubps(to, a, b)?,
            Simple::Mul => code.vmulps(to, a, b)?,
            Simple::Div => code.vdivps(to, a, b)?,
        }
        Ok(())
    }

    fn multiply_add(code: &mut CodeAssembler, to: Ymm, [a, b]: [Ymm; 2], c: Ymm) -> Done {
        code.vmovaps(to, a)?;
        Ok(code.vfmadd213ps(to, b, c)?)
    }

    fn extreme(code: &mut CodeAssembler, op: Extreme, to: Ymm, a: Ymm, b: Ymm) -> Done {
        // The instructions give `b` where either is NaN.
        let [all, is_nan] = Self::PASSING;
        match op {
            Extreme::Max => code.vmaxps(all, a, b)?,
            Extreme::Min => code.vminps(all, a, b)?,
        }
        Self::compare(code, Predicate::Unordered, is_nan, a, a)?;
        Ok(code.vblendvps(to, all, a, is_nan)?)
    }

    fn extreme_into(code: &mut CodeAssembler, op: Extreme, all: Ymm, value: Ymm) -> Done {
        let is_nan = Self::PASSING[0];
        Self::compare(code, Predicate::Unordered, is_nan, value, value)?;
        match op {
            Extreme::Max => code.vmaxps(all, value, all)?,
            Extreme::Min => code.vminps(all, value, all)?,
        }
        Ok(code.vblendvps(all, all, value, is_nan)?)
    }

    fn negate(code: &mut CodeAssembler, to: Ymm, x: Ymm) -> Done {
        Self::fill(code, Self::PASSING[0], -0.0)?;
        Ok(code.vxorps(to, x, Self::PASSING[0])?)
    }

    fn absolute(code: &mut CodeAssembler, to: Ymm, x: Ymm) -> Done {
        Self::fill(code, Self::PASSING[0], -0.0)?;
        Ok(code.vandnps(to, Self::PASSING[0], x)?)
    }

    fn sign(code: &mut CodeAssembler, to: Ymm, x: Ymm) -> Done {
        // One with the sign of `x`, where that is above or below zero.
        let [stays, one] = Self::PASSING;
        Self::fill(code, to, 0.0)?;
        Self::compare(code, Predicate::Equal, stays, x, to)?;
        Self::compare(code, Predicate::Unordered, one, x, x)?;
        code.vorps(stays, stays, one)?;
        Self::fill(code, to, -0.0)?;
        code.vandps(to, to, x)?;
        Self::fill(code, one, 1.0)?;
        code.vorps(to, to, one)?;
        Ok(code.vblendvps(to, to, x, stays)?)
    }

    fn round(code: &mut CodeAssembler, direction: Direction, to: Ymm, x: Ymm) -> Done {
        Ok(code.vroundps(to, x, direction as u32)?)
    }

    fn square_root(code: &mut CodeAssembler, to: Ymm, x: Ymm) -> Done {
        Ok(code.vsqrtps(to, x)?)
    }

    fn select(code: &mut CodeAssembler, to: Ymm, condition: Ymm, [yes, no]: [Ymm; 2]) -> Done {
        Ok(code.vblendvps(to, no, yes, condition)?)
    }

    fn take_tail(code: &mut CodeAssembler, to: Ymm) -> Done {
        Ok(code.vblendvps(to, to, Self::PASSING[1], TAIL)?)
    }

    fn swap(code: &mut CodeAssembler, step: usize, from: Ymm) -> Done {
        let to = Self::PASSING[1];
        match step {
            0 => code.vperm2f128(to, from, from, 1)?,
            1 => code.vpermilps(to, from, 0b0100_1110)?,
            _ => code.vpermilps(to, from, 0b1011_0001)?,
        }
        Ok(())
    }

    fn compare(code: &mut CodeAssembler, predicate: Predicate, to: Ymm, a: Ymm, b: Ymm) -> Done {
        Ok(code.vcmpps(to, a, b, predicate as u32)?)
    }

    fn truth(code: &mut CodeAssembler, to: Ymm, value: bool) -> Done {
        Self::fill_bits(code, to, if value { u32::MAX } else { 0 })
    }

    fn not(code: &mut CodeAssembler, to: Ymm, x: Ymm) -> Done {
        Self::truth(code, Self::PASSING[0], true)?;
        Ok(code.vxorps(to, x, Self::PASSING[0])?)
    }

    fn logic(code: &mut CodeAssembler, op: Logic, to: Ymm, a: Ymm, b: Ymm) -> Done {
        match op {
            Logic::And => code.vandps(to, a, b)?,
            Logic::Or => code.vorps(to, a, b)?,
            Logic::Xor => code.vxorps(to, a, b)?,
        }
        Ok(())
    }

    fn copy_truth(code: &mut CodeAssembler, to: Ymm, from: Ymm) -> Done {
        Self::copy(code, to, from)
    }

    fn number_of(code: &mut CodeAssembler, to: Ymm, from: Ymm) -> Done {
        Self::fill(code, Self::PASSING[0], 1.0)?;
        Ok(code.vandps(to, from, Self::PASSING[0])?)
    }

    // What rounds to 16 bits is left to Cranelift.

    fn load_half(_: &mut CodeAssembler, _: Scalar, _: Ymm, _: (AsmMemoryOperand, bool), _: bool) -> Done {
        Err(Beyond::Kind)
    }

    fn store_half(_: &mut CodeAssembler, _: Scalar, _: (AsmMemoryOperand, bool), _: Ymm, _: bool) -> Done {
        Err(Beyond::Kind)
    }

    fn round_half(_: &mut CodeAssembler, _: UnaryOp, _: Ymm, _: Ymm) -> Done {
        Err(Beyond::Kind)
    }
}
