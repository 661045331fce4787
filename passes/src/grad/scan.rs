//! The rule of loops: a scan in the other direction over the values that the forward steps leave behind.

use super::GradError;
use super::flow::{self, Flow};
use super::residuals::{Residuals, Source};
use super::rules::{Cotangents, Site, wide};
use super::stacking::Contribution;
use super::walk;
use gradc_ir::{Builder, Expr, Op, ScanOp, Value, inline};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one backward step is about.
pub(super) struct Step {
    /// The forward step (its inputs first, in order) and the backward step, in one builder.
    pub(super) joint: Builder,
    /// Number of inputs of the forward step. Later inputs of `joint` are cotangents.
    pub(super) inputs: usize,
    /// Number of nodes of the forward step.
    pub(super) forward: usize,
    /// The next carries, in `joint`.
    pub(super) next: Vec<Value>,
    /// Cotangent inputs: of `live` carries, then of the stacked outputs that have one.
    cotangents: Vec<Value>,
    /// What comes out for the live carries: zeros where nothing leads from one to a cotangent within a step.
    carries: Vec<Value>,
    /// For each live carry, whether something does.
    carried: Vec<bool>,
    /// Position and cotangent of the needed constants and sequences, where one arrives.
    constants: Vec<(usize, Value)>,
    sequences: Vec<(usize, Value)>,
}

/// The cotangents of a loop's constants, initial carries and sequences.
pub(super) fn vjp<'b>(site: &Site<'b, '_>, scan: &ScanOp) -> Result<Cotangents<'b>, GradError> {
    let mut cotangents: Cotangents<'b> = vec![None; site.operands.len()];
    let fixed = scan.constants + scan.carries;
    if scan.trip == 0 {
        cotangents[scan.constants..fixed].copy_from_slice(&site.cotangents[..scan.carries]);
        return Ok(cotangents);
    }
    let stacked: Vec<usize> =
        (scan.carries..site.cotangents.len()).filter(|&part| site.cotangents[part].is_some()).collect();
    let live = live_carries(site, scan, &stacked);
    let needed = |&position: &usize| site.needed[position];
    let others: Vec<usize> = (0..scan.constants).chain(fixed..site.needed.len()).filter(needed).collect();
    let step = differentiate(scan, &live, &stacked, &others)?;

    // Constants: some as a product over all steps, the others added up.
    let (mut products, mut summed, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for &(position, value) in &step.constants {
        match Contribution::of(&step, scan.constants, value) {
            Some(contribution) => {
                contribution.collect_factors(&mut factors);
                products.push((position, contribution));
            }
            None => summed.push((position, value)),
        }
    }
    factors.sort_unstable();
    factors.dedup();

    let summed_values: Vec<Value> = summed.iter().map(|&(_, value)| value).collect();
    let sequences: Vec<Value> = step.sequences.iter().map(|&(_, value)| value).collect();
    let wanted = [&step.carries[..], &summed_values, &sequences].concat();
    let residuals = Residuals::choose(&step, scan, &[&wanted[..], &factors].concat());
    let sources = residuals.outer_values(&step, scan, site);
    let outside: BTreeMap<Value, Value> = sources
        .iter()
        .filter_map(|&(source, value)| match source {
            Source::Sequence(inner) => Some((inner, value)),
            Source::Constant(_) => None,
        })
        .collect();
    let made: Vec<Value> = factors.into_iter().filter(|factor| !outside.contains_key(factor)).collect();

    let back = Backward { step: &step, scan, live: &live, stacked: &stacked, summed: &summed };
    let gradient = back.build(site, &sources, &[&sequences[..], &made].concat());
    let first_stack = live.len() + summed.len();
    for (part, &carry) in live.iter().enumerate() {
        cotangents[scan.constants + carry] = step.carried[part].then(|| gradient.project(part));
    }
    for (part, &(position, _)) in summed.iter().enumerate() {
        let sum = gradient.project(live.len() + part);
        cotangents[position] = Some(sum.cast(site.operands[position].dtype()));
    }
    for (part, &(position, _)) in step.sequences.iter().enumerate() {
        cotangents[position] = Some(gradient.project(first_stack + part));
    }
    let stack_of = |factor: Value| match made.iter().position(|&made| made == factor) {
        Some(part) => gradient.project(first_stack + sequences.len() + part),
        None => site.builder.expr(outside[&factor]),
    };
    for (position, contribution) in &products {
        cotangents[*position] = Some(contribution.total(site.builder, &stack_of));
    }
    Ok(cotangents)
}

/// What the backward loop is made of.
struct Backward<'s> {
    step: &'s Step,
    scan: &'s ScanOp,
    live: &'s [usize],
    stacked: &'s [usize],
    /// Constants that are added up: their position and what a step adds.
    summed: &'s [(usize, Value)],
}

