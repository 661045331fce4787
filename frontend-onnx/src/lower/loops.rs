//! Control flow: `Scan` and `Loop`, whose numbers of steps must be known.

use super::scope::{self, Bound, Tensor};
use super::{Context, InputKind, LowerOptions, LoweredInput, Lowering, known::Known, ops, table};
use crate::model::{GraphModel, Node, ValueInfo, ValueType};
use crate::{Error, Result};
use gradc_ir::{Builder, DType, Expr, Graph, Literal, Op, ScanOp, Shape, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A `Loop` of which each step is of its own kind is not lowered beyond this many steps.
const MOST_UNROLLED: usize = 1 << 12;

/// The body of a loop as a graph: its inputs are the captured values, then the others in order.
struct Body {
    graph: Graph,
    /// The outer values that it uses.
    captured: Vec<Value>,
    /// The first output, where it was asked for and is known.
    first: Option<Literal>,
}

impl<'b> Lowering<'b> {
    pub(super) fn scan(&mut self, node: &Node) -> Result<()> {
        if node.opset < 9 {
            return self.scan_batches(node);
        }
        let graph = node.graph("body")?;
        let (states, sequences, trip) = self.scan_operands(node, graph)?;
        let types = |all: &[Expr<'b>], from: usize| -> Vec<TensorType> {
            let cut = |x: &Expr<'b>| TensorType::new(x.dtype(), &x.shape()[from..]);
            all.iter().map(cut).collect()
        };
        let inputs: Vec<(&str, TensorType)> = graph
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .zip(types(&states, 0).into_iter().chain(types(&sequences, 1)))
            .collect();
        let body = self.loop_body(node, graph, &[], &inputs, false)?;
        let carries = states.len();
        let parts = self.run(node, body, carries, trip, states.into_iter().chain(sequences))?;
        let context = Context::new(self, node);
        let axes = node.ints("scan_output_axes")?.unwrap_or_default();
        let directions = node.ints("scan_output_directions")?.unwrap_or_default();
        let mut outputs = Vec::new();
        for (position, part) in parts.into_iter().enumerate() {
            outputs.push(match position.checked_sub(carries) {
                None => part,
                Some(stacked) => {
                    let backwards = directions.get(stacked).is_some_and(|&direction| direction != 0);
                    let part = if backwards { part.reverse(&[0]) } else { part };
                    let rank = part.rank();
                    let axis = context.axis(axes.get(stacked).copied().unwrap_or(0), rank)?;
                    let mut permutation: Vec<usize> = (1..rank).collect();
                    permutation.insert(axis, 0);
                    part.transpose(&permutation)
                }
            });
        }
        self.bind_outputs(node, &outputs)
    }

    /// A `Scan` of opset 8: one for each element of a batch, which is the foremost axis of everything.
    fn scan_batches(&mut self, node: &Node) -> Result<()> {
        let graph = node.graph("body")?;
        let context = Context::new(self, node);
        let operands: Vec<Expr<'b>> =
            (1..context.input_count()).map(|position| context.ranked(position, 1)).collect::<Result<_>>()?;
        if let Some(code) = (1..context.input_count()).find_map(|position| context.code(position)) {
            return Err(scope::refused(node, "an input", code));
        }
        let count = node.required("num_scan_inputs", node.optional_int("num_scan_inputs")?)?;
        let count = usize::try_from(count).ok().filter(|count| (1..=operands.len()).contains(count));
        let Some(count) = count.filter(|_| graph.inputs.len() == operands.len()) else {
            return Err(node.error("its inputs do not fit its body"));
        };
        let carries = operands.len() - count;
        let (batch, first) = (operands[0].shape()[0], operands[carries].shape());
        let trip = first.get(1).copied().unwrap_or(0);
        let fits = |x: &Expr<'b>| x.shape()[0] == batch;
        let steps = |x: &Expr<'b>| x.rank() > 1 && x.shape()[1] == trip;
        if batch == 0 || !operands.iter().all(fits) || !operands[carries..].iter().all(steps) {
            return Err(node.error("its inputs have batches or sequences of different lengths, or of none"));
        }
        if context.optional(0)?.is_some() {
            let lengths = context.known_i64s(0, "the lengths of the sequences")?;
            if lengths.iter().any(|&length| length != trip as i64) {
                return Err(node.error("sequences that end before their tensor does are not supported"));
            }
        }
        let directions = node.ints("directions")?.unwrap_or_default().to_vec();
        let mut batches: Vec<Vec<Expr<'b>>> = Vec::new();
        for place in 0..batch {
            let own: Vec<Expr<'b>> = (operands.iter().enumerate())
                .map(|(position, x)| {
                    let own = x.slice_axis(0, place, place + 1).reshape(&x.shape().without(&[0]));
                    let backwards = position.checked_sub(carries).and_then(|scanned| directions.get(scanned));
                    if backwards.is_some_and(|&direction| direction != 0) { own.reverse(&[0]) } else { own }
                })
                .collect();
            let types = own.iter().enumerate().map(|(position, x)| {
                TensorType::new(x.dtype(), &x.shape()[usize::from(position >= carries)..])
            });
            let inputs: Vec<(&str, TensorType)> =
                graph.inputs.iter().map(|input| input.name.as_str()).zip(types).collect();
            let body = self.loop_body(node, graph, &[], &inputs, false)?;
            batches.push(self.run(node, body, carries, trip, own.into_iter())?);
        }
        let context = Context::new(self, node);
        let joined = |part: usize| {
            let parts: Vec<Expr<'b>> = batches.iter().map(|parts| parts[part].insert_axis(0)).collect();
            if parts.len() == 1 { Ok(parts[0]) } else { context.push(Op::Concat { axis: 0 }, &parts) }
        };
        let outputs: Vec<Expr<'b>> = (0..batches[0].len()).map(joined).collect::<Result<_>>()?;
        self.bind_outputs(node, &outputs)
    }

    /// The states, the sequences with their steps foremost and in order, and the number of steps.
    #[allow(clippy::type_complexity, reason = "three plain things")]
    fn scan_operands(
        &self,
        node: &Node,
        graph: &GraphModel,
    ) -> Result<(Vec<Expr<'b>>, Vec<Expr<'b>>, usize)> {
        let context = Context::new(self, node);
        let operands = context.inputs()?;
        if let Some((position, code)) = (0..operands.len()).find_map(|i| Some((i, context.code(i)?))) {
            return Err(scope::refused(node, &format!("input {position}"), code));
        }
        let count = node.required("num_scan_inputs", node.optional_int("num_scan_inputs")?)?;
        let count = usize::try_from(count).ok().filter(|count| (1..=operands.len()).contains(count));
        let Some(count) = count.filter(|_| graph.inputs.len() == operands.len()) else {
            return Err(node.error("its inputs do not fit its body"));
        };
        let axes = node.ints("scan_input_axes")?.unwrap_or_default();
        let directions = node.ints("scan_input_directions")?.unwrap_or_default();
        let (states, scanned) = operands.split_at(operands.len() - count);
        let mut sequences = Vec::new();
        for (position, &x) in scanned.iter().enumerate() {
            let axis = context.axis(axes.get(position).copied().unwrap_or(0), x.rank())?;
            let others = (0..x.rank()).filter(|&other| other != axis);
            let steps = x.transpose(&std::iter::once(axis).chain(others).collect::<Vec<_>>());
            let backwards = directions.get(position).is_some_and(|&direction| direction != 0);
            sequences.push(if backwards { steps.reverse(&[0]) } else { steps });
        }
        let trip = sequences[0].shape()[0];
        Ok((states.to_vec(), sequences, trip))
    }

    pub(super) fn repeat(&mut self, node: &Node) -> Result<()> {
        let graph = node.graph("body")?;
        let context = Context::new(self, node);
        let most = match context.optional(0)? {
            Some(_) => Some(usize::try_from(context.known_i64(0, "the number of steps")?).unwrap_or(0)),
            None => None,
        };
        let starts = match context.optional(1)? {
            Some(_) => context.known_f64s(1, "whether to start")?.first().is_some_and(|&truth| truth != 0.0),
            None => true,
        };
        let states: Vec<Bound> =
            (2..context.input_count()).map(|i| context.bound(i)).collect::<Result<_>>()?;
        let plain: Option<Vec<Expr<'b>>> =
            states.iter().map(|state| state.plain_value().map(|value| self.builder.expr(value))).collect();
        if graph.inputs.len() != states.len() + 2 || graph.outputs.len() <= states.len() {
            return Err(node.error("its inputs do not fit its body"));
        }
        let most = if starts { most } else { Some(0) };
        let uniform = most.zip(plain).map(|(trip, plain)| self.uniform(node, graph, &plain, trip));
        let outputs = match uniform {
            Some(Ok(Some(outputs))) => outputs.iter().map(|output| Bound::plain(output.value())).collect(),
            Some(Err(error)) if most.is_some_and(|trip| trip > MOST_UNROLLED) => return Err(error),
            _ => self.unrolled(node, graph, states, most)?,
        };
        self.bind_all(node, outputs)
    }

    /// A `Loop` whose steps are all alike and all done, as a scan; `None` where they are not.
    fn uniform(
        &mut self,
        node: &Node,
        graph: &GraphModel,
        states: &[Expr<'b>],
        trip: usize,
    ) -> Result<Option<Vec<Expr<'b>>>> {
        let counter = counter_shape(&graph.inputs[0]);
        let lengths: Vec<usize> = std::iter::once(trip).chain(counter.iter().copied()).collect();
        let carried =
            graph.inputs[2..].iter().zip(states).map(|(input, state)| (input.name.as_str(), state.ty()));
        let count = (graph.inputs[0].name.as_str(), TensorType::new(DType::I64, counter));
        let inputs: Vec<_> = carried.chain([count]).collect();
        let condition = [(graph.inputs[1].name.as_str(), Literal::scalar(true))];
        let body = self.loop_body(node, graph, &condition, &inputs, true)?;
        let goes_on = body.first.as_ref().is_some_and(|first| first.splat_value() == Some(1.0));
        let wanted = states.iter().map(|state| state.ty());
        let alike = body.graph.output_types().into_iter().zip(wanted).all(|(got, wanted)| *got == wanted);
        if !goes_on || !alike {
            return Ok(None);
        }
        let counts = self.builder.iota(TensorType::new(DType::I64, [trip]), 0);
        let counts = Context::new(self, node).reshape(counts, &lengths)?;
        let operands = states.iter().copied().chain([counts]);
        self.run(node, body, states.len(), trip, operands).map(Some)
    }

    /// A `Loop`, step after step.
    fn unrolled(
        &mut self,
        node: &Node,
        graph: &GraphModel,
        mut states: Vec<Bound>,
        most: Option<usize>,
    ) -> Result<Vec<Bound>> {
        let counter = counter_shape(&graph.inputs[0]);
        let mut stacks: Vec<Vec<Expr<'b>>> = vec![Vec::new(); graph.outputs.len() - states.len() - 1];
        let carried = states.len() + 1;
        let mut step = 0;
        while most.is_none_or(|most| step < most) {
            if step == MOST_UNROLLED {
                return Err(
                    node.error(format_args!("takes more than {MOST_UNROLLED} steps of different kinds"))
                );
            }
            let count = self.builder.constant(Literal::scalar(step as i64)).broadcast(&counter, &[]);
            let condition = self.builder.constant(Literal::scalar(true));
            let values = [count, condition].map(|value| Bound::plain(value.value()));
            for (input, bound) in graph.inputs.iter().zip(values.into_iter().chain(states)) {
                self.values.insert(input.name.clone(), bound);
            }
            let mut outputs = self.body(node, graph)?;
            let goes_on = outputs[0].expect_plain(node, "the condition")?;
            for (stack, output) in stacks.iter_mut().zip(outputs.drain(carried..)) {
                stack.push(self.builder.expr(output.expect_plain(node, "a stacked output")?));
            }
            states = outputs.split_off(1);
            step += 1;
            let goes_on = self.known.literal(self.builder, goes_on).ok_or_else(|| Error::RuntimeValue {
                node: node.name.clone(),
                op_type: node.qualified_op_type(),
                what: "whether to go on".to_owned(),
                tensor: graph.outputs[0].name.clone(),
                source_input: self.known.runtime_source(self.builder, goes_on),
            })?;
            if goes_on.splat_value() != Some(1.0) {
                break;
            }
        }
        let context = Context::new(self, node);
        for stack in stacks {
            if stack.is_empty() {
                return Err(
                    node.error("does no step, so that the shapes of its stacked outputs are not known")
                );
            }
            let parts: Vec<Expr<'b>> = stack.into_iter().map(|part| part.insert_axis(0)).collect();
            let stacked = match parts[..] {
                [only] => only,
                _ => context.push(Op::Concat { axis: 0 }, &parts)?,
            };
            states.push(Bound::plain(stacked.value()));
        }
        Ok(states)
    }

    /// The parts that a scan yields.
    fn run(
        &self,
        node: &Node,
        body: Body,
        carries: usize,
        trip: usize,
        operands: impl Iterator<Item = Expr<'b>>,
    ) -> Result<Vec<Expr<'b>>> {
        let context = Context::new(self, node);
        let captured = body.captured.iter().map(|&value| self.builder.expr(value));
        let operands: Vec<Expr<'b>> = captured.chain(operands).collect();
        let parts = body.graph.outputs().len();
        let constants = body.captured.len();
        let scan = ScanOp { body: Arc::new(body.graph), trip, constants, carries, reverse: false };
        let tuple = context.push(Op::Scan(scan), &operands)?;
        (0..parts).map(|part| context.push(Op::Project(part), &[tuple])).collect()
    }

    /// Lowers a body to a graph of its own. `fixed` inputs are constants in it; where `first` is set, the first output
    /// is left out of the graph.
    fn loop_body(
        &mut self,
        node: &Node,
        graph: &GraphModel,
        fixed: &[(&str, Literal)],
        inputs: &[(&str, TensorType)],
        first: bool,
    ) -> Result<Body> {
        table::check_supported(graph)?;
        let mut weights = BTreeSet::new();
        self.bind_inner_weights(graph, &mut weights)?;
        let builder = Builder::new(node.name.as_str());
        let options = LowerOptions { tags: BTreeSet::new(), ..self.options.clone() };
        let mut captured = Vec::new();
        let (outputs, known) = {
            let mut inner = Lowering {
                builder: &builder,
                options: &options,
                known: Known::default(),
                inputs: Vec::new(),
                values: BTreeMap::new(),
                dims: BTreeMap::new(),
                notes: Vec::new(),
                apart: BTreeSet::new(),
                draws: None,
                carriers: super::straight::Carriers::default(),
            };
            for name in graph.captures.iter().chain(&weights) {
                let Some(Bound::Tensor(Tensor { value: outer, code })) = self.values.get(name).cloned()
                else {
                    continue;
                };
                if inner.values.contains_key(name) {
                    continue;
                }
                let literal = self.known.literal(self.builder, outer);
                let value = match literal.clone().filter(|_| self.known.is_constant(self.builder, outer)) {
                    Some(literal) => builder.constant(literal).value(),
                    None => {
                        captured.push(outer);
                        builder.input(name, self.builder.ty(outer))
                    }
                };
                if let Some(literal) = literal {
                    inner.known.set_weight(value, literal.clone());
                    if weights.contains(name) {
                        let kind = InputKind::Weight(literal);
                        inner.inputs.push(LoweredInput { name: name.clone(), value, kind });
                    }
                }
                inner.values.insert(name.clone(), Bound::Tensor(Tensor { value, code }));
            }
            for (name, literal) in fixed {
                let value = builder.constant(literal.clone()).value();
                inner.values.insert((*name).to_owned(), Bound::plain(value));
            }
            for (name, ty) in inputs {
                let value = builder.input(name, ty.clone());
                inner.values.insert((*name).to_owned(), Bound::plain(value));
            }
            let outputs = inner.body(node, graph)?;
            let outputs: Vec<Value> = (outputs.iter())
                .map(|output| output.expect_plain(node, "an output of the body"))
                .collect::<Result<_>>()?;
            let known =
                outputs.first().filter(|_| first).and_then(|&value| inner.known.literal(&builder, value));
            (outputs, known)
        };
        let kept = &outputs[usize::from(first).min(outputs.len())..];
        Ok(Body { graph: builder.finish(kept), captured, first: known })
    }

    /// Binds the constants of inner graphs that are weights as inputs of the whole.
    fn bind_inner_weights(&mut self, graph: &GraphModel, names: &mut BTreeSet<String>) -> Result<()> {
        for initializer in &graph.initializers {
            if self.options.weights.takes(initializer.name()) {
                self.bind_initializer(initializer)?;
                names.insert(initializer.name().to_owned());
            }
        }
        for node in &graph.nodes {
            let constant = node.domain.is_empty() && node.op_type == "Constant";
            if let Some(name) = node.output(0).filter(|name| constant && self.options.weights.takes(name)) {
                self.bind_constant(name, || ops::constant::data(node))?;
                names.insert(name.to_owned());
            }
            for inner in node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs()) {
                self.bind_inner_weights(inner, names)?;
            }
        }
        Ok(())
    }

    fn bind_outputs(&mut self, node: &Node, outputs: &[Expr<'b>]) -> Result<()> {
        self.bind_all(node, outputs.iter().map(|output| Bound::plain(output.value())).collect())
    }

    pub(super) fn bind_all(&mut self, node: &Node, outputs: Vec<Bound>) -> Result<()> {
        let mut outputs = outputs.into_iter();
        for (position, name) in node.outputs.iter().enumerate() {
            let output = outputs.next();
            let Some(name) = name else { continue };
            let Some(output) = output else {
                return Err(node.error(format_args!("the body has no output {position}")));
            };
            self.bind_as(name, output);
        }
        Ok(())
    }
}

/// The shape of the counter: a scalar, but for files that declare one element.
fn counter_shape(input: &ValueInfo) -> Shape {
    match &input.ty {
        ValueType::Tensor { dims: Some(dims), .. } if dims.len() == 1 => Shape::from([1]),
        _ => Shape::scalar(),
    }
}
