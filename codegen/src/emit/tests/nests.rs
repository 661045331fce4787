//! Loop nests, accesses, reductions, guards and failures.

use cranelift_module::Linkage;
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::{Jit, Random, check, compare, contents};
use crate::emit::{EmitError, IsaOptions, baseline_isa, clif_text, define_kernel};
use crate::loops::{Kernel, parse_kernel};

#[test]
fn sum_of_a_vector_loop() {
    // Integers, so that the order of additions does not show.
    for extent in [0, 1, 3, 4, 5, 15, 16, 17, 23, 40, 67] {
        for (scalar, op) in [("i32", "sum"), ("f32", "max"), ("f64", "min"), ("u32", "or"), ("i64", "prod")] {
            let init = if scalar.starts_with('f') { "3.0" } else { "3" };
            check(
                &format!(
                    "kernel \"sum\" (b0: read {scalar}[{extent}], b1: write {scalar}[2]) {{
                       a0: {scalar} = {init}
                       vector i0 in {extent} {{ r0: {scalar} = load b0[i0] reduce a0 {op} r0 }}
                       r1: {scalar} = read a0
                       store b1[1] = r1
                     }}"
                ),
                0.0,
            );
        }
    }
}

#[test]
fn float_sums_are_exact_on_small_integers() {
    let kernel = parse_kernel(
        "kernel \"rows\" (b0: read f32[7050], b1: write f32[50]) {
           parallel i0 in 50 {
             a0: f32 = 0.0
             a1: f32 = -inf
             vector i1 in 141 {
               r0: f32 = load b0[141*i0 + i1]
               r1: f32 = mul r0, r0
               reduce a0 sum r1
               reduce a1 max r0
             }
             r2: f32 = read a0
             r3: f32 = read a1
             r4: f32 = add r2, r3
             store b1[i0] = r4
           }
         }",
    )
    .unwrap();
    let jit = Jit::new(std::slice::from_ref(&kernel));
    let mut random = Random(2);
    let x: Vec<u8> = (0..7050).flat_map(|_| ((random.next() % 64) as f32).to_ne_bytes()).collect();
    compare(&jit, 0, &kernel, &[x, vec![0; 200]], (0, 50), 0.0);
}

#[test]
fn reduction_over_the_outer_axis() {
    for columns in [1, 3, 4, 9, 16, 21, 38] {
        check(
            &format!(
                "kernel \"columns\" (b0: read f32[{}], b1: write f32[{columns}]) {{
                   vector i0 in {columns} {{
                     a0: f32 = 0.5
                     for i1 in 11 {{
                       r0: f32 = load b0[{columns}*i1 + i0]
                       reduce a0 sum r0
                     }}
                     r1: f32 = read a0
                     store b1[i0] = r1
                   }}
                 }}",
                11 * columns
            ),
            0.0,
        );
    }
}

#[test]
fn softmax_of_rows() {
    let text = "kernel \"softmax\" (b0: read f32[70], b1: readwrite f32[70]) {
       parallel i0 in 2 {
         a0: f32 = -inf
         vector i1 in 35 { r0: f32 = load b0[35*i0 + i1] reduce a0 max r0 }
         r1: f32 = read a0
         a1: f32 = 0.0
         vector i1 in 35 {
           r2: f32 = load b0[35*i0 + i1]
           r3: f32 = sub r2, r1
           r4: f32 = exp r3
           store b1[35*i0 + i1] = r4
           reduce a1 sum r4
         }
         r5: f32 = read a1
         vector i1 in 35 {
           r6: f32 = load b1[35*i0 + i1]
           r7: f32 = div r6, r5
           store b1[35*i0 + i1] = r7
         }
       }
     }";
    let kernel = parse_kernel(text).unwrap();
    let jit = Jit::new(std::slice::from_ref(&kernel));
    let mut random = Random(4);
    let x: Vec<u8> = (0..70).flat_map(|_| ((random.unit() * 5.0) as f32).to_ne_bytes()).collect();
    compare(&jit, 0, &kernel, &[x, vec![0; 280]], (0, 2), 8.0);
}

#[test]
fn strided_reversed_uniform_and_broadcast_accesses() {
    for scalar in ["f32", "f64", "i8", "bool", "i64", "u32"] {
        check(
            &format!(
                "kernel \"strides\" (b0: read {scalar}[60], b1: write {scalar}[66], b2: write {scalar}[3]) {{
                   for i0 in 3 {{
                     vector i1 in 11 {{
                       r0: {scalar} = load b0[20*i0 - 2*i1 + 19 - 20*i0 + 3]
                       r1: {scalar} = load b0[i1 + 2*i0]
                       r2: {scalar} = load b0[i0 + 5]
                       r3: bool = eq r0, r2
                       r4: {scalar} = select r3, r0, r1
                       store b1[22*i0 + 2*i1] = r4
                       store b1[22*i0 + 2*i1 + 1] = r2
                       store b2[i0] = r4
                     }}
                   }}
                 }}"
            )
            .replace("20*i0 - 2*i1 + 19 - 20*i0 + 3", "-2*i1 + 22"),
            0.0,
        );
    }
}

