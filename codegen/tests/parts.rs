//! Steps that run part by part: attention and its gradient, by heads or by rows of a head.

mod common;

use common::{check_with, graph, inputs, parts, program};
use gradc_codegen::{CompileOptions, lower_within};
use gradc_ir::{DType, DotDims, FusedOp, Graph, Literal, Op, Shape, parse};
use std::sync::Arc;

/// Of `heads` heads, `rows` queries, `columns` keys of `width` numbers each.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    dtype: &'static str,
    heads: usize,
    rows: usize,
    columns: usize,
    width: usize,
}

impl Sizes {
    fn graph(self, text: &str) -> Graph {
        let Sizes { dtype, heads, rows, columns, width } = self;
        let text = (text.replace("QUERY", &format!("{dtype}[{heads},{rows},{width}]")))
            .replace("KEY", &format!("{dtype}[{heads},{columns},{width}]"))
            .replace("SCORE", &format!("{dtype}[{heads},{rows},{columns}]"))
            .replace("ROW", &format!("{dtype}[{heads},{rows}]"));
        parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Bytes of all scores.
    fn scores(self) -> usize {
        let Sizes { dtype, heads, rows, columns, .. } = self;
        heads * rows * columns * if dtype == "f64" { 8 } else { 4 }
    }
}

const FORWARD: &str = "graph @attention(%q: QUERY, %k: KEY, %v: KEY) {
  %s: SCORE = dot %q, %k lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[2]
  %p: SCORE = softmax %s axis=2
  %o: QUERY = dot %p, %v lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[1]
  return %o
}";

/// Of scores that were kept, as a backward pass finds them.
const BACKWARD: &str = "graph @backward(%q: QUERY, %k: KEY, %v: KEY, %p: SCORE, %g: QUERY) {
  %dp: SCORE = dot %g, %v lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[2]
  %a: SCORE = mul %dp, %p
  %b: ROW = reduce_sum %a axes=[2]
  %c: SCORE = broadcast %b dims=[0,1]
  %d: SCORE = sub %dp, %c
  %ds: SCORE = mul %p, %d
  %dq: QUERY = dot %ds, %k lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[1]
  %dk: KEY = dot %ds, %q lhs_batch=[0] rhs_batch=[0] lhs=[1] rhs=[1]
  %dv: KEY = dot %p, %g lhs_batch=[0] rhs_batch=[0] lhs=[1] rhs=[1]
  return %dq, %dk, %dv
}";

fn run(graph: &Graph, inputs: &[Literal], threads: usize, team: usize) -> Vec<Vec<u8>> {
    common::run(graph, inputs, &CompileOptions { threads, profile: false, arena_limit: None }, team)
}

/// Runs part by part with one thread, has the meaning of the graph, and the same bits with any number of threads.
fn holds(graph: &Graph, expected: &[(usize, usize)]) {
    let alone = program(graph, 1);
    assert_eq!(parts(&alone), expected, "{alone}");
    let inputs = inputs(graph, 5, 0.4);
    check_with(graph, &inputs);
    let bits = run(graph, &inputs, 1, 1);
    for (threads, team) in [(2, 2), (3, 3), (4, 4), (4, 3), (8, 2)] {
        for _ in 0..2 {
            assert!(run(graph, &inputs, threads, team) == bits, "{threads} {team}\n{graph}");
        }
    }
}

#[test]
fn small_heads_run_one_by_one() {
    for dtype in ["f32", "f64"] {
        for (heads, rows, columns, width) in [(6, 96, 80, 32), (3, 131, 131, 24), (5, 100, 128, 48)] {
            let sizes = Sizes { dtype, heads, rows, columns, width };
            let forward = sizes.graph(FORWARD);
            holds(&forward, &[(heads, 3)]);
            let arena = program(&forward, 1).arena;
            assert!(arena < sizes.scores(), "{sizes:?}: {arena}");
            // What two threads do at a time.
            let arena = program(&forward, 2).arena;
            assert!(heads % 2 == 1 || arena < sizes.scores() * 5 / heads, "{sizes:?}: {arena}");
        }
    }
}

