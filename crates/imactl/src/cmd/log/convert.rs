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

use super::table::{Converted, TableArgs, TableSettings};
use super::{note_others, report_fault, streamed, watched, ListArgs};
use crate::error::{Context, Error, Result};
use crate::output::{count, Level, Output};
use crate::outputs::is_stdio;
use crate::Outcome;

/// Convert a measurement list to another form
///
/// Entries keep their template data, so that every form replays to the same PCR values. Nothing is verified;
/// see log verify. Parquet is the exception: a table for databases, with one row per entry and the verdicts
/// of log verify and log check. The result is written whole or not at all, unless it goes to standard output.
/// The exit status is 2 if the list cannot be read to its end; a Parquet file has a row for the error then.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    list: ListArgs,
    /// The form: the kernel's binary or ASCII form, a Canonical Event Log of the TCG, or an Apache Parquet
    /// file
    #[arg(long, value_name = "FORM")]
    to: FormArg,
    /// Compute the digests of a bank; several in a Canonical Event Log [default: the listed digests]
    #[arg(long, value_name = "ALGORITHM")]
    bank: Vec<HashAlgorithm>,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    Binary,
    Ascii,
    CelTlv,
    CelCbor,
    CelJson,
    Parquet,
}

impl ConvertArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        // CBOR begins with the number of entries
        let reading = match self.to {
            FormArg::CelCbor => Reading::Again,
            _ => Reading::Once,
        };
        let converter = match self.to {
            FormArg::Binary => Converter::Form(Form::Binary),
            FormArg::Ascii => Converter::Form(Form::Ascii),
            FormArg::CelTlv => Converter::Form(Form::Cel(CelEncoding::Tlv)),
            FormArg::CelCbor => Converter::Form(Form::Cel(CelEncoding::Cbor)),
            FormArg::CelJson => Converter::Form(Form::Cel(CelEncoding::Json)),
            FormArg::Parquet => Converter::Table(self.table.open(output)?),
        };
        match self.to {
            FormArg::Parquet if !self.bank.is_empty() => {
                return Err(Error::new(
                    "--bank does not apply to Parquet, which has no template digests",
                ))
            }
            FormArg::Parquet => {}
            _ => self.table.refuse()?,
        }
        let sources = self.list.open(reading)?;
        let path = self.output.as_deref().filter(|path| !is_stdio(path));
        let (sources, bar) = match path {
            None => streamed(sources, "converting", output),
            Some(_) => {
                let (sources, bar) = watched(sources, "converting", output);
                (sources, Some(bar))
            }
        };
        let converted = match path {
            None => {
                output.give_way();
                self.convert(&converter, &sources, &mut io::stdout().lock())
            }
            Some(path) => {
                let location = Location::of(path).at(path)?;
                let staged = Staged::replacing(location, 0o644).at(path)?;
                let converted = self.convert(&converter, &sources, &mut staged.as_file());
                if converted.is_ok() {
                    staged.complete().and_then(|()| staged.persist()).at(path)?;
                }
                converted
            }
        };
        if let Some(bar) = bar {
            bar.finish();
        }
        note_others(&sources, output);
        match converted {
            Ok(Converted { entries, fault }) => {
                output.line(Level::Normal, count(entries, "entry"))?;
                match fault {
                    Some(fault) => report_fault(&fault, output),
                    None => Ok(Outcome::Good),
                }
            }
            Err(ConvertError::List(ListError::Malformed(fault))) => report_fault(&fault, output),
            Err(error) => Err(error.into()),
        }
    }

    fn convert(
        &self,
        converter: &Converter,
        sources: &[Source],
        output: &mut dyn Write,
    ) -> Result<Converted, ConvertError> {
        let mut output = BufWriter::with_capacity(1 << 16, output);
        let converted = match converter {
            Converter::Form(form) => {
                let entries = convert(sources, *form, &self.bank, &mut output)?;
                Converted { entries, fault: None }
            }
            Converter::Table(table) => table.write(sources, &mut output)?,
        };
        output.flush()?;
        Ok(converted)
    }
}

/// The writer of the result.
enum Converter {
    Form(Form),
    Table(TableSettings),
}
