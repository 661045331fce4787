//! The type rules: what each operator demands of its operands, and the type of its result.

use crate::*;
use smallvec::smallvec;

/// Why a node is ill-typed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{operator}: {fault}")]
pub struct TypeError {
    /// The operator, as the text form spells it.
    pub operator: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The ways in which a node can be ill-typed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[error("takes {wanted} operands, got {got}")]
    Operands { wanted: usize, got: usize },
    #[error("operand {operand} must be {wanted}, got {got}")]
    Elements { operand: usize, wanted: &'static str, got: DType },
    #[error("operand {operand} must be {wanted}, got {got}")]
    Type { operand: usize, wanted: TensorType, got: TensorType },
    #[error("operand {operand} must have rank {wanted}, got {got}")]
    Rank { operand: usize, wanted: usize, got: usize },
    #[error("operand {operand} is a tuple")]
    Tuple { operand: usize },
    #[error("axis {axis} is out of range for rank {rank}")]
    Axis { axis: usize, rank: usize },
    #[error("attribute `{attribute}` {problem}")]
    Attribute { attribute: &'static str, problem: &'static str },
    #[error("lengths differ: {left} and {right}")]
    Lengths { left: usize, right: usize },
    #[error("the result would be too large")]
    TooLarge,
}

type Result<T> = std::result::Result<T, Fault>;

/// The types of a node's result.
pub fn infer(op: &Op, operands: &[&Node]) -> std::result::Result<Types, TypeError> {
    check(op, operands).map_err(|fault| TypeError { operator: op.name(), fault })
}

fn check(op: &Op, operands: &[&Node]) -> Result<Types> {
    let wanted = op.arity();
    if wanted.is_some_and(|wanted| wanted != operands.len()) {
        return Err(Fault::Operands { wanted: wanted.unwrap_or(0), got: operands.len() });
    }
    if let Op::Project(part) = op {
        let node = operands[0];
        let ty = node.types.get(*part).filter(|_| node.is_tuple());
        return ty.map(|ty| smallvec![ty.clone()]).ok_or(attribute("part", "names no part of the operand"));
    }
    if let Some(operand) = operands.iter().position(|node| node.is_tuple()) {
        return Err(Fault::Tuple { operand });
    }
    let types: Vec<&TensorType> = operands.iter().map(|node| node.ty()).collect();
    match op {
        Op::Scan(scan) => check_scan(scan, &types),
        Op::Fused(fused) => {
            match_types(&types, fused.body.inputs().iter().map(|input| &input.ty))?;
            Ok(fused.body.output_types().into_iter().cloned().collect())
        }
        _ => Ok(smallvec![result(op, &types)?]),
    }
}

fn result(op: &Op, t: &[&TensorType]) -> Result<TensorType> {
    match op {
        Op::Input(_) => Err(attribute("position", "is made by `Builder::input` alone")),
        Op::Constant(literal) => Ok(literal.ty().clone()),
        Op::Iota { ty, axis } => {
            check_axis(*axis, ty.shape.rank())?;
            sized(ty.dtype, &ty.shape)
        }
        Op::Mark(Mark::Tag(_) | Mark::StopGradient) => Ok(t[0].clone()),
        Op::Mark(Mark::Surrogate) => {
            elements(t, 0, "a float", DType::is_float)?;
            same(t, 1, t[0]).map(|()| t[0].clone())
        }
        Op::Unary(op) => {
            let (fits, wanted) = op.accepts();
            elements(t, 0, wanted, fits).map(|()| t[0].clone())
        }
        Op::Binary(op) => {
            let (fits, wanted) = op.accepts();
            elements(t, 0, wanted, fits)?;
            same(t, 1, t[0]).map(|()| t[0].clone())
        }
        Op::Compare(_) => same(t, 1, t[0]).map(|()| t[0].with_dtype(DType::Bool)),
        Op::Select => {
            elements(t, 0, "bool", |dtype| dtype == DType::Bool)?;
            same(t, 2, t[1])?;
            same(t, 0, &t[1].with_dtype(DType::Bool)).map(|()| t[1].clone())
        }
        Op::Cast(dtype) => sized(*dtype, &t[0].shape),
        Op::Bitcast(dtype) => {
            elements(t, 0, "a number", |dtype| dtype != DType::Bool)?;
            if *dtype == DType::Bool || dtype.size() != t[0].dtype.size() {
                return Err(attribute("type", "must be a number of the operand's size"));
            }
            sized(*dtype, &t[0].shape)
        }
        Op::Reduce { op, axes } => {
            let numeric = matches!(op, ReduceOp::Sum | ReduceOp::Prod);
            elements(t, 0, "a number", |dtype| !numeric || dtype != DType::Bool)?;
            increasing("axes", axes, t[0].shape.rank())?;
            Ok(TensorType { dtype: t[0].dtype, shape: t[0].shape.without(axes) })
        }
        Op::ArgReduce { axis, .. } => {
            check_axis(*axis, t[0].shape.rank())?;
            if t[0].shape[*axis] == 0 {
                return Err(attribute("axis", "is empty"));
            }
            Ok(TensorType { dtype: DType::I64, shape: t[0].shape.without(&[*axis]) })
        }
        Op::Cumulative { axis, .. } => {
            elements(t, 0, "a number", |dtype| dtype != DType::Bool)?;
            check_axis(*axis, t[0].shape.rank()).map(|()| t[0].clone())
        }
        Op::ArgSort { axis, count, .. } => {
            check_axis(*axis, t[0].shape.rank())?;
            if *count > t[0].shape[*axis] {
                return Err(attribute("count", "is beyond the length of a line"));
            }
            let lengths = t[0].shape.iter().enumerate();
            let shape: Shape =
                lengths.map(|(own, &length)| if own == *axis { *count } else { length }).collect();
            sized(DType::I64, &shape)
        }
        Op::Dot(dims) => dot(dims, t),
        Op::Conv(conv) => convolution(conv, t),
        Op::Window(window) => sliding(window, t[0]),
        Op::Broadcast { shape, dims } => {
            count("dims", dims.len(), t[0].shape.rank())?;
            increasing("dims", dims, shape.rank())?;
            for (axis, &dim) in dims.iter().enumerate() {
                lengths(t[0].shape[axis], shape[dim])?;
            }
            sized(t[0].dtype, shape)
        }
        Op::Reshape { shape } => {
            lengths(t[0].shape.elements(), Shape::checked(shape).ok_or(Fault::TooLarge)?.elements())?;
            sized(t[0].dtype, shape)
        }
        Op::Transpose { permutation } => {
            count("permutation", permutation.len(), t[0].shape.rank())?;
            let mut sorted = permutation.clone();
            sorted.sort_unstable();
            if sorted.iter().enumerate().any(|(position, &axis)| position != axis) {
                return Err(attribute("permutation", "is no permutation"));
            }
            sized(t[0].dtype, &permutation.iter().map(|&axis| t[0].shape[axis]).collect())
        }
        Op::Reverse { axes } => increasing("axes", axes, t[0].shape.rank()).map(|()| t[0].clone()),
        Op::Slice { start, limit, step } => slice(t[0], start, limit, step),
        Op::Pad { low, high, interior } => {
            same(t, 1, &TensorType::scalar(t[0].dtype))?;
            pad(t[0], low, high, interior)
        }
        Op::Concat { axis } => concat(*axis, t),
        Op::Gather { axis } => gather(*axis, t),
        Op::Scatter { axis, .. } => {
            let update = gather(*axis, &t[..2])?;
            same(t, 2, &update).map(|()| t[0].clone())
        }
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            elements(t, 0, "a float", DType::is_float)?;
            check_axis(*axis, t[0].shape.rank()).map(|()| t[0].clone())
        }
        Op::Scan(_) | Op::Project(_) | Op::Fused(_) => unreachable!("handled by the caller"),
    }
}

