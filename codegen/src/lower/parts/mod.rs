//! Finds steps between which lies much memory that nobody else needs, and runs them part by part: attention by heads,
//! or by rows of a head, so that its scores are made, used and forgotten while they are near.
//!
//! A batch of products begins it, or a pointwise convolution. Later steps join that read what was written so far, or are
//! products of as many, can be moved to where it began, and fall into the same parts: of what the steps write, part `p` of
//! the bytes belongs to part `p`, and what is done for a part reads and writes of such memory only what belongs to it.
//! Memory that no other step touches is then needed for one part only (for each thread).

mod again;
mod convolution;

pub(super) use again::{again, repeat};

use super::accesses::Accesses;
use super::apart::Rule;
use super::tiles;
use crate::loops::Kernel;
use crate::memory;
use crate::program::{LoopId, Memory, Origins, Piece, Place, Program, Step};
use gradc_kernels::Gemm;
use std::collections::{BTreeMap, BTreeSet};

/// Steps that are looked at after the first.
const WINDOW: usize = 24;
/// Bytes of memory that is needed for one part only, in all parts: less is near anyway.
const LEAST_BYTES: usize = 128 << 10;
/// Bytes of such memory in one part that are near enough: half of a usual second-level cache.
const NEAR_BYTES: usize = 512 << 10;
/// Rows of a product that are worth a part: the right operand is packed for each.
const LEAST_ROWS: usize = 64;
/// How many times as many columns as terms a single product must have: weights of a layer, which would be packed for
/// each part, have fewer.
const SINGLE: usize = 8;

/// Divides what it can, for a team of at most `threads` threads.
pub(super) fn divide(program: &mut Program, threads: usize) {
    let mut uses = uses(program);
    let mut at = 0;
    while at < program.steps.len() {
        if let Some(band) = Finder::new(program, &uses, at).and_then(|finder| finder.best(threads.max(1))) {
            apply(program, band, threads.max(1));
            uses.resize(program.pieces.len(), 1);
        }
        at += 1;
    }
}

/// For each piece of memory, how many steps touch it.
fn uses(program: &Program) -> Vec<usize> {
    let mut uses = vec![0; program.pieces.len()];
    for step in &program.steps {
        let accesses = Accesses::of(program, step);
        accesses.reads.union(&accesses.writes).for_each(|memory| uses[memory.0 as usize] += 1);
    }
    uses
}

/// Steps that run part by part.
struct Band {
    /// Positions of the steps.
    members: Vec<usize>,
    parts: usize,
    /// Memory that is needed for one part only.
    own: BTreeMap<Memory, Own>,
    /// Bytes of it for a part.
    near: usize,
    /// Bytes that it would take for all parts.
    far: usize,
    /// Other memory that the steps write.
    kept: Vec<Memory>,
}

/// Memory that is needed for one part only.
#[derive(Clone, Copy)]
struct Own {
    /// The first and the last member that touch it.
    first: usize,
    last: usize,
    /// Bytes for a part.
    bytes: usize,
}

/// Looks for what can join a product.
struct Finder<'p> {
    program: &'p Program,
    /// For each piece of memory, how many steps touch it.
    uses: &'p [usize],
    first: usize,
    /// Products of the first step, and rows of each.
    products: [usize; 2],
    /// Rows that are worth a part.
    least_rows: usize,
    /// Bytes of its result.
    bytes: usize,
    /// Bytes of memory in one part that are near enough.
    near: usize,
    /// Of the steps from the first on.
    accesses: Vec<Accesses>,
    /// Kernels as they will run, by their number.
    kernels: BTreeMap<usize, Kernel>,
}

