//! Convolutions with three by three taps by Winograd's minimal filtering: windows of the source and the weights are
//! transformed, multiplied element by element and summed over channels (a matrix product for each element of the
//! window), and the sums transformed back. Two by two results of a window take 16 multiplications instead of 36, four
//! by four take 36 instead of 144.
//!
//! In scratch memory, channels are adjacent, so that the transforms are plain arithmetic on vectors of channels, and
//! windows of all rows and images are rows of one matrix.

mod gradient;
mod plan;
mod scheme;
mod steps;

mod transform;

use std::ops::Range;

pub use gradient::{Gradient, GradientJob};
pub use plan::{Layout, Problem};
use steps::{Results, Windows};
pub use transform::{Panels, Transform};

use crate::element::Shared;
use crate::gemm::part_of;
use crate::{Element, Epilogue, Team, Tier};

/// One call.
pub struct Winograd<'a, T> {
    pub problem: Problem,
    pub layout: Layout,
    pub tier: Tier,
    pub team: &'a Team,
    pub source: *const T,
    pub weights: *const T,
    /// Whether the weights are what [`Transform`] wrote.
    pub packed: bool,
    pub target: *mut T,
    pub epilogue: Option<Epilogue<T>>,
    pub scratch: *mut T,
}

impl<T: Element> Winograd<'_, T> {
    /// Computes the whole target.
    ///
    /// # Safety
    /// The pointers must be valid for the problem, the scratch memory for the layout and aligned to 64 bytes; and the
    /// processor must have the tier.
    pub unsafe fn run(&self) {
        let (problem, layout) = (&self.problem, &self.layout);
        let job = Shared(&raw const *self);
        let all = problem.batch * problem.windows[0];
        if !self.packed && !layout.on_the_way {
            // SAFETY: the caller's promise.
            unsafe { problem.transform().run(self.tier, self.weights, self.scratch, self.team) };
        }
        let chunks = problem.channels.div_ceil(plan::UNIT);
        let threads = self.team.threads();
        let block = |number: usize| {
            let first = number * layout.lines;
            first..(first + layout.lines).min(all)
        };
        let blocks = all.div_ceil(layout.lines);
        if layout.apart {
            self.team.run(blocks, &|number, worker| {
                let lines = block(number);
                // SAFETY: every block has its own part of the target, and every worker its own memory.
                unsafe {
                    let job = &*job.get();
                    for task in 0..lines.len().div_ceil(layout.together) * chunks {
                        job.transform(lines.clone(), task, chunks, worker);
                    }
                    for panel in 0..layout.panels {
                        job.finish(panel, lines.clone(), lines.start, worker);
                    }
                }
            });
            return;
        }
        for lines in (0..blocks).map(block) {
            let groups = lines.len().div_ceil(layout.together);
            self.team.run(groups * chunks, &|task, worker| {
                // SAFETY: every task writes to other places.
                unsafe { (*job.get()).transform(lines.clone(), task, chunks, worker) };
            });
            let parts = if threads == 1 || layout.on_the_way {
                1
            } else {
                (4 * threads).div_ceil(layout.panels).min(lines.len())
            };
            self.team.run(layout.panels * parts, &|chunk, worker| {
                let part = part_of(lines.len(), parts, chunk % parts, 1);
                let part = lines.start + part.start..lines.start + part.end;
                // SAFETY: every task writes to other places.
                unsafe { (*job.get()).finish(chunk / parts, part, lines.start, worker) };
            });
        }
    }

    /// Where the transformed windows are that a worker reads or writes.
    unsafe fn windows(&self, worker: usize) -> *mut T {
        // SAFETY: there is memory for all windows, or for those of every worker.
        unsafe {
            let start = if self.layout.apart { self.own(worker) } else { self.scratch };
            start.add(self.layout.windows_at)
        }
    }

    /// Transforms the windows of some of these lines and channels: task by task, all.
    unsafe fn transform(&self, lines: Range<usize>, task: usize, chunks: usize, worker: usize) {
        let groups = lines.len().div_ceil(self.layout.together);
        let group = part_of(lines.len(), groups, task / chunks, 1);
        let group = lines.start + group.start..lines.start + group.end;
        let channel = task % chunks * plan::UNIT;
        // SAFETY: the caller's promise.
        unsafe {
            let own = self.own(worker).add(self.layout.rows_at);
            let to = self.windows(worker);
            let windows = Windows { job: self, lines: group, first: lines.start, channel, own, to };
            T::dispatch(self.tier, windows);
        }
    }

    unsafe fn own(&self, worker: usize) -> *mut T {
        // SAFETY: there is memory for every worker.
        unsafe { self.scratch.add(self.layout.own_at + worker * self.layout.own_each) }
    }

    /// Products, results and epilogue of a panel for some lines of windows.
    unsafe fn finish(&self, panel: usize, lines: Range<usize>, first: usize, worker: usize) {
        let (problem, layout) = (&self.problem, &self.layout);
        // SAFETY: the caller's promise.
        unsafe {
            let own = self.own(worker);
            let weights = if layout.on_the_way {
                let to = own.add(layout.panel_at);
                problem.transform().panel(self.tier, self.weights, panel, 0..problem.channels, to);
                to.cast_const()
            } else if self.packed {
                self.weights.add(panel * layout.panel)
            } else {
                self.scratch.add(panel * layout.panel).cast_const()
            };
            let windows = self.windows(worker);
            let results = Results { job: self, lines: lines.clone(), first, panel, windows, weights, own };
            T::dispatch(self.tier, results);
            let Some(epilogue) = self.epilogue else { return };
            let row = panel * layout.width;
            let rows = layout.width.min(problem.rows - row);
            let ([height, width], area) = (problem.target, problem.target[0] * problem.target[1]);
            let mut line = lines.start;
            while line < lines.end {
                let (image, at) = (line / problem.windows[0], line % problem.windows[0]);
                let count = (lines.end - line).min(problem.windows[0] - at);
                let start = at * problem.out * width;
                let end = ((at + count) * problem.out).min(height) * width;
                let tile = self.target.add((image * problem.rows + row) * area + start);
                (epilogue.function)(tile, area, rows, end - start, image, row, start, epilogue.environment);
                line += count;
            }
        }
    }
}
