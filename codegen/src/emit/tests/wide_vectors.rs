//! Kernels that are written in vectors of 512 or 256 bits, where the machine has them, and those that are not.

use super::check;
use crate::emit::vectors::{self, Calls, Width};
use crate::loops::parse_kernel;

const WIDTHS: [Width; 2] = [Width::Bits256, Width::Bits512];

/// Whether a kernel is of the kind that is written in vectors of this width.
fn is_plain(text: &str, width: Width) -> bool {
    let kernel = parse_kernel(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    kernel.validate().unwrap();
    vectors::code(&kernel, Calls::Absolute, width).is_some()
}

/// A plain kernel; it computes what the interpreter does.
fn plain(text: &str, ulps: f64) {
    for width in WIDTHS {
        assert!(is_plain(text, width), "{width:?} {text}");
    }
    check(text, ulps);
}

#[test]
fn every_operation_at_every_length() {
    let unary = ["neg", "abs", "sign", "floor", "ceil", "round", "sqrt"];
    let binary = ["add", "sub", "mul", "div", "max", "min"];
    for n in [1, 7, 15, 16, 17, 31, 32, 33, 100] {
        for op in unary {
            plain(
                &format!(
                    "kernel \"k\" (b0 \"x\": read f32[{n}], b1 \"y\": write f32[{n}]) {{
                       parallelvector i0 in {n} {{
                         r0: f32 = load b0[i0]
                         r1: f32 = {op} r0
                         store b1[i0] = r1
                       }}
                     }}"
                ),
                0.0,
            );
        }
        for op in binary {
            plain(
                &format!(
                    "kernel \"k\" (b0 \"x\": read f32[{n}], b1 \"y\": readwrite f32[{n}]) {{
                       parallelvector i0 in {n} {{
                         r0: f32 = load b0[i0]
                         r1: f32 = load b1[i0]
                         r2: f32 = {op} r0, r1
                         r3: f32 = muladd r2, r0, r1
                         store b1[i0] = r3
                       }}
                     }}"
                ),
                0.0,
            );
        }
    }
}

#[test]
fn truth_values() {
    for compare in ["eq", "ne", "lt", "le", "gt", "ge"] {
        for logic in ["and", "or", "xor"] {
            for n in [5, 16, 39] {
                plain(
                    &format!(
                        "kernel \"k\" (b0 \"x\": read f32[{n}], b1 \"y\": read f32[{n}], b2 \"m\": read bool[{n}],
                                       b3 \"to\": write bool[{n}], b4 \"z\": write f32[{n}]) {{
                           parallelvector i0 in {n} {{
                             r0: f32 = load b0[i0]
                             r1: f32 = load b1[i0]
                             r2: bool = load b2[i0]
                             r3: bool = {compare} r0, r1
                             r4: bool = {logic} r3, r2
                             r5: bool = isnan r0
                             r6: bool = not r5
                             r7: bool = and r4, r6
                             r8: f32 = select r7, r0, r1
                             r9: f32 = cast r4
                             r10: f32 = add r8, r9
                             r11: bool = cast r0
                             r12: bool = or r11, r7
                             store b3[i0] = r12
                             store b4[i0] = r10
                           }}
                         }}"
                    ),
                    0.0,
                );
            }
        }
    }
}

#[test]
fn rows_with_numbers_of_their_own() {
    for n in [3, 16, 50] {
        let all = 2 * 7 * n;
        plain(
            &format!(
                "kernel \"k\" (b0 \"scale\": read f32[7], b1 \"x\": read f32[{all}], b2 \"row\": read f32[{n}],
                               b3 \"y\": write f32[{all}], b4 \"roots\": write f32[14]) {{
                   r0: f32 = const 2.5
                   parallel i0 in 2 {{
                     for i1 in 7 {{
                       r1: f32 = load b0[i1]
                       r2: f32 = abs r1
                       r3: f32 = sqrt r2
                       store b4[7*i0 + i1] = r3
                       vector i2 in {n} {{
                         r4: f32 = load b1[{row}*i0 + {n}*i1 + i2]
                         r5: f32 = mul r4, r3
                         r6: f32 = load b2[i2]
                         r7: f32 = add r5, r6
                         r8: f32 = load b0[i1]
                         r9: f32 = sub r7, r8
                         r10: f32 = div r9, r0
                         store b3[{row}*i0 + {n}*i1 + i2] = r10
                       }}
                     }}
                   }}
                 }}",
                row = 7 * n,
            ),
            0.0,
        );
    }
}