impl Finder<'_> {
    fn new<'p>(program: &'p Program, uses: &'p [usize], first: usize) -> Option<Finder<'p>> {
        let (products, least_rows, bytes, near) = match &program.steps[first] {
            Step::Gemm { gemm, double, .. } => {
                let bytes = gemm.batch * gemm.m * gemm.n * if *double { 8 } else { 4 };
                let is_worth_it = gemm.batch > 1 || gemm.n >= SINGLE * gemm.k;
                (is_worth_it && bytes >= LEAST_BYTES).then_some(())?;
                ([gemm.batch, gemm.m], LEAST_ROWS, bytes, NEAR_BYTES)
            }
            step => {
                // Every part reads the whole source.
                let (rows, source, bytes) = convolution::first(step)?;
                (bytes > NEAR_BYTES).then_some(())?;
                ([1, rows], convolution::ROWS, bytes, NEAR_BYTES.max(source))
            }
        };
        let window = program.steps[first..].iter().take(WINDOW);
        let accesses = window.map(|step| Accesses::of(program, step)).collect();
        let kernels = BTreeMap::new();
        Some(Finder { program, uses, first, products, least_rows, bytes, near, accesses, kernels })
    }

    /// The fewest parts that are small enough and as many for each thread; if none are small enough, the smallest among
    /// which as little memory lies.
    fn best(mut self, threads: usize) -> Option<Band> {
        let mut best: Option<Band> = None;
        let [batch, m] = self.products;
        let splits = |rows: &usize| m.is_multiple_of(*rows) && rows.is_multiple_of(8);
        for rows in std::iter::once(m).chain((self.least_rows..m).rev().filter(splits)) {
            let parts = batch * (m / rows);
            let is_even = parts.div_ceil(threads) * threads * 5 <= parts * 6;
            if parts < 2 || !is_even {
                continue;
            }
            let Some(band) = self.grow(parts) else { continue };
            let enough = best.as_ref().map_or(LEAST_BYTES, |best| best.far * 3 / 4);
            if band.far >= enough {
                let is_near = band.near <= self.near;
                best = Some(band);
                if is_near {
                    break;
                }
            }
        }
        best
    }

    /// All steps that can join, in so many parts.
    fn grow(&mut self, parts: usize) -> Option<Band> {
        let mut strangers = BTreeSet::new();
        loop {
            let (band, origins) = self.join(parts, &strangers)?;
            // Others' scores that are kept as a whole have no place here.
            let is_large = |memory: &&Memory| self.program.pieces[memory.0 as usize].bytes >= self.bytes;
            let others = band.kept.iter().filter(is_large).filter_map(|memory| origins.get(memory));
            let others: BTreeSet<usize> =
                others.filter(|origins| !origins.contains(&0)).flatten().copied().collect();
            if others.is_empty() {
                return Some(band);
            }
            strangers.extend(others);
        }
    }

    /// The steps that join if these do not; and for each piece that they write, the products that joined by themselves, the
    /// first included, that it comes from.
    fn join(
        &mut self,
        parts: usize,
        strangers: &BTreeSet<usize>,
    ) -> Option<(Band, BTreeMap<Memory, BTreeSet<usize>>)> {
        let mut members = vec![self.first];
        let mut strides = self.strides(&members, parts)?;
        let mut origins: BTreeMap<Memory, BTreeSet<usize>> =
            self.accesses[0].writes.iter().map(|memory| (*memory, BTreeSet::from([0]))).collect();
        let mut passed: Vec<usize> = Vec::new();
        for position in 1..self.accesses.len() {
            let own = &self.accesses[position];
            let mut from: BTreeSet<usize> =
                own.reads.iter().filter_map(|memory| origins.get(memory)).flatten().copied().collect();
            let is_another = match &self.program.steps[self.first + position] {
                Step::Gemm { gemm, .. } => gemm.batch == parts && !strangers.contains(&position),
                _ => false,
            };
            let joins = (is_another || !from.is_empty())
                && passed.iter().all(|&passed| self.accesses[passed].commutes(own));
            if joins {
                members.push(self.first + position);
                if let Some(found) = self.strides(&members, parts) {
                    strides = found;
                    if from.is_empty() {
                        from.insert(position);
                    }
                    let writes = self.accesses[position].writes.iter();
                    origins.extend(writes.map(|memory| (*memory, from.clone())));
                    continue;
                }
                members.pop();
            }
            passed.push(position);
        }
        let own = strides.iter().filter_map(|(&memory, &stride)| {
            let piece = &self.program.pieces[memory.0 as usize];
            let is_whole = piece.bytes == stride as usize * parts && matches!(piece.origin, Origins::Arena);
            let touches = |member: &usize| self.accesses[member - self.first].touches(memory);
            let users: Vec<usize> = (0..members.len()).filter(|&at| touches(&members[at])).collect();
            let is_own = is_whole && users.len() == self.uses[memory.0 as usize];
            let (first, last) = (*users.first()?, *users.last()?);
            is_own.then_some((memory, Own { first, last, bytes: stride as usize }))
        });
        let own: BTreeMap<Memory, Own> = own.collect();
        let lives: Vec<(usize, usize, usize)> =
            own.values().map(|own| (own.first, own.last, own.bytes)).collect();
        let far = own.values().map(|own| own.bytes * parts).sum();
        let kept = strides.keys().copied().filter(|memory| !own.contains_key(memory)).collect();
        let band = Band { members, parts, near: memory::arrange(&lives).1, far, own, kept };
        Some((band, origins))
    }

    /// For what these steps write, the bytes of a part, if they fall into parts.
    fn strides(&mut self, members: &[usize], parts: usize) -> Option<BTreeMap<Memory, i64>> {
        let steps = || members.iter().map(|&position| &self.program.steps[position]);
        let mut written = BTreeSet::new();
        for step in steps() {
            let places = step.places(&self.program.kernels).into_iter();
            written.extend(places.filter(|(_, is_written)| *is_written).map(|(place, _)| place.memory));
            if let Step::Gemm { places: [.., scratch], .. } | Step::Conv { places: [.., scratch], .. } = step
            {
                written.remove(&scratch.memory);
            }
        }
        let mut rule = Rule::of_parts(parts, written);
        for step in steps() {
            let obeys = match step {
                Step::Kernel { kernel, arguments, .. } => {
                    let own = || tiles::tile(self.program.kernels[*kernel].clone());
                    rule.kernel(self.kernels.entry(*kernel).or_insert_with(own), arguments).is_some()
                }
                Step::Gemm { .. } => product(&mut rule, step),
                Step::Conv { .. } => convolution::obeys(&mut rule, step, &self.program.kernels),
                _ => false,
            };
            if !obeys {
                return None;
            }
        }
        Some(rule.strides)
    }
}