#[test]
fn gather_with_a_range_check() {
    let text = "kernel \"gather\" (b0: read i64[6], b1: read f32[40], b2: write f32[48]) {
       r0: i64 = const 0
       r1: i64 = const 5
       for i0 in 6 {
         r2: i64 = load b0[i0]
         r3: bool = lt r2, r0
         r4: i64 = add r2, r1
         r5: i64 = select r3, r4, r2
         r6: bool = lt r5, r0
         r7: bool = ge r5, r1
         r8: bool = or r6, r7
         fail 7 if r8, r2
         vector i1 in 8 {
           r9: f32 = load b1[i1 + 8*r5]
           store b2[8*i0 + i1] = r9
         }
       }
     }";
    let kernel = parse_kernel(text).unwrap();
    let jit = Jit::new(std::slice::from_ref(&kernel));
    let mut random = Random(4);
    for bad in [None, Some(5), Some(-6), Some(i64::MIN), Some(i64::MAX)] {
        let mut start = contents(&kernel, &mut random);
        start[0] = [0, 4, -1, -5, bad.unwrap_or(2), 1].iter().flat_map(|x: &i64| x.to_ne_bytes()).collect();
        compare(&jit, 0, &kernel, &start, (0, 0), 0.0);
    }
}

#[test]
fn indirect_accesses_in_lanes() {
    let text =
        "kernel \"lanes\" (b0: read i32[19], b1: read f32[32], b2: write f32[38], b3: readwrite f32[32]) {
       vector i0 in 19 {
         r0: i32 = load b0[i0]
         r1: i32 = const 15
         r2: i32 = and r0, r1
         r3: i64 = cast r2
         r4: f32 = load b1[2*r3 + 1]
         r5: f32 = load b1[2*r3]
         r6: f32 = mul r4, r5
         store b2[i0 + 19] = r6
         store b2[-i0 + 18] = r4
         update add b3[2*r3] = r5
       }
     }";
    check(text, 0.0);
}

#[test]
fn updates_in_order() {
    for op in ["add", "max", "min", "mul"] {
        for scalar in ["f32", "i32", "f64", "i8"] {
            check(
                &format!(
                    "kernel \"scatter\" (b0: read {scalar}[40], b1: readwrite {scalar}[4]) {{
                       for i1 in 2 {{ vector i0 in 20 {{
                         r0: {scalar} = load b0[20*i1 + i0]
                         update {op} b1[i1] = r0
                         r1: i64 = index i0 + i1
                         r2: i64 = const 1
                         r3: i64 = and r1, r2
                         r4: {scalar} = load b0[i0]
                       }} }}
                     }}"
                ),
                0.0,
            );
        }
    }
}

#[test]
fn padding_guards() {
    // A 3-wide moving maximum with padding, the guard on the vector variable.
    check(
        "kernel \"pool\" (b0: read f32[42], b1: write f32[42]) {
           parallel i0 in 2 {
             vector i1 in 21 {
               a0: f32 = -inf
               for i2 in 3 {
                 if i1 + i2 - 1 ge 0, i1 + i2 lt 22 {
                   r0: f32 = load b0[21*i0 + i1 + i2 - 1]
                   reduce a0 max r0
                 }
               }
               r1: f32 = read a0
               store b1[21*i0 + i1] = r1
             }
           }
         }",
        0.0,
    );
    // The same with a stride, and another value for the padding.
    check(
        "kernel \"pad\" (b0: read i32[9], b1: write i32[14]) {
           vector i0 in 14 {
             a0: i32 = 77
             if i0 - 2 ge 0, i0 lt 11 {
               r0: i32 = load b0[i0 - 2]
               set a0 = r0
             } else {
               r2: i32 = const -5
               set a0 = r2
             }
             r1: i32 = read a0
             store b1[i0] = r1
           }
         }",
        0.0,
    );
    // Guards on an outer variable and on a register are branches.
    check(
        "kernel \"outer\" (b0: read f32[30], b1: write f32[30]) {
           for i0 in 3 {
             vector i1 in 10 {
               r0: f32 = load b0[10*i0 + i1]
               r1: f32 = const 0.0
               r2: bool = gt r0, r1
               if i0 ne 1 {
                 if r2 { store b1[10*i0 + i1] = r0 } else { store b1[10*i0 + i1] = r1 }
               } else {
                 r3: f32 = neg r0
                 store b1[10*i0 + i1] = r3
               }
             }
           }
         }",
        0.0,
    );
}

#[test]
fn guarded_loops_run_in_order() {
    check(
        "kernel \"guarded\" (b0: read f32[40], b1: write f32[10]) {
           vector i0 in 10 {
             a0: f32 = 1.0
             if i0 ge 3 {
               for i1 in 4 {
                 r0: f32 = load b0[4*i0 + i1]
                 reduce a0 max r0
               }
             }
             r1: f32 = read a0
             store b1[i0] = r1
           }
         }",
        0.0,
    );
}

