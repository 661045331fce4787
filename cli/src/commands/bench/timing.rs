//! The times of calls.

use crate::failure::Result;
use crate::words::{duration, grouped};
use gradc::heap_calls;
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};

/// How long to measure.
pub struct Budget {
    pub seconds: f64,
    /// In place of `seconds`.
    pub runs: Option<usize>,
}

/// The times of some calls of one thing.
pub struct Timing {
    /// Seconds, from the shortest to the longest.
    sorted: Vec<f64>,
    /// Calls before the measurement.
    warmup: usize,
    heap_calls: f64,
    /// Seconds of the processor in a call, of the calling thread alone, where the system tells them.
    processor: Option<f64>,
}

/// The most calls that are measured.
const MOST: usize = 1_000_000;
/// Calls that warm caches up, unless they take longer than a tenth of the budget.
const WARMUP: usize = 3;

impl Timing {
    /// Calls as often as the budget allows, at least once.
    pub fn measure(budget: &Budget, mut call: impl FnMut() -> gradc::Result<()>) -> Result<Timing> {
        let started = Instant::now();
        let mut warmup = 0;
        while warmup < WARMUP && (warmup == 0 || started.elapsed().as_secs_f64() < budget.seconds / 10.0) {
            call()?;
            warmup += 1;
        }
        let once = started.elapsed().as_secs_f64() / warmup as f64;
        let expected = (budget.seconds / once.max(1e-9) * 4.0) as usize;
        let most = budget.runs.unwrap_or(expected).clamp(1, MOST);
        // All memory for the measurement itself is taken before it begins.
        let mut times = Vec::with_capacity(most);
        let processor = processor_time();
        let heap = heap_calls();
        let started = Instant::now();
        let mut last = started;
        while times.len() < most {
            call()?;
            let now = Instant::now();
            times.push((now - last).as_secs_f64());
            last = now;
            if budget.runs.is_none() && (now - started).as_secs_f64() >= budget.seconds {
                break;
            }
        }
        let calls = times.len() as f64;
        let heap_calls = (heap_calls() - heap) as f64 / calls;
        let spent = processor_time().zip(processor).map(|(after, before)| (after - before) as f64 * 1e-9);
        times.sort_by(f64::total_cmp);
        Ok(Timing { sorted: times, warmup, heap_calls, processor: spent.map(|spent| spent / calls) })
    }

    /// Calls, those before the measurement included.
    pub fn all_runs(&self) -> usize {
        self.sorted.len() + self.warmup
    }

    /// The time that this part of the calls does not exceed.
    fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.sorted.len() as f64).ceil() as usize;
        self.sorted[rank.clamp(1, self.sorted.len()) - 1]
    }

    pub fn row(&self, name: &str) -> Vec<String> {
        let mut row = vec![name.to_owned()];
        row.extend([0.0, 0.5, 0.9, 0.99].map(|part| duration(Duration::from_secs_f64(self.quantile(part)))));
        row.push(grouped(self.sorted.len()));
        row.push(format!("{}", (self.heap_calls * 100.0).round() / 100.0));
        row
    }

    pub fn json(&self) -> Json {
        let milliseconds = |part: f64| self.quantile(part) * 1e3;
        json!({
            "runs": self.sorted.len(),
            "min_ms": milliseconds(0.0),
            "p50_ms": milliseconds(0.5),
            "p90_ms": milliseconds(0.9),
            "p99_ms": milliseconds(0.99),
            "processor_ms": self.processor.map(|seconds| seconds * 1e3),
            "heap_calls": self.heap_calls,
        })
    }
}

/// Nanoseconds that this thread has had the processor, which other programs disturb less than the clock on the wall.
/// Linux counts them in steps of a few milliseconds.
fn processor_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_occurred() {
        let timing =
            Timing { sorted: vec![1.0, 2.0, 3.0, 10.0], warmup: 0, heap_calls: 0.0, processor: None };
        assert_eq!([0.0, 0.5, 0.9, 0.99].map(|part| timing.quantile(part)), [1.0, 2.0, 10.0, 10.0]);
    }

    #[test]
    fn the_number_of_runs_is_kept() {
        let mut calls = 0;
        let budget = Budget { seconds: 0.0, runs: Some(7) };
        let timing = Timing::measure(&budget, || {
            calls += 1;
            Ok(())
        });
        assert_eq!(timing.ok().map(|timing| timing.sorted.len()), Some(7));
        assert_eq!(calls, 8, "one more to warm up");
    }
}
