//! `imactl log convert`

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ima::attest::convert::{convert, ConvertError, Form};
use ima::attest::source::{Reading, Source};
use ima::attest::ListError;
use ima::staging::{Location, Staged};
use ima::HashAlgorithm;
use ima_format::measure::cel::CelEncoding;

use super::{report_fault, ListArgs};
use crate::error::{Context, Result};
use crate::output::{count, Level, Output};
use crate::outputs::is_stdio;
use crate::Outcome;

/// Convert a measurement list to another form
///
/// Entries keep their template data, so that every form replays to the same PCR values. Nothing is verified;
/// see log verify. The result is written whole or not at all, unless it goes to standard output. The exit
/// status is 2 if the list cannot be read to its end.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    list: ListArgs,
    /// The form: the kernel's binary or ASCII form, or a Canonical Event Log of the TCG
    #[arg(long, value_name = "FORM")]
    to: FormArg,
    /// Compute the digests of a bank; several in a Canonical Event Log [default: the listed digests]
    #[arg(long, value_name = "ALGORITHM")]
    bank: Vec<HashAlgorithm>,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    Binary,
    Ascii,
    CelTlv,
    CelCbor,
    CelJson,
}

impl From<FormArg> for Form {
    fn from(form: FormArg) -> Self {
        match form {
            FormArg::Binary => Self::Binary,
            FormArg::Ascii => Self::Ascii,
            FormArg::CelTlv => Self::Cel(CelEncoding::Tlv),
            FormArg::CelCbor => Self::Cel(CelEncoding::Cbor),
            FormArg::CelJson => Self::Cel(CelEncoding::Json),
        }
    }
}

impl ConvertArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        // CBOR counts the entries first
        let reading = match self.to {
            FormArg::CelCbor => Reading::Again,
            _ => Reading::Once,
        };
        let sources = self.list.open(reading)?;
        let converted = match self.output.as_deref().filter(|path| !is_stdio(path)) {
            None => {
                output.give_way();
                self.convert(&sources, &mut io::stdout().lock())
            }
            Some(path) => {
                let name = || path.display().to_string();
                let location = Location::of(path).with_context(name)?;
                let staged = Staged::replacing(location, 0o644).with_context(name)?;
                let converted = self.convert(&sources, &mut staged.as_file());
                if converted.is_ok() {
                    staged.complete().and_then(|()| staged.persist()).with_context(name)?;
                }
                converted
            }
        };
        match converted {
            Ok(entries) => {
                output.line(Level::Normal, count(entries, "entry"))?;
                Ok(Outcome::Good)
            }
            Err(ConvertError::List(ListError::Malformed(fault))) => report_fault(&fault, output),
            Err(error) => Err(error.into()),
        }
    }

    fn convert(&self, sources: &[Source], output: &mut dyn Write) -> Result<u64, ConvertError> {
        let mut output = BufWriter::with_capacity(1 << 16, output);
        let entries = convert(sources, self.to.into(), &self.bank, &mut output)?;
        output.flush()?;
        Ok(entries)
    }
}
