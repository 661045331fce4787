//! From a group of nodes (the body of a fused node, or one node alone) to a loop nest.
//!
//! A value is *pulled*: asked for at a position, a node asks its operands at the positions that its own meaning
//! says, down to the loads. Views (transpose, slice, broadcast, ...) so become arithmetic on positions. Groups with
//! reductions run row by row: all reductions over one set of axes share their loops, level by level.

use super::nest::{Nest, affine, flatten};
use super::rows::Rows;
use super::scalars;
use crate::loops::{Access, BinaryOp, BufferId, CompareOp, Condition, Index, Kernel, Reg, Scalar, ScalarOp};
use gradc_ir::{DType, Graph, Node, Op, ReduceOp, Shape, Value};

/// The nest of a body, with what the emission of values needs.
pub(super) struct Cluster<'g> {
    pub body: &'g Graph,
    pub nest: Nest,
    /// The buffer of each input.
    pub inputs: Vec<BufferId>,
    /// The buffer of each output asked for.
    pub outputs: Vec<BufferId>,
}

/// One kernel for the outputs at these positions of the body's list. Buffers: the body's inputs, then the outputs.
pub(super) fn kernel(name: &str, body: &Graph, outputs: &[usize], threads: usize) -> Kernel {
    let values: Vec<Value> = outputs.iter().map(|&output| body.outputs()[output]).collect();
    let rows = Rows::of(body, &values, threads);
    let access = rows.as_ref().map_or(Access::Write, |rows| rows.access());
    let mut cluster = Cluster::new(name, body, outputs, access);
    match &rows {
        Some(rows) => cluster.rows(rows, &values),
        None => cluster.map(&values),
    }
    cluster.nest.finish()
}

/// One kernel for all outputs of a body, of one shape whose axes stand in three groups: loops over the axes of each
/// group (at least one loop each), one group inside the other. `over` is an input and the output that is stored over
/// it, if one is. Buffers: the inputs, then the other outputs.
pub(super) fn grouped(body: &Graph, over: (usize, Option<usize>), groups: [&[usize]; 3]) -> Kernel {
    let others: Vec<usize> = (0..body.outputs().len()).filter(|&output| Some(output) != over.1).collect();
    let mut cluster = Cluster::new(body.name(), body, &others, Access::Write);
    if let (input, Some(output)) = over {
        cluster.nest.write_too(cluster.inputs[input]);
        cluster.outputs.insert(output, cluster.inputs[input]);
    }
    let mut at = Vec::new();
    for group in groups {
        if group.iter().all(|&length| length == 1) {
            cluster.nest.open(1);
        }
        at.extend(cluster.nest.open_all(group));
    }
    cluster.store_all(body.outputs(), &at);
    cluster.nest.finish()
}

/// Whether one nest can compute every node of a body.
pub(super) fn accepts(body: &Graph) -> bool {
    body.iter().all(|(_, node)| match &node.op {
        Op::Constant(literal) => literal.is_splat(),
        Op::Input(_) | Op::Iota { .. } | Op::Mark(_) | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) => true,
        Op::Select | Op::Cast(_) | Op::Reduce { .. } | Op::Broadcast { .. } | Op::Reshape { .. } => true,
        Op::Transpose { .. } | Op::Reverse { .. } | Op::Slice { .. } | Op::Pad { .. } => true,
        Op::ArgReduce { .. } | Op::Cumulative { .. } | Op::ArgSort { .. } | Op::Dot(_) | Op::Conv(_) => false,
        Op::Bitcast(_) => false,
        Op::Window(_) | Op::Concat { .. } | Op::Gather { .. } | Op::Scatter { .. } | Op::Softmax { .. } => {
            false
        }
        Op::LogSoftmax { .. } | Op::Scan(_) | Op::Project(_) | Op::Fused(_) => false,
    })
}

/// Splits the outputs of a body into sets that one nest can compute together.
pub(super) fn partition(body: &Graph) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..body.outputs().len()).collect();
    let shapes: Vec<&Shape> = body.outputs().iter().map(|&value| &body.ty(value).shape).collect();
    let together =
        Rows::of(body, body.outputs(), 1).is_some() || shapes.windows(2).all(|pair| pair[0] == pair[1]);
    if together { vec![all] } else { all.into_iter().map(|output| vec![output]).collect() }
}

