//! imactl: Linux file integrity (IMA and EVM): from keys to an enforcing kernel.
//!
//! The program is [`main`]. [`command`] describes its arguments, for man pages and completions.

mod applies;
mod args;
mod cmd;
mod error;
mod evm;
mod groups;
mod inputs;
mod interrupt;
mod kernel;
mod output;
mod outputs;
mod passphrase;
mod printable;
mod progress;
mod report;
mod terminal;
mod token;
mod verity;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use cmd::Command;
use output::{Output, OutputArgs};
use printable::Printable;

/// Linux file integrity (IMA and EVM): from keys to an enforcing kernel
///
/// Exit status: 0 success; 1 a finding (a bad or missing signature, an unsafe key); 2 wrong usage,
/// or an error.
#[derive(Debug, Parser)]
#[command(name = "imactl", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Command,
}

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// No findings, no errors.
    Good,
    /// A finding.
    Finding,
    /// Part of the work failed.
    Failed,
}

impl Outcome {
    /// The outcome of a run with this number of failures and findings.
    fn of(failures: u64, findings: u64) -> Self {
        match (failures, findings) {
            (1.., _) => Self::Failed,
            (0, 1..) => Self::Finding,
            (0, 0) => Self::Good,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Good => 0,
            Outcome::Finding => 1,
            Outcome::Failed => 2,
        })
    }
}

/// The arguments of the program: its commands and their options.
pub fn command() -> clap::Command {
    groups::list(applies::annotate(Cli::command()))
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(arguments) = cmd::evmctl::arguments(&arguments) {
        interrupt::install();
        return cmd::evmctl::run(arguments);
    }
    let matches = command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.command.take_given(&matches);
    interrupt::install();
    let mut output = Output::new(&cli.output);
    let result = cli.command.run(&mut output).and_then(|outcome| {
        output.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            print_error(&error, &mut output);
            Outcome::Failed.into()
        }
    }
}

/// Prints the error and its hint, as text and as JSON.
fn print_error(error: &error::Error, output: &mut Output) {
    if error.is_broken_pipe {
        return;
    }
    let (red, cyan, reset) = match output.colors_errors() {
        true => ("\x1b[1;31m", "\x1b[36m", "\x1b[0m"),
        false => ("", "", ""),
    };
    let (line, hint) = (error.to_string(), error.hint());
    let printed = output.object("error").field("error", &line).optional("hint", hint).end();
    // without stdout, the error goes to stderr
    drop(printed.and_then(|()| output.flush()));
    let mut message = format!("{red}error:{reset} {}\n", Printable::new(&line));
    if let Some(hint) = hint {
        message += &format!("{cyan}hint:{reset} {hint}\n");
    }
    // without stderr, the error is lost
    drop(io::stderr().write_all(message.as_bytes()));
}
