//! Sampling at coordinates that are computed at run time.

use super::activation::clamp;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, DotDims, Expr, Literal, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("AffineGrid", 20, Gradient::Smooth, affine_grid),
    Operator::new("GridSample", 16, Gradient::Piecewise, grid_sample),
];

fn affine_grid<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (theta, node) = (context.float(0)?, context.node);
    let size = context.lengths(&context.known_i64s(1, "the size")?, "the size")?;
    let align_corners = node.flag("align_corners", false)?;
    let spatial = size.get(2..).unwrap_or_default();
    let axes = spatial.len();
    let wanted = [size.first().copied().unwrap_or(0), axes, axes + 1];
    if !(2..=3).contains(&axes) || theta.shape()[..] != wanted {
        return Err(context.error(format_args!("theta of {} does not fit the size {size:?}", theta.ty())));
    }
    let points = context.shape(spatial)?.elements();
    context.table_size(&[points, axes + 1])?;
    let lines: Vec<Vec<f64>> = spatial.iter().map(|&length| positions(length, align_corners)).collect();
    let strides = Shape::new(spatial).strides();
    let mut base = Vec::with_capacity(points * (axes + 1));
    for point in 0..points {
        // The last axis comes first in a coordinate.
        base.extend((0..axes).rev().map(|axis| lines[axis][point / strides[axis] % spatial[axis]]));
        base.push(1.0);
    }
    let base = context.constant(Literal::new([points, axes + 1], &base)).cast(theta.dtype());
    let dims = DotDims { lhs_contract: vec![2], rhs_contract: vec![1], ..DotDims::default() };
    let grid = theta.dot(base, dims).transpose(&[0, 2, 1]);
    let shape: Vec<usize> = [&size[..1], spatial, &[axes]].concat();
    Ok(vec![context.reshape(grid, &shape)?])
}

