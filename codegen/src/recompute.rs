//! Less memory for more time: results are dropped after a use, and computed again before the next one.
//!
//! A backward pass reads what the forward pass left, and at the turn between them all of it is alive. Here, where the
//! steps are known with their scratch memory and their arithmetic, it is decided what is worth keeping. A decision is a
//! pair of a piece and the step after which it is dropped; whoever reads it later has the steps that write it repeated
//! before, with all that these need and that is gone as well. Decisions are made one after the other, at the step where
//! most is alive: the one that lowers the peaks most for the time that it costs. The order does not depend on the limit,
//! which only says when to stop.

mod again;
mod facts;

use crate::memory;
use crate::program::Program;
use again::{Drops, Schedule};
use facts::Facts;

/// Pieces that are tried in one round, the most promising first.
const TRIED: usize = 12;
/// Rounds at most.
const ROUNDS: usize = 500;
/// What counts as lower, as a part of the height.
const LEAST_GAIN: f64 = 1e-9;
/// How much higher peaks count more.
const SHARPNESS: i32 = 8;

/// Plans the memory of a program. If its arena is larger than the limit, the program becomes one that computes some results
/// again, with an arena within the limit or, if that cannot be, the smallest that was found.
pub(crate) fn plan(program: Program, limit: usize) -> Program {
    let mut best = program.clone();
    memory::plan(&mut best);
    let facts = Facts::new(&program);
    let mut state = State::new(&facts, Drops::new());
    let start = state.peak();
    for _ in 0..ROUNDS {
        if best.arena <= limit {
            break;
        }
        let Some(next) = state.improved(&facts, start) else { break };
        state = next;
        let mut candidate = state.schedule.program(&program);
        memory::plan(&mut candidate);
        if candidate.arena < best.arena {
            best = candidate;
        }
    }
    best
}

/// Decisions, and what comes of them.
struct State {
    drops: Drops,
    schedule: Schedule,
    /// Bytes alive at each step of the schedule.
    alive: Vec<usize>,
}

impl State {
    fn new(facts: &Facts, drops: Drops) -> State {
        let schedule = Schedule::new(facts, &drops);
        let alive = schedule.alive(facts);
        State { drops, schedule, alive }
    }

    fn peak(&self) -> usize {
        self.alive.iter().copied().max().unwrap_or(0)
    }

    /// How high the peaks are, as multiples of `unit` bytes.
    fn height(&self, unit: usize) -> f64 {
        self.alive.iter().map(|&bytes| (bytes as f64 / unit as f64).powi(SHARPNESS)).sum()
    }

    /// With other decisions, which lower the peaks; `None` if none of those that were tried does.
    fn improved(&self, facts: &Facts, unit: usize) -> Option<State> {
        let highest = |&(at, bytes): &(usize, &usize)| (*bytes, std::cmp::Reverse(at));
        let (position, _) = self.alive.iter().enumerate().max_by_key(highest)?;
        let (height, seconds) = (self.height(unit), self.schedule.seconds(facts));
        let mut changes: Vec<(f64, Change)> = Vec::new();
        for change in self.changes(facts, position) {
            let state = self.with(facts, &change);
            let (lower, cost) = (height - state.height(unit), state.schedule.seconds(facts) - seconds);
            if lower > height * LEAST_GAIN {
                changes.push((lower / cost.max(1e-7), change));
            }
        }
        changes.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut changes = changes.into_iter().map(|(_, change)| change);
        let mut found = self.with(facts, &changes.next()?);
        for change in changes {
            let next = found.with(facts, &change);
            if next.height(unit) < found.height(unit) * (1.0 - LEAST_GAIN) {
                found = next;
            }
        }
        Some(found)
    }

    fn with(&self, facts: &Facts, change: &Change) -> State {
        State::new(facts, &(&self.drops | &change.more) - &change.fewer)
    }

    /// What might lower the peak at an item: to drop something that is idle there, alone or with what computing it
    /// again would keep alive; or to keep something that was computed again for that item among much else.
    fn changes(&self, facts: &Facts, position: usize) -> Vec<Change> {
        let mut idle = self.schedule.idle(facts, position);
        idle.sort_by(|a, b| b.bytes_per_second(facts).total_cmp(&a.bytes_per_second(facts)));
        let mut changes = Vec::new();
        for idle in idle.iter().take(TRIED) {
            let alone = Drops::from([(idle.piece, idle.after)]);
            let with_operands = self.schedule.with_operands(facts, position, idle);
            changes.extend([alone, with_operands].map(|more| Change { more, fewer: Drops::new() }));
        }
        let again = self.schedule.copies_at(facts, position);
        let dropped: Vec<(usize, usize)> =
            self.drops.iter().filter(|(piece, _)| again.contains(piece)).copied().collect();
        for &drop in dropped.iter().step_by(dropped.len().div_ceil(TRIED).max(1)) {
            changes.push(Change { more: Drops::new(), fewer: Drops::from([drop]) });
        }
        changes
    }
}

/// Decisions to be made and to be taken back.
struct Change {
    more: Drops,
    fewer: Drops,
}
