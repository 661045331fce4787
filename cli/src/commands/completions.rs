//! `gradc completions`: what a shell needs to complete arguments.

use crate::args::Arguments;
use crate::failure::Result;
use crate::terminal;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::process::ExitCode;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc completions bash > ~/.local/share/bash-completion/completions/gradc
  gradc completions zsh > ~/.zfunc/_gradc
  gradc completions fish > ~/.config/fish/completions/gradc.fish")]
pub struct Completions {
    /// bash, zsh, fish, powershell or elvish
    #[arg(value_enum, hide_possible_values = true)]
    pub shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "gradc", &mut script);
        terminal::write_out(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
