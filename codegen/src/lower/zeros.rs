//! Copies of zeros, such as what a scatter begins with, become zeros: nothing has to be read, and nothing to be kept.

use crate::program::{Memory, Origins, Piece, Place, Program, Step};
use std::collections::HashSet;

/// Writes zeros in place of copies of memory that holds nothing else, and forgets such memory where nobody else reads it.
pub(super) fn spread(program: &mut Program) {
    let zeros = only_zeros(program);
    if zeros.is_empty() {
        return;
    }
    let mut steps = std::mem::take(&mut program.steps);
    replace(&mut steps, &zeros);
    let is_result = |piece: &Piece| matches!(piece.origin, Origins::Output(_));
    let results = program.pieces.iter().enumerate().filter(|(_, piece)| is_result(piece));
    let mut read: HashSet<Memory> = results.map(|(position, _)| Memory(position as u32)).collect();
    collect(&steps, &mut |step| {
        for (place, written) in step.places(&program.kernels) {
            if !(written && matches!(step, Step::Zero { .. })) {
                read.insert(place.memory);
            }
        }
    });
    let is_idle = |step: &Step| matches!(step, Step::Zero { to, .. } if zeros.contains(&to.memory) && !read.contains(&to.memory));
    // A label for each step.
    let mut idle = steps.iter().map(is_idle);
    program.labels.0.retain(|_| !idle.next().unwrap_or(false));
    steps.retain(|step| !is_idle(step));
    program.steps = steps;
}

/// Calls `visit` with every step, those of loops included.
fn collect(steps: &[Step], visit: &mut dyn FnMut(&Step)) {
    for step in steps {
        visit(step);
        collect(step.inner(), visit);
    }
}

/// The pieces of the arena, and results, that one step outside of loops fills with zeros, and no other writes.
fn only_zeros(program: &Program) -> HashSet<Memory> {
    let filled = program.steps.iter().filter_map(|step| match step {
        Step::Zero { to, bytes } if *to == Place::start(to.memory) => {
            let piece = &program.pieces[to.memory.0 as usize];
            let own = matches!(piece.origin, Origins::Arena | Origins::Output(_));
            (own && piece.bytes == *bytes).then_some(to.memory)
        }
        _ => None,
    });
    let mut zeros: HashSet<Memory> = filled.collect();
    let (mut once, mut others) = (HashSet::new(), HashSet::new());
    collect(&program.steps, &mut |step| {
        let is_fill = matches!(step, Step::Zero { .. });
        for (place, written) in step.places(&program.kernels) {
            if written && !(is_fill && once.insert(place.memory)) {
                others.insert(place.memory);
            }
        }
    });
    zeros.retain(|memory| !others.contains(memory));
    zeros
}

fn replace(steps: &mut [Step], zeros: &HashSet<Memory>) {
    for step in steps {
        match step {
            Step::Copy { from, to, bytes } if zeros.contains(&from.memory) => {
                *step = Step::Zero { to: to.clone(), bytes: *bytes };
            }
            _ => replace(step.inner_mut(), zeros),
        }
    }
}
