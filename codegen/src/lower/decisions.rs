//! Which values decide something: they reach an operator whose result jumps, such as a comparison, a rounding or the
//! position of the greatest element.
//!
//! Where nothing jumps, an error of a rounding stays as small as it is. A decision makes a large one of it, for the few
//! elements next to the jump: the gradient of a ReLU, for one, is another on the other side of zero. So what decides is
//! computed as exactly as plain sums are, and only the rest by the faster ways that are less exact.

use gradc_ir::{BinaryOp, CompareOp, Graph, Node, Op, UnaryOp, Value, WindowKind};

/// For each value of a graph, whether a decision depends on it; `outer` if decisions depend on the graph's outputs.
pub(super) fn depend(graph: &Graph, outer: bool) -> Vec<bool> {
    let mut depend = vec![false; graph.len()];
    graph.outputs().iter().for_each(|output| depend[output.index()] |= outer);
    let users = Users::of(graph);
    for (value, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        let after = depend[value.index()];
        match &node.op {
            // A group decides by some of its operands only.
            Op::Fused(fused) => {
                let inner = self::depend(&fused.body, after);
                for (operand, input) in node.operands.iter().zip(fused.body.values()) {
                    depend[operand.index()] |= inner[input.index()];
                }
            }
            Op::Scan(scan) => {
                let decides = after || self::depend(&scan.body, false).contains(&true);
                node.operands.iter().for_each(|operand| depend[operand.index()] |= decides);
            }
            _ => {
                let decides = after || jumps(graph, &users, value, node);
                node.operands.iter().for_each(|operand| depend[operand.index()] |= decides);
            }
        }
    }
    depend
}

/// Whether a small change of an operand can make a large one of the result.
fn jumps(graph: &Graph, users: &Users, value: Value, node: &Node) -> bool {
    let float = |position: usize| {
        node.operands.get(position).is_some_and(|operand| graph.ty(*operand).dtype.is_float())
    };
    match &node.op {
        Op::Input(_) | Op::Constant(_) | Op::Iota { .. } | Op::Mark(_) | Op::Select => false,
        Op::Unary(op) => {
            float(0) && matches!(op, UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round)
        }
        Op::Binary(op) => float(0) && matches!(op, BinaryOp::Rem | BinaryOp::Atan2),
        Op::Compare(op) => float(0) && !is_harmless(graph, users, value, node, *op),
        Op::Cast(to) => float(0) && !to.is_float(),
        Op::Bitcast(_) | Op::ArgReduce { .. } | Op::ArgSort { .. } => float(0),
        Op::Window(window) => match window.kind {
            WindowKind::ArgMax => float(0),
            WindowKind::Sum | WindowKind::Max | WindowKind::Spread { .. } => false,
        },
        Op::Reduce { .. } | Op::Cumulative { .. } | Op::Dot(_) | Op::Conv(_) => false,
        Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Reverse { .. } => false,
        Op::Slice { .. } | Op::Pad { .. } | Op::Concat { .. } | Op::Gather { .. } | Op::Scatter { .. } => {
            false
        }
        Op::Softmax { .. } | Op::LogSoftmax { .. } | Op::Project(_) => false,
        Op::Scan(_) | Op::Fused(_) => unreachable!("their bodies are looked at"),
    }
}

/// Whether a comparison only chooses between values that agree where it turns, as those of ReLU and its kin do, or asks
/// whether something is exactly a constant, as the guards of gradients do.
fn is_harmless(graph: &Graph, users: &Users, value: Value, node: &Node, op: CompareOp) -> bool {
    let (a, b) = (node.operands[0], node.operands[1]);
    if matches!(op, CompareOp::Eq | CompareOp::Ne) {
        return constant(graph, a).is_some() || constant(graph, b).is_some();
    }
    let zero = |value: Value| constant(graph, value) == Some(0.0);
    let meets = |branch: Value| {
        let is_side = |value: Value| value == a || value == b || zero(value) && (zero(a) || zero(b));
        // Where one side is zero, so is every multiple of the other.
        let is_multiple = |value: Value| {
            matches!(graph.node(value).op, Op::Binary(BinaryOp::Mul))
                && (zero(a) || zero(b))
                && graph
                    .node(value)
                    .operands
                    .iter()
                    .any(|&factor| (factor == a || factor == b) && !zero(factor))
        };
        is_side(branch) || is_multiple(branch)
    };
    users.only(value, |user| {
        let node = graph.node(user);
        matches!(node.op, Op::Select)
            && node.operands[0] == value
            && node.operands[1..].iter().all(|&branch| meets(branch))
    })
}

/// The number that a value is in all its elements, if it is known.
fn constant(graph: &Graph, value: Value) -> Option<f64> {
    let node = graph.node(value);
    match &node.op {
        Op::Constant(literal) if literal.shape().elements() == 1 => literal.to_f64().first().copied(),
        Op::Broadcast { .. } | Op::Reshape { .. } | Op::Mark(_) => constant(graph, node.operands[0]),
        _ => None,
    }
}

/// The users of comparisons.
struct Users {
    users: Vec<Vec<Value>>,
    outputs: Vec<bool>,
}

impl Users {
    /// Those of comparisons, which alone are asked for.
    fn of(graph: &Graph) -> Users {
        let mut users = vec![Vec::new(); graph.len()];
        let mut outputs = vec![false; graph.len()];
        for (value, node) in graph.iter() {
            for operand in
                node.operands.iter().filter(|operand| matches!(graph.node(**operand).op, Op::Compare(_)))
            {
                users[operand.index()].push(value);
            }
        }
        graph.outputs().iter().for_each(|output| outputs[output.index()] = true);
        Users { users, outputs }
    }

    /// Whether a value has users of one kind only.
    fn only(&self, value: Value, kind: impl Fn(Value) -> bool) -> bool {
        !self.outputs[value.index()] && self.users[value.index()].iter().all(|&user| kind(user))
    }
}
