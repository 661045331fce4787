//! Operators that move, select or fold elements in ways of their own.

use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, ConvForm, ConvOp, CumulativeOp, DType, Expr, Op, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("CenterCropPad", 18, Gradient::Smooth, center_crop_pad),
    Operator::new("Col2Im", 18, Gradient::Smooth, col2im),
    Operator::new("CumProd", 26, Gradient::Smooth, cumulative_product),
    Operator::new("ReverseSequence", 10, Gradient::Smooth, reverse_sequence),
];

fn reverse_sequence<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.ranked(0, 2)?, context.node);
    let shape = x.shape();
    let (batch_axis, time_axis) = (node.int("batch_axis", 1)?, node.int("time_axis", 0)?);
    let (batch_axis, time_axis) =
        (context.axis(batch_axis, shape.rank())?, context.axis(time_axis, shape.rank())?);
    if batch_axis == time_axis || batch_axis > 1 || time_axis > 1 {
        return Err(context.error("`batch_axis` and `time_axis` must be 0 and 1, or 1 and 0"));
    }
    let (batch, steps) = (shape[batch_axis], shape[time_axis]);
    let lengths = context.index(1)?;
    context.expect_shape(lengths, &Shape::new(&[batch]), "sequence_lens")?;
    let known = context.known_value(lengths).and_then(|literal| literal.to_i64());
    if known.is_some_and(|known| known.iter().all(|&length| length == steps as i64)) {
        return Ok(vec![x.reverse(&[time_axis])]);
    }
    let places = TensorType::new(DType::I64, &shape[..2]);
    let builder = context.builder();
    let time = builder.iota(places.clone(), time_axis);
    let lengths = lengths.broadcast(&places.shape, &[batch_axis]);
    let source = time.lt(lengths).select(lengths - time - 1.0, time);
    let element = builder.iota(places, batch_axis);
    let position =
        if time_axis == 0 { source * batch as f64 + element } else { element * steps as f64 + source };
    let rows: Shape = [batch * steps].into_iter().chain(shape[2..].iter().copied()).collect();
    let picked = x.reshape(&rows).gather(0, position.reshape(&Shape::new(&[batch * steps])));
    Ok(vec![picked.reshape(&shape)])
}

fn center_crop_pad<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let shape = x.shape();
    let wanted = context.lengths(&context.known_i64s(1, "the shape")?, "the shape")?;
    let axes = match context.node.ints("axes")? {
        Some(axes) => context.axes(axes, shape.rank())?,
        None => (0..shape.rank()).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(context.error(format_args!(
            "the shape has {} entries, not {}",
            wanted.len(),
            axes.len()
        )));
    }
    let (mut low, mut high) = (vec![0i64; shape.rank()], vec![0i64; shape.rank()]);
    for (&axis, &length) in axes.iter().zip(&wanted) {
        context.shape(&[length])?;
        let more = length as i64 - shape[axis] as i64;
        // Truncation puts the odd element last in both directions.
        (low[axis], high[axis]) = (more / 2, more - more / 2);
    }
    let op = Op::Pad { low, high, interior: vec![0; shape.rank()] };
    Ok(vec![context.push(op, &[x, context.scalar(x.dtype(), 0.0)])?])
}

fn col2im<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let shape = x.shape();
    let image = context.lengths(&context.known_i64s(1, "the image's shape")?, "the image's shape")?;
    let block = context.lengths(&context.known_i64s(2, "the block's shape")?, "the block's shape")?;
    let positions = context.shape(&block)?.elements();
    let fits = shape.rank() == 3 && image.len() == block.len() && positions > 0;
    if !fits || !shape[1].is_multiple_of(positions) {
        return Err(context.error(format_args!("{shape} does not fit blocks of {block:?}")));
    }
    let mut windows = super::spatial::Windows::read(node, block)?;
    let output = windows.settle(node, &image, false)?;
    let channels = shape[1] / positions;
    let columns: Vec<usize> = [&[shape[0], shape[1]], &output[..]].concat();
    let columns = context.reshape(x, &columns)?;
    // Convolutions are of floats.
    let float = if x.dtype().is_float() { x.dtype() } else { DType::F64 };
    // Every column element goes to one place of its window: a transposed convolution with a kernel of zeros and ones.
    let matrix = Shape::new(&[positions, positions]);
    let counts = TensorType::new(DType::I64, matrix.clone());
    let identity = context.builder().iota(counts.clone(), 0).eq(context.builder().iota(counts, 1));
    let tiled = identity.cast(float).broadcast(&context.shape(&[channels, positions, positions])?, &[1, 2]);
    let kernel: Vec<usize> = [&[shape[1], 1], &windows.kernel[..]].concat();
    let op = ConvOp {
        form: ConvForm::Input,
        input: image,
        kernel: windows.kernel,
        output,
        stride: windows.stride,
        dilation: windows.dilation,
        pad_low: windows.pad_low,
        groups: channels.max(1),
    };
    let kernel = context.reshape(tiled, &kernel)?;
    let folded = |columns: Expr<'b>| context.push(Op::Conv(op.clone()), &[columns, kernel]);
    if x.dtype().is_float() {
        return Ok(vec![folded(columns)?]);
    }
    // Halves of 64 bits, whose sums are exact. A sum of truth values is their disjunction.
    let half = 2f64.powi(32);
    let whole = columns.cast(DType::I64);
    let high = whole.binary(BinaryOp::Shr, whole.splat(32.0));
    let low = whole - high * half;
    let sum = |part: Expr<'b>| Ok::<_, crate::Error>(folded(part.cast(float))?.cast(DType::I64));
    Ok(vec![(sum(high)? * half + sum(low)?).cast(x.dtype())])
}

fn cumulative_product<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let op = Op::Cumulative {
        op: CumulativeOp::Prod,
        axis: context.axis(context.known_i64(1, "the axis")?, x.rank())?,
        exclusive: node.flag("exclusive", false)?,
        reverse: node.flag("reverse", false)?,
    };
    Ok(vec![context.push(op, &[x])?])
}
