//! What the manifests in `tests/conformance/` add up to, as a page for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How many tests the sets of onnx 1.22.0 hold: with a manifest each.
const SETS: [(&str, usize); 5] =
    [("node", 1765), ("simple", 23), ("light", 9), ("pytorch-operator", 35), ("pytorch-converted", 82)];
/// How many node tests take and give floats, and how many of those are expanded forms.
const GRADIENTS: [usize; 2] = [1255, 378];
/// Files beside the manifests that are no figures.
const OTHERS: [&str; 5] = ["types", "gradient", "requirements", "operator_types", "operator_types_open"];

/// The most lines that a file of figures is shown with.
const LONGEST: usize = 6;

/// The element types that a node test's inputs, outputs and constants have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Types {
    /// f32, f64, i32, i64 and bool only.
    Core,
    /// f16, bf16, or integers of 8, 16 or 32 unsigned or 64 unsigned bits too.
    Plain,
    /// Others: strings, sequences, optionals, floats of 8 bits or less, integers of 4 bits or less, complex numbers.
    Special,
}

/// The folder of the manifests.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn lines(stem: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(format!("{stem}.txt"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The forward tests of a set that pass, by name, and whether by their distribution only.
fn passed(set: &str) -> BTreeMap<String, bool> {
    let entry = |line: String| {
        let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
        (name.to_owned(), !rest.is_empty())
    };
    lines(set).into_iter().map(entry).collect()
}

/// The node tests that are not [`Types::Core`].
fn types() -> BTreeMap<String, Types> {
    let entry = |line: String| {
        let (types, name) = line.split_once(' ')?;
        let types = if types == "plain" { Types::Plain } else { Types::Special };
        Some((name.trim().to_owned(), types))
    };
    lines("types").into_iter().filter_map(entry).collect()
}

/// The text of `tests/conformance/types.txt`: each node test that is not [`Types::Core`].
pub fn types_text(types: &BTreeMap<String, Types>) -> String {
    let word = |types: &Types| if *types == Types::Plain { "plain  " } else { "special" };
    let others = types.iter().filter(|(_, types)| **types != Types::Core);
    others.map(|(name, types)| format!("{} {name}\n", word(types))).collect()
}

/// The page `docs/conformance.md`.
pub fn page() -> String {
    let node = passed("node");
    let types = types();
    let of = |name: &str| types.get(name).copied().unwrap_or(Types::Core);
    let within = |most: Types| node.keys().filter(|name| of(name) <= most).count();
    let beyond = |most: Types| types.values().filter(|types| **types > most).count();
    let total = |most: Types| SETS[0].1 - beyond(most);
    let random = node.values().filter(|random| **random).count();
    let others: usize = SETS[1..].iter().map(|(set, _)| passed(set).len()).sum();
    let all_others: usize = SETS[1..].iter().map(|(_, count)| count).sum();
    let mut page = String::from(HEAD);
    let mut row = |what: &str, passed: usize, of: usize, note: &str| {
        let share = 100.0 * passed as f64 / of as f64;
        writeln!(page, "| {what} | {passed} | {of} | {share:.1} % | {note} |").expect("a string takes all");
    };
    let note = match random {
        0 => String::new(),
        random => format!("{random} random ones by their distribution"),
    };
    row("forward: node tests", node.len(), SETS[0].1, &note);
    row("… with f32, f64, i32, i64 and bool only", within(Types::Core), total(Types::Core), "");
    row(
        "… with f16, bf16 and all integers of 8 to 64 bits too",
        within(Types::Plain),
        total(Types::Plain),
        "",
    );
    let sets: Vec<String> =
        SETS[1..].iter().map(|(set, count)| format!("{set} {} of {count}", passed(set).len())).collect();
    row("forward: whole models and exported layers", others, all_others, &sets.join(", "));
    let gradient = lines("gradient");
    let class = |class: &str| gradient.iter().filter(|line| line.split(' ').next() == Some(class)).count();
    let note = format!(
        "{} smooth, {} at a kink, {} zero by definition; {} of the tests are expanded forms",
        class("passed"),
        class("kink"),
        class("zero"),
        GRADIENTS[1]
    );
    row("gradient: node tests with floats in and out", gradient.len(), GRADIENTS[0], &note);
    let held = lines("operator_types");
    let types: Vec<&str> = held
        .iter()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, types)| types.split(' '))
        .collect();
    let gradients = types.iter().filter(|ty| ty.ends_with('+')).count();
    let note = format!(
        "{gradients} gradients; what does not hold: [operator_types_open.txt](../tests/conformance/operator_types_open.txt)"
    );
    row("operator x type", types.len(), types.len() + lines("operator_types_open").len(), &note);
    page.push_str(&figures());
    page
}

/// What other suites wrote: a heading for each file, and its lines. A suite takes its place here by writing a small text
/// file into the folder of the manifests when it is blessed.
fn figures() -> String {
    let manifests: BTreeSet<&str> = SETS.iter().map(|(set, _)| *set).chain(OTHERS).collect();
    let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut stems: Vec<String> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .filter(|stem| !manifests.contains(stem.as_str()))
        .collect();
    stems.sort();
    let mut text = String::new();
    for stem in stems {
        let title = stem.replace(['_', '-'], " ");
        writeln!(text, "\n## {}{}\n", title[..1].to_uppercase(), &title[1..]).expect("a string takes all");
        let all = lines(&stem);
        let all: Vec<&String> = all.iter().filter(|line| !line.trim().is_empty()).collect();
        // Of a long table the last line, which is its sum.
        let shown = if all.len() > LONGEST { &all[all.len() - 1..] } else { &all[..] };
        for line in shown {
            let words: Vec<&str> = line.split_whitespace().collect();
            writeln!(text, "- {}", words.join(" ")).expect("a string takes all");
        }
        if shown.len() < all.len() {
            let link = format!("[all {} lines](../tests/conformance/{stem}.txt)", all.len());
            writeln!(text, "- {link}").expect("a string takes all");
        }
    }
    text
}

const HEAD: &str = "\
# Conformance: how much is right, in figures

Every figure on this page comes from a list in `tests/conformance/`, which the suites write when they are blessed and
hold themselves to otherwise: what stands on a list may not be lost. A test sees to it that this page says what the
lists say. To print it and write it anew:

```sh
GRADC_BLESS=1 cargo test -p gradc-tests --test scoreboard -- --nocapture
```

The tests are those of onnx 1.22.0, through compiled code. `.ci/run conformance` fetches them and runs all of them;
[CONTRIBUTING.md](../CONTRIBUTING.md) says how to run some. [gradient-conformance.md](gradient-conformance.md) says what
the gradient tests are and how another system can be held to them.

| what | right | of | share | |
|---|---|---|---|---|
";
