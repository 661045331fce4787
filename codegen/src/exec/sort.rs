//! Sorting of lines, without allocation.

use gradc_ir::{DType, Element};
use half::{bf16, f16};
use std::cmp::Ordering;

/// Writes, for each line of `length` elements, the positions that sort it; see [`gradc_ir::Op::ArgSort`].
pub(super) fn lines(dtype: DType, length: usize, descending: bool, from: &[u8], to: &mut [i64]) {
    match dtype {
        DType::F64 => by(length, descending, from, to, |a: &f64, b| float(*a, *b)),
        DType::F32 => by(length, descending, from, to, |a: &f32, b| float(f64::from(*a), f64::from(*b))),
        DType::F16 => by(length, descending, from, to, |a: &f16, b| float(a.to_f64(), b.to_f64())),
        DType::BF16 => by(length, descending, from, to, |a: &bf16, b| float(a.to_f64(), b.to_f64())),
        DType::I64 => by(length, descending, from, to, i64::cmp),
        DType::I32 => by(length, descending, from, to, i32::cmp),
        DType::I16 => by(length, descending, from, to, i16::cmp),
        DType::I8 => by(length, descending, from, to, i8::cmp),
        DType::U64 => by(length, descending, from, to, u64::cmp),
        DType::U32 => by(length, descending, from, to, u32::cmp),
        DType::U16 => by(length, descending, from, to, u16::cmp),
        DType::U8 => by(length, descending, from, to, u8::cmp),
        DType::Bool => by(length, descending, from, to, bool::cmp),
    }
}

fn by<T: Element>(
    length: usize,
    descending: bool,
    from: &[u8],
    to: &mut [i64],
    compare: impl Fn(&T, &T) -> Ordering,
) {
    let size = T::DTYPE.size();
    for (line, positions) in from.chunks_exact(length * size).zip(to.chunks_exact_mut(length)) {
        let element = |position: i64| T::read(&line[position as usize * size..][..size]);
        positions.iter_mut().zip(0..).for_each(|(slot, position)| *slot = position);
        // Positions break ties, which makes the sort stable without the memory that a stable sort takes.
        positions.sort_unstable_by(|&a, &b| {
            let order = compare(&element(a), &element(b));
            (if descending { order.reverse() } else { order }).then(a.cmp(&b))
        });
    }
}

/// Numbers in order, then NaN.
fn float(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
