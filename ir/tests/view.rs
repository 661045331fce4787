//! Graphs through petgraph's eyes, as pictures, and their invariants.

use gradc_ir::testing::{RandomOptions, random_graph};
use gradc_ir::*;
use petgraph::Direction;
use petgraph::algo::{dijkstra, dominators, has_path_connecting, toposort};
use petgraph::visit::{EdgeCount, EdgeIndexable, EdgeRef, IntoEdgeReferences, IntoEdgesDirected, NodeCount};

const DIAMOND: &str = "\
graph @diamond(%x: f32[3], %y: f32[3]) {
  %2: f32[3] = exp %x
  %3: f32[3] = sin %2
  %4: f32[3] = mul %2, %2
  %5: f32[3] = sub %3, %4
  return %5, %y
}";

fn value(index: usize) -> Value {
    Value::from_index(index)
}

#[test]
fn toposort_is_a_definition_order() {
    for seed in 0..50 {
        let (graph, _) = random_graph(seed, &RandomOptions::default());
        let view = graph.view();
        let order = toposort(&view, None).expect("graphs have no cycles");
        assert_eq!(order.len(), graph.len());
        let mut rank = vec![0; graph.len()];
        order.iter().enumerate().for_each(|(place, value)| rank[value.index()] = place);
        for edge in view.edge_references() {
            assert!(rank[edge.source().index()] < rank[edge.target().index()]);
        }
    }
}

#[test]
fn paths_lead_from_producers_to_users() {
    let graph = parse(DIAMOND).expect("a graph");
    let view = GraphView::new(&graph);
    assert!(has_path_connecting(&view, value(0), value(5), None));
    assert!(!has_path_connecting(&view, value(5), value(0), None));
    assert!(!has_path_connecting(&view, value(1), value(5), None));
}

#[test]
fn dominators_of_a_diamond() {
    let graph = parse(DIAMOND).expect("a graph");
    let dominators = dominators::simple_fast(&graph.view(), value(0));
    assert_eq!(dominators.immediate_dominator(value(5)), Some(value(2)));
    assert_eq!(dominators.immediate_dominator(value(2)), Some(value(0)));
    assert_eq!(dominators.immediate_dominator(value(1)), None);
}

#[test]
fn dijkstra_counts_steps() {
    let graph = parse(DIAMOND).expect("a graph");
    let view = graph.view();
    let weighted = dijkstra(&view, value(0), None, |edge| edge.weight() * 10 + 1);
    assert_eq!(weighted.get(&value(5)), Some(&3), "exp, sin, sub at position 0");
    assert_eq!(weighted.get(&value(1)), None);
}

#[test]
fn edges_are_operand_positions() {
    let graph = parse(DIAMOND).expect("a graph");
    let view = graph.view();
    assert_eq!((view.node_count(), view.edge_count()), (6, 6));
    let uses: Vec<(Value, usize)> = view.uses(value(2)).iter().map(EdgeRef::id).collect();
    assert_eq!(uses, [(value(3), 0), (value(4), 0), (value(4), 1)]);
    let operands: Vec<Value> =
        (&view).edges_directed(value(5), Direction::Incoming).map(|edge| edge.source()).collect();
    assert_eq!(operands, [value(3), value(4)]);
    for (index, edge) in view.edge_references().enumerate() {
        assert_eq!(EdgeIndexable::to_index(&view, edge.id()), index);
        assert_eq!(EdgeIndexable::from_index(&view, index), edge.id());
    }
}

#[test]
fn dot_escapes_labels_and_shows_origins() {
    let builder = Builder::new("a\"b");
    let x = builder.input("in\"put\n", TensorType::new(DType::F32, [2]));
    builder.set_origin(Some(Origin { name: "act\\1".into(), operator: "Exp".into() }));
    let y = builder.expr(x).exp();
    let z = (y - y).value();
    let graph = builder.finish(&[z]);
    assert_eq!(
        graph.to_dot(),
        r#"digraph "a\"b" {
  rankdir=TB;
  node [shape=box];
  n0 [label="%in\"put\n\nf32[2]"];
  n1 [label="%1 exp\nf32[2]\nact\\1 (Exp)"];
  n2 [label="%2 sub\nf32[2]\nact\\1 (Exp)"];
  n0 -> n1;
  n1 -> n2 [label="0"];
  n1 -> n2 [label="1"];
  out0 [label="output 0", shape=ellipse];
  n2 -> out0;
}
"#
    );
}
