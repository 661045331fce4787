//! `ModelProto` to [`Model`]: graphs, nodes, attributes.

use super::attribute::{Attribute, Attributes};
use super::external::{Externals, declared_bytes};
use super::function::read_function;
use super::graph::{Dim, GraphModel, Initializer, Node, ValueInfo, ValueType};
use super::legacy::modernise;
use super::order::{Place, settle};
use super::read_tensor::{data_type, sparse, tensor};
use super::{DataType, ExternalData, Model, ReadOptions};
use crate::error::{Escaped, Grouped, Outside, Quoted, SUPPORTED_OPSETS};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{
    self, AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, tensor_proto,
};
use crate::{Error, Result};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How deep bodies may nest in bodies.
pub(super) const MAX_BODY_DEPTH: usize = 32;
/// How many model-local functions a model may have.
const MAX_FUNCTIONS: usize = 10_000;

/// Validates a decoded model. `file` names it in messages.
pub(super) fn read_model(
    proto: ModelProto,
    file: &str,
    external: &ExternalData,
    options: &ReadOptions,
) -> Result<Model> {
    let graph = proto.graph.ok_or_else(|| Error::NoGraph { file: file.to_owned() })?;
    let outside = Some(tensor_proto::DataLocation::External as i32);
    let external_tensors = || graph.initializer.iter().filter(|tensor| tensor.data_location == outside);
    let needed = Outside {
        tensors: external_tensors().count(),
        all: graph.initializer.len(),
        bytes: external_tensors().map(declared_bytes).fold(0, u64::saturating_add),
    };
    let externals = Externals::new(external, options, needed);
    let mut opsets = opset_versions(&proto.opset_import)?;
    if proto.opset_import.is_empty() && proto.ir_version.unwrap_or(0) < 3 {
        // Before the third version of the format there was nothing to import.
        opsets.insert(String::new(), check_opset("", 1)?);
    }
    if proto.functions.len() > MAX_FUNCTIONS {
        let what = format!("{} functions", Grouped(proto.functions.len() as u64));
        return Err(Error::Limit { what, limit: MAX_FUNCTIONS as u64 });
    }
    let mut reader = Reader { externals, options, nodes: 0, opsets, in_function: false };
    let graph = reader.graph(graph, 0)?;
    let opsets = reader.opsets.clone();
    let mut functions = Vec::new();
    let mut ids = HashSet::new();
    for function in proto.functions {
        let function = read_function(&mut reader, function)?;
        if !ids.insert(function.id.clone()) {
            return Err(Error::invalid(format!("function {} is defined twice", function.id)));
        }
        functions.push(function);
    }
    let pair = |entry: proto::StringStringEntryProto| {
        (entry.key.unwrap_or_default(), entry.value.unwrap_or_default())
    };
    Ok(Model {
        ir_version: proto.ir_version.unwrap_or(0),
        producer_name: proto.producer_name.unwrap_or_default(),
        producer_version: proto.producer_version.unwrap_or_default(),
        domain: proto.domain.unwrap_or_default(),
        model_version: proto.model_version.unwrap_or(0),
        doc: proto.doc_string.unwrap_or_default(),
        metadata: proto.metadata_props.into_iter().map(pair).collect(),
        opsets,
        functions,
        graph,
    })
}

/// The versions by domain, those of `ai.onnx` checked.
pub(super) fn opset_versions(imports: &[OperatorSetIdProto]) -> Result<BTreeMap<String, i64>> {
    let mut versions = BTreeMap::new();
    for import in imports {
        let domain = domain_of(import.domain());
        let version = check_opset(&domain, import.version())?;
        if versions.insert(domain, version).is_some_and(|other| other != version) {
            let domain = Quoted(import.domain());
            return Err(Error::invalid(format!("two versions of the domain {domain} are imported")));
        }
    }
    Ok(versions)
}

/// Versions before the first supported one are left to each node: most operators did not change.
fn check_opset(domain: &str, version: i64) -> Result<i64> {
    if domain.is_empty() && !(1..=*SUPPORTED_OPSETS.end()).contains(&version) {
        return Err(Error::Opset { domain: String::new(), version, known: SUPPORTED_OPSETS });
    }
    Ok(version)
}

/// The domain of ONNX's own operators has two spellings; here it is always the empty one.
pub(super) fn domain_of(domain: &str) -> String {
    if domain == "ai.onnx" { String::new() } else { domain.to_owned() }
}

/// Reads the parts of one model and keeps count.
pub(super) struct Reader<'a> {
    pub(super) externals: Externals<'a>,
    options: &'a ReadOptions,
    nodes: usize,
    /// The versions that hold for the nodes being read.
    pub(super) opsets: BTreeMap<String, i64>,
    pub(super) in_function: bool,
}