#[test]
fn reductions_over_rows() {
    for (op, init) in [("max", "-inf"), ("min", "inf")] {
        for n in [1, 16, 77, 128, 331] {
            plain(
                &format!(
                    "kernel \"k\" (b0 \"x\": read f32[{all}], b1 \"y\": write f32[9], b2 \"z\": write f32[{all}]) {{
                       parallel i0 in 9 {{
                         a0: f32 = {init}
                         vector i1 in {n} {{
                           r0: f32 = load b0[{n}*i0 + i1]
                           reduce a0 {op} r0
                         }}
                         r1: f32 = read a0
                         store b1[i0] = r1
                         vector i2 in {n} {{
                           r2: f32 = load b0[{n}*i0 + i2]
                           r3: f32 = sub r2, r1
                           store b2[{n}*i0 + i2] = r3
                         }}
                       }}
                     }}",
                    all = 9 * n,
                ),
                0.0,
            );
        }
    }
}

/// Sums of small whole numbers are exact in any order.
#[test]
fn sums_of_tests() {
    for n in [1, 15, 16, 200, 256] {
        plain(
            &format!(
                "kernel \"k\" (b0 \"x\": read f32[{all}], b1 \"y\": write f32[4]) {{
                   r0: f32 = const 0.0
                   parallel i0 in 4 {{
                     a0: f32 = 3.0
                     for i1 in 3 {{
                       vector i2 in {n} {{
                         r1: f32 = load b0[{row}*i0 + {n}*i1 + i2]
                         r2: bool = gt r1, r0
                         r3: f32 = cast r2
                         reduce a0 sum r3
                       }}
                     }}
                     r4: f32 = read a0
                     store b1[i0] = r4
                   }}
                 }}",
                row = 3 * n,
                all = 12 * n,
            ),
            0.0,
        );
    }
}

/// What is in registers while a wide function runs, is there after it.
#[test]
fn numbers_outlive_calls() {
    plain(
        "kernel \"k\" (b0 \"x\": read f32[300], b1 \"c\": read f32[3], b2 \"y\": write f32[300], b3: local f32[100]) {
           r0: f32 = const 0.5
           parallel i0 in 3 {
             r1: f32 = load b1[i0]
             a0: f32 = -inf
             vector i1 in 100 {
               r2: f32 = load b0[100*i0 + i1]
               r3: f32 = mul r2, r0
               reduce a0 max r3
               store b3[i1] = r3
             }
             wide sigmoid b3[100]
             r4: f32 = read a0
             vector i2 in 100 {
               r5: f32 = load b3[i2]
               r6: f32 = add r5, r1
               r7: f32 = sub r6, r4
               store b2[100*i0 + i2] = r7
             }
           }
         }",
        4.0,
    );
}

