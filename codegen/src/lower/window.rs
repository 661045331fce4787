//! Sliding windows.

use super::nest::{Nest, affine, flatten};
use super::{Lowering, scalars};
use crate::loops::{
    Access, BinaryOp, BufferId, CompareOp, Condition, Constant, Index, ReduceOp, Reg, Scalar, UpdateOp,
};
use crate::program::Place;
use gradc_ir::{DType, Graph, Node, Shape, WindowKind, WindowOp};

impl Lowering {
    pub(super) fn window(
        &mut self,
        graph: &Graph,
        node: &Node,
        window: &WindowOp,
        operands: &[Place],
        parts: &[Place],
    ) {
        let x = graph.ty(node.operands[0]);
        let y = node.ty();
        let mut nest = Nest::new(node.op.name());
        let from = nest.buffer("x", scalars::scalar(x.dtype), x.shape.elements(), Access::Read);
        let access =
            if matches!(window.kind, WindowKind::Spread { .. }) { Access::ReadWrite } else { Access::Write };
        let to = nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), access);
        match &window.kind {
            WindowKind::Sum => {
                reduce(&mut nest, window, ReduceOp::Sum, x.dtype, (from, &x.shape), (to, &y.shape))
            }
            WindowKind::Max => {
                let op = scalars::reduce(gradc_ir::ReduceOp::Max, x.dtype);
                reduce(&mut nest, window, op, x.dtype, (from, &x.shape), (to, &y.shape));
            }
            WindowKind::ArgMax => arg_max(&mut nest, window, x.dtype, (from, &x.shape), (to, &y.shape)),
            WindowKind::Spread { .. } => spread(&mut nest, window, y.dtype, (from, &x.shape), (to, &y.shape)),
        }
        let parallel = nest.depth() == 0;
        let cost = x.shape.elements().max(y.shape.elements()) * window.window.iter().product::<usize>();
        self.run(nest.finish(), parallel, vec![operands[0].clone(), parts[0].clone()], cost);
    }
}

type Side<'a> = (BufferId, &'a Shape);

fn reduce(nest: &mut Nest, window: &WindowOp, op: ReduceOp, dtype: DType, from: Side, to: Side) {
    let at = nest.open_all(to.1);
    let depth = nest.depth();
    let init = match op {
        ReduceOp::Sum => scalars::number(dtype, 0.0),
        _ => scalars::least(dtype),
    };
    let accumulator = nest.accumulator(scalars::scalar(dtype).register(), init);
    let inner = nest.open_all(&window.window);
    let position = inside(nest, window, from.1, to.1, &at, &inner);
    let x = nest.load(from.0, flatten(from.1, &position));
    nest.reduce(accumulator, op, x);
    nest.close_to(depth);
    let result = nest.read(accumulator);
    nest.store(to.0, flatten(to.1, &at), result);
    nest.close_to(0);
}

fn arg_max(nest: &mut Nest, window: &WindowOp, dtype: DType, from: Side, to: Side) {
    let at = nest.open_all(to.1);
    let depth = nest.depth();
    let best = nest.accumulator(scalars::scalar(dtype).register(), scalars::least(dtype));
    let place = nest.accumulator(Scalar::I64, Constant::Int(-1));
    let inner = nest.open_all(&window.window);
    let position = inside(nest, window, from.1, to.1, &at, &inner);
    let index = flatten(from.1, &position);
    let x = nest.load(from.0, index.clone());
    let own = nest.position(&index);
    take_greater(nest, best, place, x, own, BetterThan { op: CompareOp::Gt, or_equal: false });
    nest.close_to(depth);
    let place = nest.read(place);
    let zero = nest.constant(Scalar::I64, Constant::Int(0));
    let place = nest.binary(BinaryOp::Max, place, zero);
    nest.store(to.0, flatten(to.1, &at), place);
    nest.close_to(0);
}

/// When a candidate replaces the best so far.
#[derive(Clone, Copy)]
pub(super) struct BetterThan {
    /// `Gt` to find the greatest, `Lt` the least.
    pub op: CompareOp,
    /// Whether equal candidates replace too, so that the last one wins.
    pub or_equal: bool,
}

