//! What each command answers.

use crate::folder::{Folder, image_model, picture, text_model};
use crate::support::{Onnx, tensor};
use gradc_ir::Literal;
use prost::Message;
use std::fs;

fn image() -> Folder {
    let folder = Folder::new();
    folder.model("m.onnx", image_model()).npy("x.npy", &picture());
    folder
}

#[test]
fn inspect() {
    let folder = image();
    let text = folder.gradc("inspect m.onnx").ok();
    assert!(text.contains("inputs   input   f32[N,3,2,2]  N is symbolic: bind with --dim N=1"), "{text}");
    assert!(text.contains("outputs  logits  f32[N,5]\n"), "{text}");
    assert!(text.contains("nodes    3   params 65 (260 B)"), "{text}");
    assert!(text.contains("all supported, all differentiable"), "{text}");
    assert!(folder.gradc("inspect m.onnx --dim N=1").ok().contains("memory   N=1: forward"));
    let json = folder.gradc("inspect m.onnx --json").json();
    assert_eq!(json["schema"], "gradc.inspect/1");
    assert_eq!(json["inputs"][0]["shape"], serde_json::json!(["N", 3, 2, 2]));
}

#[test]
fn ops() {
    let folder = Folder::new();
    let json = folder.gradc("ops --json").json();
    assert_eq!(json["schema"], "gradc.ops/1");
    assert!(
        json["operators"]
            .as_array()
            .unwrap()
            .iter()
            .any(|op| op["name"] == "Conv" && op["gradient"] == "smooth")
    );
    assert!(folder.gradc("ops relu").ok().contains("LeakyRelu"));
}

#[test]
fn jacobians_and_products_with_the_hessian() {
    let folder = image();
    let text = folder.gradc("grad m.onnx --input input=@x.npy --jacobian logits -o j.npz").ok();
    assert!(text.starts_with("target   logits, each element\nd/input  f32[1,5,1,3,2,2]"), "{text}");
    let json = folder.gradc("grad m.onnx --input input=@x.npy --jacobian logits --json").json();
    assert_eq!(json["value"], serde_json::Value::Null);
    assert_eq!(json["gradients"][0]["shape"], serde_json::json!([1, 5, 1, 3, 2, 2]));
    let command = "grad m.onnx --input input=@x.npy --target logits:norm --hvp input=ones -o h.npz";
    let text = folder.gradc(command).ok();
    assert!(text.contains("\nhvp:input  f32[1,3,2,2]"), "{text}");
    assert!(
        text.contains("wrote      h.npz (2 tensors") || text.contains("wrote    h.npz (2 tensors"),
        "{text}"
    );
    let json = folder.gradc(&format!("{command} --json")).json();
    assert_eq!(json["hessian_products"][0]["name"], "input");
    assert!(folder.gradc("compile m.onnx --dim N=1 --jacobian logits").ok().contains("d logits / d input"));
    let refused = folder.gradc("grad m.onnx --input input=@x.npy --target logits:norm --hvp fc.bias=ones");
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("nothing is differentiated by it"), "{}", refused.err);
    assert_eq!(
        folder.gradc("grad m.onnx --input input=@x.npy --jacobian logits --target logits:sum").code,
        2
    );
}

#[test]
fn grad_prints_and_tells_json() {
    let folder = image();
    let text = folder.gradc("grad m.onnx --input input=@x.npy --target logits:argmax").ok();
    assert!(text.starts_with("target   logits[0,"), "{text}");
    assert!(text.contains("d/input  f32[1,3,2,2]"), "{text}");
    let json = folder.gradc("grad m.onnx --input input=@x.npy --target logits[0,2] --wrt all --json").json();
    assert_eq!(json["schema"], "gradc.grad/1");
    assert_eq!(json["target"], "logits[0,2]");
    let names: Vec<&str> =
        json["gradients"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["input", "fc.weight", "fc.bias"]);
    assert_eq!(json["gradients"][2]["l2"], 1.0);
    assert_eq!(json["gradients"][2]["max_at"], serde_json::json!([2]));
}

