//! Floats of 16 bits: buffers of them, and numbers rounded to what these hold.

use iced_x86::code_asm::*;

use super::Beyond;
use super::arithmetic::UNORDERED;
use super::registers::{PASSING, PASSING_MASK, TAIL, under};
use super::walk::Emitter;
use crate::loops::Scalar;

/// To nearest, ties to even, whatever the processor's mode is.
const TO_NEAREST: u32 = 0;

impl Emitter<'_> {
    /// Loads elements as `f32`: adjacent ones, or one for all lanes.
    pub(super) fn load_half(
        &mut self,
        scalar: Scalar,
        to: AsmRegisterZmm,
        (from, adjacent): (AsmMemoryOperand, bool),
    ) -> Result<(), Beyond> {
        let place = if adjacent && self.is_masked() { under(to, TAIL).z() } else { to };
        match (scalar, adjacent) {
            (Scalar::F16, true) => self.code.vcvtph2ps(place, from)?,
            (Scalar::F16, false) => {
                self.code.movzx(edx, from)?;
                self.code.imul_3(edx, edx, 0x1_0001)?;
                self.code.vpbroadcastd(PASSING[0], edx)?;
                self.code.vcvtph2ps(to, ymm30)?;
            }
            (_, true) => {
                self.code.vpmovzxwd(place, from)?;
                self.code.vpslld(to, to, 16)?;
            }
            (_, false) => {
                self.code.movzx(edx, from)?;
                self.code.shl(edx, 16)?;
                self.code.vpbroadcastd(to, edx)?;
            }
        }
        Ok(())
    }

    /// Stores numbers rounded: adjacent elements, or, outside of vector loops, one.
    pub(super) fn store_half(
        &mut self,
        scalar: Scalar,
        from: AsmRegisterZmm,
        (to, adjacent): (AsmMemoryOperand, bool),
    ) -> Result<(), Beyond> {
        let place = if self.is_masked() { under(to, TAIL) } else { to };
        if scalar == Scalar::F16 && adjacent {
            return Ok(self.code.vcvtps2ph(place, from, TO_NEAREST)?);
        }
        let half = PASSING[0];
        if !adjacent {
            // Rounding needs `rdx`, where the address is.
            self.code.mov(rcx, rdx)?;
        }
        match scalar {
            Scalar::F16 => self.code.vcvtps2ph(ymm30, from, TO_NEAREST)?,
            _ => {
                self.round_half(scalar, half, from)?;
                self.code.vpsrld(half, half, 16)?;
            }
        }
        if adjacent {
            return Ok(self.code.vpmovdw(place, half)?);
        }
        self.code.vmovd(eax, xmm30)?;
        self.code.mov(rdx, rcx)?;
        self.code.mov(to, ax)?;
        Ok(())
    }

    /// Numbers rounded to values of 16 bits. `to` may be passing register 0; `x` is none of these.
    pub(super) fn round_half(
        &mut self,
        scalar: Scalar,
        to: AsmRegisterZmm,
        x: AsmRegisterZmm,
    ) -> Result<(), Beyond> {
        if scalar == Scalar::F16 {
            self.code.vcvtps2ph(ymm30, x, TO_NEAREST)?;
            return Ok(self.code.vcvtph2ps(to, ymm30)?);
        }
        // Half of the last place is added, less a little where the place is even; NaN becomes quiet and is cut.
        let bits = PASSING[1];
        self.code.vpsrld(to, x, 16)?;
        self.fill_bits(bits, 1)?;
        self.code.vpandd(to, to, bits)?;
        self.code.vpaddd(to, to, x)?;
        self.fill_bits(bits, 0x7fff)?;
        self.code.vpaddd(to, to, bits)?;
        self.fill_bits(bits, 0x0040_0000)?;
        self.code.vcmpps(PASSING_MASK, x, x, UNORDERED)?;
        self.code.vpord(under(to, PASSING_MASK), x, bits)?;
        self.fill_bits(bits, 0xffff_0000)?;
        Ok(self.code.vpandd(to, to, bits)?)
    }

    fn fill_bits(&mut self, to: AsmRegisterZmm, bits: u32) -> Result<(), Beyond> {
        self.code.mov(edx, bits)?;
        Ok(self.code.vpbroadcastd(to, edx)?)
    }
}
