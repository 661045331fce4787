use super::*;
use crate::testing::{Numbers, close};

/// Element offsets of the three layouts under test: (row, column) strides of an `r` x `c` matrix.
fn strides(layout: usize, rows: usize, columns: usize) -> [isize; 3] {
    let (r, c) = (rows as isize, columns as isize);
    match layout {
        0 => [r * c, c, 1],
        1 => [r * c, 1, r],
        2 => [r * c * 6, c * 3, 2],
        3 => [0, c + 3, 1],
        _ => [0, 0, 1],
    }
}

fn extent(strides: [isize; 3], sizes: [usize; 3]) -> usize {
    1 + strides.iter().zip(sizes).map(|(s, n)| *s as usize * n.saturating_sub(1)).sum::<usize>()
}

unsafe extern "C" fn twice_plus_place<T: Numbers>(
    tile: *mut T,
    row_stride: usize,
    rows: usize,
    columns: usize,
    batch: usize,
    row0: usize,
    column0: usize,
    environment: *const *mut u8,
) {
    let offset = unsafe { *environment.cast::<f64>() };
    for i in 0..rows {
        for j in 0..columns {
            let place = (batch * 7 + (row0 + i) * 3 + column0 + j) as f64 + offset;
            let at = unsafe { &mut *tile.add(i * row_stride + j) };
            *at = T::from_f64(2.0 * at.to_f64() + place);
        }
    }
}

fn check<T: Numbers>(
    tier: Tier,
    team: &Team,
    sizes: [usize; 4],
    layouts: [usize; 2],
    [accumulate, tiled, biased]: [bool; 3],
) {
    let [batch, m, n, k] = sizes;
    let (a_strides, b_strides) = (strides(layouts[0], m, k), strides(layouts[1], k, n));
    let c_row_stride = n + (m + n) % 3;
    let c_batch_stride = m * c_row_stride + if n % 2 == 0 { 5 } else { 0 };
    let gemm = Gemm {
        batch,
        group: batch,
        group_strides: [0; 2],
        m,
        n,
        k,
        a_strides,
        b_strides,
        c_batch_stride,
        c_row_stride,
        accumulate,
        b_packed: PackedOperand::No,
    };
    let a = T::sequence(extent(a_strides, [batch, m, k]), 1);
    let b = T::sequence(extent(b_strides, [batch, k, n]), 2);
    let start = T::sequence(batch * c_batch_stride + 64, 3);
    let mut c = start.clone();
    let bias = T::sequence(n, 4);
    let added = if biased { bias.as_ptr() } else { std::ptr::null() };
    let offset = 0.25f64;
    let epilogue =
        Epilogue { function: twice_plus_place::<T>, environment: (&raw const offset).cast(), finish: None };
    let bytes = gemm.scratch_bytes::<T>(team.threads());
    let mut scratch = vec![0xffu8; bytes + 64];
    unsafe {
        let epilogue = tiled.then_some(epilogue);
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        gemm.run_tier(tier, a, b, added, c, epilogue, scratch.as_mut_ptr(), team);
    }
    assert!(scratch[bytes..].iter().all(|byte| *byte == 0xff), "scratch overrun {gemm:?}");
    let mut expected: Vec<f64> = start.iter().map(|x| x.to_f64()).collect();
    for bt in 0..batch {
        for i in 0..m {
            for j in 0..n {
                let at = |s: [isize; 3], i: usize, j: usize| {
                    (bt as isize * s[0] + i as isize * s[1] + j as isize * s[2]) as usize
                };
                let sum: f64 =
                    (0..k).map(|p| a[at(a_strides, i, p)].to_f64() * b[at(b_strides, p, j)].to_f64()).sum();
                let target = &mut expected[bt * c_batch_stride + i * c_row_stride + j];
                *target = if accumulate { *target + sum } else { sum };
                if biased {
                    *target += bias[j].to_f64();
                }
                if tiled {
                    *target = 2.0 * *target + (bt * 7 + i * 3 + j) as f64 + offset;
                }
            }
        }
    }
    // Of longer sums, up to 1024 terms are added one after the other, to sums of several times the size of a term; the
    // epilogue doubles their errors as well.
    let terms = (k + 2) * if k <= 384 { 1 } else { 2 << usize::from(tiled) };
    for (index, (x, y)) in c.iter().zip(&expected).enumerate() {
        assert!(close(*x, *y, terms), "{tier:?} {gemm:?} epilogue {tiled} at {index}: {x:?} is not {y}");
    }
}

