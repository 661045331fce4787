//! The faults that are made: what a node could wrongly have been.

use super::samples::is_guard;
use gradc_ir::*;
use std::sync::Arc;

/// One fault of one node.
#[derive(Clone)]
pub struct Fault {
    /// What is done, in words that are the same wherever the same rule is applied.
    pub what: String,
    how: How,
}

#[derive(Clone)]
enum How {
    /// Another operator.
    Op(Op),
    /// An operand stands for the node.
    Operand(usize),
    /// Operands in another order.
    Order(Vec<usize>),
    /// Another value of the same type in place of an operand: its position, and that of the value.
    Replace(usize, usize),
    /// The result with its sign changed (1 more for integers, the contrary for bools).
    Negated,
    /// Zeros instead of the result.
    Dropped,
}

/// The faults of a node; `others` are the positions of values that could stand for an operand, for each operand.
pub fn faults(nodes: &[Arc<Node>], position: usize) -> Vec<Fault> {
    let node = &nodes[position];
    let mut found: Vec<Fault> = Vec::new();
    let mut add = |what: String, how: How| found.push(Fault { what, how });
    for (what, op) in other_operators(node, &|operand: usize| nodes[node.operands[operand].index()].clone()) {
        add(what, How::Op(op));
    }
    if matches!(node.op, Op::Input(_)) || node.is_tuple() {
        return found;
    }
    for operand in 0..node.operands.len() {
        add(format!("is its operand {operand}"), How::Operand(operand));
    }
    if let [_, _] = node.operands[..]
        && !commutes(&node.op)
    {
        add("operands exchanged".into(), How::Order(vec![1, 0]));
    }
    if let [_, _, _] = node.operands[..] {
        add("last operands exchanged".into(), How::Order(vec![0, 2, 1]));
    }
    let constant = is_constant(nodes, position);
    if !constant {
        add("sign changed".into(), How::Negated);
        add("dropped".into(), How::Dropped);
    }
    found.extend(replacements(nodes, position));
    found
}

/// Other values of the operand's type: the first, and the last before the node.
fn replacements(nodes: &[Arc<Node>], position: usize) -> Vec<Fault> {
    let node = &nodes[position];
    let mut found = Vec::new();
    for (place, operand) in node.operands.iter().enumerate() {
        let wanted = &nodes[operand.index()];
        let fits = |other: &usize| {
            let candidate = &nodes[*other];
            *other != operand.index() && candidate.types == wanted.types && !candidate.is_tuple()
        };
        if wanted.is_tuple() {
            continue;
        }
        let first = (0..position).find(fits);
        let last = (0..position).rev().find(fits).filter(|last| Some(*last) != first);
        for (name, other) in [("first", first), ("last", last)] {
            if let Some(other) = other {
                let what = format!("operand {place} is the {name} other value of its type");
                found.push(Fault { what, how: How::Replace(place, other) });
            }
        }
    }
    found
}

fn commutes(op: &Op) -> bool {
    matches!(
        op,
        Op::Binary(
            BinaryOp::Add
                | BinaryOp::Mul
                | BinaryOp::Max
                | BinaryOp::Min
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::Xor
        ) | Op::Compare(CompareOp::Eq | CompareOp::Ne)
    )
}

fn is_constant(nodes: &[Arc<Node>], position: usize) -> bool {
    let node = &nodes[position];
    match node.op {
        Op::Constant(_) => true,
        Op::Broadcast { .. } | Op::Reshape { .. } | Op::Cast(_) => {
            is_constant(nodes, node.operands[0].index())
        }
        _ => false,
    }
}

/// The value with the fault; `None` where it has another type, so that the compiler itself refuses it.
pub fn with_fault(
    builder: &Builder,
    node: &Node,
    operands: &[Value],
    fault: &Fault,
    renamed: &[Value],
) -> Option<Value> {
    let plain = || builder.push(node.op.clone(), operands).ok();
    let value = match &fault.how {
        How::Op(op) => builder.push(op.clone(), operands).ok()?,
        How::Operand(operand) => operands[*operand],
        How::Order(order) => {
            let operands: Vec<Value> = order.iter().map(|&operand| operands[operand]).collect();
            builder.push(node.op.clone(), &operands).ok()?
        }
        How::Replace(place, other) => {
            let mut operands = operands.to_vec();
            operands[*place] = *renamed.get(*other)?;
            builder.push(node.op.clone(), &operands).ok()?
        }
        How::Negated => {
            let value = builder.expr(plain()?);
            match value.dtype() {
                DType::Bool => value.unary(UnaryOp::Not).value(),
                dtype if dtype.is_float() => (-value).value(),
                _ => (value + value.splat(1.0)).value(),
            }
        }
        How::Dropped => builder.splat(&builder.ty(plain()?), 0.0).value(),
    };
    (builder.node(value).types == node.types).then_some(value)
}

