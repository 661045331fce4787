//! `gradc bench`: what is told, not how fast it is.

use crate::folder::{Folder, image_model, picture, text_model};
use serde_json::Value;
use std::fs;

fn image() -> Folder {
    let folder = Folder::new();
    folder.model("m.onnx", image_model()).npy("x.npy", &picture());
    folder
}

fn numbers(value: &Value, keys: &[&str]) -> Vec<f64> {
    keys.iter().map(|key| value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))).collect()
}

#[test]
fn times_are_ordered_and_nothing_is_allocated() {
    let folder = image();
    let command =
        "bench m.onnx --input input=@x.npy --target logits:argmax --wrt all --runs 20 --threads 2 --json";
    let json = folder.gradc(command).json();
    assert_eq!(json["schema"], "gradc.bench/1");
    assert_eq!(json["target"], "logits:argmax");
    assert_eq!(json["gradients"], serde_json::json!(["input", "fc.weight", "fc.bias"]));
    assert_eq!(json["threads"], 2);
    for mode in ["forward", "gradient"] {
        let timing = &json[mode];
        assert_eq!(timing["runs"], 20);
        assert_eq!(timing["heap_calls"], 0.0, "{mode}");
        let times = numbers(timing, &["min_ms", "p50_ms", "p90_ms", "p99_ms"]);
        assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    }
    let parts = numbers(&json, &["load_ms", "compile_ms", "first_run_ms", "first_result_ms"]);
    assert!((parts[0] + parts[1] + parts[2] - parts[3]).abs() < 1e-6, "{parts:?}");
    assert!(json["memory"]["peak"].as_u64() > Some(0));
    assert!(json["roof"]["gflops"].as_f64() > Some(0.1));
    assert_eq!(json["roof"]["memory"].as_array().unwrap().len(), 3);
}

#[test]
fn kernels_carry_the_names_of_the_model() {
    let folder = image();
    let json = folder.gradc("bench m.onnx --dim N=7 --target logits:norm --wrt all --runs 5 --json").json();
    let kernels = json["kernels"].as_array().unwrap();
    let product: Vec<&Value> = kernels.iter().filter(|kernel| kernel["kind"] == "gemm").collect();
    assert!(!product.is_empty(), "{kernels:?}");
    for kernel in &product {
        assert_eq!((&kernel["operator"], &kernel["node"]), (&"MatMul".into(), &"/product".into()));
    }
    // Forward, by the input, by the weight: each two operations for each of 7 * 12 * 5 products.
    let operations: u64 = product.iter().map(|kernel| kernel["operations"].as_u64().unwrap()).sum();
    assert_eq!(operations, 3 * 2 * 7 * 12 * 5);
    let share: f64 = kernels.iter().map(|kernel| kernel["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 1e-6, "{share}");
}

#[test]
fn the_table_is_for_people() {
    let folder = image();
    let text = folder.gradc("bench m.onnx --dim N=2 --runs 3 --top 1").ok();
    assert!(text.starts_with("bench    m.onnx · N=2 · 1 thread · d logits:sum / d input\n"), "{text}");
    for part in ["value + gradient", "heap calls a run", "first result after", "arena", "GFLOP/s", "(--top "]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = folder.gradc("bench m.onnx --dim N=2 --runs 3 --forward --top 0").ok();
    assert!(text.contains("forward") && !text.contains("gradient") && !text.contains("roof"), "{text}");
}

#[test]
fn more_threads_than_cores_are_reckoned_with() {
    let folder = image();
    let text = folder.gradc("bench m.onnx --dim N=2 --runs 3 --seconds 0 --top 0 --simulate 2,16").ok();
    let lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("scaling")).collect();
    let firsts: Vec<&str> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(firsts, ["scaling", "threads", "1", "2", "16"], "{text}");
    let json = folder.gradc("bench m.onnx --dim N=2 --runs 3 --seconds 0 --top 0 --simulate 4 --json").json();
    assert_eq!(json["simulated"][1]["threads"], 4);
    assert!(json["simulated"][1]["ms"].as_f64().unwrap() > 0.0);
    let what = "error[GC0107]: --simulate 0 is no number of threads";
    folder.gradc("bench m.onnx --dim N=2 --runs 1 --top 0 --simulate 0").fails(2, what, "from 1 to 256");
}

/// Token ids have no gradient: forward alone, and what a user is told otherwise.
#[test]
fn models_of_integers() {
    let folder = Folder::new();
    folder.model("t.onnx", text_model());
    let shapes = ["--dim", "B=2", "--dim", "S=3", "--runs", "2", "--json"];
    let json = folder.run(&[&["bench", "t.onnx", "--forward"][..], &shapes].concat()).json();
    assert_eq!(json["gradient"], Value::Null);
    let json = folder.run(&[&["bench", "t.onnx", "--wrt", "table"][..], &shapes].concat()).json();
    assert_eq!(json["gradients"], serde_json::json!(["table"]));
}

#[test]
fn the_trace_is_one_of_chrome() {
    let folder = image();
    folder.gradc("bench m.onnx --dim N=2 --runs 3 --top 0 --trace t.json").ok();
    let trace: Value = serde_json::from_slice(&fs::read(folder.0.join("t.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let on = |thread: u64| events.iter().filter(move |event| event["ph"] == "X" && event["tid"] == thread);
    assert!(on(1).any(|event| event["name"] == "codegen"));
    assert!(on(2).any(|event| event["name"] == "MatMul /product"));
    // One step begins where the one before ends.
    let mut end = 0.0;
    for event in on(2) {
        let [begin, time] = ["ts", "dur"].map(|key| event[key].as_f64().unwrap());
        assert!((begin - end).abs() < 1e-3, "{event}");
        end = begin + time;
    }
    assert!(end > 0.0);
}

#[test]
fn what_cannot_be_measured() {
    let folder = image();
    folder.gradc("bench m.onnx --dim N=1 --trace nowhere/t.json").fails(8, "error[GC08", "mkdir -p nowhere");
    folder.gradc("bench m.onnx --dim N=1 --seconds NaN").fails(2, "error[GC0107]: --seconds", "such as");
}
