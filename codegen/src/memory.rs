//! Memory planning: live ranges of the program's pieces to offsets in one arena.
//!
//! Planning happens on the program and not on the graph, because only here is it known what memory the kernels
//! pack into and which of them may write over what they read.

use crate::loops::{Index, Kernel, Stmt};
use crate::program::{Memory, Origins, Program, Step};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const ALIGNMENT: usize = 64;

/// Up to so many pieces are placed by size, which packs tighter and takes time by the square of their number.
const MOST_BY_SIZE: usize = 4096;

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
    let order: Vec<usize> = (0..program.pieces.len())
        .filter(|&piece| groups[piece] == piece && ranges[piece].is_some())
        .filter(|&piece| matches!(program.pieces[piece].origin, Origins::Arena))
        .collect();
    let live: Vec<Live> = (order.into_iter())
        .filter_map(|piece| ranges[piece].map(|range| Live { piece, range, bytes: size(piece) }))
        .collect();
    let mut offsets = vec![0; program.pieces.len()];
    program.arena =
        if live.len() <= MOST_BY_SIZE { by_size(live, &mut offsets) } else { by_time(live, &mut offsets) };
    for piece in 0..program.pieces.len() {
        program.pieces[piece].offset = offsets[groups[piece]];
    }
}

/// Offsets for memory that is alive from a first to a last moment, of so many bytes each, and the size of it all.
pub(crate) fn arrange(lives: &[(usize, usize, usize)]) -> (Vec<usize>, usize) {
    let live = |(piece, &(first, last, bytes)): (usize, &(usize, usize, usize))| Live {
        piece,
        range: Range { first, last },
        bytes: bytes.next_multiple_of(ALIGNMENT),
    };
    let mut offsets = vec![0; lives.len()];
    let size = by_size(lives.iter().enumerate().map(live).collect(), &mut offsets);
    (offsets, size)
}

/// A piece of the arena with its size in whole cache lines.
struct Live {
    piece: usize,
    range: Range,
    bytes: usize,
}

