//! What is known of values at compile time: shape arithmetic is computed while lowering.

use gradc_ir::{Builder, DType, Expr, Literal, Mark, Op, Value};
use half::{bf16, f16};
use std::cell::RefCell;

/// A result larger than this is left to the graph.
const RESULT_BYTES: usize = 1 << 20;
/// Operands that are larger together are not looked at.
const OPERAND_BYTES: usize = 8 << 20;
/// More multiplications than this are left to the graph.
const DOT_WORK: usize = 1 << 22;

/// The data of values, found when asked for.
#[derive(Default)]
pub(crate) struct Known {
    /// By the index of the value; `None` where nobody asked.
    states: RefCell<Vec<Option<State>>>,
}

#[derive(Clone)]
enum State {
    /// Depends on run-time inputs, or is too large.
    Unknown,
    /// The data, and whether it depends on constants alone: not on weights, nor on tensors with an identity of their own.
    Data { literal: Literal, pure: bool },
}

impl Known {
    /// Makes the data of a weight known.
    pub fn set_weight(&self, value: Value, literal: Literal) {
        self.set(value, State::Data { literal, pure: false });
    }

    /// The data of a value, where it depends on constants and weights alone and is not too large.
    pub fn literal(&self, builder: &Builder, value: Value) -> Option<Literal> {
        match self.state(builder, value) {
            State::Data { literal, .. } => Some(literal),
            State::Unknown => None,
        }
    }

    /// Whether a value depends on constants alone (and is not too large to tell).
    pub fn is_constant(&self, builder: &Builder, value: Value) -> bool {
        matches!(self.state(builder, value), State::Data { pure: true, .. })
    }

    /// The value itself, or an equal constant where it depends on constants alone.
    pub fn fold<'b>(&self, value: Expr<'b>) -> Expr<'b> {
        let builder = value.builder();
        let node = builder.node(value.value());
        if node.is_tuple() || matches!(node.op, Op::Constant(_) | Op::Input(_)) {
            return value;
        }
        let State::Data { literal, pure: true } = self.state(builder, value.value()) else { return value };
        // Equal elements stay one element: every pass understands a broadcast scalar.
        match (literal.shape().elements(), literal.is_splat()) {
            (2.., true) => {
                let size = literal.dtype().size();
                let scalar = gradc_ir::TensorType::scalar(literal.dtype());
                match Literal::from_bytes(scalar, literal.bytes().slice(..size)) {
                    Some(element) => builder.constant(element).broadcast(literal.shape(), &[]),
                    None => value,
                }
            }
            _ => builder.constant(literal),
        }
    }

    /// The name of a run-time input that the value depends on.
    pub fn runtime_source(&self, builder: &Builder, value: Value) -> Option<String> {
        let mut pending = vec![value];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(value) = pending.pop() {
            if !seen.insert(value) || matches!(self.get(value), Some(State::Data { .. })) {
                continue;
            }
            let node = builder.node(value);
            if let Op::Input(position) = &node.op {
                return builder.inputs().get(*position as usize).map(|input| input.name.to_string());
            }
            pending.extend(&node.operands);
        }
        None
    }

    fn get(&self, value: Value) -> Option<State> {
        self.states.borrow().get(value.index()).cloned().flatten()
    }

    fn set(&self, value: Value, state: State) {
        let mut states = self.states.borrow_mut();
        if states.len() <= value.index() {
            states.resize(value.index() + 1, None);
        }
        states[value.index()] = Some(state);
    }

    fn state(&self, builder: &Builder, value: Value) -> State {
        let mut pending = vec![value];
        while let Some(&top) = pending.last() {
            if self.get(top).is_some() {
                pending.pop();
                continue;
            }
            let node = builder.node(top);
            let missing: Vec<Value> =
                node.operands.iter().copied().filter(|&operand| self.get(operand).is_none()).collect();
            // One unknown operand decides, so the others need not be computed.
            let hopeless = node.is_tuple()
                || node.operands.iter().any(|&operand| matches!(self.get(operand), Some(State::Unknown)));
            if hopeless || missing.is_empty() {
                let state = if hopeless { State::Unknown } else { self.compute(builder, top) };
                self.set(top, state);
                pending.pop();
            } else {
                pending.push(missing[0]);
            }
        }
        self.get(value).unwrap_or(State::Unknown)
    }

    fn compute(&self, builder: &Builder, value: Value) -> State {
        let node = builder.node(value);
        if let Op::Constant(literal) = &node.op {
            return State::Data { literal: literal.clone(), pure: true };
        }
        let mut pure = !matches!(node.op, Op::Mark(Mark::Tag(_)));
        let mut operands = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            match self.get(operand) {
                Some(State::Data { literal, pure: operand_pure }) => {
                    pure &= operand_pure;
                    operands.push(literal);
                }
                Some(State::Unknown) | None => return State::Unknown,
            }
        }
        if let (Op::Mark(_), [operand]) = (&node.op, &operands[..]) {
            return State::Data { literal: operand.clone(), pure };
        }
        if let (Op::Reshape { shape }, [operand]) = (&node.op, &operands[..]) {
            return match operand.reshaped(shape.clone()) {
                Some(literal) => State::Data { literal, pure },
                None => State::Unknown,
            };
        }
        let read: usize = operands.iter().map(|operand| operand.ty().bytes()).sum();
        let expensive = match &node.op {
            Op::Input(_) | Op::Conv(_) | Op::Window(_) | Op::Scan(_) | Op::Project(_) | Op::Fused(_) => true,
            Op::Dot(dims) => {
                let inner: usize = dims.lhs_contract.iter().map(|&axis| operands[0].shape()[axis]).product();
                inner.saturating_mul(node.ty().shape.elements()) > DOT_WORK
            }
            _ => false,
        };
        if expensive || node.ty().bytes() > RESULT_BYTES || read > OPERAND_BYTES {
            return State::Unknown;
        }
        match evaluate(&node.op, &operands) {
            Some(literal) => State::Data { literal, pure },
            None => State::Unknown,
        }
    }
}

/// The result of one operator; `None` where it is not defined on these operands.
fn evaluate(op: &Op, operands: &[Literal]) -> Option<Literal> {
    let mut results = gradc_ir::eval_op(op, operands).ok()?;
    if results.len() == 1 { results.pop() } else { None }
}

/// A float literal in the chosen type; any other as it is.
pub(crate) fn convert_float(literal: Literal, float: Option<DType>) -> Result<Literal, String> {
    let Some(dtype) = float.filter(|&dtype| literal.dtype().is_float() && dtype != literal.dtype()) else {
        return Ok(literal);
    };
    let (shape, numbers) = (literal.shape().clone(), literal.to_f64());
    Ok(match dtype {
        DType::F64 => Literal::new(shape, &numbers),
        DType::F32 => Literal::new(shape, &numbers.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        DType::F16 => Literal::new(shape, &numbers.iter().map(|&x| f16::from_f64(x)).collect::<Vec<_>>()),
        DType::BF16 => Literal::new(shape, &numbers.iter().map(|&x| bf16::from_f64(x)).collect::<Vec<_>>()),
        _ => return Err(format!("{dtype} is no float type to compute in")),
    })
}
