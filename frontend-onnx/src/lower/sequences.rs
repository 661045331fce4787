//! Sequences and optionals: lists of tensors whose lengths are known, gone when a model is lowered.
//!
//! An optional is what it holds, or nothing. A sequence is its elements; every element has a shape of its own.

use super::scope::{Bound, Tensor};
use super::{Context, Lowering};
use crate::Result;
use crate::model::Node;
use gradc_ir::{Expr, Literal, Op};

impl<'b> Lowering<'b> {
    /// Lowers a node that makes or takes sequences or optionals; false where it is of another kind.
    pub(super) fn list_node(&mut self, node: &Node) -> Result<bool> {
        if !node.domain.is_empty() {
            return Ok(false);
        }
        let context = Context::new(self, node);
        let known = |literal: Literal| Bound::plain(self.builder.constant(literal).value());
        let output = match node.op_type.as_str() {
            "Identity" if node.input(0).is_some() => match context.bound(0)? {
                Bound::Tensor(_) => return Ok(false),
                list => list,
            },
            "SequenceEmpty" => Bound::Sequence(Vec::new()),
            "SequenceConstruct" => {
                let elements = (0..context.input_count()).map(|position| element(&context, position));
                Bound::Sequence(elements.collect::<Result<_>>()?)
            }
            "SequenceInsert" => {
                let (mut elements, new) = (sequence(&context, 0)?, element(&context, 1)?);
                let position = place(&context, 2, elements.len() as i64, elements.len() + 1)?;
                elements.insert(position, new);
                Bound::Sequence(elements)
            }
            "SequenceErase" => {
                let mut elements = sequence(&context, 0)?;
                elements.remove(place(&context, 1, -1, elements.len())?);
                Bound::Sequence(elements)
            }
            "SequenceAt" => {
                let elements = sequence(&context, 0)?;
                Bound::Tensor(elements[place(&context, 1, -1, elements.len())?])
            }
            "SequenceLength" => known(Literal::scalar(sequence(&context, 0)?.len() as i64)),
            "SplitToSequence" => Bound::Sequence(split(&context)?),
            "ConcatFromSequence" => Bound::Tensor(concatenated(&context)?),
            "Optional" => match context.input_count() {
                0 => Bound::Nothing,
                _ => context.bound(0)?,
            },
            "OptionalHasElement" => {
                let given = node.input(0).is_some() && context.bound(0)? != Bound::Nothing;
                known(Literal::scalar(given))
            }
            "OptionalGetElement" => match context.bound(0)? {
                Bound::Nothing => return Err(node.error("the optional has no element")),
                held => held,
            },
            "SequenceMap" => return self.sequence_map(node).map(|()| true),
            _ => return Ok(false),
        };
        let name = node.output(0).ok_or_else(|| node.error("has no output"))?;
        self.bind_as(name, output);
        Ok(true)
    }

    /// The body for each element in turn.
    fn sequence_map(&mut self, node: &Node) -> Result<()> {
        let graph = node.graph("body")?;
        let context = Context::new(self, node);
        let inputs: Vec<Bound> =
            (0..context.input_count()).map(|position| context.bound(position)).collect::<Result<_>>()?;
        let count = sequence(&context, 0)?.len();
        if graph.inputs.len() != inputs.len() {
            return Err(node.error("its inputs do not fit its body"));
        }
        let mut outputs: Vec<Vec<Tensor>> = vec![Vec::new(); graph.outputs.len()];
        for step in 0..count {
            for (formal, actual) in graph.inputs.iter().zip(&inputs) {
                let bound = match actual {
                    Bound::Sequence(elements) => match elements.get(step) {
                        Some(element) => Bound::Tensor(*element),
                        None => return Err(node.error("its sequences have different lengths")),
                    },
                    other => other.clone(),
                };
                self.values.insert(formal.name.clone(), bound);
            }
            for (list, output) in outputs.iter_mut().zip(self.body(node, graph)?) {
                match output {
                    Bound::Tensor(tensor) => list.push(tensor),
                    Bound::Sequence(_) | Bound::Nothing => {
                        return Err(node.error("its body yields no tensor"));
                    }
                }
            }
        }
        let lists = outputs.into_iter().map(Bound::Sequence).collect();
        self.bind_all(node, lists)
    }
}