/// Operators that could have been written instead.
fn other_operators(node: &Node, operand: &dyn Fn(usize) -> Arc<Node>) -> Vec<(String, Op)> {
    let named = |ops: Vec<Op>| -> Vec<(String, Op)> {
        ops.into_iter().map(|op| (format!("{} instead", op.name()), op)).collect()
    };
    match &node.op {
        Op::Unary(op) => named(unary(*op).iter().map(|&op| Op::Unary(op)).collect()),
        Op::Binary(op) => named(binary(*op).iter().map(|&op| Op::Binary(op)).collect()),
        Op::Compare(op) => named(compare(*op).iter().map(|&op| Op::Compare(op)).collect()),
        Op::Constant(literal) => constant(literal),
        Op::Iota { ty, axis } => (0..ty.shape.rank())
            .filter(|other| other != axis)
            .map(|other| (format!("along {other}"), Op::Iota { ty: ty.clone(), axis: other }))
            .collect(),
        Op::Mark(Mark::Surrogate) => vec![],
        Op::Mark(Mark::Tag(_) | Mark::StopGradient) => vec![("another mark".into(), Op::Mark(Mark::Tag(77)))],
        Op::Reduce { op, axes } => {
            let others =
                [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max].into_iter().filter(|other| other != op);
            let mut found = named(others.map(|op| Op::Reduce { op, axes: axes.clone() }).collect());
            let rank = operand(0).ty().shape.rank();
            for set in (0..1usize << rank.min(6)).filter(|set| set.count_ones() as usize == axes.len()) {
                let other: Vec<usize> = (0..rank).filter(|axis| set >> axis & 1 == 1).collect();
                if other != *axes {
                    found.push((format!("over {other:?}"), Op::Reduce { op: *op, axes: other }));
                }
            }
            found
        }
        Op::ArgReduce { op, axis, last } => {
            vec![("the last".into(), Op::ArgReduce { op: *op, axis: *axis, last: !last })]
        }
        Op::Cumulative { op, axis, exclusive, reverse } => {
            let (axis, exclusive, reverse) = (*axis, *exclusive, *reverse);
            let other = if *op == CumulativeOp::Sum { CumulativeOp::Prod } else { CumulativeOp::Sum };
            let mut found = vec![
                ("inclusive".into(), Op::Cumulative { op: *op, axis, exclusive: !exclusive, reverse }),
                ("direction".into(), Op::Cumulative { op: *op, axis, exclusive, reverse: !reverse }),
                ("operator".into(), Op::Cumulative { op: other, axis, exclusive, reverse }),
            ];
            for other in (0..node.ty().shape.rank()).filter(|&other| other != axis) {
                let op = Op::Cumulative { op: *op, axis: other, exclusive, reverse };
                found.push((format!("along {other}"), op));
            }
            found
        }
        Op::ArgSort { axis, count, descending } => {
            vec![("direction".into(), Op::ArgSort { axis: *axis, count: *count, descending: !descending })]
        }
        Op::Dot(dims) => dot(dims),
        Op::Conv(conv) => convolution(conv),
        Op::Window(window) => sliding(window),
        Op::Broadcast { shape, dims } => {
            let mut found = Vec::new();
            let rank = shape.rank();
            for set in (0..1usize << rank.min(6)).filter(|set| set.count_ones() as usize == dims.len()) {
                let other: Vec<usize> = (0..rank).filter(|axis| set >> axis & 1 == 1).collect();
                if other != *dims {
                    let op = Op::Broadcast { shape: shape.clone(), dims: other.clone() };
                    found.push((format!("to the axes {other:?}"), op));
                }
            }
            found
        }
        Op::Transpose { permutation } => pairs(permutation.len())
            .map(|(a, b)| {
                let mut permutation = permutation.clone();
                permutation.swap(a, b);
                (format!("axes {a} and {b} exchanged"), Op::Transpose { permutation })
            })
            .collect(),
        Op::Reverse { axes } => (0..axes.len())
            .map(|left| {
                let mut axes = axes.clone();
                axes.remove(left);
                (format!("axis {left} left out"), Op::Reverse { axes })
            })
            .collect(),
        Op::Slice { start, limit, step } => slice(start, limit, step),
        Op::Pad { low, high, interior } => pad(low, high, interior),
        Op::Gather { axis } => (0..operand(0).ty().shape.rank())
            .filter(|other| other != axis)
            .map(|axis| (format!("along {axis}"), Op::Gather { axis }))
            .collect(),
        Op::Scatter { axis, op } => {
            let all = [ScatterOp::Set, ScatterOp::Add, ScatterOp::Mul, ScatterOp::Max, ScatterOp::Min];
            let others = all.into_iter().filter(|other| other != op);
            named(others.map(|op| Op::Scatter { axis: *axis, op }).collect())
        }
        Op::Softmax { axis } => vec![("logarithm".into(), Op::LogSoftmax { axis: *axis })],
        Op::LogSoftmax { axis } => vec![("no logarithm".into(), Op::Softmax { axis: *axis })],
        Op::Scan(scan) => loops(scan),
        Op::Project(part) => {
            let parts = operand(0).types.len();
            (0..parts)
                .filter(|other| other != part)
                .map(|part| (format!("part {part}"), Op::Project(part)))
                .collect()
        }
        Op::Input(_) | Op::Select | Op::Cast(_) | Op::Bitcast(_) => Vec::new(),
        Op::Reshape { .. } | Op::Concat { .. } | Op::Fused(_) => Vec::new(),
    }
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
}

