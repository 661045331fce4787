//! One step of an LSTM, GRU or RNN, as the body of a loop.

use super::activation::clamp;
use super::quantize::InBytes;
use super::recurrent_activation::Activation;
use gradc_ir::{Builder, DotDims, Expr, Graph, Shape, TensorType};

/// Which recurrence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    Lstm {
        /// The forget gate is one minus the input gate.
        coupled: bool,
    },
    Gru {
        /// The reset gate acts on the product with the state, not on the state.
        reset_after: bool,
    },
    Rnn,
}

impl Cell {
    /// How many matrices stand above one another in W and R.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm { .. } => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn => 1,
        }
    }

    /// How many tensors are handed from step to step.
    pub fn states(self) -> usize {
        match self {
            Cell::Lstm { .. } => 2,
            Cell::Gru { .. } | Cell::Rnn => 1,
        }
    }
}

/// The body of the loop with these operands: `constants` of them first (the recurrent weights, then the inner bias of
/// a GRU, then the peepholes of an LSTM, then the scales of weights that are whole numbers), the states, the projected
/// input, and the mask where there is one. `in_bytes` says of such weights whether gradients pass straight.
pub(super) fn body(
    cell: Cell,
    activations: &[Activation],
    clip: Option<f64>,
    operands: &[Expr<'_>],
    constants: usize,
    inner_bias: bool,
    in_bytes: Option<bool>,
) -> Graph {
    let builder = Builder::new("step");
    let sequences = constants + cell.states();
    let inputs: Vec<Expr<'_>> = operands
        .iter()
        .enumerate()
        .map(|(position, operand)| {
            let ty = operand.ty();
            let shape = if position < sequences { ty.shape } else { Shape::new(&ty.shape[1..]) };
            let name = match position {
                0 => "r".to_owned(),
                _ if position < constants => format!("constant{position}"),
                _ if position < sequences => format!("state{}", position - constants),
                _ if position == sequences => "x".to_owned(),
                _ => "within".to_owned(),
            };
            builder.expr(builder.input(&name, TensorType { dtype: ty.dtype, shape }))
        })
        .collect();
    let scale = in_bytes.map(|straight| (inputs[constants - 1], straight));
    let plain = constants - usize::from(scale.is_some());
    let step = Step {
        r: inputs[0],
        scale,
        inner_bias: inner_bias.then(|| inputs[1]),
        peepholes: (plain > 1 && !inner_bias).then(|| inputs[1]),
        x: inputs[sequences],
        states: &inputs[constants..sequences],
        activations,
        clip,
    };
    let next = match cell {
        Cell::Lstm { coupled } => step.lstm(coupled),
        Cell::Gru { reset_after } => step.gru(reset_after),
        Cell::Rnn => vec![step.activate(0, step.x + step.recur(step.states[0], step.r))],
    };
    // Beyond the end of a sequence its state stays, and its output is zero.
    let (next, output) = match inputs.get(sequences + 1) {
        None => (next.clone(), next[0]),
        Some(within) => {
            let within = within.broadcast(&next[0].shape(), &[0]);
            let kept = next.iter().zip(step.states).map(|(new, old)| within.select(*new, *old));
            (kept.collect(), within.select(next[0], next[0].splat(0.0)))
        }
    };
    let outputs: Vec<_> = next.iter().chain([&output]).map(|e| e.value()).collect();
    builder.finish(&outputs)
}

/// The product of a tensor, along its last axis, with the rows of a matrix.
pub(super) fn times_rows<'b>(x: Expr<'b>, rows: Expr<'b>) -> Expr<'b> {
    x.dot(rows, DotDims { lhs_contract: vec![x.rank() - 1], rhs_contract: vec![1], ..DotDims::default() })
}

/// As [`times_rows`], of a tensor that is held in 8 bits, with rows of whole numbers, each of which has a scale.
pub(super) fn times_rows_in_bytes<'b>(
    x: Expr<'b>,
    rows: Expr<'b>,
    scale: Expr<'b>,
    straight: bool,
) -> Expr<'b> {
    let x = InBytes::new(x, straight);
    let product = times_rows(x.whole, rows);
    let shape = product.shape();
    let meant = times_rows(x.meant, rows * scale.broadcast(&rows.shape(), &[0]));
    x.scaled(product, scale.broadcast(&shape, &[shape.rank() - 1])).with_surrogate(meant)
}

