//! What compiled code and the functions that it calls share.

use gradc_kernels::Team;
use std::time::Instant;

/// What an entry function gets: the memory of a run, its threads, and room for what is to be told of it.
///
/// Entry functions read and write the fields by their offsets.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// The addresses of the pieces of memory that do not live in the arena.
    pub externals: *const *mut u8,
    /// The arena.
    pub arena: *mut u8,
    /// The threads.
    pub team: *const Team,
    /// The top-level step at which the run failed.
    pub step: i64,
    /// Time spent in each step; read by programs compiled for profiling only.
    pub ticks: *mut Ticks,
}

/// A compiled kernel: the table of its buffers, and the range of its parallel loop. Answers 0, or a status.
pub type KernelFunction = unsafe extern "C" fn(*const *mut u8, i64, i64) -> i64;

/// Time spent in each step, of a program compiled for profiling.
#[derive(Clone, Debug)]
pub struct Ticks {
    /// For each top-level step, the nanoseconds of all runs.
    pub nanoseconds: Vec<u64>,
    last: Instant,
}

impl Ticks {
    /// Zeros for a program of that many top-level steps.
    pub fn new(steps: usize) -> Ticks {
        Ticks { nanoseconds: vec![0; steps], last: Instant::now() }
    }

    /// A run begins.
    pub fn start(&mut self) {
        self.last = Instant::now();
    }

    /// A step ends.
    pub(crate) fn end(&mut self, step: usize) {
        let now = Instant::now();
        if let Some(slot) = self.nanoseconds.get_mut(step) {
            *slot += (now - self.last).as_nanos() as u64;
        }
        self.last = now;
    }
}
