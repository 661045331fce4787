//! Batched matrix products.

pub(crate) mod block;
mod bytes;
mod dots;
pub(crate) mod finish;
pub(crate) mod pack;
mod packed;
mod plan;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod transposed;

use std::ops::Range;

use crate::element::Shared;
use crate::{Element, Team, Tier};
use block::{Block, PackA, Reading};
use bytes::Bytes;
pub(crate) use bytes::has_byte_products;
#[cfg(target_arch = "x86_64")]
pub(crate) use bytes::{mask, range_of_row};
use dots::Dots;
pub use finish::Finish;
use pack::{Panels, Strided};
use packed::Packed;
pub(crate) use plan::part_of;
use plan::{Method, Plan};

/// What runs on a finished tile of the result: see [`Epilogue`].
pub type EpilogueFunction<T> = unsafe extern "C" fn(
    tile: *mut T,
    row_stride: usize,
    rows: usize,
    columns: usize,
    batch: usize,
    row0: usize,
    column0: usize,
    environment: *const *mut u8,
);

/// A function called once for every element of the result, tile by tile, as soon as the tile is final.
///
/// `tile` points at element (`batch`, `row0`, `column0`) of the result; rows are `row_stride` elements apart and
/// columns are adjacent. The tiles of one run cover the result without overlap, in no particular order, from
/// several threads at once; their shapes are unspecified. The function may change the tile, and nothing else of
/// the result.
#[derive(Clone, Copy)]
pub struct Epilogue<T> {
    /// The function; it must not unwind.
    pub function: EpilogueFunction<T>,
    /// Passed on to the function.
    pub environment: *const *mut u8,
    /// The same in other words, where that is possible: kernels call the function or do this, on each element one of
    /// the two.
    pub finish: Option<Finish<T>>,
}

// SAFETY: the environment is only passed on; whoever provides the function vouches for calls from any thread.
unsafe impl<T> Send for Epilogue<T> {}
unsafe impl<T> Sync for Epilogue<T> {}

/// Whether the operand that never changes, the right one of a product or the weights of a convolution, was laid out for the
/// kernels beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PackedOperand {
    /// It was not.
    No = 0,
    /// By [`Gemm::pack`], or [`crate::Packing::pack`].
    Panels = 1,
    /// By [`Gemm::pack_bytes`], or [`crate::Conv::pack_bytes`].
    Bytes = 2,
}

impl PackedOperand {
    /// The variant of this number; of others, the last.
    pub fn of(number: i64) -> PackedOperand {
        match number {
            0 => PackedOperand::No,
            1 => PackedOperand::Panels,
            _ => PackedOperand::Bytes,
        }
    }

    /// Whether it was.
    pub fn is_packed(self) -> bool {
        self != PackedOperand::No
    }
}

/// `batch` products C = A B, or C += A B, of an `m` x `k` by a `k` x `n` matrix each. Strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gemm {
    /// The number of products.
    pub batch: usize,
    /// How many products follow each other at the batch strides, before the next group of as many; divides `batch`.
    pub group: usize,
    /// From the first A, and the first B, of a group to those of the next.
    pub group_strides: [isize; 2],
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A and rows of B. With 0, C becomes zero, or stays as it is when accumulating.
    pub k: usize,
    /// Strides of A: batch, row, column; any values, 0 included.
    pub a_strides: [isize; 3],
    /// Strides of B: batch, row, column; any values, 0 included.
    pub b_strides: [isize; 3],
    /// From one C to the next. The Cs must not overlap.
    pub c_batch_stride: usize,
    /// From one row of C to the next; columns are adjacent.
    pub c_row_stride: usize,
    /// Whether to add to C instead of overwriting it.
    pub accumulate: bool,
    /// Whether B, one for all products, was packed; its strides then mean nothing.
    pub b_packed: PackedOperand,
}

impl Gemm {
    /// The bytes of scratch memory that [`Gemm::run`] needs with a team of at most `threads` threads.
    pub fn scratch_bytes<T: Element>(&self, threads: usize) -> usize {
        let threads = threads.max(1);
        let bytes = |problem: Gemm| Plan::new::<T>(&problem, threads).scratch_bytes::<T>(threads);
        bytes(*self).max(bytes(self.reduced().0))
    }

