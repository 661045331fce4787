//! Counts of n-grams in sequences of integers.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, DType, Expr, Literal, ReduceOp, ScatterOp, Shape, TensorType};

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("TfIdfVectorizer", 9, Gradient::Integer, tf_idf_vectorizer)];

/// A comparison of more pairs than this is refused.
const MOST_PAIRS: usize = 1 << 28;

/// The n-grams of one length.
struct Grams {
    length: usize,
    /// One after another.
    tokens: Vec<i64>,
    /// Where each is counted.
    places: Vec<i64>,
}

fn tf_idf_vectorizer<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    if node.strings("pool_strings")?.is_some_and(|pool| !pool.is_empty()) {
        return Err(context.error("n-grams of strings are not supported"));
    }
    let x = context.index(0)?;
    let (rows, length) = match x.shape()[..] {
        [length] => (1, length),
        [rows, length] => (rows, length),
        _ => return Err(context.error(format_args!("the input must have one or two axes, is {}", x.ty()))),
    };
    let required = |name: &str| node.required(name, node.optional_int(name)?);
    let (least, most, skips) =
        (required("min_gram_length")?, required("max_gram_length")?, required("max_skip_count")?);
    if least < 1 || most < least || skips < 0 {
        return Err(context.error("the lengths of the n-grams, or the skips, are out of range"));
    }
    let (pool, width) = pool(context)?;
    let weights = weights(context, width)?;
    let mode = node.required("mode", node.optional_string("mode")?)?;
    let sequence = x.reshape(&Shape::new(&[rows, length]));
    let float = context.float_type(DType::F32);
    let mut counts = context.splat(float, &[width, rows], 0.0)?;
    for grams in &pool {
        if !(least..=most).contains(&(grams.length as i64)) || grams.places.is_empty() {
            continue;
        }
        // What has one element has no gaps.
        let skips = if grams.length == 1 { 0 } else { skips };
        for step in 1..=skips.saturating_add(1) {
            let reach = usize::try_from(step).ok().and_then(|step| step.checked_mul(grams.length - 1));
            let Some(reach) = reach.filter(|&reach| reach < length) else { break };
            let found = found(context, sequence, grams, step as usize, length - reach)?;
            let places = context.constant(Literal::new([grams.places.len()], &grams.places));
            counts = counts.scatter(0, ScatterOp::Add, places, found.cast(float));
        }
    }
    let counts = counts.transpose(&[1, 0]);
    let factors = |counts: Expr<'b>| match &weights {
        Some(weights) => {
            let line = context.constant(Literal::new([width], weights)).cast(float);
            counts * line.broadcast(&counts.shape(), &[1])
        }
        None => counts,
    };
    let result = match mode {
        "TF" => counts,
        "IDF" => factors(counts.min(counts.splat(1.0))),
        "TFIDF" => factors(counts),
        _ => return Err(node.attribute_error("mode", "is not known")),
    };
    Ok(vec![if x.rank() == 1 { context.reshape(result, &[width])? } else { result }])
}

/// The n-grams by length, and how many places there are.
fn pool(context: &Context<'_, '_>) -> Result<(Vec<Grams>, usize)> {
    let node = context.node;
    let tokens = node.required("pool_int64s", node.ints("pool_int64s")?)?;
    let starts = node.required("ngram_counts", node.ints("ngram_counts")?)?;
    let places = node.required("ngram_indexes", node.ints("ngram_indexes")?)?;
    let width = places.iter().copied().max().map_or(0, |greatest| greatest.saturating_add(1));
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    if places.iter().any(|&place| place < 0) {
        return Err(node.attribute_error("ngram_indexes", "holds a negative number"));
    }
    context.table_size(&[width])?;
    let (mut pool, mut used) = (Vec::new(), 0);
    for (at, &start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(tokens.len() as i64);
        let (start, end) = (usize::try_from(start).ok(), usize::try_from(end).ok());
        let own = start.zip(end).and_then(|(start, end)| tokens.get(start..end));
        let own = own.ok_or_else(|| node.attribute_error("ngram_counts", "does not fit the pool"))?;
        let (length, count) = (at + 1, own.len() / (at + 1));
        let own_places = places.get(used..used + count).filter(|_| own.len() == count * length);
        let own_places =
            own_places.ok_or_else(|| node.attribute_error("ngram_indexes", "does not fit the pool"))?;
        pool.push(Grams { length, tokens: own.to_vec(), places: own_places.to_vec() });
        used += count;
    }
    if used != places.len() {
        return Err(node.attribute_error("ngram_indexes", "does not fit the pool"));
    }
    Ok((pool, width))
}

/// The weight of each place. They are listed by n-gram; runtimes read them by place, so both must be the same.
fn weights(context: &Context<'_, '_>, width: usize) -> Result<Option<Vec<f32>>> {
    let node = context.node;
    let weights = match node.floats("weights")? {
        None | Some([]) => return Ok(None),
        Some(weights) => weights,
    };
    let places = node.ints("ngram_indexes")?.unwrap_or_default();
    let same = |(gram, &place): (usize, &i64)| weights.get(place as usize) == weights.get(gram);
    if weights.len() != width || weights.len() != places.len() || !places.iter().enumerate().all(same) {
        return Err(node.attribute_error("weights", "can be read by n-gram or by place, which differ here"));
    }
    Ok(Some(weights.to_vec()))
}

/// How often each n-gram stands in each row, `[grams, rows]`, with its tokens `step` apart.
fn found<'b>(
    context: &Context<'_, 'b>,
    sequence: Expr<'b>,
    grams: &Grams,
    step: usize,
    starts: usize,
) -> Result<Expr<'b>> {
    let (rows, count) = (sequence.shape()[0], grams.places.len());
    let shape = context.shape(&[count, rows, starts])?;
    if shape.elements() > MOST_PAIRS {
        return Err(context.error(format_args!("comparing {shape} pairs is too much")));
    }
    let mut all: Option<Expr<'b>> = None;
    for token in 0..grams.length {
        let here = sequence.slice_axis(1, token * step, token * step + starts);
        let wanted: Vec<i64> = grams.tokens.iter().skip(token).step_by(grams.length).copied().collect();
        let wanted = context.constant(Literal::new([count], &wanted)).broadcast(&shape, &[0]);
        let equal = here.broadcast(&shape, &[1, 2]).eq(wanted);
        all = Some(all.map_or(equal, |all| all.binary(BinaryOp::And, equal)));
    }
    let all = all.unwrap_or_else(|| context.builder().splat(&TensorType::new(DType::Bool, shape), 0.0));
    Ok(all.cast(DType::I64).reduce(ReduceOp::Sum, &[2]))
}
