//! Sorting of lines, without allocation.

use half::{bf16, f16};
use std::cmp::Ordering;

/// How the bytes of an element are compared. The numbers are what compiled code names them by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SortKey {
    /// Floats of 64 bits.
    F64,
    /// Floats of 32 bits.
    F32,
    /// IEEE floats of 16 bits.
    F16,
    /// The upper halves of 32-bit floats.
    BF16,
    /// Signed integers.
    I64,
    /// Signed integers.
    I32,
    /// Signed integers.
    I16,
    /// Signed integers.
    I8,
    /// Unsigned integers.
    U64,
    /// Unsigned integers.
    U32,
    /// Unsigned integers.
    U16,
    /// Unsigned integers; bools too.
    U8,
}

impl SortKey {
    /// All keys, at the positions of their numbers.
    pub const ALL: [SortKey; 12] = [
        SortKey::F64,
        SortKey::F32,
        SortKey::F16,
        SortKey::BF16,
        SortKey::I64,
        SortKey::I32,
        SortKey::I16,
        SortKey::I8,
        SortKey::U64,
        SortKey::U32,
        SortKey::U16,
        SortKey::U8,
    ];

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            SortKey::F64 | SortKey::I64 | SortKey::U64 => 8,
            SortKey::F32 | SortKey::I32 | SortKey::U32 => 4,
            SortKey::F16 | SortKey::BF16 | SortKey::I16 | SortKey::U16 => 2,
            SortKey::I8 | SortKey::U8 => 1,
        }
    }
}

/// Writes, for each line of `length` elements, the positions that sort it: NaN after all numbers (before them when
/// descending), equal elements in the order of their positions.
pub(crate) fn lines(key: SortKey, length: usize, descending: bool, from: &[u8], to: &mut [i64]) {
    match key {
        SortKey::F64 => by(length, descending, from, to, f64::from_ne_bytes, float),
        SortKey::F32 => by(length, descending, from, to, f32::from_ne_bytes, float),
        SortKey::F16 => by(length, descending, from, to, f16::from_ne_bytes, float),
        SortKey::BF16 => by(length, descending, from, to, bf16::from_ne_bytes, float),
        SortKey::I64 => by(length, descending, from, to, i64::from_ne_bytes, i64::cmp),
        SortKey::I32 => by(length, descending, from, to, i32::from_ne_bytes, i32::cmp),
        SortKey::I16 => by(length, descending, from, to, i16::from_ne_bytes, i16::cmp),
        SortKey::I8 => by(length, descending, from, to, i8::from_ne_bytes, i8::cmp),
        SortKey::U64 => by(length, descending, from, to, u64::from_ne_bytes, u64::cmp),
        SortKey::U32 => by(length, descending, from, to, u32::from_ne_bytes, u32::cmp),
        SortKey::U16 => by(length, descending, from, to, u16::from_ne_bytes, u16::cmp),
        SortKey::U8 => by(length, descending, from, to, u8::from_ne_bytes, u8::cmp),
    }
}

fn by<const SIZE: usize, T>(
    length: usize,
    descending: bool,
    from: &[u8],
    to: &mut [i64],
    read: impl Fn([u8; SIZE]) -> T,
    compare: impl Fn(&T, &T) -> Ordering,
) {
    if length == 0 {
        return;
    }
    let (elements, _) = from.as_chunks::<SIZE>();
    for (line, positions) in elements.chunks_exact(length).zip(to.chunks_exact_mut(length)) {
        positions.iter_mut().zip(0..).for_each(|(slot, position)| *slot = position);
        // Positions break ties, which makes the sort stable without the memory that a stable sort takes.
        positions.sort_unstable_by(|&a, &b| {
            let order = compare(&read(line[a as usize]), &read(line[b as usize]));
            (if descending { order.reverse() } else { order }).then(a.cmp(&b))
        });
    }
}

/// Numbers in order, then NaN.
fn float<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    // Only NaN differs from itself.
    #[allow(clippy::eq_op)]
    let is_nan = |x: &T| x != x;
    a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}
