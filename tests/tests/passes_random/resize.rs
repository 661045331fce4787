//! Changes the lengths of a graph's axes, where its operators allow it.

use gradc_ir::*;
use std::sync::Arc;

type Map<'m> = &'m dyn Fn(usize) -> usize;

/// The graph with the lengths of what is not computed mapped, the others following from them, and its arguments cut
/// off. `None` where that gives no graph.
pub fn resize(graph: &Graph, inputs: &[Literal], map: Map) -> Option<(Graph, Vec<Literal>)> {
    let inputs: Vec<Literal> = inputs.iter().map(|literal| cropped(literal, map)).collect::<Option<_>>()?;
    let types: Vec<TensorType> = inputs.iter().map(|literal| literal.ty().clone()).collect();
    Some((resized(graph, &types, map)?, inputs))
}

fn resized(graph: &Graph, types: &[TensorType], map: Map) -> Option<Graph> {
    let builder = Builder::new(graph.name());
    let mut renamed: Vec<Value> = Vec::with_capacity(graph.len());
    for (_, node) in graph.iter() {
        let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand.index()]).collect();
        let old: Vec<&Node> = node.operands.iter().map(|&operand| graph.node(operand)).collect();
        let value = match &node.op {
            Op::Input(position) => {
                let input = &graph.inputs()[*position as usize];
                builder.input(&input.name, types.get(*position as usize)?.clone())
            }
            Op::Project(_) => builder.push(node.op.clone(), &operands).ok()?,
            op => {
                let new: Vec<TensorType> = operands.iter().map(|&operand| builder.ty(operand)).collect();
                let old: Vec<&TensorType> = old.iter().map(|node| node.ty()).collect();
                builder.push(adapted(op, &old, &new, map)?, &operands).ok()?
            }
        };
        renamed.push(value);
    }
    let outputs: Vec<Value> = graph.outputs().iter().map(|output| renamed[output.index()]).collect();
    Some(builder.finish(&outputs))
}

fn mapped(shape: &Shape, map: Map) -> Shape {
    shape.iter().map(|&length| map(length)).collect()
}

/// The first elements along each axis.
fn cropped(literal: &Literal, map: Map) -> Option<Literal> {
    let (old, new) = (literal.shape(), mapped(literal.shape(), map));
    if new.iter().zip(old.iter()).any(|(new, old)| new > old) {
        return None;
    }
    let strides = old.strides();
    let size = literal.dtype().size();
    let mut bytes = Vec::new();
    for index in 0..new.elements() {
        let (mut rest, mut at) = (index, 0);
        for axis in (0..new.rank()).rev() {
            at += rest % new[axis] * strides[axis];
            rest /= new[axis];
        }
        bytes.extend_from_slice(&literal.bytes()[at * size..(at + 1) * size]);
    }
    Literal::from_bytes(TensorType { dtype: literal.dtype(), shape: new }, bytes.into())
}

/// The operator for operands of other shapes.
fn adapted(op: &Op, old: &[&TensorType], new: &[TensorType], map: Map) -> Option<Op> {
    let same = old.iter().zip(new).all(|(old, new)| *old == new);
    Some(match op {
        Op::Constant(literal) => Op::Constant(cropped(literal, map)?),
        Op::Iota { ty, axis } => {
            Op::Iota { ty: TensorType { dtype: ty.dtype, shape: mapped(&ty.shape, map) }, axis: *axis }
        }
        Op::Broadcast { shape, dims } => {
            let mut lengths = mapped(shape, map).to_vec();
            dims.iter().enumerate().for_each(|(axis, &dim)| lengths[dim] = new[0].shape[axis]);
            Op::Broadcast { shape: Shape::new(&lengths), dims: dims.clone() }
        }
        Op::Reshape { .. } if same => op.clone(),
        Op::Reshape { shape } => {
            Op::Reshape { shape: refilled(mapped(shape, map), new[0].shape.elements())? }
        }
        Op::Slice { start, limit, step } => {
            let limit: Vec<usize> =
                limit.iter().zip(new[0].shape.iter()).map(|(&limit, &length)| limit.min(length)).collect();
            let start = start.iter().zip(&limit).map(|(&start, &limit)| start.min(limit)).collect();
            Op::Slice { start, limit, step: step.clone() }
        }
        Op::Conv(conv) if !same => Op::Conv(convolution(conv, new)?),
        Op::Window(window) if !same => match &window.kind {
            WindowKind::Spread { shape } => {
                let lengths = (0..shape.rank()).map(|axis| {
                    let fewer = old[0].shape[axis].checked_sub(new[0].shape[axis])?;
                    shape[axis].checked_sub(fewer * window.stride[axis])
                });
                let shape = lengths.collect::<Option<Shape>>()?;
                Op::Window(WindowOp { kind: WindowKind::Spread { shape }, ..window.clone() })
            }
            WindowKind::Sum | WindowKind::Max | WindowKind::ArgMax => op.clone(),
        },
        Op::Scan(scan) => {
            let fixed = scan.constants + scan.carries;
            let trip = new.get(fixed).map_or(map(scan.trip), |ty| ty.shape[0]);
            let types = new.iter().enumerate().map(|(position, ty)| match position < fixed {
                true => ty.clone(),
                false => TensorType::new(ty.dtype, &ty.shape[1..]),
            });
            let body = resized(&scan.body, &types.collect::<Vec<_>>(), map)?;
            Op::Scan(ScanOp { body: Arc::new(body), trip, ..scan.clone() })
        }
        Op::Fused(fused) => Op::Fused(FusedOp { body: Arc::new(resized(&fused.body, new, map)?) }),
        _ => op.clone(),
    })
}

/// The shape with one length changed so that it holds as many elements.
fn refilled(shape: Shape, elements: usize) -> Option<Shape> {
    if shape.elements() == elements {
        return Some(shape);
    }
    (0..shape.rank()).rev().find_map(|axis| {
        let others: usize = shape.without(&[axis]).elements();
        let mut lengths = shape.to_vec();
        lengths[axis] = elements.checked_div(others)?;
        let filled = Shape::new(&lengths);
        (filled.elements() == elements).then_some(filled)
    })
}

fn convolution(conv: &ConvOp, new: &[TensorType]) -> Option<ConvOp> {
    let mut conv = conv.clone();
    let (first, second) = (new[0].shape.get(2..)?, new[1].shape.get(2..)?);
    match conv.form {
        ConvForm::Forward => {
            for axis in 0..conv.input.len() {
                let reach = |kernel: usize| (kernel as i64 - 1) * conv.dilation[axis] as i64;
                let windows = (conv.output[axis] as i64 - 1) * conv.stride[axis] as i64;
                let ends = windows + reach(conv.kernel[axis]) - conv.input[axis] as i64;
                let room = first[axis] as i64 + ends - reach(second[axis]);
                conv.output[axis] = usize::try_from(room / conv.stride[axis] as i64 + 1).ok()?;
            }
            (conv.input, conv.kernel) = (first.to_vec(), second.to_vec());
        }
        ConvForm::Input => {
            for (axis, &length) in first.iter().enumerate() {
                let fewer = conv.output[axis].checked_sub(length)?;
                conv.input[axis] = conv.input[axis].checked_sub(fewer * conv.stride[axis])?;
            }
            (conv.output, conv.kernel) = (first.to_vec(), second.to_vec());
        }
        ConvForm::Weight => (conv.input, conv.output) = (first.to_vec(), second.to_vec()),
    }
    Some(conv)
}