/// A wide function of a number that all lanes share; a truth value from before it is there after it.
#[test]
fn functions_of_single_numbers() {
    for function in ["exp", "log", "tanh", "erf", "sigmoid", "sin", "cos"] {
        plain(
            &format!(
                "kernel \"k\" (b0 \"x\": read f32[320], b1 \"y\": write f32[320], b2 \"z\": write f32[8]) {{
                   r0: f32 = const 0.5
                   parallel i0 in 8 {{
                     a0: f32 = -inf
                     vector i1 in 40 {{
                       r1: f32 = load b0[40*i0 + i1]
                       reduce a0 max r1
                     }}
                     r2: f32 = read a0
                     r3: bool = gt r2, r0
                     r4: f32 = abs r2
                     r5: f32 = add r4, r0
                     r6: f32 = {function} r5
                     r7: f32 = select r3, r6, r0
                     store b2[i0] = r7
                     vector i2 in 40 {{
                       r8: f32 = load b0[40*i0 + i2]
                       r9: f32 = mul r8, r6
                       store b1[40*i0 + i2] = r9
                     }}
                   }}
                 }}"
            ),
            4.0,
        );
    }
}

/// Elements of 16 bits: adjacent ones, one for all lanes, and one by itself.
#[test]
fn halves() {
    for half in ["f16", "bf16"] {
        for n in [3, 16, 50] {
            let text = format!(
                    "kernel \"k\" (b0 \"scale\": read {half}[7], b1 \"x\": read {half}[{all}], b2 \"y\": write {half}[{all}],
                                   b3 \"roots\": write {half}[7], b4 \"z\": write f32[{all}]) {{
                       parallel i0 in 7 {{
                         r0: f32 = load b0[i0]
                         r1: f32 = abs r0
                         r2: f32 = sqrt r1
                         store b3[i0] = r2
                         vector i1 in {n} {{
                           r3: f32 = load b1[{n}*i0 + i1]
                           r4: f32 = load b0[i0]
                           r5: f32 = mul r3, r4
                           r6: f32 = round_{half} r5
                           r7: f32 = add r6, r2
                           store b2[{n}*i0 + i1] = r7
                           store b4[{n}*i0 + i1] = r6
                         }}
                       }}
                     }}",
                    all = 7 * n,
                );
            assert!(is_plain(&text, Width::Bits512) && !is_plain(&text, Width::Bits256));
            check(&text, 0.0);
        }
    }
}

#[test]
fn other_kernels_are_left_alone() {
    let refused = [
        // No vectors.
        "kernel \"k\" (b0 \"y\": write f32[4]) { r0: f32 = const 1.0 for i0 in 4 { store b0[i0] = r0 } }",
        // Not adjacent.
        "kernel \"k\" (b0 \"x\": read f32[8], b1 \"y\": write f32[4]) {
           parallelvector i0 in 4 { r0: f32 = load b0[2*i0] store b1[i0] = r0 }
         }",
        // Other numbers.
        "kernel \"k\" (b0 \"x\": read f64[8], b1 \"y\": write f64[8]) {
           parallelvector i0 in 8 { r0: f64 = load b0[i0] store b1[i0] = r0 }
         }",
        // Functions that are no single instruction.
        "kernel \"k\" (b0 \"x\": read f32[8], b1 \"y\": write f32[8]) {
           parallelvector i0 in 8 { r0: f32 = load b0[i0] r1: f32 = exp r0 store b1[i0] = r1 }
         }",
    ];
    for text in refused {
        for width in WIDTHS {
            assert!(!is_plain(text, width), "{width:?} {text}");
        }
        check(text, 8.0);
    }
    // More numbers at a time than there are registers.
    let loads: String = (0..40).map(|i| format!("r{i}: f32 = load b0[i0 + {}]\n", 16 * i)).collect();
    let stores: String = (0..40).map(|i| format!("store b1[i0 + {}] = r{i}\n", 16 * i)).collect();
    let text = format!(
        "kernel \"k\" (b0 \"x\": read f32[656], b1 \"y\": write f32[656]) {{
           parallelvector i0 in 16 {{ {loads} {stores} }}
         }}"
    );
    for width in WIDTHS {
        assert!(!is_plain(&text, width));
    }
}

