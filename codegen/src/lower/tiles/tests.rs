use super::*;
use crate::loops::{interpret, parse_kernel};

/// Bytes of values that suit all wide functions, and of positions below the extent.
fn memory(kernel: &Kernel, extent: usize) -> Vec<Vec<u8>> {
    let value = |k: usize| 0.1 + (k * 37 % 101) as f32 * 0.013;
    (kernel.buffers.iter())
        .map(|buffer| match buffer.scalar {
            Scalar::I64 => {
                (0..buffer.elements).flat_map(|k| ((k * 5 % extent) as i64).to_ne_bytes()).collect()
            }
            Scalar::Bool => vec![0; buffer.elements],
            _ => (0..buffer.elements).flat_map(|k| value(k).to_ne_bytes()).collect(),
        })
        .collect()
}

/// Tiles a kernel whose text has `N` for the extent, and compares what the two do.
fn check(text: &str) -> Kernel {
    let mut last = Kernel::default();
    for extent in [32, 100, 256, 300, 512, 777] {
        let kernel = parse_kernel(&text.replace('N', &extent.to_string())).unwrap();
        let tiled = tile(kernel.clone());
        tiled.validate().unwrap();
        assert!(tiled.buffers.len() > kernel.buffers.len(), "nothing was tiled");
        let (mut plain, mut cut) = (memory(&kernel, extent), memory(&kernel, extent));
        interpret(&kernel, &mut plain).unwrap();
        interpret(&tiled, &mut cut).unwrap();
        assert_eq!(plain, cut, "{tiled}");
        assert_ne!(cut, memory(&kernel, extent), "nothing was written");
        last = tiled;
    }
    last
}

#[test]
fn phases_keep_what_later_ones_need() {
    let tiled = check(
        "kernel \"gelu_gradient\" (b0: read f32[N], b1: read f32[N], b2: write f32[N]) {
           parallelvector i0 in N {
             r0: f32 = load b0[i0]
             r1: f32 = const 0.7
             r2: f32 = mul r0, r1
             r3: f32 = erf r2
             r4: f32 = mul r2, r2
             r5: f32 = neg r4
             r6: f32 = exp r5
             r7: f32 = mul r0, r6
             r8: f32 = add r3, r7
             r9: f32 = load b1[i0]
             r10: f32 = mul r9, r8
             store b2[i0] = r10
           }
         }",
    );
    // Both functions run after the first phase; the operands of products are loaded anew.
    let wide = tiled.to_string().matches("wide").count();
    assert_eq!((wide, tiled.buffers.len()), (4, 5), "{tiled}");
}

#[test]
fn a_function_of_several_values_is_called_once() {
    let tiled = check(
        "kernel \"gates\" (b0: read f32[N], b1: read f32[N], b2: read f32[N], b3: write f32[N]) {
           parallelvector i0 in N {
             r0: f32 = load b0[i0]
             r1: f32 = sigmoid r0
             r2: f32 = load b1[i0]
             r3: f32 = tanh r2
             r4: f32 = load b2[i0]
             r5: f32 = sigmoid r4
             r6: f32 = mul r1, r3
             r7: f32 = mul r6, r5
             store b3[i0] = r7
           }
         }",
    );
    // In the tiles and in the rest, twice each.
    assert_eq!((tiled.to_string().matches("wide").count(), tiled.buffers.len()), (4, 6), "{tiled}");
}

#[test]
fn functions_of_functions_take_more_phases() {
    check(
        "kernel \"chain\" (b0: read f32[N], b1: write f32[N], b2: write bool[N]) {
           vector i0 in N {
             r0: f32 = load b0[i0]
             r1: f32 = sqrt r0
             r2: f32 = exp r1
             r3: f32 = add r2, r1
             r4: f32 = log r3
             r5: bool = gt r4, r2
             r6: f32 = sin r4
             r7: f32 = select r5, r6, r1
             store b1[i0] = r7
             store b2[i0] = r5
           }
         }",
    );
}

#[test]
fn reductions_and_gathers() {
    check(
        "kernel \"rows\" (b0: read f32[1600], b1: read i64[N], b2: readwrite f32[1600], b3: write f32[2]) {
           parallel i0 in 2 {
             a0: f32 = 0.0
             vector i1 in N {
               r0: i64 = load b1[i1]
               r1: f32 = load b0[800*i0 + r0]
               r2: f32 = cos r1
               r3: f32 = load b2[800*i0 + i1]
               r4: f32 = mul r2, r3
               store b2[800*i0 + i1] = r4
               reduce a0 max r4
             }
             r5: f32 = read a0
             store b3[i0] = r5
           }
         }",
    );
}

