//! What is tried with any bytes: nothing may panic, whatever they are.

use gradc::formats::{Limits, npy, npz};
use gradc_frontend_onnx::{ExternalData, LowerOptions, Model, ReadOptions, lower};

/// Reads a model and lowers it.
pub fn model(data: &[u8]) {
    let options = ReadOptions { max_nodes: 10_000, ..ReadOptions::default() };
    let Ok(model) = Model::from_bytes_with(data.to_vec(), ExternalData::None, &options) else { return };
    let options = LowerOptions { node_limit: 20_000, ..LowerOptions::default() };
    let Ok(lowered) = lower(&model, &options) else { return };
    let outputs: Vec<gradc_ir::Value> = lowered.outputs.iter().map(|(_, value)| *value).collect();
    let graph = lowered.builder.finish(&outputs);
    graph.check().unwrap_or_else(|error| panic!("an ill-formed graph was lowered: {error}\n{graph}"));
}

/// Reads a graph as text: what is read is well-formed, and prints as what reads back as the same.
pub fn gir(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(graph) = gradc_ir::parse(text) else { return };
    graph.check().unwrap_or_else(|error| panic!("an ill-formed graph was read: {error}\n{graph}"));
    let printed = gradc_ir::print(&graph);
    match gradc_ir::parse(&printed) {
        Ok(again) => assert!(again == graph, "comes back as another graph:\n{printed}"),
        Err(error) => panic!("does not read back: {error}\n{printed}"),
    }
}

/// Reads an array: what is read can be written, and reads back as the same.
pub fn npy(data: &[u8]) {
    let Ok(array) = npy::parse("bytes", data.to_vec().into()) else { return };
    let mut written = Vec::new();
    npy::write(&mut written, &array)
        .unwrap_or_else(|error| panic!("an array that was read is not written: {error}"));
    match npy::parse("written", written.into()) {
        Ok(again) => assert!(again == array, "comes back as another array"),
        Err(error) => panic!("does not read back: {error}"),
    }
}

/// Reads all arrays of an archive.
pub fn npz(data: &[u8]) {
    let limits = Limits { array_bytes: 64 << 20 };
    let Ok(mut archive) = npz::Npz::from_bytes("bytes", data.to_vec().into(), &limits) else { return };
    for name in archive.names() {
        if let Ok(array) = archive.get(&name) {
            assert!(array.ty().bytes() <= limits.array_bytes as usize, "{name} is larger than allowed");
        }
    }
}
