//! Nodes that move data by positions or run along an axis: gather, scatter, concat, padding with zeros, arg-reductions,
//! running sums.

use super::nest::{Nest, affine, flatten};
use super::window::{BetterThan, take_greater};
use super::{Lowering, scalars};
use crate::exec::sort_key;
use crate::loops::{Access, BinaryOp, BufferId, CompareOp, Constant, Index, Reg, Scalar};
use crate::program::{Place, Step};
use gradc_ir::{ArgOp, Builder, CumulativeOp, DType, Graph, Node, Op, Shape, TensorType, Value};
use gradc_runtime::sort_scratch_bytes;

/// The status code of an index out of range.
pub(crate) const INDEX_OUT_OF_RANGE: u16 = 1;

impl Lowering {
    pub(super) fn indexed(&mut self, graph: &Graph, node: &Node, operands: &[Place], parts: &[Place]) {
        let types: Vec<&TensorType> = node.operands.iter().map(|&operand| graph.ty(operand)).collect();
        let y = node.ty();
        match &node.op {
            Op::Gather { axis } => {
                let mut nest = Nest::new("gather");
                let [x, index] = declare(&mut nest, [types[0], types[1]]);
                let to = nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), Access::Write);
                let lengths = &types[0].shape;
                let is_checked = !is_known(graph, node.operands[1], lengths[*axis]);
                let lines = Lines { axis: *axis, lengths, index: (index, &types[1].shape), is_checked };
                let (from, at) = lines.open(&mut nest);
                let value = nest.load(x, flatten(&types[0].shape, &from));
                nest.store(to, flatten(&y.shape, &at), value);
                self.run(nest.finish(), true, [operands, parts].concat(), y.shape.elements());
            }
            Op::Scatter { axis, op } => {
                self.copy(operands[0].clone(), parts[0].clone(), y.bytes());
                if types[2].shape.elements() == 0 {
                    return;
                }
                let mut nest = Nest::new(node.op.name());
                let [index, update] = declare(&mut nest, [types[1], types[2]]);
                let to = nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), Access::ReadWrite);
                let is_checked = !is_known(graph, node.operands[1], y.shape[*axis]);
                let lines =
                    Lines { axis: *axis, lengths: &y.shape, index: (index, &types[1].shape), is_checked };
                let (into, at) = lines.open(&mut nest);
                let value = nest.load(update, flatten(&types[2].shape, &at));
                let position = flatten(&y.shape, &into);
                match scalars::update(*op) {
                    Some(op) => nest.update(op, to, position, value),
                    None => nest.store(to, position, value),
                }
                let arguments = vec![operands[1].clone(), operands[2].clone(), parts[0].clone()];
                let parallel = y.shape[..*axis].iter().any(|&length| length != 1);
                self.run(nest.finish(), parallel, arguments, types[2].shape.elements());
            }
            Op::Pad { low, interior, .. } => {
                let mut nest = Nest::new("pad");
                let [x] = declare(&mut nest, [types[0]]);
                let to = nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), Access::ReadWrite);
                let at = nest.open_all(&types[0].shape);
                let value = nest.load(x, flatten(&types[0].shape, &at));
                let place: Vec<Index> = (at.into_iter().enumerate())
                    .map(|(axis, at)| affine(low[axis], [(at, interior[axis] as i64 + 1)]))
                    .collect();
                nest.store(to, flatten(&y.shape, &place), value);
                let arguments = vec![operands[0].clone(), parts[0].clone()];
                self.run(nest.finish(), true, arguments, types[0].shape.elements());
            }
            Op::Concat { axis } => {
                let mut start = 0;
                for (position, ty) in types.iter().enumerate() {
                    if ty.shape.elements() > 0 {
                        let mut nest = Nest::new("concat");
                        let [x] = declare(&mut nest, [ty]);
                        let to =
                            nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), Access::Write);
                        let mut at = nest.open_all(&ty.shape);
                        let value = nest.load(x, flatten(&ty.shape, &at));
                        at[*axis] = affine(start, [(at[*axis].clone(), 1)]);
                        nest.store(to, flatten(&y.shape, &at), value);
                        let arguments = vec![operands[position].clone(), parts[0].clone()];
                        self.run(nest.finish(), true, arguments, ty.shape.elements());
                    }
                    start += ty.shape[*axis] as i64;
                }
            }
            Op::ArgReduce { op, axis, last } => {
                let mut nest = Nest::new(node.op.name());
                let [x] = declare(&mut nest, [types[0]]);
                let to = nest.buffer("y", Scalar::I64, y.shape.elements(), Access::Write);
                let at = nest.open_all(&y.shape);
                let depth = nest.depth();
                let dtype = types[0].dtype;
                let best = nest.accumulator(scalars::scalar(dtype).register(), scalars::number(dtype, 0.0));
                let place = nest.accumulator(Scalar::I64, Constant::Int(-1));
                let step = nest.open_all(&[types[0].shape[*axis]]);
                let mut from = at.clone();
                from.insert(*axis, step[0].clone());
                let value = nest.load(x, flatten(&types[0].shape, &from));
                let own = nest.position(&step[0]);
                let compare = if *op == ArgOp::Max { CompareOp::Gt } else { CompareOp::Lt };
                take_greater(&mut nest, best, place, value, own, BetterThan { op: compare, or_equal: *last });
                nest.close_to(depth);
                let place = nest.read(place);
                nest.store(to, flatten(&y.shape, &at), place);
                self.run(nest.finish(), true, [operands, parts].concat(), types[0].shape.elements() * 4);
            }
            Op::Cumulative { op, axis, exclusive, reverse } => {
                let mut nest = Nest::new(node.op.name());
                let [x] = declare(&mut nest, [types[0]]);
                let to = nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), Access::Write);
                let outer = nest.open_all(&y.shape.without(&[*axis]));
                let (combine, first) = match op {
                    CumulativeOp::Sum => (BinaryOp::Add, 0.0),
                    CumulativeOp::Prod => (BinaryOp::Mul, 1.0),
                };
                let init = scalars::number(y.dtype, first);
                let running = nest.accumulator(scalars::scalar(y.dtype).register(), init);
                let length = y.shape[*axis];
                let step = nest.open_all(&[length])[0].clone();
                let step = if *reverse { affine(length as i64 - 1, [(step, -1)]) } else { step };
                let mut at = outer;
                at.insert(*axis, step);
                let position = flatten(&y.shape, &at);
                let value = nest.load(x, position.clone());
                let before = nest.read(running);
                let after = nest.binary(combine, before, value);
                nest.set(running, after);
                nest.store(to, position, if *exclusive { before } else { after });
                let parallel = y.shape.without(&[*axis]).elements() > 1;
                self.run(nest.finish(), parallel, [operands, parts].concat(), y.shape.elements());
            }
            other => unreachable!("{} is not indexed", other.name()),
        }
    }
}