#[test]
fn short_rows_stand_side_by_side() {
    let text = "kernel \"softmax\" (b0: read f32[ALL], b1: write f32[ALL], b2: write f32[ROWS]) {
           parallel i0 in ROWS {
             a0: f32 = -inf
             vector i1 in N {
               r0: f32 = load b0[N*i0 + i1]
               reduce a0 max r0
             }
             r1: f32 = read a0
             a1: f32 = 0.0
             vector i2 in N {
               r2: f32 = load b0[N*i0 + i2]
               r3: f32 = sub r2, r1
               r4: f32 = exp r3
               store b1[N*i0 + i2] = r4
               reduce a1 sum r4
             }
             r5: f32 = read a1
             store b2[i0] = r5
           }
         }";
    let kernel = |rows: usize, length: usize| {
        let text = text.replace("ALL", &(rows * length).to_string()).replace("ROWS", &rows.to_string());
        parse_kernel(&text.replace('N', &length.to_string())).unwrap()
    };
    for (rows, length, pairs) in
        [(6, 32, true), (4, 100, true), (5, 32, false), (6, 20, false), (4, 300, false)]
    {
        let kernel = kernel(rows, length);
        let jammed = tile(kernel.clone());
        jammed.validate().unwrap();
        assert_eq!(jammed.parallel_extent(), Some(if pairs { rows / 2 } else { rows }), "{jammed}");
        let (mut plain, mut together) = (memory(&kernel, length), memory(&kernel, length));
        interpret(&kernel, &mut plain).unwrap();
        interpret(&jammed, &mut together).unwrap();
        assert_eq!(plain, together, "{jammed}");
    }
}

#[test]
fn loops_that_stay_whole() {
    let texts = [
        // Short.
        "kernel \"\" (b0: read f32[31], b1: write f32[31]) {
           vector i0 in 31 { r0: f32 = load b0[i0] r1: f32 = exp r0 store b1[i0] = r1 }
         }",
        // Read after written.
        "kernel \"\" (b0: readwrite f32[64]) {
           vector i0 in 64 {
             r0: f32 = const 2.0 store b0[i0] = r0 r1: f32 = load b0[i0] r2: f32 = exp r1 store b0[i0] = r2
           }
         }",
        // The same for all iterations.
        "kernel \"\" (b0: read f32[1], b1: write f32[64]) {
           vector i0 in 64 { r0: f32 = load b0[0] r1: f32 = exp r0 store b1[i0] = r1 }
         }",
        // Not f32.
        "kernel \"\" (b0: read f64[64], b1: write f64[64]) {
           vector i0 in 64 { r0: f64 = load b0[i0] r1: f64 = exp r0 store b1[i0] = r1 }
         }",
    ];
    for text in texts {
        let kernel = parse_kernel(text).unwrap();
        assert_eq!(tile(kernel.clone()), kernel);
    }
}

/// Loops whose lanes read across memory, of lengths that leave rows and columns over.
#[test]
fn reads_across_memory_are_transposed() {
    let plain = |rows: usize, columns: usize| {
        let all = 3 * rows * columns;
        format!(
            "kernel \"k\" (b0: read f32[{all}], b1: read f32[{all}], b2: write f32[{all}]) {{
               r0: f32 = const 0.7
               parallel i0 in 3 {{
                 for i1 in {rows} {{
                   for i2 in {columns} {{
                     r1: f32 = load b0[{rows}*i2 + i1 + {each}*i0]
                     r2: f32 = load b1[{columns}*i1 + i2 + {each}*i0]
                     r3: f32 = load b1[{rows}*i2 + i1 + {each}*i0]
                     r4: f32 = mul r1, r2
                     r5: f32 = muladd r3, r0, r4
                     store b2[{columns}*i1 + i2 + {each}*i0] = r5
                   }}
                 }}
               }}
             }}",
            each = rows * columns
        )
    };
    // The rows are the outermost loop, and it runs in parallel; a sum of all goes along.
    let outermost = |rows: usize, columns: usize| {
        let all = rows * 2 * columns;
        format!(
            "kernel \"k\" (b0: read f32[{all}], b1: write f32[{all}], b2: write f32[1]) {{
               a0: f32 = 0.0
               for i0 in {rows} {{
                 for i1 in 2 {{
                   vector i2 in {columns} {{
                     r1: f32 = load b0[{both}*i2 + {rows}*i1 + i0]
                     r2: f32 = exp r1
                     store b1[{both_columns}*i0 + {columns}*i1 + i2] = r2
                     r3: f32 = round r1
                     reduce a0 sum r3
                   }}
                 }}
               }}
               r4: f32 = read a0
               store b2[0] = r4
             }}",
            both = 2 * rows,
            both_columns = 2 * columns
        )
    };
    for (rows, columns) in [(4, 4), (5, 7), (64, 64), (70, 40), (130, 128), (9, 131), (64, 192), (100, 300)] {
        for text in [plain(rows, columns), outermost(rows, columns)] {
            let kernel = parse_kernel(&text).unwrap();
            let tiled = tile(kernel.clone());
            tiled.validate().unwrap();
            assert!(tiled.to_string().contains("transpose"), "{tiled}");
            assert_eq!(parse_kernel(&tiled.to_string()).unwrap().to_string(), tiled.to_string());
            let (mut plain, mut cut) = (memory(&kernel, rows), memory(&kernel, rows));
            interpret(&kernel, &mut plain).unwrap();
            interpret(&tiled, &mut cut).unwrap();
            assert_eq!(plain, cut, "{tiled}");
            assert_ne!(cut, memory(&kernel, rows), "nothing was written");
        }
    }
}