    /// Computes the products with the current [`Tier`].
    ///
    /// `bias`, if not null, has a number for each column of C, which is added to all its rows before the epilogue.
    ///
    /// Without an epilogue, [`Gemm::reduced`] is what runs; with one, the problem as it is, since the epilogue counts
    /// its rows and columns, and so where the bias is of a single column, which would become a row.
    ///
    /// # Safety
    /// `a`, `b` and `c` must be valid for all elements that the sizes and strides reach (`a` and `b` for
    /// reading), `bias`, where not null, for `n` elements, `c` must not overlap them, `scratch` must be valid for
    /// [`Gemm::scratch_bytes`] bytes for `team.threads()` threads (any alignment) and be used by nobody else during the
    /// call, and the epilogue must keep its contract.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run<T: Element>(
        &self,
        a: *const T,
        b: *const T,
        bias: *const T,
        c: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        // SAFETY: the caller's promise; the current tier is one that the processor has.
        unsafe { self.run_tier(Tier::current(), a, b, bias, c, epilogue, scratch, team) }
    }

    /// [`Gemm::run`] with a given tier.
    ///
    /// # Safety
    /// As for [`Gemm::run`]; and the processor must have the tier.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run_tier<T: Element>(
        &self,
        tier: Tier,
        a: *const T,
        b: *const T,
        bias: *const T,
        c: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        if self.batch == 0 || self.m == 0 || self.n == 0 {
            return;
        }
        let whole = epilogue.is_some() || self.n == 1 && !bias.is_null();
        let (problem, swapped) = if whole { (*self, false) } else { self.reduced() };
        let (a, b) = if swapped { (b, a) } else { (a, b) };
        let plan = Plan::new::<T>(&problem, team.threads());
        let [batches, rows, columns] = plan.parts;
        let offset = if plan.common + plan.own == 0 { 0 } else { scratch.align_offset(64) };
        let scratch = scratch.wrapping_add(offset).cast::<T>();
        let (first, is_whole) = ((0, 0), false);
        let mut job = Job { problem, plan, tier, a, b, bias, c, epilogue, first, scratch, is_whole };
        // SAFETY: the caller's promise; the parts do not overlap.
        unsafe {
            job.copy_operands();
            if batches * rows * columns == 1 {
                return job.part(0..problem.batch, 0..problem.m, 0..problem.n, 0);
            }
            let job = Shared(&raw const job);
            team.run(batches * rows * columns, &|chunk, worker| {
                let batch = part_of(problem.batch, batches, chunk / (rows * columns), 1);
                let row = part_of(problem.m, rows, chunk / columns % rows, 8);
                let column = part_of(problem.n, columns, chunk % columns, 48);
                (*job.get()).part(batch, row, column, worker);
            });
        }
    }

    /// Whether any range of rows can be computed by [`Gemm::run_rows`].
    pub fn has_separate_rows<T: Element>(&self) -> bool {
        let in_order = match Plan::new::<T>(self, 1).method {
            Method::Tiles { pack_a: PackA::Never, reading } => {
                !matches!(reading, Reading::InPlaceByFew | Reading::Packed)
            }
            _ => false,
        };
        self.batch == 1 && self.m > 0 && self.n > 1 && self.k > 0 && in_order
    }

    /// Computes some rows of a product with [`Gemm::has_separate_rows`], on this thread; they have the bits that
    /// [`Gemm::run`] gives them. Calls that run at the same time have each a `slot` of their own, below the number of
    /// threads for which the scratch memory was measured.
    ///
    /// # Safety
    /// As for [`Gemm::run`], of these rows; and the slot must be in use by nobody else.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run_rows<T: Element>(
        &self,
        rows: Range<usize>,
        slot: usize,
        a: *const T,
        b: *const T,
        bias: *const T,
        c: *mut T,
        scratch: *mut u8,
    ) {
        let plan = Plan::new::<T>(self, 1);
        let offset = if plan.own == 0 { 0 } else { scratch.align_offset(64) };
        let scratch = scratch.wrapping_add(offset).cast::<T>();
        let tier = Tier::current();
        let (problem, first, is_whole) = (*self, (0, 0), false);
        let job = Job { problem, plan, tier, a, b, bias, c, epilogue: None, first, scratch, is_whole };
        // SAFETY: the caller's promise.
        unsafe { job.part(0..1, rows, 0..self.n, slot) }
    }

    /// Whether any product, or any eight rows of it and multiples thereof, can be computed by [`Gemm::run_part`].
    pub fn has_parts<T: Element>(&self) -> bool {
        let by_tiles = matches!(Plan::new::<T>(self, 1).method, Method::Tiles { .. });
        self.m > 0
            && self.n > 1
            && self.k > 0
            && !self.b_packed.is_packed()
            && by_tiles
            && self.reduced().0 == *self
    }

    /// Computes some rows of one product, with [`Gemm::has_parts`], on this thread; they have the bits that
    /// [`Gemm::run`] gives them. Rows are counted through all products: `rows` lie within one of them, and are all of
    /// its rows or begin and end at multiples of eight.
    ///
    /// # Safety
    /// As for [`Gemm::run`] with one thread, of these rows: where the other rows would be need not be valid.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run_part<T: Element>(
        &self,
        rows: Range<usize>,
        a: *const T,
        b: *const T,
        bias: *const T,
        c: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
    ) {
        let plan = Plan::new::<T>(self, 1);
        let offset = if plan.own == 0 { 0 } else { scratch.align_offset(64) };
        let scratch = scratch.wrapping_add(offset).cast::<T>();
        let first = (rows.start / self.m, rows.start % self.m);
        let (outer, inner) = ((first.0 / self.group) as isize, (first.0 % self.group) as isize);
        let row = first.1 as isize * self.a_strides[1];
        let a = a.wrapping_offset(outer * self.group_strides[0] + inner * self.a_strides[0] + row);
        let b = b.wrapping_offset(outer * self.group_strides[1] + inner * self.b_strides[0]);
        let c = c.wrapping_add(first.0 * self.c_batch_stride + first.1 * self.c_row_stride);
        let problem = Gemm { batch: 1, group: 1, m: rows.len(), ..*self };
        let (tier, is_whole) = (Tier::current(), false);
        let job = Job { problem, plan, tier, a, b, bias, c, epilogue, first, scratch, is_whole };
        // SAFETY: the caller's promise.
        unsafe { job.part(0..1, 0..rows.len(), 0..self.n, 0) }
    }

    /// An equal problem, with elements of C at the same places, that is easier to compute: a batch with one B as
    /// more rows, a single column as a single row. Tells whether A and B changed places.
    pub fn reduced(&self) -> (Gemm, bool) {
        let mut gemm = *self;
        let rows = gemm.m as isize;
        let one_b = (gemm.b_packed.is_packed() || gemm.b_strides[0] == 0)
            && gemm.batch > 1
            && gemm.group == gemm.batch;
        let follows = gemm.a_strides[0] == rows * gemm.a_strides[1];
        if one_b && follows && gemm.c_batch_stride == gemm.m * gemm.c_row_stride {
            (gemm.m, gemm.batch, gemm.group) = (gemm.m * gemm.batch, 1, 1);
        }
        if gemm.n == 1 && !gemm.b_packed.is_packed() && gemm.c_row_stride == 1 && gemm.m > 1 {
            let (a, b) = (gemm.a_strides, gemm.b_strides);
            let (a_strides, b_strides) = ([b[0], 0, b[1]], [a[0], a[2], a[1]]);
            let group_strides = [gemm.group_strides[1], gemm.group_strides[0]];
            return (Gemm { m: 1, n: gemm.m, a_strides, b_strides, group_strides, ..gemm }, true);
        }
        (gemm, false)
    }
}

