//! LSTM, GRU and RNN: one loop for each direction, with the products that do not depend on the state outside of it.

use super::microsoft::DOMAIN;
use super::recurrent_activation::Activation;
use super::recurrent_cell::{Cell, body, times_rows, times_rows_in_bytes};
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Expr, Op, ScanOp, Shape};
use std::sync::Arc;

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("DynamicQuantizeLSTM", 1, Gradient::Smooth, dynamic_quantize_lstm).of(DOMAIN),
    Operator::new("LSTM", 1, Gradient::Smooth, lstm),
    Operator::new("GRU", 1, Gradient::Smooth, gru),
    Operator::new("RNN", 1, Gradient::Smooth, rnn),
];

fn lstm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let coupled = context.node.flag("input_forget", false)?;
    recurrent(context, Cell::Lstm { coupled }, &["Sigmoid", "Tanh", "Tanh"], plain_weights(context)?)
}

/// An LSTM whose input and state are held in 8 bits where they meet the weights, each as a whole.
fn dynamic_quantize_lstm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let coupled = context.node.flag("input_forget", false)?;
    // One scale and zero point for each direction, or for each column of it.
    let weights = |at: usize, scale: usize| -> Result<(Expr<'b>, Expr<'b>)> {
        let zero = context.integer(scale + 1)?;
        let (w, scale) = (context.integer(at)?, context.float(scale)?);
        let shape = w.shape();
        if shape.rank() != 3 {
            return Err(context.error(format_args!("input {at} must have three axes, is {}", w.ty())));
        }
        let columns = Shape::new(&[shape[0], shape[2]]);
        let for_columns = |e: Expr<'b>| match e.rank() {
            1 if e.shape()[0] == shape[0] => Ok(e.broadcast(&columns, &[0])),
            2 if e.shape() == columns => Ok(e),
            _ => Err(context.error(format_args!("{} does not fit weights of {shape}", e.ty()))),
        };
        let zero = for_columns(zero.cast(scale.dtype()))?.broadcast(&shape, &[0, 2]);
        let centered = (w.cast(scale.dtype()) - zero).transpose(&[0, 2, 1]);
        Ok((centered, for_columns(scale)?))
    };
    let ((w, w_scale), (r, r_scale)) = (weights(1, 8)?, weights(2, 10)?);
    let weights = Weights { w, r, scales: Some((w_scale, r_scale)) };
    recurrent(context, Cell::Lstm { coupled }, &["Sigmoid", "Tanh", "Tanh"], weights)
}

fn gru<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let reset_after = context.node.flag("linear_before_reset", false)?;
    recurrent(context, Cell::Gru { reset_after }, &["Sigmoid", "Tanh"], plain_weights(context)?)
}

fn rnn<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    recurrent(context, Cell::Rnn, &["Tanh"], plain_weights(context)?)
}

/// The matrices for the input and for the state.
struct Weights<'b> {
    w: Expr<'b>,
    r: Expr<'b>,
    /// Where they are whole numbers, with which what is held in 8 bits is multiplied: the scales of their rows.
    scales: Option<(Expr<'b>, Expr<'b>)>,
}

fn plain_weights<'b>(context: &Context<'_, 'b>) -> Result<Weights<'b>> {
    Ok(Weights { w: context.float(1)?, r: context.float(2)?, scales: None })
}

/// The operands, batch-major ones turned to time-major.
struct Operands<'b> {
    /// `[steps, batch, features]`
    x: Expr<'b>,
    /// `[directions, gates * hidden, features]`
    w: Expr<'b>,
    /// `[directions, gates * hidden, hidden]`
    r: Expr<'b>,
    /// `[directions, 2 * gates * hidden]`
    bias: Option<Expr<'b>>,
    /// `[steps, batch]`, bool: which steps belong to the sequence.
    within: Option<Expr<'b>>,
    /// `[directions, batch, hidden]`
    states: Vec<Option<Expr<'b>>>,
    /// `[directions, 3 * hidden]`
    peepholes: Option<Expr<'b>>,
    /// `[directions, gates * hidden]` of both matrices, where these are whole numbers: what meets them is held in 8 bits.
    scales: Option<(Expr<'b>, Expr<'b>)>,
}

/// The lengths of all axes.
struct Sizes {
    steps: usize,
    batch: usize,
    hidden: usize,
}

