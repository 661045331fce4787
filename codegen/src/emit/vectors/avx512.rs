//! Vectors of 512 bits: sixteen lanes, masks in registers of their own.

use iced_x86::code_asm::*;

use super::Beyond;
use super::machine::{Direction, Extreme, Logic, Machine, Predicate, Simple};
use crate::loops::{Scalar, UnaryOp};

/// Lanes that a vector loop's last iterations have.
const TAIL: AsmRegisterK = k1;
/// A mask for passing use; truth values get those behind.
const PASSING_MASK: AsmRegisterK = k2;
/// To nearest, ties to even, whatever the processor's mode is.
const TO_NEAREST: u32 = 0;

pub(super) struct Avx512;

type Done = Result<(), Beyond>;

impl Machine for Avx512 {
    type Vector = AsmRegisterZmm;
    type Mask = AsmRegisterK;

    const LANES: i32 = 16;
    const VECTORS: &'static [AsmRegisterZmm] = &[
        zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15,
        zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29,
    ];
    const MASKS: &'static [AsmRegisterK] = &[k3, k4, k5, k6, k7];
    const PASSING: [AsmRegisterZmm; 2] = [zmm30, zmm31];
    const TURNS: usize = 4;

    fn as_mask(_: AsmRegisterZmm) -> Option<AsmRegisterK> {
        None
    }

    fn as_vector(_: AsmRegisterK) -> Option<AsmRegisterZmm> {
        None
    }

    fn begin(code: &mut CodeAssembler) {
        // The older encoding knows sixteen registers only.
        code.set_prefer_vex(false);
    }

    fn has_masked(_: Scalar) -> bool {
        true
    }

    fn set_tail(code: &mut CodeAssembler) -> Done {
        code.mov(ecx, -1)?;
        code.bzhi(ecx, ecx, edx)?;
        Ok(code.kmovw(TAIL, ecx)?)
    }

    fn set_single_tail(_: &mut CodeAssembler) -> Done {
        Err(Beyond::Kind)
    }

    fn fill_bits(code: &mut CodeAssembler, to: AsmRegisterZmm, bits: u32) -> Done {
        if bits == 0 {
            return Ok(code.vpxord(to, to, to)?);
        }
        code.mov(edx, bits)?;
        Ok(code.vpbroadcastd(to, edx)?)
    }

    fn copy(code: &mut CodeAssembler, to: AsmRegisterZmm, from: AsmRegisterZmm) -> Done {
        Ok(code.vmovaps(to, from)?)
    }

    fn load(code: &mut CodeAssembler, to: AsmRegisterZmm, from: AsmMemoryOperand, tail: bool) -> Done {
        Ok(code.vmovups(if tail { to.k1().z() } else { to }, zmmword_ptr(from))?)
    }

    fn load_one(code: &mut CodeAssembler, to: AsmRegisterZmm, from: AsmMemoryOperand) -> Done {
        Ok(code.vbroadcastss(to, dword_ptr(from))?)
    }

    fn store(code: &mut CodeAssembler, to: AsmMemoryOperand, from: AsmRegisterZmm, tail: bool) -> Done {
        let to = zmmword_ptr(to);
        Ok(code.vmovups(if tail { to.k1() } else { to }, from)?)
    }

    fn store_one(code: &mut CodeAssembler, to: AsmMemoryOperand, from: AsmRegisterZmm) -> Done {
        code.vmovaps(Self::PASSING[0], from)?;
        Ok(code.vmovss(dword_ptr(to), xmm30)?)
    }

    fn load_truth(code: &mut CodeAssembler, to: AsmRegisterK, from: AsmMemoryOperand, tail: bool) -> Done {
        let wide = Self::PASSING[0];
        code.vpmovzxbd(if tail { wide.k1().z() } else { wide }, xmmword_ptr(from))?;
        Ok(code.vptestmd(to, wide, wide)?)
    }

    fn store_truth(code: &mut CodeAssembler, to: AsmMemoryOperand, from: AsmRegisterK, tail: bool) -> Done {
        let [bits, ones] = Self::PASSING;
        code.mov(edx, 1)?;
        code.vpbroadcastd(ones, edx)?;
        code.vmovdqa32(under(bits, from).z(), ones)?;
        let to = xmmword_ptr(to);
        Ok(code.vpmovdb(if tail { to.k1() } else { to }, bits)?)
    }

    fn keep(code: &mut CodeAssembler, to: AsmMemoryOperand, from: AsmRegisterZmm) -> Done {
        Ok(code.vmovaps(zmmword_ptr(to), from)?)
    }

    fn bring_back(code: &mut CodeAssembler, to: AsmRegisterZmm, from: AsmMemoryOperand) -> Done {
        Ok(code.vmovaps(to, zmmword_ptr(from))?)
    }

    fn keep_mask(code: &mut CodeAssembler, to: AsmMemoryOperand, from: AsmRegisterK) -> Done {
        Ok(code.kmovw(word_ptr(to), from)?)
    }

    fn bring_back_mask(code: &mut CodeAssembler, to: AsmRegisterK, from: AsmMemoryOperand) -> Done {
        Ok(code.kmovw(to, word_ptr(from))?)
    }

    fn simple(
        code: &mut CodeAssembler,
        op: Simple,
        to: AsmRegisterZmm,
        a: AsmRegisterZmm,
        b: AsmRegisterZmm,
    ) -> Done {
        match op {
            Simple::Add => code.vaddps(to, a, b)?,
            Simple::Sub => code.vsubps(to, a, b)?,
            Simple::Mul => code.vmulps(to, a, b)?,
            Simple::Div => code.vdivps(to, a, b)?,
        }
        Ok(())
    }

    fn multiply_add(
        code: &mut CodeAssembler,
        to: AsmRegisterZmm,
        [a, b]: [AsmRegisterZmm; 2],
        c: AsmRegisterZmm,
    ) -> Done {
        code.vmovaps(to, a)?;
        Ok(code.vfmadd213ps(to, b, c)?)
    }

    fn extreme(
        code: &mut CodeAssembler,
        op: Extreme,
        to: AsmRegisterZmm,
        a: AsmRegisterZmm,
        b: AsmRegisterZmm,
    ) -> Done {
        // The instructions give `b` where either is NaN.
        let kept = Self::PASSING[0];
        Self::compare(code, Predicate::Unordered, PASSING_MASK, a, a)?;
        code.vmovaps(kept, a)?;
        match op {
            Extreme::Max => code.vmaxps(to, a, b)?,
            Extreme::Min => code.vminps(to, a, b)?,
        }
        Ok(code.vmovaps(under(to, PASSING_MASK), kept)?)
    }

    fn extreme_into(
        code: &mut CodeAssembler,
        op: Extreme,
        all: AsmRegisterZmm,
        value: AsmRegisterZmm,
    ) -> Done {
        Self::compare(code, Predicate::Unordered, PASSING_MASK, value, value)?;
        match op {
            Extreme::Max => code.vmaxps(all, value, all)?,
            Extreme::Min => code.vminps(all, value, all)?,
        }
        Ok(code.vmovaps(under(all, PASSING_MASK), value)?)
    }

    fn negate(code: &mut CodeAssembler, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Done {
        Self::fill(code, Self::PASSING[0], -0.0)?;
        Ok(code.vpxord(to, x, Self::PASSING[0])?)
    }

    fn absolute(code: &mut CodeAssembler, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Done {
        Self::fill(code, Self::PASSING[0], -0.0)?;
        Ok(code.vpandnd(to, Self::PASSING[0], x)?)
    }

    fn sign(code: &mut CodeAssembler, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Done {
        let [zero, one] = Self::PASSING;
        Self::fill(code, zero, 0.0)?;
        Self::fill(code, one, 1.0)?;
        code.vmovaps(to, x)?;
        Self::compare(code, Predicate::Less, PASSING_MASK, zero, x)?;
        code.vmovaps(under(to, PASSING_MASK), one)?;
        Self::fill(code, one, -1.0)?;
        Self::compare(code, Predicate::Less, PASSING_MASK, x, zero)?;
        Ok(code.vmovaps(under(to, PASSING_MASK), one)?)
    }

    fn round(code: &mut CodeAssembler, direction: Direction, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Done {
        Ok(code.vrndscaleps(to, x, direction as u32)?)
    }

    fn square_root(code: &mut CodeAssembler, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Done {
        Ok(code.vsqrtps(to, x)?)
    }

    fn select(
        code: &mut CodeAssembler,
        to: AsmRegisterZmm,
        condition: AsmRegisterK,
        [yes, no]: [AsmRegisterZmm; 2],
    ) -> Done {
        Ok(code.vblendmps(under(to, condition), no, yes)?)
    }

    fn take_tail(code: &mut CodeAssembler, to: AsmRegisterZmm) -> Done {
        Ok(code.vmovaps(under(to, TAIL), Self::PASSING[1])?)
    }

    fn swap(code: &mut CodeAssembler, step: usize, from: AsmRegisterZmm) -> Done {
        let to = Self::PASSING[1];
        match step {
            0 => code.vshuff32x4(to, from, from, 0b0100_1110)?,
            1 => code.vshuff32x4(to, from, from, 0b1011_0001)?,
            2 => code.vpermilps(to, from, 0b0100_1110)?,
            _ => code.vpermilps(to, from, 0b1011_0001)?,
        }
        Ok(())
    }

    fn compare(
        code: &mut CodeAssembler,
        predicate: Predicate,
        to: AsmRegisterK,
        a: AsmRegisterZmm,
        b: AsmRegisterZmm,
    ) -> Done {
        Ok(code.vcmpps(to, a, b, predicate as u32)?)
    }

    fn truth(code: &mut CodeAssembler, to: AsmRegisterK, value: bool) -> Done {
        Ok(if value { code.kxnorw(to, to, to) } else { code.kxorw(to, to, to) }?)
    }

    fn not(code: &mut CodeAssembler, to: AsmRegisterK, x: AsmRegisterK) -> Done {
        Ok(code.knotw(to, x)?)
    }

    fn logic(
        code: &mut CodeAssembler,
        op: Logic,
        to: AsmRegisterK,
        a: AsmRegisterK,
        b: AsmRegisterK,
    ) -> Done {
        match op {
            Logic::And => code.kandw(to, a, b)?,
            Logic::Or => code.korw(to, a, b)?,
            Logic::Xor => code.kxorw(to, a, b)?,
        }
        Ok(())
    }

    fn copy_truth(code: &mut CodeAssembler, to: AsmRegisterK, from: AsmRegisterK) -> Done {
        Ok(code.kmovw(to, from)?)
    }

    fn number_of(code: &mut CodeAssembler, to: AsmRegisterZmm, from: AsmRegisterK) -> Done {
        Self::fill(code, Self::PASSING[0], 1.0)?;
        Ok(code.vmovaps(under(to, from).z(), Self::PASSING[0])?)
    }

    fn load_half(
        code: &mut CodeAssembler,
        scalar: Scalar,
        to: AsmRegisterZmm,
        (from, adjacent): (AsmMemoryOperand, bool),
        tail: bool,
    ) -> Done {
        let place = if adjacent && tail { under(to, TAIL).z() } else { to };
        match (scalar, adjacent) {
            (Scalar::F16, true) => code.vcvtph2ps(place, ymmword_ptr(from))?,
            (Scalar::F16, false) => {
                code.movzx(edx, word_ptr(from))?;
                code.imul_3(edx, edx, 0x1_0001)?;
                code.vpbroadcastd(Self::PASSING[0], edx)?;
                code.vcvtph2ps(to, ymm30)?;
            }
            (_, true) => {
                code.vpmovzxwd(place, ymmword_ptr(from))?;
                code.vpslld(to, to, 16)?;
            }
            (_, false) => {
                code.movzx(edx, word_ptr(from))?;
                code.shl(edx, 16)?;
                code.vpbroadcastd(to, edx)?;
            }
        }
        Ok(())
    }

    fn store_half(
        code: &mut CodeAssembler,
        scalar: Scalar,
        (to, adjacent): (AsmMemoryOperand, bool),
        from: AsmRegisterZmm,
        tail: bool,
    ) -> Done {
        let place = if tail { under(ymmword_ptr(to), TAIL) } else { ymmword_ptr(to) };
        if scalar == Scalar::F16 && adjacent {
            return Ok(code.vcvtps2ph(place, from, TO_NEAREST)?);
        }
        let half = Self::PASSING[0];
        if !adjacent {
            // Rounding needs `rdx`, where the address is.
            code.mov(rcx, rdx)?;
        }
        match scalar {
            Scalar::F16 => code.vcvtps2ph(ymm30, from, TO_NEAREST)?,
            _ => {
                Self::round_half(code, UnaryOp::RoundBf16, half, from)?;
                code.vpsrld(half, half, 16)?;
            }
        }
        if adjacent {
            return Ok(code.vpmovdw(place, half)?);
        }
        code.vmovd(eax, xmm30)?;
        code.mov(rdx, rcx)?;
        Ok(code.mov(word_ptr(to), ax)?)
    }

    fn round_half(code: &mut CodeAssembler, op: UnaryOp, to: AsmRegisterZmm, x: AsmRegisterZmm) -> Done {
        if op == UnaryOp::RoundF16 {
            code.vcvtps2ph(ymm30, x, TO_NEAREST)?;
            return Ok(code.vcvtph2ps(to, ymm30)?);
        }
        // Half of the last place is added, less a little where the place is even; NaN becomes quiet and is cut.
        let bits = Self::PASSING[1];
        code.vpsrld(to, x, 16)?;
        Self::fill_bits(code, bits, 1)?;
        code.vpandd(to, to, bits)?;
        code.vpaddd(to, to, x)?;
        Self::fill_bits(code, bits, 0x7fff)?;
        code.vpaddd(to, to, bits)?;
        Self::fill_bits(code, bits, 0x0040_0000)?;
        Self::compare(code, Predicate::Unordered, PASSING_MASK, x, x)?;
        code.vpord(under(to, PASSING_MASK), x, bits)?;
        Self::fill_bits(code, bits, 0xffff_0000)?;
        Ok(code.vpandd(to, to, bits)?)
    }
}

/// A register under a mask: lanes outside of it keep what they have.
fn under<R: Masked>(register: R, mask: AsmRegisterK) -> R {
    match mask {
        _ if mask == k1 => register.by_k1(),
        _ if mask == k2 => register.by_k2(),
        _ if mask == k3 => register.by_k3(),
        _ if mask == k4 => register.by_k4(),
        _ if mask == k5 => register.by_k5(),
        _ if mask == k6 => register.by_k6(),
        _ => register.by_k7(),
    }
}

/// What can be put under a mask.
trait Masked {
    fn by_k1(self) -> Self;
    fn by_k2(self) -> Self;
    fn by_k3(self) -> Self;
    fn by_k4(self) -> Self;
    fn by_k5(self) -> Self;
    fn by_k6(self) -> Self;
    fn by_k7(self) -> Self;
}

macro_rules! masked {
    ($($ty:ty),*) => {$(
        impl Masked for $ty {
            fn by_k1(self) -> Self { self.k1() }
            fn by_k2(self) -> Self { self.k2() }
            fn by_k3(self) -> Self { self.k3() }
            fn by_k4(self) -> Self { self.k4() }
            fn by_k5(self) -> Self { self.k5() }
            fn by_k6(self) -> Self { self.k6() }
            fn by_k7(self) -> Self { self.k7() }
        }
    )*};
}

masked!(AsmRegisterZmm, AsmMemoryOperand);
