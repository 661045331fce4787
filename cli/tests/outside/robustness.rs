//! Damaged files: whatever stands in them, the command ends with an error that has a code, and never with a panic.

use crate::folder::{Folder, Outcome, image_model, picture};
use gradc_ir::Literal;
use std::fs;
use std::path::Path;

/// A generator of numbers that are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// The exit codes that bad files may have: done (the damage did no harm), bad model, bad data, unsupported, limit.
#[track_caller]
fn holds(outcome: &Outcome, allowed: &[i32], case: &str) {
    assert!(allowed.contains(&outcome.code), "{case}: exit code {}\n{}", outcome.code, outcome.err);
    if outcome.code != 0 {
        let error: serde_json::Value = serde_json::from_str(&outcome.err)
            .unwrap_or_else(|_| panic!("{case}: no typed error but\n{}", outcome.err));
        let code = error["code"].as_str().unwrap();
        assert!(code.starts_with("GC0") && code != "GC0901", "{case}: {}", outcome.err);
        assert_eq!(error["exit_code"], outcome.code, "{case}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{case}");
    }
}

fn digits() -> Vec<u8> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits.onnx");
    fs::read(model).unwrap()
}

#[test]
fn models_that_end_too_early() {
    let folder = Folder::new();
    let whole = digits();
    let mut numbers = Numbers(1);
    for case in 0..40 {
        // The first bytes, where most structure is, and anywhere.
        let length = if case < 20 { case * 7 } else { numbers.below(whole.len()) };
        fs::write(folder.0.join("m.onnx"), &whole[..length]).unwrap();
        let outcome = folder.gradc("inspect m.onnx --json");
        holds(&outcome, &[3, 5], &format!("cut to {length} bytes"));
    }
}

#[test]
fn models_with_flipped_bits() {
    let folder = Folder::new();
    let whole = digits();
    // Weights are most of the file; the structure stands around them.
    let structure: Vec<usize> = (0..whole.len()).filter(|&at| at < 1200 || at + 2400 > whole.len()).collect();
    let mut numbers = Numbers(2);
    let mut harmless = 0;
    for case in 0..120 {
        let mut bytes = whole.clone();
        for _ in 0..=numbers.below(4) {
            let at = structure[numbers.below(structure.len())];
            bytes[at] ^= 1 << numbers.below(8);
        }
        fs::write(folder.0.join("m.onnx"), &bytes).unwrap();
        let command = match case % 3 {
            0 => "inspect m.onnx --dim N=1 --json",
            1 => "run m.onnx --dim N=1 --input image=ones --max-memory 1GiB --json",
            _ => "grad m.onnx --dim N=1 --input image=ones --target logits:argmax --max-memory 1GiB --json",
        };
        let outcome = folder.gradc(command);
        harmless += usize::from(outcome.code == 0);
        // A changed name can make the arguments wrong (2), or the input another one (4).
        holds(&outcome, &[0, 2, 3, 4, 5, 6], &format!("case {case}: {command}"));
    }
    assert!(harmless < 100, "most damage is noticed, or there is none: {harmless}");
}

