use super::*;
use crate::testing::{Numbers, close, plus_place};
use crate::{Epilogue, PackedOperand, Team};

/// Whole numbers of at most this size.
fn whole(count: usize, most: i64, seed: u64) -> Vec<f32> {
    f64::sequence(count, seed).into_iter().map(|x| (x * (most as f64 + 0.99)).trunc() as f32).collect()
}

struct Case {
    sizes: [usize; 4],
    a_is_across: bool,
    b_is_across: bool,
    accumulate: bool,
    biased: bool,
    finished: bool,
}

impl Case {
    fn gemm(&self) -> Gemm {
        let [batch, m, n, k] = self.sizes;
        let strides = |across: bool, rows: usize, columns: usize| match across {
            true => [(rows * columns) as isize, 1, rows as isize],
            false => [(rows * columns) as isize, columns as isize, 1],
        };
        let [_, row, column] = strides(self.b_is_across, k, n);
        Gemm {
            batch,
            group: batch,
            group_strides: [0; 2],
            m,
            n,
            k,
            a_strides: strides(self.a_is_across, m, k),
            b_strides: [0, row, column],
            c_batch_stride: m * (n + 3),
            c_row_stride: n + 3,
            accumulate: self.accumulate,
            b_packed: PackedOperand::No,
        }
    }

    /// Holds the products to sums in f64; exactly, where these are of whole numbers.
    fn check(&self, tier: Tier, a: &[f32], exact: bool) {
        let [batch, m, n, k] = self.sizes;
        let plain = self.gemm();
        let gemm = Gemm { b_packed: PackedOperand::Bytes, ..plain };
        let b = whole(k * n, 127, 2);
        let (bias, start) = (whole(n, 9, 4), whole(batch * m * (n + 3), 1000, 3));
        let mut packed = vec![1; plain.bytes_elements()];
        plain.pack_bytes(&b, &mut packed);
        let run = |threads: usize| {
            let mut c = start.clone();
            let mut scratch = vec![0xffu8; gemm.scratch_bytes::<f32>(threads)];
            let epilogue = Epilogue { function: plus_place, environment: std::ptr::null(), finish: None };
            let bias = if self.biased { bias.as_ptr() } else { std::ptr::null() };
            let (c_start, team) = (c.as_mut_ptr(), Team::new(threads));
            unsafe {
                let epilogue = self.finished.then_some(epilogue);
                let b = packed.as_ptr().cast();
                gemm.run_tier(tier, a.as_ptr(), b, bias, c_start, epilogue, scratch.as_mut_ptr(), &team);
            }
            c
        };
        let found = [1, 2, 4].map(run);
        assert!(found[0] == found[1] && found[0] == found[2], "{tier:?} {gemm:?}: as many threads");
        let at = |strides: [isize; 3], i: usize, j: usize, l: usize| {
            i * strides[0] as usize + j * strides[1] as usize + l * strides[2] as usize
        };
        for (index, value) in found[0].iter().enumerate() {
            let (image, row, column) = (index / (m * (n + 3)), index / (n + 3) % m, index % (n + 3));
            if column >= n {
                assert_eq!(*value, start[index], "nothing is written between rows");
                continue;
            }
            let terms = (0..k).map(|term| {
                f64::from(a[at(plain.a_strides, image, row, term)])
                    * f64::from(b[at(plain.b_strides, 0, term, column)])
            });
            let mut expected: f64 = terms.sum();
            expected += if self.accumulate { f64::from(start[index]) } else { 0.0 };
            expected += if self.biased { f64::from(bias[column]) } else { 0.0 };
            expected += if self.finished { (image * 70_000 + row * 500 + column) as f64 } else { 0.0 };
            let right = match exact {
                true => f64::from(*value) == expected,
                false => close(value / 128.0, expected / 128.0, 2 * k + 8),
            };
            assert!(right, "{tier:?} {gemm:?} at {index}: {value} is not {expected}");
        }
    }
}

const SIZES: [[usize; 4]; 9] = [
    [1, 1, 16, 16],
    [1, 1, 130, 33],
    [1, 2, 48, 20],
    [1, 7, 100, 41],
    [1, 8, 49, 64],
    [1, 17, 96, 50],
    [1, 40, 200, 37],
    [3, 5, 64, 30],
    [1, 70, 100, 100],
];

fn cases() -> impl Iterator<Item = Case> {
    SIZES.into_iter().enumerate().flat_map(|(number, sizes)| {
        (0..8).map(move |bits| Case {
            sizes,
            a_is_across: (bits + number) % 3 == 1,
            b_is_across: (bits + number) % 2 == 1,
            accumulate: bits & 1 > 0,
            biased: bits & 2 > 0,
            finished: bits & 4 > 0,
        })
    })
}

#[test]
fn products_of_whole_numbers_are_exact() {
    for tier in Tier::available() {
        for case in cases() {
            let [batch, m, _, k] = case.sizes;
            case.check(tier, &whole(batch * m * k, 127, 1), true);
            let above: Vec<f32> = whole(batch * m * k, 100, 1).into_iter().map(|x| x - 1000.0).collect();
            case.check(tier, &above, true);
        }
    }
}

