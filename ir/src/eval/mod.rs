//! The reference interpreter: the meaning of every operator.
//!
//! It is slow and simple, and more exact than the kernels. Floats of every type are computed in f64 and rounded to
//! their type once per node, also where many terms are summed (reductions, products, convolutions, windows, scatter),
//! which happens in row-major order; the 16-bit types are reached through f32. So `+ - * /`, square roots and
//! remainders are correctly rounded, and other functions of f32 practically so. Integers are computed without loss
//! and wrapped to their type once per node. What [`Op`] leaves open is fixed here:
//!
//! - `Max` and `Min` take 0 to be greater than -0; `Sign` of either is 0.
//! - Integer `Pow` with a negative exponent is 0, except that of 1 and -1; negative shift distances are beyond the
//!   width.
//! - 64-bit integers are rounded once to f32 and f64; f64 is rounded to the 16-bit types through f32.
//! - `Softmax` and `LogSoftmax` of a line that is all -inf, or holds +inf, are NaN.
//! - Scattering bools, `Add` is or and `Mul` is and.
//! - Every index of `Gather` and `Scatter` is checked, also where the slices are empty.
//! - A graph of a [`Op::Fused`] or [`Op::Scan`] rounds after each of its nodes.

mod control;
mod direct;
mod element;
mod erf;
mod product;
mod reduce;
mod shape;
mod tensor;
mod window;

use crate::*;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;
use tensor::Tensor;

/// Why a graph or node has no value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EvalError {
    /// The graph takes another number of inputs.
    #[error("the graph takes {wanted} inputs, got {got}")]
    InputCount {
        /// Number of inputs of the graph.
        wanted: usize,
        /// Number of tensors given.
        got: usize,
    },
    /// A tensor is not of its input's type.
    #[error("input {input} (`{name}`) must be {wanted}, got {got}")]
    InputType {
        /// The position of the input.
        input: usize,
        /// The name of the input.
        name: Arc<str>,
        /// The type of the input.
        wanted: Box<TensorType>,
        /// The type of the tensor given.
        got: Box<TensorType>,
    },
    /// A gather or scatter met an index outside the axis.
    #[error("{}index {value} is out of range for axis {axis} of length {length}", place(path))]
    Index {
        /// The index.
        value: i64,
        /// The length of the axis.
        length: usize,
        /// The axis that is indexed.
        axis: usize,
        /// The node: first in the graph evaluated, then in the body of that node, and so on. Empty from [`eval_op`].
        path: Vec<Value>,
    },
    /// More memory than [`Limits::max_bytes`] would be in use.
    #[error("{bytes} bytes of tensors would be in use, more than the limit of {limit}")]
    TooLarge {
        /// What would be in use.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The operands of [`eval_op`] do not fit the operator.
    #[error(transparent)]
    Type(#[from] TypeError),
}

fn place(path: &[Value]) -> String {
    path.iter().map(|value| format!("{value}: ")).collect()
}

impl EvalError {
    /// Puts the node in whose computation the error arose before the path.
    fn inside(mut self, value: Value) -> EvalError {
        if let EvalError::Index { path, .. } = &mut self {
            path.insert(0, value);
        }
        self
    }
}

/// How much an evaluation may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of all tensors in use at one time, inputs and outputs included, counted by their types. (The interpreter
    /// holds them less densely: 8 bytes for a float, 16 for an integer or bool.)
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 4 GiB.
    fn default() -> Limits {
        Limits { max_bytes: 1 << 32 }
    }
}

/// The outputs of a graph for these inputs, within the default [`Limits`].
pub fn eval(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Literal>, EvalError> {
    eval_with(graph, inputs, &Limits::default())
}

/// The outputs of a graph for these inputs. Memory beyond the limits is refused before it is taken.
pub fn eval_with(graph: &Graph, inputs: &[Literal], limits: &Limits) -> Result<Vec<Literal>, EvalError> {
    if graph.inputs().len() != inputs.len() {
        return Err(EvalError::InputCount { wanted: graph.inputs().len(), got: inputs.len() });
    }
    for (position, (input, literal)) in graph.inputs().iter().zip(inputs).enumerate() {
        if input.ty != *literal.ty() {
            return Err(EvalError::InputType {
                input: position,
                name: input.name.clone(),
                wanted: Box::new(input.ty.clone()),
                got: Box::new(literal.ty().clone()),
            });
        }
    }
    let mut meter = Meter { used: 0, limit: limits.max_bytes };
    meter.claim(inputs.iter().map(Literal::ty))?;
    let inputs: Vec<Tensor> = inputs.iter().map(Tensor::from_literal).collect();
    let outputs = run(graph, &inputs, &mut meter)?;
    Ok(outputs.iter().map(Tensor::to_literal).collect())
}

/// The results of one operator: one, or all parts of the tuple that [`Op::Scan`] and [`Op::Fused`] yield. The operands
/// are checked by the type rules, which refuse [`Op::Input`] and [`Op::Project`] here. Within the default [`Limits`].
pub fn eval_op(op: &Op, operands: &[Literal]) -> Result<Vec<Literal>, EvalError> {
    eval_op_with(op, operands, &Limits::default())
}

/// As [`eval_op`], within limits.
pub fn eval_op_with(op: &Op, operands: &[Literal], limits: &Limits) -> Result<Vec<Literal>, EvalError> {
    let as_node = |(position, literal): (usize, &Literal)| Node {
        op: Op::Input(position as u32),
        operands: SmallVec::new(),
        types: smallvec![literal.ty().clone()],
    };
    let nodes: Vec<Node> = operands.iter().enumerate().map(as_node).collect();
    let types = infer(op, &nodes.iter().collect::<Vec<&Node>>())?;
    let mut meter = Meter { used: 0, limit: limits.max_bytes };
    meter.claim(operands.iter().map(Literal::ty).chain(&types))?;
    if let [ty] = &types[..]
        && let Some(result) = direct::compute(op, operands, ty)
    {
        return Ok(vec![result]);
    }
    let operands: Vec<Tensor> = operands.iter().map(Tensor::from_literal).collect();
    Ok(compute(op, &operands, &types, &mut meter)?.iter().map(Tensor::to_literal).collect())
}

/// What a node yields: one tensor, or the parts of a tuple.
type Parts = SmallVec<[Tensor; 1]>;

/// Counts the bytes in use.
struct Meter {
    used: usize,
    limit: usize,
}

impl Meter {
    fn claim<'a>(&mut self, types: impl IntoIterator<Item = &'a TensorType>) -> Result<(), EvalError> {
        let bytes = types.into_iter().fold(self.used, |sum, ty| sum.saturating_add(ty.bytes()));
        if bytes > self.limit {
            return Err(EvalError::TooLarge { bytes, limit: self.limit });
        }
        self.used = bytes;
        Ok(())
    }

    fn release(&mut self, types: &[TensorType]) {
        self.used -= types.iter().map(TensorType::bytes).sum::<usize>();
    }
}

