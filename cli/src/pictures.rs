//! Pictures as inputs: the order of their axes, the range of their values, their size.

use crate::args::{Layout, PictureArguments};
use crate::arrays::is_picture;
use crate::failure::{Failure, Result};
use gradc::Declared;
use gradc_frontend_onnx::error::Escaped;
use gradc_frontend_onnx::model::Dim;
use gradc_ir::{DType, Literal, TensorType};

impl Layout {
    /// The axes in order, without the batch.
    fn inner(self) -> &'static str {
        match self {
            Layout::Hwc | Layout::Nhwc => "hwc",
            Layout::Chw | Layout::Nchw => "chw",
        }
    }

    fn has_batch(self) -> bool {
        matches!(self, Layout::Nhwc | Layout::Nchw)
    }
}

/// Brings an array from a file into the form that an input wants: PNG and JPEG pictures always, arrays where a layout
/// was given. What does not look like a picture stays as it is.
pub fn arranged(
    arguments: &PictureArguments,
    input: &Declared,
    array: Literal,
    source: &str,
) -> Result<Literal> {
    let picture = is_picture(source);
    let rank = input.dims.as_ref().map(Vec::len);
    let (array, layout) = match (picture, arguments.layout) {
        (true, _) => (with_channels(array), Layout::Hwc),
        (false, Some(layout)) if array.shape().rank() == if layout.has_batch() { 4 } else { 3 } => {
            (array, layout)
        }
        (false, _) => return Ok(array),
    };
    if !matches!(rank, Some(3 | 4) | None) {
        return Ok(array);
    }
    let batch = usize::from(layout.has_batch());
    let channels_at = batch + layout.inner().find('c').unwrap_or(0);
    let channels = array.shape()[channels_at];
    let wanted = if wants_channels_last(input, channels) { "hwc" } else { "chw" };
    let array = match picture && input.dtype.and_then(|dtype| dtype.to_ir()).is_some_and(DType::is_float) {
        true => normalized(arguments, &resized(arguments, input, wanted, array), source)?,
        false if picture => resized(arguments, input, wanted, array),
        false => array,
    };
    let place = |axis: char| layout.inner().find(axis).map_or(0, |position| position + batch);
    let mut order: Vec<usize> = (0..batch).collect();
    order.extend(wanted.chars().map(place));
    let array = permuted(&array, &order);
    let missing_batch = rank.is_none_or(|rank| rank == array.shape().rank() + 1) && batch == 0;
    Ok(if missing_batch { with_shape(&array, &[&[1], &array.shape()[..]].concat()) } else { array })
}

/// Whether the last axis of an input is that of the channels, and not the one after the batch.
fn wants_channels_last(input: &Declared, channels: usize) -> bool {
    let Some(dims) = &input.dims else { return false };
    let is = |position: Option<usize>| {
        position.and_then(|position| dims.get(position)).is_some_and(|dim| *dim == Dim::Known(channels))
    };
    let first = dims.len().checked_sub(3);
    is(dims.len().checked_sub(1)) && !is(first)
}

fn with_shape(array: &Literal, shape: &[usize]) -> Literal {
    match Literal::from_bytes(TensorType::new(array.dtype(), shape), array.bytes().to_vec().into()) {
        Some(array) => array,
        None => unreachable!("the shape has as many elements"),
    }
}

/// A gray picture with an axis of one channel.
fn with_channels(array: Literal) -> Literal {
    match array.shape()[..] {
        [height, width] => with_shape(&array, &[height, width, 1]),
        _ => array,
    }
}

/// From 0 to 1, less the mean, by the deviation: `f32[H,W,C]`.
fn normalized(arguments: &PictureArguments, array: &Literal, source: &str) -> Result<Literal> {
    let channels = array.shape()[2];
    for (flag, values) in [("--mean", &arguments.mean), ("--std", &arguments.std)] {
        if !values.is_empty() && values.len() != channels && values.len() != 1 {
            let what =
                format!("{flag} has {} numbers, {} has {channels} channels", values.len(), Escaped(source));
            return Err(Failure::usage(what, format!("give {channels} numbers, or one for all")));
        }
    }
    if arguments.std.contains(&0.0) {
        return Err(Failure::usage("--std has a 0, which nothing can be divided by", "leave --std out"));
    }
    let of = |values: &[f64], channel: usize, otherwise: f64| match values {
        [] => otherwise,
        [one] => *one,
        _ => values[channel],
    };
    let value = |(position, level): (usize, &u8)| {
        let channel = position % channels.max(1);
        let scaled = f64::from(*level) / 255.0 - of(&arguments.mean, channel, 0.0);
        (scaled / of(&arguments.std, channel, 1.0)) as f32
    };
    let values: Vec<f32> = array.bytes().iter().enumerate().map(value).collect();
    Ok(Literal::new(array.shape().clone(), &values))
}

