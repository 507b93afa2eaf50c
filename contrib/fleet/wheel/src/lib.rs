//! What `imactl/__init__.py` makes Arrow record batches of.
//!
//! A list is verified by threads of its own. Its tables come through a channel that has room for one, so that
//! memory does not grow with the list; Python's lock is not held meanwhile.

use std::num::NonZeroUsize;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;

use ima::attest::envelope::{Envelope, EnvelopeSignature};
use ima::attest::manifest::{Expected, Manifest as Files};
use ima::attest::pcr::{self, PcrInput};
use ima::attest::quote::{AttestationKey, SignedQuote};
use ima::attest::source::{Reading, Source};
use ima::attest::table::{tabulate, Origin, Table};
use ima::attest::verify::Options;
use ima::attest::ListError;
use ima::key::certificate::Certificate;
use ima::verify::Keyring as Keys;
use ima_format::hash::Digest;
use ima_format::hex;
use ima_format::measure::PcrValues;
use ima_format::parquet::{bits, Column, Kind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Certificates of the keys that sign files.
#[pyclass(frozen)]
struct Keyring(Arc<Keys>);

#[pymethods]
impl Keyring {
    #[new]
    fn new(paths: Vec<PathBuf>) -> PyResult<Self> {
        let mut certificates = Vec::new();
        for path in paths {
            certificates.extend(Certificate::read_all(&path).map_err(value_error)?);
        }
        Ok(Self(Arc::new(Keys::of_certificates(&certificates))))
    }
}

/// Files and their digests, by the names that lists have.
#[pyclass]
#[derive(Default)]
struct Manifest(Arc<Files>);

#[pymethods]
impl Manifest {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Adds a file with digests such as `sha256:0123...`.
    fn add(&mut self, path: &[u8], digests: Vec<String>) -> PyResult<()> {
        let name: Vec<_> =
            path.iter().map(|byte| if *byte == b' ' { b'_' } else { *byte }).collect();
        let digests = digests.iter().map(|text| {
            digest(text).ok_or_else(|| PyValueError::new_err(format!("not a digest: {text}")))
        });
        let digests = digests.collect::<PyResult<_>>()?;
        Arc::make_mut(&mut self.0).add(&name, Expected { digests, ..Expected::default() });
        Ok(())
    }
}

fn digest(text: &str) -> Option<Digest> {
    let (algorithm, digits) = text.split_once(':')?;
    Digest::new(algorithm.parse().ok()?, &hex::decode(digits.as_bytes()).ok()?)
}

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Whether a key of these certificates made one of the signatures of an envelope (DSSE).
#[pyfunction]
fn is_signed(
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    certificates: Vec<PathBuf>,
) -> PyResult<bool> {
    let mut trusted = Vec::new();
    for path in certificates {
        trusted.extend(Certificate::read_all(&path).map_err(value_error)?);
    }
    let signature = |signature| EnvelopeSignature { key_id: String::new(), signature };
    let signatures = signatures.into_iter().map(signature).collect();
    let envelope = Envelope { payload_type, payload, signatures };
    Ok(envelope.signer(&trusted).map_err(value_error)?.is_some())
}

/// The columns: their names and kinds.
#[pyfunction]
fn columns() -> Vec<(&'static str, &'static str)> {
    let table = Table::new(Origin::default());
    let columns = table.columns().iter();
    columns
        .map(|column| {
            let kind = match column.kind {
                Kind::Text => "text",
                Kind::Bytes => "bytes",
                Kind::Number => "number",
                Kind::Flag => "flag",
            };
            (column.name, kind)
        })
        .collect()
}

/// A column: how many of its values are null, and Arrow's buffers: which are not, where texts end, values.
type Buffers = (usize, Vec<Vec<u8>>);
type Batch = (usize, Vec<Buffers>);
/// The same for Python.
type PythonBuffers<'p> = (usize, Vec<Bound<'p, PyBytes>>);

fn batch(table: &Table) -> Batch {
    (table.rows(), table.columns().iter().map(buffers).collect())
}

fn buffers(column: &Column) -> Buffers {
    let valid: Vec<_> = column.valid.iter().map(|valid| u8::from(*valid)).collect();
    let nulls = valid.iter().filter(|valid| **valid == 0).count();
    let mut buffers = vec![bits(&valid).collect()];
    match column.kind {
        Kind::Text | Kind::Bytes => {
            let ends = [0].iter().chain(&column.ends);
            buffers.push(ends.flat_map(|end| end.to_le_bytes()).collect());
            buffers.push(column.bytes.clone());
        }
        Kind::Number => buffers.push(column.bytes.clone()),
        Kind::Flag => buffers.push(bits(&column.bytes).collect()),
    }
    (nulls, buffers)
}