/// What must stay as it is: places that depend on data, results across memory, and operands that are written.
#[test]
fn other_loops_are_not_transposed() {
    for body in [
        "r1: f32 = load b0[64*i1 + i0 + r0] store b1[64*i0 + i1] = r1",
        "r1: f32 = load b0[64*i1 + i0] store b1[64*i1 + i0] = r1",
        "r1: f32 = load b2[64*i1 + i0] store b2[64*i0 + i1] = r1",
        "r1: f32 = load b0[64*i1 + 2*i0] store b1[64*i0 + i1] = r1",
        // Each row needs the one before.
        "r1: f32 = load b0[64*i1 + i0] r2: f32 = load b2[64*i0 + i1] r3: f32 = add r1, r2
         store b2[64*i0 + i1 + 64] = r3",
    ] {
        let text = format!(
            "kernel \"k\" (b0: read f32[8192], b1: write f32[8192], b2: readwrite f32[8192], b3: read i64[1]) {{
               r0: i64 = load b3[0]
               for i0 in 64 {{ for i1 in 64 {{ {body} }} }}
             }}"
        );
        let kernel = parse_kernel(&text).unwrap();
        kernel.validate().unwrap();
        assert_eq!(tile(kernel.clone()).to_string(), kernel.to_string());
    }
}

/// Softmax along an outer axis: two reductions, each of which later statements need.
#[test]
fn columns_are_reduced_by_rows() {
    for (kind, far) in [("vector", 4096), ("parallelvector", 4096)] {
        for extent in [64, 200, 256, 300, 512, 777] {
            let text = format!(
                "kernel \"k\" (b0: read f32[24576], b1: read f32[4096], b2: write f32[24576], b3: write f32[4096]) {{
                   r0: f32 = const 0.5
                   {kind} i0 in {extent} {{
                     a0: f32 = -inf
                     a1: f32 = 0.0
                     r1: f32 = load b1[i0]
                     r2: f32 = mul r1, r0
                     for i1 in 6 {{
                       r3: f32 = load b0[{far}*i1 + i0]
                       r4: f32 = mul r3, r2
                       reduce a0 max r4
                     }}
                     r5: f32 = read a0
                     for i2 in 6 {{
                       r6: f32 = load b0[{far}*i2 + i0]
                       r7: f32 = sub r6, r5
                       r8: f32 = exp r7
                       reduce a1 sum r8
                       store b2[{far}*i2 + i0] = r8
                     }}
                     r9: f32 = read a1
                     r10: f32 = div r9, r2
                     store b3[i0] = r10
                   }}
                 }}"
            );
            let kernel = parse_kernel(&text).unwrap();
            let tiled = tile(kernel.clone());
            tiled.validate().unwrap();
            assert!(tiled.to_string().contains("wide exp"), "{tiled}");
            let (mut plain, mut cut) = (memory(&kernel, extent), memory(&kernel, extent));
            interpret(&kernel, &mut plain).unwrap();
            interpret(&tiled, &mut cut).unwrap();
            assert_eq!(plain, cut, "{tiled}");
            assert_ne!(cut, memory(&kernel, extent), "nothing was written");
        }
    }
}

/// Columns that are read while they are still reduced, or written while they are still needed, few of them, and near rows
/// without functions stay.
#[test]
fn other_columns_stay() {
    let text = |extent: usize, stride: usize, between: &str, before: &str| {
        format!(
            "kernel \"k\" (b0: read f32[24576], b1: write f32[4096]) {{
               vector i0 in {extent} {{
                 a0: f32 = 0.0
                 for i1 in 6 {{ r0: f32 = load b0[{stride}*i1 + i0] reduce a0 sum r0 }}
                 r1: f32 = read a0
                 {before}
                 for i2 in 6 {{ r2: f32 = load b0[{stride}*i2 + i0] r3: f32 = mul r2, r1 {between} }}
                 store b1[i0] = r1
               }}
             }}"
        )
    };
    let is_cut = |text: String| {
        let kernel = parse_kernel(&text).unwrap();
        kernel.validate().unwrap();
        tile(kernel.clone()) != kernel
    };
    assert!(is_cut(text(64, 4096, "", "")));
    assert!(!is_cut(text(63, 4096, "", "")));
    assert!(!is_cut(text(64, 100, "", "")));
    assert!(!is_cut(text(64, 4096, "reduce a0 sum r3", "")));
    assert!(!is_cut(text(64, 4096, "", "store b1[i0] = r1")));
}

/// An image of few channels that come first afterwards: threads share its pixels, not its channels.
#[test]
fn threads_share_the_loop_over_more_blocks() {
    let text = "kernel \"k\" (b0: read f32[64000], b1: write f32[64000]) {
                  parallel i0 in 64 { for i1 in 1000 { r0: f32 = load b0[64*i1 + i0] store b1[1000*i0 + i1] = r0 } }
                }";
    let tiled = tile(parse_kernel(text).unwrap());
    assert_eq!(tiled.parallel_extent(), Some(1000usize.div_ceil(64)), "{tiled}");
}
