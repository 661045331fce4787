//! `docs/conformance.md` says what the manifests say. `GRADC_BLESS=1` prints it and writes it anew.

use gradc_frontend_onnx::proto::{GraphProto, ModelProto, TypeProto, type_proto};
use gradc_tests::scoreboard::{Types, folder, page, types_text};
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;

fn blesses() -> bool {
    std::env::var_os("GRADC_BLESS").is_some()
}

#[test]
fn the_page_says_what_the_manifests_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let page = page();
    if blesses() {
        eprintln!("{page}");
        std::fs::write(&path, &page).expect("the page can be written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let pairs = written.lines().zip(page.lines()).find(|(written, current)| written != current);
    assert!(
        written == page,
        "docs/conformance.md is stale: {pairs:?}; GRADC_BLESS=1 cargo test -p gradc-tests --test scoreboard"
    );
}

/// `tests/conformance/types.txt` says of each node test what the file says; where the files are at hand.
#[test]
fn the_types_of_node_tests() {
    let folders = std::env::var("GRADC_ONNX_TESTS").unwrap_or_default();
    let Some(node) = folders.split(':').map(Path::new).find(|folder| folder.ends_with("node")) else {
        eprintln!("skipped: GRADC_ONNX_TESTS does not name the folder of ONNX's node tests");
        return;
    };
    let mut types = BTreeMap::new();
    for entry in std::fs::read_dir(node).expect("the folder of tests can be read") {
        let path = entry.expect("the folder can be listed").path();
        let Ok(bytes) = std::fs::read(path.join("model.onnx")) else { continue };
        let model = ModelProto::decode(bytes.as_slice()).expect("ONNX's models can be decoded");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        types.insert(name, model.graph.as_ref().map_or(Types::Core, of_graph));
    }
    assert_eq!(types.len(), 1765, "the node tests of onnx 1.22.0");
    let text = types_text(&types);
    if blesses() {
        std::fs::write(folder().join("types.txt"), &text).expect("the list can be written");
    }
    assert_eq!(std::fs::read_to_string(folder().join("types.txt")).unwrap_or_default(), text);
}

fn of_graph(graph: &GraphProto) -> Types {
    let of_type = |ty: Option<&TypeProto>| match ty.and_then(|ty| ty.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => of_number(tensor.elem_type.unwrap_or_default()),
        _ => Types::Special,
    };
    let values = graph.input.iter().chain(&graph.output).map(|value| of_type(value.r#type.as_ref()));
    let weights = graph.initializer.iter().map(|tensor| of_number(tensor.data_type.unwrap_or_default()));
    values.chain(weights).max().unwrap_or(Types::Core)
}

/// By the numbers of the protobuf format.
fn of_number(number: i32) -> Types {
    match number {
        1 | 6 | 7 | 9 | 11 => Types::Core,
        2..=5 | 10 | 12 | 13 | 16 => Types::Plain,
        _ => Types::Special,
    }
}
