//! A fork-join team of threads that sleeps when there is nothing to do.

mod simulated;

use simulated::Simulated;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many times an idle thread looks for work before it looks at the clock: a few microseconds.
const SPINS: usize = 150;
/// How long an idle thread looks for work before it sleeps, where there is a core for each. Longer than the steps of a
/// program that one thread does alone: waking up takes 5 to 100 microseconds, on virtual machines most.
const PATIENCE: Duration = Duration::from_micros(300);
/// The state word: a counter of jobs above, this bit while the job takes workers, and below it the number of
/// workers inside the job.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const JOB_SHIFT: u32 = 32;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Threads that run the chunks of one task together.
///
/// A run allocates nothing. A worker that finds no work looks again for a while and then sleeps, and a run never waits
/// for a worker that has not woken up yet; a team of more threads than there are cores sleeps at once.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// In place of workers.
    simulated: Option<Simulated>,
}

struct Shared {
    /// Set while some thread is in `run`.
    busy: AtomicBool,
    state: AtomicU64,
    job: UnsafeCell<Job>,
    next: AtomicUsize,
    stop: AtomicBool,
    /// Set by a caller that waits on `left`.
    waiting: AtomicBool,
    lock: Mutex<Option<Box<dyn Any + Send>>>,
    left: Condvar,
    /// How long idle threads look for work before they sleep.
    patience: Duration,
}

struct Job {
    task: Option<*const Task<'static>>,
    chunks: usize,
}