#[test]
fn running_values() {
    check(
        "kernel \"cumsum\" (b0: read f32[60], b1: write f32[60], b2: write i64[6]) {
           vector i0 in 6 {
             a0: f32 = 0.0
             a1: f32 = -inf
             a2: i64 = -1
             for i1 in 10 {
               r0: f32 = load b0[6*i1 + i0]
               r1: f32 = read a0
               r2: f32 = add r1, r0
               set a0 = r2
               store b1[6*i1 + i0] = r2
               r3: f32 = read a1
               r4: bool = gt r0, r3
               r5: f32 = select r4, r0, r3
               set a1 = r5
               r6: i64 = read a2
               r7: i64 = index i1
               r8: i64 = select r4, r7, r6
               set a2 = r8
             }
             r9: i64 = read a2
             store b2[i0] = r9
           }
         }",
        0.0,
    );
}

#[test]
fn logical_reductions_and_counts() {
    check(
        "kernel \"logic\" (b0: read f32[37], b1: write bool[2], b2: write i64[1], b3: write bool[37]) {
           a0: bool = true
           a1: bool = false
           a2: i64 = 0
           vector i0 in 37 {
             r0: f32 = load b0[i0]
             r1: f32 = const 8.0
             r2: bool = lt r0, r1
             r3: bool = isnan r0
             reduce a0 and r2
             reduce a1 or r3
             r4: i64 = cast r2
             reduce a2 sum r4
             r5: bool = xor r2, r3
             r6: bool = not r5
             store b3[i0] = r6
           }
           r7: bool = read a0
           r8: bool = read a1
           r9: i64 = read a2
           store b1[0] = r7
           store b1[1] = r8
           store b2[0] = r9
         }",
        0.0,
    );
}

#[test]
fn mixed_widths_and_counters() {
    check(
        "kernel \"mixed\" (b0: read f32[13], b1: write f64[13], b2: write f32[13], b3: read f64[13]) {
           vector i0 in 13 {
             r0: f32 = load b0[i0]
             r1: f64 = cast r0
             r2: f64 = load b3[i0]
             r3: f64 = mul r1, r2
             store b1[i0] = r3
             r4: i64 = index 3*i0 - 7
             r5: f32 = cast r4
             r6: f32 = cast r3
             r7: f32 = add r5, r6
             store b2[i0] = r7
           }
         }",
        0.0,
    );
}

#[test]
fn in_place() {
    check(
        "kernel \"update\" (b0: readwrite f32[1003], b1: read f32[1003]) {
           parallelvector i0 in 1003 {
             r0: f32 = load b0[i0]
             r1: f32 = load b1[i0]
             r2: f32 = const -0.1
             r3: f32 = muladd r1, r2, r0
             store b0[i0] = r3
           }
         }",
        0.0,
    );
}

#[test]
fn sums_with_four_and_one_vectors_at_once() {
    let mut text = String::new();
    for columns in 1..40 {
        text = format!(
            "kernel \"both\" (b0: read i32[{0}], b1: write i32[{columns}]) {{
               a0: i32 = 1
               for i2 in 3 {{ vector i3 in {columns} {{ r3: i32 = load b0[i3 + i2] reduce a0 sum r3 }} }}
               r5: i32 = read a0
               vector i0 in {columns} {{
                 a1: i32 = 0
                 for i1 in 3 {{ r0: i32 = load b0[i0 + i1] reduce a1 prod r0 }}
                 r1: i32 = read a1
                 r2: i32 = add r1, r5
                 store b1[i0] = r2
               }}
             }}",
            columns + 2
        );
        check(&text, 0.0);
    }
    let kernel: Kernel = parse_kernel(&text).unwrap();
    assert!(kernel.key() != kernel.to_string());
}

#[test]
fn code_does_not_depend_on_the_run() {
    let text = "kernel \"relu\" (b0: read f32[64], b1: write f32[64]) {
       parallelvector i0 in 64 {
         r0: f32 = load b0[i0] r1: f32 = const 0.0 r2: f32 = max r0, r1 r3: f32 = tan r2
         store b1[i0] = r3
       }
     }";
    let kernel = parse_kernel(text).unwrap();
    let write = || {
        let isa = baseline_isa(IsaOptions::object()).unwrap();
        let builder = ObjectBuilder::new(isa, "k", cranelift_module::default_libcall_names()).unwrap();
        clif_text(&mut ObjectModule::new(builder), &kernel).unwrap()
    };
    let clif = write();
    assert_eq!(clif, write());
    // Four lanes, and a maximum by comparison and selection.
    assert!(clif.contains("load.f32x4") && clif.contains("bitselect") && !clif.contains("fmax"), "{clif}");
}

#[test]
fn invalid_kernels_are_refused() {
    let kernel = parse_kernel("kernel \"bad\" (b0: read f32[4]) { store b0[0] = r0 }").unwrap();
    let isa = baseline_isa(IsaOptions::object()).unwrap();
    let builder = ObjectBuilder::new(isa, "k", cranelift_module::default_libcall_names()).unwrap();
    let result = define_kernel(&mut ObjectModule::new(builder), &kernel, "bad", Linkage::Export);
    assert!(matches!(result, Err(EmitError::Kernel(_))));
}
