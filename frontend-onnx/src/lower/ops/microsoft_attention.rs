//! Attention operators of `com.microsoft`.

use super::attention::{Sizes, heads, split_heads};
use super::microsoft::DOMAIN;
use super::product::matmul;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, DotDims, Expr, Op, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Attention", 1, Gradient::Smooth, attention).of(DOMAIN),
    Operator::new("GroupQueryAttention", 1, Gradient::Smooth, group_query_attention).of(DOMAIN),
    Operator::new("MultiHeadAttention", 1, Gradient::Smooth, multi_head_attention).of(DOMAIN),
    Operator::new("RotaryEmbedding", 1, Gradient::Smooth, rotary_embedding).of(DOMAIN),
];

/// Queries, keys and values, `[batch, heads, positions, size]`; keys and values after those of earlier calls.
pub(super) struct Attended<'b> {
    pub q: Expr<'b>,
    pub k: Expr<'b>,
    pub v: Expr<'b>,
}

impl<'b> Attended<'b> {
    /// `[batch, positions, heads * size]`
    pub fn result(
        &self,
        context: &Context<'_, 'b>,
        mask: impl FnOnce(Expr<'b>) -> Result<Expr<'b>>,
    ) -> Result<Expr<'b>> {
        let node = context.node;
        context.same_dtype(self.q, self.v)?;
        let sizes = Sizes::new(context, self.q, self.k, self.v)?;
        let scale = match node.optional_float("scale")? {
            Some(scale) if scale != 0.0 => scale as f64,
            _ => 1.0 / (sizes.head as f64).sqrt(),
        };
        // Query heads that share a key head stand beside one another, so nothing needs to be repeated.
        let grouped =
            |last: usize| Shape::new(&[sizes.batch, sizes.kv_heads, sizes.shared, sizes.queries, last]);
        let dims = |lhs_contract: usize, rhs_contract: usize| DotDims {
            lhs_batch: vec![0, 1],
            rhs_batch: vec![0, 1],
            lhs_contract: vec![lhs_contract],
            rhs_contract: vec![rhs_contract],
        };
        let scores = (self.q * scale).reshape(&grouped(sizes.head)).dot(self.k, dims(4, 3));
        let scores = context.reshape(scores, &[sizes.batch, sizes.q_heads, sizes.queries, sizes.keys])?;
        let softcap = node.float("softcap", 0.0)? as f64;
        let scores = if softcap > 0.0 { (scores / softcap).tanh() * softcap } else { scores };
        let weights = context.push(Op::Softmax { axis: 3 }, &[mask(scores)?])?;
        let y = weights.reshape(&grouped(sizes.keys)).dot(self.v, dims(4, 2));
        let y = context.reshape(y, &[sizes.batch, sizes.q_heads, sizes.queries, sizes.value])?;
        context
            .reshape(y.transpose(&[0, 2, 1, 3]), &[sizes.batch, sizes.queries, sizes.q_heads * sizes.value])
    }
}

/// Scores of keys that come after their query are -inf, and of those `window` or more before it.
fn causal<'b>(scores: Expr<'b>, window: Option<usize>) -> Expr<'b> {
    let shape = scores.shape();
    let (queries, keys) = (shape[2], shape[3]);
    let counts = |axis: usize| scores.builder().iota(TensorType::new(DType::I64, [queries, keys]), axis);
    let own = counts(0) + (keys as f64 - queries as f64);
    let mut allowed = counts(1).le(own);
    if let Some(window) = window {
        allowed = allowed.and(counts(1).gt(own - window as f64));
    }
    allowed.broadcast(&shape, &[2, 3]).select(scores, scores.splat(f64::NEG_INFINITY))
}

/// Adds a great negative number to the scores of keys that a mask of integers forbids.
fn key_masked<'b>(context: &Context<'_, 'b>, scores: Expr<'b>, mask: Expr<'b>) -> Result<Expr<'b>> {
    let shape = scores.shape();
    let (batch, queries, keys) = (shape[0], shape[2], shape[3]);
    let filter = context.node.float("mask_filter_value", -10000.0)? as f64;
    if !mask.dtype().is_integer() {
        return Err(context.error(format_args!("the mask must hold integers, is {}", mask.ty())));
    }
    let plane = Shape::new(&[batch, keys]);
    let below = |lengths: Expr<'b>| {
        let counts = context.builder().iota(TensorType { dtype: DType::I64, shape: plane.clone() }, 1);
        counts.lt(lengths.cast(DType::I64).broadcast(&plane, &[0]))
    };
    let (allowed, dims): (Expr<'b>, &[usize]) = match mask.shape()[..] {
        // How many keys there are, and perhaps where they start.
        [length] if length == batch => (below(mask), &[0, 3]),
        [length] if length == 2 * batch => {
            let (ends, starts) = (mask.slice_axis(0, 0, batch), mask.slice_axis(0, batch, length));
            (below(ends).and(below(starts).logical_not()), &[0, 3])
        }
        [own, length] if own == batch && length == keys => (mask.gt(mask.splat(0.0)), &[0, 3]),
        [own, rows, length] if own == batch && rows == queries && length == keys => {
            (mask.gt(mask.splat(0.0)), &[0, 2, 3])
        }
        _ => return Err(context.error(format_args!("a mask of {} is not supported", mask.ty()))),
    };
    let allowed = allowed.broadcast(&shape, dims);
    Ok(scores + allowed.select(scores.splat(0.0), scores.splat(filter)))
}

