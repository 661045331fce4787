//! The repository's own rules.

use gradc_ir::testing::operator_names;
use gradc_passes::{names, simplify_rules};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in the repository").to_path_buf()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files with one of these endings, without hidden folders and build products, in order.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.expect("a folder's entry can be read").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match path.is_dir() {
                true if name.starts_with('.') || name == "target" => {}
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|path| {
        path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending))
    });
    found.sort();
    assert!(!found.is_empty(), "there are files that end in {endings:?}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The stems of the `.gir` files in each folder of `tests/gir`.
fn gir_files() -> BTreeMap<String, BTreeSet<String>> {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files(&["gir"]) {
        let folder = path.parent().and_then(Path::file_stem).unwrap_or_default().to_string_lossy();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        folders.entry(folder.into_owned()).or_default().insert(stem.into_owned());
    }
    folders
}

#[test]
fn every_pass_has_tests() {
    let folders = gir_files();
    let missing: Vec<&str> = names().into_iter().filter(|name| !folders.contains_key(*name)).collect();
    assert!(missing.is_empty(), "no folder in tests/gir for the passes {missing:?}");
}

#[test]
fn every_rule_has_a_test_and_every_test_a_rule() {
    let rules: BTreeSet<&str> = simplify_rules().into_iter().collect();
    assert_eq!(rules.len(), simplify_rules().len(), "two rules have one name");
    let folders = gir_files();
    let tested: BTreeSet<&str> =
        folders["simplify"].iter().filter_map(|stem| stem.split('-').next()).collect();
    let untested: Vec<_> = rules.difference(&tested).collect();
    assert!(untested.is_empty(), "no file in tests/gir/simplify for {untested:?}");
    let unknown: Vec<_> = tested.difference(&rules).collect();
    assert!(unknown.is_empty(), "no rule is named {unknown:?}");
}

/// Each `.gir` file has its accepted result beside it (but for refused graphs), and each result its file.
#[test]
fn results_stand_beside_their_tests() {
    for path in files(&["gir"]) {
        let refused = read(&path).lines().any(|line| line.starts_with("// error:"));
        let accepted = path.with_extension("snap").exists();
        assert!(accepted != refused, "{}: the accepted result", shown(&path));
    }
    for path in files(&["snap"]).into_iter().filter(|path| path.starts_with(root().join("tests/gir"))) {
        assert!(path.with_extension("gir").exists(), "{} belongs to no test", shown(&path));
    }
}

#[test]
fn every_operator_is_documented() {
    let document = read(&root().join("docs/gir.md"));
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with(['#', '|'])).collect();
    let documented = |name: &&str| rows.iter().any(|row| row.contains(&format!("`{name}`")));
    let missing: Vec<&str> = operator_names().into_iter().filter(|name| !documented(name)).collect();
    assert!(missing.is_empty(), "docs/gir.md has no heading or table row for {missing:?}");
}

/// Which crates of the workspace each crate may use, outside of its own tests.
const ARROWS: [(&str, &[&str]); 9] = [
    ("ir", &[]),
    ("kernels", &[]),
    ("frontend-onnx", &["ir"]),
    ("passes", &["ir"]),
    ("runtime", &["kernels"]),
    ("codegen", &["ir", "kernels", "runtime"]),
    ("gradc", &["ir", "frontend-onnx", "passes", "kernels", "codegen"]),
    ("cli", &["gradc", "ir", "frontend-onnx", "passes", "codegen"]),
    ("tests", &["gradc", "ir", "frontend-onnx"]),
];

#[test]
fn dependencies_point_one_way() {
    let workspace = read(&root().join("Cargo.toml"));
    let members =
        workspace.lines().find_map(|line| line.strip_prefix("members = ")).expect("a list of members");
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, known, "the crates of the workspace");
    for (name, allowed) in ARROWS {
        let own = format!("gradc-{name}");
        for used in dependencies(&read(&root().join(name).join("Cargo.toml"))) {
            let short = used.strip_prefix("gradc-").unwrap_or(&used);
            let fits = allowed.contains(&short) || used == own;
            assert!(
                fits,
                "{name} depends on {used}: a new arrow needs a reason in ARCHITECTURE.md, and a place here"
            );
        }
    }
}

/// The crates of this workspace in `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['=', '.', ' ']).next());
    names.filter(|name| *name == "gradc" || name.starts_with("gradc-")).map(String::from).collect()
}

const MOST_LINES: usize = 500;

#[test]
fn no_file_is_long() {
    let generated = |text: &str| text.lines().take(5).any(|line| line.contains("generated"));
    let mut long: Vec<String> = Vec::new();
    for path in files(&["rs"]) {
        let text = read(&path);
        let lines = text.lines().count();
        if lines > MOST_LINES && !generated(&text.to_lowercase()) {
            long.push(format!("{}: {lines}", shown(&path)));
        }
    }
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:?}");
}

/// Whatever names a folder of one machine works on that machine alone.
#[test]
fn no_file_names_a_machine() {
    let roots = ["home", "root", "Users", "work", "mnt"].map(|name| format!("/{name}/"));
    let begins_a_path = |line: &str, root: &str| {
        line.match_indices(root).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| c.is_whitespace() || "\"'`(=:".contains(c))
        })
    };
    for path in files(&["rs", "toml", "md", "gir", "snap", "py", "sh", "yml", "yaml"]) {
        for (number, line) in read(&path).lines().enumerate() {
            let found = roots.iter().find(|root| begins_a_path(line, root));
            assert!(found.is_none(), "{}:{}: {line}", shown(&path), number + 1);
        }
    }
}