#[test]
fn large_heads_run_by_rows() {
    let sizes = Sizes { dtype: "f32", heads: 2, rows: 512, columns: 1024, width: 32 };
    holds(&sizes.graph(FORWARD), &[(16, 3)]);
    let sizes = Sizes { dtype: "f64", heads: 1, rows: 256, columns: 512, width: 16 };
    holds(&sizes.graph(FORWARD), &[(4, 3)]);
    // No part of so many rows has rows in eights.
    let sizes = Sizes { dtype: "f32", heads: 2, rows: 404, columns: 1024, width: 16 };
    holds(&sizes.graph(FORWARD), &[(2, 3)]);
}

#[test]
fn gradients_run_by_heads() {
    for (dtype, heads, rows, columns, width) in [("f32", 4, 128, 128, 32), ("f64", 3, 90, 80, 16)] {
        let sizes = Sizes { dtype, heads, rows, columns, width };
        holds(&sizes.graph(BACKWARD), &[(heads, 9)]);
    }
}

#[test]
fn heads_in_groups_run_one_by_one() {
    let text = "graph @groups(%q: f32[2,96,3,32], %k: f32[2,80,3,32], %v: f32[2,80,3,32]) {
  %s: f32[2,3,96,80] = dot %q, %k lhs_batch=[0,2] rhs_batch=[0,2] lhs=[3] rhs=[3]
  %p: f32[2,3,96,80] = softmax %s axis=3
  %o: f32[2,3,96,32] = dot %p, %v lhs_batch=[0,1] rhs_batch=[0,2] lhs=[3] rhs=[1]
  return %o
}";
    holds(&parse(text).unwrap(), &[(6, 3)]);
}

/// Scores that are scaled and masked as they are made: an epilogue, which counts heads and rows.
#[test]
fn epilogues_know_their_part() {
    for (heads, rows, columns, parts) in [(4, 96, 112, 4), (2, 384, 1024, 12)] {
        let dims = |contract| DotDims {
            lhs_batch: vec![0],
            rhs_batch: vec![0],
            lhs_contract: vec![2],
            rhs_contract: vec![contract],
        };
        let (query, key): (&[usize], &[usize]) = (&[heads, rows, 32], &[heads, columns, 32]);
        let (mask, scale): (&[usize], &[usize]) = (&[rows, columns], &[heads]);
        let scores = Shape::new(&[heads, rows, columns]);
        let f32s = |shape| (DType::F32, shape);
        let body = graph(&[query, key, mask, scale].map(f32s), |builder, values| {
            let [q, k, mask, scale] = [0, 1, 2, 3].map(|index| builder.expr(values[index]));
            let product = q.dot(k, dims(2));
            vec![(product * scale.broadcast(&scores, &[0]) + mask.broadcast(&scores, &[1, 2])).value()]
        });
        let body = Arc::new(body);
        let graph = graph(&[query, key, mask, scale, key].map(f32s), |builder, values| {
            let group = builder.build(Op::Fused(FusedOp { body: body.clone() }), &values[..4]).project(0);
            let p = builder.build(Op::Softmax { axis: 2 }, &[group.value()]);
            vec![p.dot(builder.expr(values[4]), dims(1)).value()]
        });
        let program = program(&graph, 1);
        assert!(program.to_string().contains(", then "), "{program}");
        holds(&graph, &[(parts, 3)]);
    }
}

#[test]
fn what_others_need_is_kept() {
    let sizes = Sizes { dtype: "f32", heads: 4, rows: 96, columns: 96, width: 32 };
    // Scores are a result, and summed over heads.
    let kept = FORWARD.replace("return %o", "%n: SCORE = neg %p\n  return %o, %n");
    let graph = sizes.graph(&kept);
    check_with(&graph, &inputs(&graph, 5, 1.0));
    let mixed = FORWARD.replace(
        "return %o",
        &format!("%n: f32[{},{}] = reduce_max %p axes=[0]\n  return %o, %n", sizes.rows, sizes.columns),
    );
    holds(&sizes.graph(&mixed), &[(4, 3)]);
}

#[test]
fn what_does_not_fall_into_parts_is_left_alone() {
    let sizes = Sizes { dtype: "f32", heads: 4, rows: 96, columns: 96, width: 32 };
    // A softmax across heads.
    let across = sizes.graph(&FORWARD.replace("axis=2", "axis=0"));
    // A layer: its weights would be packed for each part.
    let layer = parse(
        "graph @layer(%x: f32[512,64], %w: f32[64,256], %u: f32[256,64]) {
  %a: f32[512,256] = dot %x, %w lhs=[1] rhs=[0]
  %b: f32[512,256] = abs %a
  %c: f32[512,64] = dot %b, %u lhs=[1] rhs=[0]
  return %c
}",
    );
    // Little between the steps.
    let little = Sizes { dtype: "f32", heads: 4, rows: 32, columns: 32, width: 16 };
    for graph in [across, layer.unwrap(), little.graph(FORWARD)] {
        holds(&graph, &[]);
    }
}

