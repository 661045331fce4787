//! Computes at compile time what depends on constants alone.

use crate::Pass;
use gradc_ir::{Builder, Limits, Literal, Node, Op, TensorType, Value, eval_op_with, rebuild};

/// Results up to this size are always worth folding.
const SMALL: usize = 4 << 10;
/// Results above this size are never folded.
pub(crate) const LARGE: usize = 64 << 20;
/// Element operations that one fold may take.
const MOST_WORK: usize = 1 << 27;

/// Replaces nodes whose operands are all constants by their values.
///
/// A result may be larger than 4 KiB only where it is not more than four times as large as the constants it is made
/// of, and never larger than 64 MiB. A constant whose elements are all equal becomes a repeated scalar, and a
/// repeated constant is never written out, only read where it is an operand of something that is folded. Marks,
/// loops and counters stay.
pub struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn run(&self, graph: &gradc_ir::Graph) -> gradc_ir::Graph {
        rebuild(graph, |builder, _, node, operands| match &node.op {
            Op::Constant(literal) => repeated(builder, literal),
            _ => fold(builder, node, operands),
        })
    }
}

/// A constant of more than one element as a repeated scalar, where that is what it is.
fn repeated(builder: &Builder, literal: &Literal) -> Option<Value> {
    if literal.shape().rank() == 0 || !literal.is_splat() {
        return None;
    }
    let bytes = literal.bytes().slice(..literal.dtype().size());
    let scalar = Literal::from_bytes(TensorType::scalar(literal.dtype()), bytes)?;
    Some(builder.constant(scalar).broadcast(literal.shape(), &[]).value())
}

fn fold(builder: &Builder, node: &Node, operands: &[Value]) -> Option<Value> {
    let [ty] = &node.types[..] else { return None };
    if operands.is_empty() || is_kept(&node.op) {
        return None;
    }
    let constants: Vec<Known> =
        operands.iter().map(|&operand| known(builder, operand)).collect::<Option<_>>()?;
    let source: usize = constants.iter().map(|known| known.bytes).sum();
    let fits = ty.bytes() <= SMALL || ty.bytes() <= LARGE && ty.bytes() / 4 <= source;
    let operand_types: Vec<TensorType> = operands.iter().map(|&operand| builder.ty(operand)).collect();
    if !fits || operand_types.iter().any(|ty| ty.bytes() > LARGE) || work(node, &operand_types) > MOST_WORK {
        return None;
    }
    let literals: Vec<Literal> =
        operands.iter().map(|&operand| literal(builder, operand)).collect::<Option<_>>()?;
    // An index out of range is an error of the run, not of the compiler: such a node stays.
    let limits = Limits { max_bytes: 8 * LARGE };
    let result = eval_op_with(&node.op, &literals, &limits).ok()?.into_iter().next()?;
    Some(repeated(builder, &result).unwrap_or_else(|| builder.constant(result).value()))
}

/// Operators that folding leaves alone.
fn is_kept(op: &Op) -> bool {
    matches!(op, Op::Mark(_) | Op::Broadcast { .. } | Op::Scan(_) | Op::Fused(_) | Op::Project(_))
}

/// A value that can be computed now, and how many bytes of constants it takes.
struct Known {
    bytes: usize,
}

fn known(builder: &Builder, value: Value) -> Option<Known> {
    let node = builder.node(value);
    match &node.op {
        Op::Constant(literal) => Some(Known { bytes: literal.ty().bytes() }),
        Op::Iota { ty, .. } => (ty.bytes() <= SMALL).then_some(Known { bytes: 0 }),
        Op::Broadcast { .. } => match &builder.node(node.operands[0]).op {
            Op::Constant(literal) => Some(Known { bytes: literal.ty().bytes() }),
            _ => None,
        },
        _ => None,
    }
}

fn literal(builder: &Builder, value: Value) -> Option<Literal> {
    let node = builder.node(value);
    match &node.op {
        Op::Constant(literal) => Some(literal.clone()),
        op => {
            let operands: Vec<Literal> =
                (node.operands.iter()).map(|&operand| literal(builder, operand)).collect::<Option<_>>()?;
            eval_op_with(op, &operands, &Limits { max_bytes: 4 * LARGE }).ok()?.into_iter().next()
        }
    }
}

/// About how many element operations a node takes.
fn work(node: &Node, operands: &[TensorType]) -> usize {
    let result = node.ty().shape.elements();
    let inner: usize = match &node.op {
        Op::Dot(dims) => dims.lhs_contract.iter().map(|&axis| operands[0].shape[axis]).product(),
        Op::Conv(conv) => {
            let channels = operands[0].shape[1].max(operands[0].shape[0]);
            conv.kernel.iter().product::<usize>().saturating_mul(channels)
        }
        Op::Window(window) => window.window.iter().product(),
        _ => 1,
    };
    let largest = operands.iter().map(|ty| ty.shape.elements()).max().unwrap_or(0);
    result.saturating_mul(inner).max(largest)
}
