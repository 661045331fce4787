//! Sorting of lines, without allocation.

use half::{bf16, f16};

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

/// Bytes of memory that sorting lines of `length` elements takes: a word for each element of a line.
pub fn sort_scratch_bytes(key: SortKey, length: usize) -> usize {
    length.saturating_mul(if is_small(key, length) { size_of::<u64>() } else { size_of::<u128>() })
}

/// Whether an element's place in the order and its position fit into 32 bits each.
fn is_small(key: SortKey, length: usize) -> bool {
    key.size() <= 4 && u32::try_from(length).is_ok()
}

/// What is sorted.
#[derive(Clone, Copy)]
pub(crate) struct Lines {
    /// How elements are compared.
    pub key: SortKey,
    /// Elements of a line.
    pub length: usize,
    /// Positions that are wanted of each line.
    pub count: usize,
    /// Greatest first.
    pub descending: bool,
}

impl Lines {
    /// Writes, for each line of `length` elements, the first `count` of the positions that sort it: NaN after all
    /// numbers (before them when descending), equal elements in the order of their positions.
    pub(crate) fn sort(self, from: &[u8], scratch: &mut [u128], to: &mut [i64]) {
        match self.key {
            SortKey::F64 => self.large(from, scratch, to, |x| of_f64(f64::from_ne_bytes(x))),
            SortKey::F32 => self.small(from, scratch, to, |x| of_f32(f32::from_ne_bytes(x))),
            SortKey::F16 => self.small(from, scratch, to, |x| of_f32(f16::from_ne_bytes(x).to_f32())),
            SortKey::BF16 => self.small(from, scratch, to, |x| of_f32(bf16::from_ne_bytes(x).to_f32())),
            SortKey::I64 => self.large(from, scratch, to, |x| i64::from_ne_bytes(x) as u64 ^ 1 << 63),
            SortKey::I32 => self.small(from, scratch, to, |x| of_i32(i32::from_ne_bytes(x))),
            SortKey::I16 => self.small(from, scratch, to, |x| of_i32(i16::from_ne_bytes(x).into())),
            SortKey::I8 => self.small(from, scratch, to, |x| of_i32(i8::from_ne_bytes(x).into())),
            SortKey::U64 => self.large(from, scratch, to, u64::from_ne_bytes),
            SortKey::U32 => self.small(from, scratch, to, u32::from_ne_bytes),
            SortKey::U16 => self.small(from, scratch, to, |x| u16::from_ne_bytes(x).into()),
            SortKey::U8 => self.small(from, scratch, to, |x| u8::from_ne_bytes(x).into()),
        }
    }

    /// Elements of at most 32 bits.
    fn small<const SIZE: usize>(
        self,
        from: &[u8],
        scratch: &mut [u128],
        to: &mut [i64],
        order: impl Fn([u8; SIZE]) -> u32,
    ) {
        if !is_small(self.key, self.length) {
            return self.large(from, scratch, to, |x| order(x).into());
        }
        let turn = if self.descending { u32::MAX } else { 0 };
        // SAFETY: any bits are two words of 64 bits.
        let (_, words, _) = unsafe { scratch.align_to_mut::<u64>() };
        let word = |x, at: usize| u64::from(order(x) ^ turn) << 32 | at as u64;
        self.by(from, words, to, word, |word| (word & u64::from(u32::MAX)) as i64);
    }

    fn large<const SIZE: usize>(
        self,
        from: &[u8],
        scratch: &mut [u128],
        to: &mut [i64],
        order: impl Fn([u8; SIZE]) -> u64,
    ) {
        let turn = if self.descending { u64::MAX } else { 0 };
        let word = |x, at: usize| u128::from(order(x) ^ turn) << 64 | at as u128;
        self.by(from, scratch, to, word, |word| word as i64);
    }