/// Everything that is added to the scores: the mask and the bias at these positions, and causality.
fn masked<'b>(
    context: &Context<'_, 'b>,
    scores: Expr<'b>,
    mask: usize,
    bias: usize,
    forward: bool,
) -> Result<Expr<'b>> {
    let mut result = scores;
    if let Some(bias) = context.optional(bias)? {
        context.same_dtype(scores, bias)?;
        result = result + context.broadcast_to(bias, &scores.shape())?;
    }
    if let Some(mask) = context.optional(mask)? {
        result = key_masked(context, result, mask)?;
    }
    Ok(if forward { causal(result, None) } else { result })
}

/// Refuses attributes that change the meaning and are not known here.
fn plain(context: &Context<'_, '_>, names: &[&str]) -> Result<()> {
    for &name in names {
        if context.node.int(name, 0)? != 0 {
            return Err(context.node.attribute_error(name, "is not supported"));
        }
    }
    Ok(())
}

fn attention<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let bias = match context.optional(2)? {
        Some(_) => Some(context.float(2)?),
        None => None,
    };
    packed_attention(context, context.float(0)?, context.float(1)?, bias, [3, 4, 5])
}

/// Attention over one product of the input that holds queries, keys and values. `positions` are those of the mask, of
/// the keys and values of earlier calls, and of what is added to the scores.
pub(super) fn packed_attention<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    weights: Expr<'b>,
    bias: Option<Expr<'b>>,
    positions: [usize; 3],
) -> Outputs<'b> {
    let node = context.node;
    plain(context, &["do_rotary", "past_present_share_buffer"])?;
    context.same_dtype(x, weights)?;
    let count = heads(context, "num_heads")?;
    if x.rank() != 3 || weights.rank() != 2 {
        return Err(context.error(format_args!(
            "an input of {} does not fit weights of {}",
            x.ty(),
            weights.ty()
        )));
    }
    let width = weights.shape()[1];
    let widths = match node.ints("qkv_hidden_sizes")? {
        None | Some([]) => vec![width / 3; 3],
        Some(widths) => context.lengths(widths, "qkv_hidden_sizes")?,
    };
    if widths.len() != 3 || widths.iter().try_fold(0usize, |sum, &w| sum.checked_add(w)) != Some(width) {
        return Err(context.error(format_args!("weights of {} cannot be split in three", weights.ty())));
    }
    let mut all = matmul(context, x, weights)?;
    if let Some(bias) = bias {
        context.expect_shape(bias, &Shape::new(&[width]), "bias")?;
        all = all + bias.cast(all.dtype()).broadcast(&all.shape(), &[2]);
    }
    let part =
        |from: usize, width: usize| split_heads(context, all.slice_axis(2, from, from + width), Some(count));
    let q = part(0, widths[0])?;
    let (mut k, mut v) = (part(widths[0], widths[1])?, part(widths[0] + widths[1], widths[2])?);
    if let Some(past) = context.optional(positions[1])? {
        if past.rank() != 5 || past.shape()[0] != 2 {
            return Err(context.error(format_args!("`past` is {}", past.ty())));
        }
        let one =
            |which: usize| past.slice_axis(0, which, which + 1).reshape(&Shape::new(&past.shape()[1..]));
        k = context.push(Op::Concat { axis: 2 }, &[one(0), k])?;
        v = context.push(Op::Concat { axis: 2 }, &[one(1), v])?;
    }
    let forward = node.flag("unidirectional", false)?;
    let attended = Attended { q, k, v };
    let y =
        attended.result(context, |scores| masked(context, scores, positions[0], positions[2], forward))?;
    if !context.wants(1) {
        return Ok(vec![y]);
    }
    let present = context.push(Op::Concat { axis: 0 }, &[k.insert_axis(0), v.insert_axis(0)])?;
    Ok(vec![y, present])
}