fn dot(dims: &DotDims, t: &[&TensorType]) -> Result<TensorType> {
    elements(t, 0, "a number", |dtype| dtype != DType::Bool)?;
    if t[0].dtype != t[1].dtype {
        return Err(Fault::Elements { operand: 1, wanted: "of the left operand's type", got: t[1].dtype });
    }
    let (lhs, rhs) = (&t[0].shape, &t[1].shape);
    distinct("lhs", &[&dims.lhs_batch[..], &dims.lhs_contract].concat(), lhs.rank())?;
    distinct("rhs", &[&dims.rhs_batch[..], &dims.rhs_contract].concat(), rhs.rank())?;
    for (left, right) in [(&dims.lhs_batch, &dims.rhs_batch), (&dims.lhs_contract, &dims.rhs_contract)] {
        lengths(left.len(), right.len())?;
        left.iter().zip(right).try_for_each(|(&l, &r)| lengths(lhs[l], rhs[r]))?;
    }
    let batch = dims.lhs_batch.iter().map(|&axis| lhs[axis]);
    let lhs_free = dims.lhs_free(lhs.rank()).into_iter().map(|axis| lhs[axis]);
    let rhs_free = dims.rhs_free(rhs.rank()).into_iter().map(|axis| rhs[axis]);
    sized(t[0].dtype, &batch.chain(lhs_free).chain(rhs_free).collect())
}

