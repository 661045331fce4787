//! Convolutions that run part by part, by channels: what a pointwise one makes is taken on while it is near.

mod common;

use common::{check_with, inputs, parts, program};
use gradc_codegen::CompileOptions;
use gradc_ir::{Graph, parse};

/// A pointwise convolution with `first` done to its result, then one of single channels.
fn graph(dtype: &str, channels: usize, size: usize, stride: usize, first: &str, results: &str) -> Graph {
    let out = size.div_ceil(stride);
    let text = format!(
        "graph @blocks(%x: D[1,8,S,S], %w: D[C,8,1,1], %b: D[C], %r: D[1,C,S,S], %k: D[C,1,3,3]) {{
  %zero: D[] = constant 0.0
  %f: (D[1,C,S,S]) = fused %x, %w, %b, %r, %zero {{
    graph @body(%p0: D[1,8,S,S], %p1: D[C,8,1,1], %p2: D[C], %p3: D[1,C,S,S], %p4: D[]) {{
      %c: D[1,C,S,S] = conv %p0, %p1
      %s: D[1,C,S,S] = broadcast %p2 dims=[1]
      %q: D[1,C,S,S] = broadcast %p4 dims=[]
      {first}
    }}
  }}
  %m: D[1,C,S,S] = project %f part=0
  %y: D[1,C,O,O] = conv %m, %k stride=[{stride},{stride}] pad_low=[1,1] groups=C
  return {results}
}}"
    );
    let text = text.replace("D[", &format!("{dtype}[")).replace("groups=C", &format!("groups={channels}"));
    let text = text.replace("C,", &format!("{channels},")).replace("[C]", &format!("[{channels}]"));
    let text = text.replace("S,S]", &format!("{size},{size}]")).replace("O,O]", &format!("{out},{out}]"));
    parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const SHIFT: &str = "%t: D[1,C,S,S] = add %c, %s\n return %t";
const BOUND: &str = "%t: D[1,C,S,S] = sub %c, %s\n %l: bool[1,C,S,S] = le %t, %q\n %u: D[1,C,S,S] = select %l, %q, %t\n return %u";
/// No kernel of a product does this itself.
const CALLED: &str = "%t: D[1,C,S,S] = add %c, %s\n %u: D[1,C,S,S] = sigmoid %t\n %v: D[1,C,S,S] = mul %t, %u\n %z: D[1,C,S,S] = add %v, %p3\n return %z";

/// Runs in so many parts with one thread, has the meaning of the graph, and the same bits with any number of threads.
fn holds(graph: &Graph, expected: &[(usize, usize)]) {
    let alone = program(graph, 1);
    assert_eq!(parts(&alone), expected, "{alone}");
    let inputs = inputs(graph, 3, 0.5);
    check_with(graph, &inputs);
    let run = |threads: usize, team: usize| {
        common::run(graph, &inputs, &CompileOptions { threads, profile: false, arena_limit: None }, team)
    };
    let bits = run(1, 1);
    for (threads, team) in [(2, 2), (3, 3), (4, 2), (8, 4)] {
        assert!(run(threads, team) == bits, "{threads} {team}\n{graph}");
    }
}

#[test]
fn channels_are_taken_on_while_they_are_near() {
    for (first, stride) in [(SHIFT, 1), (BOUND, 1), (BOUND, 2), (CALLED, 2)] {
        let graph = graph("f32", 48, 72, stride, first, "%y");
        // 24 channels of 72 by 72 are just below half a megabyte.
        holds(&graph, &[(2, 2)]);
        let arena = program(&graph, 1).arena;
        assert!(arena < 48 * 72 * 72 * 4, "{arena}");
    }
    holds(&graph("f64", 48, 56, 1, BOUND, "%y"), &[(3, 2)]);
}

#[test]
fn what_is_kept_as_a_whole_or_near_anyway_is_not_divided() {
    holds(&graph("f32", 48, 72, 1, SHIFT, "%y, %m"), &[]);
    holds(&graph("f32", 48, 20, 1, SHIFT, "%y"), &[]);
    // Tiles of a pointwise convolution have eight rows.
    holds(&graph("f32", 54, 72, 1, SHIFT, "%y"), &[]);
}

#[test]
fn an_epilogue_that_counts_its_rows_is_not_divided() {
    let first = "%i: D[1,C,S,S] = iota axis=1\n %t: D[1,C,S,S] = add %c, %i\n return %t";
    holds(&graph("f32", 48, 72, 1, first, "%y"), &[]);
}
