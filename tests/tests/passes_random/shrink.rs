//! Makes a failing graph small: delta debugging over outputs, nodes, bodies, lengths and arguments.

use super::Case;
use super::resize::resize;
use gradc_ir::{Builder, Graph, Literal, Node, Op, Value, eval, inline, rebuild};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one graph is worked on.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a node.
#[derive(Clone, PartialEq)]
enum Fate {
    Stays,
    /// Its operand of this position stands for it.
    Operand(usize),
    /// It becomes an input, with its value as argument.
    Cut,
    /// Computed so instead.
    Becomes(Op),
    /// The nodes of a fused group stand for themselves.
    Unfused,
}

/// The smallest graph found for which `fails` answers true, as it does for this one.
pub fn shrink(mut case: Case, fails: &dyn Fn(&Case) -> bool) -> Case {
    let end = Instant::now() + PATIENCE;
    loop {
        let before = weight(&case);
        for kind in [outputs, frontiers, nodes, bodies, lengths, arguments] {
            // Each success changes what there is to try.
            let mut position = 0;
            loop {
                let candidates = kind(&case);
                let Some(candidate) = candidates.get(position) else { break };
                if Instant::now() > end {
                    return case;
                }
                position += 1;
                if let Some(smaller) = candidate(&case).filter(|smaller| weight(smaller) < weight(&case))
                    && fails(&smaller)
                {
                    case = smaller;
                    position = position.saturating_sub(1);
                }
            }
        }
        if weight(&case) == before {
            return case;
        }
    }
}

/// A step to try.
type Step = Box<dyn Fn(&Case) -> Option<Case>>;

/// What shrinking makes less of.
fn weight(case: &Case) -> (usize, usize, usize) {
    fn count(graph: &Graph) -> (usize, usize) {
        graph.iter().fold((graph.outputs().len(), 0), |(nodes, elements), (_, node)| {
            let inside = match &node.op {
                Op::Scan(scan) => count(&scan.body),
                Op::Fused(fused) => count(&fused.body),
                _ => (0, 0),
            };
            let own: usize = node.types.iter().map(|ty| ty.shape.elements() + ty.shape.rank()).sum();
            // Inputs are less than nodes: cutting is a step forward.
            let weight = if matches!(node.op, Op::Input(_)) { 1 } else { 2 };
            (nodes + weight + inside.0, elements + own + inside.1)
        })
    }
    let (nodes, elements) = count(&case.graph);
    let simple = |x: &f64| *x == 0.0 || *x == 1.0;
    let odd: usize =
        case.inputs.iter().map(|input| input.to_f64().iter().filter(|x| !simple(x)).count()).sum();
    let fractions = |x: &&f64| x.fract() != 0.0;
    let broken: usize = case.inputs.iter().map(|input| input.to_f64().iter().filter(fractions).count()).sum();
    (nodes, elements, odd + broken)
}

/// One output alone, or what an output is made of.
fn outputs(case: &Case) -> Vec<Step> {
    let outputs = case.graph.outputs().to_vec();
    let mut steps: Vec<Step> = Vec::new();
    for &output in &outputs {
        steps.push(Box::new(move |case| with_outputs(case, &[output])));
    }
    for position in 0..outputs.len() {
        let mut fewer = outputs.clone();
        fewer.remove(position);
        steps.push(Box::new(move |case| with_outputs(case, &fewer)));
        let mut frontier = case.graph.node(outputs[position]).operands.to_vec();
        if let [only] = frontier[..]
            && case.graph.node(only).is_tuple()
        {
            frontier = case.graph.node(only).operands.to_vec();
        }
        for operand in frontier {
            let mut earlier = outputs.clone();
            earlier[position] = operand;
            steps.push(Box::new(move |case| with_outputs(case, &earlier)));
        }
    }
    steps
}

/// Everything further than some steps from the outputs becomes inputs.
fn frontiers(_: &Case) -> Vec<Step> {
    let step = |depth: usize| -> Step {
        Box::new(move |case| {
            let mut distance = vec![usize::MAX; case.graph.len()];
            case.graph.outputs().iter().for_each(|output| distance[output.index()] = 0);
            for (value, node) in case.graph.iter().rev() {
                let next = distance[value.index()].saturating_add(1);
                node.operands.iter().for_each(|operand| {
                    distance[operand.index()] = distance[operand.index()].min(next);
                });
            }
            let fate = |value: Value| if distance[value.index()] >= depth { Fate::Cut } else { Fate::Stays };
            rewritten(case, case.graph.outputs(), &fate)
        })
    };
    [1, 2, 3, 5, 8].map(step).into()
}

