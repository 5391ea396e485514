//! What people see on standard error while a command is at work: a line for each thing that has happened
//! and, on a terminal, something that moves while nothing does.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);
const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
/// To the beginning of the line, and nothing on it.
const CLEAR: &str = "\r\x1b[2K";

/// Lines on standard error, and a spinner where that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What stands beside the spinner, once something does.
    beside: Arc<Mutex<String>>,
    spinner: Option<JoinHandle<()>>,
}

impl Progress {
    /// The spinner turns on the current runtime. Without `visible` nothing is written.
    pub(crate) fn new(visible: bool) -> Self {
        let beside = Arc::new(Mutex::new(String::new()));
        // Who sets NO_COLOR, or has a terminal that can do nothing, wants no moving parts either.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let turns = visible && !plain && io::stderr().is_terminal();
        let spinner = turns.then(|| tokio::spawn(turn(Arc::clone(&beside))));
        Self { beside, spinner }
    }

    /// Something has happened.
    pub(crate) fn line(&self, line: &str) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let clear = if self.spinner.is_some() { CLEAR } else { "" };
        // A reader that went away early is no reason to fail, or to panic.
        let _ = writeln!(io::stderr(), "{clear}{line}");
        line.trim().clone_into(&mut beside);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.abort();
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}

async fn turn(beside: Arc<Mutex<String>>) {
    let mut tick = tokio::time::interval(TICK);
    for frame in FRAMES.into_iter().cycle() {
        tick.tick().await;
        let beside = beside.lock().unwrap_or_else(PoisonError::into_inner);
        let words: String = beside.chars().take(60).collect();
        let _ = write!(io::stderr(), "{CLEAR}{frame} {words}").and_then(|()| io::stderr().flush());
    }
}