fn unary(op: UnaryOp) -> &'static [UnaryOp] {
    match op {
        UnaryOp::Sin => &[UnaryOp::Cos],
        UnaryOp::Cos => &[UnaryOp::Sin],
        UnaryOp::Exp => &[UnaryOp::Expm1],
        UnaryOp::Expm1 => &[UnaryOp::Exp],
        UnaryOp::Log => &[UnaryOp::Log1p],
        UnaryOp::Log1p => &[UnaryOp::Log],
        UnaryOp::Sinh => &[UnaryOp::Cosh],
        UnaryOp::Cosh => &[UnaryOp::Sinh],
        UnaryOp::Sign => &[UnaryOp::Abs],
        UnaryOp::Abs => &[UnaryOp::Sign],
        UnaryOp::Round => &[UnaryOp::Floor, UnaryOp::Ceil],
        UnaryOp::Neg | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Sqrt | UnaryOp::Tan | UnaryOp::Asin => &[],
        UnaryOp::Acos | UnaryOp::Atan | UnaryOp::Tanh | UnaryOp::Asinh | UnaryOp::Acosh => &[],
        UnaryOp::Atanh | UnaryOp::Erf | UnaryOp::Sigmoid | UnaryOp::Softplus | UnaryOp::Not => &[],
    }
}

fn binary(op: BinaryOp) -> &'static [BinaryOp] {
    match op {
        BinaryOp::Add => &[BinaryOp::Sub, BinaryOp::Mul],
        BinaryOp::Sub => &[BinaryOp::Add],
        BinaryOp::Mul => &[BinaryOp::Div, BinaryOp::Add],
        BinaryOp::Div => &[BinaryOp::Mul],
        BinaryOp::Pow => &[BinaryOp::Mul],
        BinaryOp::Max => &[BinaryOp::Min],
        BinaryOp::Min => &[BinaryOp::Max],
        BinaryOp::And => &[BinaryOp::Or],
        BinaryOp::Or => &[BinaryOp::And],
        BinaryOp::Rem | BinaryOp::Atan2 | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => &[],
    }
}

fn compare(op: CompareOp) -> &'static [CompareOp] {
    match op {
        CompareOp::Eq => &[CompareOp::Ne, CompareOp::Ge],
        CompareOp::Ne => &[CompareOp::Eq, CompareOp::Lt],
        CompareOp::Lt => &[CompareOp::Le, CompareOp::Ge],
        CompareOp::Le => &[CompareOp::Lt, CompareOp::Gt],
        CompareOp::Gt => &[CompareOp::Ge, CompareOp::Le],
        CompareOp::Ge => &[CompareOp::Gt, CompareOp::Lt],
    }
}

