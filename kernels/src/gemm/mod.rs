//! Batched matrix products.

use crate::{Element, Team, Tier};

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
#[repr(C)]
pub struct Epilogue<T> {
    /// The function; it must not unwind.
    pub function: EpilogueFunction<T>,
    /// Passed on to the function.
    pub environment: *const *mut u8,
}

// SAFETY: the environment is only passed on; whoever provides the function vouches for calls from any thread.
unsafe impl<T> Send for Epilogue<T> {}
unsafe impl<T> Sync for Epilogue<T> {}

/// `batch` products C = A B, or C += A B, of an `m` x `k` by a `k` x `n` matrix each. Strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gemm {
    /// The number of products.
    pub batch: usize,
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
}

impl Gemm {
    /// The bytes of scratch memory that [`Gemm::run`] needs with a team of at most `threads` threads.
    pub fn scratch_bytes<T: Element>(&self, threads: usize) -> usize {
        let _ = threads;
        0
    }

    /// Computes the products with the current [`Tier`].
    ///
    /// # Safety
    /// `a`, `b` and `c` must be valid for all elements that the sizes and strides reach (`a` and `b` for
    /// reading), `c` must not overlap them, `scratch` must be valid for [`Gemm::scratch_bytes`] bytes for
    /// `team.threads()` threads (any alignment) and be used by nobody else during the call, and the epilogue must
    /// keep its contract.
    pub unsafe fn run<T: Element>(
        &self,
        a: *const T,
        b: *const T,
        c: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        // SAFETY: the caller's promise; the current tier is one that the processor has.
        unsafe { self.run_tier(Tier::current(), a, b, c, epilogue, scratch, team) }
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
        c: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        let _ = (tier, scratch, team);
        for batch in 0..self.batch {
            // SAFETY: the caller's promise.
            unsafe {
                let a = a.offset(batch as isize * self.a_strides[0]);
                let b = b.offset(batch as isize * self.b_strides[0]);
                let c = c.add(batch * self.c_batch_stride);
                for i in 0..self.m {
                    for j in 0..self.n {
                        let mut sum = T::ZERO;
                        for p in 0..self.k as isize {
                            let x = *a.offset(i as isize * self.a_strides[1] + p * self.a_strides[2]);
                            let y = *b.offset(p * self.b_strides[1] + j as isize * self.b_strides[2]);
                            sum = sum.plus(x.times(y));
                        }
                        let target = c.add(i * self.c_row_stride + j);
                        *target = if self.accumulate { sum.plus(*target) } else { sum };
                    }
                }
                if let Some(epilogue) = epilogue
                    && self.m * self.n > 0
                {
                    let function = epilogue.function;
                    function(c, self.c_row_stride, self.m, self.n, batch, 0, 0, epilogue.environment);
                }
            }
        }
    }
}