/// Whether a batch of products falls into parts: products, or rows of them.
fn product(rule: &mut Rule, step: &Step) -> bool {
    let Step::Gemm { gemm, double, places: [a, b, c, _], bias, epilogue } = step else { return false };
    let size = if *double { 8 } else { 4 };
    let has_parts = if *double { gemm.has_parts::<f64>() } else { gemm.has_parts::<f32>() };
    let Gemm { batch, m, n, k, group, .. } = *gemm;
    if !has_parts || !rule.rows.is_multiple_of(batch) || !m.is_multiple_of(rule.rows / batch) {
        return false;
    }
    let rows = m / (rule.rows / batch);
    let whole = rows == m;
    if !whole && !rows.is_multiple_of(8) {
        return false;
    }
    let by_rows = |stride: i64, row: i64| whole || batch == 1 || stride == m as i64 * row;
    // Bytes from part to part.
    let step = |batch: i64, row: i64| if whole { batch * size } else { rows as i64 * row * size };
    let one_stride = |operand: usize, batch_stride: i64| {
        group == batch || gemm.group_strides[operand] as i64 == group as i64 * batch_stride
    };
    let [a_batch, a_row, a_column] = gemm.a_strides.map(|stride| stride as i64);
    let [b_batch, b_row, b_column] = gemm.b_strides.map(|stride| stride as i64);
    let (c_batch, c_row) = (gemm.c_batch_stride as i64, gemm.c_row_stride as i64);
    let reach = |lengths: [usize; 2], strides: [i64; 2]| {
        let last = (lengths[0] as i64 - 1) * strides[0] + (lengths[1] as i64 - 1) * strides[1];
        (last + 1) * size
    };
    let is_in_order = |strides: [i64; 3]| strides.iter().all(|stride| *stride >= 0);
    let reads_a = !rule.written.contains(&a.memory)
        || one_stride(0, a_batch)
            && by_rows(a_batch, a_row)
            && is_in_order([a_batch, a_row, a_column])
            && rule.belongs(a, step(a_batch, a_row), 0, reach([rows, k], [a_row, a_column]));
    let reads_b = !rule.written.contains(&b.memory)
        || one_stride(1, b_batch)
            && whole
            && is_in_order([b_batch, b_row, b_column])
            && rule.belongs(b, b_batch * size, 0, reach([k, n], [b_row, b_column]));
    let others = epilogue.iter().flat_map(|epilogue| &epilogue.arguments).chain(bias);
    let touches_others = others.into_iter().any(|place| rule.written.contains(&place.memory) && place != c);
    reads_a
        && reads_b
        && !touches_others
        && by_rows(c_batch, c_row)
        && rule.belongs(c, step(c_batch, c_row), 0, reach([rows, n], [c_row, 1]))
}

