//! Pooling of regions that are given at run time.

use super::spatial::positive;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, Literal, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("MaxRoiPool", 1, Gradient::Piecewise, max_roi_pool),
    Operator::new("RoiAlign", 10, Gradient::Piecewise, roi_align),
];

/// The greatest element of each cell of each region; 0 where a cell lies outside of the input.
fn max_roi_pool<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, rois, node) = (context.float(0)?, context.float(1)?, context.node);
    context.same_dtype(x, rois)?;
    let (shape, cells) = (x.shape(), positive(node, "pooled_shape", 2)?);
    let cells = node.required("pooled_shape", cells)?;
    let regions = rois.shape().first().copied().unwrap_or(0);
    if shape.rank() != 4 || rois.shape()[..] != [regions, 5] {
        return Err(context.error(format_args!("regions of {} do not fit an input of {shape}", rois.shape())));
    }
    let scale = node.float("spatial_scale", 1.0)? as f64;
    let column = |at: usize| rois.slice_axis(1, at, at + 1).reshape(&Shape::new(&[regions]));
    let batch = context.guarded(column(0).cast(DType::I64), shape[0])?;
    // Which elements of an axis belong to which cell of a region: [regions, cells, length]
    let within = |low: usize, cells: usize, length: usize| -> crate::Result<Expr<'b>> {
        // Halves are rounded away from zero.
        let corner = |at: usize| {
            let place = column(at) * scale;
            place.sign() * (place.abs() + 0.5).floor()
        };
        let (start, end) = (corner(low), corner(low + 2));
        let size = end - start + 1.0;
        let size = size.max(size.splat(1.0)) / cells as f64;
        let places = context.shape(&[regions, cells, length])?;
        let counts = |axis: usize| {
            context.builder().iota(TensorType::new(DType::I64, places.clone()), axis).cast(x.dtype())
        };
        let spread = |e: Expr<'b>| e.broadcast(&places, &[0]);
        let first = (counts(1) * spread(size)).floor() + spread(start);
        let last = -(-((counts(1) + 1.0) * spread(size))).floor() + spread(start);
        Ok(counts(2).ge(first).and(counts(2).lt(last)))
    };
    let (rows, columns) = (within(2, cells[0], shape[2])?, within(1, cells[1], shape[3])?);
    let picked = x.gather(0, batch);
    let never =
        |shape: &Shape| picked.builder().splat(&TensorType::new(x.dtype(), shape.clone()), f64::NEG_INFINITY);
    let all = context.shape(&[regions, shape[1], shape[2], cells[1], shape[3]])?;
    let by_column =
        columns.broadcast(&all, &[0, 3, 4]).select(picked.broadcast(&all, &[0, 1, 2, 4]), never(&all));
    let by_column = by_column.reduce_max(&[4]);
    let all = context.shape(&[regions, shape[1], cells[0], shape[2], cells[1]])?;
    let pooled =
        rows.broadcast(&all, &[0, 2, 3]).select(by_column.broadcast(&all, &[0, 1, 3, 4]), never(&all));
    let pooled = pooled.reduce_max(&[3]);
    let empty = pooled.eq(pooled.splat(f64::NEG_INFINITY));
    Ok(vec![empty.select(pooled.splat(0.0), pooled)])
}

