//! The table of kernels: what they cost, and what this machine could do at best.

use crate::words::{bytes, duration, grouped};
use gradc::{Roof, StepReport};
use gradc_frontend_onnx::error::Escaped;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// All steps of a run that serve one node with one kernel.
pub struct Line {
    step: StepReport,
    /// Seconds in a run.
    seconds: f64,
    /// Of the time of all kernels.
    pub share: f64,
    /// What the machine takes at least, over what it took.
    roof: f64,
}

/// Node, kind, kernel.
type Key<'s> = (Option<&'s (String, String)>, &'static str, &'s str);

/// Lines from the one that took longest to the one that took least, of steps with the time of some runs.
pub fn lines(steps: &[StepReport], runs: usize, roof: &Roof) -> Vec<Line> {
    let mut groups: BTreeMap<Key<'_>, StepReport> = BTreeMap::new();
    for step in steps {
        let key = (step.node.as_ref(), step.kind, step.kernel.as_str());
        let group = groups.entry(key);
        group
            .and_modify(|group| {
                group.calls += step.calls;
                group.operations += step.operations;
                group.bytes += step.bytes;
                group.time += step.time;
            })
            .or_insert_with(|| step.clone());
    }
    let total: f64 = steps.iter().map(|step| step.time.as_secs_f64()).sum();
    let line = |step: StepReport| {
        let spent = step.time.as_secs_f64();
        let seconds = spent / runs.max(1) as f64;
        // Each call by itself: its data, not those of all calls, are to fit into a cache.
        let calls = step.calls.max(1);
        let least = roof.seconds(step.operations / calls, step.bytes / calls) * calls as f64;
        let part = |of: f64, whole: f64| if whole > 0.0 { of / whole } else { 0.0 };
        Line { share: part(spent, total), roof: part(least, seconds), seconds, step }
    };
    let mut lines: Vec<Line> = groups.into_values().map(line).collect();
    lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    lines
}

impl Line {
    fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds / 1e9 } else { 0.0 }
    }

    fn row(&self) -> Vec<String> {
        let node =
            self.step.node.as_ref().map_or_else(String::new, |(operator, name)| {
                format!("{} {}", Escaped(operator), Escaped(name))
            });
        vec![
            shortened(&node, 40),
            shortened(&format!("{} {}", self.step.kind, self.step.kernel), 32),
            grouped(self.step.calls),
            duration(Duration::from_secs_f64(self.seconds)),
            format!("{:.1} %", self.share * 100.0),
            format!("{:.1}", self.rate(self.step.operations)),
            format!("{:.1}", self.rate(self.step.bytes)),
            format!("{:.0} %", self.roof * 100.0),
        ]
    }

    pub fn json(&self) -> Json {
        json!({
            "operator": self.step.node.as_ref().map(|(operator, _)| operator),
            "node": self.step.node.as_ref().map(|(_, name)| name),
            "kind": self.step.kind,
            "kernel": self.step.kernel,
            "calls": self.step.calls,
            "ms": self.seconds * 1e3,
            "share": self.share,
            "operations": self.step.operations,
            "bytes": self.step.bytes,
            "gflops": self.rate(self.step.operations),
            "gb_per_s": self.rate(self.step.bytes),
            "roof": self.roof,
        })
    }
}

/// The head and the first lines.
pub fn rows(lines: &[Line], top: usize) -> Vec<Vec<String>> {
    let head = ["node", "kernel", "calls", "time", "share", "GFLOP/s", "GB/s", "of the roof"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(lines.iter().take(top).map(Line::row));
    rows
}

pub fn roof_text(roof: &Roof) -> String {
    let level = |level: &gradc::RoofLevel| {
        format!("{:.0} GB/s in {}", level.bandwidth / 1e9, bytes(level.bytes as u64))
    };
    let levels: Vec<String> = roof.levels.iter().map(level).collect();
    format!("roof     {:.0} GFLOP/s · {}\n", roof.flops / 1e9, levels.join(" · "))
}

pub fn roof_json(roof: &Roof) -> Json {
    let level = |level: &gradc::RoofLevel| json!({ "bytes": level.bytes, "gb_per_s": level.bandwidth / 1e9 });
    json!({
        "gflops": roof.flops / 1e9,
        "memory": roof.levels.iter().map(level).collect::<Vec<_>>(),
    })
}

fn shortened(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}
