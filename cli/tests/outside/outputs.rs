//! Files that the command writes.

use crate::folder::{Folder, image_model, picture};
use crate::support::Onnx;
use gradc::formats::{Limits, npy, npz, safetensors};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

fn image() -> Folder {
    let folder = Folder::new();
    folder.model("m.onnx", image_model()).npy("x.npy", &picture());
    folder
}

const GRAD: &str = "grad m.onnx --input input=@x.npy --target logits:argmax";

#[test]
fn every_format_holds_the_same_gradients() {
    let folder = image();
    for file in ["g.npz", "g.safetensors"] {
        let text = folder.gradc(&format!("{GRAD} --wrt input,fc.weight -o {file}")).ok();
        assert!(text.contains(&format!("wrote    {file} (2 tensors, ")), "{text}");
    }
    folder.gradc(&format!("{GRAD} -o g.npy")).ok();
    let limits = Limits::default();
    let mut archive = npz::Npz::open(folder.0.join("g.npz"), &limits).unwrap();
    assert_eq!(archive.names(), ["input", "fc.weight"]);
    let gradient = archive.get("input").unwrap();
    assert_eq!(npy::read(folder.0.join("g.npy"), &limits).unwrap(), gradient);
    let arrays = safetensors::read(folder.0.join("g.safetensors"), &limits).unwrap();
    assert_eq!(arrays.iter().find(|(name, _)| name == "input").map(|(_, array)| array), Some(&gradient));
    folder.gradc(&format!("{GRAD} --wrt all -o g.npy")).fails(
        8,
        "error[GC0804]: g.npy cannot hold this",
        "write an .npz",
    );
}

#[test]
fn names_are_kept_as_they_are() {
    let folder = Folder::new();
    let model = Onnx::new().input("/a/b:0", "2").node("Neg", "/a/b:0", "/c;d").output("/c;d", "2");
    folder.model("m.onnx", model);
    folder.gradc("grad m.onnx --input /a/b:0=1,2 --target /c;d:sum -o g.npz").ok();
    folder.gradc("run m.onnx --input /a/b:0=1,2 -o y.npz").ok();
    let names = |file: &str| npz::Npz::open(folder.0.join(file), &Limits::default()).unwrap().names();
    assert_eq!((names("g.npz"), names("y.npz")), (vec!["/a/b:0".to_owned()], vec!["/c;d".to_owned()]));
}

#[test]
fn existing_files_are_replaced_whole_or_kept() {
    let folder = image();
    fs::write(folder.0.join("g.npz"), "old").unwrap();
    folder.gradc(&format!("{GRAD} -o g.npz --no-clobber")).fails(
        8,
        "error[GC0803]: g.npz exists",
        "give another name",
    );
    folder.gradc("grad m.onnx --input input=@x.npy -o g.npz").fails(2, "error[GC0101]", "--target");
    assert_eq!(
        fs::read_to_string(folder.0.join("g.npz")).unwrap(),
        "old",
        "a failed command changes nothing"
    );
    folder.gradc(&format!("{GRAD} -o g.npz")).ok();
    assert!(fs::read(folder.0.join("g.npz")).unwrap().starts_with(b"PK"));
    assert_eq!(folder.files(), ["g.npz", "m.onnx", "x.npy"], "nothing is left behind");
}

#[test]
fn outputs_that_cannot_be_are_refused_first() {
    let folder = image();
    folder.gradc(&format!("{GRAD} -o no/g.npz")).fails(
        8,
        "error[GC0801]: the folder of no/g.npz does not exist",
        "mkdir -p no",
    );
    fs::create_dir(folder.0.join("no")).unwrap();
    folder.gradc(&format!("{GRAD} -o no/g.npz")).ok();
    folder.gradc(&format!("{GRAD} -o g.txt")).fails(
        2,
        "error[GC0108]: g.txt has none of the endings",
        "name the file",
    );
    // Nothing is read for an output that could not be written.
    folder.gradc("grad missing.onnx -o no/where/g.npz").fails(8, "error[GC0801]", "mkdir -p no/where");
}

#[test]
fn standard_output_takes_arrays() {
    let folder = image();
    let output = Command::new(env!("CARGO_BIN_EXE_gradc"))
        .args(GRAD.split(' '))
        .args(["-o", "-"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let mut archive = npz::Npz::from_bytes("-", output.stdout.into(), &Limits::default()).unwrap();
    assert_eq!(archive.names(), ["input"]);
    assert_eq!(archive.get("input").unwrap().shape().to_vec(), [1, 3, 2, 2]);
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let folder = image();
    for (first, second) in [("a.npz", "b.npz"), ("a.safetensors", "b.safetensors")] {
        for file in [first, second] {
            folder.gradc(&format!("{GRAD} --wrt all -o {file}")).ok();
        }
        assert_eq!(fs::read(folder.0.join(first)).unwrap(), fs::read(folder.0.join(second)).unwrap());
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gradc"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
