//! Files that are not models, and models that contradict themselves.

use crate::build::*;
use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto};
use gradc_frontend_onnx::{Error, ExternalData, Model, ReadOptions};
use prost::Message;

fn from_bytes(bytes: &[u8]) -> Result<Model, Error> {
    Model::from_bytes(bytes.to_vec(), ExternalData::None)
}

fn chain() -> ModelProto {
    model(graph("x", "z", vec![node("Relu", "a", "x", "y"), node("Relu", "b", "y", "z")]))
}

#[test]
fn other_kinds_of_files_are_recognised() {
    let cases: [(&[u8], &str, &str); 7] = [
        (b"", "it is empty", "its download or export failed: do it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
            "it starts with «version https://git-lfs»: this is a Git LFS pointer",
            "run git lfs pull",
        ),
        (
            b"PK\x03\x04....",
            "it starts with «PK»: this is a zip archive",
            "unpack it, and name the .onnx file in it",
        ),
        (
            b"\n<!DOCTYPE html><html>",
            "it is a web page (HTML)",
            "download the file itself, not the page that shows it",
        ),
        (
            b"\xef\xbb\xbf<HTML>",
            "it is a web page (HTML)",
            "download the file itself, not the page that shows it",
        ),
        (
            b"\x93NUMPY\x01\x00",
            "it starts with «\\x93NUMPY»: this is an array",
            "did you swap the arguments?",
        ),
        (
            b"hello",
            "it is not valid protobuf (invalid wire type: EndGroup (expected Varint)",
            "it may be damaged, or another kind of file: download it again",
        ),
    ];
    for (bytes, reason, help) in cases {
        let error = from_bytes(bytes).expect_err(reason);
        assert_eq!(error.code(), "GC0302");
        let message = error.to_string();
        if !message.starts_with(&format!("the model is not an ONNX model: {reason}")) {
            assert!(message.contains("it is not valid protobuf") && bytes == b"hello", "{message}");
        }
        assert_eq!(error.help(), help);
    }
}

#[test]
fn a_cut_off_file_is_named_with_its_end() {
    let bytes = ModelProto { producer_name: text("p"), ..chain() }.encode_to_vec();
    let graph_start = 2 + 3;
    let cut = &bytes[..bytes.len() - 8];
    let error = from_bytes(cut).expect_err("cut off");
    let message = error.to_string();
    let start = format!(
        "the model is not an ONNX model: protobuf ends in the middle of a field at byte {} (the field starts at byte",
        cut.len()
    );
    assert!(message.starts_with(&start), "{message}");
    assert!(message.contains(&format!("byte {graph_start}")), "{message}");
    assert_eq!(error.help(), "it looks cut off: download it again");
}

#[test]
fn no_cut_and_no_flipped_byte_panics() {
    let mut model = chain();
    model.functions = vec![function("F", "x", "y", vec![node("Relu", "", "x", "y")])];
    if let Some(graph) = &mut model.graph {
        graph.initializer = vec![f32_tensor("w", &[1.0, 2.0])];
    }
    let bytes = model.encode_to_vec();
    let mut failures = 0;
    for end in 0..bytes.len() {
        failures += usize::from(from_bytes(&bytes[..end]).is_err());
    }
    assert!(failures > bytes.len() / 2, "{failures} of {} cuts fail", bytes.len());
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            if let Ok(model) = from_bytes(&flipped) {
                let _ = gradc_frontend_onnx::model::inline_functions(&model, &ReadOptions::default());
            }
        }
    }
}

#[test]
fn deep_protobuf_is_an_error() {
    let mut inner = graph("", "", vec![]);
    for _ in 0..60 {
        inner = graph("", "", vec![node("If", "", "", "y").with(body("then_branch", inner))]);
    }
    let error = read(&model(inner)).expect_err("too deep");
    assert!(
        error.to_string().ends_with("it is not valid protobuf (recursion limit reached in GraphProto.node)"),
        "{error}"
    );
}

#[test]
fn bodies_have_a_depth_limit() {
    let mut inner = graph("", "", vec![]);
    for _ in 0..40 {
        inner = graph("", "", vec![node("If", "", "", "y").with(body("then_branch", inner))]);
    }
    let result = Model::from_proto(model(inner), ExternalData::None, &ReadOptions::default());
    expect(result, "GC0311", "the model has bodies nested 33 deep; the limit is 32");
}

#[test]
fn a_file_without_a_graph() {
    expect(read(&ModelProto { graph: None, ..chain() }), "GC0306", "the model holds no graph");
}

