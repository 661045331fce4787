//! `gradc man`: manual pages.

use crate::args::Arguments;
use crate::failure::{Failure, Result};
use crate::terminal;
use clap::{Args, CommandFactory};
use gradc_frontend_onnx::error::Quoted;
use std::process::ExitCode;

/// Print the manual page of gradc, or of one of its commands
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc man | man -l -
  gradc man grad > gradc-grad.1
  gradc man inspect > gradc-inspect.1")]
pub struct Man {
    /// The command
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

impl Man {
    pub fn run(self) -> Result<ExitCode> {
        let mut whole = Arguments::command();
        whole.build();
        let title = self.command.as_ref().map_or("gradc".to_owned(), |name| format!("gradc-{name}"));
        let page = match &self.command {
            None => whole,
            Some(name) => match whole.find_subcommand(name) {
                Some(command) => command.clone(),
                None => {
                    let what = format!("there is no command {}", Quoted(name));
                    return Err(Failure::usage(what, "gradc --help lists the commands"));
                }
            },
        };
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(page).title(title).render(&mut text);
        rendered.map_err(|error| Failure::new("GC0901", format!("internal error: {error}"), ""))?;
        terminal::write_out(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