impl Backward<'_> {
    /// The loop that yields the cotangents of the live carries, the sums, and the stacks of these values of the joint
    /// step.
    fn build<'b>(&self, site: &Site<'b, '_>, sources: &[(Source, Value)], stacks: &[Value]) -> Expr<'b> {
        let (outer, joint) = (site.builder, &self.step.joint);
        let terms = self.summed.iter().map(|&(_, value)| value);
        let wanted: Vec<Value> =
            self.step.carries.iter().copied().chain(terms).chain(stacks.iter().copied()).collect();
        let used = Residuals::choose(self.step, self.scan, &wanted);

        let back = Builder::new(format!("{}_gradient", self.scan.body.name()));
        let mut operands: Vec<Value> = Vec::new();
        let mut renamed: Vec<Option<Value>> = vec![None; joint.len()];
        let mut input = |name: &str, inner: Value, operand: Value| {
            renamed[inner.index()] = Some(back.input(name, joint.ty(inner)));
            operands.push(operand);
        };
        let mut constants = 0;
        for (source, value) in sources {
            if let Source::Constant(inner) = source
                && used.holds(*inner)
            {
                input("constant", *inner, *value);
                constants += 1;
            }
        }
        for (&carry, &cotangent) in self.live.iter().zip(&self.step.cotangents) {
            let initial = site.cotangents[carry].unwrap_or_else(|| outer.splat(&joint.ty(cotangent), 0.0));
            input("cotangent", cotangent, initial.value());
        }
        // Sums are wide, so that many small additions do not vanish.
        let sums = self.summed.iter().map(|&(position, _)| {
            let ty = site.operands[position].ty();
            let ty = ty.with_dtype(wide(ty.dtype));
            (back.expr(back.input("sum", ty.clone())), outer.splat(&ty, 0.0).value())
        });
        let (sums, zeros): (Vec<Expr<'_>>, Vec<Value>) = sums.unzip();
        operands.extend(zeros);
        let mut input = |name: &str, inner: Value, operand: Value| {
            renamed[inner.index()] = Some(back.input(name, joint.ty(inner)));
            operands.push(operand);
        };
        for (source, value) in sources {
            if let Source::Sequence(inner) = source
                && used.holds(*inner)
            {
                input("residual", *inner, *value);
            }
        }
        for (&part, &cotangent) in self.stacked.iter().zip(&self.step.cotangents[self.live.len()..]) {
            if let Some(stack) = site.cotangents[part] {
                input("cotangent", cotangent, stack.value());
            }
        }
        copy(joint, &back, &mut renamed, &wanted);
        let mut results = wanted.iter().map(|value| {
            back.expr(renamed[value.index()].unwrap_or_else(|| panic!("what is wanted was copied")))
        });
        let mut outputs: Vec<Value> = results.by_ref().take(self.live.len()).map(Expr::value).collect();
        let terms = results.by_ref().take(sums.len());
        outputs.extend(terms.zip(&sums).map(|(term, &sum)| (sum + term.cast(sum.dtype())).value()));
        outputs.extend(results.map(Expr::value));
        let scan = ScanOp {
            body: Arc::new(back.finish(&outputs)),
            trip: self.scan.trip,
            constants,
            carries: self.live.len() + self.summed.len(),
            reverse: !self.scan.reverse,
        };
        outer.build(Op::Scan(scan), &operands)
    }
}