const SIZES: &[[usize; 4]] = &[
    [1, 0, 3, 4],
    [1, 3, 0, 4],
    [0, 3, 3, 4],
    [2, 3, 5, 0],
    [1, 1, 1, 1],
    [1, 1, 12, 64],
    [1, 1, 64, 64],
    [1, 1, 200, 33],
    [1, 2, 150, 17],
    [1, 3, 97, 40],
    [1, 5, 49, 7],
    [1, 7, 1, 19],
    [1, 8, 65, 70],
    [1, 9, 3, 31],
    [1, 12, 49, 20],
    [1, 17, 2, 100],
    [1, 31, 4, 16],
    [1, 33, 47, 29],
    [1, 41, 113, 5],
    [3, 13, 50, 21],
    [5, 1, 7, 9],
    [4, 6, 1, 11],
    [1, 23, 130, 400],
    [1, 70, 101, 800],
    [1, 200, 1, 130],
    [1, 1, 300, 500],
    [1, 17, 75, 35],
    [1, 50, 101, 400],
    // Sums in several blocks of the longest kind.
    [1, 19, 53, 1030],
    [1, 9, 60, 2500],
];

fn check_all<T: Numbers>(layouts: &[usize]) {
    let teams = [Team::new(1), Team::new(3)];
    for tier in Tier::available() {
        for (number, &sizes) in SIZES.iter().enumerate() {
            for &a in layouts {
                for &b in layouts {
                    let team = &teams[(number + a + b) % 2];
                    check::<T>(
                        tier,
                        team,
                        sizes,
                        [a, b],
                        [(a + b + number) % 3 == 0, false, number % 2 == 0],
                    );
                    check::<T>(tier, team, sizes, [a, b], [(a + b + number) % 3 == 1, true, a == b]);
                }
            }
        }
    }
}

#[test]
fn products_of_f32_agree_with_a_plain_loop() {
    check_all::<f32>(&[0, 1, 2, 3, 4]);
}

#[test]
fn products_of_f64_agree_with_a_plain_loop() {
    check_all::<f64>(&[0, 1, 2, 3]);
}

#[test]
fn large_products_run_on_several_threads_with_the_same_result() {
    for (m, n, k, layouts) in [
        (300, 200, 500, [0, 0]),
        (257, 129, 600, [1, 1]),
        (40, 1000, 70, [2, 1]),
        (1, 3000, 300, [0, 0]),
        (23, 40, 400, [0, 0]),
        // Columns that dot products of several rows ask for ahead.
        (7, 1500, 400, [0, 1]),
        // Columns of A at such strides are copied for narrow panels, and rows of A come in blocks.
        (512, 101, 300, [1, 0]),
        (512, 101, 300, [0, 0]),
    ] {
        let (a_strides, b_strides) = (strides(layouts[0], m, k), strides(layouts[1], k, n));
        let gemm = Gemm {
            batch: 1,
            group: 1,
            group_strides: [0; 2],
            m,
            n,
            k,
            a_strides,
            b_strides,
            c_batch_stride: 0,
            c_row_stride: n,
            accumulate: false,
            b_packed: PackedOperand::No,
        };
        let a = f32::sequence(extent(a_strides, [1, m, k]), 1);
        let b = f32::sequence(extent(b_strides, [1, k, n]), 2);
        for tier in Tier::available() {
            let results = [1, 2, 5].map(|threads| {
                let team = Team::new(threads);
                let mut c = vec![0f32; m * n];
                let mut scratch = vec![0u8; gemm.scratch_bytes::<f32>(threads)];
                unsafe {
                    gemm.run_tier(
                        tier,
                        a.as_ptr(),
                        b.as_ptr(),
                        std::ptr::null(),
                        c.as_mut_ptr(),
                        None,
                        scratch.as_mut_ptr(),
                        &team,
                    )
                };
                c
            });
            assert!(results[0] == results[1] && results[0] == results[2], "{tier:?} {gemm:?}");
            check::<f32>(tier, &Team::new(2), [1, m, n, k], layouts, [true; 3]);
        }
    }
}

