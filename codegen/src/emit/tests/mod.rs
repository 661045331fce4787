//! Emitted code against the interpreter.

mod accuracy;
mod halves;
mod nests;
mod object;
mod operations;
mod tiles;
mod wide_vectors;

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, default_libcall_names};

use super::isa::portable_isa;
use super::vectors::Width;
use super::{IsaOptions, baseline_isa, define_kernel, host_isa, register_runtime};
use crate::loops::{InterpretError, Kernel, Scalar, interpret_range, parse_kernel};

type Function = extern "C" fn(*const *mut u8, i64, i64) -> i64;

/// Kernels in one module, freed when dropped.
struct Jit {
    module: Option<JITModule>,
    functions: Vec<Function>,
}

impl Jit {
    fn new(kernels: &[Kernel]) -> Jit {
        Jit::for_isa(kernels, host_isa(IsaOptions::jit()).unwrap())
    }

    fn for_isa(kernels: &[Kernel], isa: OwnedTargetIsa) -> Jit {
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        register_runtime(&mut builder);
        let mut module = JITModule::new(builder);
        let ids: Vec<_> = kernels
            .iter()
            .enumerate()
            .map(|(number, kernel)| {
                let symbol = format!("kernel_{number}");
                define_kernel(&mut module, kernel, &symbol, Linkage::Local)
                    .unwrap_or_else(|error| panic!("{error:?}\n{kernel}"))
            })
            .collect();
        module.finalize_definitions().unwrap();
        let functions = ids
            .iter()
            .map(|id| {
                let address = module.get_finalized_function(*id);
                // The functions live as long as the module, which this struct owns.
                unsafe { std::mem::transmute::<*const u8, Function>(address) }
            })
            .collect();
        Jit { module: Some(module), functions }
    }

    fn run(&self, number: usize, buffers: &mut [Vec<u8>], begin: i64, end: i64) -> i64 {
        let table: Vec<*mut u8> = buffers.iter_mut().map(|buffer| buffer.as_mut_ptr()).collect();
        (self.functions[number])(table.as_ptr(), begin, end)
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        self.functions.clear();
        if let Some(module) = self.module.take() {
            // No function of the module is reachable any more.
            unsafe { module.free_memory() };
        }
    }
}

/// A small generator of test data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// An element of a type: special values, random bits, and numbers of everyday size.
    fn element(&mut self, scalar: Scalar) -> Vec<u8> {
        const SPECIAL: [f64; 16] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            2.0,
            3.0,
            1e-40,
            -1e-30,
            3e38,
            -70.0,
            12.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        let kind = self.next() % 4;
        let float = match kind {
            0 => SPECIAL[self.next() as usize % SPECIAL.len()],
            1 => self.unit(),
            _ => 10.0 * self.unit(),
        };
        let integer = match kind {
            0 => [0, 1, -1, i64::MIN, i64::MAX, i32::MIN.into(), 127, -128][self.next() as usize % 8],
            1 => self.next() as i64,
            _ => self.next() as i64 % 40,
        };
        match scalar {
            Scalar::F32 => (float as f32).to_ne_bytes().to_vec(),
            Scalar::F64 => float.to_ne_bytes().to_vec(),
            Scalar::F16 => half::f16::from_f64(float).to_ne_bytes().to_vec(),
            Scalar::BF16 => half::bf16::from_f64(float).to_ne_bytes().to_vec(),
            Scalar::Bool => vec![(self.next() & 1) as u8],
            _ => integer.to_le_bytes()[..scalar.bytes()].to_vec(),
        }
    }
}

/// Random contents for the buffers of a kernel.
fn contents(kernel: &Kernel, random: &mut Random) -> Vec<Vec<u8>> {
    let fill = |buffer: &crate::loops::Buffer, random: &mut Random| {
        (0..buffer.elements).flat_map(|_| random.element(buffer.scalar)).collect()
    };
    kernel.buffers.iter().map(|buffer| fill(buffer, random)).collect()
}