#[test]
fn nan_is_valid_json() {
    let folder = image();
    let json = folder
        .run(&[
            "grad",
            "m.onnx",
            "--input",
            "input=nan,0,0,0,0,0,0,0,0,0,0,0",
            "--dim",
            "N=1",
            "--target",
            "logits:norm",
            "--json",
        ])
        .json();
    assert_eq!(json["value"], "NaN");
    assert_eq!(json["gradients"][0]["finite"], false);
}

#[test]
fn grad_selects_by_name_pattern_and_list() {
    let folder = Folder::new();
    let model = Onnx::new().input("a,b", "2").input("c", "2").node("Mul", "a,b c", "y").output("y", "2");
    folder.model("m.onnx", model);
    let names = |wrt: &str| {
        let command = format!("grad m.onnx --input a,b=1,2 --input c=3,4 --target y:sum --json {wrt}");
        let json = folder.gradc(&command).json();
        let names =
            json["gradients"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("--wrt a,b"), ["a,b"], "a name that holds a comma");
    assert_eq!(names("--wrt c,inputs"), ["c", "a,b"]);
    assert_eq!(names("--wrt a*"), ["a,b"]);
    assert_eq!(names("--wrt c --wrt a,b"), ["c", "a,b"]);
}

#[test]
fn losses_and_seeds_agree() {
    let folder = image();
    folder
        .npy("labels.npy", &Literal::new([1], &[3i32]))
        .npy("v.npy", &Literal::new([1, 5], &[0f64, 0.0, 1.0, 0.0, 0.0]));
    let l2 = |goal: &str| {
        folder.gradc(&format!("grad m.onnx --input input=@x.npy --json {goal}")).json()["gradients"][0]["l2"]
            .clone()
    };
    assert_eq!(l2("--loss ce --label 3"), l2("--loss ce --labels @labels.npy"));
    assert_eq!(l2("--seed-grad logits=@v.npy"), l2("--target logits[0,2]"));
    assert_eq!(l2("--seed-grad logits=@v.npy"), l2("--target logits:label=2"));
    assert_ne!(l2("--loss ce --label 3"), l2("--loss ce --label 2"));
}

#[test]
fn doubles_take_singles_silently() {
    let folder = image();
    let outcome = folder.gradc("grad m.onnx --input input=@x.npy --target logits:sum --dtype f64 --json");
    assert_eq!(outcome.err, "");
    assert_eq!(outcome.json()["gradients"][0]["dtype"], "f64");
}

#[test]
fn run_takes_every_kind_of_value() {
    let folder = image();
    folder.npz("all.npz", &[("input", picture()), ("other", Literal::scalar(1f32))]);
    let json = |value: &str| {
        folder.gradc(&format!("run m.onnx --json {value}")).json()["outputs"][0]["values"].clone()
    };
    let expected = json("--input input=@x.npy");
    assert_eq!(json("--input @all.npz"), expected);
    assert_eq!(json("--input input=@all.npz:input"), expected);
    assert_eq!(
        json("--input input=zeros --dim N=1"),
        serde_json::json!([0.10000000149011612, -0.20000000298023224, 0.30000001192092896, 0.0, 0.5])
    );
    assert_eq!(
        json("--input input=random:3 --dim N=1"),
        json("--input input=random:3 --shape input=1x3x2x2")
    );
    assert_ne!(json("--input input=random:3 --dim N=1"), json("--input input=random:4 --dim N=1"));
    let noted = folder.gradc("run m.onnx --input @all.npz -v");
    assert!(noted.err.contains("note: all.npz holds arrays that are no inputs: «other»"), "{}", noted.err);
    folder.gradc("run m.onnx --input input=@all.npz:inptu").fails(
        4,
        "error[GC0210]: all.npz holds no array «inptu»",
        "it holds «input», «other»",
    );
}

#[test]
fn run_compares_with_test_data() {
    let folder = Folder::new();
    folder.model("m.onnx", Onnx::new().input("x", "2").node("Neg", "x", "y").output("y", "2"));
    fs::write(folder.0.join("input_0.pb"), tensor("x", &[2], &[1.0, -2.0]).encode_to_vec()).unwrap();
    fs::write(folder.0.join("output_0.pb"), tensor("y", &[2], &[-1.0, 2.0]).encode_to_vec()).unwrap();
    assert!(folder.gradc("run m.onnx --test-data .").ok().contains("ok"));
    fs::write(folder.0.join("output_0.pb"), tensor("y", &[2], &[-1.0, 2.1]).encode_to_vec()).unwrap();
    let outcome = folder.gradc("run m.onnx --test-data .");
    assert_eq!(outcome.code, 1);
    assert!(outcome.out.contains("MISMATCH  1 element differs, by up to 0.1"), "{}", outcome.out);
}

#[test]
fn values_that_shapes_depend_on_are_fixed() {
    let folder = Folder::new();
    let model = Onnx::new()
        .input("x", "6")
        .typed_input("shape", crate::support::I64, "2")
        .node("Reshape", "x shape", "y")
        .output("y", "a,b");
    folder.model("m.onnx", model);
    let json = folder.gradc("run m.onnx --input x=1,2,3,4,5,6 --input shape=2,3 --json").json();
    assert_eq!(json["outputs"][0]["shape"], serde_json::json!([2, 3]));
    folder.gradc("grad m.onnx --input x=1,2,3,4,5,6 --input shape=3,2 --target y[2,1]").ok();
}

#[test]
fn check_passes_right_gradients_and_sees_kinks() {
    let folder = image();
    let text = folder.gradc("check m.onnx --dim N=2").ok();
    assert!(text.contains("PASS     3 of 3"), "{text}");
    let model = Onnx::new().input("x", "4").node("Relu", "x", "y").output("y", "4");
    folder.model("relu.onnx", model);
    let outcome = folder.gradc("check relu.onnx --input x=0,1,-1,1e-7 -v");
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("kinks    2 of 4 perturbations crossed a kink"), "{}", outcome.out);
    assert!(
        outcome.err.contains("kink at «x» at [0]") && outcome.err.contains("kink at «x» at [3]"),
        "{}",
        outcome.err
    );
    let json = folder.gradc("check m.onnx --dim N=1 --json").json();
    assert_eq!((&json["schema"], &json["passed"]), (&"gradc.check/1".into(), &true.into()));
    // Nothing agrees to within nothing.
    assert_eq!(
        folder.gradc("check m.onnx --dim N=1 --rtol 0 --atol 0 --eps 0.5 --target logits:norm").code,
        1
    );
}

