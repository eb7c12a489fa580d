//! What the command says when it stops: what happened, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// An error of the command itself, with a remedy and the exit code that belongs to it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    help: Option<String>,
    usage: bool,
}

/// The work could not be done: exit code 1.
pub fn failed(what: impl Into<String>) -> Failure {
    Failure {
        what: what.into(),
        help: None,
        usage: false,
    }
}

/// The command was called wrongly: exit code 2.
pub fn misused(what: impl Into<String>) -> Failure {
    Failure {
        what: what.into(),
        help: None,
        usage: true,
    }
}

impl Failure {
    /// Adds what the user can do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {}

/// Says what went wrong on stderr and gives the exit code. A reader of our output who went away
/// (`palmtop … | head`) is not an error.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    let failure = error.downcast_ref::<Failure>();
    eprintln!("error: {error:#}");
    if let Some(help) = failure.and_then(|failure| failure.help.as_deref()) {
        eprintln!("help: {help}");
    }
    if failure.is_some_and(|failure| failure.usage) {
        ExitCode::from(2)
    } else {
        ExitCode::from(1)
    }
}
