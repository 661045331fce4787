//! Carries of loops that need no copy from round to round.
//!
//! A loop hands its carries on by copies of what a round computed over what it began with. Where a kernel reads the old
//! carry element by element, it can write the new one over it. And where the carry is also stacked, the next round can read
//! it from there: the stack gets room for one more, what the first round begins with or what the last one makes.

use super::accesses::Accesses;
use crate::loops::Kernel;
use crate::memory::elementwise;
use crate::program::{LoopId, Memory, Origins, Place, Program, Step};

/// Does without copies, in the loops of a program, where that is possible.
pub(super) fn hand_on(program: &mut Program) {
    for at in 0..program.steps.len() {
        let Step::Loop { id, trip, .. } = &program.steps[at] else { continue };
        let (id, trip) = (*id, *trip);
        shorten(program, at, &|program, position| in_old_stack(program, at, position, id, trip));
        shorten(program, at, &|program, position| {
            let done = in_place(program, at, position) || from_stack(program, at, position, id, trip);
            done.then(|| vec![position])
        });
        shorten(program, at, &|program, position| {
            is_in_another(program, at, position, id, trip).then(|| vec![position])
        });
    }
}

/// Takes out of a loop the steps that `without` answers for a position: those that it found a way to do without.
fn shorten(program: &mut Program, at: usize, without: &dyn Fn(&mut Program, usize) -> Option<Vec<usize>>) {
    let mut position = program.steps[at].inner().len();
    while position > 0 {
        position -= 1;
        let Some(removed) = without(program, position) else { continue };
        if let Step::Loop { body, .. } = &mut program.steps[at] {
            let mut number = 0..;
            body.retain(|_| number.next().is_none_or(|number| !removed.contains(&number)));
            position = position.min(body.len());
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

/// How the place of a copy moves from round to round, and where the first round's is, if the place is a round's in a stack: a
/// piece of the arena that holds one of all rounds each.
fn in_stack(program: &Program, place: &Place, bytes: usize, id: LoopId, trip: usize) -> Option<(i64, i64)> {
    let [(moves_with, way)] = place.terms[..] else { return None };
    let piece = &program.pieces[place.memory.0 as usize];
    let step = bytes as i64;
    let first = if way < 0 { (trip as i64 - 1) * step } else { 0 };
    let is_stack = matches!(piece.origin, Origins::Arena)
        && piece.bytes == trip * bytes
        && bytes > 0
        && moves_with == id
        && way.abs() == step
        && place.offset == first;
    is_stack.then_some((way, first))
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
    let Some((way, _)) = in_stack(program, from, bytes, id, trip) else { return false };
    if !is_whole(program, to, bytes) {
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
    let (start, shift) = if way < 0 { (trip as i64 * step, 0) } else { (0, step) };
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

/// Lets a round read its carry from the stack of what rounds begin with, and write the next one there: neither is copied.
/// Answers the positions of both copies.
fn in_old_stack(
    program: &mut Program,
    at: usize,
    position: usize,
    id: LoopId,
    trip: usize,
) -> Option<Vec<usize>> {
    let (body, from, to, bytes) = copy(program, at, position)?;
    let (carry, stack) = (from.memory, to.memory);
    let (way, first) = in_stack(program, to, bytes, id, trip)?;
    if !is_whole(program, from, bytes) {
        return None;
    }
    let is_handed_on = |step: &Step| matches!(step, Step::Copy { to, .. } if to.memory == carry);
    let handing = body.iter().position(is_handed_on).filter(|handing| *handing > position)?;
    let (_, new, old, size) = copy(program, at, handing)?;
    let new = new.memory;
    if size != bytes
        || !is_whole(program, old, bytes)
        || !is_whole(program, &Place::start(new), bytes)
        || new == carry
    {
        return None;
    }
    // The carry is read before it is handed on, and the next one belongs to the round.
    let reads = body.iter().enumerate().all(|(other, step)| {
        let places = step.places(&program.kernels);
        let mut own = places.into_iter().filter(|(place, _)| place.memory == carry);
        let as_it_is =
            own.all(|(place, is_written)| !is_written && other < handing && place.terms.is_empty());
        let inner = step
            .inner()
            .iter()
            .any(|step| [carry, new, stack].iter().any(|own| touches(program, step, *own)));
        let stacks = other != position && touches(program, step, stack);
        (other == handing || as_it_is) && !inner && !stacks
    });
    let is_elsewhere =
        |memory: Memory, steps: &[Step]| steps.iter().any(|step| touches(program, step, memory));
    let inside = |step: &Step| step.inner().iter().any(|step| touches(program, step, carry));
    let (before, after) = (&program.steps[..at], &program.steps[at + 1..]);
    let is_free = !is_elsewhere(carry, after)
        && !is_elsewhere(stack, before)
        && !is_elsewhere(new, before)
        && !is_elsewhere(new, after)
        && !before.iter().any(inside);
    if !reads || !is_free {
        return None;
    }
    program.pieces[stack.0 as usize].bytes += bytes;
    // Where the last rounds come first, what the last one makes lies before them all.
    let shift = if way < 0 { -way } else { 0 };
    for (position, outer) in program.steps.iter_mut().enumerate() {
        let is_loop = position == at;
        rename(outer, &|place| {
            if place.memory == stack {
                place.offset += shift;
            } else if place.memory == carry || place.memory == new {
                place.offset += first + shift + if place.memory == new { way } else { 0 };
                place.memory = stack;
                if is_loop {
                    place.terms.push((id, way));
                }
            }
        });
    }
    Some(vec![position, handing])
}

/// Lets what would read a stack read another one, of which it would be a copy.
fn is_in_another(program: &mut Program, at: usize, position: usize, id: LoopId, trip: usize) -> bool {
    let Some((body, from, to, bytes)) = copy(program, at, position) else { return false };
    let (other, stack) = (from.memory, to.memory);
    let Some((way, _)) = in_stack(program, to, bytes, id, trip) else { return false };
    let shift = from.offset - to.offset;
    let piece = &program.pieces[other.0 as usize];
    let fits = from.terms == to.terms
        && shift >= 0
        && shift as usize + trip * bytes <= piece.bytes
        && other != stack
        && matches!(piece.origin, Origins::Arena);
    // A round writes of the other what only later ones read: its next place.
    let next = Place { offset: from.offset + way, ..from.clone() };
    let leaves_it = |step: &Step| match step {
        Step::Kernel { kernel, arguments, .. } => {
            let buffers = program.kernels[*kernel].buffers.iter();
            arguments.iter().zip(buffers).all(|(place, buffer)| {
                let is_next = *place == next && buffer.elements * buffer.scalar.bytes() <= bytes;
                place.memory != other || buffer.access == crate::loops::Access::Read || is_next
            })
        }
        step => {
            let places = step.places(&program.kernels);
            let writes = places.iter().any(|(place, is_written)| *is_written && place.memory == other);
            !writes && !step.inner().iter().any(|step| touches(program, step, other))
        }
    };
    let is_free = fits
        && body.iter().all(leaves_it)
        && program.steps[at + 1..].iter().all(|step| !Accesses::of(program, step).writes.contains(&other))
        && body.iter().enumerate().all(|(at, step)| at == position || !touches(program, step, stack))
        && !program.steps[..at].iter().any(|step| touches(program, step, stack));
    if is_free {
        program.steps.iter_mut().for_each(|step| {
            rename(step, &|place| {
                if place.memory == stack {
                    (place.memory, place.offset) = (other, place.offset + shift);
                }
            })
        });
    }
    is_free
}

/// Changes the places of a step and of those inside.
fn rename(step: &mut Step, change: &dyn Fn(&mut Place)) {
    step.visit_places(&mut |place| change(place));
    step.inner_mut().iter_mut().for_each(|step| rename(step, change));
}
