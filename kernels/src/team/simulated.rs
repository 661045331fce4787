//! Reckons how long a team of more threads than there are cores would take.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// What starting a task on a team and meeting at its end is taken to cost.
const FORK: Duration = Duration::from_micros(3);
/// The most threads that are reckoned with.
pub(super) const MOST_THREADS: usize = 256;

/// Chunks that are run one after the other, and their times, as if each thread took the next one when it is done.
///
/// What threads share is not reckoned with: the bandwidth of memory and of the last cache, and clocks that fall as more
/// cores work. So it says what the division of the work allows, not what a machine does.
pub(super) struct Simulated {
    threads: usize,
    busy: AtomicBool,
    /// Nanoseconds by which the team would have been faster.
    saved: AtomicI64,
}

impl Simulated {
    pub fn new(threads: usize) -> Simulated {
        let threads = threads.clamp(1, MOST_THREADS);
        Simulated { threads, busy: AtomicBool::new(false), saved: AtomicI64::new(0) }
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The nanoseconds that the team would have saved so far.
    pub fn saved_nanoseconds(&self) -> i64 {
        self.saved.load(Ordering::Relaxed)
    }

    /// Runs all chunks on this thread.
    pub fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if chunks <= 1 || self.threads == 1 || self.busy.swap(true, Ordering::Acquire) {
            (0..chunks).for_each(|chunk| task(chunk, 0));
            return;
        }
        let _held = Held(&self.busy);
        let mut done = [Duration::ZERO; MOST_THREADS];
        let done = &mut done[..self.threads.min(chunks)];
        let mut alone = Duration::ZERO;
        for chunk in 0..chunks {
            let next = (0..done.len()).min_by_key(|&worker| done[worker]).unwrap_or(0);
            let started = Instant::now();
            task(chunk, next);
            let taken = started.elapsed();
            done[next] += taken;
            alone += taken;
        }
        let together = done.iter().max().copied().unwrap_or_default() + FORK;
        // A task that is not worth its start makes the team slower, which is taken back from what others saved.
        let saved = alone.as_nanos() as i64 - together.as_nanos() as i64;
        self.saved.fetch_add(saved, Ordering::Relaxed);
    }
}

/// Frees the team, also where a task panics.
struct Held<'a>(&'a AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Team;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    fn wait(time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {}
    }

    #[test]
    fn equal_chunks_save_all_but_one_share() {
        let team = Team::simulated(4);
        assert_eq!(team.threads(), 4);
        let taken = Mutex::new(Duration::ZERO);
        team.run(8, &|_, worker| {
            assert!(worker < 4);
            let started = Instant::now();
            wait(Duration::from_millis(2));
            *taken.lock().unwrap() += started.elapsed();
        });
        // A chunk may be interrupted, and is then long; but no time is saved that was not taken.
        let taken = taken.into_inner().unwrap();
        let saved = team.saved_nanoseconds();
        assert!(saved > 6_000_000 && saved < taken.as_nanos() as i64, "{saved} of {taken:?}");
    }

    #[test]
    fn what_stays_on_one_thread_saves_nothing() {
        let team = Team::simulated(8);
        team.run(1, &|_, _| wait(Duration::from_millis(1)));
        assert_eq!(team.saved_nanoseconds(), 0);
        let counts = Mutex::new([0; 6]);
        team.run(2, &|chunk, _| team.run(3, &|inner, _| counts.lock().unwrap()[3 * chunk + inner] += 1));
        assert_eq!(counts.into_inner().unwrap(), [1; 6]);
    }
}