/// A machine's list and what it is verified by.
struct Task {
    list: Vec<PathBuf>,
    origin: Origin,
    pcrs: Vec<PathBuf>,
    quote: Option<QuoteFiles>,
    keyring: Option<Arc<Keys>>,
    manifest: Option<Arc<Files>>,
}

/// A quote, its signature, the key, the nonce.
type QuoteFiles = (PathBuf, PathBuf, PathBuf, Vec<u8>);

/// The tables are no longer taken, or an error that is to be a row.
enum Stop {
    Dropped,
    Error(String),
}

impl From<ListError> for Stop {
    fn from(error: ListError) -> Self {
        Self::Error(error.to_string())
    }
}

impl Task {
    fn run(self, batches: &SyncSender<Batch>) {
        let verified = catch_unwind(AssertUnwindSafe(|| self.verify(batches)));
        // without a row the list would look complete
        let panicked =
            || Err(Stop::Error("internal error: a fault of imactl, please report it".into()));
        if let Err(Stop::Error(error)) = verified.unwrap_or_else(|_| panicked()) {
            let mut table = Table::new(self.origin);
            table.push_error(None, error);
            // an iterator that was dropped wants no error either
            drop(batches.send(batch(&table)));
        }
    }

    fn verify(&self, batches: &SyncSender<Batch>) -> Result<(), Stop> {
        let send = &mut |table: &Table| batches.send(batch(table)).map_err(|_| Stop::Dropped);
        let values = self.values(send)?;
        let sources = self.list.iter().map(|path| Source::open(path, Reading::Again));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let options = Options {
            banks: values.iter().map(|value| value.value.algorithm()).collect(),
            values: &values,
            keyring: self.keyring.as_deref(),
            jobs: NonZeroUsize::MIN,
        };
        let manifest = self.manifest.as_deref();
        tabulate(&sources, &options, manifest, self.origin.clone(), send)?;
        Ok(())
    }

    /// The values of PCRs; with a quote only those that it is over.
    fn values(&self, send: &mut dyn FnMut(&Table) -> Result<(), Stop>) -> Result<PcrValues, Stop> {
        let stop = |error: &dyn ToString| Stop::Error(error.to_string());
        let inputs: Vec<_> = self.pcrs.iter().map(|path| PcrInput::from(&**path)).collect();
        let given = pcr::read(&inputs).map_err(|error| stop(&error))?;
        let Some((quote, signature, ak, nonce)) = &self.quote else { return Ok(given) };
        let key = AttestationKey::read(ak).map_err(|error| stop(&error))?;
        let quote = SignedQuote::read(quote, signature).map_err(|error| stop(&error))?;
        let checked = quote.check(&key, nonce, &given).map_err(|error| stop(&error))?;
        let mut table = Table::new(self.origin.clone());
        table.push_quote(&checked.faults);
        send(&table)?;
        Ok(checked.values)
    }
}

/// The tables of a list.
#[pyclass(frozen)]
struct Batches(Mutex<Receiver<Batch>>);

#[pymethods]
impl Batches {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'p>(&self, py: Python<'p>) -> Option<(usize, Vec<PythonBuffers<'p>>)> {
        let (rows, columns) = py.allow_threads(|| self.0.lock().ok()?.recv().ok())?;
        let bytes = |buffer: &Vec<u8>| PyBytes::new(py, buffer);
        let column = |(nulls, buffers): &Buffers| (*nulls, buffers.iter().map(bytes).collect());
        Some((rows, columns.iter().map(column).collect()))
    }
}

#[pyfunction]
fn verify_list(
    list: Vec<PathBuf>,
    machine: Option<String>,
    boot: Option<String>,
    pcrs: Vec<PathBuf>,
    quote: Option<QuoteFiles>,
    keyring: Option<&Bound<'_, Keyring>>,
    manifest: Option<&Bound<'_, Manifest>>,
) -> Batches {
    let task = Task {
        list,
        origin: Origin { machine, boot },
        pcrs,
        quote,
        keyring: keyring.map(|keyring| Arc::clone(&keyring.get().0)),
        manifest: manifest.map(|manifest| Arc::clone(&manifest.borrow().0)),
    };
    let (send, receive) = sync_channel(1);
    thread::spawn(move || task.run(&send));
    Batches(Mutex::new(receive))
}

#[pymodule]
fn _imactl(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Keyring>()?;
    module.add_class::<Manifest>()?;
    module.add_function(wrap_pyfunction!(columns, module)?)?;
    module.add_function(wrap_pyfunction!(is_signed, module)?)?;
    module.add_function(wrap_pyfunction!(verify_list, module)?)?;
    Ok(())
}