fn multi_head_attention<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let count = heads(context, "num_heads")?;
    let q = context.float(0)?;
    if q.rank() != 3 || context.optional(8)?.is_some() || context.optional(9)?.is_some() {
        return Err(context.error("packed queries, and caches that are updated in place, are not supported"));
    }
    let (k, v) = match (context.optional(1)?, context.optional(2)?) {
        (Some(k), Some(v)) => (k, v),
        _ => return Err(context.error("packed keys and values are not supported")),
    };
    let bias = context.optional(3)?;
    let width = q.shape()[2];
    let mut at = 0;
    let mut biased = |x: Expr<'b>| -> Result<Expr<'b>> {
        // What comes as [batch, heads, positions, size] has been projected already.
        if x.rank() == 4 {
            return Ok(x);
        }
        let own = x.shape().last().copied().unwrap_or(0);
        let x = match bias {
            Some(bias) if bias.rank() == 1 && bias.shape()[0] >= at + own && x.rank() == 3 => {
                context.same_dtype(x, bias)?;
                x + bias.slice_axis(0, at, at + own).broadcast(&x.shape(), &[2])
            }
            Some(bias) => return Err(context.error(format_args!("`bias` is {}", bias.ty()))),
            None => x,
        };
        at += own;
        split_heads(context, x, Some(count))
    };
    if bias.is_some() && (k.rank() == 4 || v.rank() == 4) {
        return Err(context.error("a bias of keys that are projected already is not supported"));
    }
    let q = biased(q)?;
    let (k, v) = (biased(k)?, biased(v)?);
    if bias.is_some_and(|bias| bias.shape()[0] != at) {
        return Err(context.error(format_args!("`bias` does not fit queries of {width}")));
    }
    let past = |position: usize, x: Expr<'b>| match context.optional(position)? {
        Some(past) => context.push(Op::Concat { axis: 2 }, &[past, x]),
        None => Ok(x),
    };
    let (k, v) = (past(6, k)?, past(7, v)?);
    let forward = node.flag("unidirectional", false)?;
    let y = Attended { q, k, v }.result(context, |scores| masked(context, scores, 4, 5, forward))?;
    Ok(vec![y, k, v])
}

fn group_query_attention<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    plain(context, &["smooth_softmax", "qk_output", "kv_cache_bit_width", "sliding_window_cache"])?;
    if (9..context.input_count()).any(|position| node.input(position).is_some_and(|_| position != 10)) {
        return Err(context.error("positions, sinks and scales of caches are not supported"));
    }
    if !node.flag("causal", true)? {
        return Err(node.attribute_error("causal", "is not supported"));
    }
    let (count, kv_count) = (heads(context, "num_heads")?, heads(context, "kv_num_heads")?);
    let q = context.float(0)?;
    let (q, k, v) = match (context.optional(1)?, context.optional(2)?) {
        (Some(k), Some(v)) => (q, k, v),
        (None, None) if q.rank() == 3 => {
            let size = q.shape()[2] / (count + 2 * kv_count);
            let part = |from: usize, until: usize| q.slice_axis(2, from * size, until * size);
            if size * (count + 2 * kv_count) != q.shape()[2] {
                return Err(context.error(format_args!("{} cannot be split into heads", q.ty())));
            }
            let all = count + 2 * kv_count;
            (part(0, count), part(count, count + kv_count), part(count + kv_count, all))
        }
        _ => return Err(context.error("keys and values must come together")),
    };
    let (q, k) = (split_heads(context, q, Some(count))?, split_heads(context, k, Some(kv_count))?);
    let v = split_heads(context, v, Some(kv_count))?;
    let past_length = match context.optional(3)? {
        Some(past) if past.rank() == 4 => past.shape()[2],
        Some(past) => return Err(context.error(format_args!("`past_key` is {}", past.ty()))),
        None => 0,
    };
    // Where sequences differ in length, or the cache has room to spare, positions depend on the data.
    let total = (past_length + q.shape()[2]) as i64;
    let lengths = context.known_i64s(5, "the lengths of the sequences")?;
    if context.known_i64(6, "the total length")? != total || lengths.iter().any(|&length| length != total - 1)
    {
        return Err(context.error(format_args!("sequences of lengths other than {total} are not supported")));
    }
    let (q, k) = if node.flag("do_rotary", false)? {
        let caches = [context.float(7)?, context.float(8)?];
        let interleaved = node.flag("rotary_interleaved", false)?;
        let turn = |x: Expr<'b>| {
            let places = [x.shape()[0], x.shape()[2]];
            let position =
                context.builder().iota(TensorType::new(DType::I64, places), 1) + past_length as f64;
            rotated(context, x, position, caches, None, interleaved)
        };
        (turn(q)?, turn(k)?)
    } else {
        (q, k)
    };
    let past = |position: usize, x: Expr<'b>| match context.optional(position)? {
        Some(past) => context.push(Op::Concat { axis: 2 }, &[past.cast(x.dtype()), x]),
        None => Ok(x),
    };
    // Caches may be narrower than what is computed with.
    let cache = context.optional(3)?.map_or(q.dtype(), |past| past.dtype());
    if !cache.is_float() {
        return Err(context.error(format_args!("caches of {cache} are not supported")));
    }
    let (k, v) = (past(3, k)?, past(4, v)?);
    let window = match node.int("local_window_size", -1)? {
        window if window > 0 => Some(window as usize),
        _ => None,
    };
    let y = Attended { q, k, v }.result(context, |scores| {
        let biased = match context.optional(10)? {
            Some(bias) => scores + context.broadcast_to(bias, &scores.shape())?,
            None => scores,
        };
        Ok(causal(biased, window))
    })?;
    Ok(vec![y, k.cast(cache), v.cast(cache)])
}

