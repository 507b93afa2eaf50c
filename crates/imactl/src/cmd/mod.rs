//! The commands: arguments and output. The library does the work.

mod clear;
mod digest;
pub(crate) mod evmctl;
mod initramfs;
mod inspect;
mod keys;
mod log;
mod manifest;
mod policy;
mod preflight;
mod report;
mod revoke;
mod sign;
mod status;
mod verify;
mod why;

use clap::{ArgMatches, Subcommand};

use crate::applies::Given;
use crate::error::Result;
use crate::output::Output;
use crate::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Keys(keys::KeysArgs),
    Sign(Box<sign::SignArgs>),
    Verify(verify::VerifyArgs),
    Inspect(inspect::InspectArgs),
    Clear(clear::ClearArgs),
    Digest(digest::DigestArgs),
    Revoke(Box<revoke::RevokeArgs>),
    Policy(policy::PolicyArgs),
    Preflight(Box<preflight::PreflightArgs>),
    Initramfs(initramfs::InitramfsArgs),
    Status(status::StatusArgs),
    Why(Box<why::WhyArgs>),
    #[command(subcommand)]
    Log(log::LogCommand),
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    Report(Box<report::ReportArgs>),
    Evmctl(evmctl::EvmctlArgs),
}

impl Command {
    /// Stores which options of the command were given.
    pub(crate) fn take_given(&mut self, matches: &ArgMatches) {
        let inputs = match self {
            Self::Sign(args) => &mut args.inputs,
            Self::Verify(args) => &mut args.inputs,
            Self::Inspect(args) => &mut args.inputs,
            Self::Clear(args) => &mut args.inputs,
            _ => return,
        };
        if let Some((_, matches)) = matches.subcommand() {
            inputs.given = Given::of(matches);
        }
    }

    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match self {
            Self::Keys(args) => args.run(output),
            Self::Sign(args) => args.run(output),
            Self::Verify(args) => args.run(output),
            Self::Inspect(args) => args.run(output),
            Self::Clear(args) => args.run(output),
            Self::Digest(args) => args.run(output),
            Self::Revoke(args) => args.run(output),
            Self::Policy(args) => args.run(output),
            Self::Preflight(args) => args.run(output),
            Self::Initramfs(args) => args.run(output),
            Self::Status(args) => args.run(output),
            Self::Why(args) => args.run(output),
            Self::Log(command) => command.run(output),
            Self::Manifest(command) => command.run(output),
            Self::Report(args) => args.run(output),
            Self::Evmctl(args) => args.run(),
        }
    }
}