/// Keeps a candidate and its position where it is the first, better than the best so far, or the first NaN.
pub(super) fn take_greater(
    nest: &mut Nest,
    best: crate::loops::Acc,
    place: crate::loops::Acc,
    x: Reg,
    own: Reg,
    rule: BetterThan,
) {
    let (old, old_place) = (nest.read(best), nest.read(place));
    let zero = nest.constant(Scalar::I64, Constant::Int(0));
    let mut take = nest.compare(CompareOp::Lt, old_place, zero);
    let better = nest.compare(rule.op, x, old);
    take = nest.binary(BinaryOp::Or, take, better);
    if rule.or_equal {
        let equal = nest.compare(CompareOp::Eq, x, old);
        take = nest.binary(BinaryOp::Or, take, equal);
    }
    if nest.type_of(x).is_float() {
        let (now, before) = (nest.compare(CompareOp::Ne, x, x), nest.compare(CompareOp::Eq, old, old));
        let wins = match rule.or_equal {
            true => now,
            false => nest.binary(BinaryOp::And, now, before),
        };
        take = nest.binary(BinaryOp::Or, take, wins);
    }
    let (x, own) = (nest.select(take, x, old), nest.select(take, own, old_place));
    nest.set(best, x);
    nest.set(place, own);
}

fn spread(nest: &mut Nest, window: &WindowOp, dtype: DType, from: Side, to: Side) {
    let rank = to.1.rank();
    let is_plain =
        |&axis: &usize| window.window[axis] == 1 && window.stride[axis] == 1 && window.pad_low[axis] == 0;
    let same_length = |&axis: &usize| from.1[axis] == to.1[axis];
    let plain: Vec<usize> = (0..rank).take_while(|axis| is_plain(axis) && same_length(axis)).collect();
    let outer = nest.open_all(&plain.iter().map(|&axis| to.1[axis]).collect::<Vec<_>>());
    let depth = nest.depth();
    let zero = nest.constant(scalars::scalar(dtype).register(), scalars::number(dtype, 0.0));
    let rest = nest.open_all(&to.1[plain.len()..]);
    nest.store(to.0, flatten(to.1, &[outer.clone(), rest].concat()), zero);
    nest.close_to(depth);
    let at = [outer, nest.open_all(&from.1[plain.len()..])].concat();
    let x = nest.load(from.0, flatten(from.1, &at));
    let inner = nest.open_all(&window.window);
    let position = inside(nest, window, to.1, from.1, &at, &inner);
    nest.update(UpdateOp::Add, to.0, flatten(to.1, &position), x);
    // Without outer axes there are two nests, which no thread may share.
    nest.close_to(if plain.is_empty() { 0 } else { depth });
    nest.close_to(0);
}

/// The position under a window element, behind a guard where it can lie outside.
fn inside(
    nest: &mut Nest,
    window: &WindowOp,
    lengths: &Shape,
    windows: &Shape,
    at: &[Index],
    inner: &[Index],
) -> Vec<Index> {
    let mut conditions = Vec::new();
    let position: Vec<Index> = (0..lengths.rank())
        .map(|axis| {
            let (stride, dilation) = (window.stride[axis] as i64, window.dilation[axis] as i64);
            let low = window.pad_low[axis];
            let index = affine(-low, [(at[axis].clone(), stride), (inner[axis].clone(), dilation)]);
            let last =
                (windows[axis] as i64 - 1) * stride + (window.window[axis] as i64 - 1) * dilation - low;
            if low > 0 {
                conditions.push(Condition::Affine { index: index.clone(), op: CompareOp::Ge, bound: 0 });
            }
            if last >= lengths[axis] as i64 {
                let bound = lengths[axis] as i64;
                conditions.push(Condition::Affine { index: index.clone(), op: CompareOp::Lt, bound });
            }
            index
        })
        .collect();
    if !conditions.is_empty() {
        nest.guard(conditions);
    }
    position
}