    /// Sorts words that hold an element's place in the order above its position: no two are equal, so that the fastest
    /// sort is a stable one.
    fn by<const SIZE: usize, W: Ord + Copy>(
        self,
        from: &[u8],
        words: &mut [W],
        to: &mut [i64],
        word: impl Fn([u8; SIZE], usize) -> W,
        position: impl Fn(W) -> i64,
    ) {
        let Lines { length, count, .. } = self;
        if length == 0 || count == 0 {
            return;
        }
        let (elements, _) = from.as_chunks::<SIZE>();
        let words = &mut words[..length];
        for (line, positions) in elements.chunks_exact(length).zip(to.chunks_exact_mut(count)) {
            for (at, (slot, element)) in words.iter_mut().zip(line).enumerate() {
                *slot = word(*element, at);
            }
            if count < length {
                words.select_nth_unstable(count - 1);
            }
            words[..count].sort_unstable();
            for (slot, word) in positions.iter_mut().zip(&*words) {
                *slot = position(*word);
            }
        }
    }
}

/// A number that grows with `x`; the same for both zeros, and for each NaN, which comes last.
fn of_f32(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    if x.is_nan() { u32::MAX } else { ordered }
}

/// The same of 64 bits.
fn of_f64(x: f64) -> u64 {
    let bits = (x + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    if x.is_nan() { u64::MAX } else { ordered }
}

fn of_i32(x: i32) -> u32 {
    x as u32 ^ 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `count` positions by a stable sort.
    fn stable<T: PartialOrd>(line: &[T], count: usize, descending: bool) -> Vec<i64> {
        #[allow(clippy::eq_op)]
        let is_nan = |x: &T| x != x;
        let mut positions: Vec<i64> = (0..).take(line.len()).collect();
        positions.sort_by(|&a, &b| {
            let (a, b) = (&line[a as usize], &line[b as usize]);
            let order = a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)));
            if descending { order.reverse() } else { order }
        });
        positions.truncate(count);
        positions
    }

    fn check<T: PartialOrd + Copy>(key: SortKey, line: &[T]) {
        // SAFETY: numbers without padding are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(line.as_ptr().cast(), size_of_val(line)) };
        let length = line.len();
        let mut scratch = vec![0u128; sort_scratch_bytes(key, length).div_ceil(16)];
        for descending in [false, true] {
            for count in [0, 1, 3, length - 1, length] {
                let mut own = vec![-1; count];
                Lines { key, length, count, descending }.sort(bytes, &mut scratch, &mut own);
                assert_eq!(own, stable(line, count, descending), "{key:?} {count} {descending}");
            }
        }
    }

    /// Few different values, so that there are ties, and the values that are easily put in the wrong place.
    #[test]
    fn the_first_positions_are_those_of_a_stable_sort() {
        let floats =
            [1.0, -0.0, f64::NAN, 0.0, -1.0, f64::INFINITY, -f64::NAN, 1e-310, f64::NEG_INFINITY, 1.0, 2.5];
        let floats: Vec<f64> = floats.iter().cycle().copied().take(40).collect();
        check(SortKey::F64, &floats);
        check(SortKey::F32, &floats.iter().map(|&x| x as f32).collect::<Vec<_>>());
        check(SortKey::F16, &floats.iter().map(|&x| f16::from_f64(x)).collect::<Vec<_>>());
        check(SortKey::BF16, &floats.iter().map(|&x| bf16::from_f64(x)).collect::<Vec<_>>());
        let bits: Vec<u64> = (0..40u64).map(|at| (at % 7).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        check(SortKey::I64, &bits.iter().map(|&x| x as i64).collect::<Vec<_>>());
        check(SortKey::I32, &bits.iter().map(|&x| x as i32).collect::<Vec<_>>());
        check(SortKey::I16, &bits.iter().map(|&x| x as i16).collect::<Vec<_>>());
        check(SortKey::I8, &bits.iter().map(|&x| x as i8).collect::<Vec<_>>());
        check(SortKey::U64, &bits);
        check(SortKey::U32, &bits.iter().map(|&x| x as u32).collect::<Vec<_>>());
        check(SortKey::U16, &bits.iter().map(|&x| x as u16).collect::<Vec<_>>());
        check(SortKey::U8, &bits.iter().map(|&x| x as u8).collect::<Vec<_>>());
    }
}
