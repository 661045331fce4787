use crate::gemm::plan::{Method, Plan};
use crate::testing::Numbers;
use crate::{Gemm, PackedOperand, Team, Tier};

use super::PackA;

/// A product of a left operand whose rows are adjacent, or whose columns are.
fn product(sizes: [usize; 3], rows_are_adjacent: bool) -> Gemm {
    let [m, n, k] = sizes;
    Gemm {
        batch: 1,
        group: 1,
        group_strides: [0; 2],
        m,
        n,
        k,
        a_strides: if rows_are_adjacent { [0, 1, m as isize] } else { [0, k as isize, 1] },
        b_strides: [0, n as isize, 1],
        c_batch_stride: m * n,
        c_row_stride: n,
        accumulate: false,
        b_packed: PackedOperand::No,
    }
}

fn result<T: Numbers>(gemm: &Gemm, tier: Tier, team: &Team, a: &[T], b: &[T]) -> Vec<T> {
    let bytes = gemm.scratch_bytes::<T>(team.threads());
    let mut scratch = vec![0xffu8; bytes + 64];
    let mut c = vec![T::ZERO; gemm.m * gemm.n];
    let (to, memory) = (c.as_mut_ptr(), scratch.as_mut_ptr());
    // SAFETY: all have the sizes of the problem.
    unsafe { gemm.run_tier(tier, a.as_ptr(), b.as_ptr(), std::ptr::null(), to, None, memory, team) };
    assert!(scratch[bytes..].iter().all(|byte| *byte == 0xff), "scratch overrun {gemm:?}");
    c
}

/// Columns of A that are far apart are packed, in several blocks of rows; where they are adjacent, A is read in place. Both
/// add the same numbers in the same order.
fn check<T: Numbers>(sizes: [usize; 3]) {
    let [m, n, k] = sizes;
    let (across, in_order) = (product(sizes, true), product(sizes, false));
    let pack_a = |gemm| match Plan::new::<T>(gemm, 1).method {
        Method::Tiles { pack_a, .. } => pack_a,
        other => panic!("{other:?}"),
    };
    assert_eq!((pack_a(&across), pack_a(&in_order)), (PackA::Always, PackA::Never));
    let (a, b) = (T::sequence(m * k, 1), T::sequence(k * n, 2));
    let turned: Vec<T> = (0..m * k).map(|at| a[at % k * m + at / k]).collect();
    for tier in Tier::available() {
        for threads in [1, 3] {
            let team = Team::new(threads);
            let packed = result(&across, tier, &team, &a, &b);
            assert!(packed == result(&in_order, tier, &team, &turned, &b), "{tier:?} {threads} {sizes:?}");
        }
    }
}

#[test]
fn columns_of_a_that_are_far_apart_are_packed_and_nothing_else_changes() {
    check::<f32>([1536, 1024, 1100]);
    check::<f64>([1024, 513, 600]);
}
