//! Graphs: order, names, bodies, types.

use crate::build::*;
use gradc_frontend_onnx::model::{Attribute, DataType, Dim, Node, ValueType};
use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value;
use gradc_frontend_onnx::proto::{
    AttributeProto, GraphProto, SparseTensorProto, TensorProto, TypeProto, ValueInfoProto, type_proto,
};

fn names(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.name.as_str()).collect()
}

#[test]
fn nodes_are_sorted_and_keep_the_files_order_where_they_can() {
    let nodes = vec![
        node("Relu", "last", "c", "y"),
        node("Relu", "first", "x", "a"),
        node("Relu", "second", "x", "b"),
        node("Add", "third", "a b", "c"),
    ];
    let sorted = read(&model(graph("x", "y", nodes))).expect("a model");
    assert_eq!(names(&sorted.graph.nodes), ["first", "second", "third", "last"]);
    let nodes = vec![node("Relu", "2", "x", "b"), node("Relu", "1", "x", "a"), node("Add", "0", "a b", "y")];
    let kept = read(&model(graph("x", "y", nodes))).expect("a model");
    assert_eq!(names(&kept.graph.nodes), ["2", "1", "0"]);
}

#[test]
fn names_are_made_where_the_file_has_none() {
    let nodes = vec![
        node("Relu", "Abs_b", "x", "a"),
        node("Abs", "", "x", "b"),
        node("Neg", "", "x", "c"),
        node("Neg", "", "x", ""),
        node("Sum", "same", "x", "d"),
        node("Sum", "same", "x", "y"),
    ];
    let model = read(&model(graph("x", "y", nodes))).expect("a model");
    assert_eq!(names(&model.graph.nodes), ["Abs_b", "Abs_b_", "Neg_c", "Neg_3", "same", "same"]);
}

#[test]
fn values_left_out_are_none_and_trailing_ones_dropped() {
    let nodes = vec![node("Clip", "", "x _ x _", "y _")];
    let model = read(&model(graph("x", "y", nodes))).expect("a model");
    let clip = &model.graph.nodes[0];
    assert_eq!(clip.inputs, [Some("x".to_owned()), None, Some("x".to_owned())]);
    assert_eq!(clip.outputs.len(), 1);
    assert_eq!((clip.input(0), clip.input(1), clip.input(9)), (Some("x"), None, None));
}

#[test]
fn initializers_and_inputs() {
    let graph = GraphProto {
        initializer: vec![f32_tensor("w", &[1.0]), f32_tensor("v", &[2.0])],
        ..graph("x w", "w", vec![])
    };
    let model = read(&model(graph)).expect("a model");
    let also: Vec<_> = model.graph.initializers.iter().map(|i| (i.name(), i.also_input)).collect();
    assert_eq!(also, [("w", true), ("v", false)]);
    let required: Vec<_> = model.graph.required_inputs().map(|input| input.name.as_str()).collect();
    assert_eq!(required, ["x"]);
    assert!(model.graph.initializer("v").is_some() && model.graph.initializer("x").is_none());
}

