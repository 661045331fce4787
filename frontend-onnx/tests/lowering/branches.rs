//! `If`.

use super::*;

/// `y = condition ? x + w : <otherwise>`, where w is a constant of the first branch.
fn with_branches(condition_input: bool, otherwise: NodeProto) -> ModelProto {
    let constant = node("Constant", "c", "", "w").with(tensor(f32_tensor("", &[1.0, 2.0, 3.0])));
    let then = graph("", "t", vec![constant, node("Add", "a", "x w", "t")]);
    let otherwise = graph("", "e", vec![otherwise]);
    let branch = node("If", "if", "condition", "y");
    let branch = branch.with(body("then_branch", then)).with(body("else_branch", otherwise));
    let mut graph = graph("x", "y", vec![branch]);
    if condition_input {
        graph.input.push(typed_value("condition", 9, vec![]));
    } else {
        graph.node.insert(0, node("Greater", "g", "two one", "condition"));
        let scalar = |name: &str, value: f32| TensorProto { dims: vec![], ..f32_tensor(name, &[value]) };
        graph.initializer = vec![scalar("one", 1.0), scalar("two", 2.0)];
    }
    model(graph)
}

#[test]
fn of_a_known_condition_only_one_branch_is_lowered() {
    let proto = with_branches(false, node("Foo", "f", "x", "e"));
    let weights = WeightPolicy::Names(names(&["w"]));
    let lowered = lower_with(&proto, &LowerOptions { weights, ..options() }).expect("lowered");
    assert_eq!(lowered.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x", "w"]);
    assert!(lowered.values.contains_key("t") && !lowered.values.contains_key("e"));
    assert_eq!(ops(&finish(lowered)), ["add"]);
}

#[test]
fn a_fixed_input_picks_a_branch() {
    let proto = with_branches(true, node("Neg", "n", "x", "e"));
    let input_values = BTreeMap::from([("condition".to_owned(), Literal::scalar(false))]);
    let lowered = lower_with(&proto, &LowerOptions { input_values, ..options() }).expect("lowered");
    assert_eq!(ops(&finish(lowered)), ["neg"]);
}

#[test]
fn of_an_unknown_condition_both_branches_are_computed() {
    let proto = with_branches(true, node("Neg", "n", "x", "e"));
    let graph = finish(lower_with(&proto, &options()).expect("lowered"));
    let x = Literal::new([3], &[1.0f32, 1.0, 1.0]);
    for (condition, wanted) in [(true, [2.0, 3.0, 4.0]), (false, [-1.0, -1.0, -1.0])] {
        let outputs = eval(&graph, &[x.clone(), Literal::scalar(condition)]).expect("evaluated");
        assert_eq!(outputs[0].to_f64(), wanted);
    }
}

#[test]
fn branches_of_different_types_need_a_known_condition() {
    let proto = with_branches(true, node("Shape", "s", "x", "e"));
    let message =
        "If «if»: the condition is known at run time only, and the branches yield f32[3] and i64[1]";
    refused(lower_with(&proto, &options()), "GC0310", message);
}

#[test]
fn unsupported_operators_of_a_taken_branch_are_told() {
    let proto = with_branches(true, node("Foo", "f", "x", "e"));
    refused(lower_with(&proto, &options()), "GC0301", "1 op type is not supported: Foo ×1 («f»)");
}
