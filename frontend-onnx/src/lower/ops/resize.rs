//! Resizing, one axis after another: each output position of an axis is a weighted sum of a few input positions, and
//! both positions and weights are known at compile time.

use super::sampling::{Coordinates, Filter, Nearest, Taps, hat};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ConvForm, ConvOp, DType, DotDims, Expr, Literal, Op, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Resize", 10, Gradient::Smooth, resize),
    Operator::new("Upsample", 7, Gradient::Smooth, upsample),
];

/// The largest factor by which images are magnified by a convolution: the kernels for these look at each position apart.
const MOST_MAGNIFIED: usize = 4;

fn resize<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let shape = x.shape();
    if node.opset < 11 {
        let scales = context.known_f64s(1, "scales")?;
        return upsampled(context, x, &scales);
    }
    let axes = match node.ints("axes")? {
        Some(axes) => context.axes(axes, shape.rank())?,
        None => (0..shape.rank()).collect(),
    };
    let listed = |what: &str, count: usize, wanted: usize| -> Result<()> {
        if count == wanted {
            return Ok(());
        }
        Err(node.error(format_args!("`{what}` has {count} entries, not {wanted}")))
    };
    let scales = context.optional_f64s(2, "scales")?.filter(|scales| !scales.is_empty());
    let sizes = context.optional_lengths(3, "sizes")?.filter(|sizes| !sizes.is_empty());
    let mut targets = Vec::with_capacity(axes.len());
    match (scales, sizes) {
        (Some(scales), None) => {
            listed("scales", scales.len(), axes.len())?;
            for (&axis, scale) in axes.iter().zip(scales) {
                targets.push(Target { axis, scale, length: scaled(context, shape[axis], scale)? });
            }
        }
        (None, Some(sizes)) => {
            listed("sizes", sizes.len(), axes.len())?;
            targets = sized(context, &shape, &axes, &sizes)?;
        }
        _ => {
            return Err(
                node.error("exactly one of `scales` and `sizes` must be given, and known before run time")
            );
        }
    }
    let coordinates = match node.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_half_pixel_for_nn" => Coordinates::TfHalfPixelForNn,
        "tf_crop_and_resize" => Coordinates::TfCropAndResize,
        _ => return Err(node.attribute_error("coordinate_transformation_mode", "is not known")),
    };
    let filter = filter(context)?;
    let roi = match coordinates {
        Coordinates::TfCropAndResize => {
            let roi = context.known_f64s(1, "roi")?;
            listed("roi", roi.len(), 2 * axes.len())?;
            Some(roi)
        }
        _ => None,
    };
    let exclude_outside = node.flag("exclude_outside", false)?;
    let mut plan = Vec::with_capacity(targets.len());
    for (position, target) in targets.iter().enumerate() {
        let region = roi.as_ref().map(|roi| (roi[position], roi[position + axes.len()]));
        let same = target.length == shape[target.axis] && (target.scale - 1.0).abs() < 1e-9;
        if same && region.is_none_or(|region| region == (0.0, 1.0)) {
            continue;
        }
        context.table_size(&[target.length.max(shape[target.axis])])?;
        let (length, scale) = (shape[target.axis], target.scale);
        let taps = Taps::new(coordinates, filter, length, target.length, scale, region, exclude_outside);
        match taps {
            Some(taps) => plan.push((target.axis, taps)),
            None => {
                return Err(node.error(format_args!(
                    "cannot resize axis {} of {shape} to {}",
                    target.axis, target.length
                )));
            }
        }
    }
    apply(context, x, plan, node.float("extrapolation_value", 0.0)? as f64)
}

fn upsample<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.input(0)?, context.node);
    let scales: Vec<f64> = if node.opset < 9 {
        node.required("scales", node.floats("scales")?)?.iter().map(|&scale| scale as f64).collect()
    } else {
        context.known_f64s(1, "scales")?
    };
    upsampled(context, x, &scales)
}