/// Numbers from outside of the loops, more than there are registers: some wait on the stack while a loop runs, and all are
/// where they were at the beginning of the next iteration, and of the other body of a branch.
#[test]
fn values_that_wait_on_the_stack() {
    for numbers in [8, 12, 20, 40] {
        let loads: String = (0..numbers).map(|i| format!("r{i}: f32 = load b0[i0 + {i}]\n")).collect();
        let first = numbers + 2;
        let all: String =
            (0..numbers).map(|i| format!("r{}: f32 = mul r{}, r{i}\n", first + i + 1, first + i)).collect();
        let some: String = (0..numbers / 2)
            .map(|i| format!("r{}: f32 = add r{}, r{}\n", 200 + i + 1, 200 + i, 2 * i + 1))
            .collect();
        let sums: String =
            (0..numbers).map(|i| format!("r{}: f32 = sub r{}, r{i}\n", 300 + i + 1, 300 + i)).collect();
        let text = format!(
            "kernel \"k\" (b0 \"numbers\": read f32[64], b1 \"x\": read f32[29], b2 \"y\": write f32[87],
                           b3 \"z\": write f32[87], b4 \"sums\": write f32[3]) {{
               parallel i0 in 3 {{
                 {loads}
                 for i1 in 2 {{
                   vector i2 in 29 {{
                     r{first}: f32 = load b1[i2]
                     {all}
                     store b2[29*i0 + i2] = r{}
                   }}
                 }}
                 if i0 lt 2 {{
                   a0: f32 = 0.0
                   vector i3 in 29 {{
                     r200: f32 = load b1[i3]
                     {some}
                     reduce a0 max r{}
                     store b3[29*i0 + i3] = r{}
                   }}
                   r299: f32 = read a0
                   store b4[i0] = r299
                 }} else {{
                   r300: f32 = const 1.0
                   {sums}
                   store b4[i0] = r{}
                 }}
               }}
             }}",
            first + numbers,
            200 + numbers / 2,
            200 + numbers / 2,
            300 + numbers,
        );
        plain(&text, 0.0);
    }
}

/// A block of an operand that is read across memory, with vectors that are in registers while it is transposed.
#[test]
fn transposed_blocks() {
    for (rows, columns) in [(3, 5), (8, 16), (33, 41)] {
        let (stride, all) = (rows + 2, rows * columns);
        plain(
            &format!(
                "kernel \"k\" (b0 \"x\": read f32[{from}], b1 \"c\": read f32[3], b2 \"y\": write f32[{to}],
                               b3: local f32[{all}]) {{
                   parallel i0 in 3 {{
                     r0: f32 = load b1[i0]
                     transpose b3[{rows}, {columns}] = b0[{each}*i0 + 1] by {stride}
                     for i1 in {rows} {{
                       vector i2 in {columns} {{
                         r1: f32 = load b3[{columns}*i1 + i2]
                         r2: f32 = mul r1, r0
                         store b2[{all}*i0 + {columns}*i1 + i2] = r2
                       }}
                     }}
                   }}
                 }}",
                each = stride * columns,
                from = 3 * stride * columns,
                to = 3 * all,
            ),
            0.0,
        );
    }
}

/// Bodies of which one runs, the last one behind whole blocks.
#[test]
fn branches() {
    plain(
        "kernel \"k\" (b0 \"x\": read f32[100], b1 \"y\": write f32[100], b2 \"z\": write f32[4]) {
           r0: f32 = const 0.5
           parallel i0 in 4 {
             a0: f32 = -inf
             if i0 lt 3 {
               vector i1 in 30 {
                 r1: f32 = load b0[30*i0 + i1]
                 r2: f32 = mul r1, r0
                 reduce a0 max r2
                 store b1[30*i0 + i1] = r2
               }
             } else {
               vector i2 in 10 {
                 r3: f32 = load b0[i2 + 90]
                 reduce a0 max r3
                 store b1[i2 + 90] = r3
               }
             }
             r4: f32 = read a0
             r5: f32 = add r4, r0
             store b2[i0] = r5
           }
         }",
        0.0,
    );
}