struct Step<'s, 'b> {
    r: Expr<'b>,
    /// Where the weights are whole numbers, with which the state is multiplied in 8 bits: the scales of their rows, and
    /// whether its gradient passes straight.
    scale: Option<(Expr<'b>, bool)>,
    inner_bias: Option<Expr<'b>>,
    peepholes: Option<Expr<'b>>,
    x: Expr<'b>,
    states: &'s [Expr<'b>],
    activations: &'s [Activation],
    clip: Option<f64>,
}

impl<'b> Step<'_, 'b> {
    fn hidden(&self) -> usize {
        self.states[0].shape()[1]
    }

    /// The product of a state with rows of the recurrent weights.
    fn recur(&self, state: Expr<'b>, rows: Expr<'b>) -> Expr<'b> {
        if let Some((scale, straight)) = self.scale {
            return times_rows_in_bytes(state, rows, scale, straight);
        }
        times_rows(state, rows)
    }

    fn activate(&self, which: usize, x: Expr<'b>) -> Expr<'b> {
        let clipped = match self.clip {
            Some(bound) => clamp(x, -bound, bound),
            None => x,
        };
        self.activations[which].apply(clipped)
    }

    /// The columns of one gate.
    fn gate(&self, all: Expr<'b>, gate: usize) -> Expr<'b> {
        all.slice_axis(1, gate * self.hidden(), (gate + 1) * self.hidden())
    }

    fn lstm(&self, coupled: bool) -> Vec<Expr<'b>> {
        let (h, c) = (self.states[0], self.states[1]);
        let all = self.x + self.recur(h, self.r);
        let (i, o, f, g) = (self.gate(all, 0), self.gate(all, 1), self.gate(all, 2), self.gate(all, 3));
        let hidden = self.hidden();
        let peep = |gate: Expr<'b>, position: usize, cell: Expr<'b>| match self.peepholes {
            None => gate,
            Some(p) => {
                let part = p.slice_axis(0, position * hidden, (position + 1) * hidden);
                gate + part.broadcast(&cell.shape(), &[1]) * cell
            }
        };
        let i = self.activate(0, peep(i, 0, c));
        let f = if coupled { 1.0 - i } else { self.activate(0, peep(f, 2, c)) };
        let c = f * c + i * self.activate(1, g);
        let o = self.activate(0, peep(o, 1, c));
        // As elsewhere, the threshold does not concern the cell.
        vec![o * self.activations[2].apply(c), c]
    }

    fn gru(&self, reset_after: bool) -> Vec<Expr<'b>> {
        let (h, hidden) = (self.states[0], self.hidden());
        let new = if reset_after {
            let product = self.recur(h, self.r);
            let update = self.activate(0, self.gate(self.x, 0) + self.gate(product, 0));
            let reset = self.activate(0, self.gate(self.x, 1) + self.gate(product, 1));
            let inner = self.gate(product, 2);
            let inner = self.inner_bias.map_or(inner, |bias| inner + bias.broadcast(&inner.shape(), &[1]));
            (update, self.activate(1, self.gate(self.x, 2) + reset * inner))
        } else {
            let gates = self.recur(h, self.r.slice_axis(0, 0, 2 * hidden));
            let update = self.activate(0, self.gate(self.x, 0) + self.gate(gates, 0));
            let reset = self.activate(0, self.gate(self.x, 1) + self.gate(gates, 1));
            let product = self.recur(reset * h, self.r.slice_axis(0, 2 * hidden, 3 * hidden));
            (update, self.activate(1, self.gate(self.x, 2) + product))
        };
        let (update, candidate) = new;
        vec![(1.0 - update) * candidate + update * h]
    }
}