/// The largest first, each at the lowest offset where nothing lives at the same time. Answers the arena's size.
fn by_size(mut live: Vec<Live>, offsets: &mut [usize]) -> usize {
    live.sort_by_key(|live| (Reverse(live.bytes), live.piece));
    let mut arena = 0;
    for (position, new) in live.iter().enumerate() {
        let mut taken: Vec<(usize, usize)> = (live[..position].iter())
            .filter(|old| old.range.first <= new.range.last && new.range.first <= old.range.last)
            .map(|old| (offsets[old.piece], offsets[old.piece] + old.bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + new.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[new.piece] = offset;
        arena = arena.max(offset + new.bytes);
    }
    arena
}

/// In the order of time, each in the smallest gap that holds it: for programs of so many pieces that comparing each
/// with each takes too long. Answers the arena's size.
fn by_time(mut live: Vec<Live>, offsets: &mut [usize]) -> usize {
    live.sort_by_key(|live| (live.range.first, live.piece));
    let mut ending: BinaryHeap<Reverse<(usize, usize, usize)>> = BinaryHeap::new();
    let mut gaps = Gaps::default();
    for new in &live {
        while let Some(&Reverse((last, offset, bytes))) = ending.peek()
            && last < new.range.first
        {
            ending.pop();
            gaps.give(offset, bytes);
        }
        let offset = gaps.take(new.bytes);
        offsets[new.piece] = offset;
        ending.push(Reverse((new.range.last, offset, new.bytes)));
    }
    gaps.end
}

/// Parts of the arena that nothing uses.
#[derive(Default)]
struct Gaps {
    /// Bytes by offset; no two gaps touch.
    by_offset: BTreeMap<usize, usize>,
    /// The same gaps as bytes and offset.
    by_bytes: BTreeSet<(usize, usize)>,
    /// The arena's size.
    end: usize,
}

impl Gaps {
    fn insert(&mut self, offset: usize, bytes: usize) {
        self.by_offset.insert(offset, bytes);
        self.by_bytes.insert((bytes, offset));
    }

    fn remove(&mut self, offset: usize, bytes: usize) {
        self.by_offset.remove(&offset);
        self.by_bytes.remove(&(bytes, offset));
    }

    /// Frees a part, which joins the gaps that it touches.
    fn give(&mut self, mut offset: usize, mut bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some((&before, &length)) = self.by_offset.range(..offset).next_back()
            && before + length == offset
        {
            self.remove(before, length);
            (offset, bytes) = (before, bytes + length);
        }
        if let Some(&length) = self.by_offset.get(&(offset + bytes)) {
            self.remove(offset + bytes, length);
            bytes += length;
        }
        self.insert(offset, bytes);
    }

    /// Takes the smallest gap that holds so many bytes; where none does, the arena grows.
    fn take(&mut self, bytes: usize) -> usize {
        let (length, offset) = match self.by_bytes.range((bytes, 0)..).next() {
            Some(&gap) => gap,
            None => match self.by_offset.last_key_value() {
                Some((&last, &length)) if last + length == self.end => {
                    self.end = last + bytes;
                    self.remove(last, length);
                    return last;
                }
                _ => {
                    self.end += bytes;
                    return self.end - bytes;
                }
            },
        };
        self.remove(offset, length);
        if length > bytes {
            self.insert(offset + bytes, length - bytes);
        }
        offset
    }
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
            let all = match step {
                Step::Loop { rows, .. } => rows.is_some(),
                Step::Parts { .. } => true,
                _ => continue,
            };
            let start = self.position;
            self.steps(step.inner(), kernels);
            self.position += 1;
            self.widen(step.inner(), kernels, start, all);
        }
    }

    /// What lives before a loop, or moves with it, lives through all of it; and everything does where threads are at
    /// different steps at the same time.
    fn widen(&mut self, body: &[Step], kernels: &[Kernel], start: usize, all: bool) {
        for step in body {
            for (place, _) in step.places(kernels) {
                let moves = !place.terms.is_empty();
                let Some(range) = &mut self.ranges[place.memory.0 as usize] else { continue };
                if all || range.first <= start || moves {
                    range.first = range.first.min(start);
                    range.last = range.last.max(self.position);
                }
            }
            self.widen(step.inner(), kernels, start, all);
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
            Step::Loop { body, .. } | Step::Parts { body, .. } => position += count(body) + 1,
            Step::Gemm { .. } | Step::Conv { .. } | Step::ArgSort { .. } => {}
            Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => {}
        }
    }
}

fn count(steps: &[Step]) -> usize {
    let inner = |step: &Step| match step {
        Step::Loop { body, .. } | Step::Parts { body, .. } => count(body) + 1,
        _ => 0,
    };
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
                Stmt::Transpose { from, .. } => {
                    // Reads across all that a store may have written.
                    self.is_read_late |= from.0 as usize == self.read;
                }
                Stmt::Read { .. } | Stmt::Wide { .. } | Stmt::Fail { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of all lengths of life, from fixed numbers.
    fn pieces(count: usize) -> Vec<Live> {
        let mut state = 1u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % limit as usize
        };
        let mut one = |piece| {
            let first = below(count as u64);
            let last = first + [0, below(8), below(count as u64)][below(3)];
            Live { piece, range: Range { first, last }, bytes: below(20) * ALIGNMENT }
        };
        (0..count).map(&mut one).collect()
    }

    #[test]
    fn what_lives_together_lies_apart() {
        for place in [by_size, by_time] {
            let live = pieces(400);
            let mut offsets = vec![0; live.len()];
            let arena = place(pieces(400), &mut offsets);
            let at = |live: &Live| offsets[live.piece]..offsets[live.piece] + live.bytes;
            for (position, new) in live.iter().enumerate() {
                assert!(at(new).end <= arena);
                for old in &live[..position] {
                    let together = old.range.first <= new.range.last && new.range.first <= old.range.last;
                    let apart = at(old).end <= at(new).start || at(new).end <= at(old).start;
                    assert!(!together || apart || old.bytes == 0 || new.bytes == 0);
                }
            }
            let alive = |step: usize| {
                let alive = live.iter().filter(|live| (live.range.first..=live.range.last).contains(&step));
                alive.map(|live| live.bytes).sum::<usize>()
            };
            let least = (0..800).map(alive).max();
            assert!(least.is_some_and(|least| (least..least * 5 / 4).contains(&arena)), "{least:?} {arena}");
        }
    }
}
