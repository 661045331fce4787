//! Model-local functions and their inlining.

use crate::build::*;
use gradc_frontend_onnx::model::{Attribute, inline_functions};
use gradc_frontend_onnx::proto::attribute_proto::AttributeType;
use gradc_frontend_onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto};
use gradc_frontend_onnx::{Error, Model, ReadOptions};

fn with_functions(graph: GraphProto, functions: Vec<FunctionProto>) -> ModelProto {
    ModelProto { functions, opset_import: vec![opset("", 17), opset("f", 1)], ..model(graph) }
}

fn inline(proto: &ModelProto) -> Result<Model, Error> {
    inline_functions(&read(proto)?, &ReadOptions::default())
}

fn call(function: &str, name: &str, inputs: &str, outputs: &str) -> NodeProto {
    node(function, name, inputs, outputs).of("f")
}

/// One line a node, bodies after their node in braces.
fn lines(nodes: &[gradc_frontend_onnx::model::Node]) -> Vec<String> {
    let list = |names: &[Option<String>]| {
        names.iter().map(|name| name.as_deref().unwrap_or("_")).collect::<Vec<_>>().join(" ")
    };
    let mut all = Vec::new();
    for node in nodes {
        let (inputs, outputs) = (list(&node.inputs), list(&node.outputs));
        all.push(format!("{} {}: {inputs} -> {outputs}", node.op_type, node.name).replace("  ", " "));
        for graph in node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs()) {
            all.push(format!("{{ captures {}", graph.captures.join(" ")));
            all.extend(lines(&graph.nodes));
            let outputs: Vec<_> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
            all.push(format!("}} -> {}", outputs.join(" ")));
        }
    }
    all
}

#[track_caller]
fn check(proto: &ModelProto, wanted: &[&str]) -> Model {
    let model = inline(proto).expect("inlined");
    assert!(model.functions.is_empty());
    assert_eq!(lines(&model.graph.nodes), wanted);
    model
}

#[test]
fn calls_become_nodes_with_names_of_their_own() {
    let twice = function("Twice", "a", "b", vec![node("Relu", "r", "a", "t"), node("Add", "s", "t t", "b")]);
    let nodes = vec![
        call("Twice", "one", "x", "t"),
        call("Twice", "two", "t", "y"),
        node("Neg", "n", "y", "one/t"),
        call("Twice", "two", "one/t", "z"),
    ];
    let model = check(
        &with_functions(graph("x", "y z", nodes), vec![twice]),
        &[
            "Relu one/r: x -> one/t_2",
            "Add one/s: one/t_2 one/t_2 -> t",
            "Relu two/r: t -> two/t",
            "Add two/s: two/t two/t -> y",
            "Neg n: y -> one/t",
            "Relu two/r: one/t -> two/t_2",
            "Add two/s: two/t_2 two/t_2 -> z",
        ],
    );
    let opsets: Vec<_> = model.graph.nodes.iter().map(|node| node.opset).collect();
    assert_eq!(opsets, [18, 18, 18, 18, 17, 18, 18]);
}

#[test]
fn functions_call_functions() {
    let inner = function("Inner", "a", "b", vec![node("Relu", "r", "a", "b")]);
    let outer = function("Outer", "a", "b", vec![call("Inner", "i", "a", "m"), call("Inner", "j", "m", "b")]);
    check(
        &with_functions(graph("x", "y", vec![call("Outer", "o", "x", "y")]), vec![outer, inner]),
        &["Relu o/i/r: x -> o/m", "Relu o/j/r: o/m -> y"],
    );
}

#[test]
fn attributes_are_passed_defaulted_and_left_out() {
    let float = AttributeType::Float;
    let body = node("Any", "n", "a", "b")
        .with(reference("given", "p", float))
        .with(reference("defaulted", "q", AttributeType::Int))
        .with(reference("overridden", "r", AttributeType::Int))
        .with(reference("absent", "s", float));
    let function = FunctionProto {
        attribute: texts(&["p", "s"]),
        attribute_proto: vec![int("q", 4), int("r", 5)],
        ..function("F", "a", "b", vec![body])
    };
    let nodes = vec![call("F", "c", "x", "y").with(int("p", 3)).with(int("r", 6))];
    let model = check(&with_functions(graph("x", "y", nodes), vec![function]), &["Any c/n: x -> y"]);
    let node = &model.graph.nodes[0];
    assert_eq!(node.int("given", 0), Ok(3));
    assert_eq!(node.int("defaulted", 0), Ok(4));
    assert_eq!(node.int("overridden", 0), Ok(6));
    assert!(node.attribute("absent").is_none());
}

