//! Elements of constants as text, bit for bit.

use crate::{DType, Element};
use half::{bf16, f16};
use std::fmt::{self, Write};

/// Writes one element: floats as the shortest decimal that reads back as the same bits, `inf`, `nan` for the usual
/// quiet NaN; what has no decimal (other NaNs, bools that are neither 0 nor 1) as its bits in hexadecimal.
pub(super) fn write_element(out: &mut dyn Write, dtype: DType, raw: &[u8]) -> fmt::Result {
    match dtype {
        DType::F64 => {
            let value = f64::read(raw);
            write_float(out, value, value.to_bits(), f64::NAN.to_bits(), 16)
        }
        DType::F32 => {
            let value = f32::read(raw);
            match value.is_nan() {
                true => write_nan(out, value.to_bits().into(), f32::NAN.to_bits().into(), 8),
                false => write!(out, "{value:?}"),
            }
        }
        DType::F16 => {
            let value = f16::read(raw);
            write_half(out, value.to_f32(), value.to_bits(), f16::NAN.to_bits())
        }
        DType::BF16 => {
            let value = bf16::read(raw);
            write_half(out, value.to_f32(), value.to_bits(), bf16::NAN.to_bits())
        }
        DType::I64 => write!(out, "{}", i64::read(raw)),
        DType::I32 => write!(out, "{}", i32::read(raw)),
        DType::I16 => write!(out, "{}", i16::read(raw)),
        DType::I8 => write!(out, "{}", i8::read(raw)),
        DType::U64 => write!(out, "{}", u64::read(raw)),
        DType::U32 => write!(out, "{}", u32::read(raw)),
        DType::U16 => write!(out, "{}", u16::read(raw)),
        DType::U8 => write!(out, "{}", u8::read(raw)),
        DType::Bool => match raw[0] {
            0 => out.write_str("false"),
            1 => out.write_str("true"),
            other => write!(out, "{other:#04x}"),
        },
    }
}

fn write_float(out: &mut dyn Write, value: f64, bits: u64, usual: u64, digits: usize) -> fmt::Result {
    if value.is_nan() { write_nan(out, bits, usual, digits) } else { write!(out, "{value:?}") }
}

/// The value of a 16-bit float as f32, which holds it exactly.
fn write_half(out: &mut dyn Write, value: f32, bits: u16, usual: u16) -> fmt::Result {
    if value.is_nan() { write_nan(out, bits.into(), usual.into(), 4) } else { write!(out, "{value:?}") }
}

fn write_nan(out: &mut dyn Write, bits: u64, usual: u64, digits: usize) -> fmt::Result {
    if bits == usual { out.write_str("nan") } else { write!(out, "0x{bits:0digits$x}") }
}

/// Reads one element and appends its bytes; `None` where the text is no element of this type or out of its range.
///
/// `0x..` gives the bits of any type. A decimal for f16 or bf16 is read as f32 and rounded.
pub(super) fn read_element(dtype: DType, text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    if let Some(digits) = text.strip_prefix("0x") {
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let bits = u64::from_str_radix(digits, 16).ok().filter(|_| plain)?.to_le_bytes();
        let (low, high) = bits.split_at(dtype.size());
        return high.iter().all(|&byte| byte == 0).then(|| bytes.extend_from_slice(low));
    }
    match dtype {
        DType::F64 => read_float::<f64>(text, f64::INFINITY, f64::NAN, f64::is_finite)?.write(bytes),
        DType::F32 => read_f32(text)?.write(bytes),
        DType::F16 => f16::from_f32(read_f32(text)?).write(bytes),
        DType::BF16 => bf16::from_f32(read_f32(text)?).write(bytes),
        DType::I64 => read_integer::<i64>(text, bytes)?,
        DType::I32 => read_integer::<i32>(text, bytes)?,
        DType::I16 => read_integer::<i16>(text, bytes)?,
        DType::I8 => read_integer::<i8>(text, bytes)?,
        DType::U64 => read_integer::<u64>(text, bytes)?,
        DType::U32 => read_integer::<u32>(text, bytes)?,
        DType::U16 => read_integer::<u16>(text, bytes)?,
        DType::U8 => read_integer::<u8>(text, bytes)?,
        DType::Bool => match text {
            "true" => true.write(bytes),
            "false" => false.write(bytes),
            _ => return None,
        },
    }
    Some(())
}

fn read_integer<T: Element + std::str::FromStr>(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    text.parse::<T>().ok().map(|value| value.write(bytes))
}

fn read_f32(text: &str) -> Option<f32> {
    read_float(text, f32::INFINITY, f32::NAN, f32::is_finite)
}

fn read_float<T>(text: &str, infinity: T, nan: T, is_finite: impl Fn(T) -> bool) -> Option<T>
where
    T: Copy + std::str::FromStr + std::ops::Neg<Output = T>,
{
    match text {
        "inf" => Some(infinity),
        "-inf" => Some(-infinity),
        "nan" => Some(nan),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            text.parse().ok().filter(|&value| is_finite(value))
        }
        _ => None,
    }
}