/// A picture `u8[H,W,C]` in the size that an input wants, where that was asked for and the size is known.
fn resized(arguments: &PictureArguments, input: &Declared, wanted: &str, array: Literal) -> Literal {
    let (&[height, width, channels], Some(dims)) = (&array.shape()[..], &input.dims) else { return array };
    let before = dims.len().saturating_sub(3);
    let length = |axis: char| match dims.get(before + wanted.find(axis)?) {
        Some(Dim::Known(length)) => Some(*length),
        Some(Dim::Symbol(_) | Dim::Unknown) | None => None,
    };
    let (Some(new_height), Some(new_width), true) = (length('h'), length('w'), arguments.resize) else {
        return array;
    };
    if (new_height, new_width) == (height, width) || height * width * channels == 0 {
        return array;
    }
    let levels: Vec<f64> = array.bytes().iter().map(|&level| f64::from(level)).collect();
    let wide = resampled(&levels, [height, width, channels], new_width);
    let high = resampled(&wide, [1, height, new_width * channels], new_height);
    let bytes: Vec<u8> = high.iter().map(|level| level.round().clamp(0.0, 255.0) as u8).collect();
    let ty = TensorType::new(DType::U8, [new_height, new_width, channels]);
    Literal::from_bytes(ty, bytes.into()).unwrap_or(array)
}

/// The middle of three axes in another length: linear between elements, averaged where it shrinks.
fn resampled(values: &[f64], [outer, length, inner]: [usize; 3], new: usize) -> Vec<f64> {
    let scale = length as f64 / new.max(1) as f64;
    let radius = scale.max(1.0);
    let mut result = Vec::with_capacity(outer * new * inner);
    for row in 0..outer {
        for position in 0..new {
            let center = (position as f64 + 0.5) * scale;
            let first = (center - radius).floor().max(0.0) as usize;
            let last = ((center + radius).ceil() as usize).min(length);
            let weight = |place: usize| (1.0 - ((place as f64 + 0.5 - center) / radius).abs()).max(0.0);
            let total: f64 = (first..last).map(weight).sum();
            for column in 0..inner {
                let at = |place: usize| values[(row * length + place) * inner + column];
                result.push((first..last).map(|place| weight(place) * at(place)).sum::<f64>() / total);
            }
        }
    }
    result
}

/// The axes in another order: result axis `i` is axis `order[i]`.
fn permuted(array: &Literal, order: &[usize]) -> Literal {
    let (size, strides) = (array.dtype().size(), array.shape().strides());
    let shape: Vec<usize> = order.iter().map(|&axis| array.shape()[axis]).collect();
    let mut bytes = Vec::with_capacity(array.bytes().len());
    let mut index = vec![0; shape.len()];
    for _ in 0..array.shape().elements() {
        let from: usize = index.iter().zip(order).map(|(index, &axis)| index * strides[axis]).sum();
        bytes.extend_from_slice(&array.bytes()[from * size..(from + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    match Literal::from_bytes(TensorType::new(array.dtype(), &shape[..]), bytes.into()) {
        Some(array) => array,
        None => unreachable!("a permutation keeps the number of elements"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_places() {
        let array = Literal::new([1, 2, 3], &[1u8, 2, 3, 4, 5, 6]);
        assert_eq!(permuted(&array, &[2, 0, 1]), Literal::new([3, 1, 2], &[1u8, 4, 2, 5, 3, 6]));
    }

    #[test]
    fn shrinking_averages_and_growing_interpolates() {
        assert_eq!(resampled(&[0.0, 0.0, 8.0, 8.0], [1, 4, 1], 4), [0.0, 0.0, 8.0, 8.0]);
        assert_eq!(resampled(&[0.0, 8.0], [1, 2, 1], 4), [0.0, 2.0, 6.0, 8.0]);
        let small = resampled(&[0.0, 0.0, 8.0, 8.0], [1, 4, 1], 2);
        assert!(small[0] > 0.0 && small[0] < 2.0 && (small[0] + small[1] - 8.0).abs() < 1e-12, "{small:?}");
    }
}