#[test]
fn check_of_integers_takes_random_inputs() {
    let folder = Folder::new();
    folder.model("m.onnx", text_model());
    let text = folder.gradc("check m.onnx --dim B=2 --dim S=3").ok();
    assert!(text.contains("table") && text.contains("PASS     1 of 1"), "{text}");
}

/// The flat background of a picture ties many pooling windows at once.
#[test]
fn check_tells_ties_from_faults() {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    let picture =
        format!("check {models}/digits.onnx --input image=@{models}/digits/3.npy --target logits:argmax");
    let text = Folder::new().gradc(&picture).ok();
    assert!(text.contains("PASS     7 of 7") && text.contains("crossed a kink"), "{text}");
}

#[test]
fn compile_reports_and_emits() {
    let folder = image();
    let text = folder.gradc("compile m.onnx --dim N=1 --target logits:argmax --time-passes").ok();
    for part in ["nodes    ", "kernels  ", "memory   arena", "time     ", "pass "] {
        assert!(text.contains(part), "{text}");
    }
    let json = folder.gradc("compile m.onnx --dim N=1 --json").json();
    assert_eq!(json["schema"], "gradc.compile/1");
    assert!(folder.gradc("compile m.onnx --dim N=1 --emit ir").ok().starts_with("graph @"));
    folder.gradc("compile m.onnx --dim N=1 --emit ir,loops,mem,dot,clif,asm -o .").ok();
    for file in ["m.gir", "m.loops", "m.mem.txt", "m.dot", "m.clif", "m.s"] {
        assert!(folder.files().contains(&file.to_owned()), "{file}");
    }
    let assembly = folder.gradc("compile m.onnx --dim N=1 --emit asm").ok();
    assert!(assembly.contains("; k0 ") && assembly.contains("ret"), "{assembly}");
    folder.gradc("compile m.onnx --dim N=1 --emit frob").fails(
        2,
        "error[GC0107]: «frob» is no form",
        "the forms are",
    );
    assert!(folder.gradc("compile m.onnx --dim N=1 --print-after fuse").err.contains("// after fuse"));
}

