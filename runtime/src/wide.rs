//! Elementary functions of whole slices, as wide as the processor runs them: `gradc_kernels::WidePointer`.

use gradc_kernels::WideFunction;

macro_rules! wide_functions {
    ($($name:ident = $function:ident, $symbol:literal;)*) => {
        $(
            #[doc = concat!("The function ", stringify!($name), " of `n` numbers at `x`, to `y`.")]
            ///
            /// # Safety
            /// Both must be valid for `n` elements, and be the same or not overlap.
            #[unsafe(export_name = $symbol)]
            pub unsafe extern "C" fn $name(n: usize, x: *const f32, y: *mut f32) {
                // SAFETY: the caller's promise; the pointer is for this processor.
                unsafe { WideFunction::$function.pointer()(n, x, y) }
            }
        )*

        /// Every function of this module: its symbol and its address.
        pub(crate) fn symbols() -> Vec<(&'static str, *const u8)> {
            let mut all = vec![("gradc_transpose_f32", transpose_f32 as *const u8)];
            $(all.push(($symbol, $name as unsafe extern "C" fn(usize, *const f32, *mut f32) as *const u8));)*
            all
        }
    };
}

wide_functions! {
    exp = Exp, "gradc_wide_exp";
    log = Log, "gradc_wide_log";
    tanh = Tanh, "gradc_wide_tanh";
    erf = Erf, "gradc_wide_erf";
    sigmoid = Sigmoid, "gradc_wide_sigmoid";
    sin = Sin, "gradc_wide_sin";
    cos = Cos, "gradc_wide_cos";
    softplus = Softplus, "gradc_wide_softplus";
    atan = Atan, "gradc_wide_atan";
}

/// `to[columns r + c] = from[r + stride c]` for `r` in `0..rows` and `c` in `0..columns`.
///
/// # Safety
/// Both must be valid for the elements named, which must not overlap.
#[unsafe(export_name = "gradc_transpose_f32")]
pub unsafe extern "C" fn transpose_f32(
    from: *const f32,
    stride: usize,
    to: *mut f32,
    rows: usize,
    columns: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { gradc_kernels::transpose_f32(from, stride, to, rows, columns) }
}