/// Elements of a buffer as `f64` (integers of 64 bits lose digits; `bits` has them all).
fn numbers(scalar: Scalar, bytes: &[u8]) -> Vec<(f64, u64)> {
    bytes
        .chunks(scalar.bytes())
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let bits = u64::from_le_bytes(word);
            let value = match scalar {
                Scalar::F32 => f32::from_bits(bits as u32).into(),
                Scalar::F64 => f64::from_bits(bits),
                Scalar::F16 => half::f16::from_bits(bits as u16).to_f64(),
                Scalar::BF16 => half::bf16::from_bits(bits as u16).to_f64(),
                _ => bits as f64,
            };
            (value, bits)
        })
        .collect()
}

/// Size of one unit in the last place of an `f32` at `value`.
fn ulp(value: f64) -> f64 {
    let exponent = value.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
    2f64.powi(exponent.clamp(-126, 127) - 23)
}

/// Whether two elements agree: all NaNs are one, other values have the same bits unless `ulps`
/// allows an `f32` to differ.
fn agree(found: (f64, u64), expected: (f64, u64), ulps: f64) -> bool {
    let near = found.0.is_finite()
        && expected.0.is_finite()
        && found.0.is_sign_negative() == expected.0.is_sign_negative()
        && (found.0 - expected.0).abs() <= ulps * ulp(expected.0);
    found.1 == expected.1 || found.0.is_nan() && expected.0.is_nan() || ulps > 0.0 && near
}

/// Runs function `number` and the interpreter on the same contents and compares status and buffers.
fn compare(jit: &Jit, number: usize, kernel: &Kernel, start: &[Vec<u8>], range: (i64, i64), ulps: f64) {
    let mut expected = start.to_vec();
    let outcome = interpret_range(kernel, &mut expected, range.0, range.1);
    let mut found = start.to_vec();
    let status = jit.run(number, &mut found, range.0, range.1);
    match outcome {
        Ok(()) => assert_eq!(status, 0, "{kernel}"),
        Err(InterpretError::Failed(failure)) => return assert_eq!(status, failure.status(), "{kernel}"),
        Err(error) => panic!("{error}\n{kernel}"),
    }
    for (number, buffer) in kernel.buffers.iter().enumerate() {
        let found = numbers(buffer.scalar, &found[number]);
        let expected = numbers(buffer.scalar, &expected[number]);
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if !agree(*found, *expected, ulps) {
                let inputs = kernel.buffers.iter().zip(start);
                let inputs: Vec<_> =
                    inputs.map(|(b, bytes)| numbers(b.scalar, bytes).get(at).copied()).collect();
                panic!(
                    "b{number}[{at}]: found {found:?}, expected {expected:?}, inputs {inputs:?}\n{kernel}"
                );
            }
        }
    }
}

/// This machine, and others that it can be, of narrower vectors.
fn machines() -> Vec<OwnedTargetIsa> {
    let mut machines = vec![host_isa(IsaOptions::jit()).unwrap()];
    if Width::of(&*machines[0]) == Some(Width::Bits512) {
        machines.push(baseline_isa(IsaOptions::jit()).unwrap());
    }
    if Width::of(&*machines[0]).is_some() {
        machines.push(portable_isa(IsaOptions::jit()).unwrap());
    }
    machines
}

/// Compiles a kernel's text for each of [`machines`] and compares it with the interpreter on random contents.
fn check(text: &str, ulps: f64) {
    let kernel = parse_kernel(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(&kernel));
    for machine in machines() {
        let jit = Jit::for_isa(std::slice::from_ref(&kernel), machine);
        let mut random = Random(7);
        let extent = kernel.parallel_extent().unwrap_or(0) as i64;
        for _ in 0..8 {
            let start = contents(&kernel, &mut random);
            compare(&jit, 0, &kernel, &start, (0, extent), ulps);
            compare(&jit, 0, &kernel, &start, (extent / 3, extent - extent / 4), ulps);
        }
    }
}