#[test]
fn compile_writes_an_object_file_and_its_header() {
    let folder = image();
    let json =
        folder.gradc("compile m.onnx --dim N=1 --target logits[0,2] --emit obj -o 3d-net.o --json").json();
    assert_eq!(json["wrote"], serde_json::json!(["3d-net.o", "3d-net.h"]));
    let header = fs::read_to_string(folder.0.join("3d-net.h")).unwrap();
    assert!(header.contains("\nint64_t m3d_net_run(const void *const *inputs"), "{header}");
    assert!(header.contains("#define M3D_NET_OUTPUT_BYTES {4, 20, 48}"), "{header}");
    let object = fs::read(folder.0.join("3d-net.o")).unwrap();
    assert!(object.windows(11).any(|bytes| bytes == b"m3d_net_run"), "the symbol is in the object file");
    folder.gradc("compile m.onnx --dim N=1 --emit ir,obj -o .").ok();
    assert!(folder.files().contains(&"m.o".to_owned()) && folder.files().contains(&"m.gir".to_owned()));
    let what = "error[GC0107]: an object file is no text, and comes with a header";
    folder.gradc("compile m.onnx --dim N=1 --emit obj").fails(2, what, "say where: --emit obj -o model.o");
    folder.gradc("compile m.onnx --dim N=1 --emit obj,ir -o m.o").fails(2, what, "say where");
}

#[test]
fn help_version_and_completions() {
    let folder = Folder::new();
    assert!(folder.gradc("--version").ok().starts_with("gradc 0."));
    assert!(folder.gradc("--version -v").ok().contains("cpu "));
    for command in
        ["inspect", "ops", "compile", "run", "grad", "check", "bench", "completions", "man", "explain-error"]
    {
        let long = folder.gradc(&format!("{command} --help")).ok();
        let examples = long.split("Examples:").nth(1).unwrap_or_default();
        assert!(examples.matches("gradc ").count() >= 3, "{command}");
        let short = folder.gradc(&format!("{command} -h")).ok();
        assert!(!short.contains("Examples:"), "{command}");
    }
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(folder.gradc(&format!("completions {shell}")).ok().contains("gradc"));
    }
}

#[test]
fn errors_are_json_where_results_are() {
    let folder = image();
    let outcome = folder.gradc("grad m.onnx --input input=@x.npy --json");
    let error: serde_json::Value = serde_json::from_str(&outcome.err).unwrap();
    assert_eq!((outcome.code, &error["code"], &error["exit_code"]), (2, &"GC0101".into(), &2.into()));
    assert!(error["help"].as_str().unwrap().contains("--target logits:argmax"));
}

#[test]
fn colours_only_when_asked_for() {
    let folder = image();
    assert!(!folder.gradc("grad m.onnx").err.contains('\u{1b}'));
    assert!(folder.gradc("grad m.onnx --color always").err.contains("\u{1b}[1;31merror"));
}