// SAFETY: `job` is written only by the thread that holds `busy`, while no worker is inside the job; workers read
// it only between entering and leaving the job through `state`, which orders the accesses.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Team {
    /// A team of `threads` threads, the caller of [`Team::run`] being one of them; 0 counts as 1. If the system
    /// refuses to start some thread, the team is smaller.
    pub fn new(threads: usize) -> Team {
        let is_alone = thread::available_parallelism().is_ok_and(|cores| cores.get() >= threads);
        let shared = Arc::new(Shared {
            busy: AtomicBool::new(false),
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { task: None, chunks: 0 }),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            lock: Mutex::new(None),
            left: Condvar::new(),
            patience: if is_alone { PATIENCE } else { Duration::ZERO },
        });
        let mut workers = Vec::new();
        let (started, starts) = mpsc::channel();
        for worker in 1..threads.max(1) {
            let (shared, started) = (shared.clone(), started.clone());
            let builder = thread::Builder::new().name(format!("gradc-{worker}"));
            let work = move || {
                // The receiver waits for it; were it gone, nobody would wait.
                let _ = started.send(());
                drop(started);
                shared.work(worker);
            };
            match builder.spawn(work) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        // A thread allocates as it starts: that belongs here, and not into somebody's first runs.
        drop(started);
        starts.iter().take(workers.len()).for_each(drop);
        Team { shared, workers, simulated: None }
    }

    /// A team without threads, which does alone what so many would do (256 at most), and reckons how much sooner they would
    /// be done: see [`Team::saved_nanoseconds`].
    pub fn simulated(threads: usize) -> Team {
        let mut team = Team::new(1);
        team.simulated = Some(Simulated::new(threads));
        team
    }

    /// The nanoseconds by which the runs so far would have been shorter on that many cores (less than 0, had they been
    /// longer); 0 for a real team. Counted are
    /// the chunks as they are divided, those that wait for the longest, and 3 microseconds to start and to meet; not what
    /// cores share, such as the bandwidth of memory.
    pub fn saved_nanoseconds(&self) -> i64 {
        self.simulated.as_ref().map_or(0, Simulated::saved_nanoseconds)
    }

    /// The number of threads; worker indices are below it.
    #[inline]
    pub fn threads(&self) -> usize {
        self.simulated.as_ref().map_or(self.workers.len() + 1, Simulated::threads)
    }

    /// Calls `task(chunk, worker)` exactly once for every chunk in `0..chunks`, on this thread (worker 0) and on
    /// the workers, and returns when all are done. No two calls that run at the same time share a worker index.
    ///
    /// All chunks run on this thread, as worker 0, if there is one chunk or one thread, or if the team is busy:
    /// called from another thread at the same time, or from within a task. So scratch memory indexed by worker
    /// must belong to this call of `run`, not to the team.
    ///
    /// If a task panics, chunks that have not started may be left out, and the panic goes on in the caller once
    /// all workers have left the task.
    #[inline]
    pub fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if let Some(simulated) = &self.simulated {
            return simulated.run(chunks, task);
        }
        if chunks <= 1 || self.workers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            for chunk in 0..chunks {
                task(chunk, 0);
            }
            return;
        }
        self.run_together(chunks, task);
    }

    fn run_together(&self, chunks: usize, task: &Task<'_>) {
        let shared = &*self.shared;
        // SAFETY: the pointer outlives its use, for workers touch it only between entering and leaving the job,
        // and this function returns only after it closed the job and all of them left.
        let task_pointer: *const Task<'static> = unsafe { std::mem::transmute(task as *const Task<'_>) };
        // SAFETY: `busy` is ours and no worker is inside a job.
        unsafe { *shared.job.get() = Job { task: Some(task_pointer), chunks } };
        shared.next.store(0, Ordering::Relaxed);
        let number = (shared.state.load(Ordering::Relaxed) >> JOB_SHIFT).wrapping_add(1) << JOB_SHIFT;
        shared.state.store(number | OPEN, Ordering::SeqCst);
        for worker in self.workers.iter().take(chunks - 1) {
            worker.thread().unpark();
        }
        shared.take_chunks(task, chunks, 0);
        shared.state.fetch_and(!OPEN, Ordering::SeqCst);
        shared.wait_until_left();
        let panic = shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of tasks; there is nothing to pass on.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Runs chunks until none is left; keeps the first panic.
    fn take_chunks(&self, task: &Task<'_>, chunks: usize, worker: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let chunk = self.next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    break;
                }
                task(chunk, worker);
            }
        }));
        if let Err(panic) = result {
            self.next.store(chunks, Ordering::Relaxed);
            self.lock.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }

    fn wait_until_left(&self) {
        let mut idle = Idle::default();
        while idle.looks_on(self.patience) {
            if self.state.load(Ordering::SeqCst) & INSIDE == 0 {
                return;
            }
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(true, Ordering::SeqCst);
        while self.state.load(Ordering::SeqCst) & INSIDE != 0 {
            guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.waiting.store(false, Ordering::SeqCst);
    }

    /// The life of a worker.
    fn work(&self, worker: usize) {
        let mut done = 0;
        let mut idle = Idle::default();
        while !self.stop.load(Ordering::SeqCst) {
            let state = self.state.load(Ordering::SeqCst);
            if state & OPEN != 0 && state >> JOB_SHIFT != done {
                let entered =
                    self.state.compare_exchange(state, state + 1, Ordering::SeqCst, Ordering::SeqCst);
                if entered.is_ok() {
                    done = state >> JOB_SHIFT;
                    self.take_part(worker);
                    idle = Idle::default();
                }
                continue;
            }
            if !idle.looks_on(self.patience) {
                thread::park();
                idle = Idle::default();
            }
        }
    }

    fn take_part(&self, worker: usize) {
        // SAFETY: this worker is inside the job, so its caller waits for it and the task is alive.
        let job = unsafe { &*self.job.get() };
        if let Some(task) = job.task {
            // SAFETY: as above.
            self.take_chunks(unsafe { &*task }, job.chunks, worker);
        }
        let state = self.state.fetch_sub(1, Ordering::SeqCst) - 1;
        if state & (OPEN | INSIDE) == 0 && self.waiting.load(Ordering::SeqCst) {
            drop(self.lock.lock());
            self.left.notify_all();
        }
    }
}

/// A thread that waits for something.
#[derive(Default)]
struct Idle {
    looks: usize,
    since: Option<Instant>,
}

impl Idle {
    /// Waits for a moment; whether to look again rather than to sleep.
    fn looks_on(&mut self, patience: Duration) -> bool {
        std::hint::spin_loop();
        self.looks += 1;
        if !self.looks.is_multiple_of(SPINS) {
            return true;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        since.elapsed() < patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn every_chunk_runs_once(team: &Team, chunks: usize) {
        let counts: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
        team.run(chunks, &|chunk, worker| {
            assert!(worker < team.threads());
            counts[chunk].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn every_chunk_runs_exactly_once() {
        for threads in [0, 1, 2, 3, 8] {
            let team = Team::new(threads);
            assert_eq!(team.threads(), threads.max(1));
            for round in 0..300 {
                every_chunk_runs_once(&team, round % 37);
            }
        }
    }

    #[test]
    fn callers_on_many_threads_do_not_disturb_each_other() {
        let team = Team::new(3);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| (0..500).for_each(|round| every_chunk_runs_once(&team, round % 23)));
            }
        });
    }

    #[test]
    fn a_worker_index_is_never_shared() {
        let team = Team::new(4);
        for _ in 0..200 {
            let held: Vec<AtomicBool> = (0..4).map(|_| AtomicBool::new(false)).collect();
            team.run(64, &|_, worker| {
                assert!(!held[worker].swap(true, Ordering::SeqCst));
                held[worker].store(false, Ordering::SeqCst);
            });
        }
    }

    #[test]
    fn a_run_within_a_run_stays_on_its_thread() {
        let team = Team::new(3);
        let total = AtomicUsize::new(0);
        team.run(8, &|_, _| {
            team.run(5, &|_, worker| {
                assert_eq!(worker, 0);
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 40);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let team = Team::new(3);
        for guilty in [0, 5, 19] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                team.run(20, &|chunk, _| {
                    if chunk == guilty {
                        resume_unwind(Box::new("on purpose"));
                    }
                });
            }));
            assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
            every_chunk_runs_once(&team, 20);
        }
    }
}