/// A number for another: 1 more, and half.
fn constant(literal: &Literal) -> Vec<(String, Op)> {
    let changed = |what: &str, change: &dyn Fn(f64) -> f64| {
        let dtype = literal.dtype();
        let elements = literal.to_f64().into_iter().map(change);
        let bytes: Vec<u8> = elements.flat_map(|x| Literal::scalar_of(dtype, x).bytes().to_vec()).collect();
        let changed = Literal::from_bytes(literal.ty().clone(), bytes.into())?;
        (changed != *literal).then(|| (what.to_string(), Op::Constant(changed)))
    };
    let infinite = literal.to_f64().iter().any(|x| x.is_infinite());
    let more = if infinite { changed("1", &|_| 1.0) } else { changed("1 more", &|x| x + 1.0) };
    let half = changed("half", &|x| if x.is_infinite() { -x } else { x / 2.0 });
    more.into_iter().chain(half).collect()
}

fn dot(dims: &DotDims) -> Vec<(String, Op)> {
    let mut found = Vec::new();
    for (a, b) in pairs(dims.lhs_contract.len()) {
        let mut other = dims.clone();
        other.rhs_contract.swap(a, b);
        found.push((format!("contracted {a} and {b} exchanged"), Op::Dot(other)));
    }
    for (a, b) in pairs(dims.lhs_batch.len()) {
        let mut other = dims.clone();
        other.rhs_batch.swap(a, b);
        found.push((format!("batch {a} and {b} exchanged"), Op::Dot(other)));
    }
    if let ([batch, ..], [contract, ..]) = (&dims.lhs_batch[..], &dims.lhs_contract[..]) {
        let mut other = dims.clone();
        (other.lhs_batch[0], other.lhs_contract[0]) = (*contract, *batch);
        found.push(("batch for contracted".into(), Op::Dot(other)));
    }
    // Another axis contracted on either side.
    for side in 0..2 {
        for axis in 0..6 {
            let mut other = dims.clone();
            let list = if side == 0 { &mut other.lhs_contract } else { &mut other.rhs_contract };
            if let Some(last) = list.last_mut().filter(|last| **last != axis) {
                *last = axis;
                found.push((format!("side {side} contracts {axis}"), Op::Dot(other)));
            }
        }
    }
    found
}

fn convolution(conv: &ConvOp) -> Vec<(String, Op)> {
    let mut found = Vec::new();
    for axis in 0..conv.input.len() {
        let mut add = |what: &str, change: &dyn Fn(&mut ConvOp)| {
            let mut other = conv.clone();
            change(&mut other);
            found.push((format!("{what} of axis {axis}"), Op::Conv(other)));
        };
        add("stride", &|conv| conv.stride[axis] += 1);
        add("dilation", &|conv| conv.dilation[axis] += 1);
        add("padding less", &|conv| conv.pad_low[axis] -= 1);
        add("padding more", &|conv| conv.pad_low[axis] += 1);
    }
    for (form, what) in
        [(ConvForm::Forward, "forward"), (ConvForm::Input, "input"), (ConvForm::Weight, "weight")]
    {
        if form != conv.form {
            found.push((format!("the form {what}"), Op::Conv(ConvOp { form, ..conv.clone() })));
        }
    }
    found
}

fn sliding(window: &WindowOp) -> Vec<(String, Op)> {
    let mut found = Vec::new();
    for axis in 0..window.window.len() {
        let mut add = |what: &str, change: &dyn Fn(&mut WindowOp)| {
            let mut other = window.clone();
            change(&mut other);
            found.push((format!("{what} of axis {axis}"), Op::Window(other)));
        };
        add("shifted down", &|op| {
            (op.pad_low[axis], op.pad_high[axis]) = (op.pad_low[axis] + 1, op.pad_high[axis] - 1)
        });
        add("shifted up", &|op| {
            (op.pad_low[axis], op.pad_high[axis]) = (op.pad_low[axis] - 1, op.pad_high[axis] + 1)
        });
        add("longer windows", &|op| {
            (op.window[axis], op.pad_high[axis]) =
                (op.window[axis] + 1, op.pad_high[axis] + op.dilation[axis] as i64)
        });
        add("dilation", &|op| {
            op.pad_high[axis] += op.window[axis] as i64 - 1;
            op.dilation[axis] += 1;
        });
    }
    found
}