#[test]
fn a_file_that_is_not_there() {
    let error = Model::open("/nonexistent/model.onnx").expect_err("not there");
    assert_eq!(error.code(), "GC0312");
    let error = Model::open(env!("CARGO_MANIFEST_DIR")).expect_err("a folder");
    assert_eq!(error.code(), "GC0312");
}

#[test]
fn opsets_that_are_not_known() {
    let with = |version| read(&ModelProto { opset_import: vec![opset("ai.onnx", version)], ..chain() });
    expect(with(0), "GC0303", "the model uses opset 0 of ai.onnx, known are 7 to 28");
    expect(with(29), "GC0303", "the model uses opset 29 of ai.onnx, known are 7 to 28");
    assert!(with(0).expect_err("old").help().contains("convert_version(model, 7)"));
    assert!(with(29).expect_err("new").help().contains("opset 28 or lower"));
    assert!(with(7).is_ok() && with(28).is_ok());
    let none = ModelProto { opset_import: vec![], ..chain() };
    expect(read(&none), "GC0307", "invalid model: Relu «a» is of ai.onnx, which is not imported");
    let old = ModelProto { ir_version: Some(2), ..none };
    assert_eq!(read(&old).expect("a model").opsets.get(""), Some(&1));
    let two = ModelProto { opset_import: vec![opset("", 17), opset("ai.onnx", 18)], ..chain() };
    expect(read(&two), "GC0307", "invalid model: two versions of the domain «ai.onnx» are imported");
}

#[test]
fn nodes_of_old_opsets_are_read_where_they_mean_the_same() {
    let with = |version, node: NodeProto| {
        let opset_import = vec![opset("", version)];
        read(&ModelProto { opset_import, ..model(graph("x", "y", vec![node])) })
    };
    let relu = with(1, node("Relu", "", "x", "y").with(int("consumed_inputs", 0))).expect("a model");
    assert_eq!((relu.graph.nodes[0].opset, relu.graph.nodes[0].attributes.len()), (7, 0));
    let old = |version: i64, node: NodeProto| {
        let message = format!("the model uses opset {version} of ai.onnx, known are 7 to 28");
        expect(with(version, node), "GC0303", &message);
    };
    let add = || node("Add", "", "x x", "y").with(int("broadcast", 1));
    assert!(with(6, add()).is_ok());
    assert_eq!(with(6, add().with(int("axis", 0))).expect("a model").graph.nodes[0].opset, 6);
    assert!(with(6, node("Dropout", "", "x", "y").with(int("is_test", 1))).is_ok());
    old(6, node("Dropout", "", "x", "y"));
    old(6, node("LSTM", "", "x x x", "y"));
    old(4, node("Reshape", "", "x", "y"));
    assert!(with(3, node("Concat", "", "x x", "y").with(int("axis", 0))).is_ok());
    old(3, node("Concat", "", "x x", "y"));
}

#[test]
fn names_that_contradict() {
    let cases = [
        (graph("x x", "x", vec![]), "two inputs are named «x»"),
        (graph("x", "y", vec![]), "the list of outputs uses «y», which nothing defines"),
        (graph("x", "y", vec![node("Add", "a", "x w", "y")]), "Add «a» uses «w», which nothing defines"),
        (
            graph("x", "y", vec![node("Relu", "a", "x", "y"), node("Abs", "b", "x", "y")]),
            "«y» is defined by Abs «b» and again by Relu «a»",
        ),
        (
            graph("x", "x", vec![node("Relu", "a", "x", "x")]),
            "«x» is defined by Relu «a» and again as an input",
        ),
        (
            GraphProto {
                initializer: vec![f32_tensor("w", &[1.0]), f32_tensor("w", &[2.0])],
                ..graph("x", "x", vec![])
            },
            "two initializers are named «w»",
        ),
        (
            GraphProto {
                initializer: vec![f32_tensor("w", &[1.0])],
                ..graph("x", "w", vec![node("Relu", "a", "x", "w")])
            },
            "«w» is defined by Relu «a» and again as an initializer",
        ),
        (
            GraphProto { initializer: vec![f32_tensor("", &[1.0])], ..graph("x", "x", vec![]) },
            "an initializer has no name",
        ),
        (
            graph("x", "y", vec![NodeProto { op_type: None, ..node("", "a", "x", "y") }]),
            "node «a» has no op type",
        ),
        (GraphProto { input: vec![Default::default()], ..graph("", "", vec![]) }, "an input has no name"),
    ];
    for (graph, message) in cases {
        expect(read(&model(graph)), "GC0307", &format!("invalid model: {message}"));
    }
}

