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