fn slice(start: &[usize], limit: &[usize], step: &[usize]) -> Vec<(String, Op)> {
    let mut found = Vec::new();
    for axis in 0..start.len() {
        let (mut later, mut end) = (start.to_vec(), limit.to_vec());
        (later[axis], end[axis]) = (start[axis] + 1, limit[axis] + 1);
        found.push((
            format!("later on axis {axis}"),
            Op::Slice { start: later, limit: end, step: step.to_vec() },
        ));
        if start[axis] > 0 {
            let (mut earlier, mut end) = (start.to_vec(), limit.to_vec());
            (earlier[axis], end[axis]) = (start[axis] - 1, limit[axis] - 1);
            let op = Op::Slice { start: earlier, limit: end, step: step.to_vec() };
            found.push((format!("earlier on axis {axis}"), op));
        }
        if step[axis] > 1 {
            let mut closer = step.to_vec();
            closer[axis] -= 1;
            let count = (limit[axis] - start[axis]).div_ceil(step[axis]);
            let mut end = limit.to_vec();
            end[axis] = start[axis] + count.saturating_sub(1) * closer[axis] + count.min(1);
            let op = Op::Slice { start: start.to_vec(), limit: end, step: closer };
            found.push((format!("closer on axis {axis}"), op));
        }
    }
    found
}

fn pad(low: &[i64], high: &[i64], interior: &[usize]) -> Vec<(String, Op)> {
    let mut found = Vec::new();
    for axis in 0..low.len() {
        for (what, by) in [("later", 1), ("earlier", -1)] {
            let (mut before, mut after) = (low.to_vec(), high.to_vec());
            before[axis] += by;
            after[axis] -= by;
            let op = Op::Pad { low: before, high: after, interior: interior.to_vec() };
            found.push((format!("{what} on axis {axis}"), op));
        }
    }
    found
}

/// A loop in the other direction, and with each fault of each node of its body.
fn loops(scan: &ScanOp) -> Vec<(String, Op)> {
    let mut found =
        vec![("direction".to_string(), Op::Scan(ScanOp { reverse: !scan.reverse, ..scan.clone() }))];
    let nodes: Vec<Arc<Node>> = scan.body.iter().map(|(_, node)| Arc::new(node.clone())).collect();
    for (position, node) in nodes.iter().enumerate().filter(|(_, node)| !is_guard(&node.op)) {
        for fault in faults(&nodes, position) {
            if let Some(body) = body_with_fault(&scan.body, &nodes, position, &fault) {
                let what = format!("in its body, node {position} {}: {}", node.op.name(), fault.what);
                found.push((what, Op::Scan(ScanOp { body: Arc::new(body), ..scan.clone() })));
            }
        }
    }
    found
}

fn body_with_fault(body: &Graph, nodes: &[Arc<Node>], at: usize, fault: &Fault) -> Option<Graph> {
    let builder = Builder::new(body.name());
    let renamed = replay(&builder, nodes, |position| &body.inputs()[position].name, at, fault)?;
    let outputs: Vec<Value> = body.outputs().iter().map(|output| renamed[output.index()]).collect();
    Some(builder.finish(&outputs))
}

/// All nodes once more, one of them with a fault.
pub fn replay<'n>(
    builder: &Builder,
    nodes: &[Arc<Node>],
    name: impl Fn(usize) -> &'n str,
    at: usize,
    fault: &Fault,
) -> Option<Vec<Value>> {
    let mut renamed: Vec<Value> = Vec::with_capacity(nodes.len());
    for (position, node) in nodes.iter().enumerate() {
        let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand.index()]).collect();
        renamed.push(match &node.op {
            Op::Input(input) => builder.input(name(*input as usize), node.ty().clone()),
            _ if position == at => with_fault(builder, node, &operands, fault, &renamed)?,
            op => builder.push(op.clone(), &operands).ok()?,
        });
    }
    Some(renamed)
}