/// One call of `run`.
struct Job<T> {
    problem: Gemm,
    plan: Plan,
    tier: Tier,
    a: *const T,
    b: *const T,
    bias: *const T,
    c: *mut T,
    epilogue: Option<Epilogue<T>>,
    /// For the epilogue: the numbers of the first product and of its first row.
    first: (usize, usize),
    scratch: *mut T,
    /// Whether the numbers of A are whole, and stand in the scratch memory.
    is_whole: bool,
}

impl<T: Element> Job<T> {
    /// Makes both operands of dot products adjacent along k, packs the left one of transposed products, and converts that
    /// of products with bytes.
    unsafe fn copy_operands(&mut self) {
        match self.plan.method {
            // SAFETY: the caller's promise.
            Method::Transposed => unsafe { self.pack_rows() },
            // SAFETY: the caller's promise.
            Method::Bytes { .. } => unsafe { self.convert_rows() },
            Method::Tiles { .. } | Method::Dots { .. } => {}
        }
        let Method::Dots { copy_a, copy_b } = self.plan.method else { return };
        let Gemm { m, n, k, a_strides, b_strides, .. } = &mut self.problem;
        let copy = |from: *const T, lines: usize, line: isize, along: isize, k: usize| {
            for index in 0..lines * k {
                let offset = (index / k) as isize * line + (index % k) as isize * along;
                // SAFETY: within the operand, and within the scratch memory in common.
                unsafe { *self.scratch.add(index) = *from.offset(offset) };
            }
        };
        if copy_a {
            copy(self.a, *m, a_strides[1], a_strides[2], *k);
            (self.a, *a_strides) = (self.scratch, [0, *k as isize, 1]);
        }
        if copy_b {
            copy(self.b, *n, b_strides[2], b_strides[1], *k);
            (self.b, *b_strides) = (self.scratch, [0, 1, *k as isize]);
        }
    }