fn recurrent<'b>(
    context: &Context<'_, 'b>,
    cell: Cell,
    defaults: &[&str],
    weights: Weights<'b>,
) -> Outputs<'b> {
    let node = context.node;
    let batch_major = node.flag("layout", false)?;
    let reversed: &[bool] = match node.string("direction", "forward")? {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => return Err(node.attribute_error("direction", "is not known")),
    };
    let activations = activations(context, defaults, reversed.len())?;
    let clip = node.optional_float("clip")?.map(f64::from);
    let (operands, sizes) = operands(context, cell, batch_major, reversed.len(), weights)?;
    let mut sequences = Vec::new();
    let mut finals: Vec<Vec<Expr<'b>>> = vec![Vec::new(); cell.states()];
    for (direction, &reverse) in reversed.iter().enumerate() {
        let functions = &activations[direction * defaults.len()..][..defaults.len()];
        let result = one_direction(context, cell, functions, clip, &operands, &sizes, direction, reverse)?;
        for (state, parts) in finals.iter_mut().enumerate() {
            parts.push(result.project(state).insert_axis(0));
        }
        sequences.push(result.project(cell.states()).insert_axis(1));
    }
    let builder = context.builder();
    let sequence = builder.concat(1, &sequences);
    let mut outputs = vec![if batch_major { sequence.transpose(&[2, 0, 1, 3]) } else { sequence }];
    for parts in finals {
        let state = builder.concat(0, &parts);
        outputs.push(if batch_major { state.transpose(&[1, 0, 2]) } else { state });
    }
    Ok(outputs)
}

fn operands<'b>(
    context: &Context<'_, 'b>,
    cell: Cell,
    batch_major: bool,
    directions: usize,
    weights: Weights<'b>,
) -> Result<(Operands<'b>, Sizes)> {
    let node = context.node;
    let x = context.float(0)?;
    if x.rank() != 3 {
        return Err(node.error(format_args!("X must have three axes, is {}", x.ty())));
    }
    let x = if batch_major { x.transpose(&[1, 0, 2]) } else { x };
    let (steps, batch, features) = (x.shape()[0], x.shape()[1], x.shape()[2]);
    let r = weights.r;
    let hidden = match r.shape()[..] {
        [_, _, hidden] => hidden,
        _ => return Err(node.error(format_args!("R must have three axes, is {}", r.ty()))),
    };
    if node.optional_int("hidden_size")?.is_some_and(|size| size != hidden as i64) {
        return Err(node.attribute_error("hidden_size", format_args!("is not that of R, {hidden}")));
    }
    let sizes = Sizes { steps, batch, hidden };
    let typed = |e: Expr<'b>| context.same_dtype(x, e).map(|()| e);
    let shaped = |e: Expr<'b>, shape: &[usize], what: &str| {
        context.expect_shape(e, &Shape::new(shape), what).and_then(|()| typed(e))
    };
    let rows = hidden.saturating_mul(cell.gates());
    let w = shaped(weights.w, &[directions, rows, features], "W")?;
    let r = shaped(r, &[directions, rows, hidden], "R")?;
    let given = |position: usize, shape: &[usize], what: &str| -> Result<Option<Expr<'b>>> {
        match context.optional(position)? {
            None => Ok(None),
            Some(_) => typed(context.shaped(position, shape, what)?).map(Some),
        }
    };
    let bias = given(3, &[directions, rows.saturating_mul(2)], "B")?;
    let state_shape = if batch_major { [batch, directions, hidden] } else { [directions, batch, hidden] };
    let state = |position: usize, what: &str| -> Result<Option<Expr<'b>>> {
        let state = given(position, &state_shape, what)?;
        Ok(if batch_major { state.map(|state| state.transpose(&[1, 0, 2])) } else { state })
    };
    let mut states = vec![state(5, "initial_h")?];
    let mut peepholes = None;
    if matches!(cell, Cell::Lstm { .. }) {
        states.push(state(6, "initial_c")?);
        peepholes = given(7, &[directions, hidden.saturating_mul(3)], "P")?;
    }
    let within = within(context, &sizes)?;
    let scales = weights.scales;
    Ok((Operands { x, w, r, bias, within, states, peepholes, scales }, sizes))
}