#[test]
fn references_pass_through_several_functions() {
    let inner = FunctionProto {
        attribute: texts(&["alpha"]),
        ..function(
            "Inner",
            "a",
            "b",
            vec![node("Elu", "e", "a", "b").with(reference("alpha", "alpha", AttributeType::Int))],
        )
    };
    let outer = FunctionProto {
        attribute_proto: vec![int("beta", 9)],
        ..function(
            "Outer",
            "a",
            "b",
            vec![call("Inner", "i", "a", "b").with(reference("alpha", "beta", AttributeType::Int))],
        )
    };
    let proto = with_functions(graph("x", "y", vec![call("Outer", "o", "x", "y")]), vec![inner, outer]);
    let model = check(&proto, &["Elu o/i/e: x -> y"]);
    assert_eq!(model.graph.nodes[0].int("alpha", 0), Ok(9));
}

#[test]
fn values_may_be_left_out() {
    let function = function(
        "F",
        "a low high",
        "b c",
        vec![node("Clip", "k", "a low high", "b"), node("Relu", "r", "b", "c")],
    );
    let nodes = vec![call("F", "p", "x _ x", "y"), call("F", "q", "y", "_ z")];
    check(
        &with_functions(graph("x", "y z", nodes), vec![function]),
        &["Clip p/k: x _ x -> y", "Relu p/r: y -> p/c", "Clip q/k: y -> q/b", "Relu q/r: q/b -> z"],
    );
}

#[test]
fn outputs_that_are_inputs_or_twice_the_same_are_copied() {
    let function = function("F", "a", "b a b", vec![node("Relu", "r", "a", "b")]);
    check(
        &with_functions(graph("x", "p q r", vec![call("F", "f", "x", "p q r")]), vec![function]),
        &["Relu f/r: x -> p", "Identity f/a: x -> q", "Identity f/b: p -> r"],
    );
    let skipped = with_functions(
        graph("x", "p", vec![call("G", "g", "_ x", "p")]),
        vec![crate::build::function("G", "a b", "a", vec![])],
    );
    expect(inline(&skipped), "GC0310", "f.G «g»: output a of function «f.G» is an input that is left out");
}

#[test]
fn bodies_in_functions_are_renamed_and_calls_in_bodies_inlined() {
    let inner = function("Inner", "a", "b", vec![node("Relu", "r", "a", "b")]);
    // The body shadows nothing of the caller, though its names are the same.
    let then_branch = GraphProto {
        initializer: vec![f32_tensor("w", &[1.0])],
        ..graph("", "b", vec![call("Inner", "i", "a", "t"), node("Add", "s", "t w", "b")])
    };
    let outer = function(
        "Outer",
        "c a",
        "b",
        vec![node("If", "if", "c", "m").with(body("then_branch", then_branch)), node("Neg", "n", "m", "b")],
    );
    let model = check(
        &with_functions(graph("x t", "y", vec![call("Outer", "o", "t x", "y")]), vec![inner, outer]),
        &[
            "If o/if: t -> o/m",
            "{ captures x",
            "Relu o/if/i/r: x -> o/t".replace("o/if/i/r", "o/i/r").as_str(),
            "Add o/s: o/t o/w -> o/b",
            "} -> o/b",
            "Neg o/n: o/m -> y",
        ],
    );
    assert_eq!(model.graph.nodes[0].graph("then_branch").expect("a body").initializers[0].name(), "o/w");
}

#[test]
fn calls_in_bodies_of_the_model_are_inlined() {
    let inner = function("Inner", "a", "b", vec![node("Relu", "r", "a", "b")]);
    let then_branch = graph("", "t", vec![call("Inner", "i", "x", "t")]);
    check(
        &with_functions(
            graph("x c", "y", vec![node("If", "if", "c", "y").with(body("then_branch", then_branch))]),
            vec![inner],
        ),
        &["If if: c -> y", "{ captures x", "Relu i/r: x -> t", "} -> t"],
    );
}

