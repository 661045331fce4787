//! Nanoseconds per element of emitted kernels, on data that stays in the caches.
//!
//! Run with `cargo run --release -p gradc-codegen --example loop_throughput`.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, default_libcall_names};
use gradc_codegen::emit::{IsaOptions, define_kernel, host_isa, register_runtime};
use gradc_codegen::loops::{Kernel, parse_kernel};

const ELEMENTS: usize = 8192;

fn elementwise(body: &str, result: &str) -> String {
    format!(
        "kernel \"elementwise\" (b0: read f32[{ELEMENTS}], b1: read f32[{ELEMENTS}], b2: write f32[{ELEMENTS}]) {{
           parallelvector i0 in {ELEMENTS} {{ r0: f32 = load b0[i0] {body} store b2[i0] = {result} }}
         }}"
    )
}

/// Half-and-half GELU and its derivative, as a graph compiler writes them.
const GELU: &str = "r1: f32 = const 0.70710677 r2: f32 = mul r0, r1 r3: f32 = erf r2 r4: f32 = const 1.0
  r5: f32 = add r3, r4 r6: f32 = const 0.5 r7: f32 = mul r0, r6 r8: f32 = mul r7, r5";
const GELU_GRADIENT: &str =
    "r9: f32 = mul r0, r0 r10: f32 = const -0.5 r11: f32 = mul r9, r10 r12: f32 = exp r11
  r13: f32 = const 0.3989423 r14: f32 = mul r12, r13 r15: f32 = mul r14, r0 r16: f32 = mul r5, r6
  r17: f32 = add r15, r16 r18: f32 = load b1[i0] r19: f32 = mul r17, r18";