    unsafe fn part(&self, batches: Range<usize>, rows: Range<usize>, columns: Range<usize>, worker: usize) {
        let Gemm { k, group, group_strides, a_strides, b_strides, .. } = self.problem;
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        for batch in batches {
            // SAFETY: the caller's promise.
            unsafe {
                let (outer, inner) = ((batch / group) as isize, (batch % group) as isize);
                let a = self.a.offset(outer * group_strides[0] + inner * a_strides[0]);
                let b = match self.problem.b_packed.is_packed() {
                    true => self.b,
                    false => self.b.offset(outer * group_strides[1] + inner * b_strides[0]),
                };
                let c = self.c.add(batch * self.problem.c_batch_stride);
                match self.plan.method {
                    Method::Bytes { pack_a } if k > 0 => {
                        let b = Bytes { data: b.cast(), rows: k, columns: self.problem.n };
                        let part = [rows.clone(), columns.clone()];
                        match self.is_whole {
                            true => self.in_integers(&b, part, batch),
                            false => self.block(a, &b, c, part, (pack_a, Reading::Packed), batch, worker),
                        }
                    }
                    Method::Tiles { pack_a, reading } if k > 0 && self.problem.b_packed.is_packed() => {
                        let b = Packed { data: b, rows: k, columns: self.problem.n };
                        self.block(
                            a,
                            &b,
                            c,
                            [rows.clone(), columns.clone()],
                            (pack_a, reading),
                            batch,
                            worker,
                        );
                    }
                    Method::Tiles { pack_a, reading } if k > 0 => {
                        let column = if self.problem.n == 1 { 1 } else { b_strides[2] };
                        let b = Strided { data: b, row: b_strides[1], column };
                        self.block(
                            a,
                            &b,
                            c,
                            [rows.clone(), columns.clone()],
                            (pack_a, reading),
                            batch,
                            worker,
                        );
                    }
                    Method::Transposed => self.transposed(columns.clone(), worker),
                    Method::Tiles { .. } | Method::Bytes { .. } | Method::Dots { .. } => {
                        self.dots(a, b, c, rows.clone(), columns.clone());
                        self.add_bias(c, rows.clone(), columns.clone());
                        if let Some(epilogue) = self.epilogue {
                            let c_row_stride = self.problem.c_row_stride;
                            (epilogue.function)(
                                c.add(rows.start * c_row_stride + columns.start),
                                c_row_stride,
                                rows.len(),
                                columns.len(),
                                self.first.0 + batch,
                                self.first.1 + rows.start,
                                columns.start,
                                epilogue.environment,
                            );
                        }
                    }
                }
            }
        }
    }

    /// Computes a part of one product by tiles.
    #[allow(clippy::too_many_arguments)]
    unsafe fn block<P: Panels<T>>(
        &self,
        a: *const T,
        b: &P,
        c: *mut T,
        [rows, columns]: [Range<usize>; 2],
        (pack_a, reading): (PackA, Reading),
        batch: usize,
        worker: usize,
    ) {
        let Gemm { k, a_strides, c_row_stride, accumulate, .. } = self.problem;
        let block = Block {
            rows,
            columns,
            k,
            a,
            a_row: a_strides[1],
            a_column: a_strides[2],
            pack_a,
            a_is_far: false,
            b,
            reading,
            streams: self.plan.streams,
            ends_in_dots: false,
            c,
            c_row: c_row_stride,
            accumulate,
            bias: self.bias,
            epilogue: self.epilogue,
            place: (self.first.0 + batch, self.first.1),
            scratch: self.scratch.wrapping_add(self.plan.common + worker * self.plan.own),
        };
        // SAFETY: the caller's promise.
        unsafe { T::dispatch(self.tier, &block) }
    }

    unsafe fn add_bias(&self, c: *mut T, rows: Range<usize>, columns: Range<usize>) {
        if self.bias.is_null() {
            return;
        }
        for row in rows {
            for column in columns.clone() {
                // SAFETY: within C and the bias.
                unsafe {
                    let c = c.add(row * self.problem.c_row_stride + column);
                    *c = (*c).plus(*self.bias.add(column));
                }
            }
        }
    }

    unsafe fn dots(&self, a: *const T, b: *const T, c: *mut T, rows: Range<usize>, columns: Range<usize>) {
        let Gemm { k, a_strides, b_strides, c_row_stride, accumulate, .. } = self.problem;
        let (a_row, b_column) = (a_strides[1], b_strides[2]);
        // The short side holds the rows.
        let dots = if columns.len() < rows.len() {
            let (a, a_row, b, b_column, c_row, c_column) = (b, b_column, a, a_row, 1, c_row_stride);
            Dots { rows: columns, columns: rows, k, a, a_row, b, b_column, c, c_row, c_column, accumulate }
        } else {
            Dots { rows, columns, k, a, a_row, b, b_column, c, c_row: c_row_stride, c_column: 1, accumulate }
        };
        // SAFETY: the caller's promise.
        unsafe { T::dispatch(self.tier, &dots) }
    }
}
