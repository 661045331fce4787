//! Where numbers stop being numbers: the first node of a run that yields NaN or infinity from operands that hold none.
//!
//! The graph is compiled once more, not optimized, with one flag for each of its values. From a bad result the flags
//! lead back to where it began. Loops count as one node.

mod message;
mod reason;

use crate::compiled::{Names, Shared, inline_with_origins};
use crate::engine::{Function, Settings, node_of};
use crate::{Error, Result};
use gradc_codegen::Aligned;
use gradc_ir::{Builder, DType, Expr, Graph, Literal, Op, ReduceOp, Shape, TensorType, Value};
use gradc_passes::Selection;
use std::fmt;

/// What is not finite.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum NotFiniteKind {
    /// Not a number.
    Nan,
    /// Plus or minus infinity.
    Infinity,
}

/// Where the first NaN (or infinity) of a run arose.
#[derive(Clone, PartialEq, Debug)]
pub struct NotFinite {
    /// What it is.
    pub kind: NotFiniteKind,
    /// The result in which it was seen, such as `the gradient of «x»`.
    pub seen_in: String,
    /// Where it arose.
    pub source: NotFiniteSource,
    /// The index of the first such element there.
    pub index: Vec<usize>,
    /// The operands of the computation at fault, with their names (`operand_0`, ... where they have none), then what
    /// it made of them, under the name `result`.
    pub values: Vec<(String, Literal)>,
}

/// Where a number that is not finite comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotFiniteSource {
    /// An input that was given so.
    Input {
        /// Its name.
        name: String,
    },
    /// A constant of the model.
    Constant {
        /// Its name, where it has one.
        name: Option<String>,
    },
    /// The computation of a node, from finite operands.
    Node {
        /// Operator and name in the model, where it came from there.
        node: Option<(String, String)>,
        /// The tensor that it yields, where that has a name.
        tensor: Option<String>,
        /// Whether it computes a part of the gradient, not of the model.
        backward: bool,
        /// The arithmetic that did it, such as `0 · inf`.
        why: String,
    },
    /// Only optimized code yields it.
    Unknown,
}

impl fmt::Display for NotFiniteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotFiniteKind::Nan => "NaN",
            NotFiniteKind::Infinity => "infinity",
        })
    }
}

impl NotFiniteKind {
    fn is(self, value: f64) -> bool {
        match self {
            NotFiniteKind::Nan => value.is_nan(),
            NotFiniteKind::Infinity => value.is_infinite(),
        }
    }

    /// Whether elements are so.
    fn of<'b>(self, x: Expr<'b>) -> Expr<'b> {
        match self {
            NotFiniteKind::Nan => x.ne(x),
            NotFiniteKind::Infinity => x.abs().eq(x.splat(f64::INFINITY)),
        }
    }
}

/// The worst kind that an array holds, and where first.
pub(crate) fn first_in(array: &Literal) -> Option<(NotFiniteKind, Vec<usize>)> {
    if !array.dtype().is_float() {
        return None;
    }
    let values = array.to_f64();
    [NotFiniteKind::Nan, NotFiniteKind::Infinity].into_iter().find_map(|kind| {
        let position = values.iter().position(|&value| kind.is(value))?;
        Some((kind, index_of(array.shape(), position)))
    })
}

fn index_of(shape: &Shape, position: usize) -> Vec<usize> {
    let axes = shape.strides().into_iter().zip(shape.iter());
    axes.map(|(stride, &length)| position / stride.max(1) % length.max(1)).collect()
}

/// Looks for the source of what is bad in the result at a position of the graph's outputs.
pub(crate) fn search<'i>(
    shared: &Shared,
    position: usize,
    (kind, index): (NotFiniteKind, Vec<usize>),
    seen_in: String,
    inputs: impl Fn() -> Vec<&'i [u8]>,
) -> Result<NotFinite> {
    let graph = &shared.full.graph;
    let flags = flags(shared, kind, &inputs())?;
    let Some(source) = first_flagged(graph, &flags, graph.outputs()[position]) else {
        let source = NotFiniteSource::Unknown;
        return Ok(NotFinite { kind, seen_in, source, index, values: Vec::new() });
    };
    let operands = tensors_of(graph, source);
    let mut wanted = operands.clone();
    wanted.push(source);
    let mut values = evaluate(shared, &wanted, &inputs())?;
    let result = values.pop().ok_or_else(|| Error::internal("a value that was asked for is missing"))?;
    let position = result.to_f64().iter().position(|&value| kind.is(value)).unwrap_or(0);
    let index = index_of(result.shape(), position);
    let names = &shared.names;
    let why = reason::reason(&computes(graph, source), &values, &result, position);
    let called = |(place, value): (usize, &Value)| {
        names.of(*value).map_or_else(|| format!("operand_{place}"), str::to_owned)
    };
    let mut labelled: Vec<(String, Literal)> =
        operands.iter().enumerate().map(called).zip(values.iter().cloned()).collect();
    labelled.push(("result".to_owned(), result));
    let name = names.of(source).map(str::to_owned);
    let source = match &graph.node(source).op {
        Op::Input(position) => {
            NotFiniteSource::Input { name: graph.inputs()[*position as usize].name.to_string() }
        }
        Op::Constant(_) => NotFiniteSource::Constant { name },
        _ => NotFiniteSource::Node {
            node: graph.origin(source).map(node_of),
            tensor: name,
            backward: names.forward.is_some_and(|last| source > last),
            why,
        },
    };
    Ok(NotFinite { kind, seen_in, source, index, values: labelled })
}

