//! Errors of the emitted `f32` functions and of the runtime's `f64` functions.

use super::{Jit, Random, ulp};
use crate::emit::isa::isa_with_features;
use crate::emit::{IsaOptions, ULP_BOUNDS, host_isa, runtime};
use crate::loops::{Kernel, UnaryOp, parse_kernel};

const SAMPLES: usize = 1 << 20;

/// Floats of every sign and exponent: all bit patterns in steps, with random low bits.
fn sweep() -> Vec<f32> {
    let mut random = Random(3);
    let step = (1u64 << 32) / SAMPLES as u64;
    (0..SAMPLES as u64).map(|k| f32::from_bits((k * step + random.next() % step) as u32)).collect()
}

fn exact(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Exp => x.exp(),
        UnaryOp::ExpM1 => x.exp_m1(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Log1P => x.ln_1p(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Sigmoid => {
            if x < 0.0 {
                x.exp() / (1.0 + x.exp())
            } else {
                1.0 / (1.0 + (-x).exp())
            }
        }
        UnaryOp::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        other => panic!("no reference for {other}"),
    }
}

fn unary_kernel(op: UnaryOp) -> Kernel {
    let text = format!(
        "kernel \"unary\" (b0: read f32[{SAMPLES}], b1: write f32[{SAMPLES}]) {{
           parallelvector i0 in {SAMPLES} {{ r0: f32 = load b0[i0] r1: f32 = {op} r0 store b1[i0] = r1 }}
         }}"
    );
    parse_kernel(&text).unwrap()
}

/// Error in units of the last place; infinite if one is NaN or infinite and the other is not.
fn error(found: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if found.is_nan() && exact.is_nan() || found == rounded && !rounded.is_finite() {
        return 0.0;
    }
    if found.is_infinite() && exact.abs() > f64::from(f32::MAX) && rounded.is_finite() {
        return 1.0;
    }
    if !found.is_finite() || !rounded.is_finite() {
        return f64::INFINITY;
    }
    (f64::from(found) - exact).abs() / ulp(exact)
}

fn apply(jit: &Jit, number: usize, inputs: &[&[f32]]) -> Vec<f32> {
    let mut buffers: Vec<Vec<u8>> =
        inputs.iter().map(|values| values.iter().flat_map(|x| x.to_ne_bytes()).collect()).collect();
    buffers.push(vec![0; 4 * inputs[0].len()]);
    assert_eq!(jit.run(number, &mut buffers, 0, inputs[0].len() as i64), 0);
    let bytes = buffers.pop().unwrap();
    bytes.chunks(4).map(|x| f32::from_ne_bytes(x.try_into().unwrap())).collect()
}

fn without_fma() -> cranelift_codegen::isa::OwnedTargetIsa {
    isa_with_features(IsaOptions::jit(), &["has_sse3", "has_ssse3", "has_sse41", "has_sse42"]).unwrap()
}

#[test]
fn unary_functions_stay_within_their_bounds() {
    let inputs = sweep();
    let kernels: Vec<Kernel> = ULP_BOUNDS.iter().map(|(op, _)| unary_kernel(*op)).collect();
    let fused = Jit::new(&kernels);
    let plain = Jit::for_isa(&kernels, without_fma());
    for (number, (op, bound)) in ULP_BOUNDS.iter().enumerate() {
        let exact: Vec<f64> = inputs.iter().map(|x| exact(*op, f64::from(*x))).collect();
        for (jit, name) in [(&fused, "fma"), (&plain, "no fma")] {
            let found = apply(jit, number, &[&inputs]);
            let errors = found.iter().zip(&exact).map(|(found, exact)| error(*found, *exact));
            let (at, worst) = errors.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            eprintln!("{op} ({name}): {worst:.3} at {:e}", inputs[at]);
            assert!(worst <= *bound, "{op} ({name}): {worst} at {:e}: {:e}", inputs[at], found[at]);
        }
    }
}

