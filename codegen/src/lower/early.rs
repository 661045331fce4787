//! Runs what leads to results alone as soon as it can run: the gradient of a weight as soon as the cotangent is there, and
//! the update of the weight right behind it, while both are near, and before memory is needed for the next ones.

use super::accesses::Accesses;
use crate::program::{Labels, Memory, Origins, Program, Step};
use std::collections::HashMap;

/// So many steps may lie between a step that runs early and a result.
const DEEPEST: usize = 3;

/// The last steps so far that touched a piece of memory.
#[derive(Clone, Copy, Default)]
struct Touched {
    /// The step behind which it can be read: the last that wrote it.
    written: Option<usize>,
    /// The step behind which it can be written: the last that read or wrote it.
    used: Option<usize>,
}

/// Moves steps that lead to results alone to right behind the step that they wait for.
pub(super) fn advance(program: &mut Program) {
    let accesses: Vec<Accesses> = program.steps.iter().map(|step| Accesses::of(program, step)).collect();
    let early = early(program, &accesses);
    let mut touched: HashMap<Memory, Touched> = HashMap::new();
    // For each step the one that it follows: itself, or the one that an early step waits for.
    let mut anchors: Vec<usize> = Vec::with_capacity(program.steps.len());
    for (position, accesses) in accesses.iter().enumerate() {
        let read = accesses.reads.iter().filter_map(|memory| touched.get(memory)?.written);
        let written = accesses.writes.iter().filter_map(|memory| touched.get(memory)?.used);
        let anchor = read.chain(written).max().filter(|_| early[position]).unwrap_or(position);
        anchors.push(anchor);
        for memory in accesses.reads.union(&accesses.writes) {
            let touched = touched.entry(*memory).or_default();
            touched.used = touched.used.max(Some(anchor));
            if accesses.writes.contains(memory) {
                touched.written = touched.written.max(Some(anchor));
            }
        }
    }
    let mut order: Vec<usize> = (0..program.steps.len()).collect();
    order.sort_by_key(|&position| (anchors[position], anchors[position] != position));
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut program.steps).into_iter().map(Some).collect();
    program.steps = order.iter().filter_map(|&position| steps[position].take()).collect();
    let label = |&position: &usize| program.labels.0.get(position).cloned().flatten();
    program.labels = Labels(order.iter().map(label).collect());
}

/// Whether each step leads to results alone, by few further steps.
fn early(program: &Program, accesses: &[Accesses]) -> Vec<bool> {
    // For each piece of memory the most steps from one that reads it to a result.
    let mut depths: HashMap<Memory, usize> = HashMap::new();
    let mut early = vec![false; accesses.len()];
    for (position, accesses) in accesses.iter().enumerate().rev() {
        let depth = accesses.writes.iter().map(|memory| match program.pieces[memory.0 as usize].origin {
            Origins::Output(_) => 0,
            _ => depths.get(memory).copied().unwrap_or(0),
        });
        let depth = depth.max().filter(|_| may_move(&program.steps[position])).unwrap_or(usize::MAX);
        early[position] = depth <= DEEPEST;
        for memory in accesses.reads.union(&accesses.writes) {
            let own = depths.entry(*memory).or_default();
            *own = (*own).max(depth.saturating_add(1));
        }
    }
    early
}

/// A batch of products stays where others of its kind are: `parts` makes one step of them.
fn may_move(step: &Step) -> bool {
    match step {
        Step::Gemm { gemm, .. } => gemm.batch == 1,
        Step::Loop { .. } | Step::Parts { .. } => false,
        Step::Kernel { .. } | Step::Conv { .. } | Step::ArgSort { .. } => true,
        Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => true,
    }
}