fn convolution(conv: &ConvOp, t: &[&TensorType]) -> Result<TensorType> {
    elements(t, 0, "a float", DType::is_float)?;
    if t[0].dtype != t[1].dtype {
        return Err(Fault::Elements { operand: 1, wanted: "of the first operand's type", got: t[1].dtype });
    }
    let spatial = conv.input.len();
    for (attribute, length) in [
        ("kernel", conv.kernel.len()),
        ("output", conv.output.len()),
        ("stride", conv.stride.len()),
        ("dilation", conv.dilation.len()),
        ("pad_low", conv.pad_low.len()),
    ] {
        count(attribute, length, spatial)?;
    }
    for (operand, ty) in t.iter().enumerate() {
        if ty.shape.rank() != spatial + 2 {
            return Err(Fault::Rank { operand, wanted: spatial + 2, got: ty.shape.rank() });
        }
    }
    if conv.stride.contains(&0) || conv.dilation.contains(&0) || conv.groups == 0 {
        return Err(attribute("stride", "and dilation and groups must be at least 1"));
    }
    let reach = |lengths: &[usize]| lengths.iter().any(|&length| length > 1 << 40);
    if reach(&conv.stride)
        || reach(&conv.dilation)
        || conv.pad_low.iter().any(|pad| pad.unsigned_abs() > 1 << 40)
    {
        return Err(Fault::TooLarge);
    }
    let (first, second) = (&t[0].shape, &t[1].shape);
    let tail = |shape: &Shape, wanted: &[usize]| {
        shape[2..].iter().zip(wanted).try_for_each(|(&l, &r)| lengths(l, r))
    };
    let divides = |channels: usize| match channels.is_multiple_of(conv.groups) {
        true => Ok(channels / conv.groups),
        false => Err(attribute("groups", "does not divide the channels")),
    };
    let with = |batch: usize, channels: usize, spatial: &[usize]| {
        sized(t[0].dtype, &[batch, channels].into_iter().chain(spatial.iter().copied()).collect())
    };
    match conv.form {
        ConvForm::Forward => {
            tail(first, &conv.input)?;
            tail(second, &conv.kernel)?;
            lengths(divides(first[1])?, second[1])?;
            divides(second[0])?;
            with(first[0], second[0], &conv.output)
        }
        ConvForm::Input => {
            tail(first, &conv.output)?;
            tail(second, &conv.kernel)?;
            lengths(first[1], second[0])?;
            divides(second[0])?;
            with(first[0], second[1].checked_mul(conv.groups).ok_or(Fault::TooLarge)?, &conv.input)
        }
        ConvForm::Weight => {
            tail(first, &conv.input)?;
            tail(second, &conv.output)?;
            lengths(first[0], second[0])?;
            divides(second[1])?;
            with(second[1], divides(first[1])?, &conv.kernel)
        }
    }
}