/// The normalized coordinates of the elements of an axis.
fn positions(length: usize, align_corners: bool) -> Vec<f64> {
    let at = |index: usize| match (align_corners, length) {
        (true, 1) => -1.0,
        (true, _) => -1.0 + 2.0 * index as f64 / (length as f64 - 1.0),
        (false, _) => (2.0 * index as f64 + 1.0) / length as f64 - 1.0,
    };
    (0..length).map(at).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

fn grid_sample<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (given, grid, node) = (context.input(0)?, context.float(1)?, context.node);
    let mode = match node.string("mode", "linear")? {
        "linear" | "bilinear" => Mode::Linear,
        "nearest" => Mode::Nearest,
        "cubic" | "bicubic" => Mode::Cubic,
        _ => return Err(node.attribute_error("mode", "is not known")),
    };
    let outside = match node.string("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        _ => return Err(node.attribute_error("padding_mode", "is not known")),
    };
    let align_corners = node.flag("align_corners", false)?;
    // Between integers there are fractions; only the nearest is an element as it stands.
    let x = match given.dtype() {
        DType::Bool if mode == Mode::Nearest => given.cast(DType::U8),
        dtype if dtype.is_float() || mode == Mode::Nearest => given,
        _ => given.cast(DType::F64),
    };
    let (shape, grid_shape) = (x.shape(), grid.shape());
    let axes = shape.rank().saturating_sub(2);
    let fits = axes > 0
        && axes <= 4
        && grid_shape.rank() == axes + 2
        && grid_shape[0] == shape[0]
        && grid_shape[axes + 1] == axes
        && shape[2..].iter().all(|&length| length > 0);
    if !fits {
        return Err(context.error(format_args!("a grid of {grid_shape} does not fit an input of {shape}")));
    }
    let (batch, channels) = (shape[0], shape[1]);
    let output = &grid_shape[1..axes + 1];
    let points: usize = output.iter().product();
    let places = Shape::new(&[batch, points]);
    let mut taps: Vec<Vec<Tap<'b>>> = Vec::with_capacity(axes);
    for axis in 0..axes {
        let normal = grid.slice_axis(axes + 1, axes - 1 - axis, axes - axis).reshape(&places);
        let line = Line { length: shape[axis + 2], align_corners, outside };
        taps.push(line.taps(line.denormalized(normal), mode, x.dtype()));
    }
    // One row for each place of the input, so that a gather takes all channels of it.
    let area: usize = shape[2..].iter().product();
    let rows = x.reshape(&context.shape(&[batch, channels, area])?).transpose(&[0, 2, 1]);
    let rows = rows.reshape(&context.shape(&[batch * area, channels])?);
    let counts = TensorType::new(DType::I64, places.clone());
    let first = context.builder().iota(counts, 0) * area as f64;
    let mut total: Option<Expr<'b>> = None;
    let per_axis = taps[0].len();
    for corner in 0..per_axis.pow(axes as u32) {
        let (mut index, mut weight, mut rest) = (None, None, corner);
        for (axis, taps) in taps.iter().enumerate() {
            let tap = &taps[rest % per_axis];
            rest /= per_axis;
            index =
                Some(index.map_or(tap.index, |index: Expr<'b>| index * shape[axis + 2] as f64 + tap.index));
            weight = match (weight, tap.weight) {
                (Some(weight), Some(other)) => Some(weight * other),
                (weight, other) => weight.or(other),
            };
        }
        let Some(index) = index else { break };
        let picked = rows.gather(0, index + first);
        let part = match weight {
            Some(weight) => picked * weight.broadcast(&picked.shape(), &[0, 1]),
            None => picked,
        };
        total = Some(total.map_or(part, |total| total + part));
    }
    let total = total.ok_or_else(|| context.error("the input has no spatial axis"))?;
    let result: Vec<usize> = [&[batch, channels], output].concat();
    Ok(vec![context.reshape(total.transpose(&[0, 2, 1]), &result)?.cast(given.dtype())])
}

/// A position on an axis, always within it, and its weight (`None` for 1).
struct Tap<'b> {
    index: Expr<'b>,
    weight: Option<Expr<'b>>,
}

/// An axis that is sampled.
struct Line {
    length: usize,
    align_corners: bool,
    outside: Outside,
}

impl Line {
    /// From -1 to 1 into positions of elements.
    fn denormalized<'b>(&self, x: Expr<'b>) -> Expr<'b> {
        let length = self.length as f64;
        if self.align_corners { (x + 1.0) * ((length - 1.0) / 2.0) } else { ((x + 1.0) * length - 1.0) * 0.5 }
    }

    fn taps<'b>(&self, x: Expr<'b>, mode: Mode, dtype: DType) -> Vec<Tap<'b>> {
        match mode {
            Mode::Nearest => vec![self.tap(self.settled(x.round()), None, dtype)],
            Mode::Linear => {
                let x = self.settled(x);
                let left = x.floor();
                let ratio = x - left;
                vec![self.tap(left, Some(1.0 - ratio), dtype), self.tap(left + 1.0, Some(ratio), dtype)]
            }
            Mode::Cubic => {
                let left = x.floor();
                let ratio = x - left;
                (-1..=2)
                    .map(|offset| {
                        let position = self.settled(left + offset as f64);
                        self.tap(position, Some(cubic(offset, ratio)), dtype)
                    })
                    .collect()
            }
        }
    }

    /// Positions brought back into the axis, where the mode does so.
    fn settled<'b>(&self, x: Expr<'b>) -> Expr<'b> {
        let last = self.length as f64 - 1.0;
        match self.outside {
            Outside::Zeros => x,
            Outside::Border => clamp(x, 0.0, last),
            Outside::Reflection => {
                let (low, high) = if self.align_corners { (0.0, last) } else { (-0.5, last + 0.5) };
                let span = high - low;
                if span == 0.0 {
                    return x.splat(0.0);
                }
                let distance = (x - low).abs();
                let flips = (distance / span).floor();
                let rest = distance - flips * span;
                let even = (flips % 2.0).eq(flips.splat(0.0));
                clamp(even.select(rest + low, high - rest), 0.0, last)
            }
        }
    }

    fn tap<'b>(&self, position: Expr<'b>, weight: Option<Expr<'b>>, dtype: DType) -> Tap<'b> {
        let last = self.length as f64 - 1.0;
        let index = clamp(position, 0.0, last).cast(DType::I64);
        let weight = weight.map(|weight| weight.cast(dtype));
        if self.outside != Outside::Zeros {
            return Tap { index, weight };
        }
        let within = position.ge(position.splat(0.0)).and(position.le(position.splat(last)));
        let one = || position.splat_of(dtype, 1.0);
        let weight = weight.unwrap_or_else(one);
        Tap { index, weight: Some(within.select(weight, weight.splat(0.0))) }
    }
}

/// The weight of the element `offset` from the left neighbour, for a position `ratio` right of that.
fn cubic<'b>(offset: i32, ratio: Expr<'b>) -> Expr<'b> {
    const A: f64 = -0.75;
    let near = |x: Expr<'b>| (x * (A + 2.0) - (A + 3.0)) * x * x + 1.0;
    let far = |x: Expr<'b>| ((x * A - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    match offset {
        -1 => far(ratio + 1.0),
        0 => near(ratio),
        1 => near(1.0 - ratio),
        _ => far(2.0 - ratio),
    }
}