impl Names {
    /// The name of a value, where the model has one for it.
    fn of(&self, value: Value) -> Option<&str> {
        let position = self.tensors.partition_point(|(other, _)| *other < value);
        self.tensors.get(position).filter(|(other, _)| *other == value).map(|(_, name)| name.as_str())
    }
}

/// The operator that computes a value: of a part of a tuple, the one that yields the tuple.
fn computes(graph: &Graph, value: Value) -> Op {
    let node = graph.node(value);
    match node.op {
        Op::Project(_) => graph.node(node.operands[0]).op.clone(),
        ref op => op.clone(),
    }
}

/// The tensors that a value is computed from.
fn tensors_of(graph: &Graph, value: Value) -> Vec<Value> {
    let node = graph.node(value);
    match node.op {
        Op::Project(_) => graph.node(node.operands[0]).operands.to_vec(),
        _ => node.operands.to_vec(),
    }
}

/// Whether the value of each node holds something of a kind, in the order of the graph.
fn flags(shared: &Shared, kind: NotFiniteKind, inputs: &[&[u8]]) -> Result<Vec<bool>> {
    let graph = &shared.full.graph;
    let is_float = |(_, node): &(Value, &gradc_ir::Node)| node.types.len() == 1 && node.ty().dtype.is_float();
    let floats: Vec<Value> = graph.iter().filter(is_float).map(|(value, _)| value).collect();
    let found = run(shared, inputs, |builder, values| {
        let flag = |value: &Value| {
            let bad = kind.of(builder.expr(values[value.index()]));
            let axes: Vec<usize> = (0..bad.rank()).collect();
            if axes.is_empty() { bad.value() } else { bad.reduce(ReduceOp::Max, &axes).value() }
        };
        floats.iter().map(flag).collect()
    })?;
    let mut flags = vec![false; graph.len()];
    for (value, found) in floats.iter().zip(found) {
        flags[value.index()] = found.bytes().iter().any(|&byte| byte != 0);
    }
    Ok(flags)
}

/// The values of some nodes.
fn evaluate(shared: &Shared, wanted: &[Value], inputs: &[&[u8]]) -> Result<Vec<Literal>> {
    run(shared, inputs, |_, values| wanted.iter().map(|value| values[value.index()]).collect())
}

/// Compiles what `choose` wants of a copy of the full graph, not optimized, and runs it once.
fn run(
    shared: &Shared,
    inputs: &[&[u8]],
    choose: impl FnOnce(&Builder, &[Value]) -> Vec<Value>,
) -> Result<Vec<Literal>> {
    let graph = &shared.full.graph;
    let builder = Builder::new(graph.name());
    let operands: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let values = inline_with_origins(&builder, graph, &operands);
    builder.set_origin(None);
    let chosen = choose(&builder, &values);
    let graph = builder.finish(&chosen);
    let types: Vec<TensorType> = graph.output_types().into_iter().cloned().collect();
    let settings =
        Settings { level: 0, passes: Selection::default(), cache: None, ..shared.settings.clone() };
    let function = Function::new(graph, &settings, None)?;
    let mut buffers: Vec<Aligned> = types.iter().map(|ty| Aligned::new(ty.bytes())).collect();
    function.run(
        &mut function.scratch(&shared.team),
        inputs.iter().copied(),
        buffers.iter_mut().map(Aligned::as_mut_slice),
        settings.max_memory,
    )?;
    let literal = |(ty, buffer): (TensorType, &Aligned)| {
        let bytes = buffer.as_slice()[..ty.bytes()].to_vec();
        Literal::from_bytes(ty, bytes.into()).ok_or_else(|| Error::internal("a buffer of another size"))
    };
    types.into_iter().zip(&buffers).map(literal).collect()
}

/// Follows the flags from a result to the first node that has one while none of its operands has.
fn first_flagged(graph: &Graph, flags: &[bool], result: Value) -> Option<Value> {
    if !flags[result.index()] {
        return None;
    }
    let mut reached = vec![false; graph.len()];
    reached[result.index()] = true;
    let mut first = None;
    for index in (0..=result.index()).rev().filter(|&index| flags[index]) {
        if !reached[index] {
            continue;
        }
        let value = Value::from_index(index);
        let bad: Vec<Value> =
            tensors_of(graph, value).into_iter().filter(|operand| flags[operand.index()]).collect();
        if bad.is_empty() {
            first = Some(value);
        }
        bad.iter().for_each(|operand| reached[operand.index()] = true);
    }
    first
}

/// A number as a message shows it.
pub(crate) fn shown(value: f64, dtype: DType) -> String {
    let size = value.abs();
    match value {
        _ if size != 0.0 && size.is_finite() && !(1e-4..1e6).contains(&size) => format!("{value:.4e}"),
        _ if dtype == DType::F64 => value.to_string(),
        _ => (value as f32).to_string(),
    }
}
