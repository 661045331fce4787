//! What the entry function has to know of single steps.

use crate::loops::{Kernel, Stmt};
use crate::program::Step;
use gradc_ir::DType;
use gradc_kernels::Gemm;
use gradc_runtime::SortKey;

/// Element operations below which a kernel stays on one thread.
const PARALLEL_COST: usize = 64 * 1024;

/// Iterations of a parallel loop that one task takes: fixed by the kernel alone, so that no result depends on the
/// number of threads.
pub(super) fn grain(kernel: &Kernel, extent: usize, cost: usize) -> usize {
    let tasks = (cost / PARALLEL_COST).clamp(1, 64).min(extent.max(1));
    let grain = extent.div_ceil(tasks);
    let lanes =
        matches!(kernel.body.last(), Some(Stmt::For { kind: crate::loops::LoopKind::ParallelVector, .. }));
    if lanes { grain.next_multiple_of(64) } else { grain }
}

/// How elements of a type are sorted.
pub(crate) fn sort_key(dtype: DType) -> SortKey {
    match dtype {
        DType::F64 => SortKey::F64,
        DType::F32 => SortKey::F32,
        DType::F16 => SortKey::F16,
        DType::BF16 => SortKey::BF16,
        DType::I64 => SortKey::I64,
        DType::I32 => SortKey::I32,
        DType::I16 => SortKey::I16,
        DType::I8 => SortKey::I8,
        DType::U64 => SortKey::U64,
        DType::U32 => SortKey::U32,
        DType::U16 => SortKey::U16,
        DType::U8 | DType::Bool => SortKey::U8,
    }
}

/// A product of one group as words, as the run-time functions read it.
pub(super) fn gemm_words(gemm: &Gemm) -> Vec<i64> {
    let words = [
        &[gemm.batch, gemm.m, gemm.n, gemm.k].map(|word| word as i64)[..],
        &gemm.a_strides.map(|word| word as i64),
        &gemm.b_strides.map(|word| word as i64),
        &[gemm.c_batch_stride as i64, gemm.c_row_stride as i64, i64::from(gemm.accumulate)],
    ];
    words.concat()
}

/// The most buffers that a kernel of these steps has.
pub(super) fn widest(steps: &[Step]) -> usize {
    let width = |step: &Step| match step {
        Step::Kernel { arguments, .. } => arguments.len(),
        Step::Loop { body, .. } | Step::Parts { body, .. } => widest(body),
        Step::Gemm { epilogue, .. } | Step::Conv { epilogue, .. } => {
            epilogue.as_ref().map_or(0, |epilogue| epilogue.arguments.len())
        }
        Step::ArgSort { .. } | Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => 0,
    };
    steps.iter().map(width).max().unwrap_or(0)
}

/// Whether a step can end the run.
pub(super) fn step_can_fail(step: &Step, kernels: &[Kernel]) -> bool {
    match step {
        Step::Kernel { kernel, .. } => can_fail(&kernels[*kernel].body),
        Step::Loop { body, .. } | Step::Parts { body, .. } => {
            body.iter().any(|step| step_can_fail(step, kernels))
        }
        Step::Gemm { .. } | Step::Conv { .. } | Step::ArgSort { .. } => false,
        Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => false,
    }
}

/// Whether statements can end the run.
pub(super) fn can_fail(body: &[Stmt]) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::Fail { .. } => true,
        Stmt::For { body, .. } => can_fail(body),
        Stmt::If { body, otherwise, .. } => can_fail(body) || can_fail(otherwise),
        Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Store { .. } | Stmt::Update { .. } => false,
        Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } | Stmt::Read { .. } => false,
        Stmt::Wide { .. } | Stmt::Transpose { .. } => false,
    })
}
