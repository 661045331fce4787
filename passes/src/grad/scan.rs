//! The rule of loops: a scan in the other direction over the values that the forward steps leave behind.

use super::GradError;
use super::flow::{self, Flow};
use super::residuals::{Residuals, Source};
use super::rules::{Cotangents, Site, wide};
use super::walk;
use gradc_ir::{Builder, Expr, Op, ScanOp, TensorType, Value, inline};
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
    /// What comes out for the live carries, the needed constants and the needed sequences.
    carries: Vec<Value>,
    constants: Vec<Value>,
    sequences: Vec<Value>,
}

/// The cotangents of a loop's constants, initial carries and sequences.
pub(super) fn vjp<'b>(site: &Site<'b, '_>, scan: &ScanOp) -> Result<Cotangents<'b>, GradError> {
    let fixed = scan.constants + scan.carries;
    let outer = site.builder;
    if scan.trip == 0 {
        let carries = site.cotangents[..scan.carries].iter().copied();
        let others = fixed..site.operands.len();
        return Ok(vec![None; scan.constants]
            .into_iter()
            .chain(carries)
            .chain(others.map(|_| None))
            .collect());
    }
    let stacked: Vec<usize> =
        (scan.carries..site.cotangents.len()).filter(|&part| site.cotangents[part].is_some()).collect();
    let live = live_carries(site, scan, &stacked);
    let constants: Vec<usize> = (0..scan.constants).filter(|&position| site.needed[position]).collect();
    let sequences: Vec<usize> =
        (fixed..site.needed.len()).filter(|&position| site.needed[position]).collect();
    let step = differentiate(scan, &live, &stacked, &constants, &sequences)?;

    // Accumulators of constants are wide, so that many small additions do not vanish.
    let accumulated = |position: usize| {
        let ty = site.operands[position].ty();
        ty.with_dtype(wide(ty.dtype))
    };
    let wanted = [&step.carries[..], &step.constants, &step.sequences].concat();
    let residuals = Residuals::choose(&step, scan, &wanted);
    let sources = residuals.outer_values(&step, scan, site);

    let back = Builder::new(format!("{}_gradient", scan.body.name()));
    let mut operands: Vec<Value> = Vec::new();
    let mut renamed: Vec<Option<Value>> = vec![None; step.joint.len()];
    for (source, value) in &sources {
        if let Source::Constant(inner) = source {
            renamed[inner.index()] = Some(back.input("constant", outer.ty(*value)));
            operands.push(*value);
        }
    }
    let used_constants = operands.len();
    for (&carry, cotangent) in live.iter().zip(&step.cotangents) {
        let ty = site.operands[scan.constants + carry].ty();
        renamed[cotangent.index()] = Some(back.input("cotangent", ty.clone()));
        let initial = site.cotangents[carry].unwrap_or_else(|| outer.splat(&ty, 0.0));
        operands.push(initial.value());
    }
    let mut sums = Vec::new();
    for &position in &constants {
        sums.push(back.expr(back.input("sum", accumulated(position))));
        operands.push(outer.splat(&accumulated(position), 0.0).value());
    }
    for (source, value) in &sources {
        if let Source::Sequence(inner) = source {
            renamed[inner.index()] = Some(back.input("residual", step.joint.ty(*inner)));
            operands.push(*value);
        }
    }
    for (&part, cotangent) in stacked.iter().zip(&step.cotangents[live.len()..]) {
        renamed[cotangent.index()] = Some(back.input("cotangent", step.joint.ty(*cotangent)));
        operands.extend(site.cotangents[part].map(Expr::value));
    }
    copy(&step.joint, &back, &mut renamed, &wanted);
    let result = |value: &Value| {
        back.expr(renamed[value.index()].unwrap_or_else(|| panic!("what is wanted was copied")))
    };
    let mut outputs: Vec<Value> = step.carries.iter().map(|value| result(value).value()).collect();
    outputs.extend(
        step.constants.iter().zip(&sums).map(|(value, &sum)| (sum + result(value).cast(sum.dtype())).value()),
    );
    outputs.extend(step.sequences.iter().map(|value| result(value).value()));
    let op = ScanOp {
        body: Arc::new(back.finish(&outputs)),
        trip: scan.trip,
        constants: used_constants,
        carries: live.len() + constants.len(),
        reverse: !scan.reverse,
    };
    let gradient = outer.build(Op::Scan(op), &operands);

    let mut cotangents: Cotangents<'b> = vec![None; site.operands.len()];
    for (part, &carry) in live.iter().enumerate() {
        cotangents[scan.constants + carry] = Some(gradient.project(part));
    }
    for (part, &position) in constants.iter().enumerate() {
        let sum = gradient.project(live.len() + part);
        cotangents[position] = Some(sum.cast(site.operands[position].dtype()));
    }
    for (part, &position) in sequences.iter().enumerate() {
        cotangents[position] = Some(gradient.project(live.len() + constants.len() + part));
    }
    Ok(cotangents)
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
    constants: &[usize],
    sequences: &[usize],
) -> Result<Step, GradError> {
    let joint = Builder::new(scan.body.name());
    let inputs: Vec<Value> =
        scan.body.inputs().iter().map(|input| joint.input(&input.name, input.ty.clone())).collect();
    let outputs = inline(&joint, &scan.body, &inputs);
    let forward = joint.len();
    let seeded = live.iter().chain(stacked).map(|&part| outputs[part]);
    let seeds: Vec<(Value, Value)> =
        seeded.map(|target| (target, joint.input("cotangent", joint.ty(target)))).collect();
    let carries: Vec<Value> = live.iter().map(|&carry| inputs[scan.constants + carry]).collect();
    let others = constants.iter().chain(sequences).map(|&position| inputs[position]);
    let wrt: Vec<Value> = carries.into_iter().chain(others).collect();
    let pulled = walk::pull(&joint, &seeds, &wrt)?;
    let zeros = |value: Value| {
        let ty: TensorType = joint.ty(value);
        joint.splat(&ty, 0.0).value()
    };
    let mut cotangents =
        wrt.iter().zip(pulled).map(|(&value, pulled)| pulled.unwrap_or_else(|| zeros(value)));
    let carries = cotangents.by_ref().take(live.len()).collect();
    let constants = cotangents.by_ref().take(constants.len()).collect();
    let sequences = cotangents.collect();
    Ok(Step {
        next: outputs[..scan.carries].to_vec(),
        cotangents: seeds.into_iter().map(|(_, cotangent)| cotangent).collect(),
        inputs: inputs.len(),
        joint,
        forward,
        carries,
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
