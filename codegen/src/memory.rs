//! Memory planning: live ranges of the program's pieces to offsets in one arena.
//!
//! Planning happens on the program and not on the graph, because only here is it known what memory the kernels
//! pack into and which of them may write over what they read.

use crate::loops::{Index, Kernel, Stmt};
use crate::program::{Memory, Origins, Program, Step};

const ALIGNMENT: usize = 64;

/// First and last step that use a piece, in the order of the flattened program.
#[derive(Clone, Copy)]
struct Range {
    first: usize,
    last: usize,
}

/// Gives every arena piece its offset, and the program the size of its arena.
pub(crate) fn plan(program: &mut Program) {
    let mut scan = Liveness { ranges: vec![None; program.pieces.len()], position: 0 };
    scan.steps(&program.steps, &program.kernels);
    let mut groups: Vec<usize> = (0..program.pieces.len()).collect();
    let mut ranges = scan.ranges;
    write_in_place(program, &mut ranges, &mut groups);
    let size = |piece: usize| program.pieces[piece].bytes.next_multiple_of(ALIGNMENT);
    let mut order: Vec<usize> = (0..program.pieces.len())
        .filter(|&piece| groups[piece] == piece && ranges[piece].is_some())
        .filter(|&piece| matches!(program.pieces[piece].origin, Origins::Arena))
        .collect();
    order.sort_by_key(|&piece| (std::cmp::Reverse(size(piece)), piece));
    let mut placed: Vec<(usize, Range)> = Vec::new();
    let mut offsets = vec![0; program.pieces.len()];
    let mut arena = 0;
    for piece in order {
        let Some(range) = ranges[piece] else { continue };
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, other)| other.first <= range.last && range.first <= other.last)
            .map(|&(other, _)| (offsets[other], offsets[other] + size(other)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + size(piece) <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[piece] = offset;
        arena = arena.max(offset + size(piece));
        placed.push((piece, range));
    }
    for piece in 0..program.pieces.len() {
        program.pieces[piece].offset = offsets[groups[piece]];
    }
    program.arena = arena;
}

struct Liveness {
    ranges: Vec<Option<Range>>,
    position: usize,
}

impl Liveness {
    fn touch(&mut self, memory: Memory) {
        let position = self.position;
        let range = self.ranges[memory.0 as usize].get_or_insert(Range { first: position, last: position });
        range.first = range.first.min(position);
        range.last = range.last.max(position);
    }

    fn steps(&mut self, steps: &[Step], kernels: &[Kernel]) {
        for step in steps {
            self.position += 1;
            for (place, _) in step.places(kernels) {
                self.touch(place.memory);
            }
            if let Step::Loop { body, .. } = step {
                let start = self.position;
                self.steps(body, kernels);
                self.position += 1;
                self.widen(body, kernels, start);
            }
        }
    }

    /// What lives before a loop, or moves with it, lives through all of it.
    fn widen(&mut self, body: &[Step], kernels: &[Kernel], start: usize) {
        for step in body {
            for (place, _) in step.places(kernels) {
                let moves = !place.terms.is_empty();
                let Some(range) = &mut self.ranges[place.memory.0 as usize] else { continue };
                if range.first <= start || moves {
                    range.first = range.first.min(start);
                    range.last = range.last.max(self.position);
                }
            }
            if let Step::Loop { body, .. } = step {
                self.widen(body, kernels, start);
            }
        }
    }
}

/// Lets a kernel write its result over an operand that nobody needs any more.
fn write_in_place(program: &Program, ranges: &mut [Option<Range>], groups: &mut [usize]) {
    let mut position = 0;
    for step in &program.steps {
        position += 1;
        match step {
            Step::Kernel { kernel, arguments, .. } => {
                let kernel = &program.kernels[*kernel];
                for (written, target) in arguments.iter().enumerate() {
                    let new = target.memory.0 as usize;
                    let starts =
                        ranges[new].is_some_and(|range| range.first == position && range.last > position);
                    if !matches!(program.pieces[new].origin, Origins::Arena) || !starts || groups[new] != new
                    {
                        continue;
                    }
                    let operand = arguments.iter().enumerate().find(|(read, source)| {
                        let old = source.memory.0 as usize;
                        let group = groups[old];
                        old != new
                            && matches!(program.pieces[old].origin, Origins::Arena)
                            && source.offset == 0
                            && program.pieces[group].bytes == program.pieces[new].bytes
                            && ranges[group].is_some_and(|range| range.last == position)
                            && (0..arguments.len()).all(|other| {
                                let shares = groups[arguments[other].memory.0 as usize] == group;
                                !shares || elementwise(kernel, other, written)
                            })
                            && *read != written
                    });
                    let Some((_, source)) = operand else { continue };
                    let group = groups[source.memory.0 as usize];
                    groups[new] = group;
                    if let (Some(old), Some(new)) = (ranges[group], ranges[new]) {
                        ranges[group] = Some(Range { first: old.first, last: old.last.max(new.last) });
                    }
                }
            }
            Step::Loop { body, .. } => position += count(body) + 1,
            Step::Gemm { .. } | Step::Conv { .. } | Step::ArgSort { .. } | Step::Copy { .. } => {}
        }
    }
}

fn count(steps: &[Step]) -> usize {
    let inner = |step: &Step| if let Step::Loop { body, .. } = step { count(body) + 1 } else { 0 };
    steps.iter().map(|step| 1 + inner(step)).sum()
}

/// Whether a kernel reads one buffer only where, later in the same iteration, it writes the other.
pub(crate) fn elementwise(kernel: &Kernel, read: usize, written: usize) -> bool {
    let mut accesses = Accesses { read, written, loads: Vec::new(), stores: Vec::new(), is_read_late: false };
    accesses.collect(&kernel.body);
    let Accesses { loads, stores, is_read_late, .. } = accesses;
    let same_size = kernel.buffers[read].scalar.bytes() == kernel.buffers[written].scalar.bytes();
    same_size
        && kernel.buffers[read].access == crate::loops::Access::Read
        && kernel.buffers[written].access == crate::loops::Access::Write
        && stores.len() == 1
        && !loads.is_empty()
        && !is_read_late
        && loads.iter().all(|index| index == &stores[0])
}

/// Where a kernel reads one buffer and writes another.
struct Accesses<'k> {
    read: usize,
    written: usize,
    loads: Vec<&'k Index>,
    stores: Vec<&'k Index>,
    /// Whether a load stands after a store.
    is_read_late: bool,
}

impl<'k> Accesses<'k> {
    fn collect(&mut self, body: &'k [Stmt]) {
        for statement in body {
            match statement {
                Stmt::Load { buffer, index, .. } if buffer.0 as usize == self.read => {
                    self.loads.push(index);
                    self.is_read_late |= !self.stores.is_empty();
                }
                Stmt::Store { buffer, index, .. } if buffer.0 as usize == self.written => {
                    self.stores.push(index);
                }
                Stmt::For { body, .. } => self.collect(body),
                Stmt::If { body, otherwise, .. } => {
                    self.collect(body);
                    self.collect(otherwise);
                }
                Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Store { .. } | Stmt::Update { .. } => {}
                Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } => {}
                Stmt::Read { .. } | Stmt::Wide { .. } | Stmt::Fail { .. } => {}
            }
        }
    }
}
