use super::*;

/// The error function by its series, and by the continued fraction of its complement.
fn exact_erf(x: f64) -> f64 {
    if x.is_nan() || x == 0.0 {
        return x;
    }
    let t = x.abs();
    if t > 6.0 {
        return 1f64.copysign(x);
    }
    if t > 2.5 {
        let fraction = (1..200).rev().fold(0.0, |rest, n| 0.5 * n as f64 / (t + rest));
        return (1.0 - (-t * t).exp() / (t + fraction) / std::f64::consts::PI.sqrt()).copysign(x);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn exact(function: WideFunction, x: f64) -> f64 {
    match function {
        WideFunction::Exp => x.exp(),
        WideFunction::Log => x.ln(),
        WideFunction::Tanh => x.tanh(),
        WideFunction::Erf => exact_erf(x),
        WideFunction::Sigmoid => {
            if x < 0.0 {
                x.exp() / (1.0 + x.exp())
            } else {
                1.0 / (1.0 + (-x).exp())
            }
        }
        WideFunction::Sin => x.sin(),
        WideFunction::Cos => x.cos(),
        WideFunction::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        WideFunction::Atan => x.atan(),
    }
}

/// The distance of neighbouring `f32` near a value.
fn last_place(value: f64) -> f64 {
    let exponent = value.abs().max(f32::MIN_POSITIVE as f64).log2().floor();
    (exponent - 23.0).exp2()
}

fn sweep() -> Vec<f32> {
    let mut all =
        vec![0.0, -0.0, 1.0, -1.0, 88.7, 88.8, -87.4, -100.0, -103.9, -104.1, 1e-40, -1e-40, 1e30, -1e30];
    all.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON]);
    all.extend((-30000..30000).map(|i| i as f32 * 0.000_713));
    all.extend((-4000..4000).map(|i| i as f32 * 0.0261));
    all.extend((0..16000).map(|i| f32::from_bits(i * 130_003)));
    // Where sines and cosines are nearly 0.
    all.extend((0..600_000).step_by(61).map(|i| (i as f64 * std::f64::consts::FRAC_PI_2) as f32));
    all
}

#[test]
fn functions_are_within_some_units_in_the_last_place() {
    let from = sweep();
    for tier in Tier::available() {
        for function in WideFunction::ALL {
            let mut to = vec![0f32; from.len()];
            unsafe { function.pointer_for(tier)(from.len(), from.as_ptr(), to.as_mut_ptr()) };
            let mut worst = (0.0, 0.0, 0.0);
            for (&x, &y) in from.iter().zip(&to) {
                let wanted = exact(function, x as f64);
                let signed = wanted == 0.0 && y == 0.0;
                assert!(
                    !signed || y.is_sign_negative() == wanted.is_sign_negative(),
                    "{tier:?} {function:?}({x}) = {y}"
                );
                if wanted.is_nan() || (wanted as f32).is_infinite() {
                    assert!(y.is_nan() == wanted.is_nan(), "{tier:?} {function:?}({x}) = {y}");
                    assert!(wanted.is_nan() || y == wanted as f32, "{tier:?} {function:?}({x}) = {y}");
                    continue;
                }
                let error = (y as f64 - wanted).abs() / last_place(wanted);
                if error.is_nan() || error > worst.0 {
                    worst = (error, x, y);
                }
            }
            let most = if tier == Tier::Portable { 3.0 } else { 2.0 };
            assert!(worst.0 <= most, "{tier:?} {function:?}: {worst:?}");
        }
    }
}

#[test]
fn slices_may_be_the_same_and_of_any_length() {
    for tier in Tier::available() {
        for n in [0, 1, 7, 63, 64, 65, 200] {
            let from: Vec<f32> = (0..n).map(|i| i as f32 * 0.01 - 1.0).collect();
            let (mut apart, mut same) = (vec![9f32; n + 1], from.clone());
            let tanh = WideFunction::Tanh.pointer_for(tier);
            unsafe {
                tanh(n, from.as_ptr(), apart.as_mut_ptr());
                tanh(n, same.as_ptr(), same.as_mut_ptr());
            }
            assert_eq!(apart[..n], same[..]);
            assert_eq!(apart[n], 9.0);
        }
    }
}

/// The value of a half by its definition.
fn half_value(half: u16) -> f64 {
    let (exponent, fraction) = ((half >> 10 & 31) as i32, (half & 1023) as f64 / 1024.0);
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

#[test]
fn halves_go_there_and_back() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    for tier in Tier::available() {
        let (mut values, mut back) = (vec![0f32; 65536], vec![0u16; 65536]);
        unsafe {
            unpack_f16::pointer(tier)(65536, halves.as_ptr(), values.as_mut_ptr());
            pack_f16::pointer(tier)(65536, values.as_ptr(), back.as_mut_ptr());
        }
        for half in 0..=u16::MAX {
            let (value, wanted) = (values[half as usize], half_value(half));
            assert!(value as f64 == wanted || value.is_nan() && wanted.is_nan(), "{half:x} is not {value}");
            assert!(value.is_nan() || back[half as usize] == half, "{half:x}");
            assert!(!value.is_nan() || half_value(back[half as usize]).is_nan());
        }
        unsafe {
            unpack_bf16::pointer(tier)(65536, halves.as_ptr(), values.as_mut_ptr());
            pack_bf16::pointer(tier)(65536, values.as_ptr(), back.as_mut_ptr());
        }
        for half in 0..=u16::MAX {
            let value = values[half as usize];
            assert_eq!(value.to_bits(), (half as u32) << 16);
            assert!(value.is_nan() && back[half as usize] == half | 0x40 || back[half as usize] == half);
        }
    }
}

#[test]
fn halves_are_rounded_to_nearest_with_ties_to_even() {
    for tier in Tier::available() {
        for half in 0..0x7bffu16 {
            let (low, high) = (half_value(half), half_value(half + 1));
            let middle = ((low + high) / 2.0) as f32;
            let around = [f32::from_bits(middle.to_bits() - 1), middle, f32::from_bits(middle.to_bits() + 1)];
            let mut packed = [0u16; 3];
            unsafe { pack_f16::pointer(tier)(3, around.as_ptr(), packed.as_mut_ptr()) };
            assert_eq!(packed, [half, half + (half & 1), half + 1], "{middle}");
        }
        let values = [65519.9f32, 65520.0, -1e9, 0.0, -0.0];
        let mut packed = [0u16; 5];
        unsafe { pack_f16::pointer(tier)(5, values.as_ptr(), packed.as_mut_ptr()) };
        assert_eq!(packed, [0x7bff, 0x7c00, 0xfc00, 0, 0x8000]);
        let ties = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::MAX];
        let mut packed = [0u16; 3];
        unsafe { pack_bf16::pointer(tier)(3, ties.as_ptr(), packed.as_mut_ptr()) };
        assert_eq!(packed, [0x3f80, 0x3f82, 0x7f80]);
    }
}