#[test]
fn products_with_a_packed_operand_agree_with_those_without() {
    fn check_packed<T: Numbers>(
        tier: Tier,
        [batch, m, n, k]: [usize; 4],
        layouts: [usize; 2],
        accumulate: bool,
        tiled: bool,
    ) {
        let (a_strides, mut b_strides) = (strides(layouts[0], m, k), strides(layouts[1], k, n));
        b_strides[0] = 0;
        let c_row_stride = n + m % 2;
        let c_batch_stride = m * c_row_stride;
        let plain = Gemm {
            batch,
            group: batch,
            group_strides: [0; 2],
            m,
            n,
            k,
            a_strides,
            b_strides,
            c_batch_stride,
            c_row_stride,
            accumulate,
            b_packed: PackedOperand::No,
        };
        let gemm = Gemm { b_packed: PackedOperand::Panels, ..plain };
        let a = T::sequence(extent(a_strides, [batch, m, k]), 1);
        let b = T::sequence(extent(b_strides, [1, k, n]), 2);
        let mut packed = vec![T::from_f64(f64::NAN); gemm.packed_elements::<T>()];
        gemm.pack(&b, &mut packed);
        let start = T::sequence(batch * c_batch_stride, 3);
        let offset = 0.25f64;
        let epilogue = Epilogue {
            function: twice_plus_place::<T>,
            environment: (&raw const offset).cast(),
            finish: None,
        };
        let run = |gemm: &Gemm, b: &[T], threads: usize| {
            let mut c = start.clone();
            let mut scratch = vec![0xffu8; gemm.scratch_bytes::<T>(threads)];
            let team = Team::new(threads);
            unsafe {
                let epilogue = tiled.then_some(epilogue);
                let (a, b) = (a.as_ptr(), b.as_ptr());
                gemm.run_tier(
                    tier,
                    a,
                    b,
                    std::ptr::null(),
                    c.as_mut_ptr(),
                    epilogue,
                    scratch.as_mut_ptr(),
                    &team,
                );
            }
            c
        };
        let expected = run(&plain, &b, 1);
        let results = [1, 2, 4].map(|threads| run(&gemm, &packed, threads));
        assert!(results[0] == results[1] && results[0] == results[2], "{tier:?} {gemm:?}");
        for (index, (x, y)) in results[0].iter().zip(&expected).enumerate() {
            assert!(
                close(*x, y.to_f64(), 2 * k + 4),
                "{tier:?} {gemm:?} {tiled} at {index}: {x:?} is not {y:?}"
            );
        }
    }
    let sizes = [
        [1, 1, 1, 1],
        [1, 2, 5, 9],
        [1, 7, 48, 20],
        [1, 5, 200, 33],
        [1, 16, 100, 40],
        [3, 13, 50, 21],
        [1, 9, 24, 1],
        [1, 23, 130, 800],
        [1, 200, 97, 400],
    ];
    for tier in Tier::available() {
        for (number, sizes) in sizes.into_iter().enumerate() {
            for layouts in [[0, 0], [0, 1], [1, 1], [2, 2]] {
                check_packed::<f32>(tier, sizes, layouts, number % 2 == 0, number % 3 == 0);
                check_packed::<f64>(tier, sizes, layouts, number % 3 == 0, number % 2 == 0);
            }
        }
    }
}

