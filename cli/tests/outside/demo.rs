//! What a newcomer does first: the demo, and the commands of the README.

use crate::folder::Folder;
use gradc::formats::{Limits, npy, npz, png};
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A folder with the models of the repository in it.
fn clone() -> Folder {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &target);
            } else {
                fs::copy(&path, &target).unwrap();
            }
        }
    }
    let folder = Folder::new();
    copy(&repository().join("models"), &folder.0.join("models"));
    folder
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

/// The blocks of the README in this language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let readme = readme();
    readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn demo_recognizes_the_digit_and_agrees_with_pytorch() {
    let folder = Folder::new();
    let text = folder.gradc("demo").ok();
    assert!(text.contains("\nit is    3 with 99"), "{text}");
    assert_eq!(folder.files(), ["digits-gradient.npz", "digits-saliency.png"]);
    let limits = Limits::default();
    let picture = png::read(folder.0.join("digits-saliency.png"), &limits).unwrap();
    assert_eq!(picture.shape()[..], [256, 528, 3]);
    let gradient =
        npz::Npz::open(folder.0.join("digits-gradient.npz"), &limits).unwrap().get("image").unwrap();
    let expected = npy::read(repository().join("models/digits/3.gradient.npy"), &limits).unwrap();
    assert_eq!(gradient.ty(), expected.ty());
    let (gradient, expected) = (gradient.to_f64(), expected.to_f64());
    let error = gradient.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error < 2e-6, "the largest difference to PyTorch's gradient is {error:e}");
    assert!(expected.iter().any(|g| g.abs() > 1.0));
}

#[test]
fn demo_knows_all_digits() {
    let folder = Folder::new();
    for digit in 0..10 {
        let json = folder.gradc(&format!("demo {digit} --json")).json();
        assert_eq!(json["schema"], "gradc.demo/1");
        assert_eq!(json["prediction"], digit);
    }
    assert_eq!(folder.gradc("demo 10").code, 2);
    folder.gradc("demo --folder nowhere").fails(8, "error[GC0801]", "mkdir -p nowhere");
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let folder = Folder::new();
    let printed = folder.gradc("demo").ok();
    let shown = &blocks("text")[0];
    assert!(shown.starts_with("it is"), "{shown}");
    assert!(printed.contains(shown.as_str()), "shown: {shown}\nprinted: {printed}");
}

#[test]
fn the_commands_of_the_readme_run() {
    let folder = clone();
    let scripts = blocks("sh").join("").replace("\\\n", " ");
    let commands: Vec<&str> = scripts.lines().filter_map(|line| line.strip_prefix("gradc ")).collect();
    assert!(commands.len() >= 3, "{scripts}");
    for command in commands {
        folder.gradc(command).ok();
    }
    for name in ["gradient.npz", "weights.safetensors"] {
        assert!(folder.files().contains(&name.to_owned()), "{name}");
    }
    for console in blocks("console") {
        let (command, shown) = console.split_once('\n').unwrap();
        let printed = folder.gradc(command.strip_prefix("$ gradc ").unwrap()).ok();
        assert_eq!(printed, shown, "{command}");
    }
}