fn sliding(op: &WindowOp, x: &TensorType) -> Result<TensorType> {
    if !matches!(op.kind, WindowKind::ArgMax) && x.dtype == DType::Bool {
        return Err(Fault::Elements { operand: 0, wanted: "a number", got: x.dtype });
    }
    let rank = x.shape.rank();
    for (attribute, length) in [
        ("window", op.window.len()),
        ("stride", op.stride.len()),
        ("dilation", op.dilation.len()),
        ("low", op.pad_low.len()),
        ("high", op.pad_high.len()),
    ] {
        count(attribute, length, rank)?;
    }
    match &op.kind {
        WindowKind::Sum | WindowKind::Max => sized(x.dtype, &op.output_shape(&x.shape)?),
        WindowKind::ArgMax => sized(DType::I64, &op.output_shape(&x.shape)?),
        WindowKind::Spread { shape } => {
            count("shape", shape.rank(), rank)?;
            let windows = op.output_shape(shape)?;
            windows.iter().zip(x.shape.iter()).try_for_each(|(&l, &r)| lengths(l, r))?;
            sized(x.dtype, shape)
        }
    }
}

impl WindowOp {
    /// The number of windows on each axis of a tensor of this shape.
    pub fn output_shape(&self, shape: &Shape) -> std::result::Result<Shape, Fault> {
        let axes = (0..shape.rank()).map(|axis| {
            let (window, stride, dilation) = (self.window[axis], self.stride[axis], self.dilation[axis]);
            if window == 0 || stride == 0 || dilation == 0 {
                return Err(attribute("window", "and stride and dilation must be at least 1"));
            }
            if window.max(stride).max(dilation) > 1 << 40 {
                return Err(Fault::TooLarge);
            }
            let reach = (window as i128 - 1) * dilation as i128 + 1;
            let padded = shape[axis] as i128 + self.pad_low[axis] as i128 + self.pad_high[axis] as i128;
            let windows = if padded < reach { 0 } else { (padded - reach) / stride as i128 + 1 };
            usize::try_from(windows).map_err(|_| Fault::TooLarge)
        });
        axes.collect()
    }
}

fn slice(x: &TensorType, start: &[usize], limit: &[usize], step: &[usize]) -> Result<TensorType> {
    let rank = x.shape.rank();
    count("start", start.len(), rank)?;
    count("limit", limit.len(), rank)?;
    count("step", step.len(), rank)?;
    let axes = (0..rank).map(|axis| {
        if step[axis] == 0 {
            return Err(attribute("step", "must be at least 1"));
        }
        if start[axis] > limit[axis] || limit[axis] > x.shape[axis] {
            return Err(attribute("limit", "must lie between start and the length"));
        }
        Ok((limit[axis] - start[axis]).div_ceil(step[axis]))
    });
    sized(x.dtype, &axes.collect::<Result<Shape>>()?)
}

fn pad(x: &TensorType, low: &[i64], high: &[i64], interior: &[usize]) -> Result<TensorType> {
    let rank = x.shape.rank();
    count("low", low.len(), rank)?;
    count("high", high.len(), rank)?;
    count("interior", interior.len(), rank)?;
    let axes = (0..rank).map(|axis| {
        let length = x.shape[axis] as i128;
        let spread = length + (length - 1).max(0) * interior[axis] as i128;
        let padded = spread + low[axis] as i128 + high[axis] as i128;
        if padded < 0 {
            return Err(attribute("low", "and high take away more than there is"));
        }
        usize::try_from(padded).map_err(|_| Fault::TooLarge)
    });
    sized(x.dtype, &axes.collect::<Result<Shape>>()?)
}

fn concat(axis: usize, t: &[&TensorType]) -> Result<TensorType> {
    let first = t.first().ok_or(Fault::Operands { wanted: 1, got: 0 })?;
    check_axis(axis, first.shape.rank())?;
    let mut lengths = first.shape.to_vec();
    for (operand, ty) in t.iter().enumerate().skip(1) {
        let mut wanted = (*first).clone();
        if ty.shape.rank() == wanted.shape.rank() {
            wanted.shape =
                (0..lengths.len()).map(|a| if a == axis { ty.shape[a] } else { first.shape[a] }).collect();
        }
        same(t, operand, &wanted)?;
        lengths[axis] = lengths[axis].checked_add(ty.shape[axis]).ok_or(Fault::TooLarge)?;
    }
    sized(first.dtype, &Shape::new(&lengths))
}

