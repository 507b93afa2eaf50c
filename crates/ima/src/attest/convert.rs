//! Conversion of a list to another form.
//!
//! Records keep their template data, so every form replays to the same PCRs. Only the ASCII form is lossy: it drops the
//! bytes of a name after a NUL, which no kernel writes, and the end of a name is lost if it contains a newline followed
//! by text in the form of a record.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::cel::{extension, CelEncoding, CelRecord};
use ima_format::measure::Record;
use ima_format::Error as FormatError;

use super::reader::{Batch, Item, ListReader};
use super::source::Source;
use super::{hash, ListError};
use crate::advice::Advice;
use crate::digest::{DigestError, FileHasher};

/// A form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the kernel's `binary_runtime_measurements`.
    Binary,
    /// As the kernel's `ascii_runtime_measurements`.
    Ascii,
    /// A Canonical Event Log.
    Cel(CelEncoding),
}

/// Why a list could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The list cannot be read to its end.
    #[error(transparent)]
    List(#[from] ListError),
    /// Digests of another bank were requested, but the data of a record do not have the listed digest.
    #[error("entry {index} was changed: its data do not result in its template digest")]
    Changed {
        /// The record.
        index: u64,
    },
    /// A record that the form cannot represent.
    #[error("entry {index} is malformed: {error}")]
    Malformed {
        /// The record.
        index: u64,
        /// The offset and the fault.
        error: FormatError,
    },
    /// A list in the kernel's form has one digest per record.
    #[error("this form has the digests of one bank")]
    OneBank,
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl Advice for ConvertError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::List(error) => error.advice(),
            Self::Changed { .. } => Some(
                "see imactl log verify; without --bank the listed digests are written as they are",
            ),
            Self::OneBank => Some("give --bank once, or convert to a Canonical Event Log"),
            _ => None,
        }
    }
}

/// Writes a list in a form, with the digests of these banks, or with the listed digests if there are no banks; returns
/// the number of records.
///
/// # Errors
/// A list that cannot be read to its end; a record whose data do not have the listed digest, if digests are computed.
pub fn convert(
    sources: &[Source],
    form: Form,
    banks: &[HashAlgorithm],
    output: &mut dyn Write,
) -> Result<u64, ConvertError> {
    if banks.len() > 1 && !matches!(form, Form::Cel(_)) {
        return Err(ConvertError::OneBank);
    }
    let mut buffer = Vec::new();
    if let Form::Cel(encoding) = form {
        let count = match encoding {
            CelEncoding::Cbor => each(sources, &mut |_, _| Ok(()))?,
            _ => 0,
        };
        encoding.start_into(count, &mut buffer);
    }
    let hashers = FileHasher::default();
    let mut converter = Converter { form, banks, numbers: BTreeMap::new(), hashers };
    let count = each(sources, &mut |item, algorithm| {
        converter.item(item, algorithm, &mut buffer)?;
        if buffer.len() >= 1 << 16 {
            output.write_all(&buffer)?;
            buffer.clear();
        }
        Ok(())
    })?;
    if let Form::Cel(encoding) = form {
        encoding.end_into(&mut buffer);
    }
    output.write_all(&buffer)?;
    Ok(count)
}

/// Passes each record with the algorithm of its listed digest to a function; returns the number of records.
fn each(
    sources: &[Source],
    take: &mut dyn FnMut(&Item<'_>, HashAlgorithm) -> Result<(), ConvertError>,
) -> Result<u64, ConvertError> {
    let (mut reader, mut batch) = (ListReader::new(sources.iter().cloned()), Batch::default());
    let mut count = 0;
    loop {
        reader.next(&mut batch)?;
        if batch.is_empty() {
            return Ok(count);
        }
        for item in batch.items() {
            take(&item, batch.algorithm())?;
        }
        count += batch.len() as u64;
    }
}

struct Converter<'a> {
    form: Form,
    banks: &'a [HashAlgorithm],
    /// The number of the next record of each PCR.
    numbers: BTreeMap<u32, u64>,
    hashers: FileHasher,
}

impl Converter<'_> {
    fn item(
        &mut self,
        item: &Item<'_>,
        algorithm: HashAlgorithm,
        output: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let Item { index, record, .. } = *item;
        let digests = self.digests(&record, algorithm, index)?;
        let listed = match digests.first().filter(|_| !self.banks.is_empty()) {
            Some(digest) if record.is_violation() => vec![0; digest.as_bytes().len()],
            Some(digest) => digest.as_bytes().to_vec(),
            None => record.digest.to_vec(),
        };
        let listed = Record { digest: &listed, ..record };
        match self.form {
            Form::Binary => listed.encode_into(output),
            Form::Ascii => listed
                .print_into(output)
                .map_err(|error| ConvertError::Malformed { index, error })?,
            Form::Cel(encoding) => {
                let next = self.numbers.entry(record.pcr).or_default();
                let number = *next;
                *next += 1;
                let (pcr, name) = (record.pcr, record.template.name().to_vec());
                let data = record.data.to_vec();
                let digests = digests.iter();
                let digests = digests
                    .filter_map(|digest| extension(&record, digest.algorithm(), digest))
                    .collect();
                CelRecord { number, pcr, digests, name, data }.encode_into(
                    encoding,
                    index == 0,
                    output,
                );
            }
        }
        Ok(())
    }

    /// The template digests of the banks; the listed digest if there are no banks.
    fn digests(
        &mut self,
        record: &Record<'_>,
        algorithm: HashAlgorithm,
        index: u64,
    ) -> Result<Vec<Digest>, ConvertError> {
        let hashers = &mut self.hashers;
        let mut digest =
            |bank| -> Result<Digest, DigestError> { hash(hashers.hasher(bank)?, record) };
        if self.banks.is_empty() {
            return Ok(Digest::new(algorithm, record.digest).into_iter().collect());
        }
        let listed = digest(algorithm).map_err(ListError::from)?;
        if listed.as_bytes() != record.digest && !record.is_violation() {
            return Err(ConvertError::Changed { index });
        }
        let digests: Result<_, DigestError> = self.banks.iter().map(|bank| digest(*bank)).collect();
        Ok(digests.map_err(ListError::from)?)
    }
}
