//! The models of ONNX's own node tests, where a folder with them is at hand.

use gradc_frontend_onnx::model::inline_functions;
use gradc_frontend_onnx::{Model, ReadOptions};
use std::path::PathBuf;

/// `GRADC_ONNX_NODE_TESTS` is the folder `onnx/backend/test/data/node` of an unpacked onnx package.
#[test]
fn every_node_test_is_read() {
    let Some(folder) = std::env::var_os("GRADC_ONNX_NODE_TESTS") else {
        eprintln!("skipped: GRADC_ONNX_NODE_TESTS is not set");
        return;
    };
    let mut models: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder is readable")
        .map(|entry| entry.expect("the folder is readable").path().join("model.onnx"))
        .filter(|path| path.exists())
        .collect();
    models.sort();
    let mut failures = Vec::new();
    for path in &models {
        let result = Model::open(path).and_then(|model| inline_functions(&model, &ReadOptions::default()));
        if let Err(error) = result {
            failures.push(format!("{}: {} {error}", path.display(), error.code()));
        }
    }
    eprintln!("{} of {} models are read", models.len() - failures.len(), models.len());
    assert!(models.len() > 1000, "{} models in the folder", models.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
