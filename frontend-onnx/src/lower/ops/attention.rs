//! Attention, and the rotation of queries and keys by their positions.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, DotDims, Expr, Op, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Attention", 23, Gradient::Smooth, attention),
    Operator::new("RotaryEmbedding", 23, Gradient::Smooth, rotary_embedding),
];

fn attention<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let (q, k, v) = (context.float(0)?, context.float(1)?, context.float(2)?);
    let flat = q.rank() == 3;
    if k.rank() != q.rank() || v.rank() != q.rank() {
        return Err(context.error(format_args!("Q, K and V are {}, {} and {}", q.ty(), k.ty(), v.ty())));
    }
    let q_heads = if flat { Some(heads(context, "q_num_heads")?) } else { None };
    let kv_heads = if flat { Some(heads(context, "kv_num_heads")?) } else { None };
    let q = split_heads(context, q, q_heads)?;
    let (k, v) = (split_heads(context, k, kv_heads)?, split_heads(context, v, kv_heads)?);
    let past_length = context.optional(4)?.map_or(0, |past| past.shape().get(2).copied().unwrap_or(0));
    let (k, v) = (with_past(context, 4, k)?, with_past(context, 5, v)?);
    let sizes = Sizes::new(context, q, k, v)?;
    let scale = match node.optional_float("scale")? {
        Some(scale) if scale != 0.0 => scale as f64,
        _ => 1.0 / (sizes.head as f64).sqrt(),
    };
    // Query heads that share a key head stand beside one another, so nothing needs to be repeated.
    let grouped = Shape::new(&[sizes.batch, sizes.kv_heads, sizes.shared, sizes.queries, sizes.head]);
    let dims = |lhs_contract: usize, rhs_contract: usize| DotDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![lhs_contract],
        rhs_contract: vec![rhs_contract],
    };
    let scores_shape = context.shape(&[sizes.batch, sizes.q_heads, sizes.queries, sizes.keys])?;
    let half = scale.abs().sqrt();
    let (left, right) = if scale > 0.0 { (q * half, k * half) } else { (q * scale, k) };
    let raw = left.reshape(&grouped).dot(right, dims(4, 3)).reshape(&scores_shape);
    let softcap = node.float("softcap", 0.0)? as f64;
    let capped = if softcap > 0.0 { (raw / softcap).tanh() * softcap } else { raw };
    let masked = masked(context, capped, &sizes, past_length)?;
    let precise = match node.optional_int("softmax_precision")? {
        Some(number) => masked.cast(context.dtype(number)?),
        None => masked,
    };
    let weights = context.push(Op::Softmax { axis: 3 }, &[precise])?.cast(v.dtype());
    let grouped = Shape::new(&[sizes.batch, sizes.kv_heads, sizes.shared, sizes.queries, sizes.keys]);
    let y = weights.reshape(&grouped).dot(v, dims(4, 2));
    let y = context.reshape(y, &[sizes.batch, sizes.q_heads, sizes.queries, sizes.value])?.cast(q.dtype());
    let y = if flat {
        let merged = [sizes.batch, sizes.queries, sizes.q_heads * sizes.value];
        context.reshape(y.transpose(&[0, 2, 1, 3]), &merged)?
    } else {
        y
    };
    let shown = match node.int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        mode => return Err(node.attribute_error("qk_matmul_output_mode", format_args!("is {mode}"))),
    };
    Ok(vec![y, k, v, shown.cast(q.dtype())])
}

/// The lengths that queries, keys and values `[batch, heads, positions, size]` agree on.
pub(in crate::lower) struct Sizes {
    pub batch: usize,
    pub q_heads: usize,
    pub kv_heads: usize,
    /// How many query heads share a key head.
    pub shared: usize,
    pub queries: usize,
    pub keys: usize,
    pub head: usize,
    pub value: usize,
}

impl Sizes {
    pub fn new<'b>(context: &Context<'_, 'b>, q: Expr<'b>, k: Expr<'b>, v: Expr<'b>) -> Result<Sizes> {
        context.same_dtype(q, k)?;
        let (qs, ks, vs) = (q.shape(), k.shape(), v.shape());
        let fits = qs[0] == ks[0]
            && ks[..3] == vs[..3]
            && qs[3] == ks[3]
            && ks[1] > 0
            && qs[1].is_multiple_of(ks[1]);
        if !fits {
            return Err(
                context.error(format_args!("queries of {qs}, keys of {ks} and values of {vs} do not fit"))
            );
        }
        Ok(Sizes {
            batch: qs[0],
            q_heads: qs[1],
            kv_heads: ks[1],
            shared: qs[1] / ks[1],
            queries: qs[2],
            keys: ks[2],
            head: qs[3],
            value: vs[3],
        })
    }
}

pub(super) fn heads(context: &Context<'_, '_>, name: &str) -> Result<usize> {
    let heads = context.node.required(name, context.node.optional_int(name)?)?;
    let heads = usize::try_from(heads).ok().filter(|&heads| heads > 0);
    heads.ok_or_else(|| context.node.attribute_error(name, "is not positive"))
}

/// `[batch, heads, positions, size]` from that, or from `[batch, positions, heads * size]` with a number of heads.
pub(super) fn split_heads<'b>(
    context: &Context<'_, 'b>,
    x: Expr<'b>,
    heads: Option<usize>,
) -> Result<Expr<'b>> {
    match (heads, &x.shape()[..]) {
        (None, [_, _, _, _]) => Ok(x),
        (Some(heads), &[batch, positions, width]) if width.is_multiple_of(heads) => {
            let split = Shape::new(&[batch, positions, heads, width / heads]);
            Ok(x.reshape(&split).transpose(&[0, 2, 1, 3]))
        }
        _ => Err(context.error(format_args!("{} cannot be split into heads", x.ty()))),
    }
}

