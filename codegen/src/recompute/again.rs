//! Steps in order, some of them repeated, over pieces of which some have copies.

use super::facts::Facts;
use crate::program::{LoopId, Memory, Origins, Piece, Place, Program, Step};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Pieces, and the steps of the program after which they are dropped.
pub(super) type Drops = BTreeSet<(usize, usize)>;

/// A step of the program, once more or for the first time.
struct Item {
    step: usize,
    is_repeated: bool,
    /// For each piece of the step that is a copy here, which copy.
    names: Vec<(usize, usize)>,
}

/// The steps with those that are repeated.
pub(super) struct Schedule {
    items: Vec<Item>,
    /// The pieces of the program, then their copies: each the piece that it is a copy of.
    copies: Vec<usize>,
    /// For each of these, the items that touch it, in order.
    uses: Vec<Vec<usize>>,
}

/// A piece that is alive and not touched for a while.
pub(super) struct Idle {
    pub piece: usize,
    /// The step that touched it last.
    pub after: usize,
}

impl Idle {
    pub fn bytes_per_second(&self, facts: &Facts) -> f64 {
        let seconds: f64 = facts.writers[self.piece].iter().map(|&step| facts.seconds[step]).sum();
        facts.bytes[self.piece] as f64 / seconds
    }
}

impl Schedule {
    pub fn new(facts: &Facts, drops: &Drops) -> Schedule {
        let pieces = facts.bytes.len();
        let mut schedule =
            Schedule { items: Vec::new(), copies: (0..pieces).collect(), uses: vec![Vec::new(); pieces] };
        // The copy that holds a piece's value.
        let mut current: Vec<Option<usize>> =
            (0..pieces).map(|piece| (!facts.is_inner[piece]).then_some(piece)).collect();
        for step in 0..facts.reads.len() {
            for &piece in &facts.reads[step] {
                if current[piece].is_none() && facts.repeats[piece] {
                    schedule.repeat(facts, piece, &mut current);
                }
            }
            for &piece in &facts.writes[step] {
                current[piece].get_or_insert(piece);
            }
            schedule.push(facts, step, false, &current);
            for &piece in facts.reads[step].iter().chain(&facts.writes[step]) {
                if drops.contains(&(piece, step)) {
                    current[piece] = None;
                }
            }
        }
        schedule
    }

    fn push(&mut self, facts: &Facts, step: usize, is_repeated: bool, current: &[Option<usize>]) {
        let position = self.items.len();
        let mut names = Vec::new();
        for &piece in facts.reads[step].iter().chain(&facts.writes[step]) {
            // What is read before it was ever written has its own name.
            let copy = current[piece].unwrap_or(piece);
            self.uses[copy].push(position);
            if copy != piece {
                names.push((piece, copy));
            }
        }
        self.items.push(Item { step, is_repeated, names });
    }

    /// Repeats the steps that write a piece, with those that write what they need and is gone.
    fn repeat(&mut self, facts: &Facts, piece: usize, current: &mut [Option<usize>]) {
        let (mut needed, mut steps, mut open) = (BTreeSet::from([piece]), BTreeSet::new(), vec![piece]);
        while let Some(piece) = open.pop() {
            for &step in &facts.writers[piece] {
                if !steps.insert(step) {
                    continue;
                }
                for &operand in &facts.reads[step] {
                    if current[operand].is_none() && facts.repeats[operand] && needed.insert(operand) {
                        open.push(operand);
                    }
                }
            }
        }
        for step in steps {
            let mut unwanted = Vec::new();
            for &written in &facts.writes[step] {
                let is_first = facts.writers[written].first() == Some(&step);
                if is_first {
                    let kept = current[written];
                    self.copies.push(written);
                    self.uses.push(Vec::new());
                    current[written] = Some(self.copies.len() - 1);
                    if kept.is_some() {
                        unwanted.push((written, kept));
                    }
                }
            }
            self.push(facts, step, true, current);
            unwanted.into_iter().for_each(|(written, kept)| current[written] = kept);
        }
    }

    /// Bytes alive at each item.
    pub fn alive(&self, facts: &Facts) -> Vec<usize> {
        let mut changes = vec![0_isize; self.items.len() + 1];
        for (copy, uses) in self.uses.iter().enumerate() {
            let piece = self.copies[copy];
            if let (Some(&first), Some(&last), true) = (uses.first(), uses.last(), facts.is_inner[piece]) {
                changes[first] += facts.bytes[piece] as isize;
                changes[last + 1] -= facts.bytes[piece] as isize;
            }
        }
        let mut alive = 0;
        let sum = |change: &isize| {
            alive += change;
            alive as usize
        };
        changes[..self.items.len()].iter().map(sum).collect()
    }