fn cases() -> Vec<(&'static str, String)> {
    let unary = |op: &str| elementwise(&format!("r1: f32 = {op} r0"), "r1");
    let mut cases = vec![("copy", elementwise("", "r0"))];
    let multiply = "r1: f32 = load b1[i0] r2: f32 = mul r0, r1 r3: f32 = const 0.0 r4: f32 = max r2, r3";
    cases.push(("relu(x * w)", elementwise(multiply, "r4")));
    for op in ["exp", "log", "expm1", "log1p", "tanh", "erf", "sigmoid", "softplus", "sin", "cos", "tan"] {
        cases.push((op, unary(op)));
    }
    cases.push(("pow", elementwise("r1: f32 = load b1[i0] r2: f32 = abs r0 r3: f32 = pow r2, r1", "r3")));
    cases.push(("gelu", elementwise(GELU, "r8")));
    cases.push(("gelu gradient", elementwise(&format!("{GELU} {GELU_GRADIENT}"), "r19")));
    let reduction = |op: &str, scalar: &str| {
        format!(
            "kernel \"reduce\" (b0: read {scalar}[{ELEMENTS}], b1: read f32[1], b2: write {scalar}[1]) {{
               a0: {scalar} = 0.0
               vector i0 in {ELEMENTS} {{ r0: {scalar} = load b0[i0] reduce a0 {op} r0 }}
               r1: {scalar} = read a0 store b2[0] = r1
             }}"
        )
    };
    cases.push(("sum of a row", reduction("sum", "f32")));
    cases.push(("maximum of a row", reduction("max", "f32")));
    cases.push(("sum of a row, f64", reduction("sum", "f64")));
    cases.push((
        "sum of columns (64 x 128)",
        "kernel \"columns\" (b0: read f32[8192], b1: read f32[1], b2: write f32[128]) {
           vector i0 in 128 {
             a0: f32 = 0.0
             for i1 in 64 { r0: f32 = load b0[128*i1 + i0] reduce a0 sum r0 }
             r1: f32 = read a0 store b2[i0] = r1
           }
         }"
        .into(),
    ));
    cases.push((
        "softmax (64 rows of 128)",
        "kernel \"softmax\" (b0: read f32[8192], b1: read f32[1], b2: readwrite f32[8192]) {
           parallel i0 in 64 {
             a0: f32 = -inf
             vector i1 in 128 { r0: f32 = load b0[128*i0 + i1] reduce a0 max r0 }
             r1: f32 = read a0
             a1: f32 = 0.0
             vector i1 in 128 {
               r2: f32 = load b0[128*i0 + i1] r3: f32 = sub r2, r1 r4: f32 = exp r3
               store b2[128*i0 + i1] = r4 reduce a1 sum r4
             }
             r5: f32 = read a1
             r6: f32 = const 1.0
             r7: f32 = div r6, r5
             vector i1 in 128 {
               r8: f32 = load b2[128*i0 + i1] r9: f32 = mul r8, r7 store b2[128*i0 + i1] = r9
             }
           }
         }"
        .into(),
    ));
    cases.push((
        "transpose (64 x 128)",
        "kernel \"transpose\" (b0: read f32[8192], b1: read f32[1], b2: write f32[8192]) {
           for i0 in 128 { vector i1 in 64 { r0: f32 = load b0[128*i1 + i0] store b2[64*i0 + i1] = r0 } }
         }"
        .into(),
    ));
    cases.push((
        "3x3 maximum with padding (2 x 64 x 64)",
        "kernel \"pool\" (b0: read f32[8192], b1: read f32[1], b2: write f32[8192]) {
           for i0 in 2 { for i1 in 64 { vector i2 in 64 {
             a0: f32 = -inf
             for i3 in 3 { if i1 + i3 - 1 ge 0, i1 + i3 lt 65 { for i4 in 3 {
               if i2 + i4 - 1 ge 0, i2 + i4 lt 65 {
                 r0: f32 = load b0[4096*i0 + 64*i1 + 64*i3 + i2 + i4 - 65] reduce a0 max r0
               } } } }
             r1: f32 = read a0 store b2[4096*i0 + 64*i1 + i2] = r1
           } } }
         }"
        .into(),
    ));
    cases.push(("f16 to f16", elementwise("", "r0").replace("f32[", "f16[")));
    cases
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = JITBuilder::with_isa(host_isa(IsaOptions::jit())?, default_libcall_names());
    register_runtime(&mut builder);
    let mut module = JITModule::new(builder);
    let mut functions = Vec::new();
    let start = Instant::now();
    for (number, (name, text)) in cases().into_iter().enumerate() {
        let kernel: Kernel = parse_kernel(&text)?;
        let id = define_kernel(&mut module, &kernel, &format!("kernel_{number}"), Linkage::Local)?;
        functions.push((name, id, kernel));
    }
    module.finalize_definitions()?;
    println!("{} kernels compiled in {:.1} ms", functions.len(), start.elapsed().as_secs_f64() * 1e3);
    for (name, id, kernel) in functions {
        let address = module.get_finalized_function(id);
        // Emitted by `define_kernel`, so of this type; the module lives until the end of `main`.
        let function = unsafe {
            std::mem::transmute::<*const u8, extern "C" fn(*const *mut u8, i64, i64) -> i64>(address)
        };
        let x: Vec<f64> = (0..ELEMENTS).map(|k| (k % 1000) as f64 / 100.0 - 5.0).collect();
        let mut x: Vec<f32> = x.into_iter().map(|x| x as f32).collect();
        x.extend(vec![0.5; ELEMENTS]);
        let mut w = vec![0.7f32; ELEMENTS];
        let mut y = vec![0f32; 2 * ELEMENTS];
        let table = [x.as_mut_ptr().cast::<u8>(), w.as_mut_ptr().cast(), y.as_mut_ptr().cast()];
        let extent = kernel.parallel_extent().unwrap_or(0) as i64;
        let mut best = f64::INFINITY;
        for _ in 0..60 {
            let start = Instant::now();
            for _ in 0..4 {
                black_box(function(black_box(table.as_ptr()), 0, extent));
            }
            best = best.min(start.elapsed().as_secs_f64() / 4.0);
        }
        println!("{name:40} {:7.3} ns per element", best * 1e9 / ELEMENTS as f64);
    }
    Ok(())
}