#[test]
fn declared_types() {
    let dims = vec![
        dim(Value::DimValue(3)),
        dim(Value::DimParam("batch".to_owned())),
        dim(Value::DimValue(-1)),
        dim(Value::DimParam(String::new())),
        Default::default(),
    ];
    let sequence =
        TypeProto { value: Some(type_proto::Value::SequenceType(Default::default())), denotation: None };
    let tensor = type_proto::Tensor { elem_type: Some(7), shape: None };
    let no_rank = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    let named = |name: &str, ty| ValueInfoProto { name: text(name), r#type: ty, ..Default::default() };
    let graph = GraphProto {
        input: vec![
            typed_value("a", 10, dims),
            named("b", Some(sequence)),
            named("c", Some(no_rank)),
            named("d", None),
        ],
        ..graph("", "a", vec![])
    };
    let model = read(&model(graph)).expect("a model");
    let types: Vec<_> = model.graph.inputs.iter().map(|input| input.ty.clone()).collect();
    let dims = vec![Dim::Known(3), Dim::Symbol("batch".to_owned()), Dim::Unknown, Dim::Unknown, Dim::Unknown];
    assert_eq!(types[0], ValueType::Tensor { element: Some(DataType::F16), dims: Some(dims) });
    assert_eq!(types[1], ValueType::Sequence(Box::new(ValueType::Unknown)));
    assert_eq!(types[2], ValueType::Tensor { element: Some(DataType::I64), dims: None });
    assert_eq!(types[3], ValueType::Unknown);
}

#[test]
fn an_unknown_element_type_is_an_error() {
    let graph = GraphProto { input: vec![typed_value("x", 77, vec![])], ..graph("", "", vec![]) };
    expect(read(&model(graph)), "GC0308", "tensor «x»: its element type 77 is not known");
}

#[test]
fn bodies_capture_names_from_around_them() {
    let innermost = graph("", "o", vec![node("Add", "", "x t", "o")]);
    let then_branch = graph(
        "",
        "p",
        vec![
            node("Relu", "", "later", "t"),
            node("If", "inner", "c", "p").with(body("then_branch", innermost)),
        ],
    );
    let nodes = vec![
        node("If", "outer", "c", "y").with(body("then_branch", then_branch)),
        node("Relu", "producer", "x", "later"),
    ];
    let model = read(&model(graph("x c", "y", nodes))).expect("a model");
    // The body needs what a later node makes, so that node goes first.
    assert_eq!(names(&model.graph.nodes), ["producer", "outer"]);
    assert!(model.graph.captures.is_empty());
    let then_branch = model.graph.nodes[1].graph("then_branch").expect("a body");
    assert_eq!(then_branch.captures, ["later", "c", "x"]);
    assert_eq!(then_branch.nodes[1].graph("then_branch").expect("a body").captures, ["x", "t"]);
    // An output of a body may be a value from around it.
    let direct = node("If", "", "c", "y").with(body("then_branch", graph("", "x", vec![])));
    let model = read(&crate::build::model(graph("x c", "y", vec![direct]))).expect("a model");
    assert_eq!(model.graph.nodes[0].graph("then_branch").expect("a body").captures, ["x"]);
}

#[test]
fn all_kinds_of_attributes() {
    let sparse = SparseTensorProto {
        values: Some(f32_tensor("s", &[5.0])),
        indices: Some(TensorProto {
            data_type: Some(7),
            dims: vec![1],
            int64_data: vec![2],
            ..Default::default()
        }),
        dims: vec![3],
    };
    let kinds = [
        AttributeProto { f: Some(1.5), ..attribute("float", AttributeType::Float) },
        int("int", -2),
        AttributeProto { s: Some(b"SAME".to_vec()), ..attribute("string", AttributeType::String) },
        AttributeProto { t: Some(f32_tensor("", &[1.0])), ..attribute("tensor", AttributeType::Tensor) },
        body("graph", graph("", "", vec![])),
        AttributeProto { floats: vec![1.0, 2.0], ..attribute("floats", AttributeType::Floats) },
        AttributeProto { ints: vec![1, 2], ..attribute("ints", AttributeType::Ints) },
        AttributeProto {
            strings: vec![b"a".to_vec(), vec![0xff]],
            ..attribute("strings", AttributeType::Strings)
        },
        AttributeProto {
            tensors: vec![f32_tensor("", &[1.0])],
            ..attribute("tensors", AttributeType::Tensors)
        },
        AttributeProto { graphs: vec![graph("", "", vec![])], ..attribute("graphs", AttributeType::Graphs) },
        AttributeProto {
            sparse_tensor: Some(sparse.clone()),
            ..attribute("sparse", AttributeType::SparseTensor)
        },
        AttributeProto { sparse_tensors: vec![sparse], ..attribute("sparses", AttributeType::SparseTensors) },
        AttributeProto { tp: Some(TypeProto::default()), ..attribute("type", AttributeType::TypeProto) },
        AttributeProto {
            type_protos: vec![TypeProto::default()],
            ..attribute("types", AttributeType::TypeProtos)
        },
        AttributeProto { s: Some(vec![0xff]), ..attribute("bytes", AttributeType::String) },
        // Version 1 of the format declares no types.
        AttributeProto { name: text("untyped"), ints: vec![4], ..Default::default() },
    ];
    let node = kinds.into_iter().fold(node("Any", "n", "x", "y"), NodeExt::with);
    let model = read(&model(graph("x", "y", vec![node]))).expect("a model");
    let node = &model.graph.nodes[0];
    assert_eq!(node.float("float", 0.0), Ok(1.5));
    assert_eq!(node.int("int", 0), Ok(-2));
    assert_eq!(node.flag("int", false), Ok(true));
    assert_eq!(node.string("string", ""), Ok("SAME"));
    assert_eq!(node.string("other", "NOTSET"), Ok("NOTSET"));
    assert_eq!(node.tensor("tensor").expect("a tensor").expect("a tensor").dims(), [1]);
    assert!(node.graph("graph").is_ok());
    assert_eq!(node.floats("floats"), Ok(Some(&[1.0, 2.0][..])));
    assert_eq!(node.ints("ints"), Ok(Some(&[1, 2][..])));
    assert_eq!(node.ints("untyped"), Ok(Some(&[4][..])));
    assert_eq!(node.strings("strings").expect("strings").expect("strings")[1].as_ref(), [0xff]);
    assert_eq!(
        node.sparse_tensor("sparse").expect("sparse").expect("sparse").bytes()[8..],
        5f32.to_le_bytes()
    );
    assert_eq!(node.value_type("type"), Ok(Some(&ValueType::Unknown)));
    assert!(matches!(node.attribute("tensors"), Some(Attribute::Tensors(list)) if list.len() == 1));
    assert!(matches!(node.attribute("graphs"), Some(Attribute::Graphs(list)) if list.len() == 1));
    assert!(matches!(node.attribute("sparses"), Some(Attribute::SparseTensors(list)) if list.len() == 1));
    assert!(matches!(node.attribute("types"), Some(Attribute::Types(list)) if list.len() == 1));
    expect(node.string("bytes", ""), "GC0309", "Any «n»: attribute «bytes» is not UTF-8");
    assert_eq!(node.attributes.len(), 16);
}

#[test]
fn the_long_name_of_the_standard_domain_is_the_short_one() {
    let model =
        read(&model(graph("x", "y", vec![node("Relu", "", "x", "y").of("ai.onnx")]))).expect("a model");
    let relu = &model.graph.nodes[0];
    assert_eq!((relu.domain.as_str(), relu.opset, relu.qualified_op_type().as_str()), ("", 18, "Relu"));
}

#[test]
fn long_chains_are_read_in_any_order() {
    let count = 100_000;
    let mut nodes: Vec<_> =
        (0..count).map(|i| node("Relu", "", &format!("v{i}"), &format!("v{}", i + 1))).collect();
    nodes.reverse();
    let model = read(&model(graph("v0", &format!("v{count}"), nodes))).expect("a model");
    assert_eq!(model.graph.nodes[0].input(0), Some("v0"));
    assert_eq!(model.graph.nodes.len(), count);
}
