//! What ends a command early: a code, a cause, a place, and what to do.

use crate::words::wrap;
use gradc::formats::FormatError;
use std::fmt::Write;

/// The result of a step of a command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// An error as the user meets it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The stable code, such as `GC0201`.
    pub code: String,
    /// What is wrong.
    pub what: String,
    /// Where, where that is more than the message says.
    pub at: Option<String>,
    /// What to do; may be empty.
    pub help: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: &str, what: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure { code: code.to_owned(), what: what.into(), at: None, help: help.into() }
    }

    /// A mistake in the arguments.
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::new("GC0107", what, help)
    }

    /// The exit code: it follows from the error's code.
    pub fn exit_code(&self) -> u8 {
        match self.code.as_str() {
            "GC0301" | "GC0313" | "GC0314" | "GC0315" => 5,
            "GC0311" => 6,
            code => match code.get(..4) {
                Some("GC01") => 2,
                Some("GC02") => 4,
                Some("GC03") => 3,
                Some("GC04") => 5,
                Some("GC06") => 6,
                Some("GC07") => 7,
                Some("GC08") => 8,
                _ => 70,
            },
        }
    }

    /// The lines for a terminal, with styles where `styled`.
    pub fn render(&self, styled: bool) -> String {
        let style =
            |code: &str, text: String| if styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text };
        let mut text = String::new();
        let error = format!("error[{}]", self.code);
        let body = wrap(&format!(": {}", self.what), 100, error.len(), "  ");
        let _ = writeln!(text, "{}{}", style("1;31", error), body);
        let parts = [("at", self.at.as_deref()), ("help", Some(self.help.as_str()))];
        for (label, part) in parts {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                let body = wrap(&format!(": {part}"), 100, 2 + label.len(), "    ");
                let _ = writeln!(text, "  {}{body}", style("1;36", label.to_owned()));
            }
        }
        text
    }

    /// The same fields for machines.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": "gradc.error/1",
            "code": self.code,
            "message": self.what,
            "at": self.at,
            "help": self.help,
            "exit_code": self.exit_code(),
        })
    }
}

impl From<gradc::Error> for Failure {
    fn from(error: gradc::Error) -> Failure {
        Failure { code: error.code().to_owned(), what: error.to_string(), at: error.at(), help: error.help() }
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Failure {
        Failure::new(error.code(), error.to_string(), error.help())
    }
}
