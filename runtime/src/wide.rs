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
            vec![$(($symbol, $name as unsafe extern "C" fn(usize, *const f32, *mut f32) as *const u8)),*]
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
}
