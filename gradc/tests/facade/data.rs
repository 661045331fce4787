//! The model file of the documentation's examples is what the code here makes.

/// To write the file anew: `GRADC_WRITE=1 cargo test -p gradc --test facade`.
#[test]
fn the_models_are_as_generated() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/classifier.onnx");
    let bytes = crate::support::classifier().bytes();
    if std::env::var_os("GRADC_WRITE").is_some() {
        std::fs::write(path, &bytes).unwrap();
    }
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}