/// As resizing was before opset 11.
fn upsampled<'b>(context: &Context<'_, 'b>, x: Expr<'b>, scales: &[f64]) -> Outputs<'b> {
    let (node, shape) = (context.node, x.shape());
    if scales.len() != shape.rank() {
        return Err(node.error(format_args!("`scales` has {} entries for an input of {shape}", scales.len())));
    }
    let filter = match node.string("mode", "nearest")? {
        "nearest" => None,
        "linear" | "bilinear" => Some(Filter::Linear { antialias: false }),
        _ => return Err(node.attribute_error("mode", "is not known")),
    };
    let mut plan = Vec::new();
    for (axis, &scale) in scales.iter().enumerate() {
        let length = scaled(context, shape[axis], scale)?;
        if scale == 1.0 {
            continue;
        }
        context.table_size(&[length.max(shape[axis])])?;
        // Downward, the neighbour after a position is the nearest.
        let nearest = if scale < 1.0 { Nearest::Ceil } else { Nearest::Floor };
        let filter = filter.unwrap_or(Filter::Nearest(nearest));
        let taps = Taps::new(Coordinates::Asymmetric, filter, shape[axis], length, scale, None, false);
        let taps =
            taps.ok_or_else(|| node.error(format_args!("cannot resize axis {axis} of {shape} to {length}")))?;
        plan.push((axis, taps));
    }
    apply(context, x, plan, 0.0)
}

struct Target {
    axis: usize,
    scale: f64,
    length: usize,
}

fn scaled(context: &Context<'_, '_>, length: usize, scale: f64) -> Result<usize> {
    let scaled = (length as f64 * scale).floor();
    if scale > 0.0 && scaled < (1u64 << 40) as f64 {
        return Ok(scaled as usize);
    }
    Err(context.node.error(format_args!("a scale of {scale} is not positive or too large")))
}

fn sized(context: &Context<'_, '_>, shape: &Shape, axes: &[usize], sizes: &[usize]) -> Result<Vec<Target>> {
    let node = context.node;
    let ratio = |(&axis, &size): (&usize, &usize)| size as f64 / shape[axis] as f64;
    let ratios: Vec<f64> = axes.iter().zip(sizes).map(ratio).collect();
    let common = match node.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => ratios.iter().copied().reduce(f64::min),
        "not_smaller" => ratios.iter().copied().reduce(f64::max),
        _ => return Err(node.attribute_error("keep_aspect_ratio_policy", "is not known")),
    };
    let mut targets = Vec::with_capacity(axes.len());
    for (position, &axis) in axes.iter().enumerate() {
        let target = match common {
            None => Target { axis, scale: ratios[position], length: sizes[position] },
            Some(scale) => Target {
                axis,
                scale,
                length: scaled(context, 1, (scale * shape[axis] as f64 + 0.5).floor())?,
            },
        };
        targets.push(target);
    }
    Ok(targets)
}

fn filter(context: &Context<'_, '_>) -> Result<Filter> {
    let node = context.node;
    let antialias = node.flag("antialias", false)?;
    match node.string("mode", "nearest")? {
        "nearest" => Ok(Filter::Nearest(match node.string("nearest_mode", "round_prefer_floor")? {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            _ => return Err(node.attribute_error("nearest_mode", "is not known")),
        })),
        "linear" => Ok(Filter::Linear { antialias }),
        "cubic" => Ok(Filter::Cubic { antialias, a: node.float("cubic_coeff_a", -0.75)? as f64 }),
        _ => Err(node.attribute_error("mode", "is not known")),
    }
}

