//! `FunctionProto` to [`Function`].

use super::attribute::Attributes;
use super::graph::{Function, FunctionId, GraphModel, Node, ValueInfo, ValueType};
use super::order::{Place, settle};
use super::parse::{Reader, domain_of, opset_versions};
use crate::error::{Escaped, Quoted};
use crate::proto::FunctionProto;
use crate::{Error, Result};
use std::fmt;

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("«")?;
        for part in [&self.domain, &self.name, &self.overload] {
            if !part.is_empty() {
                let dot = if std::ptr::eq(part, &self.name) && !self.domain.is_empty() { "." } else { "" };
                let colon = if std::ptr::eq(part, &self.overload) { ":" } else { "" };
                write!(f, "{dot}{colon}{}", Escaped(part))?;
            }
        }
        f.write_str("»")
    }
}

pub(super) fn read_function(reader: &mut Reader<'_>, proto: FunctionProto) -> Result<Function> {
    let id = FunctionId {
        domain: domain_of(proto.domain()),
        name: proto.name().to_owned(),
        overload: proto.overload().to_owned(),
    };
    if id.name.is_empty() {
        return Err(Error::invalid("a function has no name"));
    }
    let opsets = opset_versions(&proto.opset_import)?;
    let outer = std::mem::replace(&mut reader.opsets, opsets.clone());
    reader.in_function = true;
    let parts = body(reader, &id, proto);
    reader.in_function = false;
    reader.opsets = outer;
    let parts = parts?;
    let name = |value: ValueInfo| value.name;
    Ok(Function {
        id,
        inputs: parts.graph.inputs.into_iter().map(name).collect(),
        outputs: parts.graph.outputs.into_iter().map(name).collect(),
        attributes: parts.attributes,
        defaults: parts.defaults,
        opsets,
        nodes: parts.graph.nodes,
    })
}

struct Parts {
    graph: GraphModel,
    attributes: Vec<String>,
    defaults: Attributes,
}

fn body(reader: &mut Reader<'_>, id: &FunctionId, proto: FunctionProto) -> Result<Parts> {
    let in_function = |error: Error| match error {
        Error::InvalidModel { what } => Error::invalid(format!("in function {id}: {what}")),
        other => other,
    };
    let formal = |names: Vec<String>| -> Result<Vec<ValueInfo>> {
        let value = |name: String| match name.is_empty() {
            false => Ok(ValueInfo { name, ty: ValueType::Unknown }),
            true => Err(Error::invalid(format!("function {id} has an input or output without a name"))),
        };
        names.into_iter().map(value).collect()
    };
    // Stands for the function in messages about its defaults.
    let stand_in = Node { name: id.name.clone(), op_type: "function".to_owned(), ..Node::default() };
    let mut defaults = Attributes::default();
    for attribute in proto.attribute_proto {
        let name = attribute.name().to_owned();
        let value = reader.attribute(&stand_in, attribute, 0)?;
        if defaults.insert(name.clone(), value).is_some() || proto.attribute.contains(&name) {
            let name = Quoted(&name);
            return Err(Error::invalid(format!("function {id} has two attributes {name}")));
        }
    }
    let mut graph = GraphModel {
        inputs: formal(proto.input)?,
        outputs: formal(proto.output)?,
        nodes: reader.nodes(proto.node, 0).map_err(in_function)?,
        ..GraphModel::default()
    };
    settle(&mut graph, Place::Outer).map_err(in_function)?;
    Ok(Parts { graph, attributes: proto.attribute, defaults })
}
