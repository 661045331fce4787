//! Which passes run, in which order.

use crate::{
    CanonicalDot, Decompose, Fold, Fuse, MergeScans, Pass, PatchDot, Simplify, StripMarks, WidenProducts,
};
use gradc_ir::{Graph, Op, ScanOp, rebuild};
use std::sync::Arc;

/// Only what code generation asks for.
const PLAIN: &[&dyn Pass] = &[&EachBody(StripMarks), &EachBody(Decompose)];

/// Less work of every node by itself.
const TIDY: &[&dyn Pass] = &[
    &EachBody(StripMarks),
    &EachBody(WidenProducts),
    &EachBody(Simplify),
    &EachBody(Fold),
    &MergeScans,
    &EachBody(Simplify),
    &EachBody(Decompose),
    &EachBody(PatchDot),
    &EachBody(CanonicalDot),
];

/// Nodes together, as kernels.
const FULL: &[&dyn Pass] = &[
    &EachBody(StripMarks),
    &EachBody(WidenProducts),
    &EachBody(Simplify),
    &EachBody(Fold),
    &MergeScans,
    &EachBody(Simplify),
    &EachBody(Decompose),
    &EachBody(PatchDot),
    &EachBody(CanonicalDot),
    &EachBody(Simplify),
    &EachBody(Fold),
    &EachBody(Fuse),
];

/// The passes of an optimization level: 0 only what code generation asks for, 1 simplification and constant folding,
/// 2 (the usual one) and above everything.
pub fn pipeline(level: u8) -> Vec<&'static dyn Pass> {
    match level {
        0 => PLAIN,
        1 => TIDY,
        _ => FULL,
    }
    .to_vec()
}

/// The pass of this name, which works on the bodies of loops too.
pub fn by_name(name: &str) -> Option<&'static dyn Pass> {
    FULL.iter().copied().find(|pass| pass.name() == name)
}

/// The names of all passes, in the order in which they first run.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for pass in FULL {
        if !names.contains(&pass.name()) {
            names.push(pass.name());
        }
    }
    names
}

/// Runs a pass on the bodies of a graph's loops, innermost first, then on the graph.
struct EachBody<P>(P);

impl<P: Pass> Pass for EachBody<P> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn run(&self, graph: &Graph) -> Graph {
        if !graph.iter().any(|(_, node)| matches!(node.op, Op::Scan(_))) {
            return self.0.run(graph);
        }
        let inside = rebuild(graph, |builder, _, node, operands| {
            let Op::Scan(scan) = &node.op else { return None };
            let body = Arc::new(self.run(&scan.body));
            Some(builder.build(Op::Scan(ScanOp { body, ..scan.clone() }), operands).value())
        });
        self.0.run(&inside)
    }
}