/// One node becomes an input or one of its operands, or is opened.
fn nodes(case: &Case) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut add = |value: Value, fate: Fate| {
        steps.push(Box::new(move |case: &Case| {
            let fate = |other: Value| if other == value { fate.clone() } else { Fate::Stays };
            rewritten(case, case.graph.outputs(), &fate)
        }));
    };
    for (value, node) in case.graph.iter().rev() {
        match &node.op {
            Op::Input(_) => continue,
            Op::Fused(_) => add(value, Fate::Unfused),
            Op::Constant(_) => {}
            _ => add(value, Fate::Cut),
        }
        (0..node.operands.len()).for_each(|operand| add(value, Fate::Operand(operand)));
    }
    steps
}

/// A node in the body of a loop or group becomes one of its operands or a number.
fn bodies(case: &Case) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (value, node) in case.graph.iter() {
        for body in smaller_bodies(&node.op) {
            steps.push(Box::new(move |case| {
                let becomes = |other: Value| match other == value {
                    true => Fate::Becomes(body.clone()),
                    false => Fate::Stays,
                };
                rewritten(case, case.graph.outputs(), &becomes)
            }));
        }
    }
    steps
}

/// The operator with one node of its body less.
fn smaller_bodies(op: &Op) -> Vec<Op> {
    let (body, with): (&Graph, &dyn Fn(Graph) -> Op) = match op {
        Op::Scan(scan) => (&scan.body, &|body| {
            let mut scan = scan.clone();
            scan.body = Arc::new(body);
            Op::Scan(scan)
        }),
        Op::Fused(fused) => (&fused.body, &|body| {
            let mut fused = fused.clone();
            fused.body = Arc::new(body);
            Op::Fused(fused)
        }),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for (value, node) in body.iter().filter(|(_, node)| !matches!(node.op, Op::Input(_))) {
        let mut replace = |choose: &dyn Fn(&Builder, &[Value]) -> Option<Value>| {
            let fits = std::cell::Cell::new(false);
            let rule = |builder: &Builder, other: Value, _: &Node, operands: &[Value]| {
                let chosen = choose(builder, operands).filter(|_| other == value)?;
                fits.set(builder.node(chosen).types == node.types && !builder.node(chosen).is_tuple());
                fits.get().then_some(chosen)
            };
            let smaller = rebuild(body, rule);
            if fits.get() {
                found.push(with(smaller));
            }
        };
        for operand in 0..node.operands.len() {
            replace(&|_, operands| operands.get(operand).copied());
        }
        if !node.is_tuple() && !matches!(node.op, Op::Constant(_)) {
            replace(&|builder, _| Some(builder.splat(node.ty(), 1.0).value()));
        }
        for op in smaller_bodies(&node.op) {
            let changed = rebuild(body, |builder, other, _, operands| {
                (other == value).then(|| builder.build(op.clone(), operands).value())
            });
            found.push(with(changed));
        }
    }
    found
}

/// Shorter axes, of all tensors that have one of that length.
fn lengths(case: &Case) -> Vec<Step> {
    let mut lengths: BTreeSet<usize> = BTreeSet::new();
    for (_, node) in case.graph.iter() {
        node.types
            .iter()
            .for_each(|ty| lengths.extend(ty.shape.iter().copied().filter(|&length| length > 1)));
    }
    let mut steps: Vec<Step> = Vec::new();
    for &from in lengths.iter().rev() {
        let shorter: BTreeSet<usize> =
            [1, 2, from / 2, from - 1].into_iter().filter(|&to| to < from).collect();
        for to in shorter {
            steps.push(Box::new(move |case| {
                let map = |length: usize| if length == from { to } else { length };
                let (graph, inputs) = resize(&case.graph, &case.inputs, &map)?;
                Case::new(case.seed, graph, inputs)
            }));
        }
    }
    steps
}

/// Simpler numbers.
fn arguments(case: &Case) -> Vec<Step> {
    let simpler: [fn(f64) -> f64; 4] = [|_| 1.0, |_| 0.0, f64::round, |x| (x * 4.0).round() / 4.0];
    let mut steps: Vec<Step> = Vec::new();
    for position in 0..case.inputs.len() {
        for simpler in simpler {
            steps.push(Box::new(move |case| {
                let mut inputs = case.inputs.clone();
                let old = &inputs[position];
                let elements = old.to_f64().into_iter();
                let bytes: Vec<u8> = elements
                    .flat_map(|x| Literal::scalar_of(old.dtype(), simpler(x)).bytes().to_vec())
                    .collect();
                inputs[position] = Literal::from_bytes(old.ty().clone(), bytes.into())?;
                Case::new(case.seed, case.graph.clone(), inputs)
            }));
        }
    }
    steps
}

fn with_outputs(case: &Case, outputs: &[Value]) -> Option<Case> {
    let tuple = outputs.iter().any(|&output| case.graph.node(output).is_tuple());
    if tuple || outputs.is_empty() {
        return None;
    }
    rewritten(case, outputs, &|_| Fate::Stays)
}

/// The graph with these fates, without the inputs that nothing needs any more.
fn rewritten(case: &Case, outputs: &[Value], fate: &dyn Fn(Value) -> Fate) -> Option<Case> {
    let graph = &case.graph;
    let fate = |value: Value| match fate(value) {
        Fate::Cut if graph.node(value).is_tuple() => Fate::Stays,
        other => other,
    };
    let mut needed = vec![false; graph.len()];
    outputs.iter().for_each(|output| needed[output.index()] = true);
    for (value, node) in graph.iter().rev() {
        if !needed[value.index()] {
            continue;
        }
        match fate(value) {
            Fate::Cut => {}
            Fate::Operand(operand) => needed[node.operands[operand].index()] = true,
            Fate::Stays | Fate::Becomes(_) | Fate::Unfused => {
                node.operands.iter().for_each(|operand| needed[operand.index()] = true);
            }
        }
    }
    let cut = graph.values().any(|value| needed[value.index()] && fate(value) == Fate::Cut);
    let all = if cut { all_values(case)? } else { Vec::new() };
    let builder = Builder::new(graph.name());
    let mut renamed: Vec<Option<Value>> = Vec::with_capacity(graph.len());
    let (mut inputs, mut parts) = (Vec::new(), std::collections::BTreeMap::new());
    for (value, node) in graph.iter() {
        if !needed[value.index()] {
            renamed.push(None);
            continue;
        }
        let operands: Option<Vec<Value>> =
            node.operands.iter().map(|operand| renamed[operand.index()]).collect();
        let mut argument = |literal: Literal| {
            let name = format!("x{}", inputs.len());
            inputs.push(literal.clone());
            Some(builder.input(&name, literal.ty().clone()))
        };
        let new = match (&node.op, fate(value)) {
            (Op::Input(position), _) => argument(case.inputs[*position as usize].clone())?.into(),
            (_, Fate::Cut) => argument(all[value.index()].clone()?),
            (_, Fate::Operand(operand)) => renamed[node.operands[operand].index()],
            (Op::Fused(fused), Fate::Unfused) => {
                parts.insert(value, inline(&builder, &fused.body, &operands?));
                None
            }
            (Op::Project(part), _) if parts.contains_key(&node.operands[0]) => {
                parts[&node.operands[0]].get(*part).copied()
            }
            (_, Fate::Becomes(op)) => builder.push(op, &operands?).ok(),
            (op, _) => builder.push(op.clone(), &operands?).ok(),
        };
        renamed.push(new);
    }
    let outputs: Option<Vec<Value>> = outputs.iter().map(|output| renamed[output.index()]).collect();
    let graph = builder.finish(&outputs?);
    // `finish` keeps the inputs in their order; all of them are needed.
    Case::new(case.seed, graph, inputs)
}

/// The value of every node that is one tensor.
fn all_values(case: &Case) -> Option<Vec<Option<Literal>>> {
    let graph = &case.graph;
    let tensors: Vec<Value> = graph.values().filter(|&value| !graph.node(value).is_tuple()).collect();
    let builder = Builder::new(graph.name());
    let inputs: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let renamed = gradc_ir::inline_all(&builder, graph, &inputs);
    let outputs: Vec<Value> = tensors.iter().map(|value| renamed[value.index()]).collect();
    let found = eval(&builder.finish(&outputs), &case.inputs).ok()?;
    let mut all = vec![None; graph.len()];
    tensors.into_iter().zip(found).for_each(|(value, literal)| all[value.index()] = Some(literal));
    Some(all)
}

/// The graph as a file, with its arguments and what is wrong as comments.
pub fn text(case: &Case, title: &str, message: &str) -> String {
    let mut text = format!("// {title}\n");
    for line in message.lines().take(60) {
        let _ = writeln!(text, "// {line}");
    }
    for (input, literal) in case.graph.inputs().iter().zip(&case.inputs) {
        let _ = writeln!(text, "// {} = {:?}", input.name, literal.to_f64());
    }
    let _ = writeln!(text, "{}", case.graph);
    text
}