fn gather(axis: usize, t: &[&TensorType]) -> Result<TensorType> {
    let (x, index) = (t[0], t[1]);
    elements(t, 1, "i64 or i32", |dtype| matches!(dtype, DType::I64 | DType::I32))?;
    check_axis(axis, x.shape.rank())?;
    let lengths = x.shape[..axis].iter().chain(index.shape.iter()).chain(&x.shape[axis + 1..]);
    sized(x.dtype, &lengths.copied().collect())
}

fn check_scan(scan: &ScanOp, t: &[&TensorType]) -> Result<Types> {
    let body = &scan.body;
    let fixed = scan.constants.saturating_add(scan.carries);
    if t.len() < fixed || body.outputs().len() < scan.carries {
        return Err(attribute("carries", "are more than there are operands or body outputs"));
    }
    let mut wanted: Vec<TensorType> = t[..fixed].iter().map(|&ty| ty.clone()).collect();
    for (position, ty) in t.iter().enumerate().skip(fixed) {
        let Some((&leading, rest)) = ty.shape.split_first() else {
            return Err(Fault::Rank { operand: position, wanted: 1, got: 0 });
        };
        lengths(leading, scan.trip)?;
        wanted.push(TensorType::new(ty.dtype, rest));
    }
    let inputs: Vec<&TensorType> = wanted.iter().collect();
    match_types(&inputs, body.inputs().iter().map(|input| &input.ty))?;
    let outputs = body.output_types();
    match_types(&outputs[..scan.carries], wanted[scan.constants..fixed].iter())?;
    let stacked = outputs[scan.carries..].iter().map(|ty| {
        let lengths: Shape = std::iter::once(scan.trip).chain(ty.shape.iter().copied()).collect();
        sized(ty.dtype, &lengths)
    });
    wanted[scan.constants..fixed].iter().cloned().map(Ok).chain(stacked).collect()
}

fn match_types<'a>(got: &[&TensorType], wanted: impl ExactSizeIterator<Item = &'a TensorType>) -> Result<()> {
    if got.len() != wanted.len() {
        return Err(Fault::Operands { wanted: wanted.len(), got: got.len() });
    }
    wanted.enumerate().try_for_each(|(operand, wanted)| same(got, operand, wanted))
}

fn attribute(attribute: &'static str, problem: &'static str) -> Fault {
    Fault::Attribute { attribute, problem }
}

fn sized(dtype: DType, shape: &Shape) -> Result<TensorType> {
    Shape::checked(shape).map(|shape| TensorType { dtype, shape }).ok_or(Fault::TooLarge)
}

fn elements(
    t: &[&TensorType],
    operand: usize,
    wanted: &'static str,
    fits: impl Fn(DType) -> bool,
) -> Result<()> {
    let got = t[operand].dtype;
    if fits(got) { Ok(()) } else { Err(Fault::Elements { operand, wanted, got }) }
}

fn same(t: &[&TensorType], operand: usize, wanted: &TensorType) -> Result<()> {
    if t[operand] == wanted {
        return Ok(());
    }
    Err(Fault::Type { operand, wanted: wanted.clone(), got: t[operand].clone() })
}

fn lengths(left: usize, right: usize) -> Result<()> {
    if left == right { Ok(()) } else { Err(Fault::Lengths { left, right }) }
}

fn count(name: &'static str, got: usize, rank: usize) -> Result<()> {
    if got == rank { Ok(()) } else { Err(attribute(name, "must have one entry for each axis")) }
}

fn check_axis(axis: usize, rank: usize) -> Result<()> {
    if axis < rank { Ok(()) } else { Err(Fault::Axis { axis, rank }) }
}

fn increasing(name: &'static str, axes: &[usize], rank: usize) -> Result<()> {
    axes.iter().try_for_each(|&axis| check_axis(axis, rank))?;
    if axes.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(())
    } else {
        Err(attribute(name, "must be strictly increasing"))
    }
}

fn distinct(name: &'static str, axes: &[usize], rank: usize) -> Result<()> {
    axes.iter().try_for_each(|&axis| check_axis(axis, rank))?;
    let repeated = axes.iter().enumerate().any(|(position, axis)| axes[..position].contains(axis));
    if repeated { Err(attribute(name, "names an axis twice")) } else { Ok(()) }
}