/// Keys or values after those of earlier calls.
fn with_past<'b>(context: &Context<'_, 'b>, position: usize, x: Expr<'b>) -> Result<Expr<'b>> {
    match context.optional(position)? {
        Some(past) => context.push(Op::Concat { axis: 2 }, &[past, x]),
        None => Ok(x),
    }
}

/// Scores with -inf where the mask, causality or the lengths of the keys forbid.
fn masked<'b>(
    context: &Context<'_, 'b>,
    scores: Expr<'b>,
    sizes: &Sizes,
    past_length: usize,
) -> Result<Expr<'b>> {
    let shape = scores.shape();
    let never = scores.splat(f64::NEG_INFINITY);
    let mut result = scores;
    if let Some(mask) = context.optional(3)? {
        // A mask of numbers has a type of its own.
        let mask = if mask.dtype() == DType::Bool { mask } else { mask.cast(scores.dtype()) };
        let mask = padded(context, mask, sizes.keys)?;
        if mask.dtype() == DType::Bool {
            result = context.broadcast_to(mask, &shape)?.select(result, never);
        } else {
            result = result + context.broadcast_to(mask, &shape)?;
        }
    }
    let counts =
        |shape: &[usize], axis: usize| context.builder().iota(TensorType::new(DType::I64, shape), axis);
    if context.node.flag("is_causal", false)? {
        let plane = [sizes.queries, sizes.keys];
        let allowed = counts(&plane, 1).le(counts(&plane, 0) + past_length as f64);
        result = allowed.broadcast(&shape, &[2, 3]).select(result, never);
    }
    if let Some(lengths) = context.optional_index(6)? {
        context.expect_shape(lengths, &Shape::new(&[sizes.batch]), "nonpad_kv_seqlen")?;
        let plane = Shape::new(&[sizes.batch, sizes.keys]);
        let allowed = counts(&plane, 1).lt(lengths.broadcast(&plane, &[0]));
        result = allowed.broadcast(&shape, &[0, 3]).select(result, never);
    }
    Ok(result)
}

/// A mask as long as the keys: what it leaves out is forbidden.
fn padded<'b>(context: &Context<'_, 'b>, mask: Expr<'b>, keys: usize) -> Result<Expr<'b>> {
    let rank = mask.rank();
    let length = mask.shape().last().copied().unwrap_or(keys);
    if rank == 0 || length >= keys || !(mask.dtype().is_float() || mask.dtype() == DType::Bool) {
        return Ok(mask);
    }
    let forbidden = if mask.dtype() == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    let mut high = vec![0; rank];
    high[rank - 1] = (keys - length) as i64;
    let op = Op::Pad { low: vec![0; rank], high, interior: vec![0; rank] };
    context.push(op, &[mask, context.scalar(mask.dtype(), forbidden)])
}

fn rotary_embedding<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (x, node) = (context.float(0)?, context.node);
    let shape = x.shape();
    // The positions stand before the heads in the flat form, after them in the other.
    let (split, position_axis) = match shape[..] {
        [batch, positions, width] => {
            let heads = heads(context, "num_heads")?;
            if !width.is_multiple_of(heads) {
                return Err(context.error(format_args!("{shape} cannot be split into {heads} heads")));
            }
            (Shape::new(&[batch, positions, heads, width / heads]), 1)
        }
        [_, _, _, _] => (shape.clone(), 2),
        _ => return Err(context.error(format_args!("the input must have three or four axes, is {}", x.ty()))),
    };
    let size = split[3];
    let turned = match node.int("rotary_embedding_dim", 0)? {
        0 => size,
        turned => usize::try_from(turned).ok().filter(|&turned| turned <= size).ok_or_else(|| {
            node.attribute_error("rotary_embedding_dim", format_args!("is {turned} in heads of {size}"))
        })?,
    };
    if !turned.is_multiple_of(2) {
        return Err(context.error(format_args!("cannot rotate {turned} elements in pairs")));
    }
    let half = turned / 2;
    let places = Shape::new(&[split[0], split[position_axis], half]);
    let cache = |position: usize, what: &str| -> Result<Expr<'b>> {
        let cache = context.ranked(position, 2)?;
        context.same_dtype(x, cache)?;
        let cache = match context.optional_index(3)? {
            Some(index) => cache.gather(0, index),
            None => cache,
        };
        context.expect_shape(cache, &places, what)?;
        let mut pairs = split.to_vec();
        pairs[3] = half;
        Ok(cache.broadcast(&Shape::new(&pairs), &[0, position_axis, 3]))
    };
    let (cos, sin) = (cache(1, "cos_cache")?, cache(2, "sin_cache")?);
    let x = x.reshape(&split);
    let (rotated, rest) = (x.slice_axis(3, 0, turned), x.slice_axis(3, turned, size));
    let builder = context.builder();
    let rotated = if node.flag("interleaved", false)? {
        let pair: Vec<usize> = [&split[..3], &[half, 2]].concat();
        let paired = rotated.reshape(&Shape::new(&pair));
        let part = |which: usize| paired.slice_axis(4, which, which + 1).reshape(&cos.shape());
        let (a, b) = (part(0), part(1));
        let parts = [(cos * a - sin * b).insert_axis(4), (sin * a + cos * b).insert_axis(4)];
        builder.concat(4, &parts).reshape(&rotated.shape())
    } else {
        let (a, b) = (rotated.slice_axis(3, 0, half), rotated.slice_axis(3, half, turned));
        builder.concat(3, &[cos * a - sin * b, sin * a + cos * b])
    };
    let whole = if turned == size { rotated } else { builder.concat(3, &[rotated, rest]) };
    Ok(vec![whole.reshape(&shape)])
}