impl Lowering {
    /// Sorting works on adjacent elements; along other axes on a transposed copy.
    pub(super) fn arg_sort(
        &mut self,
        graph: &Graph,
        node: &Node,
        (axis, descending): (usize, bool),
        operands: &[Place],
        parts: &[Place],
    ) {
        let ty = graph.ty(node.operands[0]);
        let mut permutation: Vec<usize> = (0..ty.shape.rank()).filter(|&other| other != axis).collect();
        permutation.push(axis);
        let mut inverse = vec![0; permutation.len()];
        permutation.iter().enumerate().for_each(|(position, &axis)| inverse[axis] = position);
        let from = self.transposed(ty, &permutation, &operands[0]);
        let sorted = self.temporary(node.ty().bytes());
        let length = ty.shape[axis];
        let scratch = self.temporary(sort_scratch_bytes(sort_key(ty.dtype), length));
        self.steps.push(Step::ArgSort {
            dtype: ty.dtype,
            lines: ty.shape.elements() / length.max(1),
            length,
            count: node.ty().shape[axis],
            descending,
            places: [from, sorted.clone(), scratch],
        });
        let lengths = permutation.iter().map(|&axis| node.ty().shape[axis]).collect::<Shape>();
        let result = self.transposed(&TensorType { dtype: DType::I64, shape: lengths }, &inverse, &sorted);
        self.copy(result, parts[0].clone(), node.ty().bytes());
    }

    /// The elements at a place in another order of axes: the place itself where that changes nothing.
    pub(super) fn transposed(&mut self, ty: &TensorType, permutation: &[usize], place: &Place) -> Place {
        let in_order = permutation.iter().enumerate().all(|(position, &axis)| position == axis);
        if in_order || ty.shape.elements() == 0 {
            return place.clone();
        }
        let builder = Builder::new("transpose");
        let x = builder.input("x", ty.clone());
        let transposed = builder.expr(x).transpose(permutation).value();
        let body = builder.finish(&[transposed]);
        let copy = self.temporary(ty.bytes());
        self.cluster(&body, std::slice::from_ref(place), std::slice::from_ref(&copy));
        copy
    }
}

fn declare<const N: usize>(nest: &mut Nest, types: [&TensorType; N]) -> [BufferId; N] {
    types.map(|ty| nest.buffer("x", scalars::scalar(ty.dtype), ty.shape.elements(), Access::Read))
}

/// Slices of a tensor named by an index tensor.
struct Lines<'a> {
    axis: usize,
    lengths: &'a Shape,
    index: (BufferId, &'a Shape),
    is_checked: bool,
}

/// Whether an index tensor is a constant, all of which lies below a length.
fn is_known(graph: &Graph, index: Value, length: usize) -> bool {
    match &graph.node(index).op {
        Op::Constant(literal) => literal.to_f64().iter().all(|index| (0.0..length as f64).contains(index)),
        _ => false,
    }
}

impl Lines<'_> {
    /// Opens loops over all elements of the slices, and checks each index. Answers the position in the tensor and
    /// the one in the tensor of slices.
    fn open(&self, nest: &mut Nest) -> (Vec<Index>, Vec<Index>) {
        let before = nest.open_all(&self.lengths[..self.axis]);
        let which = nest.open_all(self.index.1);
        let index = nest.load(self.index.0, flatten(self.index.1, &which));
        let index = nest.cast(index, Scalar::I64);
        if self.is_checked {
            self.check(nest, index);
        }
        let after = nest.open_all(&self.lengths[self.axis + 1..]);
        let chosen = vec![Index::constant(0).plus_register(index, 1)];
        let outside = [before.clone(), chosen, after.clone()].concat();
        (outside, [before, which, after].concat())
    }

    fn check(&self, nest: &mut Nest, index: Reg) {
        let zero = nest.constant(Scalar::I64, Constant::Int(0));
        let length = nest.constant(Scalar::I64, Constant::Int(self.lengths[self.axis] as i64));
        let low = nest.compare(CompareOp::Lt, index, zero);
        let high = nest.compare(CompareOp::Ge, index, length);
        let wrong = nest.binary(BinaryOp::Or, low, high);
        nest.fail(wrong, INDEX_OUT_OF_RANGE, index);
    }
}
