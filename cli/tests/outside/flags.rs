//! Flags that several commands share.

use crate::folder::{Folder, image_model, picture};
use crate::support::{I64, Onnx, int};
use gradc_ir::Literal;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn image() -> Folder {
    let folder = Folder::new();
    folder.model("m.onnx", image_model()).npy("x.npy", &picture());
    folder
}

#[test]
fn sequences_are_given_by_their_elements() {
    let folder = Folder::new();
    let model = Onnx::new()
        .sequence_input("s", "N")
        .node_with("ConcatFromSequence", "s", "y", &[int("axis", 0)])
        .node("SequenceLength", "s", "count")
        .output("y", "M")
        .typed_output("count", I64, "");
    folder.model("m.onnx", model);
    let run = |arguments: &[&str]| folder.run(&[&["run", "m.onnx"], arguments].concat()).ok();
    let both = run(&["--input", "s[0]=1,2,3", "--input", "s[1]=4,5,6"]);
    assert!(both.contains("y f32[6]") && both.contains("count i64[]"), "{both}");
    let none = run(&["--input", "s=[]", "--output-name", "count"]);
    assert!(none.contains("count i64[]"), "{none}");
    folder.run(&["compile", "m.onnx", "--shape", "s[0]=2", "--shape", "s[1]=2", "--emit", "ir"]).ok();
    folder.gradc("run m.onnx").fails(
        4,
        "error[GC0202]: no value for input «s» (sequence)",
        "Give its elements, --input 's[0]=@x.npy' and so on, or --input 's=[]'",
    );
    assert_eq!(folder.gradc("run m.onnx --input s=1,2").code, 2);
}

#[test]
fn layouts_of_arrays() {
    let folder = image();
    // The same picture with its channels last, with and without a batch.
    let values = picture().to_f64();
    let last: Vec<f32> = (0..12).map(|position| values[(position % 3) * 4 + position / 3] as f32).collect();
    folder
        .npy("hwc.npy", &Literal::new([2, 2, 3], &last))
        .npy("nhwc.npy", &Literal::new([1, 2, 2, 3], &last));
    let chw: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    folder.npy("chw.npy", &Literal::new([3, 2, 2], &chw));
    let of = |input: &str| folder.gradc(&format!("run m.onnx --json {input}")).json()["outputs"].clone();
    let expected = of("--input input=@x.npy");
    for layout in ["hwc", "nhwc", "chw"] {
        assert_eq!(of(&format!("--input input=@{layout}.npy --layout {layout}")), expected, "{layout}");
    }
    assert_eq!(of("--input input=@x.npy --layout nchw"), expected);
    let outcome = folder.mended("run m.onnx --input input=@hwc.npy", "GC0201", "--layout hwc");
    let first = |text: &str| text.lines().next().map(str::to_owned);
    assert_eq!(first(&outcome.out), first(&folder.gradc("run m.onnx --input input=@x.npy").ok()));
}

