//! Documents that the command itself tells: they are written anew with `GRADC_BLESS=1`.

use crate::folder::Folder;
use std::fs;
use std::path::Path;

fn hold(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file);
    if std::env::var_os("GRADC_BLESS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{file} is stale: write it anew with GRADC_BLESS=1 cargo test -p gradc-cli documents. First difference: {differs:?}"
    );
}

const OPERATORS: &str = "# Operators

Every operator of ONNX up to opset 28, and those of other domains that gradc knows. This page is written by a test from the same table that `gradc ops` prints; do not edit it.

- **tier**: how often real models need it: 1 most of them, 2 the common exporters, 3 the rest.
- **opsets** that introduced or changed it. gradc reads models of opset 7 to 28 of `ai.onnx`.
- **gradient**: *full* is computed (reverse mode, forward mode and derivatives of higher order alike, as the operators that it is made of are closed under differentiation); *zero* by definition, or the result is
  a truth value or an index; *none*: integers and shapes, or not supported; *as its body*: control flow.
- **types** that ONNX allows and gradc has. Gradients flow through the floats among them. A `+` says that ONNX allows more: strings, complex numbers, sequences, and element types of fewer than 8 bits or of 8-bit floats, which gradc holds as codes where they are only converted and moved.
- **at kinks** is the choice where mathematics leaves one; [conventions.md](conventions.md) has the whole list, and the tests.

";

#[test]
fn the_page_of_operators_is_current() {
    let json = Folder::new().gradc("ops --all --json").json();
    let rows = json["operators"].as_array().unwrap();
    let mut text = OPERATORS.to_owned();
    let supported = rows.iter().filter(|row| row["supported"] == true).count();
    text += &format!("{supported} of {} are supported.\n", rows.len());
    let list = |value: &serde_json::Value| {
        let items = value.as_array().unwrap().iter().map(|item| item.to_string().replace('"', ""));
        items.collect::<Vec<_>>().join(" ")
    };
    let mut domain = String::new();
    for row in rows {
        let here = row["domain"].as_str().unwrap();
        if here != domain {
            domain = here.to_owned();
            text += &format!(
                "\n## {domain}\n\n| operator | tier | opsets | gradient | types | at kinks, or why it is missing |\n|---|---|---|---|---|---|\n"
            );
        }
        let mut types = list(&row["types"]);
        if types.split(' ').count() == 13 {
            types = "all".to_owned();
        }
        if !row["other_types"].as_array().unwrap().is_empty() {
            types += " +";
        }
        let mark = if row["supported"] == true { "" } else { "**missing**: " };
        let words = row["kink"].as_str().or(row["reason"].as_str()).unwrap_or_default();
        let deprecated =
            row["deprecated"].as_u64().map_or(String::new(), |opset| format!(", gone in {opset}"));
        text += &format!(
            "| {} | {} | {}{deprecated} | {} | {} | {mark}{words} |\n",
            row["name"].as_str().unwrap(),
            row["tier"],
            list(&row["opsets"]),
            row["vjp"].as_str().unwrap(),
            types.trim(),
        );
    }
    hold("docs/operators.md", &text);
}

#[test]
fn the_page_of_commands_is_current() {
    let folder = Folder::new();
    let help = folder.run(&["--help"]).ok();
    let mut text = format!(
        "# The command line\n\nThis page is written by a test from what `gradc --help` prints; do not edit it.\n\n```text\n{}```\n",
        plain(&help)
    );
    let listed = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    for line in listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let command = line.split_whitespace().next().unwrap();
        if command == "help" {
            continue;
        }
        let help = folder.run(&[command, "--help"]).ok();
        text += &format!("\n## gradc {command}\n\n```text\n{}```\n", plain(&help));
    }
    hold("docs/cli.md", &text);
}

/// Without spaces at the ends of lines.
fn plain(help: &str) -> String {
    help.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
