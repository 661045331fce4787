//! The `gradc` command: arguments in, results out. All the work is the library's.

mod args;
mod arrays;
mod commands;
mod convert;
mod failure;
mod inputs;
mod interrupt;
mod pictures;
mod problem;
mod random;
mod sha256;
mod terminal;
mod values;
mod words;

use args::{Arguments, Color, Command, LogFormat};
use clap::Parser;
use failure::{Failure, Result};
use std::panic;
use std::process::ExitCode;
use terminal::Terminal;

/// `gradc bench` tells how often a run asks for memory.
#[global_allocator]
static HEAP: gradc::CountingHeap = gradc::CountingHeap;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let choice = match arguments.talk.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    let verbosity = if arguments.talk.quiet { -1 } else { arguments.talk.verbose.min(2) as i8 };
    let log_json = arguments.talk.log_format == LogFormat::Json;
    let terminal = Terminal { json: arguments.talk.json, log_json, verbosity };
    interrupt::watch(terminal);
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(|| run(arguments, &terminal)).unwrap_or_else(|cause| Err(bug(&cause)));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            terminal.fail(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments, terminal: &Terminal) -> Result<ExitCode> {
    match arguments.command {
        Some(Command::Inspect(inspect)) => inspect.run(terminal),
        Some(Command::Ops(ops)) => ops.run(terminal),
        Some(Command::Compile(compile)) => compile.run(terminal),
        Some(Command::Run(run)) => run.run(terminal),
        Some(Command::Grad(grad)) => grad.run(terminal),
        Some(Command::Check(check)) => check.run(terminal),
        Some(Command::Bench(bench)) => bench.run(terminal),
        Some(Command::Demo(demo)) => demo.run(terminal),
        Some(Command::Completions(completions)) => completions.run(),
        Some(Command::Man(man)) => man.run(),
        Some(Command::ExplainError(explain)) => explain.run(terminal),
        None if arguments.version => commands::version::run(terminal),
        None => Err(Failure::usage("no command was given", "gradc --help lists the commands")),
    }
}

/// What is said of a panic: it is never the user's fault.
fn bug(cause: &Box<dyn std::any::Any + Send>) -> Failure {
    let words = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut failure = Failure::new(
        "GC0901",
        format!("internal error: {}", words.unwrap_or("no words were left")),
        "this is a bug in gradc. Please report it with this message and the model, or what gradc inspect says of it",
    );
    failure.at = Some(format!("gradc {} {}", env!("CARGO_PKG_VERSION"), arguments.join(" ")));
    failure
}
