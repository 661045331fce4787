//! Buffers of 16-bit floats.

use super::{Jit, Random, check, compare, machines};
use crate::loops::parse_kernel;

#[test]
fn half_precision_buffers() {
    for half in ["f16", "bf16"] {
        check(
            &format!(
                "kernel \"halves\" (b0: read {half}[29], b1: write {half}[29], b2: write {half}[29]) {{
                   vector i0 in 29 {{
                     r0: f32 = load b0[i0]
                     r1: f32 = load b0[-i0 + 28]
                     r2: f32 = mul r0, r1
                     r3: f32 = sqrt r2
                     store b1[i0] = r3
                     store b2[-i0 + 28] = r2
                   }}
                 }}"
            ),
            0.0,
        );
    }
}

#[test]
fn every_half_converts_exactly() {
    for half in ["f16", "bf16"] {
        let text = format!(
            "kernel \"all\" (b0: read {half}[65536], b1: write f32[65536], b2: write {half}[65536]) {{
               parallelvector i0 in 65536 {{ r0: f32 = load b0[i0] store b1[i0] = r0 store b2[i0] = r0 }}
             }}"
        );
        let kernel = parse_kernel(&text).unwrap();
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect();
        let start = [all, vec![0; 4 * 65536], vec![0; 2 * 65536]];
        for machine in machines() {
            let jit = Jit::for_isa(std::slice::from_ref(&kernel), machine);
            compare(&jit, 0, &kernel, &start, (0, 65536), 0.0);
        }
    }
}

#[test]
fn rounding_to_halves() {
    for half in ["f16", "bf16"] {
        let text = format!(
            "kernel \"round\" (b0: read f32[262144], b1: write {half}[262144], b2: write f32[262144]) {{
               parallelvector i0 in 262144 {{
                 r0: f32 = load b0[i0]
                 r1: f32 = round_{half} r0
                 store b1[i0] = r0
                 store b2[i0] = r1
               }}
             }}"
        );
        let kernel = parse_kernel(&text).unwrap();
        let mut random = Random(8);
        // Near ties, in the range of f16, and random bits.
        let source: Vec<u8> = (0..262_144u64)
            .flat_map(|k| {
                let bits = match k % 3 {
                    0 => {
                        (random.next() as u32 & 0x8fff_e000 | 0x3000_1000)
                            .wrapping_add((random.next() % 3) as u32)
                            - 1
                    }
                    1 => (random.next() as u32 & 0x87ff_8000 | 0x3000_8000) + (random.next() % 3) as u32 - 1,
                    _ => random.next() as u32,
                };
                bits.to_ne_bytes()
            })
            .collect();
        let start = [source, vec![0; 2 * 262_144], vec![0; 4 * 262_144]];
        for machine in machines() {
            let jit = Jit::for_isa(std::slice::from_ref(&kernel), machine);
            compare(&jit, 0, &kernel, &start, (0, 262_144), 0.0);
        }
    }
}
