//! A list as rows of a table, the same in a Parquet file and as Arrow arrays.
//!
//! | column | content |
//! |---|---|
//! | `machine`, `boot` | names from the caller |
//! | `type` | [`RowType`] |
//! | `index` | the number of the entry |
//! | `pcr`, `template` | the PCR and the template of the entry |
//! | `path` | the path of the file, or the name of the event; U+FFFD for bytes that are not UTF-8 |
//! | `path_bytes` | the same as bytes, if it is not UTF-8 |
//! | `digest`, `algorithm` | the digest of the file: hexadecimal digits, and `sha256` or `verity:sha256` |
//! | `key_id` | the key ID in the signature |
//! | `verdict` | the result of verification; null if there was nothing to verify |
//! | `fit` | the result of comparing the file with the manifest; null without one |
//! | `violation` | whether the entry is a violation |
//! | `error` | the verdict as a sentence, unless it is good |
//!
//! The names and their meanings are an interface: new columns are added at the end.

use std::borrow::Cow;

use ima_format::hex::Hex;
use ima_format::measure::{DigestType, Entry, PcrValues};
use ima_format::parquet::{Column, Kind, Value};
use ima_format::xattr::{Attribute, KeyId};

use super::check::{is_signed, FindingKind};
use super::compare::{digest_of_file, fit};
use super::explain::{judge, Explanation, Judged, Verdict};
use super::manifest::Manifest;
use super::quote::QuoteFault;
use super::reader::Item;
use super::source::Source;
use super::verify::{verify_batches, Options, Report};
use super::ListError;

/// The columns.
const COLUMNS: [(&str, Kind); 15] = [
    ("machine", Kind::Text),
    ("boot", Kind::Text),
    ("type", Kind::Text),
    ("index", Kind::Number),
    ("pcr", Kind::Number),
    ("template", Kind::Text),
    ("path", Kind::Text),
    ("path_bytes", Kind::Bytes),
    ("digest", Kind::Text),
    ("algorithm", Kind::Text),
    ("key_id", Kind::Text),
    ("verdict", Kind::Text),
    ("fit", Kind::Text),
    ("violation", Kind::Flag),
    ("error", Kind::Text),
];

/// The subject of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowType {
    /// An entry of the list.
    #[default]
    Entry,
    /// A PCR that the list extends, with the value after the list.
    Pcr,
    /// The quote over the PCRs.
    Quote,
    /// An error: the list cannot be read from this entry on.
    Error,
}

/// A row.
#[derive(Debug, Default)]
struct Row<'a> {
    row_type: RowType,
    index: Option<u64>,
    pcr: Option<u32>,
    template: Option<Cow<'a, str>>,
    path: Option<&'a [u8]>,
    digest: Option<String>,
    algorithm: Option<Cow<'a, str>>,
    key_id: Option<KeyId>,
    verdict: Option<&'a str>,
    fit: Option<&'a str>,
    violation: bool,
    error: Option<String>,
}

/// Rows, stored by column.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: usize,
    origin: Origin,
}

/// The origin of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The machine.
    pub machine: Option<String>,
    /// The boot.
    pub boot: Option<String>,
}

impl Table {
    /// A table without rows.
    pub fn new(origin: Origin) -> Self {
        let columns = COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind)).collect();
        Self { columns, rows: 0, origin }
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The size of its values in bytes.
    pub fn size(&self) -> usize {
        self.columns.iter().map(|column| column.bytes.len()).sum()
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        self.rows = 0;
    }

    /// Appends a row with an error of a list or of its machine.
    pub fn push_error(&mut self, index: Option<u64>, error: String) {
        self.push(&Row { row_type: RowType::Error, index, error: Some(error), ..Row::default() });
    }

    /// Appends a row about a quote: `valid`, or the first of its faults.
    pub fn push_quote(&mut self, faults: &[QuoteFault]) {
        let words: Vec<_> = faults.iter().map(ToString::to_string).collect();
        self.push(&Row {
            row_type: RowType::Quote,
            verdict: Some(faults.first().map_or("valid", QuoteFault::word)),
            error: (!words.is_empty()).then(|| words.join("; ")),
            ..Row::default()
        });
    }

    fn push(&mut self, row: &Row<'_>) {
        let row_type = match row.row_type {
            RowType::Entry => "entry",
            RowType::Pcr => "pcr",
            RowType::Quote => "quote",
            RowType::Error => "error",
        };
        let path = row.path.map(String::from_utf8_lossy);
        let path_bytes = row.path.filter(|path| std::str::from_utf8(path).is_err());
        let key_id = row.key_id.map(|key_id| key_id.to_string());
        let values = [
            text(self.origin.machine.as_deref()),
            text(self.origin.boot.as_deref()),
            text(Some(row_type)),
            row.index.map_or(Value::Null, |index| Value::Number(index as i64)),
            row.pcr.map_or(Value::Null, |pcr| Value::Number(pcr.into())),
            text(row.template.as_deref()),
            text(path.as_deref()),
            path_bytes.map_or(Value::Null, Value::Bytes),
            text(row.digest.as_deref()),
            text(row.algorithm.as_deref()),
            text(key_id.as_deref()),
            text(row.verdict),
            text(row.fit),
            Value::Flag(row.violation),
            text(row.error.as_deref()),
        ];
        self.columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        self.rows += 1;
    }
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Null, |text| Value::Bytes(text.as_bytes()))
}

