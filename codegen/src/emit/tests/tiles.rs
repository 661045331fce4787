//! Kernels with tile loops: what products call on the parts of their results.

use super::{Jit, Random, agree, contents, numbers};
use crate::loops::{Kernel, interpret_tile, parse_kernel};
use gradc_kernels::EpilogueFunction;

/// Runs a kernel of 3 batches, 7 rows and 21 columns on tiles of all widths, emitted and interpreted; also the
/// elements around a tile must stay as they are.
fn check_tiles(text: &str, ulps: f64) {
    let kernel: Kernel = parse_kernel(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(kernel.tile_extents(), Some([3, 7, 21]));
    let jit = Jit::new(std::slice::from_ref(&kernel));
    // The kernel has tile loops, so this is its type.
    let function = unsafe { std::mem::transmute::<super::Function, EpilogueFunction<u8>>(jit.functions[0]) };
    let mut random = Random(11);
    for width in 0..=21 {
        let (rows, columns) = (random.next() as usize % 8, width);
        let batch = random.next() as usize % 3;
        let row = random.next() as usize % (8 - rows);
        let column = random.next() as usize % (22 - columns);
        let start = contents(&kernel, &mut random);
        let mut found = start.clone();
        let table: Vec<*mut u8> = found.iter_mut().map(|buffer| buffer.as_mut_ptr()).collect();
        unsafe { function(std::ptr::null_mut(), 0, rows, columns, batch, row, column, table.as_ptr()) };
        let mut expected = start.clone();
        let range = |first: usize, count: usize| (first as i64, (first + count) as i64);
        interpret_tile(&kernel, &mut expected, batch as i64, range(row, rows), range(column, columns))
            .unwrap_or_else(|error| panic!("{error}\n{kernel}"));
        for (number, buffer) in kernel.buffers.iter().enumerate() {
            let found = numbers(buffer.scalar, &found[number]);
            let expected = numbers(buffer.scalar, &expected[number]);
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    agree(*found, *expected, ulps),
                    "b{number}[{at}], {rows}x{columns} at ({batch}, {row}, {column}): {found:?} is not {expected:?}\n{kernel}"
                );
            }
        }
    }
}

#[test]
fn bias_and_activation_over_the_result() {
    for (scalar, ulps) in [("f32", 4.0), ("f64", 0.0)] {
        check_tiles(
            &format!(
                "kernel \"dense\" (b0: read {scalar}[21], b1: read {scalar}[7], b2: readwrite {scalar}[441]) {{
                   r9: {scalar} = const 0.5
                   tile i0 in 3 {{
                     tile i1 in 7 {{
                       r0: {scalar} = load b1[i1]
                       tilevector i2 in 21 {{
                         r1: {scalar} = load b2[147*i0 + 21*i1 + i2]
                         r2: {scalar} = load b0[i2]
                         r3: {scalar} = add r1, r2
                         r4: {scalar} = mul r3, r0
                         r5: {scalar} = tanh r4
                         r6: {scalar} = mul r5, r9
                         store b2[147*i0 + 21*i1 + i2] = r6
                       }}
                     }}
                   }}
                 }}"
            ),
            ulps,
        );
    }
}

#[test]
fn masks_and_further_results() {
    check_tiles(
        "kernel \"masked\" (b0: read f32[441], b1: read bool[441], b2: read f32[441], b3: write f64[441], b4: write bool[441]) {
           r0: f32 = const 0.0
           tile i0 in 3 {
             tile i1 in 7 {
               tilevector i2 in 21 {
                 r1: f32 = load b0[147*i0 + 21*i1 + i2]
                 r2: bool = load b1[147*i0 + 21*i1 + i2]
                 r3: f32 = load b2[147*i0 + 21*i1 + i2]
                 r4: bool = gt r1, r3
                 r5: f32 = select r2, r1, r0
                 r6: f64 = cast r5
                 store b3[147*i0 + 21*i1 + i2] = r6
                 store b4[147*i0 + 21*i1 + i2] = r4
               }
             }
           }
         }",
        0.0,
    );
}
