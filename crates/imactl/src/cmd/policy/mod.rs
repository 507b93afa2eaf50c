//! `imactl policy`

mod check;
mod diff;
mod event;
mod explain;
mod fmt;
mod load;
mod ready_made;
mod sign;
mod simulate;
mod snippet;
mod source;
mod verdict;

pub(super) use check::accepted;
pub(super) use load::running;

use clap::{Args, Subcommand};

use crate::error::Result;
use crate::output::Output;
use crate::Outcome;

pub(super) use source::{BootArgs, Loaded};

/// Check, explain, compare and load policies
///
/// A policy FILE may be - (standard input), builtin:NAME (a policy of the kernel, as in
/// builtin:tcb) or default:KIND (a policy of imactl, as in default:appraise).
/// /sys/kernel/security/ima/policy can be read, too.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Check(check::CheckArgs),
    Fmt(fmt::FmtArgs),
    Explain(explain::ExplainArgs),
    Default(ready_made::DefaultArgs),
    Builtin(ready_made::BuiltinArgs),
    Diff(diff::DiffArgs),
    Simulate(Box<simulate::SimulateArgs>),
    Sign(Box<sign::PolicySignArgs>),
    Load(load::LoadArgs),
}

impl PolicyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match &self.command {
            PolicyCommand::Check(args) => args.run(output),
            PolicyCommand::Fmt(args) => args.run(output),
            PolicyCommand::Explain(args) => args.run(output),
            PolicyCommand::Default(args) => args.run(output),
            PolicyCommand::Builtin(args) => args.run(output),
            PolicyCommand::Diff(args) => args.run(output),
            PolicyCommand::Simulate(args) => args.run(output),
            PolicyCommand::Sign(args) => args.run(output),
            PolicyCommand::Load(args) => args.run(output),
        }
    }
}
