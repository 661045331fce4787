//! Linear attention: a state that every position updates, as a loop.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{Builder, DType, DotDims, Expr, Graph, Op, ScanOp, Shape, TensorType, Value};
use std::sync::Arc;

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("LinearAttention", 27, Gradient::Smooth, linear_attention)];

struct Sizes {
    batch: usize,
    heads: usize,
    /// How many query heads share a state.
    shared: usize,
    key: usize,
    value: usize,
}

fn linear_attention<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let (gated, delta) = match node.string("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => return Err(node.attribute_error("update_rule", "is not known")),
    };
    let count = |name: &str| -> Result<usize> {
        let heads = node.required(name, node.optional_int(name)?)?;
        let heads = usize::try_from(heads).ok().filter(|&heads| heads > 0);
        heads.ok_or_else(|| node.attribute_error(name, "is not positive"))
    };
    let (q_heads, heads) = (count("q_num_heads")?, count("kv_num_heads")?);
    let (q, k, v) = (context.float(0)?, context.float(1)?, context.float(2)?);
    let dtype = q.dtype();
    let wide = super::normalization::wider(dtype, DType::F32);
    let (batch, steps) = match q.shape()[..] {
        [batch, steps, _] => (batch, steps),
        _ => return Err(context.error(format_args!("the query must have three axes, is {}", q.ty()))),
    };
    // `[steps, batch, heads, size]`
    let unpack = |e: Expr<'b>, heads: usize, what: &str| -> Result<Expr<'b>> {
        match e.shape()[..] {
            [b, s, width] if b == batch && s == steps && width.is_multiple_of(heads) => {
                let split = Shape::new(&[batch, steps, heads, width / heads]);
                Ok(e.cast(wide).reshape(&split).transpose(&[1, 0, 2, 3]))
            }
            _ => Err(context.error(format_args!("`{what}` of {} does not fit {heads} heads", e.ty()))),
        }
    };
    let (q, k, v) = (unpack(q, q_heads, "query")?, unpack(k, heads, "key")?, unpack(v, heads, "value")?);
    let sizes = Sizes { batch, heads, shared: q_heads / heads, key: k.shape()[3], value: v.shape()[3] };
    if !q_heads.is_multiple_of(heads) || q.shape()[3] != sizes.key {
        return Err(context.error("the heads of query and key do not fit"));
    }
    let scale = match node.float("scale", 0.0)? {
        0.0 => 1.0 / (sizes.key as f64).sqrt(),
        scale => scale as f64,
    };
    let state_shape = [batch, heads, sizes.key, sizes.value];
    let (state, state_dtype) = match context.optional(3)? {
        Some(_) => {
            let state = context.shaped(3, &state_shape, "past_state")?;
            (state.cast(wide), state.dtype())
        }
        None => (context.splat(wide, &state_shape, 0.0)?, dtype),
    };
    let grouped = [steps, batch, heads, sizes.shared, sizes.key];
    let mut operands = vec![state, context.reshape(q * scale, &grouped)?, k, v];
    if gated {
        let decay = unpack(context.float(4)?, heads, "decay")?.exp();
        let shape = decay.shape();
        let per_key = if shape[3] == 1 && sizes.key != 1 {
            let line = decay.reshape(&Shape::new(&shape[..3]));
            line.broadcast(&k.shape(), &[0, 1, 2])
        } else {
            decay
        };
        context.expect_shape(per_key, &k.shape(), "decay")?;
        operands.push(per_key);
    }
    if delta {
        let beta = context.float(5)?;
        let beta_heads = if beta.shape().last() == Some(&1) { 1 } else { heads };
        let beta = unpack(beta, beta_heads, "beta")?;
        if beta.shape()[3] != 1 {
            return Err(context.error(format_args!("`beta` has {} numbers for each head", beta.shape()[3])));
        }
        let own = if beta_heads == 1 { [steps, batch].to_vec() } else { vec![steps, batch, heads] };
        let line = beta.reshape(&Shape::new(&own));
        let dims: Vec<usize> = (0..own.len()).collect();
        operands.push(line.broadcast(&context.shape(&[steps, batch, heads])?, &dims));
    }
    let scan = ScanOp {
        body: Arc::new(body(wide, &sizes, gated, delta)),
        trip: steps,
        constants: 0,
        carries: 1,
        reverse: false,
    };
    let result = context.push(Op::Scan(scan), &operands)?;
    // `[steps, batch, heads, shared, value]`
    let output = result.project(1).transpose(&[1, 0, 2, 3, 4]);
    let output = context.reshape(output, &[batch, steps, q_heads * sizes.value])?;
    Ok(vec![output.cast(dtype), result.project(0).cast(state_dtype)])
}

fn body(dtype: DType, sizes: &Sizes, gated: bool, delta: bool) -> Graph {
    let body = Builder::new("attend");
    let outputs = step(&body, dtype, sizes, gated, delta);
    body.finish(&outputs)
}

fn step(body: &Builder, dtype: DType, sizes: &Sizes, gated: bool, delta: bool) -> [Value; 2] {
    let Sizes { batch, heads, shared, key, value } = *sizes;
    let input = |name: &str, lengths: &[usize]| body.expr(body.input(name, TensorType::new(dtype, lengths)));
    let mut state = input("state", &[batch, heads, key, value]);
    let shape = state.shape();
    let query = input("query", &[batch, heads, shared, key]);
    let k = input("key", &[batch, heads, key]);
    let mut v = input("value", &[batch, heads, value]);
    let dims = |axis: usize| DotDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![axis],
        rhs_contract: vec![2],
    };
    if gated {
        state = state * input("decay", &[batch, heads, key]).broadcast(&shape, &[0, 1, 2]);
    }
    if delta {
        let beta = input("beta", &[batch, heads]).broadcast(&v.shape(), &[0, 1]);
        v = beta * (v - k.dot(state, dims(2)));
    }
    state = state + k.broadcast(&shape, &[0, 1, 2]) * v.broadcast(&shape, &[0, 1, 3]);
    let output = query.dot(state, dims(3));
    [state.value(), output.value()]
}
