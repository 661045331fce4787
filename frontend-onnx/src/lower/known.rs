//! What is known of values at compile time: shape arithmetic is computed while lowering.

use gradc_ir::{Builder, DType, Expr, Literal, Mark, Op, TensorType, Value};
use half::{bf16, f16};
use std::cell::RefCell;

/// A result larger than this is left to the graph.
const RESULT_BYTES: usize = 1 << 20;
/// Operands that are larger together are not looked at.
const OPERAND_BYTES: usize = 8 << 20;
/// More multiplications than this are left to the graph.
const DOT_WORK: usize = 1 << 22;

/// Fewer numbers of 8 bits are no weights.
const FEWEST_WEIGHTS: usize = 256;

/// The data of values, found when asked for.
#[derive(Default)]
pub(crate) struct Known {
    /// By the index of the value; `None` where nobody asked.
    states: RefCell<Vec<Option<State>>>,
    /// Whether values depend on constants alone.
    constant: RefCell<Vec<Option<bool>>>,
}

#[derive(Clone)]
enum State {
    /// Depends on run-time inputs, or is too large.
    Unknown,
    /// The data.
    Data(Literal),
}

impl Known {
    /// Makes the data of a weight known.
    pub fn set_weight(&self, value: Value, literal: Literal) {
        set(&self.states, value, State::Data(literal));
    }

    /// The data of a value, where it depends on constants and weights alone and is not too large.
    pub fn literal(&self, builder: &Builder, value: Value) -> Option<Literal> {
        let decided = |value| self.get(value).map(|state| matches!(state, State::Unknown));
        walk(builder, value, decided, |value| {
            let state = self.compute(builder, value);
            set(&self.states, value, state);
        });
        match self.get(value) {
            Some(State::Data(literal)) => Some(literal),
            Some(State::Unknown) | None => None,
        }
    }

    /// Whether a value depends on constants alone: not on inputs or weights, nor on tensors with an identity of their own.
    pub fn is_constant(&self, builder: &Builder, value: Value) -> bool {
        let decided = |value| get(&self.constant, value).map(|constant| !constant);
        walk(builder, value, decided, |value| {
            let node = builder.node(value);
            let changes = matches!(node.op, Op::Input(_) | Op::Mark(Mark::Tag(_)));
            let constant = node.operands.iter().all(|&operand| get(&self.constant, operand) == Some(true));
            set(&self.constant, value, constant && !changes);
        });
        get(&self.constant, value) == Some(true)
    }