    /// The time of all items.
    pub fn seconds(&self, facts: &Facts) -> f64 {
        self.items.iter().map(|item| facts.seconds[item.step]).sum()
    }

    /// The pieces of which a copy is alive at an item.
    pub fn copies_at(&self, facts: &Facts, position: usize) -> BTreeSet<usize> {
        let alive = |copy: &usize| {
            let uses = &self.uses[*copy];
            uses.first().is_some_and(|&first| first <= position)
                && uses.last().is_some_and(|&last| last >= position)
        };
        (facts.bytes.len()..self.copies.len()).filter(alive).map(|copy| self.copies[copy]).collect()
    }

    /// The step of the program that touched a copy last before a position, those that are repeated aside.
    fn last_before(&self, copy: usize, position: usize) -> Option<usize> {
        let uses = self.uses[copy].iter().rev();
        let item = uses
            .filter(|&&used| used < position)
            .map(|&used| &self.items[used])
            .find(|item| !item.is_repeated);
        item.map(|item| item.step)
    }

    /// What is alive at an item, is not touched there, and can be computed again.
    pub fn idle(&self, facts: &Facts, position: usize) -> Vec<Idle> {
        let idle = |copy: usize| {
            let (piece, uses) = (self.copies[copy], &self.uses[copy]);
            let is_idle = uses.first()? < &position && uses.last()? > &position && !uses.contains(&position);
            let after = self.last_before(copy, position)?;
            let is_complete = facts.writers[piece].last()? <= &after;
            (is_idle && is_complete && facts.repeats[piece]).then_some(Idle { piece, after })
        };
        (0..self.copies.len()).filter_map(idle).collect()
    }

    /// The decision to drop a piece, and all operands of its steps that are not alive at an item anyway, so that they need
    /// not live longer to compute it again.
    pub fn with_operands(&self, facts: &Facts, position: usize, idle: &Idle) -> Drops {
        let mut drops = Drops::from([(idle.piece, idle.after)]);
        let mut open = vec![idle.piece];
        while let Some(piece) = open.pop() {
            for operand in facts.writers[piece].iter().flat_map(|&step| &facts.reads[step]) {
                let lives = self.uses[*operand].last().is_some_and(|&last| last >= position);
                if lives || !facts.repeats[*operand] {
                    continue;
                }
                let Some(after) = self.last_before(*operand, position) else { continue };
                let is_complete = facts.writers[*operand].last().is_some_and(|&last| last <= after);
                if is_complete && drops.insert((*operand, after)) {
                    open.push(*operand);
                }
            }
        }
        drops
    }

    /// The program with this schedule.
    pub fn program(&self, program: &Program) -> Program {
        let mut made = Program { steps: Vec::new(), ..program.clone() };
        made.labels.0.clear();
        for &piece in &self.copies[program.pieces.len()..] {
            made.pieces.push(Piece { origin: Origins::Arena, bytes: program.pieces[piece].bytes, offset: 0 });
        }
        for item in &self.items {
            let mut step = program.steps[item.step].clone();
            let names: BTreeMap<u32, u32> =
                item.names.iter().map(|&(piece, copy)| (piece as u32, copy as u32)).collect();
            rename(&mut step, &names, &mut HashMap::new(), item.is_repeated.then_some(&mut made.loops));
            if item.is_repeated {
                made.repeats.push(made.steps.len());
            }
            made.steps.push(step);
            made.labels.0.push(program.labels.0.get(item.step).cloned().flatten());
        }
        made
    }
}

/// Gives pieces their names, and, where `fresh` counts them, loops new ones.
fn rename(
    step: &mut Step,
    names: &BTreeMap<u32, u32>,
    loops: &mut HashMap<LoopId, LoopId>,
    mut fresh: Option<&mut u32>,
) {
    if let (Step::Loop { id, .. }, Some(count)) = (&mut *step, &mut fresh) {
        loops.insert(*id, LoopId(**count));
        *id = LoopId(**count);
        **count += 1;
    }
    step.visit_places(&mut |place: &mut Place| {
        if let Some(&copy) = names.get(&place.memory.0) {
            place.memory = Memory(copy);
        }
        for (id, _) in &mut place.terms {
            *id = loops.get(id).copied().unwrap_or(*id);
        }
    });
    for step in step.inner_mut() {
        rename(step, names, loops, fresh.as_deref_mut());
    }
}