/// Applies the taps of each axis.
fn apply<'b>(context: &Context<'_, 'b>, x: Expr<'b>, plan: Vec<(usize, Taps)>, outside: f64) -> Outputs<'b> {
    let mut lengths = x.shape().to_vec();
    plan.iter().for_each(|(axis, taps)| lengths[*axis] = taps.positions.len());
    context.shape(&lengths)?;
    let factors: Option<Vec<(usize, usize)>> =
        plan.iter().map(|(axis, taps)| Some((*axis, taps.repeat(x.shape()[*axis])?))).collect();
    if let Some(factors) = factors {
        return Ok(vec![repeated(x, &factors).unwrap_or_else(|| repeat(x, &factors))]);
    }
    if let Some(magnified) = magnified(x, &plan) {
        return Ok(vec![magnified]);
    }
    let weighted = plan.iter().any(|(_, taps)| taps.single().is_none());
    let dtype = x.dtype();
    let mut result = if weighted && !dtype.is_float() { x.cast(DType::F32) } else { x };
    for (axis, taps) in plan {
        if taps.positions.iter().any(|taps| taps.len() > 2) {
            context.table_size(&[taps.positions.len(), result.shape()[axis]])?;
        }
        result = along(result, axis, &taps);
        if taps.outside.contains(&true) {
            let shape = result.shape();
            let mask = context.builder().constant(Literal::new([taps.outside.len()], &taps.outside));
            result = mask.broadcast(&shape, &[axis]).select(result.splat(outside), result);
        }
    }
    Ok(vec![if weighted && !dtype.is_float() { result.round().cast(dtype) } else { result }])
}

/// Repeats elements: each of `factors` is an axis and how often.
fn repeat<'b>(x: Expr<'b>, factors: &[(usize, usize)]) -> Expr<'b> {
    let (mut spread, mut dims, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, &length) in x.shape().iter().enumerate() {
        dims.push(spread.len());
        spread.push(length);
        let factor = factors.iter().find(|(resized, _)| *resized == axis).map_or(1, |&(_, factor)| factor);
        if factor != 1 {
            spread.push(factor);
        }
        merged.push(length * factor);
    }
    x.broadcast(&Shape::new(&spread), &dims).reshape(&Shape::new(&merged))
}

/// Linear interpolation to an even number of times the lengths of images: a transposed convolution of each channel, whose
/// outer elements are repeated once. It has kernels, which gathers and their gradient do not have.
fn magnified<'b>(x: Expr<'b>, plan: &[(usize, Taps)]) -> Option<Expr<'b>> {
    let shape = x.shape();
    let mut factors = vec![1; image_axes(x)?];
    for (axis, taps) in plan {
        let factor = taps.magnification(shape[*axis]).filter(|factor| *factor <= MOST_MAGNIFIED)?;
        *factors.get_mut(axis.checked_sub(2)?)? = factor;
    }
    let (mut extended, mut weights, mut kernel, mut pad_low) = (x, vec![1.0], Vec::new(), Vec::new());
    let builder = x.builder();
    for (axis, &factor) in factors.iter().enumerate() {
        if factor == 1 {
            kernel.push(1);
            pad_low.push(0);
            continue;
        }
        let last = extended.shape()[axis + 2] - 1;
        let [first, last] = [0, last].map(|at| pick_one(extended, axis + 2, at));
        extended = builder.concat(axis + 2, &[first, extended, last]);
        let hat = hat(factor);
        weights = weights.iter().flat_map(|weight| hat.iter().map(move |own| weight * own)).collect();
        kernel.push(2 * factor);
        pad_low.push((3 * factor / 2) as i64);
    }
    let lengths = shape[2..].iter().zip(&factors).map(|(length, factor)| length * factor).collect();
    Some(spread(extended, lengths, &factors, (&kernel, &weights, pad_low)))
}

/// How many axes the images of a tensor have, if these are such as convolutions take.
fn image_axes(x: Expr<'_>) -> Option<usize> {
    let axes = x.rank().checked_sub(2).filter(|axes| (1..=3).contains(axes))?;
    (matches!(x.dtype(), DType::F32 | DType::F64) && x.shape().elements() > 0).then_some(axes)
}

/// Adds up what the elements of each channel become when each is spread over a kernel of weights.
fn spread<'b>(
    x: Expr<'b>,
    lengths: Vec<usize>,
    factors: &[usize],
    (kernel, weights, pad_low): (&[usize], &[f64], Vec<i64>),
) -> Expr<'b> {
    let (builder, channels, axes) = (x.builder(), x.shape()[1], kernel.len());
    let op = ConvOp {
        form: ConvForm::Input,
        input: lengths,
        output: x.shape()[2..].to_vec(),
        stride: factors.to_vec(),
        dilation: vec![1; axes],
        pad_low,
        groups: channels,
        kernel: kernel.to_vec(),
    };
    let shape = Shape::new(&[&[channels, 1], kernel].concat());
    let weights = builder.constant(Literal::new(Shape::new(kernel), weights)).cast(x.dtype());
    let weights = weights.broadcast(&shape, &(2..2 + axes).collect::<Vec<_>>());
    builder.build(Op::Conv(op), &[x.value(), weights.value()])
}