/// The limits of a table before it is passed to the caller: rows, and bytes of their values.
const ROWS: usize = 1 << 16;
const BYTES: usize = 16 << 20;

/// Verifies a list, and passes it to `sink` as tables of some 65,000 rows: one per entry, one per PCR with a
/// known value, and one for the error if the list cannot be read to its end. The manifest has the names of a list
/// ([`Manifest::as_measured`]).
///
/// # Errors
/// Those of `sink`, and those that are not faults of the list.
pub fn tabulate<E: From<ListError>>(
    sources: &[Source],
    options: &Options<'_>,
    manifest: Option<&Manifest>,
    origin: Origin,
    sink: &mut dyn FnMut(&Table) -> Result<(), E>,
) -> Result<Report, E> {
    let (mut table, mut result) = (Table::new(origin), Ok(()));
    let report = verify_batches(sources, options, &mut |checked| {
        let mut findings = checked.findings.iter().peekable();
        for item in checked.batch.items() {
            let mut worst = None;
            while let Some(finding) = findings.next_if(|finding| finding.index == item.index) {
                worst = worst.or(Some(&finding.kind));
            }
            push_entry(&mut table, &item, worst, options, manifest);
        }
        if result.is_ok() && (table.rows >= ROWS || table.size() >= BYTES) {
            result = sink(&table);
        }
        if table.rows >= ROWS || table.size() >= BYTES {
            table.clear();
        }
    })?;
    result?;
    if let Some(fault) = &report.fault {
        table.push_error(Some(report.counts.records), fault.to_string());
    }
    push_pcrs(&mut table, sources, &report, options.values)?;
    sink(&table)?;
    Ok(report)
}

fn push_entry(
    table: &mut Table,
    item: &Item<'_>,
    worst: Option<&FindingKind>,
    options: &Options<'_>,
    manifest: Option<&Manifest>,
) {
    let record = &item.record;
    let mut row = Row {
        index: Some(item.index),
        pcr: Some(record.pcr),
        template: Some(String::from_utf8_lossy(record.template.name())),
        violation: record.is_violation(),
        verdict: worst.map(FindingKind::word),
        error: worst.map(ToString::to_string),
        ..Row::default()
    };
    let Ok(entry) = Entry::decode(record) else { return table.push(&row) };
    row.path = Some(entry.name);
    if let Some(file) = entry.digest {
        row.digest = file.digest.map(|digest| Hex(digest.as_bytes()).to_string());
        let algorithm = file.digest.map(|digest| digest.algorithm()).or(file.algorithm);
        row.algorithm = algorithm.map(|algorithm| match file.digest_type {
            DigestType::Ima => algorithm.name().into(),
            DigestType::Verity => format!("verity:{algorithm}").into(),
        });
    }
    row.key_id = entry.signature.or(entry.evm_signature).and_then(key_id);
    let digest = digest_of_file(&entry);
    if options.keyring.is_some() && worst.is_none() {
        row.verdict = match (is_signed(&entry), digest) {
            (true, _) => Some("valid-signature"),
            (false, Some(_)) => Some("unsigned"),
            // an event, not a file
            (false, None) => None,
        };
    }
    let fit = manifest.zip(digest).map(|(manifest, digest)| fit(manifest, entry.name, &digest));
    row.fit = fit.map(|fit| fit.name());
    table.push(&row);
}

/// The key ID in a signature.
fn key_id(attribute: &[u8]) -> Option<KeyId> {
    match Attribute::decode(attribute).ok()? {
        Attribute::Signature(signature) => Some(signature.key_id),
        _ => None,
    }
}

fn push_pcrs(
    table: &mut Table,
    sources: &[Source],
    report: &Report,
    values: &PcrValues,
) -> Result<(), ListError> {
    if values.is_empty() {
        return Ok(());
    }
    for Judged { bank, register, verdict } in judge(sources, report, values)? {
        let (word, explanation) = match verdict {
            Verdict::Match { .. } => ("match", None),
            Verdict::Mismatch(explanation) => ("mismatch", Some(explanation)),
            Verdict::NoValue(explanation) => ("no-value", explanation),
        };
        let first = |explanation: Explanation| explanation.hypothesis.first();
        table.push(&Row {
            row_type: RowType::Pcr,
            index: explanation.and_then(first),
            pcr: Some(register.pcr),
            digest: Some(Hex(register.value.as_bytes()).to_string()),
            algorithm: Some(bank.name().into()),
            verdict: Some(word),
            error: explanation.map(|explanation| explanation.to_string()),
            ..Row::default()
        });
    }
    Ok(())
}