/// Evaluates a graph node by node. The caller has claimed the inputs, and claims the outputs.
fn run(graph: &Graph, inputs: &[Tensor], meter: &mut Meter) -> Result<Vec<Tensor>, EvalError> {
    let used_before = meter.used;
    let mut uses = graph.use_counts();
    let mut values: Vec<Parts> = vec![Parts::new(); graph.len()];
    for (value, node) in graph.iter() {
        if let Op::Input(position) = node.op {
            values[value.index()] = smallvec![inputs[position as usize].clone()];
            continue;
        }
        meter.claim(&node.types)?;
        let parts: Parts = if let Op::Project(part) = node.op {
            smallvec![values[node.operands[0].index()][part].clone()]
        } else {
            let operand = |operand: &Value| values[operand.index()][0].clone();
            let operands: SmallVec<[Tensor; 4]> = node.operands.iter().map(operand).collect();
            compute(&node.op, &operands, &node.types, meter).map_err(|error| error.inside(value))?
        };
        values[value.index()] = parts;
        for operand in &node.operands {
            uses[operand.index()] -= 1;
            if uses[operand.index()] == 0 {
                values[operand.index()].clear();
                if !matches!(graph.node(*operand).op, Op::Input(_)) {
                    meter.release(&graph.node(*operand).types);
                }
            }
        }
    }
    meter.used = used_before;
    Ok(graph.outputs().iter().map(|output| values[output.index()][0].clone()).collect())
}

/// Computes one node whose types have been inferred and claimed.
fn compute(op: &Op, x: &[Tensor], types: &[TensorType], meter: &mut Meter) -> Result<Parts, EvalError> {
    let ty = || &types[0];
    let result = match op {
        Op::Input(_) | Op::Project(_) => unreachable!("{op:?} is no function of tensors"),
        Op::Scan(op) => return control::scan(op, x, types, meter),
        Op::Fused(op) => return Ok(run(&op.body, x, meter)?.into()),
        Op::Constant(literal) => Tensor::from_literal(literal),
        Op::Iota { ty, axis } => element::iota(ty, *axis),
        Op::Mark(_) => x[0].clone(),
        Op::Unary(op) => element::unary(*op, &x[0]),
        Op::Binary(op) => element::binary(*op, &x[0], &x[1]),
        Op::Compare(op) => element::compare(*op, &x[0], &x[1]),
        Op::Select => element::select(&x[0], &x[1], &x[2]),
        Op::Cast(dtype) => element::cast(*dtype, &x[0]),
        Op::Bitcast(_) => element::bitcast(&x[0], ty()),
        Op::Reduce { op, axes } => reduce::reduce(*op, axes, &x[0], ty()),
        Op::ArgReduce { op, axis, last } => reduce::arg_reduce(*op, *axis, *last, &x[0], ty()),
        Op::Cumulative { op, axis, exclusive, reverse } => {
            reduce::cumulative(*op, *axis, *exclusive, *reverse, &x[0])
        }
        Op::ArgSort { axis, descending, .. } => reduce::arg_sort(*axis, *descending, &x[0], ty()),
        Op::Dot(dims) => product::dot(dims, &x[0], &x[1], ty()),
        Op::Conv(conv) => product::convolution(conv, &x[0], &x[1], ty()),
        Op::Window(op) => window::window(op, &x[0], ty()),
        Op::Broadcast { dims, .. } => shape::broadcast(&x[0], dims, ty()),
        Op::Reshape { .. } => element::retyped(&x[0], ty()),
        Op::Transpose { permutation } => shape::transpose(&x[0], permutation, ty()),
        Op::Reverse { axes } => shape::reverse(&x[0], axes, ty()),
        Op::Slice { start, step, .. } => shape::slice(&x[0], start, step, ty()),
        Op::Pad { low, interior, .. } => shape::pad(&x[0], &x[1], low, interior, ty()),
        Op::Concat { axis } => shape::concat(x, *axis, ty()),
        Op::Gather { axis } => shape::gather(&x[0], &x[1], *axis, ty())?,
        Op::Scatter { axis, op } => shape::scatter(x, *axis, *op, ty())?,
        Op::Softmax { axis } => reduce::softmax(*axis, false, &x[0]),
        Op::LogSoftmax { axis } => reduce::softmax(*axis, true, &x[0]),
    };
    debug_assert_eq!(result.ty, types[0], "the value is of the inferred type");
    Ok(smallvec![result])
}