/// Makes one step of the band's.
fn apply(program: &mut Program, band: Band, threads: usize) {
    let [id, slot] = [0, 1].map(|next| LoopId(program.loops + next));
    program.loops += 2;
    let tasks = threads.min(band.parts);
    let mut body: Vec<Step> = band.members.iter().map(|&position| program.steps[position].clone()).collect();
    // What a part needs, scratch memory included, lies in one piece, once for each task.
    let mut lives: Vec<(usize, usize, usize)> =
        band.own.values().map(|own| (own.first, own.last, own.bytes)).collect();
    for (at, step) in body.iter_mut().enumerate() {
        convolution::share(step, &program.kernels, band.parts, id);
        match step {
            Step::Gemm { gemm, double: false, .. } => lives.push((at, at, gemm.scratch_bytes::<f32>(1))),
            Step::Gemm { gemm, double: true, .. } => lives.push((at, at, gemm.scratch_bytes::<f64>(1))),
            _ => lives.extend(convolution::scratch_bytes(step, threads).map(|bytes| (at, at, bytes))),
        }
    }
    let (offsets, size) = memory::arrange(&lives);
    let piece = Memory(program.pieces.len() as u32);
    program.pieces.push(Piece { origin: Origins::Arena, bytes: size * tasks, offset: 0 });
    let of_a_task = |offset: usize| {
        let terms = if tasks > 1 { vec![(slot, size as i64)] } else { Vec::new() };
        Place { memory: piece, offset: offset as i64, terms }
    };
    let mut scratches = offsets[band.own.len()..].iter();
    let owned: BTreeMap<Memory, (usize, usize)> = (band.own.iter().zip(&offsets))
        .map(|((&memory, own), &offset)| (memory, (offset, own.bytes)))
        .collect();
    for memory in owned.keys() {
        program.pieces[memory.0 as usize].bytes = 0;
    }
    for step in &mut body {
        step.visit_places(&mut |place| {
            if let Some(&(offset, bytes)) = owned.get(&place.memory) {
                let inside = std::mem::replace(place, of_a_task(offset));
                place.offset += inside.offset;
                inside.terms.iter().for_each(|&(id, term)| place.advance(id, term));
                place.advance(id, -(bytes as i64));
            }
        });
        if let Step::Gemm { places: [.., scratch], .. } | Step::Conv { places: [.., scratch], .. } = step {
            *scratch = of_a_task(scratches.next().copied().unwrap_or(0));
        }
    }
    let first = band.members[0];
    let repeats = band.members.iter().any(|member| program.repeats.contains(member));
    program.steps[first] = Step::Parts { id, slot, parts: band.parts, tasks, body };
    let keeps = |position: usize| position == first || !band.members.contains(&position);
    let kept: Vec<bool> = (0..program.steps.len()).map(keeps).collect();
    let number = |position: usize| kept[..position].iter().filter(|kept| **kept).count();
    let again = program.repeats.iter().filter(|step| kept[**step] && **step != first).copied();
    let mut again: Vec<usize> = again.chain(repeats.then_some(first)).map(number).collect();
    again.sort_unstable();
    program.repeats = again;
    let mut keep = kept.iter();
    program.steps.retain(|_| *keep.next().unwrap_or(&true));
    let mut keep = kept.iter();
    program.labels.0.retain(|_| *keep.next().unwrap_or(&true));
}