fn rotary_embedding<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    plain(context, &["is_packed_batching"])?;
    if node.float("scale", 1.0)? != 1.0 {
        return Err(node.attribute_error("scale", "is not supported"));
    }
    let (caches, shape) = ([context.float(2)?, context.float(3)?], x.shape());
    let turned = match node.int("rotary_embedding_dim", 0)? {
        0 => None,
        turned => Some(
            usize::try_from(turned)
                .map_err(|_| node.attribute_error("rotary_embedding_dim", format_args!("is {turned}")))?,
        ),
    };
    let split = if shape.rank() == 3 {
        let width = match turned {
            // The width of a head is that of the caches, unless only a part of it is turned.
            None => caches[0].shape().last().copied().unwrap_or(0) * 2,
            Some(_) => shape[2] / heads(context, "num_heads")?,
        };
        split_heads(context, x, Some(shape[2].checked_div(width).unwrap_or(0).max(1)))?
    } else {
        split_heads(context, x, None)?
    };
    let places = [split.shape()[0], split.shape()[2]];
    let position = context.index(1)?;
    let position = if position.shape().elements() == 1 && position.rank() < 2 {
        let first = context.reshape(position, &[])?.broadcast(&Shape::new(&places), &[]);
        context.builder().iota(TensorType::new(DType::I64, places), 1) + first
    } else {
        context.expect_shape(position, &Shape::new(&places), "position_ids")?;
        position
    };
    let y = rotated(context, split, position, caches, turned, node.flag("interleaved", false)?)?;
    let y = if shape.rank() == 3 { y.transpose(&[0, 2, 1, 3]) } else { y };
    Ok(vec![context.reshape(y, &shape)?])
}

/// The first `turned` elements (or all) of each head `[batch, heads, positions, size]` rotated in pairs by the angles
/// of their positions, whose cosines and sines the caches hold.
fn rotated<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    position: Expr<'b>,
    caches: [Expr<'b>; 2],
    turned: Option<usize>,
    interleaved: bool,
) -> Result<Expr<'b>> {
    let (shape, builder) = (x.shape(), context.builder());
    let half = caches[0].shape().last().copied().unwrap_or(0);
    let turned = turned.unwrap_or(2 * half);
    if turned != 2 * half || turned > shape[3] || caches.iter().any(|cache| cache.rank() != 2) {
        return Err(context.error(format_args!(
            "caches of {} do not fit heads of {}",
            caches[0].ty(),
            shape[3]
        )));
    }
    let pairs = Shape::new(&[shape[0], shape[1], shape[2], half]);
    let [cos, sin] =
        caches.map(|cache| cache.cast(x.dtype()).gather(0, position).broadcast(&pairs, &[0, 2, 3]));
    context.expect_shape(caches[1], &caches[0].shape(), "sin_cache")?;
    let (front, rest) = (x.slice_axis(3, 0, turned), x.slice_axis(3, turned, shape[3]));
    let front = if interleaved {
        let paired = front.reshape(&Shape::new(&[shape[0], shape[1], shape[2], half, 2]));
        let part = |which: usize| paired.slice_axis(4, which, which + 1).reshape(&pairs);
        let (a, b) = (part(0), part(1));
        let parts = [(cos * a - sin * b).insert_axis(4), (sin * a + cos * b).insert_axis(4)];
        builder.concat(4, &parts).reshape(&front.shape())
    } else {
        let (a, b) = (front.slice_axis(3, 0, half), front.slice_axis(3, half, turned));
        builder.concat(3, &[cos * a - sin * b, sin * a + cos * b])
    };
    Ok(if turned == shape[3] { front } else { builder.concat(3, &[front, rest]) })
}
