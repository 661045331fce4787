//! Passes, and the manager that runs them.

use gradc_ir::Graph;
use std::time::{Duration, Instant};

/// A rewriting of a graph that keeps its signature and its meaning, and cannot fail.
pub trait Pass: Sync {
    /// The name in reports and on the command line.
    fn name(&self) -> &'static str;

    /// The rewritten graph.
    fn run(&self, graph: &Graph) -> Graph;
}

/// What the manager saw of one pass.
#[derive(Clone, Debug)]
pub struct Report {
    /// The pass.
    pub name: &'static str,
    /// Nodes before and after.
    pub nodes: [usize; 2],
    /// How long it took.
    pub time: Duration,
}

/// Which passes run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Passes that are left out, by name.
    pub without: Vec<String>,
    /// Run only so many, to find the one at fault; `None` runs all.
    pub limit: Option<usize>,
}

/// Runs passes in order. `observe` sees the graph after each.
pub fn run_passes(
    graph: Graph,
    passes: &[&dyn Pass],
    selection: &Selection,
    mut observe: impl FnMut(&Report, &Graph),
) -> Graph {
    let chosen = passes.iter().filter(|pass| !selection.without.iter().any(|name| name == pass.name()));
    chosen.take(selection.limit.unwrap_or(usize::MAX)).fold(graph, |graph, pass| {
        let start = Instant::now();
        let after = pass.run(&graph);
        let report = Report { name: pass.name(), nodes: [graph.len(), after.len()], time: start.elapsed() };
        observe(&report, &after);
        after
    })
}
