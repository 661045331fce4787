//! Signals: Fourier transforms as products with constant matrices, windows, filter banks.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DotDims, Expr, Literal, Shape};
use std::f64::consts::PI;

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("BlackmanWindow", 17, Gradient::Integer, blackman_window),
    Operator::new("DFT", 17, Gradient::Smooth, dft),
    Operator::new("HammingWindow", 17, Gradient::Integer, hamming_window),
    Operator::new("HannWindow", 17, Gradient::Integer, hann_window),
    Operator::new("MelWeightMatrix", 17, Gradient::Integer, mel_weight_matrix),
    Operator::new("STFT", 17, Gradient::Smooth, stft),
];

/// The largest matrix or window that is made.
const LARGEST: usize = 1 << 26;

fn hann_window<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    window(context, |turn| 0.5 - 0.5 * turn.cos())
}

fn hamming_window<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    window(context, |turn| 25.0 / 46.0 - 21.0 / 46.0 * turn.cos())
}

fn blackman_window<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    window(context, |turn| 0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
}

fn window<'b>(context: &Context<'_, 'b>, shape: impl Fn(f64) -> f64) -> Outputs<'b> {
    let size = count(context, context.known_i64(0, "the size")?)?;
    let period = if context.node.flag("periodic", true)? { size } else { size.saturating_sub(1) };
    let dtype = context.dtype(context.node.int("output_datatype", 1)?)?;
    let values: Vec<f64> = (0..size).map(|n| shape(2.0 * PI * n as f64 / period.max(1) as f64)).collect();
    Ok(vec![context.constant(Literal::new([size], &values)).cast(dtype)])
}

fn count(context: &Context<'_, '_>, number: i64) -> Result<usize> {
    match usize::try_from(number) {
        Ok(number) if number <= LARGEST => Ok(number),
        _ => Err(context.error(format_args!("a length of {number} is negative or too large"))),
    }
}

fn mel_weight_matrix<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let bands = count(context, context.known_i64(0, "num_mel_bins")?)?;
    let length = count(context, context.known_i64(1, "dft_length")?)?;
    let rate = context.known_i64(2, "sample_rate")? as f64;
    let edge = |position: usize, what: &str| -> Result<f64> {
        let values = context.known_f64s(position, what)?;
        values.first().copied().ok_or_else(|| context.error(format_args!("{what} holds no number")))
    };
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (mel(edge(3, "lower_edge_hertz")?), mel(edge(4, "upper_edge_hertz")?));
    let dtype = context.dtype(context.node.int("output_datatype", 1)?)?;
    let rows = length / 2 + 1;
    if rows.saturating_mul(bands) > LARGEST {
        return Err(context.error(format_args!("a matrix of {rows} by {bands} is too large")));
    }
    let step = (high - low) / (bands + 2) as f64;
    let bins: Vec<i64> = (0..bands + 2)
        .map(|band| {
            let hertz = 700.0 * (10f64.powf((band as f64 * step + low) / 2595.0) - 1.0);
            ((length + 1) as f64 * hertz / rate).floor() as i64
        })
        .collect();
    if bins.iter().any(|&bin| bin < 0 || bin >= rows as i64) {
        return Err(context.error("a band lies beyond the spectrum"));
    }
    let mut matrix = vec![0.0; rows * bands];
    for band in 0..bands {
        let (left, center, right) = (bins[band], bins[band + 1], bins[band + 2]);
        let mut set = |bin: i64, weight: f64| matrix[bin as usize * bands + band] = weight;
        if left == center {
            set(center, 1.0);
        }
        (left..=center)
            .filter(|_| left < center)
            .for_each(|bin| set(bin, (bin - left) as f64 / (center - left) as f64));
        (center..right).for_each(|bin| set(bin, (right - bin) as f64 / (right - center) as f64));
    }
    Ok(vec![context.constant(Literal::new([rows, bands], &matrix)).cast(dtype)])
}

fn dft<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let rank = x.rank();
    let axis = match node.opset >= 20 {
        true if node.input(2).is_some() => context.known_i64(2, "the axis")?,
        true => -2,
        false => node.int("axis", 1)?,
    };
    let axis = context.axis(axis, rank)?;
    if axis + 1 == rank {
        return Err(context.error("the last axis holds real and imaginary parts and cannot be transformed"));
    }
    let (inverse, onesided) = (node.flag("inverse", false)?, node.flag("onesided", false)?);
    let present = x.shape()[axis];
    let length = match node.input(1).is_some() {
        true => count(context, context.known_i64(1, "the length")?)?,
        false if inverse && onesided => 2 * present.saturating_sub(1),
        false => present,
    };
    if length == 0 {
        return Err(context.error("a transform of length 0 is not defined"));
    }
    let parts = x.shape()[rank - 1];
    if parts != 1 && parts != 2 {
        return Err(context.error(format_args!("the last axis must hold 1 or 2 numbers, holds {parts}")));
    }
    if inverse && onesided && parts != 2 {
        return Err(context.error("half of a spectrum must be complex"));
    }
    let wanted = if inverse && onesided { (length / 2 + 1).min(present) } else { length.min(present) };
    let x = x.slice_axis(axis, 0, wanted);
    // The signal as `[.., samples, parts]` with the transformed axis last but one.
    let order: Vec<usize> = (0..rank - 1).filter(|&a| a != axis).chain([axis, rank - 1]).collect();
    let moved = x.transpose(&order);
    let transform = Transform { length, samples: wanted, inverse, onesided };
    let y = transform.apply(context, moved)?;
    let mut back: Vec<usize> = (0..rank - 2).collect();
    back.insert(axis, rank - 2);
    back.push(rank - 1);
    Ok(vec![y.transpose(&back)])
}