fn sequence(context: &Context<'_, '_>, position: usize) -> Result<Vec<Tensor>> {
    match context.bound(position)? {
        Bound::Sequence(elements) => Ok(elements),
        Bound::Tensor(_) | Bound::Nothing => {
            Err(context.error(format_args!("input {position} is no sequence")))
        }
    }
}

fn element(context: &Context<'_, '_>, position: usize) -> Result<Tensor> {
    match context.bound(position)? {
        Bound::Tensor(tensor) => Ok(tensor),
        Bound::Sequence(_) | Bound::Nothing => {
            Err(context.error(format_args!("input {position} is no tensor")))
        }
    }
}

/// A position among so many, counted from the end where it is negative; `default` where it is left out.
fn place(context: &Context<'_, '_>, position: usize, default: i64, places: usize) -> Result<usize> {
    let wanted = match context.optional(position)? {
        Some(_) => context.known_i64(position, "the position")?,
        None => default,
    };
    // Before the last of the places to insert at stand all elements: from there negative positions count.
    let length = if context.node.op_type == "SequenceInsert" { places as i64 - 1 } else { places as i64 };
    let normal = if wanted < 0 { wanted.saturating_add(length) } else { wanted };
    match usize::try_from(normal) {
        Ok(normal) if normal < places => Ok(normal),
        _ => Err(context.error(format_args!("position {wanted} is outside of a sequence of {length}"))),
    }
}

fn split(context: &Context<'_, '_>) -> Result<Vec<Tensor>> {
    let x = context.ranked(0, 1)?;
    let (code, shape) = (context.code(0), x.shape());
    let axis = context.axis_attribute(0, shape.rank())?;
    let length = shape[axis];
    let given = context.optional(1)?;
    let sizes = match given {
        None => vec![1; length],
        Some(sizes) if sizes.rank() == 0 => {
            let size = usize::try_from(context.known_i64(1, "the lengths")?).unwrap_or(0);
            if size == 0 {
                return Err(context.error("the length of a part must be positive"));
            }
            (0..length).step_by(size).map(|start| size.min(length - start)).collect()
        }
        Some(_) => context.lengths(&context.known_i64s(1, "the lengths")?, "the lengths")?,
    };
    if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(length) {
        return Err(context.error(format_args!("parts of {sizes:?} do not make up an axis of {length}")));
    }
    let keeps = given.is_some() || context.node.flag("keepdims", true)?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        let part = x.slice_axis(axis, start, start + size);
        start += size;
        let part = if keeps { part } else { context.reshape(part, &shape.without(&[axis]))? };
        parts.push(Tensor { value: part.value(), code });
    }
    Ok(parts)
}

fn concatenated(context: &Context<'_, '_>) -> Result<Tensor> {
    let (elements, node) = (sequence(context, 0)?, context.node);
    let Some(&first) = elements.first() else {
        return Err(context.error("an empty sequence has no shape to make a tensor of"));
    };
    if elements.iter().any(|element| element.code != first.code) {
        return Err(context.error("its elements are of different types"));
    }
    let mut parts: Vec<Expr<'_>> =
        elements.iter().map(|element| context.builder().expr(element.value)).collect();
    let stacks = node.flag("new_axis", false)?;
    let axis = node.required("axis", node.optional_int("axis")?)?;
    let axis = context.axis(axis, parts[0].rank() + usize::from(stacks))?;
    if stacks {
        for part in &mut parts {
            if part.rank() < axis {
                return Err(context.error("its elements are of different ranks"));
            }
            *part = part.insert_axis(axis);
        }
    }
    let whole = if parts.len() == 1 { parts[0] } else { context.push(Op::Concat { axis }, &parts)? };
    Ok(Tensor { value: whole.value(), code: first.code })
}
