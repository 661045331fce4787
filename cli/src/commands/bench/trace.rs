//! Timelines in the format of Chrome's tracing, which Perfetto reads.

use gradc::{CompiledModel, StepReport};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// The time that steps took since they were reported before.
pub fn since(before: &[StepReport], mut after: Vec<StepReport>) -> Vec<StepReport> {
    for (after, before) in after.iter_mut().zip(before) {
        after.time = after.time.saturating_sub(before.time);
    }
    after
}

/// Compiling, and the run between two reports, one under the other.
pub fn events(model: &str, compiled: &CompiledModel, before: &[StepReport], after: &[StepReport]) -> Json {
    let mut events = vec![
        named("process_name", 0, model),
        named("thread_name", 1, "compile"),
        named("thread_name", 2, "run"),
    ];
    let plan = compiled.plan();
    let mut clock = Duration::ZERO;
    for (name, time) in [("lower", plan.times.lower), ("differentiate", plan.times.differentiate)] {
        events.push(event("compile", 1, name, &mut clock, time, json!({})));
    }
    let mut inner = clock;
    events.push(event("compile", 1, "passes", &mut clock, plan.times.passes, json!({})));
    for pass in &plan.passes {
        let nodes = json!({ "nodes before": pass.nodes[0], "nodes after": pass.nodes[1] });
        events.push(event("pass", 1, pass.name, &mut inner, pass.time, nodes));
    }
    events.push(event("compile", 1, "codegen", &mut clock, plan.times.codegen, json!({})));
    if !plan.times.cache.is_zero() {
        events.push(event("compile", 1, "cache", &mut clock, plan.times.cache, json!({})));
    }
    let mut clock = Duration::ZERO;
    for step in since(before, after.to_vec()) {
        let name = match &step.node {
            Some((operator, name)) => format!("{operator} {name}"),
            None => step.kind.to_owned(),
        };
        let seconds = step.time.as_secs_f64().max(1e-9);
        let facts = json!({
            "kind": step.kind,
            "kernel": step.kernel,
            "calls": step.calls,
            "GFLOP/s": step.operations as f64 / seconds / 1e9,
            "GB/s": step.bytes as f64 / seconds / 1e9,
        });
        events.push(event(step.kind, 2, &name, &mut clock, step.time, facts));
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ns" })
}

fn named(what: &str, thread: u64, name: &str) -> Json {
    json!({ "ph": "M", "pid": 1, "tid": thread, "name": what, "args": { "name": name } })
}

/// Something that begins now and lasts; then it is later.
fn event(category: &str, thread: u64, name: &str, clock: &mut Duration, time: Duration, facts: Json) -> Json {
    let microseconds = |time: Duration| time.as_nanos() as f64 / 1e3;
    let begin = microseconds(*clock);
    *clock += time;
    json!({
        "ph": "X", "pid": 1, "tid": thread, "cat": category, "name": name,
        "ts": begin, "dur": microseconds(time), "args": facts,
    })
}