/// A transform of `samples` numbers, taken to be followed by zeros, to a spectrum of this length.
struct Transform {
    length: usize,
    samples: usize,
    inverse: bool,
    onesided: bool,
}

impl Transform {
    /// `[.., samples, parts]` to `[.., frequencies, 2]`; the inverse of half a spectrum is real, `[.., length, 1]`.
    fn apply<'b>(&self, context: &Context<'_, 'b>, x: Expr<'b>) -> Result<Expr<'b>> {
        let parts = x.shape()[x.rank() - 1];
        let real = self.inverse && self.onesided;
        let results = if self.onesided && !self.inverse { self.length / 2 + 1 } else { self.length };
        let outputs = if real { 1 } else { 2 };
        let size = [self.samples, parts, results, outputs].iter().try_fold(1usize, |n, &m| n.checked_mul(m));
        if size.is_none_or(|size| size > LARGEST) {
            let what = format!("a transform of {} numbers to {results} is too large", self.samples);
            return Err(context.error(what));
        }
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let norm = if self.inverse { 1.0 / self.length as f64 } else { 1.0 };
        let mut matrix = Vec::with_capacity(self.samples * parts * results * outputs);
        for sample in 0..self.samples {
            // The half that is left out mirrors this one, but for its ends.
            let mirrored = real && sample != 0 && 2 * sample != self.length;
            let weight = norm * if mirrored { 2.0 } else { 1.0 };
            for part in 0..parts {
                for result in 0..results {
                    let turn = (sample as u128 * result as u128 % self.length as u128) as f64;
                    let angle = sign * 2.0 * PI * turn / self.length as f64;
                    let (cos, sin) = (weight * angle.cos(), weight * angle.sin());
                    let (re, im) = if part == 0 { (cos, sin) } else { (-sin, cos) };
                    matrix.push(re);
                    matrix.extend((outputs == 2).then_some(im));
                }
            }
        }
        let matrix =
            context.constant(Literal::new([self.samples, parts, results, outputs], &matrix)).cast(x.dtype());
        let rank = x.rank();
        let dims = DotDims {
            lhs_contract: vec![rank - 2, rank - 1],
            rhs_contract: vec![0, 1],
            ..DotDims::default()
        };
        Ok(x.dot(matrix, dims))
    }
}

fn stft<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let x = if x.rank() == 2 { x.insert_axis(2) } else { x };
    let (batch, present, parts) = match x.shape()[..] {
        [batch, present, parts @ (1 | 2)] => (batch, present, parts),
        _ => {
            return Err(
                context.error(format_args!("the signal must be [batch, samples, 1 or 2], is {}", x.ty()))
            );
        }
    };
    let step = count(context, context.known_i64(1, "the frame step")?)?;
    let window = context.optional(2)?;
    let window_length = window.map(|window| window.shape().elements());
    let length = match (node.input(3).is_some(), window_length) {
        (true, _) => count(context, context.known_i64(3, "the frame length")?)?,
        (false, Some(length)) => length,
        (false, None) => present,
    };
    if step == 0 || length == 0 || length > present || window_length.is_some_and(|window| window != length) {
        let what = format!("frames of {length} at every {step} do not fit {present} samples and the window");
        return Err(context.error(what));
    }
    let frames = 1 + (present - length) / step;
    let positions: Vec<i64> =
        (0..frames).flat_map(|frame| (0..length).map(move |sample| (frame * step + sample) as i64)).collect();
    context.table_size(&[frames, length])?;
    context.shape(&[batch, frames, length, parts])?;
    let framed = x.gather(1, context.constant(Literal::new([frames, length], &positions)));
    let framed = match window {
        Some(window) => {
            context.same_dtype(x, window)?;
            framed * window.reshape(&Shape::new(&[length])).broadcast(&framed.shape(), &[2])
        }
        None => framed,
    };
    // Half of the spectrum says all of a real signal.
    let onesided = node.flag("onesided", true)? && parts == 1;
    let transform = Transform { length, samples: length, inverse: false, onesided };
    Ok(vec![transform.apply(context, framed)?])
}