    /// The value itself, or an equal constant where it depends on constants alone.
    pub fn fold<'b>(&self, value: Expr<'b>) -> Expr<'b> {
        let builder = value.builder();
        let node = builder.node(value.value());
        let whole = matches!(node.op, Op::Constant(_) | Op::Input(_)) || node.is_tuple();
        if whole || are_weights_in_bytes(builder, value.value()) || !self.is_constant(builder, value.value())
        {
            return value;
        }
        let Some(literal) = self.literal(builder, value.value()) else { return value };
        // Equal elements stay one element: every pass understands a broadcast scalar.
        if literal.shape().elements() < 2 || !literal.is_splat() {
            return builder.constant(literal);
        }
        let element = literal.bytes().slice(..literal.dtype().size());
        match Literal::from_bytes(TensorType::scalar(literal.dtype()), element) {
            Some(element) => builder.constant(element).broadcast(literal.shape(), &[]),
            None => value,
        }
    }

    /// The name of a run-time input that the value depends on.
    pub fn runtime_source(&self, builder: &Builder, value: Value) -> Option<String> {
        let mut pending = vec![value];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(value) = pending.pop() {
            if !seen.insert(value) || matches!(self.get(value), Some(State::Data(_))) {
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
        get(&self.states, value)
    }

    /// The state of a value whose operands have one.
    fn compute(&self, builder: &Builder, value: Value) -> State {
        let node = builder.node(value);
        if let Op::Constant(literal) = &node.op {
            return State::Data(literal.clone());
        }
        let mut operands = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            match self.get(operand) {
                Some(State::Data(literal)) => operands.push(literal),
                Some(State::Unknown) | None => return State::Unknown,
            }
        }
        let shared = match (&node.op, &operands[..]) {
            (Op::Mark(_), [operand, ..]) => Some(operand.clone()),
            (Op::Reshape { shape }, [operand]) => operand.reshaped(shape.clone()),
            _ => None,
        };
        if let Some(literal) = shared {
            return State::Data(literal);
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
        evaluate(&node.op, &operands).map_or(State::Unknown, State::Data)
    }
}

/// Decides a value after its operands, each once. What is decided answers whether that decides its users too, whatever
/// their other operands.
fn walk(
    builder: &Builder,
    value: Value,
    decided: impl Fn(Value) -> Option<bool>,
    mut decide: impl FnMut(Value),
) {
    let mut pending = vec![value];
    while let Some(&top) = pending.last() {
        let mut next = None;
        if decided(top).is_none() {
            let node = builder.node(top);
            let settled = node.operands.iter().any(|&operand| decided(operand) == Some(true));
            next = node.operands.iter().copied().find(|&operand| !settled && decided(operand).is_none());
            if next.is_none() {
                decide(top);
            }
        }
        match next {
            Some(operand) => pending.push(operand),
            None => drop(pending.pop()),
        }
    }
}

fn get<T: Clone>(by_value: &RefCell<Vec<Option<T>>>, value: Value) -> Option<T> {
    by_value.borrow().get(value.index()).cloned().flatten()
}

/// Whether a value is what many numbers of 8 bits stand for: then passes have to see how.
fn are_weights_in_bytes(builder: &Builder, value: Value) -> bool {
    let mut node = builder.node(value);
    if !node.ty().dtype.is_float() || node.ty().shape.elements() < FEWEST_WEIGHTS {
        return false;
    }
    // A transpose, a scale, a zero point, a conversion.
    for _ in 0..5 {
        node = match &node.op {
            Op::Cast(_) if matches!(builder.ty(node.operands[0]).dtype, DType::I8 | DType::U8) => {
                return true;
            }
            Op::Transpose { .. } | Op::Binary(_) | Op::Cast(_) => builder.node(node.operands[0]),
            _ => return false,
        };
    }
    false
}

fn set<T: Clone>(by_value: &RefCell<Vec<Option<T>>>, value: Value, state: T) {
    let mut states = by_value.borrow_mut();
    if states.len() <= value.index() {
        states.resize(value.index() + 1, None);
    }
    states[value.index()] = Some(state);
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

#[cfg(test)]
mod tests {
    use super::*;
    use gradc_ir::Shape;

    #[test]
    fn weights_of_8_bits_are_left_to_passes_and_all_else_is_folded() {
        let builder = Builder::new("known");
        let known = Known::default();
        let is_folded =
            |value: Expr<'_>| matches!(builder.node(known.fold(value).value()).op, Op::Constant(_));
        let stands_for = |bytes: Literal| {
            let whole = builder.constant(bytes).cast(DType::F32);
            (whole - whole.splat(3.0)) * whole.splat(0.5)
        };
        let numbers: Vec<i8> = (0..FEWEST_WEIGHTS).map(|i| i as i8).collect();
        let weights = stands_for(Literal::new(Shape::new(&[16, 16]), &numbers));
        assert!(!is_folded(weights) && !is_folded(weights.transpose(&[1, 0])));
        assert!(known.literal(&builder, weights.value()).is_some(), "known to whoever asks");
        assert!(is_folded(stands_for(Literal::new(Shape::new(&[5, 3]), &numbers[..15]))), "too few");
        let wide: Vec<i32> = numbers.iter().map(|&number| number.into()).collect();
        assert!(is_folded(stands_for(Literal::new(Shape::new(&[16, 16]), &wide))), "of 32 bits");
    }
}
