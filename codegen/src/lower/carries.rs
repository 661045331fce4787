//! Carries of loops that need no copy from round to round.
//!
//! A loop hands its carries on by copies of what a round computed over what it began with. Where a kernel reads the old
//! carry element by element, it can write the new one over it. And where the new carry is also stacked, the next round
//! can read it from there: the stack gets room for what the first round begins with.

use crate::loops::Kernel;
use crate::memory::elementwise;
use crate::program::{LoopId, Memory, Origins, Place, Program, Step};

/// Does without copies, in the loops of a program, where that is possible.
pub(super) fn hand_on(program: &mut Program) {
    for at in 0..program.steps.len() {
        let Step::Loop { id, trip, body, .. } = &program.steps[at] else { continue };
        let (id, trip) = (*id, *trip);
        let mut position = body.len();
        while position > 0 {
            position -= 1;
            let done = in_place(program, at, position) || from_stack(program, at, position, id, trip);
            if done && let Step::Loop { body, .. } = &mut program.steps[at] {
                body.remove(position);
            }
        }
    }
}

/// The steps of a loop, and the copy at a position of it, from where to where.
fn copy(program: &Program, at: usize, position: usize) -> Option<(&[Step], &Place, &Place, usize)> {
    let body = program.steps[at].inner();
    match body.get(position)? {
        Step::Copy { from, to, bytes } => Some((body, from, to, *bytes)),
        _ => None,
    }
}

/// Whether a place is all of a piece of the arena.
fn is_whole(program: &Program, place: &Place, bytes: usize) -> bool {
    let piece = &program.pieces[place.memory.0 as usize];
    *place == Place::start(place.memory) && piece.bytes == bytes && matches!(piece.origin, Origins::Arena)
}

fn touches(program: &Program, step: &Step, memory: Memory) -> bool {
    step.places(&program.kernels).iter().any(|(place, _)| place.memory == memory)
        || step.inner().iter().any(|step| touches(program, step, memory))
}

/// Lets the kernel that computes the new carry write it over the old one.
fn in_place(program: &mut Program, at: usize, position: usize) -> bool {
    let Some((body, from, to, bytes)) = copy(program, at, position) else { return false };
    if !is_whole(program, from, bytes) || !is_whole(program, to, bytes) || from == to {
        return false;
    }
    let (new, old) = (from.memory, to.memory);
    let Some(maker) = body.iter().position(|step| touches(program, step, new)) else { return false };
    let Step::Kernel { kernel, arguments, .. } = &body[maker] else { return false };
    let outside = program.steps.iter().enumerate().filter(|(other, _)| *other != at);
    let is_needed_outside = outside.map(|(_, step)| step).any(|step| touches(program, step, new));
    let mut later = body.iter().enumerate().skip(maker + 1).filter(|(step, _)| *step != position);
    let is_needed_later = later.any(|(_, step)| touches(program, step, old));
    let fits = writes_over(&program.kernels[*kernel], arguments, new, old);
    if is_needed_outside || is_needed_later || !fits {
        return false;
    }
    if let Step::Loop { body, .. } = &mut program.steps[at] {
        for step in body {
            rename(step, &|place| {
                if place.memory == new {
                    place.memory = old;
                }
            });
        }
    }
    true
}

/// Whether a kernel writes `new`, and could write it over `old`.
fn writes_over(kernel: &Kernel, arguments: &[Place], new: Memory, old: Memory) -> bool {
    let at = |memory: Memory| (0..arguments.len()).filter(move |&at| arguments[at].memory == memory);
    let written: Vec<usize> = at(new).collect();
    let [written] = written[..] else { return false };
    let whole = |at: usize| arguments[at] == Place::start(arguments[at].memory);
    whole(written) && at(old).all(|read| whole(read) && elementwise(kernel, read, written))
}

/// Lets a round read its carry from the stack on which the round before put it.
fn from_stack(program: &mut Program, at: usize, position: usize, id: LoopId, trip: usize) -> bool {
    let Some((body, from, to, bytes)) = copy(program, at, position) else { return false };
    let (stack, carry, step) = (from.memory, to.memory, bytes as i64);
    let [(moves_with, way)] = from.terms[..] else { return false };
    let piece = &program.pieces[stack.0 as usize];
    let is_reverse = way == -step;
    let first = if is_reverse { (trip as i64 - 1) * step } else { 0 };
    let is_stack = matches!(piece.origin, Origins::Arena)
        && piece.bytes == trip * bytes
        && moves_with == id
        && (way == step || is_reverse)
        && from.offset == first;
    if !is_stack || !is_whole(program, to, bytes) || bytes == 0 {
        return false;
    }
    let reads_before = body.iter().enumerate().all(|(other, step)| {
        let mut own = step.places(&program.kernels).into_iter().filter(|(place, _)| place.memory == carry);
        let as_it_is =
            own.all(|(place, is_written)| !is_written && other < position && place.terms.is_empty());
        other == position || as_it_is && step.inner().iter().all(|step| !touches(program, step, carry))
    });
    let after = program.steps[at + 1..].iter().any(|step| touches(program, step, carry));
    let before = program.steps[..at].iter().any(|step| {
        touches(program, step, stack) || step.inner().iter().any(|step| touches(program, step, carry))
    });
    if !reads_before || after || before {
        return false;
    }
    program.pieces[stack.0 as usize].bytes += bytes;
    let (start, shift) = if is_reverse { (trip as i64 * step, 0) } else { (0, step) };
    for (position, outer) in program.steps.iter_mut().enumerate() {
        let is_loop = position == at;
        rename(outer, &|place| {
            if place.memory == stack {
                place.offset += shift;
            } else if place.memory == carry {
                place.memory = stack;
                place.offset += start;
                if is_loop {
                    place.terms.push((id, way));
                }
            }
        });
    }
    true
}

/// Changes the places of a step and of those inside.
fn rename(step: &mut Step, change: &dyn Fn(&mut Place)) {
    step.visit_places(&mut |place| change(place));
    step.inner_mut().iter_mut().for_each(|step| rename(step, change));
}
