//! A list as a Parquet file: options and output.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ima::attest::convert::ConvertError;
use ima::attest::manifest::Manifest;
use ima::attest::parquet::ParquetWriter;
use ima::attest::source::Source;
use ima::attest::table::{tabulate, Origin};
use ima::attest::verify::Options;
use ima::attest::{ListError, Malformed};
use ima::verify::Keyring;
use ima_format::measure::PcrValues;

use crate::args::{jobs, KeyringArgs};
use crate::cmd::manifest::{self, TrustArgs};
use crate::error::{hinted, Result};
use crate::output::Output;

/// Columns of a table
#[derive(Debug, Args)]
#[command(next_help_heading = "Parquet")]
pub(super) struct TableArgs {
    /// The machine that the list is from: column machine
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// The boot that the list is from, such as /proc/sys/kernel/random/boot_id: column boot
    #[arg(long, value_name = "ID")]
    boot: Option<String>,
    /// A manifest (imactl manifest create), which files are compared with: column fit; several are merged
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
}

/// [`TableArgs`] with their files read.
pub(super) struct TableSettings {
    origin: Origin,
    manifest: Option<Manifest>,
    keyring: Option<Keyring>,
}

impl TableArgs {
    pub(super) fn open(&self, output: &mut Output) -> Result<TableSettings> {
        let keyring = Keyring::of_certificates(&self.keyring.given(output)?);
        let manifest = match self.manifest.is_empty() {
            true => None,
            false => Some(manifest::read_all(&self.manifest, &self.trust, output)?.as_measured()),
        };
        Ok(TableSettings {
            origin: Origin { machine: self.machine.clone(), boot: self.boot.clone() },
            manifest,
            keyring: (!keyring.is_empty()).then_some(keyring),
        })
    }

    /// Returns an error if an option is given and the result is not a table.
    pub(super) fn refuse(&self) -> Result<()> {
        let machine = self.machine.as_ref().map(|_| "--machine");
        let boot = self.boot.as_ref().map(|_| "--boot");
        let manifest = self.manifest.first().map(|_| "--manifest");
        let trust = self.trust.trusted()?.map(|_| "--manifest-cert");
        match machine.or(boot).or(manifest).or(trust).or(self.keyring.option()) {
            Some(name) => Err(hinted(
                format!("{name} applies only to Parquet"),
                "add --to parquet, or use log verify",
            )),
            None => Ok(()),
        }
    }
}

impl TableSettings {
    pub(super) fn write(
        &self,
        sources: &[Source],
        output: &mut dyn Write,
    ) -> Result<Converted, ConvertError> {
        let values = PcrValues::default();
        let options = Options {
            banks: [].into(),
            values: &values,
            keyring: self.keyring.as_ref(),
            jobs: jobs(None),
        };
        let mut writer = ParquetWriter::new(output)?;
        let write = &mut |table: &_| writer.write(table).map_err(ConvertError::from);
        let manifest = self.manifest.as_ref();
        let report = tabulate(sources, &options, manifest, self.origin.clone(), write)?;
        writer.finish()?;
        let fault = match report.fault {
            Some(ListError::Malformed(fault)) => Some(fault),
            Some(error) => return Err(error.into()),
            None => None,
        };
        Ok(Converted { entries: report.counts.records, fault })
    }
}

/// A result that is kept.
pub(super) struct Converted {
    pub(super) entries: u64,
    /// Why the list could not be read to its end.
    pub(super) fault: Option<Box<Malformed>>,
}