/// Images whose elements stand side by side a few times: each is spread over as many ones. Rows of so few elements are
/// slow to write otherwise.
fn repeated<'b>(x: Expr<'b>, repeats: &[(usize, usize)]) -> Option<Expr<'b>> {
    let mut factors = vec![1; image_axes(x)?];
    for (axis, factor) in repeats {
        *factors.get_mut(axis.checked_sub(2)?)? = Some(*factor).filter(|factor| *factor <= MOST_MAGNIFIED)?;
    }
    factors.last().filter(|factor| **factor > 1)?;
    let lengths = x.shape()[2..].iter().zip(&factors).map(|(length, factor)| length * factor).collect();
    let ones = vec![1.0; factors.iter().product()];
    Some(spread(x, lengths, &factors, (&factors, &ones, vec![0; factors.len()])))
}

/// One position of an axis, which stays.
fn pick_one<'b>(x: Expr<'b>, axis: usize, at: usize) -> Expr<'b> {
    let (mut start, mut limit) = (vec![0; x.rank()], x.shape().to_vec());
    (start[axis], limit[axis]) = (at, at + 1);
    x.slice(&start, &limit, &vec![1; x.rank()])
}

fn along<'b>(x: Expr<'b>, axis: usize, taps: &Taps) -> Expr<'b> {
    let (builder, shape) = (x.builder(), x.shape());
    let count = taps.positions.len();
    let pick = |index: &[i64]| pick(x, axis, index);
    if let Some(index) = taps.single() {
        return pick(&index);
    }
    let literal =
        |lengths: &[usize], values: &[f64]| builder.constant(Literal::new(lengths, values)).cast(x.dtype());
    if taps.positions.iter().all(|taps| taps.len() <= 2) {
        let column = |tap: usize| -> Expr<'b> {
            let at = |taps: &Vec<(usize, f64)>| taps.get(tap).map_or((taps[0].0, 0.0), |&tap| tap);
            let index: Vec<i64> = taps.positions.iter().map(|taps| at(taps).0 as i64).collect();
            let weights: Vec<f64> = taps.positions.iter().map(|taps| at(taps).1).collect();
            let picked = pick(&index);
            picked * literal(&[count], &weights).broadcast(&picked.shape(), &[axis])
        };
        return column(0) + column(1);
    }
    let length = shape[axis];
    let mut matrix = vec![0.0; count * length];
    for (row, taps) in taps.positions.iter().enumerate() {
        taps.iter().for_each(|&(column, weight)| matrix[row * length + column] += weight);
    }
    let matrix = literal(&[count, length], &matrix);
    let dims = DotDims { lhs_contract: vec![axis], rhs_contract: vec![1], ..DotDims::default() };
    let product = x.dot(matrix, dims);
    // The new axis came last; it belongs where the old one was.
    let mut permutation: Vec<usize> = (0..shape.rank() - 1).collect();
    permutation.insert(axis, shape.rank() - 1);
    product.transpose(&permutation)
}

/// The elements of an axis at these positions: a slice where they are evenly spaced.
fn pick<'b>(x: Expr<'b>, axis: usize, index: &[i64]) -> Expr<'b> {
    let shape = x.shape();
    if let [first, second, ..] = *index
        && second > first
        && index.windows(2).all(|pair| pair[1] - pair[0] == second - first)
    {
        let (mut start, mut limit, mut step) = (vec![0; shape.rank()], shape.to_vec(), vec![1; shape.rank()]);
        start[axis] = first as usize;
        limit[axis] = index[index.len() - 1] as usize + 1;
        step[axis] = (second - first) as usize;
        return x.slice(&start, &limit, &step);
    }
    x.gather(axis, x.builder().constant(Literal::new([index.len()], index)))
}