/// One number that is no whole one, or too large, or none.
#[test]
fn other_numbers_are_multiplied_as_floats() {
    for tier in Tier::available() {
        for case in cases() {
            let [batch, m, _, k] = case.sizes;
            let mut a = whole(batch * m * k, 1, 1);
            *a.last_mut().unwrap() = 0.5;
            case.check(tier, &a, true);
            case.check(tier, &f32::sequence(batch * m * k, 1), false);
            *a.last_mut().unwrap() = 1000.0;
            case.check(tier, &a, true);
        }
    }
    let case = Case { sizes: [1, 2, 20, 16], ..cases().next().unwrap() };
    for tier in Tier::available() {
        let mut a = whole(32, 9, 1);
        a[5] = f32::NAN;
        let plain = case.gemm();
        let gemm = Gemm { b_packed: PackedOperand::Bytes, ..plain };
        let mut packed = vec![0; plain.bytes_elements()];
        plain.pack_bytes(&whole(16 * 20, 127, 2), &mut packed);
        let mut c = vec![0.0; 46];
        let mut scratch = vec![0u8; gemm.scratch_bytes::<f32>(1)];
        let (b, c_start) = (packed.as_ptr().cast(), c.as_mut_ptr());
        let (scratch, team) = (scratch.as_mut_ptr(), Team::new(1));
        unsafe { gemm.run_tier(tier, a.as_ptr(), b, std::ptr::null(), c_start, None, scratch, &team) };
        assert!(c[..20].iter().all(|x| x.is_nan()) && c[23..43].iter().all(|x| x.is_finite()));
    }
}

/// Sums beyond the integers that floats hold are rounded once, at the end; sums of floats would round on the way.
#[test]
fn sums_are_integers() {
    let has_integers = Tier::detect() == Tier::Avx512 && has_byte_products();
    for m in [1, 3, 8] {
        let (n, k) = (50, 4001);
        let plain = Case { sizes: [1, m, n, k], b_is_across: false, ..cases().next().unwrap() }.gemm();
        let odd = |numbers: Vec<f32>| numbers.into_iter().map(|x| 2.0 * (x / 2.0).trunc() + 1.0);
        let (a, b): (Vec<f32>, Vec<f32>) = (
            odd(whole(m * k, 9, 1)).map(|x| x + 200.0).collect(),
            odd(whole(k * n, 120, 2)).map(f32::abs).collect(),
        );
        let mut packed = vec![0; plain.bytes_elements()];
        plain.pack_bytes(&b, &mut packed);
        let gemm = Gemm { b_packed: PackedOperand::Bytes, ..plain };
        let mut c = vec![0.0f32; m * (n + 3)];
        let mut scratch = vec![0u8; gemm.scratch_bytes::<f32>(1)];
        let (b_start, c_start) = (packed.as_ptr().cast(), c.as_mut_ptr());
        unsafe {
            let team = Team::new(1);
            let scratch = scratch.as_mut_ptr();
            gemm.run_tier(
                Tier::detect(),
                a.as_ptr(),
                b_start,
                std::ptr::null(),
                c_start,
                None,
                scratch,
                &team,
            );
        }
        for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
            let terms = (0..k).map(|term| a[row * k + term] as i64 * b[term * n + column] as i64);
            let sum: i64 = terms.sum();
            assert!(sum > 1 << 24, "{sum} is beyond them");
            let found = c[row * (n + 3) + column];
            match has_integers {
                true => assert_eq!(found, sum as f32, "{row}, {column}"),
                false => assert!((found / sum as f32 - 1.0).abs() < 1e-4, "{found} is not {sum}"),
            }
        }
    }
}

/// The largest sums that are computed in integers fit into 32 bits.
#[test]
fn the_largest_sums() {
    for k in [16, 512, 513, 4096, LONGEST] {
        let most = (f64::from(i32::MAX) / 128.0 / k as f64 - 255.0).floor() as f32;
        for (low, high) in
            [(most, most + 255.0), (most + 1.0, most + 1.0), (-most, 255.0 - most), (0.0, 255.0)]
        {
            let gemm = Case { sizes: [1, 1, 16, k], ..cases().next().unwrap() }.gemm();
            let mut packed = vec![0; gemm.bytes_elements()];
            gemm.pack_bytes(&vec![-128.0; 16 * k], &mut packed);
            let gemm = Gemm { b_packed: PackedOperand::Bytes, ..gemm };
            let (mut a, mut c) = (vec![high; k], vec![0.0f32; 19]);
            a[7] = low;
            let mut scratch = vec![0u8; gemm.scratch_bytes::<f32>(1)];
            let (b, c_start) = (packed.as_ptr().cast(), c.as_mut_ptr());
            unsafe {
                let team = Team::new(1);
                gemm.run(a.as_ptr(), b, std::ptr::null(), c_start, None, scratch.as_mut_ptr(), &team);
            }
            let expected = -128.0 * (f64::from(high) * (k - 1) as f64 + f64::from(low));
            assert!((f64::from(c[3]) / expected - 1.0).abs() < 1e-4, "{k}: {} for {expected}", c[3]);
        }
    }
}

#[test]
fn only_bytes_are_kept_as_bytes() {
    let gemm = Case { sizes: [1, 3, 32, 32], ..cases().next().unwrap() }.gemm();
    let bytes = whole(32 * 32, 127, 1);
    let expected = Tier::current() == Tier::Avx512 && has_byte_products();
    assert_eq!(gemm.prefers_bytes(&bytes), expected);
    for other in [0.5, 128.0, -129.0, f32::NAN, f32::INFINITY] {
        let mut bytes = bytes.clone();
        bytes[77] = other;
        assert!(!gemm.prefers_bytes(&bytes), "{other}");
    }
    let ones: Vec<f32> = (0..32 * 32).map(|i| (i % 3) as f32 - 1.0).collect();
    assert!(!gemm.prefers_bytes(&ones), "a matrix that adds up");
}
