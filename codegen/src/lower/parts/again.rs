//! Memory that a backward pass finds from a forward pass, and that can be made again part by part: the scores of
//! attention. Where memory is limited, the steps that made it are repeated before its first reader, with which they
//! then run part by part, so that it is never there as a whole.

use super::{Accesses, Finder, LEAST_BYTES, uses};
use crate::program::{Memory, Origins, Piece, Program, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Memory that can be made again.
pub(in crate::lower) struct Again {
    memory: Memory,
    bytes: usize,
    /// Positions of the steps that make it.
    makers: Vec<usize>,
    /// The first step that reads it after the steps that it was made among.
    reader: usize,
}

/// What can be made again in a program that runs nothing part by part yet, the largest first.
pub(in crate::lower) fn again(program: &Program, threads: usize) -> Vec<Again> {
    let uses = uses(program);
    let accesses: Vec<Accesses> = program.steps.iter().map(|step| Accesses::of(program, step)).collect();
    let mut writers: BTreeMap<Memory, Vec<usize>> = BTreeMap::new();
    let mut readers: BTreeMap<Memory, Vec<usize>> = BTreeMap::new();
    for (position, own) in accesses.iter().enumerate() {
        own.writes.iter().for_each(|memory| writers.entry(*memory).or_default().push(position));
        own.reads.iter().for_each(|memory| readers.entry(*memory).or_default().push(position));
    }
    let mut found: Vec<Again> = Vec::new();
    for first in 0..program.steps.len() {
        let band = Finder::new(program, &uses, first).and_then(|finder| finder.best(threads));
        let Some(band) = band else { continue };
        for &memory in &band.kept {
            let piece = &program.pieces[memory.0 as usize];
            let is_large = piece.bytes >= LEAST_BYTES && matches!(piece.origin, Origins::Arena);
            let outside = readers.get(&memory).into_iter().flatten();
            let reader = outside.copied().find(|reader| !band.members.contains(reader));
            let (true, Some(reader)) = (is_large, reader) else { continue };
            if found.iter().any(|again| again.memory == memory) {
                continue;
            }
            let (makers, reads) = makers(memory, &band.members, &accesses);
            // What they read is still there, and what they write is written by them alone.
            let is_settled =
                |memory: &Memory| writers.get(memory).into_iter().flatten().all(|&writer| writer < first);
            let is_theirs = |memory: &Memory| {
                writers.get(memory).into_iter().flatten().all(|writer| makers.contains(writer))
            };
            let written = makers.iter().flat_map(|maker| &accesses[*maker].writes);
            if reads.iter().all(is_settled) && written.into_iter().all(is_theirs) && reader > first {
                found.push(Again { memory, bytes: piece.bytes, makers, reader });
            }
        }
    }
    found.sort_by_key(|again| std::cmp::Reverse(again.bytes));
    found
}

/// The members that a piece of memory needs to be made, in order, and what they read of others.
fn makers(memory: Memory, members: &[usize], accesses: &[Accesses]) -> (Vec<usize>, BTreeSet<Memory>) {
    let mut needed = BTreeSet::from([memory]);
    let mut makers = Vec::new();
    for &member in members.iter().rev() {
        let own = &accesses[member];
        if !own.writes.is_disjoint(&needed) {
            needed.retain(|memory| !own.writes.contains(memory));
            needed.extend(own.reads.iter().copied());
            makers.push(member);
        }
    }
    makers.reverse();
    (makers, needed)
}

/// Makes these again where they are read.
pub(in crate::lower) fn repeat(mut program: Program, again: &[Again]) -> Program {
    let mut later: Vec<&Again> = again.iter().collect();
    // Steps are inserted behind those whose positions count.
    later.sort_by_key(|again| std::cmp::Reverse(again.reader));
    for Again { memory, makers, reader, .. } in later {
        let mut names: BTreeMap<Memory, Memory> = BTreeMap::new();
        for &maker in makers {
            for written in Accesses::of(&program, &program.steps[maker]).writes {
                let bytes = program.pieces[written.0 as usize].bytes;
                program.pieces.push(Piece { origin: Origins::Arena, bytes, offset: 0 });
                names.insert(written, Memory(program.pieces.len() as u32 - 1));
            }
        }
        let mut copies: Vec<Step> = makers.iter().map(|&maker| program.steps[maker].clone()).collect();
        copies.iter_mut().for_each(|step| rename(step, &names));
        names.retain(|written, _| written == memory);
        program.steps[*reader..].iter_mut().for_each(|step| rename(step, &names));
        let labels: Vec<_> =
            makers.iter().map(|&maker| program.labels.0.get(maker).cloned().flatten()).collect();
        let count = copies.len();
        program.steps.splice(reader..reader, copies);
        program.labels.0.splice(reader..reader, labels);
        program.repeats.iter_mut().filter(|step| **step >= *reader).for_each(|step| *step += count);
        program.repeats.extend(*reader..reader + count);
        program.repeats.sort_unstable();
    }
    program
}

fn rename(step: &mut Step, names: &BTreeMap<Memory, Memory>) {
    step.visit_places(&mut |place| {
        if let Some(&name) = names.get(&place.memory) {
            place.memory = name;
        }
    });
    step.inner_mut().iter_mut().for_each(|step| rename(step, names));
}