/// Carries that depend on what is differentiated by, and reach an output that has a cotangent.
fn live_carries(site: &Site<'_, '_>, scan: &ScanOp, stacked: &[usize]) -> Vec<usize> {
    let arriving: Vec<Flow> = site.needed.iter().map(|&needed| Flow::Passes.only_if(needed)).collect();
    let flows = flow::through_body(scan, &arriving);
    let outputs = scan.body.outputs();
    let mut reaches: Vec<bool> = site.cotangents[..scan.carries].iter().map(Option::is_some).collect();
    loop {
        let mut marked = vec![false; scan.body.len()];
        stacked.iter().for_each(|&part| marked[outputs[part].index()] = true);
        (0..scan.carries)
            .filter(|&carry| reaches[carry])
            .for_each(|carry| marked[outputs[carry].index()] = true);
        for (value, node) in scan.body.iter().rev() {
            if marked[value.index()] {
                node.operands.iter().for_each(|operand| marked[operand.index()] = true);
            }
        }
        let grown: Vec<bool> =
            (0..scan.carries).map(|carry| reaches[carry] || marked[scan.constants + carry]).collect();
        if grown == reaches {
            break;
        }
        reaches = grown;
    }
    let passes = |carry: &usize| flows[scan.constants + carry][0] == Flow::Passes;
    (0..scan.carries).filter(|&carry| reaches[carry]).filter(passes).collect()
}

/// Builds the forward and the backward step.
fn differentiate(
    scan: &ScanOp,
    live: &[usize],
    stacked: &[usize],
    others: &[usize],
) -> Result<Step, GradError> {
    let joint = Builder::new(scan.body.name());
    let inputs: Vec<Value> =
        scan.body.inputs().iter().map(|input| joint.input(&input.name, input.ty.clone())).collect();
    let outputs = inline(&joint, &scan.body, &inputs);
    let forward = joint.len();
    let seeded = live.iter().chain(stacked).map(|&part| outputs[part]);
    let seeds: Vec<(Value, Value)> =
        seeded.map(|target| (target, joint.input("cotangent", joint.ty(target)))).collect();
    let carries = live.iter().map(|&carry| inputs[scan.constants + carry]);
    let wrt: Vec<Value> = carries.chain(others.iter().map(|&position| inputs[position])).collect();
    let mut pulled = walk::pull(&joint, &seeds, &wrt)?;
    let arrived: Vec<(usize, Value)> = pulled
        .split_off(live.len())
        .into_iter()
        .zip(others)
        .filter_map(|(cotangent, &position)| Some((position, cotangent?)))
        .collect();
    let (constants, sequences) = arrived.into_iter().partition(|&(position, _)| position < scan.constants);
    let zeros = |value: Value| joint.splat(&joint.ty(value), 0.0).value();
    let carried = pulled.iter().map(Option::is_some).collect();
    let carries =
        wrt.iter().zip(pulled).map(|(&value, pulled)| pulled.unwrap_or_else(|| zeros(value))).collect();
    Ok(Step {
        next: outputs[..scan.carries].to_vec(),
        cotangents: seeds.into_iter().map(|(_, cotangent)| cotangent).collect(),
        inputs: inputs.len(),
        joint,
        forward,
        carries,
        carried,
        constants,
        sequences,
    })
}

/// Copies what `wanted` values need from one builder into another. `renamed` holds what is there already.
pub(super) fn copy(source: &Builder, target: &Builder, renamed: &mut [Option<Value>], wanted: &[Value]) {
    let mut marked = vec![false; renamed.len()];
    wanted.iter().for_each(|value| marked[value.index()] = true);
    for index in (0..renamed.len()).rev() {
        if marked[index] && renamed[index].is_none() {
            let node = source.node(Value::from_index(index));
            node.operands.iter().for_each(|operand| marked[operand.index()] = true);
        }
    }
    for index in 0..renamed.len() {
        if marked[index] && renamed[index].is_none() {
            let node = source.node(Value::from_index(index));
            let operand = |operand: &Value| {
                renamed[operand.index()].unwrap_or_else(|| panic!("operands are defined before their users"))
            };
            let operands: Vec<Value> = node.operands.iter().map(operand).collect();
            renamed[index] = Some(target.build(node.op.clone(), &operands).value());
        }
    }
}