#[test]
fn models_with_bytes_put_in_and_taken_out() {
    let folder = Folder::new();
    let whole = digits();
    let mut numbers = Numbers(3);
    for case in 0..40 {
        let mut bytes = whole.clone();
        let at = numbers.below(bytes.len());
        let count = 1 + numbers.below(300);
        match case % 2 {
            0 => drop(bytes.splice(at..at, (0..count).map(|_| numbers.below(256) as u8).collect::<Vec<_>>())),
            _ => drop(bytes.drain(at..(at + count).min(whole.len()))),
        }
        fs::write(folder.0.join("m.onnx"), &bytes).unwrap();
        holds(&folder.gradc("inspect m.onnx --json"), &[0, 3, 5, 6], &format!("case {case}"));
    }
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn hostile_arrays() {
    let folder = Folder::new();
    folder.model("m.onnx", image_model());
    let floats = [0u8; 48];
    let header = |descr: &str, order: &str, shape: &str| {
        npy(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"), &floats)
    };
    let mut cases = vec![
        header("'<f4'", "False", "(1099511627776, 1099511627776)"),
        header("'<f4'", "False", "(18446744073709551615, 2)"),
        header("'<f4'", "False", "(1, 3, 2, 99999999999)"),
        header("'<f4'", "False", "(-1, 3, 2, 2)"),
        header("'<f4'", "False", "(1, 3, 2, 2"),
        header("'<f4'", "Perhaps", "(1, 3, 2, 2)"),
        header("'<f9'", "False", "(1, 3, 2, 2)"),
        header("'|O'", "False", "(1, 3, 2, 2)"),
        header("[('a', '<f4')]", "False", "(12,)"),
        header("'<f4'", "False", &format!("({})", "1, ".repeat(70))),
        header("'<f4'", "False", &"(".repeat(500)),
        npy("", &floats),
        npy("{}\n", &floats),
        npy("\u{0}\u{1}\u{2}", &floats),
        b"\x93NUMPY".to_vec(),
        b"\x93NUMPY\x09\x00\xff\xff".to_vec(),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
        b"".to_vec(),
        b"PK\x03\x04".to_vec(),
        vec![0xff; 300],
    ];
    let mut good = Vec::new();
    gradc::formats::npy::write(&mut good, &picture()).unwrap();
    let mut numbers = Numbers(4);
    for _ in 0..60 {
        let mut bytes = good.clone();
        let at = numbers.below(bytes.len() - 48);
        bytes[at] ^= 1 << numbers.below(8);
        bytes.truncate(bytes.len() - numbers.below(2) * numbers.below(60));
        cases.push(bytes);
    }
    for (position, bytes) in cases.iter().enumerate() {
        fs::write(folder.0.join("x.npy"), bytes).unwrap();
        let outcome = folder.gradc("run m.onnx --input input=@x.npy --max-memory 1GiB --json");
        let allowed: &[i32] = if position < 20 { &[4, 6] } else { &[0, 4, 6] };
        holds(&outcome, allowed, &format!("case {position}"));
    }
}

#[test]
fn hostile_archives_and_pictures() {
    let folder = Folder::new();
    folder.model("m.onnx", image_model());
    folder.npz("good.npz", &[("input", picture()), ("other", Literal::new([2], &[1f32, 2.0]))]);
    let mut sources = vec![("x.npz", fs::read(folder.0.join("good.npz")).unwrap(), "--input @x.npz")];
    let mut tensors = Vec::new();
    let arrays = [("input".to_owned(), picture())];
    gradc::formats::safetensors::write(&mut tensors, &arrays, &Default::default()).unwrap();
    sources.push(("x.safetensors", tensors, "--input @x.safetensors"));
    let mut png = Vec::new();
    let pixels = Literal::new([2, 2, 3], &[200u8; 12]);
    gradc::formats::png::write("x.png", &mut png, &pixels).unwrap();
    sources.push(("x.png", png, "--input input=@x.png"));
    sources.push(("x.jpg", JPEG.to_vec(), "--input input=@x.jpg --resize"));
    let mut numbers = Numbers(5);
    for (file, good, input) in &sources {
        let command = format!("run m.onnx {input} --max-memory 1GiB --json");
        fs::write(folder.0.join(file), good).unwrap();
        holds(&folder.gradc(&command), &[0], file);
        for case in 0..25 {
            let mut bytes = good.clone();
            match case % 3 {
                0 => bytes.truncate(numbers.below(good.len())),
                _ => {
                    for _ in 0..=numbers.below(3) {
                        let at = numbers.below(bytes.len());
                        bytes[at] ^= 1 << numbers.below(8);
                    }
                }
            }
            fs::write(folder.0.join(file), &bytes).unwrap();
            holds(&folder.gradc(&command), &[0, 4, 6], &format!("{file}, case {case}"));
        }
    }
}

/// A picture of 8 by 8 pixels of one colour.
const JPEG: &[u8] = include_bytes!("../data/orange.jpg");
