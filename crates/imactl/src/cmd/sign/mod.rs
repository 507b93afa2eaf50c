//! `imactl sign`

pub(super) mod tree;

use anyhow::Result;
use clap::Args;
use ima_format::kind::Kind;

use crate::kind::{not_dealt_with, KindArgs};
use crate::output::Output;
use crate::Outcome;

/// Sign files, trees of files, and packages
///
/// Regular files are signed, in directories recursively; symbolic links are not followed;
/// devices, FIFOs and sockets are not opened; a file with several names is signed once. What a
/// file holds is told by its content: in an RPM package that is named, the files inside are
/// signed. All files are tried; exit status 2 if one that was asked for was not signed.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    files: tree::SignTreeArgs,
    #[command(flatten)]
    kind: KindArgs,
}

impl SignArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match self.kind.resolve(&self.files.tree)? {
            Kind::Tree => self.files.run(output),
            kind @ (Kind::Rpm | Kind::Tar | Kind::Image) => Err(not_dealt_with(kind)),
        }
    }
}
