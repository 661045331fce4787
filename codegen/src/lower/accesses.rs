//! What steps read and write, as whole pieces of memory.

use crate::program::{Memory, Program, Step};
use std::collections::BTreeSet;

/// The memory that a step and the steps in it read and write.
#[derive(Default)]
pub(super) struct Accesses {
    pub(super) reads: BTreeSet<Memory>,
    pub(super) writes: BTreeSet<Memory>,
}

impl Accesses {
    pub(super) fn of(program: &Program, step: &Step) -> Accesses {
        let mut accesses = Accesses::default();
        accesses.add(program, step);
        accesses
    }

    pub(super) fn touches(&self, memory: Memory) -> bool {
        self.reads.contains(&memory) || self.writes.contains(&memory)
    }

    fn add(&mut self, program: &Program, step: &Step) {
        for (place, is_written) in step.places(&program.kernels) {
            if is_written { &mut self.writes } else { &mut self.reads }.insert(place.memory);
        }
        step.inner().iter().for_each(|step| self.add(program, step));
    }

    /// Whether two steps may change places.
    pub(super) fn commutes(&self, other: &Accesses) -> bool {
        let free = |writes: &BTreeSet<Memory>, of: &Accesses| {
            writes.is_disjoint(&of.reads) && writes.is_disjoint(&of.writes)
        };
        free(&self.writes, other) && free(&other.writes, self)
    }
}