/// Which steps belong to the sequence of each batch element; `None` where all do.
fn within<'b>(context: &Context<'_, 'b>, sizes: &Sizes) -> Result<Option<Expr<'b>>> {
    let Some(lengths) = context.optional_index(4)? else { return Ok(None) };
    context.expect_shape(lengths, &Shape::new(&[sizes.batch]), "sequence_lens")?;
    let known = context.known_value(lengths).and_then(|literal| literal.to_i64());
    if known.is_some_and(|known| known.iter().all(|&length| length == sizes.steps as i64)) {
        return Ok(None);
    }
    let shape = Shape::new(&[sizes.steps, sizes.batch]);
    let step = context.builder().iota(gradc_ir::TensorType { dtype: DType::I64, shape: shape.clone() }, 0);
    Ok(Some(step.lt(lengths.broadcast(&shape, &[1]))))
}

/// The functions of all directions, in order. Parameters are handed out to those functions that have any.
fn activations(context: &Context<'_, '_>, defaults: &[&str], directions: usize) -> Result<Vec<Activation>> {
    let node = context.node;
    let (alphas, betas) = (node.floats("activation_alpha")?, node.floats("activation_beta")?);
    let (mut alphas, mut betas) = (alphas.unwrap_or_default().iter(), betas.unwrap_or_default().iter());
    let mut make = |name: &str| {
        Activation::new(name, &mut alphas, &mut betas)
            .ok_or_else(|| node.attribute_error("activations", "names a function that is not known"))
    };
    let wanted = defaults.len() * directions;
    match node.strings("activations")? {
        None | Some([]) => (0..wanted).map(|position| make(defaults[position % defaults.len()])).collect(),
        Some(names) if names.len() == wanted => {
            names.iter().map(|name| make(std::str::from_utf8(name).unwrap_or_default())).collect()
        }
        Some(names) => {
            Err(node
                .attribute_error("activations", format_args!("has {} entries, not {wanted}", names.len())))
        }
    }
}

/// The loop of one direction: a tuple of the final states and the outputs of all steps.
#[allow(clippy::too_many_arguments, reason = "called once")]
fn one_direction<'b>(
    context: &Context<'_, 'b>,
    cell: Cell,
    activations: &[Activation],
    clip: Option<f64>,
    operands: &Operands<'b>,
    sizes: &Sizes,
    direction: usize,
    reverse: bool,
) -> Result<Expr<'b>> {
    let (builder, hidden) = (context.builder(), sizes.hidden);
    let rows = hidden * cell.gates();
    let part = |e: Expr<'b>| {
        let shape = e.shape();
        e.slice_axis(0, direction, direction + 1).reshape(&Shape::new(&shape[1..]))
    };
    let w = part(operands.w);
    let mut projected = match operands.scales {
        Some((scale, _)) => times_rows_in_bytes(operands.x, w, part(scale), context.is_straight()),
        None => times_rows(operands.x, w),
    };
    let mut inner_bias = None;
    if let Some(bias) = operands.bias.map(part) {
        let (outer, inner) = (bias.slice_axis(0, 0, rows), bias.slice_axis(0, rows, 2 * rows));
        let hoisted = match cell {
            // The recurrent bias of the last gate stands inside of the product with the reset gate.
            Cell::Gru { reset_after: true } => {
                inner_bias = Some(inner.slice_axis(0, 2 * hidden, rows));
                let zero = builder.constant(gradc_ir::Literal::scalar_of(bias.dtype(), 0.0));
                outer + inner.slice_axis(0, 0, 2 * hidden).pad(zero, &[0], &[hidden as i64], &[0])
            }
            Cell::Gru { reset_after: false } | Cell::Lstm { .. } | Cell::Rnn => outer + inner,
        };
        projected = projected + hoisted.broadcast(&projected.shape(), &[2]);
    }
    let mut constants = vec![part(operands.r)];
    constants.extend(inner_bias);
    constants.extend(operands.peepholes.map(part));
    constants.extend(operands.scales.map(|(_, scale)| part(scale)));
    let zeros = context.splat(operands.x.dtype(), &[sizes.batch, hidden], 0.0)?;
    let states = operands.states.iter().map(|state| state.map_or(zeros, part));
    let mut all: Vec<Expr<'b>> = constants.iter().copied().chain(states).collect();
    let carries = cell.states();
    all.push(projected);
    all.extend(operands.within);
    let scan = ScanOp {
        body: Arc::new(body(
            cell,
            activations,
            clip,
            &all,
            constants.len(),
            inner_bias.is_some(),
            operands.scales.map(|_| context.is_straight()),
        )),
        trip: sizes.steps,
        constants: constants.len(),
        carries,
        reverse,
    };
    context.push(Op::Scan(scan), &all)
}