#[test]
fn rows_apart_have_the_bits_of_the_whole_product() {
    fn check_rows<T: Numbers + PartialEq>(
        [m, n, k]: [usize; 3],
        layout: usize,
        packs: bool,
        accumulate: bool,
    ) {
        let b_strides = strides(layout, k, n);
        let mut gemm = Gemm {
            batch: 1,
            group: 1,
            group_strides: [0; 2],
            m,
            n,
            k,
            a_strides: strides(0, m, k),
            b_strides,
            c_batch_stride: 0,
            c_row_stride: n + 3,
            accumulate,
            b_packed: PackedOperand::No,
        };
        let a = T::sequence(m * k, 1);
        let mut b = T::sequence(extent(b_strides, [1, k, n]), 2);
        if packs {
            let mut packed = vec![T::ZERO; gemm.packed_elements::<T>()];
            gemm.pack(&b, &mut packed);
            (b, gemm.b_packed) = (packed, PackedOperand::Panels);
        }
        assert!(gemm.has_separate_rows::<T>(), "{gemm:?}");
        let bias = T::sequence(n, 4);
        let start = T::sequence(m * (n + 3), 3);
        let mut scratch = vec![0xffu8; gemm.scratch_bytes::<T>(3)];
        let mut whole = start.clone();
        let (a, b, bias) = (a.as_ptr(), b.as_ptr(), bias.as_ptr());
        // SAFETY: everything is as large as the sizes say.
        unsafe {
            gemm.run(a, b, bias, whole.as_mut_ptr(), None, scratch.as_mut_ptr(), &Team::new(1));
            for part in [1, 2, 3, 4, 7, 8, 11, m] {
                let mut c = start.clone();
                for (slot, first) in (0..m).step_by(part).enumerate() {
                    let rows = first..(first + part).min(m);
                    gemm.run_rows(rows, slot % 3, a, b, bias, c.as_mut_ptr(), scratch.as_mut_ptr());
                }
                assert!(c == whole, "{part} rows at a time: {gemm:?}");
            }
        }
    }
    for (sizes, accumulate) in
        [([16, 512, 128], false), ([16, 128, 512], true), ([19, 50, 900], false), ([40, 33, 70], true)]
    {
        for packs in [false, true] {
            check_rows::<f32>(sizes, 0, packs, accumulate);
            check_rows::<f64>(sizes, 0, packs, accumulate);
        }
        check_rows::<f32>(sizes, 1, true, accumulate);
    }
}

#[test]
fn parts_have_the_bits_of_the_whole_batch() {
    for ([batch, group, m, n, k], layouts) in [
        ([4, 4, 72, 40, 33], [0, 0]),
        ([6, 3, 64, 100, 500], [0, 1]),
        ([2, 2, 32, 200, 64], [1, 1]),
        ([3, 1, 24, 17, 900], [2, 0]),
        ([1, 1, 160, 130, 70], [0, 1]),
    ] {
        let (a_strides, b_strides) = (strides(layouts[0], m, k), strides(layouts[1], k, n));
        let [a_batch, b_batch] =
            [(a_strides, [1, m, k]), (b_strides, [1, k, n])].map(|(s, l)| extent(s, l) as isize);
        let gemm = Gemm {
            batch,
            group,
            group_strides: [a_batch, b_batch].map(|stride| stride * group as isize),
            m,
            n,
            k,
            a_strides: [a_batch, a_strides[1], a_strides[2]],
            b_strides: [b_batch, b_strides[1], b_strides[2]],
            c_batch_stride: m * (n + 3) + 5,
            c_row_stride: n + 3,
            accumulate: batch == 3,
            b_packed: PackedOperand::No,
        };
        assert!(gemm.has_parts::<f32>(), "{gemm:?}");
        let [a, b] = [a_batch, b_batch].map(|stride| f32::sequence(stride as usize * batch, stride as u64));
        let bias = f32::sequence(n, 4);
        let start = f32::sequence(gemm.c_batch_stride * batch, 3);
        let mut scratch = vec![0xffu8; gemm.scratch_bytes::<f32>(1)];
        let mut whole = start.clone();
        let (a, b, bias) = (a.as_ptr(), b.as_ptr(), bias.as_ptr());
        // SAFETY: everything is as large as the sizes say.
        unsafe {
            gemm.run(a, b, bias, whole.as_mut_ptr(), None, scratch.as_mut_ptr(), &Team::new(1));
            for rows in [8, 16, m] {
                let mut c = start.clone();
                for product in 0..batch {
                    for first in (0..m).step_by(rows) {
                        let part = product * m + first..product * m + (first + rows).min(m);
                        gemm.run_part(part, a, b, bias, c.as_mut_ptr(), None, scratch.as_mut_ptr());
                    }
                }
                assert!(c == whole, "{rows} rows at a time: {gemm:?}");
            }
        }
    }
}