fn roi_align<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, rois, node) = (context.float(0)?, context.float(1)?, context.node);
    let batch_index = context.index(2)?;
    context.same_dtype(x, rois)?;
    let (shape, regions) = (x.shape(), batch_index.shape().elements());
    if shape.rank() != 4 || shape[2] == 0 || shape[3] == 0 || rois.shape()[..] != [regions, 4] {
        return Err(context.error(format_args!("regions of {} do not fit an input of {shape}", rois.shape())));
    }
    let positive = |name: &str, default: i64| -> crate::Result<usize> {
        let value = node.int(name, default)?;
        let fits = usize::try_from(value).ok().filter(|&value| value > 0);
        fits.ok_or_else(|| node.attribute_error(name, format_args!("is {value}, which is not supported")))
    };
    let (rows, columns) = (positive("output_height", 1)?, positive("output_width", 1)?);
    // Without it the number of samples would depend on the regions.
    let samples = positive("sampling_ratio", 0)?;
    let half_pixel = match node.string(
        "coordinate_transformation_mode",
        if node.opset >= 16 { "half_pixel" } else { "output_half_pixel" },
    )? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        _ => return Err(node.attribute_error("coordinate_transformation_mode", "is not known")),
    };
    let greatest = match node.string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        _ => return Err(node.attribute_error("mode", "is not known")),
    };
    context.table_size(&[rows.max(columns), samples])?;
    let scale = node.float("spatial_scale", 1.0)? as f64;
    let axis = |low: usize, cells: usize, length: usize| {
        let corner = |at: usize| {
            let corner = rois.slice_axis(1, at, at + 1).reshape(&Shape::new(&[regions])) * scale;
            if half_pixel { corner - 0.5 } else { corner }
        };
        let (start, end) = (corner(low), corner(low + 2));
        // The older form knows no region smaller than one element.
        let size = if half_pixel { end - start } else { (end - start).max(start.splat(1.0)) };
        let line = Line { start, size, cells, samples, length };
        line.taps()
    };
    let (ys, xs) = (axis(1, rows, shape[2]), axis(0, columns, shape[3]));
    let places = context.shape(&[regions, rows * samples, columns * samples])?;
    let table = context.shape(&[shape[0] * shape[2] * shape[3], shape[1]])?;
    let pixels = x.transpose(&[0, 2, 3, 1]).reshape(&table);
    let batch_index = context.guarded(batch_index.reshape(&Shape::new(&[regions])), shape[0])?;
    let first = (batch_index * (shape[2] * shape[3]) as f64).broadcast(&places, &[0]);
    let mut parts: Vec<Expr<'b>> = Vec::with_capacity(4);
    for y in &ys {
        for x in &xs {
            let row = y.index.broadcast(&places, &[0, 1]) * shape[3] as f64;
            let picked = pixels.gather(0, first + row + x.index.broadcast(&places, &[0, 2]));
            let weight = y.weight.broadcast(&places, &[0, 1]) * x.weight.broadcast(&places, &[0, 2]);
            parts.push(picked * weight.broadcast(&picked.shape(), &[0, 1, 2]));
        }
    }
    let cells = context.shape(&[regions, rows, samples, columns, samples, shape[1]])?;
    let split = |part: Expr<'b>| part.reshape(&cells);
    // The greatest is taken of the weighed neighbours, not of what they add up to.
    let pooled = if greatest {
        let all = parts.iter().skip(1).fold(split(parts[0]), |all, part| all.max(split(*part)));
        all.reduce_max(&[2, 4])
    } else {
        let sum = parts.iter().skip(1).fold(parts[0], |sum, part| sum + *part);
        split(sum).mean(&[2, 4])
    };
    Ok(vec![pooled.transpose(&[0, 3, 1, 2])])
}

/// One axis of all regions.
struct Line<'b> {
    start: Expr<'b>,
    size: Expr<'b>,
    cells: usize,
    samples: usize,
    length: usize,
}

/// A neighbour of each sample, `[regions, cells * samples]`.
struct Tap<'b> {
    index: Expr<'b>,
    weight: Expr<'b>,
}

impl<'b> Line<'b> {
    fn taps(&self) -> [Tap<'b>; 2] {
        let builder = self.start.builder();
        let count = self.cells * self.samples;
        let places = Shape::new(&[self.start.shape()[0], count]);
        // Samples are spread evenly over the cells, so evenly over the region.
        let fractions: Vec<f64> = (0..count).map(|sample| (sample as f64 + 0.5) / count as f64).collect();
        let fractions = builder.constant(Literal::new([count], &fractions)).cast(self.start.dtype());
        let spread = |e: Expr<'b>| e.broadcast(&places, &[0]);
        let position = spread(self.start) + spread(self.size) * fractions.broadcast(&places, &[1]);
        let (length, last) = (self.length as f64, self.length as f64 - 1.0);
        let outside = position.lt(position.splat(-1.0)).or(position.gt(position.splat(length)));
        let inner = super::activation::clamp(position, 0.0, last);
        let left = inner.floor();
        let right = super::activation::clamp(left + 1.0, 0.0, last);
        let ratio = inner - left;
        let tap = |at: Expr<'b>, weight: Expr<'b>| Tap {
            index: at.cast(DType::I64),
            weight: outside.select(weight.splat(0.0), weight),
        };
        [tap(left, 1.0 - ratio), tap(right, ratio)]
    }
}
