//! The bodies of the fuzz targets (`fuzz/`), on damaged seeds: the same inputs on every run. `GRADC_FUZZ=1000000` tries
//! so many of each; `GRADC_FUZZ_CORPUS=DIR` writes the seeds for libFuzzer.

#[path = "../../../fuzz/src/bodies.rs"]
mod bodies;
mod seeds;

use gradc_ir::testing::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Inputs of each body in the usual run.
const USUAL: usize = 4000;
/// Address space that all bodies together may have taken, at most.
const MOST_MEMORY: u64 = 4 << 30;

type Body = fn(&[u8]);

#[test]
fn models() {
    try_many("model", bodies::model, &seeds::models());
}

#[test]
fn graphs_as_text() {
    try_many("gir", bodies::gir, &seeds::texts());
}

#[test]
fn arrays() {
    try_many("npy", bodies::npy, &seeds::arrays());
}

#[test]
fn archives() {
    try_many("npz", bodies::npz, &seeds::archives());
}

/// The seeds are what they seem: the bodies get past reading them.
#[test]
fn the_corpus_is_sound() {
    for text in seeds::texts() {
        let text = String::from_utf8(text).expect("seeds are text");
        gradc_ir::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    let lowered = |bytes: &Vec<u8>| {
        let external = gradc_frontend_onnx::ExternalData::None;
        let model = gradc_frontend_onnx::Model::from_bytes(bytes.clone(), external);
        let model = model.unwrap_or_else(|error| panic!("a seed is no model: {error}"));
        gradc_frontend_onnx::lower(&model, &Default::default()).is_ok()
    };
    let models = seeds::models();
    let good = models.iter().filter(|bytes| lowered(bytes)).count();
    assert!(good >= 100, "{good} of {} models can be lowered", models.len());
    let Some(folder) = std::env::var_os("GRADC_FUZZ_CORPUS").map(PathBuf::from) else { return };
    // The test runs in its crate's folder, the variable is meant from the repository's.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let all =
        [("model", models), ("gir", seeds::texts()), ("npy", seeds::arrays()), ("npz", seeds::archives())];
    for (target, seeds) in all {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for (number, seed) in seeds.iter().enumerate() {
            let path = folder.join(format!("seed-{number:04}"));
            std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

fn try_many(name: &str, body: Body, seeds: &[Vec<u8>]) {
    let count = std::env::var("GRADC_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(USUAL);
    seeds.iter().for_each(|seed| body(seed));
    let mut random = Random::new(name.len() as u64);
    let start = Instant::now();
    let mut slowest = 0.0f64;
    for _ in 0..count {
        let input = damaged(seeds, &mut random);
        let before = Instant::now();
        if catch_unwind(|| body(&input)).is_err() {
            report(name, body, input);
        }
        slowest = slowest.max(before.elapsed().as_secs_f64());
    }
    eprintln!("{name}: {count} inputs in {:.1} s, {slowest:.2} s at most", start.elapsed().as_secs_f64());
    assert!(slowest < 20.0, "{name}: an input took {slowest:.1} s");
    if let Some(peak) = peak_memory() {
        assert!(peak < MOST_MEMORY, "{name}: {} MiB of memory", peak >> 20);
    }
}

/// One of the seeds with a few small damages.
fn damaged(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 10] = [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\x00\x00\x00\x00",
        b"18446744073709551616",
        b"-1",
        b"0",
        b"nan",
        b"[[[[[[[[",
        b"1e999",
    ];
    let mut bytes = random.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        let length = random.below((bytes.len() - at).min(24) + 1);
        match random.below(8) {
            0 => drop(bytes.drain(at..at + length)),
            1 => {
                let copy = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            2 => {
                let word = random.pick(&WORDS).copied().unwrap_or_default();
                let end = if random.percent(50) { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.iter().copied());
            }
            3 => {
                let other = random.pick(seeds).cloned().unwrap_or_default();
                let from = random.below(other.len() + 1);
                let end = from + random.below((other.len() - from).min(64) + 1);
                bytes.splice(at..at + length, other[from..end].iter().copied());
            }
            4 => bytes.truncate(at),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = match random.below(4) {
                        0 => random.bits() as u8,
                        1 => *byte ^ (1 << random.below(8)),
                        2 => byte.wrapping_add(1),
                        _ => byte.wrapping_sub(1),
                    };
                }
            }
        }
    }
    bytes
}

/// Makes the input shorter while it fails, writes it, and fails with its place.
fn report(name: &str, body: Body, mut input: Vec<u8>) -> ! {
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| body(input))).is_err();
    let mut length = input.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at + length <= input.len() {
            let shorter = [&input[..at], &input[at + length..]].concat();
            match fails(&shorter) {
                true => input = shorter,
                false => at += length,
            }
        }
        length /= 2;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let path = folder.join(format!("{name}-{}", input.len()));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &input));
    let place = written.map_or_else(|error| format!("not written: {error}"), |()| path.display().to_string());
    panic!("{name} panics (see above): {place}\n{:?}", String::from_utf8_lossy(&input));
}

/// The most address space that the process had; known on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes << 10)
}
