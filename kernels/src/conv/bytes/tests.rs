use super::*;
use crate::conv::tests::{conv, expected, lengths};
use crate::testing::{Numbers, close, plus_place};

const FORM: ConvForm = ConvForm::Forward;

/// Whole numbers between two.
fn whole(count: usize, low: f64, high: f64, seed: u64) -> Vec<f32> {
    let number = |x: f64| (low + (x + 1.0) / 2.0 * (high - low + 1.0)).floor().clamp(low, high);
    f64::sequence(count, seed).into_iter().map(|x| number(x) as f32).collect()
}

fn cases() -> Vec<Conv> {
    let (one, none) = ([1; 3], [0; 3]);
    let flat = [0, 1, 1];
    vec![
        // A stem, a strided one, a dilated one, pointwise ones, and those of the last layers.
        conv([1, 1, 3, 30], [1, 23, 31], [1, 7, 7], [1, 2, 2], one, [0, 3, 3], [0, 3, 3]),
        conv([2, 1, 18, 24], [1, 14, 15], [1, 3, 3], [1, 2, 2], one, flat, flat),
        conv([1, 1, 13, 16], [1, 12, 20], [1, 3, 3], one, [1, 2, 2], [0, 2, 2], [0, 2, 2]),
        conv([3, 1, 40, 17], [1, 9, 7], one, one, one, none, none),
        conv([1, 1, 40, 33], [1, 14, 14], one, [1, 2, 2], one, none, none),
        conv([1, 1, 50, 50], [1, 7, 7], [1, 3, 3], one, one, flat, flat),
        conv([1, 1, 33, 20], [1, 1, 130], [1, 1, 5], one, one, [0, 0, 2], [0, 0, 2]),
        conv([1, 1, 9, 16], [3, 6, 7], [2, 3, 2], one, one, [1, 0, 0], none),
        // Less than the whole image.
        conv([1, 1, 36, 16], [1, 10, 11], [1, 3, 3], one, one, [0, -1, -2], [0, 0, -1]),
    ]
}

fn result(conv: &Conv, [x, w]: [&[f32]; 2], tier: Tier, threads: usize, tiled: bool) -> Vec<f32> {
    let conv = Conv { packed: PackedOperand::Bytes, ..*conv };
    let mut packed = vec![0i8; conv.bytes_elements() + 64];
    let first = packed.as_ptr().align_offset(64);
    let packed = &mut packed[first..][..conv.bytes_elements()];
    conv.pack_bytes(w, packed);
    let team = Team::new(threads);
    let bytes = conv.scratch_bytes::<f32>(FORM, threads);
    let mut scratch = vec![0xffu8; bytes + 64];
    let mut y = f32::sequence(lengths(&conv, FORM)[2] + 8, 3);
    let guard = y[y.len() - 8..].to_vec();
    let epilogue = Epilogue { function: plus_place, environment: std::ptr::null(), finish: None };
    // SAFETY: all have the sizes of the problem.
    unsafe {
        let (x, w, y) = (x.as_ptr(), packed.as_ptr().cast(), y.as_mut_ptr());
        conv.run_tier(tier, FORM, x, w, y, tiled.then_some(epilogue), scratch.as_mut_ptr(), &team);
    }
    assert!(scratch[bytes..].iter().all(|byte| *byte == 0xff), "scratch overrun {conv:?}");
    assert!(y[y.len() - 8..] == guard, "result overrun {conv:?}");
    y.truncate(y.len() - 8);
    y
}

fn plain(conv: &Conv, [x, w]: [&[f32]; 2]) -> Vec<f64> {
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    expected(conv, FORM, &wide(x), &wide(w))
}

#[test]
fn sums_of_whole_numbers_are_exact_with_all_tiers_and_threads() {
    for conv in cases() {
        let [a, b, _] = lengths(&conv, FORM);
        // No sum is too large for f32: at most 450 terms of up to 155 * 128.
        for (low, high) in [(0.0, 255.0), (-128.0, 127.0), (-3.0, 100.0), (3.0, 9.0)] {
            let (x, w) = (whole(a, low, high, 1), whole(b, -128.0, 127.0, 2));
            let area = conv.output.iter().product::<usize>();
            for (tier, threads, tiled) in
                Tier::available().flat_map(|tier| [(tier, 1, false), (tier, 3, true)])
            {
                let mut wanted = plain(&conv, [&x, &w]);
                for (index, value) in wanted.iter_mut().enumerate().filter(|_| tiled) {
                    let row = index / area;
                    let (image, row) = (row / conv.out_channels, row % conv.out_channels);
                    *value += (image * 70_000 + row * 500 + index % area) as f64;
                }
                let y = result(&conv, [&x, &w], tier, threads, tiled);
                for (index, (y, wanted)) in y.iter().zip(&wanted).enumerate() {
                    let is_right = f64::from(*y) == *wanted;
                    assert!(is_right, "{tier:?} {conv:?} {low} at {index}: {y} is not {wanted}");
                }
            }
        }
    }
}

