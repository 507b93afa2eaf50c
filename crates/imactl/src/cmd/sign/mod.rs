//! `imactl sign`

mod image;
mod report;
mod rpm;
mod tar;
pub(super) mod tree;

use anyhow::Result;
use clap::Args;
use ima_format::kind::Kind;

use crate::container::ResultArgs;
use crate::kind::{refuse_options, KindArgs};
use crate::output::Output;
use crate::Outcome;

/// Sign files, trees of files, packages, archives and images
///
/// Regular files are signed, in directories recursively; symbolic links are not followed;
/// devices, FIFOs and sockets are not opened; a file with several names is signed once. What a
/// file holds is told by its content: in an RPM package, a tar archive or an image of ext4 that is
/// named, the files inside are signed, and `-` is a tar archive on standard input. Archives and
/// images are written whole or not at all; members of more than 1 MiB wait in a temporary file
/// (TMPDIR, else /var/tmp) until their signature is known. All files are tried; exit status 2 if
/// one that was asked for was not signed, be it a link, a device, or with --detached a signature.
/// A directory without files is no error, and said. A run that was cut short is finished by running
/// again: its temporary files (.imactl-XXXXXX) are left out, which -v tells.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    files: tree::SignTreeArgs,
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    rpm: rpm::SignRpmArgs,
}

impl SignArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = self.run_on_kind(output)?;
        self.files.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn run_on_kind(&self, output: &mut Output) -> Result<Outcome> {
        let kind = self.kind.resolve(&self.files.tree)?;
        if kind != Kind::Rpm {
            refuse_options(kind, &self.rpm.given())?;
        }
        match kind {
            Kind::Rpm => {
                self.result.refuse_for(Kind::Rpm)?;
                refuse_options(Kind::Rpm, &self.files.not_for_packages())?;
                self.rpm(output)
            }
            Kind::Tree => {
                self.result.refuse_for(Kind::Tree)?;
                self.files.run(output)
            }
            Kind::Tar => self.tar(output),
            Kind::Image => self.image(output),
        }
    }
}
