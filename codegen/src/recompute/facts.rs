//! What steps read and write, and which pieces can be computed again.

use crate::program::{Origins, Program, Step};
use std::collections::BTreeSet;

/// Operations and bytes in a second, roughly, of one core: only ratios count.
const OPERATIONS: f64 = 50e9;
const BYTES: f64 = 10e9;
const CALL: f64 = 2e-7;

pub(super) struct Facts {
    /// For each step, the pieces that it reads without writing them.
    pub reads: Vec<Vec<usize>>,
    /// For each step, the pieces that it writes.
    pub writes: Vec<Vec<usize>>,
    /// For each step, its time.
    pub seconds: Vec<f64>,
    /// For each piece, the steps that write it, in order.
    pub writers: Vec<Vec<usize>>,
    /// For each piece, its size.
    pub bytes: Vec<usize>,
    /// Whether a piece is in the arena.
    pub is_inner: Vec<bool>,
    /// Whether the steps that write a piece can run again later and write the same to other memory.
    pub repeats: Vec<bool>,
}

impl Facts {
    pub fn new(program: &Program) -> Facts {
        let pieces = program.pieces.len();
        let is_inner = program.pieces.iter().map(|piece| matches!(piece.origin, Origins::Arena)).collect();
        let mut facts = Facts {
            reads: Vec::new(),
            writes: Vec::new(),
            seconds: Vec::new(),
            writers: vec![Vec::new(); pieces],
            bytes: program.pieces.iter().map(|piece| piece.bytes).collect(),
            is_inner,
            repeats: vec![false; pieces],
        };
        for (position, step) in program.steps.iter().enumerate() {
            let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
            collect(program, step, &mut reads, &mut writes);
            writes.iter().for_each(|&piece| facts.writers[piece].push(position));
            facts.reads.push(reads.difference(&writes).copied().collect());
            facts.writes.push(writes.into_iter().collect());
            let work = program.work(step);
            let time = (work.operations as f64 / OPERATIONS).max(work.bytes as f64 / BYTES);
            facts.seconds.push(time + CALL * work.calls as f64);
        }
        facts.repeats = (0..pieces).map(|piece| facts.can_repeat(piece)).collect();
        facts
    }

    fn can_repeat(&self, piece: usize) -> bool {
        let writers = &self.writers[piece];
        self.is_inner[piece]
            && !writers.is_empty()
            && writers.iter().all(|&step| {
                let alone = |other: &usize| {
                    *other == piece || self.is_inner[*other] && self.writers[*other] == [step]
                };
                // What a step reads must be as it was: written for the last time before.
                let settled = |other: &usize| self.writers[*other].last().is_none_or(|&last| last < step);
                self.writes[step].iter().all(alone) && self.reads[step].iter().all(settled)
            })
    }
}

fn collect(program: &Program, step: &Step, reads: &mut BTreeSet<usize>, writes: &mut BTreeSet<usize>) {
    for (place, is_written) in step.places(&program.kernels) {
        if is_written { &mut *writes } else { &mut *reads }.insert(place.memory.0 as usize);
    }
    step.inner().iter().for_each(|step| collect(program, step, reads, writes));
}
