//! How a product is computed: decided from its shape and strides alone.

use std::ops::{Range, RangeInclusive};

use super::block::{PackA, Reading, scratch_elements};
use super::bytes::rows_elements;
use super::transposed::{COLUMNS as TRANSPOSED_COLUMNS, common_elements, own_elements};
use super::{Gemm, PackedOperand};

/// B is read in place up to this size.
const IN_PLACE_BYTES: usize = 64 << 10;
/// B is read in place, whatever its size, if there are no more rows than this.
const IN_PLACE_ROWS: usize = 8;
/// Rows up to which dot products with the columns of B, where those are adjacent, cost less than packing B.
const DOT_ROWS: usize = 16;
/// Rows of products that are computed as transposes: fewer leave lanes idle, more are worth packing B.
const TRANSPOSED_ROWS: RangeInclusive<usize> = 15..=128;
/// The shortest sums of these.
const TRANSPOSED_K: usize = 32;
/// B is streamed by few rows if it is larger than this.
const STREAMED_BYTES: usize = 768 << 10;
/// Columns of A at multiples of so many bytes share few places in the second-level cache...
const CONFLICTING_STRIDE: usize = 2048;
/// ...too few for so many columns.
const CONFLICTING_K: usize = 128;
/// Such columns of A, and any of f64, are worth packing where they are as long as this, and rows of B have so many bytes, so that many panels
/// read them.
const PACKED_K: usize = 385;
const PACKED_ROW_BYTES: usize = 4096;
/// Multiplications worth a thread of their own.
const CHUNK_WORK: usize = 200_000;

/// The method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Dot products; A, or B, or neither is copied first to be adjacent along k.
    Dots { copy_a: bool, copy_b: bool },
    /// Tiles.
    Tiles { pack_a: PackA, reading: Reading },
    /// With a right operand of bytes: in integers, or by tiles.
    Bytes { pack_a: PackA },
    /// The transpose of a single product, by tiles.
    Transposed,
}

/// Method and division of the work.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub method: Method,
    /// Parts of the batch, the rows and the columns.
    pub parts: [usize; 3],
    /// Whether B comes from far away.
    pub streams: bool,
    /// Elements of scratch memory in common.
    pub common: usize,
    /// Elements of scratch memory for each worker.
    pub own: usize,
}

impl Plan {
    pub fn new<T>(gemm: &Gemm, threads: usize) -> Plan {
        let method = method::<T>(gemm);
        let (common, own) = match method {
            Method::Dots { copy_a, copy_b } => {
                (gemm.k * (if copy_a { gemm.m } else { 0 } + if copy_b { gemm.n } else { 0 }), 0)
            }
            Method::Transposed => {
                (common_elements::<T>(gemm.m, gemm.k), own_elements::<T>(gemm.m).next_multiple_of(64))
            }
            Method::Tiles { pack_a, reading } => {
                (0, scratch_elements::<T>(gemm.m, gemm.k, pack_a, reading).next_multiple_of(64))
            }
            Method::Bytes { pack_a } => {
                let own = scratch_elements::<T>(gemm.m, gemm.k, pack_a, Reading::Packed);
                (rows_elements::<T>(gemm), own.next_multiple_of(64))
            }
        };
        let streams = !gemm.b_packed.is_packed() && gemm.k * gemm.n * size_of::<T>() > STREAMED_BYTES;
        Plan {
            method,
            streams,
            parts: parts(gemm, method, threads),
            common: common.next_multiple_of(64),
            own,
        }
    }

    /// Bytes of scratch memory, with room for alignment.
    pub fn scratch_bytes<T>(&self, threads: usize) -> usize {
        match (self.common + self.own * threads) * size_of::<T>() {
            0 => 0,
            bytes => bytes + 64,
        }
    }
}

