//! The values that a list is compared with.

use std::path::PathBuf;

use clap::Args;
use ima::attest::firmware;
use ima::attest::pcr::{self, PcrInput};
use ima::system::Machine;
use ima_format::measure::PcrValues;

use super::QuoteArgs;
use crate::error::Result;

/// The values that a list is compared with
#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// PCR values: output of tpm2_pcrread, ALGORITHM,FILE with lines "PCR-10: HEX" as evmctl reads
    /// them, a directory with pcr-sha256/10, or the file that tpm2_quote --pcr writes [default for this
    /// machine: its TPM]
    #[arg(long, value_name = "FILE")]
    pcrs: Vec<PathBuf>,
    /// The firmware's event log (/sys/kernel/security/tpm0/binary_bios_measurements): replayed, compared
    /// with the PCR values and with boot_aggregate [default for this machine: its log]
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) quote: QuoteArgs,
}

/// The machine that a list is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListOf {
    /// This one, whose TPM and event log can be read.
    ThisMachine,
    /// Another one.
    Another,
}

impl ReferenceArgs {
    /// The PCR values; `None` if there are none.
    pub(crate) fn values(&self, list: ListOf) -> Result<Option<PcrValues>> {
        let mut inputs: Vec<_> = self.pcrs.iter().map(|path| PcrInput::from(&**path)).collect();
        if inputs.is_empty() && list == ListOf::ThisMachine {
            let tpm = Machine::here().tpm_with_pcrs();
            inputs.extend(tpm.map(|path| PcrInput { bank: None, path }));
        }
        match inputs.is_empty() {
            true => Ok(None),
            false => Ok(Some(pcr::read(&inputs)?)),
        }
    }

    /// The PCR values that the event log results in; empty without a log.
    pub(crate) fn event_log(&self, list: ListOf) -> Result<PcrValues> {
        let here = || match list {
            ListOf::ThisMachine => Machine::here().event_log(),
            ListOf::Another => None,
        };
        match self.event_log.clone().or_else(here) {
            Some(path) => Ok(firmware::replay(&path)?),
            None => Ok(PcrValues::default()),
        }
    }
}