#[test]
fn graphs_are_passed_as_attributes() {
    let function = FunctionProto {
        attribute: texts(&["do"]),
        ..function(
            "F",
            "c",
            "b",
            vec![node("If", "if", "c", "b").with(reference("then_branch", "do", AttributeType::Graph))],
        )
    };
    let passed = graph("", "t", vec![node("Relu", "r", "x", "t")]);
    let nodes = vec![call("F", "f", "c", "y").with(body("do", passed))];
    check(
        &with_functions(graph("x c", "y", nodes), vec![function]),
        &["If f/if: c -> y", "{ captures x", "Relu r: x -> t", "} -> t"],
    );
}

#[test]
fn functions_are_told_apart_by_domain_and_overload() {
    let one = function("F", "a", "b", vec![node("Relu", "r", "a", "b")]);
    let two =
        FunctionProto { overload: text("two"), ..function("F", "a", "b", vec![node("Neg", "n", "a", "b")]) };
    let nodes = vec![
        call("F", "p", "x", "y"),
        NodeProto { overload: text("two"), ..call("F", "q", "y", "z") },
        node("F", "r", "z", "w").of("other"),
    ];
    check(
        &with_functions(graph("x", "w", nodes), vec![one.clone(), two.clone()]),
        &["Relu p/r: x -> y", "Neg q/n: y -> z", "F r: z -> w"],
    );
    let proto = with_functions(graph("x", "x", vec![]), vec![two.clone(), two]);
    expect(read(&proto), "GC0307", "invalid model: function «f.F:two» is defined twice");
}

#[test]
fn functions_are_kept_as_data() {
    let function = FunctionProto {
        attribute: texts(&["p"]),
        attribute_proto: vec![int("q", 4)],
        ..function("F", "a", "b", vec![node("Neg", "second", "t", "b"), node("Relu", "first", "a", "t")])
    };
    let model = read(&with_functions(graph("x", "x", vec![]), vec![function])).expect("a model");
    let function = &model.functions[0];
    assert_eq!(
        (function.inputs.as_slice(), function.outputs.as_slice()),
        (&texts(&["a"])[..], &texts(&["b"])[..])
    );
    assert_eq!((function.attributes.as_slice(), function.opsets.get("")), (&texts(&["p"])[..], Some(&18)));
    assert_eq!(function.defaults.get("q"), Some(&Attribute::Int(4)));
    assert_eq!(function.nodes[0].name, "first");
}

#[test]
fn recursion_is_an_error() {
    let main = || graph("x", "y", vec![call("A", "c", "x", "y")]);
    let a = function("A", "a", "b", vec![call("B", "", "a", "b")]);
    let b = function("B", "a", "b", vec![call("A", "", "a", "b")]);
    let message = "invalid model: a function calls itself: «f.A» → «f.B» → «f.A»";
    expect(inline(&with_functions(main(), vec![a, b])), "GC0307", message);
    let through_body = graph("", "o", vec![call("A", "", "a", "o")]);
    let hidden =
        function("A", "a", "b", vec![node("If", "", "a", "b").with(body("then_branch", through_body))]);
    let message = "invalid model: a function calls itself: «f.A» → «f.A»";
    expect(inline(&with_functions(main(), vec![hidden])), "GC0307", message);
}

/// `F0` calls `F1` so many times, and so on.
fn tower(height: usize, calls: usize, last: Vec<NodeProto>) -> ModelProto {
    let mut functions = vec![function(&format!("F{height}"), "a", "", last)];
    for level in 0..height {
        let callee = format!("F{}", level + 1);
        let nodes = (0..calls).map(|_| call(&callee, "", "a", "")).collect();
        functions.push(function(&format!("F{level}"), "a", "", nodes));
    }
    with_functions(graph("x", "x", vec![call("F0", "", "x", "")]), functions)
}