/// Floats cannot hold these sums, so integers were added.
#[test]
fn sums_are_integers() {
    if !has_byte_products() || Tier::detect() != Tier::Avx512 {
        eprintln!("skipped: the processor has no instructions for bytes");
        return;
    }
    let conv = conv([1, 1, 700, 16], [1, 6, 9], [1, 3, 3], [1; 3], [1; 3], [0, 1, 1], [0, 1, 1]);
    let [a, b, _] = lengths(&conv, FORM);
    let (x, w) = (whole(a, 100.0, 255.0, 1), whole(b, 60.0, 127.0, 2));
    let wanted: Vec<f32> = plain(&conv, [&x, &w]).into_iter().map(|sum| sum as f32).collect();
    assert!(wanted.iter().any(|sum| *sum > (1 << 24) as f32));
    assert_eq!(result(&conv, [&x, &w], Tier::Avx512, 1, false), wanted);
    let whole_floats = Conv { packed: PackedOperand::No, loose: false, ..conv };
    let mut y = vec![0f32; wanted.len()];
    let mut scratch = vec![0u8; whole_floats.scratch_bytes::<f32>(FORM, 1) + 64];
    // SAFETY: all have the sizes of the problem.
    unsafe {
        let memory = scratch.as_mut_ptr();
        whole_floats.forward(x.as_ptr(), w.as_ptr(), y.as_mut_ptr(), None, memory, &Team::new(1));
    }
    assert_ne!(y, wanted, "floats would do: nothing is shown");
}

#[test]
fn an_input_that_is_not_whole_or_spread_too_far_is_multiplied_as_floats() {
    for conv in cases() {
        let [a, b, _] = lengths(&conv, FORM);
        let w = whole(b, -128.0, 127.0, 2);
        // At the beginning, where the least number is guessed from, and elsewhere.
        let numbers = [0.5, 300.0, -200.5, -1000.0, f32::NAN, f32::INFINITY, -f32::INFINITY, 1e30];
        for (number, place) in numbers.into_iter().flat_map(|number| [(number, 0), (number, a / 2)]) {
            let mut x = whole(a, 0.0, 255.0, 1);
            x[place] = number;
            let wanted = plain(&conv, [&x, &w]);
            for (tier, threads) in [(Tier::detect(), 1), (Tier::detect(), 3)] {
                let y = result(&conv, [&x, &w], tier, threads, false);
                for (y, wanted) in y.iter().zip(&wanted) {
                    let y = f64::from(*y);
                    let scale = 255.0 * 128.0;
                    let near = close((y / scale) as f32, wanted / scale, 500);
                    assert!(
                        near || y == *wanted || y.is_nan() && wanted.is_nan(),
                        "{number}: {y} is not {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
fn whole_weights_of_large_convolutions_are_kept_as_bytes() {
    let layer = conv([1, 1, 64, 64], [1, 14, 14], [1, 3, 3], [1; 3], [1; 3], [0, 1, 1], [0, 1, 1]);
    let weights = whole(lengths(&layer, FORM)[1], -128.0, 127.0, 2);
    let has_instructions = Tier::current() == Tier::Avx512 && has_byte_products();
    assert_eq!(layer.prefers_bytes(&weights), has_instructions);
    let with = |number: f32| [&weights[1..], &[number]].concat();
    assert!(!layer.prefers_bytes(&with(0.5)) && !layer.prefers_bytes(&with(128.0)));
    assert!(!layer.prefers_bytes(&vec![1.0; weights.len()]));
    assert!(!Conv { groups: 64, ..layer }.prefers_bytes(&weights[..64 * 9]));
    let bytes: Vec<usize> = (1..=12)
        .map(|threads| Conv { packed: PackedOperand::Bytes, ..layer }.scratch_bytes::<f32>(FORM, threads))
        .collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
}
