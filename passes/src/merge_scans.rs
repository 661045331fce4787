//! Unites loops that do the same work.

use crate::Pass;
use gradc_ir::{Builder, Graph, Node, Op, ScanOp, Value, inline, rebuild};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Loops with the same operands and the same carries become one loop with the stacked outputs of all, in the graph and
/// in the bodies of its loops. Parts that nothing projects are dropped (carries stay).
///
/// The gradient of a loop issues the forward loop once more, with the values that the backward steps need as stacked
/// outputs. This pass makes one of the two.
pub fn merge_scans(graph: &Graph) -> Graph {
    // Operands of later loops may become equal when earlier ones are united.
    let mut merged = merge_once(graph);
    while count_scans(&merged.0) < merged.1 {
        merged = merge_once(&merged.0);
    }
    merged.0
}

/// [`merge_scans`] as a pass.
pub struct MergeScans;

impl Pass for MergeScans {
    fn name(&self) -> &'static str {
        "merge_scans"
    }

    fn run(&self, graph: &Graph) -> Graph {
        merge_scans(graph)
    }
}

fn count_scans(graph: &Graph) -> usize {
    graph.iter().filter(|(_, node)| matches!(node.op, Op::Scan(_))).count()
}

/// Loops that are the same but for their stacked outputs.
struct Group {
    operands: Vec<Value>,
    scan: ScanOp,
    /// The common body in the making, and its inputs.
    builder: Builder,
    inputs: Vec<Value>,
    /// Next carries, then stacked outputs.
    outputs: Vec<Value>,
    /// The united loop in the new graph.
    united: Option<Value>,
}

/// The graph with its loops united, and how many there were.
fn merge_once(graph: &Graph) -> (Graph, usize) {
    let (mut groups, parts) = group(graph);
    let bodies: Vec<Arc<Graph>> = groups
        .iter_mut()
        .map(|group| {
            let builder = std::mem::replace(&mut group.builder, Builder::new("taken"));
            Arc::new(merge_scans(&builder.finish(&group.outputs)))
        })
        .collect();
    let result = rebuild(graph, |builder, value, node, operands| match &node.op {
        Op::Scan(_) => {
            let position = parts[&value].0;
            let group = &mut groups[position];
            Some(*group.united.get_or_insert_with(|| {
                let scan = ScanOp { body: bodies[position].clone(), ..group.scan.clone() };
                builder.build(Op::Scan(scan), operands).value()
            }))
        }
        Op::Project(part) => {
            let (_, renamed) = parts.get(&node.operands[0])?;
            Some(builder.build(Op::Project(renamed[part]), operands).value())
        }
        _ => None,
    });
    (result, parts.len())
}

/// The group of each loop, and where its parts are found in the united loop.
type Parts = BTreeMap<Value, (usize, BTreeMap<usize, usize>)>;

fn group(graph: &Graph) -> (Vec<Group>, Parts) {
    let mut used: BTreeMap<Value, Vec<usize>> = BTreeMap::new();
    for (_, node) in graph.iter() {
        if let Op::Project(part) = node.op {
            used.entry(node.operands[0]).or_default().push(part);
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut parts = Parts::new();
    for (value, node) in graph.iter() {
        let Op::Scan(scan) = &node.op else { continue };
        let found = groups.iter().position(|group| group.takes(scan, node));
        let position = found.unwrap_or_else(|| {
            groups.push(Group::new(scan, node));
            groups.len() - 1
        });
        let group = &mut groups[position];
        let outputs = inline(&group.builder, &scan.body, &group.inputs);
        let mut renamed = BTreeMap::new();
        for &part in used.get(&value).into_iter().flatten() {
            let place = if part < scan.carries { part } else { group.place(outputs[part]) };
            renamed.insert(part, place);
        }
        parts.insert(value, (position, renamed));
    }
    (groups, parts)
}

impl Group {
    fn new(scan: &ScanOp, node: &Node) -> Group {
        let builder = Builder::new(scan.body.name());
        let inputs: Vec<Value> =
            scan.body.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
        let mut outputs = inline(&builder, &scan.body, &inputs);
        outputs.truncate(scan.carries);
        Group { operands: node.operands.to_vec(), scan: scan.clone(), builder, inputs, outputs, united: None }
    }

    /// Whether a loop does the same work: the builder interns, so equal carries have equal ids.
    fn takes(&self, scan: &ScanOp, node: &Node) -> bool {
        let ScanOp { body, trip, constants, carries, reverse } = scan;
        self.operands[..] == node.operands[..]
            && (self.scan.trip, self.scan.constants, self.scan.carries, self.scan.reverse)
                == (*trip, *constants, *carries, *reverse)
            && inline(&self.builder, body, &self.inputs)[..*carries] == self.outputs[..*carries]
    }

    /// The position of a stacked output, which is added where it is not there yet.
    fn place(&mut self, output: Value) -> usize {
        let stacked = &self.outputs[self.scan.carries..];
        if let Some(position) = stacked.iter().position(|&other| other == output) {
            return self.scan.carries + position;
        }
        self.outputs.push(output);
        self.outputs.len() - 1
    }
}