#[test]
fn a_cycle_is_named() {
    let nodes = vec![
        node("Relu", "in", "x", "p"),
        node("Add", "a", "p d", "b"),
        node("Relu", "b", "b", "c"),
        node("Relu", "c", "c", "d"),
        node("Relu", "after", "d", "y"),
    ];
    let message = "invalid model: nodes depend on each other in a cycle: «b» → «c» → «a» → «b»";
    expect(read(&model(graph("x", "y", nodes))), "GC0307", message);
    let itself = vec![node("Relu", "a", "y", "y")];
    let message = "invalid model: nodes depend on each other in a cycle: «a» → «a»";
    expect(read(&model(graph("x", "y", itself))), "GC0307", message);
}

#[test]
fn a_cycle_through_a_body_is_named() {
    let inner = graph("", "o", vec![node("Relu", "", "z", "o")]);
    let nodes = vec![
        node("If", "choose", "x", "y").with(body("then_branch", inner)),
        node("Relu", "after", "y", "z"),
    ];
    let message = "invalid model: nodes depend on each other in a cycle: «after» → «choose» → «after»";
    expect(read(&model(graph("x", "z", nodes))), "GC0307", message);
}

#[test]
fn attributes_that_contradict() {
    let with = |attributes: &[_]| {
        let relu = attributes.iter().cloned().fold(node("Relu", "a", "x", "y"), NodeExt::with);
        read(&model(graph("x", "y", vec![relu])))
    };
    let missing = attribute("t", AttributeType::Tensor);
    expect(with(&[missing]), "GC0309", "Relu «a»: attribute «t» has no value");
    let none = attribute("u", AttributeType::Undefined);
    expect(with(&[none]), "GC0309", "Relu «a»: attribute «u» has no value");
    expect(with(&[int("i", 1), int("i", 2)]), "GC0309", "Relu «a»: attribute «i» is given twice");
    expect(with(&[int("", 1)]), "GC0310", "Relu «a»: an attribute has no name");
    let outside = reference("r", "alpha", AttributeType::Float);
    let message = "Relu «a»: attribute «r» refers to a function's attribute, outside of a function";
    expect(with(&[outside]), "GC0309", message);
}

#[test]
fn getters_name_node_and_attribute() {
    let relu = node("Relu", "a", "x", "y").with(int("i", 3)).of("com.example");
    let model = read(&model(graph("x", "y", vec![relu]))).expect("a model");
    let relu = &model.graph.nodes[0];
    assert_eq!(relu.int("i", 0), Ok(3));
    assert_eq!(relu.int("j", 7), Ok(7));
    assert_eq!(relu.ints("j"), Ok(None));
    expect(relu.float("i", 0.0), "GC0309", "com.example.Relu «a»: attribute «i» is an int, not a float");
    expect(relu.graph("body"), "GC0309", "com.example.Relu «a»: attribute «body» is missing");
}

#[test]
fn nodes_are_counted() {
    assert!(read_limited(&chain(), 2).is_ok());
    expect(read_limited(&chain(), 1), "GC0311", "the model has 2 nodes; the limit is 1");
}

#[test]
fn names_from_files_are_escaped() {
    let hostile = vec![node("Relu", "\u{1b}]0;x\u{7}\u{202e}", "w", "y")];
    let message = "invalid model: Relu «\\u{1b}]0;x\\u{7}\\u{202e}» uses «w», which nothing defines";
    expect(read(&model(graph("x", "y", hostile))), "GC0307", message);
    let long = "n".repeat(100_000);
    let error = read(&model(graph("x", "y", vec![node("Relu", &long, "w", "y")]))).expect_err("undefined");
    assert!(error.to_string().len() < 400);
}

#[test]
fn metadata_is_kept() {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: text(key), value: text(value) };
    let proto = ModelProto {
        producer_name: text("tool"),
        producer_version: text("1.2"),
        domain: text("org.example"),
        model_version: Some(3),
        doc_string: text("about"),
        metadata_props: vec![entry("b", "1"), entry("a", "2")],
        opset_import: vec![opset("", 18), opset("com.microsoft", 1), opset("ai.onnx.ml", 99)],
        ..chain()
    };
    let model = read(&proto).expect("a model");
    assert_eq!((model.ir_version, model.model_version), (10, 3));
    assert_eq!((model.producer_name.as_str(), model.producer_version.as_str()), ("tool", "1.2"));
    assert_eq!((model.domain.as_str(), model.doc.as_str()), ("org.example", "about"));
    assert_eq!(model.metadata[0], ("b".to_owned(), "1".to_owned()));
    assert_eq!(model.opsets.get("com.microsoft"), Some(&1));
    assert_eq!(model.opsets.get(""), Some(&18));
}