/// A picture file is an array of numbers from 0 to 1, channels first.
#[test]
fn pictures_are_inputs() {
    let folder = Folder::new();
    let model = Onnx::new().input("x", "N,3,2,2").node("Identity", "x", "y").output("y", "N,3,2,2");
    folder.model("m.onnx", model);
    let pixels: Vec<u8> = (0..12).map(|level| level * 20).collect();
    let mut png = Vec::new();
    gradc::formats::png::write("x.png", &mut png, &Literal::new([2, 2, 3], &pixels)).unwrap();
    fs::write(folder.0.join("x.png"), png).unwrap();
    let values = |flags: &str| -> Vec<f64> {
        let json = folder.gradc(&format!("run m.onnx --input x=@x.png --json {flags}")).json();
        json["outputs"][0]["values"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let channels_first = |channel: usize, pixel: usize| f64::from(pixels[pixel * 3 + channel]) / 255.0;
    let near = |found: &[f64], expected: &dyn Fn(usize, usize) -> f64| {
        for (position, value) in found.iter().enumerate() {
            let wanted = expected(position / 4, position % 4);
            assert!((value - wanted).abs() < 1e-6, "{position}: {value}, not {wanted}");
        }
    };
    near(&values(""), &channels_first);
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    near(&values("--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"), &|channel, pixel| {
        (channels_first(channel, pixel) - mean[channel]) / std[channel]
    });
    near(&values("--mean 0.5 --std 0.5"), &|channel, pixel| channels_first(channel, pixel) * 2.0 - 1.0);
    folder.gradc("run m.onnx --input x=@x.png --mean 1,2").fails(
        2,
        "error[GC0107]: --mean has 2 numbers, x.png has 3 channels",
        "give 3 numbers, or one for all",
    );
    fs::write(folder.0.join("x.jpg"), include_bytes!("../data/orange.jpg")).unwrap();
    let json = folder.gradc("run m.onnx --input x=@x.jpg --resize --json").json();
    let orange = [1.0, 128.0 / 255.0, 0.0];
    for (position, value) in json["outputs"][0]["values"].as_array().unwrap().iter().enumerate() {
        assert!((value.as_f64().unwrap() - orange[position / 4]).abs() < 0.02, "{position}: {value}");
    }
    folder.gradc("run m.onnx --input x=@x.jpg").fails(
        4,
        "error[GC0201]: input «x» has shape [1,3,8,8], the model wants f32[N,3,2,2]",
        "add --resize",
    );
    folder.mended("run m.onnx --input x=@x.jpg", "GC0201", "--resize");
}

#[test]
fn ignored_labels_do_not_count() {
    let folder = image();
    let two = Literal::new(
        [2, 3, 2, 2],
        &[picture().to_f64(), vec![0.5; 12]].concat().iter().map(|&x| x as f32).collect::<Vec<_>>(),
    );
    folder.npy("two.npy", &two);
    let grad = |flags: &str| {
        folder.gradc(&format!("grad m.onnx --loss ce --wrt params --json {flags}")).json()["gradients"]
            .clone()
    };
    let one = grad("--input input=@x.npy --labels 3");
    assert_eq!(grad("--input input=@two.npy --labels 3,-100 --ignore-index -100"), one);
    assert_eq!(grad("--input input=@two.npy --labels 4,-99 --ignore-index -99 --label-offset -1"), one);
    assert_ne!(grad("--input input=@two.npy --labels 3,0"), one);
    folder.npy("labels.npy", &Literal::new([1], &[4i32]));
    assert_eq!(grad("--input input=@x.npy --labels @labels.npy --label-offset -1"), one);
    assert_eq!(grad("--input input=@x.npy --label 4 --label-offset -1"), one);
}

#[test]
fn passes_can_be_stopped_short() {
    let folder = image();
    let run = |flags: &str| {
        let json = folder
            .gradc(&format!("grad m.onnx --input input=@x.npy --target logits:norm --json {flags}"))
            .json();
        json["gradients"][0]["l2"].as_f64().unwrap()
    };
    let whole = run("");
    for count in 0..12 {
        let found = run(&format!("--passes-up-to {count}"));
        assert!((found - whole).abs() < 1e-5 * whole, "{count} passes: {found}, not {whole}");
    }
    let json = folder.gradc("compile m.onnx --dim N=1 --passes-up-to 2 --json").json();
    assert_eq!(json["passes"].as_array().unwrap().len(), 2);
}

#[test]
fn logs_can_be_json() {
    let folder = image();
    let outcome = folder.gradc("grad m.onnx --input input=@x.npy --log-format json");
    let error: serde_json::Value = serde_json::from_str(&outcome.err).unwrap();
    assert_eq!((&error["schema"], &error["code"]), (&"gradc.error/1".into(), &"GC0101".into()));
    let model = Onnx::new().input("x", "2").node("Floor", "x", "y").output("y", "2");
    folder.model("flat.onnx", model);
    let outcome = folder.gradc("grad flat.onnx --input x=1,2 --target y:sum --log-format json");
    let warning: serde_json::Value = serde_json::from_str(&outcome.err).unwrap();
    assert_eq!((&warning["schema"], &warning["level"]), (&"gradc.log/1".into(), &"warning".into()));
}

#[test]
fn hashes_tell_files_apart() {
    let folder = Folder::new();
    folder.model("m.onnx", image_model());
    let json = folder.gradc("inspect m.onnx --json").json();
    let hash = json["sha256"].as_str().unwrap().to_owned();
    assert_eq!(hash.len(), 64);
    assert!(folder.gradc("inspect m.onnx").ok().contains(&format!("sha256 {}…", &hash[..12])));
}

/// A model that takes many seconds when interpreted.
fn slow() -> Folder {
    let folder = Folder::new();
    let model = Onnx::new()
        .input("x", "1500,1500")
        .node("MatMul", "x x", "a")
        .node("MatMul", "a a", "b")
        .node("MatMul", "b b", "y")
        .output("y", "1500,1500");
    folder.model("m.onnx", model);
    fs::write(folder.0.join("y.npz"), "old").unwrap();
    folder
}

const SLOW: &str = "run m.onnx --input x=ones --interpreter -o y.npz";

#[test]
fn time_is_limited() {
    let folder = slow();
    let started = Instant::now();
    folder.gradc(&format!("{SLOW} --timeout 300ms")).fails(
        6,
        "error[GC0602]: the command took longer than --timeout 300 ms",
        "give it more time",
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(fs::read_to_string(folder.0.join("y.npz")).unwrap(), "old");
    assert_eq!(folder.files(), ["m.onnx", "y.npz"]);
    assert_eq!(folder.gradc("run m.onnx --timeout soon").code, 2);
}

#[cfg(unix)]
#[test]
fn signals_end_a_command_and_leave_the_old_file() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = slow();
        let mut child = Command::new(env!("CARGO_BIN_EXE_gradc"))
            .args(SLOW.split(' '))
            .current_dir(&folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "SIG{signal}");
        assert_eq!(fs::read_to_string(folder.0.join("y.npz")).unwrap(), "old");
        assert_eq!(folder.files(), ["m.onnx", "y.npz"], "nothing is left behind");
    }
}

#[test]
fn every_code_is_explained() {
    let folder = Folder::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut raised = std::collections::BTreeSet::new();
    for source in ["gradc/src", "cli/src", "frontend-onnx/src"] {
        codes(&root.join(source), &mut raised);
    }
    assert!(raised.len() > 30, "{raised:?}");
    for code in &raised {
        let text = folder.gradc(&format!("explain-error {code}")).ok();
        assert!(text.starts_with(&format!("{code}: ")) && text.len() > 100, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
    let page = fs::read_to_string(root.join("docs/errors.md")).unwrap();
    for section in page.split("\n## ").skip(1) {
        assert!(raised.contains(&section[..6]), "nothing raises {}", &section[..6]);
    }
    let json = folder.gradc("explain-error gc0402 --json").json();
    assert_eq!((&json["schema"], &json["code"]), (&"gradc.explain-error/1".into(), &"GC0402".into()));
    folder.gradc("explain-error GC04").fails(2, "error[GC0107]: there is no error «GC04»", "codes look like");
}

/// The codes that stand in the sources below a folder.
fn codes(folder: &std::path::Path, found: &mut std::collections::BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (position, _) in text.match_indices("\"GC0") {
            let code = &text[position + 1..position + 8];
            if code.ends_with('"') {
                found.insert(code[..6].to_owned());
            }
        }
    }
}

#[test]
fn manual_pages() {
    let folder = Folder::new();
    assert!(folder.gradc("man").ok().contains(".TH gradc 1"));
    let page = folder.gradc("man grad").ok();
    assert!(page.contains(".TH gradc-grad 1") && page.contains("nan\\-check"), "{page}");
    folder.gradc("man frob").fails(2, "error[GC0107]: there is no command «frob»", "gradc --help");
}

#[test]
fn instructions_are_limited() {
    let folder = Folder::new();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/digits.onnx");
    let digits = digits.display().to_string();
    let assembler = |cpu: &str| {
        let arguments = ["compile", &digits, "--dim", "N=1", "--emit", "asm", "--cpu", cpu];
        folder.run(&arguments).ok()
    };
    assert!(!assembler("avx2").contains("zmm"));
    let baseline = assembler("baseline");
    assert!(["ymm", "zmm", "vaddps", "vmulps", "vfmadd"].iter().all(|wide| !baseline.contains(wide)));
    let norm = |cpu: &str| {
        let gradient =
            ["grad", &digits, "--dim", "N=1", "--input", "image=random:1", "--target", "logits[0,3]"];
        let found = folder.run(&[&gradient[..], &["--json", "--cpu", cpu]].concat()).json();
        found["gradients"][0]["l2"].as_f64().unwrap()
    };
    let native = norm("native");
    for cpu in ["avx2", "baseline"] {
        assert!((norm(cpu) - native).abs() <= 1e-5 * native, "{cpu}");
    }
    // The kernels, too.
    folder.run(&["compile", &digits, "--dim", "N=1", "--emit", "obj", "-o", "m.o", "--cpu", "baseline"]).ok();
    let header = fs::read_to_string(folder.0.join("m.h")).unwrap();
    assert!(header.contains("with the instructions of the tier Portable"), "{header}");
    assert_eq!(folder.run(&["compile", &digits, "--cpu", "pentium"]).code, 2);
}