fn method<T>(gemm: &Gemm) -> Method {
    let scattered = gemm.a_strides[1] != 1 && gemm.a_strides[2] != 1;
    let stride = gemm.a_strides[2].unsigned_abs() * size_of::<T>();
    let conflicts = stride >= CONFLICTING_STRIDE && stride.is_multiple_of(CONFLICTING_STRIDE);
    let row = gemm.n * size_of::<T>();
    // Lines hold fewer of wide numbers, so there are more to wait for.
    let pays = conflicts || size_of::<T>() == 8;
    let is_across = gemm.a_strides[1] == 1 && gemm.a_strides[2] != 1;
    let pack_a = match gemm.m > 1 && gemm.n > 96 {
        true if scattered => PackA::Always,
        true if is_across && pays && gemm.k >= PACKED_K && row >= PACKED_ROW_BYTES => PackA::Always,
        true if is_across && conflicts && gemm.k >= CONFLICTING_K => PackA::ForNarrowPanels,
        _ => PackA::Never,
    };
    match gemm.b_packed {
        PackedOperand::No => {}
        PackedOperand::Panels => {
            let few = gemm.m <= IN_PLACE_ROWS;
            let reading = if few { Reading::InPlace } else { Reading::CopiedIfNarrow };
            return Method::Tiles { pack_a, reading };
        }
        PackedOperand::Bytes => return Method::Bytes { pack_a },
    }
    let (a_adjacent, b_adjacent) = (gemm.a_strides[2] == 1, gemm.b_strides[1] == 1 || gemm.k == 1);
    let is_transposed = gemm.batch == 1 && b_adjacent && gemm.b_strides[2] != 1;
    let has_few_rows = TRANSPOSED_ROWS.contains(&gemm.m) && gemm.n >= 2 * gemm.m;
    if is_transposed && has_few_rows && gemm.k >= TRANSPOSED_K {
        return Method::Transposed;
    }
    if gemm.batch == 1 || (a_adjacent && b_adjacent) {
        let few_rows = gemm.m <= DOT_ROWS && b_adjacent && gemm.b_strides[2] != 1;
        let few_columns = a_adjacent && (gemm.n == 1 || gemm.n <= 4 && gemm.k >= 16);
        if few_rows || few_columns {
            return Method::Dots { copy_a: few_rows && !a_adjacent, copy_b: !few_rows && !b_adjacent };
        }
    }
    let reading = if gemm.b_strides[2] != 1 && gemm.n > 1 {
        Reading::Packed
    } else if gemm.m <= IN_PLACE_ROWS {
        Reading::InPlaceByFew
    } else if gemm.k * gemm.n * size_of::<T>() <= IN_PLACE_BYTES {
        Reading::InPlace
    } else {
        Reading::CopiedOnTheWay
    };
    Method::Tiles { pack_a, reading }
}

fn parts(gemm: &Gemm, method: Method, threads: usize) -> [usize; 3] {
    let work = gemm.batch.saturating_mul(gemm.m).saturating_mul(gemm.n).saturating_mul(gemm.k);
    let wanted = (work / CHUNK_WORK).clamp(1, 4 * threads);
    if threads == 1 || wanted == 1 {
        return [1, 1, 1];
    }
    // As many for each thread.
    let wanted = if wanted > threads { wanted / threads * threads } else { wanted };
    if gemm.batch >= wanted {
        return [wanted, 1, 1];
    }
    let each = wanted.div_ceil(gemm.batch);
    let tall = match method {
        // All rows are one panel or few.
        Method::Transposed => return [1, 1, wanted.min(gemm.n.div_ceil(TRANSPOSED_COLUMNS))],
        Method::Dots { .. } => 1,
        Method::Tiles { reading: Reading::Packed, .. } => 128,
        Method::Tiles { .. } | Method::Bytes { .. } => 32,
    };
    let rows = each.min(gemm.m / tall).max(1);
    let columns = each.div_ceil(rows).min(gemm.n.div_ceil(64)).max(1);
    let rows = each.div_ceil(columns).min(gemm.m.div_ceil(8)).max(rows);
    [gemm.batch, rows, columns]
}

/// Part `index` of `parts` of `0..total`, beginning and ending at multiples of `unit`. The longer ones come first: what is
/// left at the end, for threads that wait, is short.
pub(crate) fn part_of(total: usize, parts: usize, index: usize, unit: usize) -> Range<usize> {
    let units = total.div_ceil(unit);
    let bound = |index: usize| ((units / parts * index + index.min(units % parts)) * unit).min(total);
    bound(index)..bound(index + 1)
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn parts_cover_everything_and_the_longer_come_first() {
        for (total, parts, unit) in
            [(512, 4, 48), (256, 4, 48), (100, 3, 1), (7, 5, 8), (64, 8, 8), (0, 2, 1)]
        {
            let all: Vec<_> = (0..parts).map(|index| part_of(total, parts, index, unit)).collect();
            assert!(all[0].start == 0 && all[parts - 1].end == total, "{all:?}");
            for pair in all.windows(2) {
                assert!(pair[0].end == pair[1].start && pair[0].len() >= pair[1].len(), "{all:?}");
            }
        }
    }
}
