//! `gradc explain-error`: what an error code means, at length.

use crate::failure::{Failure, Result};
use crate::terminal::Terminal;
use crate::words::wrap;
use clap::Args;
use gradc_frontend_onnx::error::Quoted;
use serde_json::json;
use std::process::ExitCode;

/// Explain an error code at length
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc explain-error GC0402
  gradc explain-error gc0701
  gradc explain-error --json GC0203 | jq -r .text")]
pub struct ExplainError {
    /// The code, as it stands in brackets in a message
    #[arg(value_name = "CODE")]
    pub code: String,
}

const PAGE: &str = include_str!("../../../docs/errors.md");

/// The title and the text of a code's section.
fn section(code: &str) -> Option<(&'static str, &'static str)> {
    let mut sections = PAGE.split("\n## ").skip(1);
    let section = sections.find(|section| section.starts_with(code))?;
    let (title, text) = section.split_once('\n')?;
    Some((title, text.trim()))
}

impl ExplainError {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        let code = self.code.trim_matches(['[', ']']).to_uppercase();
        let found = if code.len() == 6 { section(&code) } else { None };
        let Some((title, text)) = found else {
            let what = format!("there is no error {}", Quoted(&self.code));
            return Err(Failure::usage(what, "codes look like GC0402; docs/errors.md has them all"));
        };
        let plain = text.replace('\n', " ");
        terminal.answer(
            || json!({ "schema": "gradc.explain-error/1", "code": code, "title": title, "text": plain }),
            || format!("{title}\n\n{}\n", wrap(&plain, 100, 0, "")),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
