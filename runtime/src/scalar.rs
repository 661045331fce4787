//! Scalar functions that emitted code calls: values in, value out, C calling convention.
//!
//! Emitted code names them by symbol (`gradc_f32_tan`, ...). No function here panics.

/// Declares a module of functions of one float type, and the table of their symbols.
macro_rules! float_functions {
    ($module:ident, $float:ty, $prefix:literal,
     unary { $($name:ident = |$x:ident| $body:expr;)* }
     binary { $($name2:ident = |$a:ident, $b:ident| $body2:expr;)* }) => {
        #[doc = concat!("Functions of `", stringify!($float), "`.")]
        pub mod $module {
            use crate::special;

            $(
                #[doc = concat!("`", stringify!($name), "` of one value.")]
                #[unsafe(export_name = concat!($prefix, stringify!($name)))]
                pub extern "C" fn $name($x: $float) -> $float { $body }
            )*
            $(
                #[doc = concat!("`", stringify!($name2), "` of two values.")]
                #[unsafe(export_name = concat!($prefix, stringify!($name2)))]
                pub extern "C" fn $name2($a: $float, $b: $float) -> $float { $body2 }
            )*

            pub(super) fn symbols(all: &mut Vec<(&'static str, *const u8)>) {
                $(all.push((
                    concat!($prefix, stringify!($name)),
                    $name as extern "C" fn($float) -> $float as *const u8,
                ));)*
                $(all.push((
                    concat!($prefix, stringify!($name2)),
                    $name2 as extern "C" fn($float, $float) -> $float as *const u8,
                ));)*
            }
        }
    };
}

float_functions! {
    f32, f32, "gradc_f32_",
    unary {
        exp = |x| x.exp();
        expm1 = |x| x.exp_m1();
        log = |x| x.ln();
        log1p = |x| x.ln_1p();
        sin = |x| x.sin();
        cos = |x| x.cos();
        tan = |x| x.tan();
        asin = |x| x.asin();
        acos = |x| x.acos();
        atan = |x| x.atan();
        sinh = |x| x.sinh();
        cosh = |x| x.cosh();
        tanh = |x| x.tanh();
        asinh = |x| super::f64::asinh(f64::from(x)) as f32;
        acosh = |x| super::f64::acosh(f64::from(x)) as f32;
        atanh = |x| super::f64::atanh(f64::from(x)) as f32;
        erf = |x| special::erf(f64::from(x)) as f32;
        sigmoid = |x| special::sigmoid(f64::from(x)) as f32;
        softplus = |x| special::softplus(f64::from(x)) as f32;
    }
    binary {
        pow = |a, b| a.powf(b);
        rem = |a, b| a % b;
        atan2 = |a, b| a.atan2(b);
    }
}

float_functions! {
    f64, f64, "gradc_f64_",
    unary {
        exp = |x| x.exp();
        expm1 = |x| x.exp_m1();
        log = |x| x.ln();
        log1p = |x| x.ln_1p();
        sin = |x| x.sin();
        cos = |x| x.cos();
        tan = |x| x.tan();
        asin = |x| x.asin();
        acos = |x| x.acos();
        atan = |x| x.atan();
        sinh = |x| x.sinh();
        cosh = |x| x.cosh();
        tanh = |x| x.tanh();
        asinh = |x| special::asinh(x);
        acosh = |x| special::acosh(x);
        atanh = |x| special::atanh(x);
        erf = |x| special::erf(x);
        sigmoid = |x| special::sigmoid(x);
        softplus = |x| special::softplus(x);
    }
    binary {
        pow = |a, b| a.powf(b);
        rem = |a, b| a % b;
        atan2 = |a, b| a.atan2(b);
    }
}

/// `base` to the power of `exponent`, wrapping. For signed operands a negative exponent gives the
/// truncated quotient `1 / base.pow(-exponent)` (0 for base 0).
pub fn integer_power(base: i64, exponent: i64, signed: bool) -> i64 {
    if signed && exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut left) = (1i64, base, exponent as u64);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left >>= 1;
    }
    result
}

/// [`integer_power`] of sign-extended operands.
#[unsafe(export_name = "gradc_i64_pow")]
pub extern "C" fn signed_power(base: i64, exponent: i64) -> i64 {
    integer_power(base, exponent, true)
}

/// [`integer_power`] of zero-extended operands.
#[unsafe(export_name = "gradc_u64_pow")]
pub extern "C" fn unsigned_power(base: i64, exponent: i64) -> i64 {
    integer_power(base, exponent, false)
}

/// Every function of this module: its symbol and its address.
pub(crate) fn symbols() -> Vec<(&'static str, *const u8)> {
    let mut all = Vec::new();
    f32::symbols(&mut all);
    f64::symbols(&mut all);
    let power = signed_power as extern "C" fn(i64, i64) -> i64;
    all.push(("gradc_i64_pow", power as *const u8));
    let power = unsigned_power as extern "C" fn(i64, i64) -> i64;
    all.push(("gradc_u64_pow", power as *const u8));
    all
}