#[test]
fn zero_keeps_its_sign() {
    for op in [UnaryOp::ExpM1, UnaryOp::Log1P, UnaryOp::Sin, UnaryOp::Tanh, UnaryOp::Erf] {
        let jit = Jit::new(&[unary_kernel(op)]);
        let found = apply(&jit, 0, &[&[0.0, -0.0, 0.0, -0.0, -0.0]]);
        assert_eq!(found.map_bits(), [0.0f32, -0.0, 0.0, -0.0, -0.0].to_vec().map_bits(), "{op}");
    }
}

trait Bits {
    fn map_bits(&self) -> Vec<u32>;
}

impl Bits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|x| x.to_bits()).collect()
    }
}

#[test]
fn power_stays_within_its_bound() {
    let text = format!(
        "kernel \"pow\" (b0: read f32[{SAMPLES}], b1: read f32[{SAMPLES}], b2: write f32[{SAMPLES}]) {{
           parallelvector i0 in {SAMPLES} {{
             r0: f32 = load b0[i0] r1: f32 = load b1[i0] r2: f32 = pow r0, r1 store b2[i0] = r2
           }}
         }}"
    );
    let kernel = parse_kernel(&text).unwrap();
    let mut random = Random(9);
    let bases = sweep();
    let exponents: Vec<f32> = (0..SAMPLES)
        .map(|k| match k % 4 {
            0 => (random.unit() * 2.0) as f32,
            1 => (random.unit() * 150.0) as f32,
            2 => (random.unit() * 9.0).round() as f32,
            _ => f32::from_bits(random.next() as u32),
        })
        .collect();
    for isa in [host_isa(IsaOptions::jit()).unwrap(), without_fma()] {
        let jit = Jit::for_isa(std::slice::from_ref(&kernel), isa);
        let found = apply(&jit, 0, &[&bases, &exponents]);
        let mut worst = (0.0, 0.0, 0.0);
        for ((x, y), found) in bases.iter().zip(&exponents).zip(&found) {
            let exact = f64::from(*x).powf(f64::from(*y));
            let error = error(*found, exact);
            assert!(error <= 1.5, "pow({x:e}, {y:e}) = {found:e}, exactly {exact:e}");
            if error > worst.0 {
                worst = (error, *x, *y);
            }
        }
        eprintln!("pow: {worst:?}");
    }
}

/// Error of an `f64` in units of the last place.
fn wide_error(found: f64, exact: f64) -> f64 {
    if found == exact || found.is_nan() && exact.is_nan() {
        return 0.0;
    }
    let size = exact.abs().max(f64::MIN_POSITIVE);
    let ulp = f64::from_bits(size.to_bits() + 1) - size;
    (found - exact).abs() / ulp
}

#[test]
fn error_function_of_f64() {
    let mut random = Random(5);
    let mut worst = (0.0, 0.0);
    for k in 0..400_000 {
        let x = match k % 4 {
            0 => random.unit() * 7.0,
            1 => random.unit(),
            2 => random.unit() * 2f64.powi(-(k % 60)),
            _ => f64::from_bits(random.next()),
        };
        let error = wide_error(runtime::f64::erf(x), libm::erf(x));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    eprintln!("erf f64: {worst:?}");
    // Below two units, where the reference may be off by one itself.
    assert!(worst.0 < 3.0, "{worst:?}");
}

#[test]
fn inverse_hyperbolic_functions_of_f64() {
    let mut random = Random(6);
    let (mut asinh, mut acosh, mut atanh) = (0f64, 0f64, 0f64);
    for _ in 0..200_000 {
        let x = 10f64.powf(random.unit() * 12.0) * random.unit().signum();
        asinh = asinh.max(wide_error(runtime::f64::asinh(x), libm::asinh(x)));
        let x = 1.0 + 10f64.powf(random.unit() * 12.0);
        acosh = acosh.max(wide_error(runtime::f64::acosh(x), libm::acosh(x)));
        let x = random.unit();
        atanh = atanh.max(wide_error(runtime::f64::atanh(x), libm::atanh(x)));
    }
    eprintln!("asinh {asinh:.2} acosh {acosh:.2} atanh {atanh:.2}");
    assert!(asinh <= 4.0 && acosh <= 4.0 && atanh <= 4.0);
}
