//! `src/proto.rs` is what `proto/onnx-ml.proto` generates, byte for byte.
//!
//! `GRADC_BLESS=1 cargo test -p gradc-frontend-onnx --test generated` rewrites it.

use std::path::{Path, PathBuf};

const HEADER: &str = "// @generated from proto/onnx-ml.proto (Apache-2.0, the ONNX project). Do not edit:\n\
                      // GRADC_BLESS=1 cargo test -p gradc-frontend-onnx --test generated\n\n";

/// A folder of our own under the target directory, so that parallel runs do not meet.
fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proto-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("scratch folder");
    folder
}

#[test]
fn proto_rs_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([root.join("proto/onnx-ml.proto")], [root.join("proto")])
        .expect("onnx-ml.proto parses");
    let folder = scratch();
    prost_build::Config::new()
        .out_dir(&folder)
        .bytes([".onnx.TensorProto.raw_data"])
        .disable_comments(["."])
        .compile_fds(files)
        .expect("code is generated");
    let generated = std::fs::read_to_string(folder.join("onnx.rs")).expect("generated file");
    std::fs::remove_dir_all(&folder).expect("scratch folder is removed");
    let generated = format!("{HEADER}{generated}");

    let checked_in = root.join("src/proto.rs");
    if std::env::var_os("GRADC_BLESS").is_some() {
        std::fs::write(&checked_in, &generated).expect("src/proto.rs is written");
    }
    let current = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(current == generated, "src/proto.rs is stale: run this test with GRADC_BLESS=1");
}
