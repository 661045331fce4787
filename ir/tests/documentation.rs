//! The language's document covers the language.

use gradc_ir::testing::operator_names;
use gradc_ir::{DType, parse};

const DOCUMENT: &str = include_str!("../../docs/gir.md");

#[test]
fn every_operator_is_documented() {
    let documented = |name: &str| {
        let term = format!("`{name}`");
        DOCUMENT.lines().any(|line| (line.starts_with('#') || line.starts_with('|')) && line.contains(&term))
    };
    let missing: Vec<&str> = operator_names().into_iter().filter(|name| !documented(name)).collect();
    assert!(missing.is_empty(), "docs/gir.md has no heading or table row for {missing:?}");
}

#[test]
fn every_element_type_is_documented() {
    let missing: Vec<DType> =
        DType::ALL.into_iter().filter(|dtype| !DOCUMENT.contains(&format!("`{dtype}`"))).collect();
    assert!(missing.is_empty(), "docs/gir.md does not name {missing:?}");
}

/// Blocks marked `gir` are whole graphs, canonical where they stand.
#[test]
fn examples_in_the_document_are_canonical() {
    let blocks: Vec<&str> =
        DOCUMENT.split("```gir\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(blocks.len() >= 3, "the document has examples");
    for block in blocks {
        let graph = parse(block).unwrap_or_else(|error| panic!("{error}\n{block}"));
        assert_eq!(graph.to_string(), block);
    }
}

/// Every example in a table row is a statement that parses, over inputs that the document declares.
#[test]
fn examples_of_operators_parse() {
    let header = DOCUMENT.split("```inputs\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let header = header.expect("the document declares the inputs of its examples").replace('\n', " ");
    let mut count = 0;
    for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
        let Some(example) = line.split('`').map(str::trim).rfind(|part| part.starts_with("%r:")) else {
            continue;
        };
        let text = format!("graph @example({header}) {{ {example} return }}");
        parse(&text).unwrap_or_else(|error| panic!("{error}\n{example}"));
        count += 1;
    }
    assert!(count >= 40, "only {count} examples");
}