impl Reader<'_> {
    pub(super) fn graph(&mut self, proto: GraphProto, depth: usize) -> Result<GraphModel> {
        if depth > MAX_BODY_DEPTH {
            let what = format!("bodies nested {depth} deep");
            return Err(Error::Limit { what, limit: MAX_BODY_DEPTH as u64 });
        }
        let mut graph = GraphModel {
            name: proto.name.unwrap_or_default(),
            inputs: values(proto.input, "an input")?,
            outputs: values(proto.output, "an output")?,
            ..GraphModel::default()
        };
        let inputs: HashSet<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
        let dense =
            proto.initializer.into_iter().map(|proto| tensor(proto, &mut self.externals)).collect::<Vec<_>>();
        let sparse = proto.sparse_initializer.into_iter().map(|proto| sparse(proto, &mut self.externals));
        for tensor in dense.into_iter().chain(sparse) {
            let tensor = tensor?;
            if tensor.name().is_empty() {
                return Err(Error::invalid("an initializer has no name"));
            }
            let also_input = inputs.contains(tensor.name());
            graph.initializers.push(Initializer { tensor, also_input });
        }
        graph.nodes = self.nodes(proto.node, depth)?;
        // Mere hints: those without a name say nothing.
        let hints = proto.value_info.into_iter().filter(|hint| !hint.name().is_empty()).collect();
        graph.value_infos = values(hints, "a value")?;
        settle(&mut graph, if depth == 0 { Place::Outer } else { Place::Body })?;
        Ok(graph)
    }

    pub(super) fn nodes(&mut self, protos: Vec<NodeProto>, depth: usize) -> Result<Vec<Node>> {
        self.nodes = self.nodes.saturating_add(protos.len());
        if self.nodes > self.options.max_nodes {
            let what = format!("{} nodes", Grouped(self.nodes as u64));
            return Err(Error::Limit { what, limit: self.options.max_nodes as u64 });
        }
        let mut names: HashSet<String> = protos.iter().filter_map(|node| node.name.clone()).collect();
        let mut nodes = Vec::with_capacity(protos.len());
        for (index, proto) in protos.into_iter().enumerate() {
            let node = self.node(proto, index, &mut names, depth)?;
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn node(
        &mut self,
        proto: NodeProto,
        index: usize,
        names: &mut HashSet<String>,
        depth: usize,
    ) -> Result<Node> {
        let op_type = proto.op_type.unwrap_or_default();
        let outputs = optional_names(proto.output);
        let name = match proto.name {
            Some(name) if !name.is_empty() => name,
            _ => make_name(&op_type, outputs.iter().flatten().next(), index, names),
        };
        if op_type.is_empty() {
            return Err(Error::invalid(format!("node {} has no op type", Quoted(&name))));
        }
        let domain = domain_of(&proto.domain.unwrap_or_default());
        let opset = match self.opsets.get(&domain) {
            Some(&version) => version,
            None if domain.is_empty() => {
                let (op_type, name) = (Escaped(&op_type), Quoted(&name));
                return Err(Error::invalid(format!("{op_type} {name} is of ai.onnx, which is not imported")));
            }
            None => 0,
        };
        let mut node = Node {
            name,
            op_type,
            domain,
            overload: proto.overload.unwrap_or_default(),
            opset,
            inputs: optional_names(proto.input),
            outputs,
            attributes: Attributes::default(),
        };
        for attribute in proto.attribute {
            let name = attribute.name().to_owned();
            let value = self.attribute(&node, attribute, depth)?;
            if node.attributes.insert(name.clone(), value).is_some() {
                return Err(node.attribute_error(&name, "is given twice"));
            }
        }
        modernise(&mut node)?;
        Ok(node)
    }

    /// Reads the value of an attribute; `node` is for messages.
    pub(super) fn attribute(
        &mut self,
        node: &Node,
        proto: AttributeProto,
        depth: usize,
    ) -> Result<Attribute> {
        let name = proto.name().to_owned();
        if name.is_empty() {
            return Err(node.error("an attribute has no name"));
        }
        if !proto.ref_attr_name().is_empty() {
            return if self.in_function {
                Ok(Attribute::Reference(proto.ref_attr_name().to_owned()))
            } else {
                Err(node.attribute_error(&name, "refers to a function's attribute, outside of a function"))
            };
        }
        let missing = || node.attribute_error(&name, "has no value");
        let texts = |texts: Vec<Vec<u8>>| texts.into_iter().map(Bytes::from).collect();
        Ok(match attribute_type(&proto) {
            AttributeType::Undefined => return Err(missing()),
            AttributeType::Float => Attribute::Float(proto.f.unwrap_or(0.0)),
            AttributeType::Int => Attribute::Int(proto.i.unwrap_or(0)),
            AttributeType::String => Attribute::String(proto.s.unwrap_or_default().into()),
            AttributeType::Tensor => {
                Attribute::Tensor(tensor(proto.t.ok_or_else(missing)?, &mut self.externals)?)
            }
            AttributeType::SparseTensor => Attribute::SparseTensor(sparse(
                proto.sparse_tensor.ok_or_else(missing)?,
                &mut self.externals,
            )?),
            AttributeType::Graph => {
                Attribute::Graph(Arc::new(self.graph(proto.g.ok_or_else(missing)?, depth + 1)?))
            }
            AttributeType::TypeProto => Attribute::Type(value_type(&name, proto.tp.as_ref())?),
            AttributeType::Floats => Attribute::Floats(proto.floats.into()),
            AttributeType::Ints => Attribute::Ints(proto.ints.into()),
            AttributeType::Strings => Attribute::Strings(texts(proto.strings)),
            AttributeType::Tensors => Attribute::Tensors(
                proto
                    .tensors
                    .into_iter()
                    .map(|proto| tensor(proto, &mut self.externals))
                    .collect::<Result<_>>()?,
            ),
            AttributeType::SparseTensors => Attribute::SparseTensors(
                proto
                    .sparse_tensors
                    .into_iter()
                    .map(|proto| sparse(proto, &mut self.externals))
                    .collect::<Result<_>>()?,
            ),
            AttributeType::Graphs => Attribute::Graphs(
                proto.graphs.into_iter().map(|proto| self.graph(proto, depth + 1)).collect::<Result<_>>()?,
            ),
            AttributeType::TypeProtos => Attribute::Types(
                proto
                    .type_protos
                    .iter()
                    .map(|proto| value_type(&name, Some(proto)))
                    .collect::<Result<_>>()?,
            ),
        })
    }
}

/// The declared type of an attribute, or, in the first version of the format, which had none, that of its value.
fn attribute_type(proto: &AttributeProto) -> AttributeType {
    let declared = proto.r#type.and_then(|number| AttributeType::try_from(number).ok());
    match declared {
        Some(declared) if declared != AttributeType::Undefined => declared,
        _ if proto.f.is_some() => AttributeType::Float,
        _ if proto.i.is_some() => AttributeType::Int,
        _ if proto.s.is_some() => AttributeType::String,
        _ if proto.t.is_some() => AttributeType::Tensor,
        _ if proto.g.is_some() => AttributeType::Graph,
        _ if !proto.floats.is_empty() => AttributeType::Floats,
        _ if !proto.ints.is_empty() => AttributeType::Ints,
        _ if !proto.strings.is_empty() => AttributeType::Strings,
        _ if !proto.tensors.is_empty() => AttributeType::Tensors,
        _ if !proto.graphs.is_empty() => AttributeType::Graphs,
        _ => AttributeType::Undefined,
    }
}

/// Empty names mean that an optional value is left out; at the end they mean nothing at all.
fn optional_names(names: Vec<String>) -> Vec<Option<String>> {
    let mut names: Vec<Option<String>> =
        names.into_iter().map(|name| (!name.is_empty()).then_some(name)).collect();
    while names.last().is_some_and(Option::is_none) {
        names.pop();
    }
    names
}

/// A name for a node that has none, from its operator and its first output.
fn make_name(op_type: &str, output: Option<&String>, index: usize, names: &mut HashSet<String>) -> String {
    let mut name = match output {
        Some(output) => format!("{op_type}_{output}"),
        None => format!("{op_type}_{index}"),
    };
    while names.contains(&name) {
        name.push('_');
    }
    names.insert(name.clone());
    name
}

fn values(protos: Vec<proto::ValueInfoProto>, what: &str) -> Result<Vec<ValueInfo>> {
    let read = |proto: proto::ValueInfoProto| match proto.name {
        Some(name) if !name.is_empty() => {
            let ty = value_type(&name, proto.r#type.as_ref())?;
            Ok(ValueInfo { name, ty })
        }
        _ => Err(Error::invalid(format!("{what} has no name"))),
    };
    protos.into_iter().map(read).collect()
}

/// A declared type; `name` is for messages.
fn value_type(name: &str, proto: Option<&proto::TypeProto>) -> Result<ValueType> {
    use proto::type_proto::Value;
    Ok(match proto.and_then(|proto| proto.value.as_ref()) {
        None => ValueType::Unknown,
        Some(Value::TensorType(tensor)) => ValueType::Tensor {
            element: element_type(name, tensor.elem_type.unwrap_or(0))?,
            dims: tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect()),
        },
        Some(Value::SequenceType(sequence)) => {
            ValueType::Sequence(Box::new(value_type(name, sequence.elem_type.as_deref())?))
        }
        Some(Value::MapType(_)) => ValueType::Other("map"),
        Some(Value::OptionalType(optional)) => {
            ValueType::Optional(Box::new(value_type(name, optional.elem_type.as_deref())?))
        }
        Some(Value::SparseTensorType(_)) => ValueType::Other("sparse tensor"),
        Some(Value::OpaqueType(_)) => ValueType::Other("opaque"),
    })
}

fn element_type(name: &str, number: i32) -> Result<Option<DataType>> {
    if number == 0 { Ok(None) } else { data_type(name, number).map(Some) }
}

fn dim(proto: &proto::tensor_shape_proto::Dimension) -> Dim {
    use proto::tensor_shape_proto::dimension::Value;
    match &proto.value {
        Some(Value::DimValue(length)) => usize::try_from(*length).map_or(Dim::Unknown, Dim::Known),
        // Some exporters write «?» for each length that they do not know.
        Some(Value::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Symbol(name.clone()),
        Some(Value::DimParam(_)) | None => Dim::Unknown,
    }
}
