//! Which values a gradient can reach: one forward pass over the nodes.

use gradc_ir::{Mark, Node, Op, ScanOp, UnaryOp, Value};

/// How a value depends on the sources, from not at all to differentiably. A value has the best of its paths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Flow {
    /// It does not depend on them.
    Nothing,
    /// It depends on them, but no derivative exists (through integers, truth values, or a stop).
    Blocked,
    /// Its derivative is zero by definition (through a function that is constant almost everywhere).
    Zero,
    /// A derivative exists.
    Passes,
}

impl Flow {
    /// This where the condition holds, else nothing.
    pub(super) fn only_if(self, condition: bool) -> Flow {
        if condition { self } else { Flow::Nothing }
    }
}

/// The flow of each part of each value.
pub(super) type Flows = Vec<Vec<Flow>>;

/// The flow of every node; `source` says what a node has of its own accord, by its position.
pub(super) fn forward<'n>(nodes: impl Iterator<Item = &'n Node>, source: impl Fn(usize) -> Flow) -> Flows {
    let mut flows = Flows::new();
    for (index, node) in nodes.enumerate() {
        let arriving: Vec<Flow> = node.operands.iter().map(|&operand| best(&flows, operand)).collect();
        let parts = match &node.op {
            Op::Scan(scan) if arriving.iter().any(|&flow| flow != Flow::Nothing) => {
                through_scan(scan, &arriving)
            }
            Op::Project(part) => vec![flows[node.operands[0].index()][*part]],
            Op::Mark(Mark::Surrogate) => vec![arriving[1].max(arriving[0].min(Flow::Blocked))],
            _ => {
                let through = arriving.iter().copied().max().unwrap_or(Flow::Nothing).min(limit(node));
                vec![through; node.types.len()]
            }
        };
        flows.push(parts.into_iter().map(|flow| flow.max(source(index))).collect());
    }
    flows
}

/// The best flow among the parts of a value.
pub(super) fn best(flows: &Flows, value: Value) -> Flow {
    flows[value.index()].iter().copied().max().unwrap_or(Flow::Nothing)
}

/// The flow of every value of a loop's body in any step, where the loop's operands have these flows.
pub(super) fn through_body(scan: &ScanOp, operands: &[Flow]) -> Flows {
    let mut inputs = operands.to_vec();
    loop {
        let flows = forward(scan.body.iter().map(|(_, node)| node), |index| {
            inputs.get(index).copied().unwrap_or(Flow::Nothing)
        });
        let mut grown = false;
        for carry in 0..scan.carries {
            let next = best(&flows, scan.body.outputs()[carry]);
            grown |= next > inputs[scan.constants + carry];
            inputs[scan.constants + carry] = next.max(inputs[scan.constants + carry]);
        }
        if !grown {
            return flows;
        }
    }
}

fn through_scan(scan: &ScanOp, operands: &[Flow]) -> Vec<Flow> {
    let flows = through_body(scan, operands);
    // A loop without steps hands its initial carries on; an empty sequence still has a gradient.
    let initial = |part: usize| match part < scan.carries && scan.trip == 0 {
        true => operands[scan.constants + part],
        false => Flow::Nothing,
    };
    let outputs = scan.body.outputs().iter().enumerate();
    outputs.map(|(part, &output)| best(&flows, output).max(initial(part))).collect()
}

/// The best that can come out of a node.
fn limit(node: &Node) -> Flow {
    match &node.op {
        Op::Mark(Mark::StopGradient) => Flow::Blocked,
        Op::Unary(UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round) => Flow::Zero,
        _ => Flow::Passes,
    }
    .min(match node.types.iter().any(|ty| ty.dtype.is_float()) {
        true => Flow::Passes,
        false => Flow::Blocked,
    })
}
