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
        for first in (0..all).step_by(layout.lines) {
            let lines = first..(first + layout.lines).min(all);
            let groups = lines.len().div_ceil(layout.together);
            self.team.run(groups * chunks, &|chunk, worker| {
                // SAFETY: every task writes to other places.
                unsafe {
                    let job = &*job.get();
                    let group = part_of(lines.len(), groups, chunk / chunks, 1);
                    let group = lines.start + group.start..lines.start + group.end;
                    let own = job.own(worker).add(job.layout.rows_at);
                    let channel = chunk % chunks * plan::UNIT;
                    let to = job.scratch.add(job.layout.windows_at);
                    let windows = Windows { job, lines: group, first: lines.start, channel, own, to };
                    T::dispatch(job.tier, windows);
                }
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
            T::dispatch(self.tier, Results { job: self, lines: lines.clone(), first, panel, weights, own });
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
