//! What ends a command from outside: Ctrl-C, SIGTERM, and `--timeout`. Files that were not finished are removed, those
//! that stood there are untouched.

use crate::failure::Failure;
use crate::terminal::Terminal;
use crate::words::duration;
use gradc::formats::output::remove_unfinished;
use std::time::Duration;

/// From now on Ctrl-C ends the command with exit code 130, SIGTERM with 143.
#[cfg(unix)]
pub fn watch(terminal: Terminal) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    // Where signals cannot be caught, they end the command as they always do.
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        remove_unfinished();
        if terminal.verbosity >= 0 {
            terminal.stopped();
        }
        std::process::exit(128 + signal);
    };
    // Without a thread the command cannot be stopped gently: no reason not to run it.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
}

/// Other systems end the command by themselves.
#[cfg(not(unix))]
pub fn watch(_: Terminal) {}

/// Ends the command when the time is over.
pub fn deadline(terminal: Terminal, limit: Option<Duration>) {
    let Some(limit) = limit else { return };
    let wait = move || {
        std::thread::sleep(limit);
        remove_unfinished();
        let what = format!("the command took longer than --timeout {}", duration(limit));
        let help = "give it more time, smaller inputs or more --threads";
        let failure = Failure::new("GC0602", what, help);
        terminal.fail(&failure);
        std::process::exit(i32::from(failure.exit_code()));
    };
    let _ = std::thread::Builder::new().name("deadline".to_owned()).spawn(wait);
}
