//! Graphs to text.

use super::attributes::attributes;
use super::elements::write_element;
use super::name::write_name;
use crate::{Graph, Literal, Node, Op, TensorType, Value};
use std::fmt::{self, Write};

/// The canonical text of a graph, without a final newline: `parse(&print(graph)) == Ok(graph)`. As its `Display`.
pub fn print(graph: &Graph) -> String {
    graph.to_string()
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_graph(f, self, 0, usize::MAX)
    }
}

impl Graph {
    /// As `Display`, for human eyes: a constant of more than 16 different elements prints as `constant <...>`, which
    /// does not parse.
    pub fn display_short(&self) -> ShortDisplay<'_> {
        ShortDisplay { graph: self }
    }
}

/// Prints a graph without its large constants; made by [`Graph::display_short`].
#[derive(Clone, Copy, Debug)]
pub struct ShortDisplay<'g> {
    graph: &'g Graph,
}

impl fmt::Display for ShortDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_graph(f, self.graph, 0, 16)
    }
}

/// Writes a graph whose first line starts where the writer stands; the other lines are indented.
fn write_graph(out: &mut dyn Write, graph: &Graph, indent: usize, elements: usize) -> fmt::Result {
    out.write_str("graph @")?;
    write_name(out, graph.name())?;
    out.write_str("(")?;
    for (position, input) in graph.inputs().iter().enumerate() {
        out.write_str(if position > 0 { ", %" } else { "%" })?;
        write_name(out, &input.name)?;
        write!(out, ": {}", input.ty)?;
    }
    out.write_str(") {\n")?;
    for (value, node) in graph.iter().filter(|(_, node)| !matches!(node.op, Op::Input(_))) {
        write!(out, "{:indent$}  {value}: ", "")?;
        write_types(out, node)?;
        write!(out, " = {}", node.op.name())?;
        write_operands(out, graph, &node.operands)?;
        if let Op::Constant(literal) = &node.op {
            write_literal(out, literal, elements)?;
        }
        for (name, attribute) in attributes(&node.op) {
            write!(out, " {name}={attribute}")?;
        }
        if let Some(body) = body(&node.op) {
            write!(out, " {{\n{:indent$}    ", "")?;
            write_graph(out, body, indent + 4, elements)?;
            write!(out, "\n{:indent$}  }}", "")?;
        }
        out.write_str("\n")?;
    }
    write!(out, "{:indent$}  return", "")?;
    write_operands(out, graph, graph.outputs())?;
    write!(out, "\n{:indent$}}}", "")
}

fn body(op: &Op) -> Option<&Graph> {
    match op {
        Op::Scan(scan) => Some(&scan.body),
        Op::Fused(fused) => Some(&fused.body),
        _ => None,
    }
}

fn write_operands(out: &mut dyn Write, graph: &Graph, operands: &[Value]) -> fmt::Result {
    for (position, &operand) in operands.iter().enumerate() {
        out.write_str(if position > 0 { ", " } else { " " })?;
        match graph.inputs().get(operand.index()) {
            Some(input) => {
                out.write_str("%")?;
                write_name(out, &input.name)?;
            }
            None => write!(out, "{operand}")?,
        }
    }
    Ok(())
}

fn write_types(out: &mut dyn Write, node: &Node) -> fmt::Result {
    if node.is_tuple() { out.write_str(&tuple_text(&node.types)) } else { write!(out, "{}", node.ty()) }
}

/// A tuple type as the text form spells it: `(f32[3], i64[])`.
pub(super) fn tuple_text(types: &[TensorType]) -> String {
    let types: Vec<String> = types.iter().map(TensorType::to_string).collect();
    format!("({})", types.join(", "))
}

fn write_literal(out: &mut dyn Write, literal: &Literal, limit: usize) -> fmt::Result {
    let dtype = literal.dtype();
    let raws = literal.bytes().chunks_exact(dtype.size());
    let count = raws.len();
    if literal.shape().rank() == 0 {
        out.write_str(" ")?;
        return raws.into_iter().try_for_each(|raw| write_element(out, dtype, raw));
    }
    if count > 1 && literal.is_splat() {
        out.write_str(" splat ")?;
        return raws.take(1).try_for_each(|raw| write_element(out, dtype, raw));
    }
    if count > limit {
        return out.write_str(" <...>");
    }
    out.write_str(" [")?;
    for (position, raw) in raws.enumerate() {
        out.write_str(if position > 0 { ", " } else { "" })?;
        write_element(out, dtype, raw)?;
    }
    out.write_str("]")
}
