//! `gradc ops`: the operators of ONNX, which of them are supported, and how gradients pass them.

use crate::failure::Result;
use crate::terminal::Terminal;
use crate::words::{count, table};
use clap::Args;
use gradc::{Coverage, GradientKind, Support, coverage};
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// List the ONNX operators: which are supported, for which types, and how gradients pass them
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc ops
  gradc ops Conv
  gradc ops --missing
  gradc ops --json | jq '.operators[] | select(.gradient == \"piecewise\").name'")]
pub struct Ops {
    /// Show only operators whose names contain this
    #[arg(value_name = "PART")]
    pub part: Option<String>,
    /// Show those that are not supported, and why, such as gradc ops --missing
    #[arg(long, conflicts_with = "all")]
    pub missing: bool,
    /// Show both, such as gradc ops --all --json
    #[arg(long)]
    pub all: bool,
}

/// How gradients pass an operator, in a word and in a sentence.
pub fn gradient(kind: GradientKind) -> (&'static str, &'static str) {
    match kind {
        GradientKind::Smooth => ("smooth", "differentiable"),
        GradientKind::Piecewise => ("piecewise", "differentiable but at kinks and ties"),
        GradientKind::Zero => ("zero", "no gradient: constant pieces, truth values or indices"),
        GradientKind::Integer => ("integer", "works on integers and shapes"),
        GradientKind::Control => ("control", "as what it contains"),
    }
}

fn domain(row: &Coverage) -> &'static str {
    if row.domain.is_empty() { "ai.onnx" } else { row.domain }
}

fn entry(row: &Coverage) -> Json {
    let derivative = row.derivative().name();
    let (gradient, reason) = match row.support {
        Support::Full(kind) => (Some(gradient(kind).0), None),
        Support::Missing(reason) => (None, Some(reason)),
    };
    json!({
        "domain": domain(row),
        "name": row.name,
        "since": row.opsets.first(),
        "opsets": row.opsets,
        "deprecated": row.deprecated,
        "function": row.function,
        "tier": row.tier,
        "supported": row.is_supported(),
        "reason": reason,
        "gradient": gradient,
        "vjp": derivative,
        "jvp": derivative,
        "second_order": derivative,
        "kink": row.kink,
        "types": row.types.iter().map(|dtype| dtype.name()).collect::<Vec<_>>(),
        "other_types": row.other_types,
    })
}

fn cells(row: &Coverage) -> Vec<String> {
    let what = match (row.support, row.kink) {
        (Support::Full(_), Some(kink)) => format!("at kinks: {kink}"),
        (Support::Full(kind), None) => gradient(kind).1.to_owned(),
        (Support::Missing(reason), _) => format!("not supported: {reason}"),
    };
    vec![
        row.name.to_owned(),
        domain(row).to_owned(),
        row.opsets.first().map_or_else(String::new, ToString::to_string),
        row.tier.to_string(),
        row.derivative().name().to_owned(),
        what,
    ]
}

impl Ops {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        let part = self.part.unwrap_or_default().to_lowercase();
        let wanted = |row: &&Coverage| {
            row.name.to_lowercase().contains(&part) && (self.all || row.is_supported() != self.missing)
        };
        let shown: Vec<&Coverage> = coverage().iter().filter(wanted).collect();
        terminal.answer(
            || json!({ "schema": "gradc.ops/1", "operators": shown.iter().map(|row| entry(row)).collect::<Vec<_>>() }),
            || {
                let titles = ["operator", "domain", "since", "tier", "gradient", ""];
                let mut rows = vec![titles.map(str::to_owned).to_vec()];
                rows.extend(shown.iter().map(|row| cells(row)));
                format!("{}{}\n", table(&rows), count(shown.len(), "operator", "operators"))
            },
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