#[test]
fn where_memory_is_enough_nothing_is_made_again() {
    let sizes = Sizes { dtype: "f32", heads: 8, rows: 128, columns: 128, width: 16 };
    let graph = sizes.graph(FORWARD);
    let free = program(&graph, 1).arena;
    let limited = lower_within(&graph, 1, Some(free)).unwrap();
    assert!(limited.arena <= free && limited.repeats.is_empty());
    assert_eq!(parts(&limited), [(8, 3)]);
}

/// Two layers of attention, with heads that change places between them, and their gradients in the order of a backward
/// pass.
const TRAINED: &str = "graph @trained(%q: QUERY, %k: KEY, %v: KEY) {
  %s1: SCORE = dot %q, %k lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[2]
  %p1: SCORE = softmax %s1 axis=2
  %o1: QUERY = dot %p1, %v lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[1]
  %x2: QUERY = reverse %o1 axes=[0]
  %s2: SCORE = dot %x2, %k lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[2]
  %p2: SCORE = softmax %s2 axis=2
  %o2: QUERY = dot %p2, %v lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[1]
  %g2: QUERY = reverse %o2 axes=[0]
  %dp2: SCORE = dot %g2, %v lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[2]
  %a2: SCORE = mul %dp2, %p2
  %b2: ROW = reduce_sum %a2 axes=[2]
  %c2: SCORE = broadcast %b2 dims=[0,1]
  %d2: SCORE = sub %dp2, %c2
  %ds2: SCORE = mul %p2, %d2
  %g1: QUERY = dot %ds2, %k lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[1]
  %dk2: KEY = dot %ds2, %x2 lhs_batch=[0] rhs_batch=[0] lhs=[1] rhs=[1]
  %dv2: KEY = dot %p2, %g2 lhs_batch=[0] rhs_batch=[0] lhs=[1] rhs=[1]
  %h1: QUERY = reverse %g1 axes=[0]
  %dp1: SCORE = dot %h1, %v lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[2]
  %a1: SCORE = mul %dp1, %p1
  %b1: ROW = reduce_sum %a1 axes=[2]
  %c1: SCORE = broadcast %b1 dims=[0,1]
  %d1: SCORE = sub %dp1, %c1
  %ds1: SCORE = mul %p1, %d1
  %dq: QUERY = dot %ds1, %k lhs_batch=[0] rhs_batch=[0] lhs=[2] rhs=[1]
  %dk1: KEY = dot %ds1, %q lhs_batch=[0] rhs_batch=[0] lhs=[1] rhs=[1]
  %dv1: KEY = dot %p1, %h1 lhs_batch=[0] rhs_batch=[0] lhs=[1] rhs=[1]
  return %dq, %dk1, %dv1, %dk2, %dv2
}";

#[test]
fn scores_are_made_again_where_memory_is_limited() {
    let sizes = Sizes { dtype: "f32", heads: 6, rows: 96, columns: 96, width: 16 };
    let graph = sizes.graph(TRAINED);
    let inputs = inputs(&graph, 5, 0.4);
    check_with(&graph, &inputs);
    let free = program(&graph, 1);
    assert_eq!(parts(&free), [(6, 3), (6, 3), (6, 9), (6, 9)], "{free}");
    assert!(free.repeats.is_empty() && free.arena > 2 * sizes.scores());
    let expected = run(&graph, &inputs, 1, 1);
    // One of two, then both, are not there as a whole.
    for (limit, members) in [(free.arena - 1, [9, 11]), (free.arena * 3 / 5, [11, 11])] {
        let limited = lower_within(&graph, 1, Some(limit)).unwrap();
        assert!(limited.arena <= limit, "{} of {limit}\n{limited}", limited.arena);
        assert_eq!(parts(&limited)[2..], members.map(|steps| (6, steps)), "{limited}");
        assert!(!limited.repeats.is_empty());
        for threads in [1, 2, 3] {
            let options = CompileOptions { threads, profile: false, arena_limit: Some(limit) };
            let limited = common::run(&graph, &inputs, &options, threads);
            assert!(limited == expected, "{threads} threads within {limit}");
        }
    }
}