#[test]
fn expansion_is_bounded() {
    let options = ReadOptions { max_nodes: 20_000, ..ReadOptions::default() };
    let inline = |proto: &ModelProto| inline_functions(&read(proto)?, &options);
    let message = "the model has too many nodes when its functions are inlined; the limit is 20,000";
    expect(inline(&tower(60, 2, vec![node("Relu", "", "a", "b")])), "GC0311", message);
    // Calls of nothing take time, too.
    expect(inline(&tower(90, 2, vec![])), "GC0311", message);
    assert!(inline(&tower(90, 1, vec![])).is_ok());
    let deep = "the model has functions that call each other more than 100 deep; the limit is 100";
    expect(inline(&tower(120, 1, vec![])), "GC0311", deep);
    // So does the text of names.
    let long = "n".repeat(100_000);
    let message =
        "the model has too many bytes of names when its functions are inlined; the limit is 20,480,000";
    expect(inline(&tower(10, 2, vec![node("Relu", &long, "a", "b")])), "GC0311", message);
}

#[test]
fn bodies_do_not_nest_deeper_through_calls() {
    let mut functions = vec![function("F40", "a", "b", vec![node("Relu", "", "a", "b")])];
    for level in 0..40 {
        let inner = graph("", "o", vec![call(&format!("F{}", level + 1), "", "a", "o")]);
        let nodes = vec![node("If", "", "a", "b").with(body("then_branch", inner))];
        functions.push(function(&format!("F{level}"), "a", "b", nodes));
    }
    let proto = with_functions(graph("x", "y", vec![call("F0", "", "x", "y")]), functions);
    let message = "the model has bodies nested 33 deep when its functions are inlined; the limit is 32";
    expect(inline(&proto), "GC0311", message);
}

/// The deepest bodies that protobuf's own limit lets through, under the longest chain of calls.
#[test]
fn a_small_stack_is_enough() {
    let mut inner = graph("", "x", vec![]);
    for _ in 0..31 {
        inner = graph("", "x", vec![node("If", "", "x", "").with(body("then_branch", inner))]);
    }
    let proto = tower(99, 1, vec![node("If", "", "a", "").with(body("then_branch", graph("", "a", vec![])))]);
    let deep = model(GraphProto { input: vec![value("x")], ..inner });
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    let results = thread.spawn(move || (inline(&proto).map(drop), read(&deep).map(drop))).expect("a thread");
    assert_eq!(results.join().expect("no overflow"), (Ok(()), Ok(())));
}

#[test]
fn contradictions() {
    let main = |inputs, outputs| graph("x", "x", vec![call("F", "c", inputs, outputs)]);
    let relu = || vec![node("Relu", "r", "a", "b")];
    let check = |function: FunctionProto, message: &str| {
        let error = inline(&with_functions(main("x", "y"), vec![function])).expect_err(message);
        assert_eq!(error.to_string(), message);
    };
    check(
        function("F", "a", "b", vec![node("Add", "r", "a w", "b")]),
        "invalid model: in function «f.F»: Add «r» uses «w», which nothing defines",
    );
    check(
        function("F", "a", "c", relu()),
        "invalid model: in function «f.F»: the list of outputs uses «c», which nothing defines",
    );
    check(
        FunctionProto { name: None, ..function("F", "a", "b", relu()) },
        "invalid model: a function has no name",
    );
    check(
        FunctionProto {
            attribute: texts(&["q"]),
            attribute_proto: vec![int("q", 1)],
            ..function("F", "a", "b", relu())
        },
        "invalid model: function «f.F» has two attributes «q»",
    );
    check(
        FunctionProto { opset_import: vec![opset("", 99)], ..function("F", "a", "b", relu()) },
        "the model uses opset 99 of ai.onnx, known are 7 to 28",
    );
    check(
        FunctionProto { opset_import: vec![], ..function("F", "a", "b", relu()) },
        "invalid model: in function «f.F»: Relu «r» is of ai.onnx, which is not imported",
    );
    let function = || vec![function("F", "a", "b", relu())];
    let message = "f.F «c»: it has 2 inputs, function «f.F» has 1";
    expect(inline(&with_functions(main("x x", "y"), function())), "GC0310", message);
    let message = "f.F «c»: it has 2 outputs, function «f.F» has 1";
    expect(inline(&with_functions(main("x", "y z"), function())), "GC0310", message);
}
