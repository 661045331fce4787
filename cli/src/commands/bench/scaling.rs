//! How runs would scale past the cores of this machine, reckoned on one of them.

use super::{Bench, whole_run};
use crate::failure::{Failure, Result};
use crate::inputs::Inputs;
use crate::problem::{self, Goal};
use crate::terminal::Terminal;
use crate::words::{duration, table};
use gradc::{Model, Team};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What so many threads would take.
pub struct Scaled {
    threads: usize,
    time: Duration,
}

/// The most threads that are reckoned with.
const MOST_THREADS: usize = 256;

/// Refuses numbers that are none of threads.
pub fn check(simulate: &[usize]) -> Result<()> {
    match simulate.iter().find(|threads| !(1..=MOST_THREADS).contains(*threads)) {
        None => Ok(()),
        Some(threads) => {
            let what = format!("--simulate {threads} is no number of threads");
            Err(Failure::usage(what, "from 1 to 256, such as --simulate 2,4,8"))
        }
    }
}

/// Compiles for each number of threads, runs on one, and reckons what the others would save.
pub fn simulate(
    bench: &Bench,
    terminal: &Terminal,
    model: &Model,
    inputs: &Inputs,
    goal: &Goal,
) -> Result<Vec<Scaled>> {
    if bench.simulate.is_empty() {
        return Ok(Vec::new());
    }
    let threads = [1].iter().chain(&bench.simulate);
    threads.map(|&threads| one(bench, terminal, model, inputs, goal, threads)).collect()
}

fn one(
    bench: &Bench,
    terminal: &Terminal,
    model: &Model,
    inputs: &Inputs,
    goal: &Goal,
    threads: usize,
) -> Result<Scaled> {
    let compiled = bench.compile(model, inputs, goal)?.threads(threads).build()?;
    let team = Arc::new(Team::simulated(threads));
    let mut session = compiled.session_on(team.clone())?;
    problem::set_inputs(terminal, model, inputs, goal, &mut session)?;
    whole_run(&mut session)?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || begun.elapsed().as_secs_f64() < bench.seconds / 2.0 {
        let (before, started) = (team.saved_nanoseconds(), Instant::now());
        whole_run(&mut session)?;
        let taken = started.elapsed().as_nanos() as i64;
        times.push(taken - (team.saved_nanoseconds() - before));
    }
    times.sort_unstable();
    let time = Duration::from_nanos(times[times.len() / 2].max(0) as u64);
    Ok(Scaled { threads, time })
}

/// The table.
pub fn text(scaled: &[Scaled]) -> String {
    let Some(alone) = scaled.first() else { return String::new() };
    let mut rows = vec![["threads", "time", "times as fast"].map(str::to_owned).to_vec()];
    for Scaled { threads, time } in scaled {
        let speedup = alone.time.as_secs_f64() / time.as_secs_f64().max(1e-9);
        rows.push(vec![threads.to_string(), duration(*time), format!("{speedup:.2}")]);
    }
    let note = "scaling  reckoned on one core from how the work is divided; what cores share, such as the bandwidth of memory, is not in it\n";
    format!("{note}{}", table(&rows))
}

/// The same for programs.
pub fn json(scaled: &[Scaled]) -> Json {
    let one =
        |Scaled { threads, time }: &Scaled| json!({ "threads": threads, "ms": time.as_secs_f64() * 1e3 });
    scaled.iter().map(one).collect()
}
