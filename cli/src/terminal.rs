//! The two streams: results on standard output, everything else on standard error.

use crate::failure::{Failure, Result};
use std::io::{self, IsTerminal, Write};

/// How much is said, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Results as one JSON object.
    pub json: bool,
    /// Warnings, notes and errors as JSON, one object a line.
    pub log_json: bool,
    /// How often `-v` was given, less `-q`.
    pub verbosity: i8,
}

impl Terminal {
    /// One that says nothing.
    pub fn silent() -> Terminal {
        Terminal { json: false, log_json: false, verbosity: -1 }
    }

    /// Writes a result.
    pub fn result(&self, text: &str) -> Result<()> {
        write_out(text.as_bytes())
    }

    /// Writes a result for machines, as one line.
    pub fn json(&self, value: &serde_json::Value) -> Result<()> {
        write_out(format!("{value}\n").as_bytes())
    }

    /// Writes a result in the form that was asked for.
    pub fn answer(
        &self,
        value: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.json { self.json(&value()) } else { self.result(&text()) }
    }

    /// Says something that should not go unnoticed.
    pub fn warn(&self, text: &str) {
        if self.verbosity >= 0 {
            self.say("1;33", "warning", text);
        }
    }

    /// Says something that may interest.
    pub fn note(&self, text: &str) {
        if self.verbosity >= 1 {
            self.say("1", "note", text);
        }
    }

    /// Says what takes long, to somebody who waits at a terminal.
    pub fn progress(&self, text: &str) {
        if self.verbosity >= 0 && io::stderr().is_terminal() {
            self.say("1", "note", text);
        }
    }

    /// Says that the command was ended from outside.
    pub fn stopped(&self) {
        self.say("1;33", "stopped", "nothing was written; a file that stood at the output is untouched");
    }

    fn say(&self, style: &str, label: &str, text: &str) {
        if self.log_json {
            let line = serde_json::json!({ "schema": "gradc.log/1", "level": label, "message": text });
            let _ = writeln!(io::stderr().lock(), "{line}");
            return;
        }
        let body = crate::words::wrap(&format!(": {text}"), 100, label.len(), "  ");
        let label = if styled() { format!("\x1b[{style}m{label}\x1b[0m") } else { label.to_owned() };
        let _ = writeln!(io::stderr().lock(), "{label}{body}");
    }

    /// Reports what ended a command.
    pub fn fail(&self, failure: &Failure) {
        let mut stderr = io::stderr().lock();
        let _ = match self.json || self.log_json {
            true => writeln!(stderr, "{}", failure.json()),
            false => write!(stderr, "{}", failure.render(styled())),
        };
    }
}

/// Whether standard error takes styles: a terminal, unless flags or the environment say otherwise.
fn styled() -> bool {
    match anstream::ColorChoice::global() {
        anstream::ColorChoice::Never => false,
        anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => true,
        anstream::ColorChoice::Auto => {
            anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
                && io::stderr().is_terminal()
        }
    }
}

/// Writes bytes to standard output. A reader that went away is no failure.
pub fn write_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(
            "GC0802",
            format!("cannot write to standard output: {error}"),
            "check the free space",
        )),
    }
}