#[test]
fn memory_for_a_team_is_enough_for_a_smaller_one() {
    for &[batch, m, n, k] in SIZES {
        for layouts in [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]] {
            let (a_strides, b_strides) = (strides(layouts[0], m, k), strides(layouts[1], k, n));
            let gemm = Gemm {
                batch,
                group: batch,
                group_strides: [0; 2],
                m,
                n,
                k,
                a_strides,
                b_strides,
                c_batch_stride: m * n,
                c_row_stride: n,
                accumulate: false,
                b_packed: PackedOperand::No,
            };
            let bytes: Vec<usize> = (1..=12).map(|threads| gemm.scratch_bytes::<f32>(threads)).collect();
            assert!(bytes.is_sorted(), "{gemm:?}: {bytes:?}");
        }
    }
}

#[test]
fn groups_of_a_batch_are_products_by_themselves() {
    let (m, n, k, heads, images) = (9, 21, 6, 3, 2);
    // As attention reads its operands: [image, row, head, k], and the right one transposed.
    let row = (heads * k) as isize;
    let gemm = Gemm {
        batch: images * heads,
        group: heads,
        group_strides: [m as isize * row, n as isize * row],
        m,
        n,
        k,
        a_strides: [k as isize, row, 1],
        b_strides: [k as isize, 1, row],
        c_batch_stride: m * n,
        c_row_stride: n,
        accumulate: false,
        b_packed: PackedOperand::No,
    };
    let (a, b) = (f32::sequence(images * m * heads * k, 1), f32::sequence(images * n * heads * k, 2));
    let run = |gemm: &Gemm, a: &[f32], b: &[f32], team: &Team| {
        let mut c = vec![0f32; gemm.batch * m * n];
        let mut scratch = vec![0u8; gemm.scratch_bytes::<f32>(team.threads())];
        unsafe {
            let (a, b, bias) = (a.as_ptr(), b.as_ptr(), std::ptr::null());
            gemm.run(a, b, bias, c.as_mut_ptr(), None, scratch.as_mut_ptr(), team);
        }
        c
    };
    let mut alone = Vec::new();
    for image in 0..images {
        let gemm = Gemm { batch: heads, group_strides: [0; 2], ..gemm };
        alone.extend(run(&gemm, &a[image * m * heads * k..], &b[image * n * heads * k..], &Team::new(1)));
    }
    for threads in [1, 3] {
        assert!(run(&gemm, &a, &b, &Team::new(threads)) == alone, "{threads} threads");
    }
    // One right operand for a group does not make its batch one product.
    let one = Gemm { b_strides: [0, 1, row], group_strides: [gemm.group_strides[0], 0], ..gemm };
    assert_eq!(one.reduced().0, one);
}
