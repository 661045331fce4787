//! Brings the operands of products into the form that matrix kernels read in place.

use crate::Pass;
use gradc_ir::{Builder, DType, DotDims, Graph, Op, Shape, Value, rebuild};

/// Matrix kernels see an operand as batch, rows and columns, each with one stride, the batch with two: from group to
/// group, and in a group. An operand of a product of f32 or f64 whose free or contracted axes are not each one row-major
/// run, or whose batch is more than two, gets an explicit transpose, which other
/// passes can then fold into constants or fuse with what computes the operand. Axes of length 1 never stand in the
/// way, so matrix-vector forms stay as they are.
pub struct CanonicalDot;

impl Pass for CanonicalDot {
    fn name(&self) -> &'static str {
        "canonical_dot"
    }

    fn run(&self, graph: &Graph) -> Graph {
        rebuild(graph, |builder, _, node, operands| match &node.op {
            Op::Dot(dims) if matches!(node.ty().dtype, DType::F32 | DType::F64) => {
                canonical(builder, dims, operands)
            }
            _ => None,
        })
    }
}

fn canonical(builder: &Builder, dims: &DotDims, operands: &[Value]) -> Option<Value> {
    let shapes = [builder.ty(operands[0]).shape, builder.ty(operands[1]).shape];
    let ordered = best_order(dims, &shapes);
    let dims = ordered.as_ref().unwrap_or(dims);
    let [lhs_free, rhs_free] = [dims.lhs_free(shapes[0].rank()), dims.rhs_free(shapes[1].rank())];
    let lhs = [&dims.lhs_batch[..], &lhs_free, &dims.lhs_contract];
    let rhs = [&dims.rhs_batch[..], &dims.rhs_contract, &rhs_free];
    let fits = |outer: usize| [fits(&shapes[0], lhs, outer), fits(&shapes[1], rhs, outer)];
    // The groups are the same for both operands; the first way that keeps the most in place.
    let ways = (0..dims.lhs_batch.len().max(1)).rev().map(fits);
    let fits = ways.max_by_key(|fits| fits.iter().filter(|fits| **fits).count()).unwrap_or([false; 2]);
    if fits == [true, true] && ordered.is_none() {
        return None;
    }
    let mut new = dims.clone();
    let [mut left, mut right] = [builder.expr(operands[0]), builder.expr(operands[1])];
    let batch = dims.lhs_batch.len();
    let contract = dims.lhs_contract.len();
    if !fits[0] {
        left = left.transpose(&lhs.concat());
        new.lhs_batch = (0..batch).collect();
        new.lhs_contract = (batch + lhs_free.len()..batch + lhs_free.len() + contract).collect();
    }
    if !fits[1] {
        right = right.transpose(&rhs.concat());
        new.rhs_batch = (0..batch).collect();
        new.rhs_contract = (batch..batch + contract).collect();
    }
    Some(left.dot(right, new).value())
}

/// The contracted axes in another order, where both operands are then read in place. The order of a sum is free.
fn best_order(dims: &DotDims, shapes: &[Shape; 2]) -> Option<DotDims> {
    let runs = |dims: &DotDims| {
        one_run(&shapes[0], &dims.lhs_contract) as usize + one_run(&shapes[1], &dims.rhs_contract) as usize
    };
    let sorted_by = |key: &dyn Fn(usize) -> usize| {
        let mut order: Vec<usize> = (0..dims.lhs_contract.len()).collect();
        order.sort_by_key(|&position| key(position));
        let reorder = |axes: &[usize]| order.iter().map(|&position| axes[position]).collect();
        DotDims {
            lhs_contract: reorder(&dims.lhs_contract),
            rhs_contract: reorder(&dims.rhs_contract),
            ..dims.clone()
        }
    };
    let candidates = [
        sorted_by(&|position| dims.lhs_contract[position]),
        sorted_by(&|position| dims.rhs_contract[position]),
    ];
    let own = runs(dims);
    candidates.into_iter().filter(|candidate| runs(candidate) > own).max_by_key(|candidate| runs(candidate))
}

/// Whether matrix kernels read an operand in place, given its batch axes and two further groups.
pub(crate) fn is_canonical(shape: &Shape, groups: [&[usize]; 3]) -> bool {
    (0..groups[0].len().max(1)).any(|outer| fits(shape, groups, outer))
}

/// Whether each group of axes is one run, the first so many batch axes apart from the others.
fn fits(shape: &Shape, [batch, first, second]: [&[usize]; 3], outer: usize) -> bool {
    let (outer, inner) = batch.split_at(outer);
    [outer, inner, first, second].iter().all(|axes| one_run(shape, axes))
}

/// Whether a single stride steps through these axes in row-major order.
fn one_run(shape: &Shape, axes: &[usize]) -> bool {
    let strides = shape.strides();
    let mut long = axes.iter().copied().filter(|&axis| shape[axis] != 1).rev();
    let Some(last) = long.next() else { return true };
    let mut reach = strides[last] * shape[last];
    long.all(|axis| {
        let joins = strides[axis] == reach;
        reach *= shape[axis];
        joins
    })
}
