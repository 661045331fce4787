//! What a backward step takes from the forward: chosen so that nothing costly is computed twice.

use super::rules::Site;
use super::scan::{Step, copy};
use gradc_ir::{Builder, Mark, Op, ScanOp, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a value of the forward step reaches the backward step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    /// The same in every step.
    Constant(Value),
    /// A slice for each step.
    Sequence(Value),
}

/// The frontier between the forward and the backward step, in ids of the joint step.
pub(super) struct Residuals {
    /// Inputs of the forward step that are its constants or sequences.
    inputs: BTreeMap<Value, usize>,
    /// Values that depend on constants alone: computed once, before the loop.
    invariant: Vec<Value>,
    /// Values that each forward step stacks.
    stacked: Vec<Value>,
}

/// What a value of the joint step depends on.
#[derive(Clone, Copy, Default)]
struct Dependence {
    anything: bool,
    steps: bool,
    cotangents: bool,
}

impl Residuals {
    /// Searches from the wanted values down to what the forward step can hand over.
    pub(super) fn choose(step: &Step, scan: &ScanOp, wanted: &[Value]) -> Residuals {
        let dependences = dependences(step, scan.constants);
        let mut chosen = Residuals { inputs: BTreeMap::new(), invariant: Vec::new(), stacked: Vec::new() };
        let mut marked = vec![false; dependences.len()];
        wanted.iter().for_each(|value| marked[value.index()] = true);
        for index in (0..dependences.len()).rev() {
            if !marked[index] {
                continue;
            }
            let (value, dependence) = (Value::from_index(index), dependences[index]);
            let node = step.joint.node(value);
            let is_carry =
                |position: usize| (scan.constants..scan.constants + scan.carries).contains(&position);
            match &node.op {
                Op::Input(position) if *position as usize >= step.inputs => {}
                Op::Input(position) if is_carry(*position as usize) => chosen.stacked.push(value),
                Op::Input(position) => drop(chosen.inputs.insert(value, *position as usize)),
                op if dependence.cotangents
                    || !dependence.anything
                    || is_view(op)
                    || (dependence.steps && index >= step.forward && is_cheap(op)) =>
                {
                    node.operands.iter().for_each(|operand| marked[operand.index()] = true);
                }
                _ if !dependence.steps => chosen.invariant.push(value),
                _ => chosen.stacked.push(value),
            }
        }
        chosen.invariant.reverse();
        chosen.stacked.reverse();
        chosen
    }

    /// Whether a value is handed over.
    pub(super) fn holds(&self, value: Value) -> bool {
        self.inputs.contains_key(&value) || self.invariant.contains(&value) || self.stacked.contains(&value)
    }

    /// The values outside the loop that hold the residuals. Stacked ones come from the forward loop, issued again.
    pub(super) fn outer_values(
        &self,
        step: &Step,
        scan: &ScanOp,
        site: &Site<'_, '_>,
    ) -> Vec<(Source, Value)> {
        let outer = site.builder;
        let mut sources = Vec::new();
        for (&inner, &position) in &self.inputs {
            let source =
                if position < scan.constants { Source::Constant(inner) } else { Source::Sequence(inner) };
            sources.push((source, site.node.operands[position]));
        }
        let mut renamed: Vec<Option<Value>> = vec![None; step.joint.len()];
        let constants = &site.node.operands[..scan.constants];
        constants.iter().enumerate().for_each(|(position, &operand)| renamed[position] = Some(operand));
        copy(&step.joint, outer, &mut renamed, &self.invariant);
        for inner in &self.invariant {
            sources.extend(renamed[inner.index()].map(|value| (Source::Constant(*inner), value)));
        }
        if self.stacked.is_empty() {
            return sources;
        }
        let again = outer.build(Op::Scan(self.reissued(step, scan)), &site.node.operands);
        for (part, inner) in self.stacked.iter().enumerate() {
            sources.push((Source::Sequence(*inner), again.project(scan.carries + part).value()));
        }
        sources
    }

    /// The forward loop with the residuals as its stacked outputs.
    fn reissued(&self, step: &Step, scan: &ScanOp) -> ScanOp {
        let body = Builder::new(scan.body.name());
        let mut renamed: Vec<Option<Value>> = vec![None; step.joint.len()];
        for (position, input) in scan.body.inputs().iter().enumerate() {
            renamed[position] = Some(body.input(&input.name, input.ty.clone()));
        }
        let wanted = [&step.next[..], &self.stacked].concat();
        copy(&step.joint, &body, &mut renamed, &wanted);
        let outputs: Vec<Value> = wanted.iter().filter_map(|value| renamed[value.index()]).collect();
        ScanOp { body: Arc::new(body.finish(&outputs)), ..scan.clone() }
    }
}

fn dependences(step: &Step, constants: usize) -> Vec<Dependence> {
    let mut all: Vec<Dependence> = Vec::with_capacity(step.joint.len());
    for index in 0..step.joint.len() {
        let node = step.joint.node(Value::from_index(index));
        let own = match &node.op {
            Op::Input(position) => Dependence {
                anything: true,
                steps: *position as usize >= constants,
                cotangents: *position as usize >= step.inputs,
            },
            _ => Dependence::default(),
        };
        all.push(node.operands.iter().fold(own, |sum, operand| {
            let other = all[operand.index()];
            Dependence {
                anything: sum.anything || other.anything,
                steps: sum.steps || other.steps,
                cotangents: sum.cotangents || other.cotangents,
            }
        }));
    }
    all
}

/// Whether a value of the joint step differs from step to step.
pub(super) fn depends_on_steps(joint: &Builder, constants: usize, value: Value) -> bool {
    let mut needed = vec![false; value.index() + 1];
    needed[value.index()] = true;
    (0..needed.len()).rev().any(|index| {
        let node = joint.node(Value::from_index(index));
        if needed[index] {
            node.operands.iter().for_each(|operand| needed[operand.index()] = true);
        }
        needed[index] && matches!(node.op, Op::Input(position) if position as usize >= constants)
    })
}

/// Ops whose result holds no more than their operand: taken again from the operand.
fn is_view(op: &Op) -> bool {
    matches!(op, Op::Broadcast { .. } | Op::Reshape { .. } | Op::Mark(Mark::Tag(_) | Mark::StopGradient))
}

/// Ops that the backward step may compute itself, if the forward does not.
fn is_cheap(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select
            | Op::Cast(_)
            | Op::Transpose { .. }
            | Op::Reverse { .. }
    )
}
