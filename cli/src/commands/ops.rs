//! `gradc ops`: the operators that are supported, and how gradients pass them.

use crate::failure::Result;
use crate::terminal::Terminal;
use crate::words::table;
use clap::Args;
use gradc::{GradientKind, OperatorInfo, operators};
use serde_json::json;
use std::process::ExitCode;

/// List the ONNX operators that are supported
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc ops
  gradc ops Conv
  gradc ops --json | jq '.operators[] | select(.gradient == \"piecewise\").name'")]
pub struct Ops {
    /// Show only operators whose names contain this
    #[arg(value_name = "PART")]
    pub part: Option<String>,
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

fn domain(info: &OperatorInfo) -> &'static str {
    if info.domain.is_empty() { "ai.onnx" } else { info.domain }
}

impl Ops {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        let part = self.part.unwrap_or_default().to_lowercase();
        let shown: Vec<&OperatorInfo> =
            operators().iter().filter(|info| info.name.to_lowercase().contains(&part)).collect();
        let entry = |info: &&OperatorInfo| {
            json!({
                "domain": domain(info),
                "name": info.name,
                "since": info.since,
                "gradient": gradient(info.gradient).0,
            })
        };
        terminal.answer(
            || json!({ "schema": "gradc.ops/1", "operators": shown.iter().map(entry).collect::<Vec<_>>() }),
            || {
                let mut rows = vec![["operator", "domain", "since", "gradient"].map(str::to_owned).to_vec()];
                rows.extend(shown.iter().map(|info| {
                    let (word, sentence) = gradient(info.gradient);
                    vec![
                        info.name.to_owned(),
                        domain(info).to_owned(),
                        info.since.to_string(),
                        format!("{word}: {sentence}"),
                    ]
                }));
                format!("{}{} operators\n", table(&rows), shown.len())
            },
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