impl<'g> Cluster<'g> {
    /// A nest with the buffers of the body's inputs and of some of its outputs.
    fn new(name: &str, body: &'g Graph, outputs: &[usize], access: Access) -> Cluster<'g> {
        let mut nest = Nest::new(name);
        let mut declare = |name: String, value: Value, access| {
            let ty = body.ty(value);
            nest.buffer(&name, scalars::scalar(ty.dtype), ty.shape.elements(), access)
        };
        let inputs = (0..body.inputs().len())
            .map(|position| declare(format!("in{position}"), Value::from_index(position), Access::Read))
            .collect();
        let outputs = outputs
            .iter()
            .map(|&output| declare(format!("out{output}"), body.outputs()[output], access))
            .collect();
        Cluster { body, nest, inputs, outputs }
    }

    /// One nest over the shape that all outputs share.
    fn map(&mut self, outputs: &[Value]) {
        let Some(&first) = outputs.first() else { return };
        let at = self.nest.open_all(&self.body.ty(first).shape);
        self.store_all(outputs, &at);
    }

    /// Stores every output (all of one shape) at a position.
    fn store_all(&mut self, outputs: &[Value], at: &[Index]) {
        let registers: Vec<Reg> = outputs.iter().map(|&output| self.stored_value(output, at)).collect();
        for (position, (&output, reg)) in outputs.iter().zip(registers).enumerate() {
            self.store(position, output, at, reg);
        }
    }

    /// Stores one output at a position.
    pub fn store(&mut self, position: usize, output: Value, at: &[Index], reg: Reg) {
        let index = flatten(&self.body.ty(output).shape, at);
        self.nest.store(self.outputs[position], index, reg);
    }

    /// The register that holds a value at a position.
    pub fn value(&mut self, value: Value, at: &[Index]) -> Reg {
        if let Some(reg) = self.nest.cached(value, at) {
            return reg;
        }
        let node = self.body.node(value);
        let reg = self.compute(value, node, at);
        let reg = self.rounded(node, reg);
        self.nest.remember(value, at, reg);
        reg
    }

    /// The register that holds a value at a position and is stored: a store rounds by itself.
    pub fn stored_value(&mut self, value: Value, at: &[Index]) -> Reg {
        let node = self.body.node(value);
        let is_read = || self.body.iter().any(|(_, user)| user.operands.contains(&value));
        let rounds = scalars::scalar(node.ty().dtype).rounding().is_some();
        match rounds && self.nest.cached(value, at).is_none() && !is_read() {
            true => self.compute(value, node, at),
            false => self.value(value, at),
        }
    }

    /// What a node yields of what its operator gives in a register: 16-bit floats are rounded by every operator.
    pub fn rounded(&mut self, node: &Node, reg: Reg) -> Reg {
        match scalars::scalar(node.ty().dtype).rounding() {
            Some(rounding) if !is_exact(&node.op) => {
                self.nest.operation(Scalar::F32, ScalarOp::Unary(rounding), &[reg])
            }
            _ => reg,
        }
    }

    fn compute(&mut self, value: Value, node: &'g Node, at: &[Index]) -> Reg {
        let ty = node.ty();
        let register = scalars::scalar(ty.dtype).register();
        let x = node.operands.first().copied();
        match (&node.op, x) {
            (Op::Input(position), _) => {
                let index = flatten(&ty.shape, at);
                self.nest.load(self.inputs[*position as usize], index)
            }
            (Op::Constant(literal), _) => match scalars::splat(literal) {
                Some(constant) => self.nest.constant(register, constant),
                None => unreachable!("constants of several values are inputs of a group"),
            },
            (Op::Iota { axis, .. }, _) => {
                let position = self.nest.position(&at[*axis]);
                self.nest.cast(position, register)
            }
            (Op::Unary(op), Some(x)) => {
                let x = self.value(x, at);
                self.nest.operation(register, ScalarOp::Unary(scalars::unary(*op)), &[x])
            }
            (Op::Binary(op), Some(x)) => {
                let (a, mut b) = (self.value(x, at), self.value(node.operands[1], at));
                if *op == gradc_ir::BinaryOp::Shr && ty.dtype.is_signed_integer() {
                    b = self.within_width(ty.dtype, b);
                }
                self.nest.binary(scalars::binary(*op, ty.dtype), a, b)
            }
            (Op::Compare(op), Some(x)) => {
                let (a, b) = (self.value(x, at), self.value(node.operands[1], at));
                self.nest.compare(scalars::compare(*op), a, b)
            }
            (Op::Select, Some(x)) => {
                let [c, a, b] =
                    [x, node.operands[1], node.operands[2]].map(|operand| self.value(operand, at));
                self.nest.select(c, a, b)
            }
            (Op::Cast(dtype), Some(x)) => {
                let x = self.value(x, at);
                self.nest.cast(x, scalars::scalar(*dtype))
            }
            (Op::Mark(_), Some(x)) => self.value(x, at),
            (Op::Broadcast { dims, .. }, Some(x)) => {
                let lengths = &self.body.ty(x).shape;
                let inner: Vec<Index> =
                    dims.iter().zip(lengths.iter()).map(|(&dim, _)| at[dim].clone()).collect();
                self.value(x, &inner)
            }
            (Op::Transpose { permutation }, Some(x)) => {
                let mut inner = vec![Index::default(); at.len()];
                permutation.iter().zip(at).for_each(|(&axis, index)| inner[axis] = index.clone());
                self.value(x, &inner)
            }
            (Op::Reverse { axes }, Some(x)) => {
                let mut inner = at.to_vec();
                for &axis in axes {
                    inner[axis] = affine(ty.shape[axis] as i64 - 1, [(at[axis].clone(), -1)]);
                }
                self.value(x, &inner)
            }
            (Op::Slice { start, step, .. }, Some(x)) => {
                let inner: Vec<Index> = (0..at.len())
                    .map(|axis| affine(start[axis] as i64, [(at[axis].clone(), step[axis] as i64)]))
                    .collect();
                self.value(x, &inner)
            }
            (Op::Reshape { .. }, Some(x)) => {
                let inner = self.unflatten(flatten(&ty.shape, at), at, &ty.shape, x);
                self.value(x, &inner)
            }
            (Op::Pad { low, interior, .. }, Some(x)) => {
                self.padded(value, x, node.operands[1], low, interior, at)
            }
            (Op::Reduce { op, axes }, Some(x)) => self.reduce_here(*op, axes, x, at),
            (op, _) => unreachable!("{} is no member of a group", op.name()),
        }
    }

    /// Positions in the operand of a reshape. Loads need only the flat position; other operands get theirs by
    /// taking axes of length 1 away or by division.
    fn unflatten(&mut self, flat: Index, at: &[Index], shape: &Shape, operand: Value) -> Vec<Index> {
        let lengths = self.body.ty(operand).shape.clone();
        let own: Vec<Index> = at
            .iter()
            .zip(shape.iter())
            .filter(|&(_, &length)| length != 1)
            .map(|(index, _)| index.clone())
            .collect();
        let kept: Vec<usize> = shape.iter().copied().filter(|&length| length != 1).collect();
        if kept == lengths.iter().copied().filter(|&length| length != 1).collect::<Vec<_>>() {
            let mut own = own.into_iter();
            let next = |&length: &usize| {
                if length == 1 { Index::constant(0) } else { own.next().unwrap_or_default() }
            };
            return lengths.iter().map(next).collect();
        }
        if matches!(self.body.node(operand).op, Op::Input(_)) && !lengths.is_empty() {
            let mut inner = vec![Index::constant(0); lengths.rank()];
            inner[lengths.rank() - 1] = flat;
            return inner;
        }
        let mut rest = self.nest.position(&flat);
        let mut inner = vec![Index::constant(0); lengths.rank()];
        for axis in (0..lengths.rank()).rev() {
            let length = self.integer(lengths[axis].max(1) as i64);
            let digit = self.nest.binary(BinaryOp::Rem, rest, length);
            inner[axis] = Index::constant(0).plus_register(digit, 1);
            rest = self.nest.binary(BinaryOp::Div, rest, length);
        }
        inner
    }

    /// A distance that shifts as far as one beyond the width, or below 0, does: so far that the sign alone is left.
    fn within_width(&mut self, dtype: DType, distance: Reg) -> Reg {
        let scalar = scalars::scalar(dtype);
        let last = self.nest.constant(scalar, scalars::number(dtype, dtype.size() as f64 * 8.0 - 1.0));
        let zero = self.nest.constant(scalar, scalars::number(dtype, 0.0));
        let below = self.nest.compare(CompareOp::Lt, distance, zero);
        let above = self.nest.compare(CompareOp::Gt, distance, last);
        let beyond = self.nest.binary(BinaryOp::Or, below, above);
        self.nest.select(beyond, last, distance)
    }

    fn integer(&mut self, value: i64) -> Reg {
        self.nest.constant(Scalar::I64, crate::loops::Constant::Int(value))
    }

    fn padded(
        &mut self,
        value: Value,
        x: Value,
        fill: Value,
        low: &[i64],
        interior: &[usize],
        at: &[Index],
    ) -> Reg {
        let ty = self.body.ty(value);
        let lengths = self.body.ty(x).shape.clone();
        let fill = self.value(fill, &[]);
        let accumulator =
            self.nest.accumulator(scalars::scalar(ty.dtype).register(), scalars::number(ty.dtype, 0.0));
        self.nest.set(accumulator, fill);
        let depth = self.nest.depth();
        let mut conditions = Vec::new();
        let mut inner = Vec::with_capacity(at.len());
        for axis in 0..at.len() {
            let shifted = at[axis].clone().offset(-low[axis]);
            let step = interior[axis] as i64 + 1;
            let length = lengths[axis] as i64;
            let reach = if length == 0 { 0 } else { (length - 1) * step + 1 };
            if low[axis] > 0 || step > 1 || length == 0 {
                conditions.push(Condition::Affine { index: shifted.clone(), op: CompareOp::Ge, bound: 0 });
            }
            if ty.shape[axis] as i64 - low[axis] > reach || step > 1 || length == 0 {
                conditions.push(Condition::Affine {
                    index: shifted.clone(),
                    op: CompareOp::Lt,
                    bound: reach,
                });
            }
            if step == 1 {
                inner.push(shifted);
            } else {
                let (position, step) = (self.nest.position(&shifted), self.integer(step));
                let zero = self.integer(0);
                let rest = self.nest.binary(BinaryOp::Rem, position, step);
                conditions.push(Condition::Register(self.nest.compare(CompareOp::Eq, rest, zero)));
                let quotient = self.nest.binary(BinaryOp::Div, position, step);
                inner.push(Index::constant(0).plus_register(quotient, 1));
            }
        }
        self.nest.guard(conditions);
        let x = self.value(x, &inner);
        self.nest.set(accumulator, x);
        self.nest.close_to(depth);
        self.nest.read(accumulator)
    }

    fn reduce_here(&mut self, op: ReduceOp, axes: &[usize], x: Value, at: &[Index]) -> Reg {
        let ty = self.body.ty(x).clone();
        let register = scalars::scalar(ty.dtype).register();
        let accumulator = self.nest.accumulator(register, scalars::identity(op, ty.dtype));
        let depth = self.nest.depth();
        let lengths: Vec<usize> = axes.iter().map(|&axis| ty.shape[axis]).collect();
        let inner = self.nest.open_all(&lengths);
        let at = merge_axes(ty.shape.rank(), axes, at, &inner);
        let x = self.value(x, &at);
        self.nest.reduce(accumulator, scalars::reduce(op, ty.dtype), x);
        self.nest.close_to(depth);
        self.nest.read(accumulator)
    }
}

/// Whether the result of an operator needs no more bits than its operands of the same type have.
fn is_exact(op: &Op) -> bool {
    match op {
        Op::Unary(op) => {
            use gradc_ir::UnaryOp::{Abs, Ceil, Floor, Neg, Round, Sign};
            matches!(op, Neg | Abs | Sign | Floor | Ceil | Round)
        }
        Op::Binary(op) => matches!(op, gradc_ir::BinaryOp::Max | gradc_ir::BinaryOp::Min),
        Op::Reduce { op, .. } => matches!(op, ReduceOp::Max | ReduceOp::Min),
        Op::Cast(_) | Op::Iota { .. } => false,
        _ => true,
    }
}

/// Positions on all axes, from those on `axes` (inner) and on the others (outer).
pub(super) fn merge_axes(rank: usize, axes: &[usize], outer: &[Index], inner: &[Index]) -> Vec<Index> {
    let (mut outer, mut inner) = (outer.iter(), inner.iter());
    (0..rank)
        .map(|axis| {
            if axes.contains(&axis) { inner.next() } else { outer.next() }.cloned().unwrap_or_default()
        })
        .collect()
}
