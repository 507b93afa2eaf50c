//! Signed manifests: a DSSE envelope with an in-toto statement, whose subjects are the files and whose predicate is
//! the manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use ima::attest::envelope::{Envelope, EnvelopeSignature};
use ima::attest::manifest::Manifest;
use ima::key::certificate::Certificate;
use ima::key::Signer;
use ima_format::base64;
use ima_format::hex::Hex;
use serde::{Deserialize, Serialize};

use super::text::{Line, ReadLine, VERSION};
use crate::error::{hinted, Error, Result};
use crate::output::Output;

/// The media type of in-toto, and the type of a version 1 statement.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "urn:imactl:manifest:v1";

/// Signed manifests
#[derive(Debug, Args)]
#[command(next_help_heading = "Manifest")]
pub(crate) struct TrustArgs {
    /// A certificate (PEM or DER) whose key must have signed the manifests; may be repeated: one is enough
    /// [default: signatures of manifests are not verified]
    #[arg(long, value_name = "CERT")]
    manifest_cert: Vec<PathBuf>,
}

impl TrustArgs {
    /// The trusted certificates; `None` if signatures are not verified.
    pub(crate) fn trusted(&self) -> Result<Option<Vec<Certificate>>> {
        if self.manifest_cert.is_empty() {
            return Ok(None);
        }
        let read = self.manifest_cert.iter().map(|path| Certificate::read_all(path));
        Ok(Some(read.collect::<Result<Vec<_>, _>>()?.concat()))
    }
}

#[derive(Serialize, Deserialize)]
struct JsonEnvelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<JsonSignature>,
}

#[derive(Serialize, Deserialize)]
struct JsonSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A statement as it is written. Reading ignores the subjects, which repeat the predicate.
#[derive(Serialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Subject<'a>>,
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Predicate<Line>,
}

#[derive(Deserialize)]
struct ReadStatement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate<ReadLine>,
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Predicate<L> {
    version: u32,
    files: Vec<L>,
}

/// Signs a manifest, and wraps it in an envelope.
pub(super) fn seal(manifest: &Manifest, signer: &dyn Signer) -> Result<Vec<u8>> {
    // a subject's name must be text; the predicate has all files
    let named = manifest.0.iter().filter_map(|(path, file)| {
        let name = std::str::from_utf8(path).ok()?;
        Some((name, file))
    });
    let subject = named.flat_map(|(name, file)| {
        file.digests.iter().map(move |digest| {
            // in-toto's DigestSet has sha3_256 for the kernel's sha3-256
            let algorithm = digest.algorithm().name().replace('-', "_");
            Subject { name, digest: [(algorithm, Hex(digest.as_bytes()).to_string())].into() }
        })
    });
    let files = manifest.0.iter().map(|(path, file)| Line::new(path, file)).collect();
    let statement = Statement {
        kind: STATEMENT,
        subject: subject.collect(),
        predicate_type: PREDICATE,
        predicate: Predicate { version: VERSION, files },
    };
    let failed = |error: serde_json::Error| Error::new(error.to_string());
    let payload = serde_json::to_vec(&statement).map_err(failed)?;
    let envelope = Envelope::sign(signer, PAYLOAD_TYPE, payload)?;
    let json = JsonEnvelope {
        payload: base64::encode(&envelope.payload),
        payload_type: envelope.payload_type,
        signatures: envelope.signatures.into_iter().map(JsonSignature::from).collect(),
    };
    let mut text = serde_json::to_vec(&json).map_err(failed)?;
    text.push(b'\n');
    Ok(text)
}

impl From<EnvelopeSignature> for JsonSignature {
    fn from(EnvelopeSignature { key_id, signature }: EnvelopeSignature) -> Self {
        Self { keyid: key_id, sig: base64::encode(&signature) }
    }
}

/// The manifest in an envelope; `None` if the content is not an envelope. If certificates are trusted, one
/// of their keys must have signed it.
pub(super) fn open(
    name: &str,
    content: &[u8],
    trusted: Option<&[Certificate]>,
    output: &mut Output,
) -> Result<Option<Manifest>> {
    let Ok(json) = serde_json::from_slice::<JsonEnvelope>(content) else { return Ok(None) };
    let malformed = |why: &str| Error::new(format!("{name}: {why}"));
    let envelope = json.decode().ok_or_else(|| malformed("malformed Base64 in the envelope"))?;
    // the payload is parsed only after its signature: until then it is untrusted
    match trusted {
        Some(trusted) if envelope.signer(trusted)?.is_none() => {
            return Err(hinted(
                format!("{name}: not signed by a trusted key"),
                "give the certificate of its key with --manifest-cert",
            ));
        }
        Some(_) => {}
        None => output.warn(&format!("{name}: signature not verified (give --manifest-cert)")),
    }
    if envelope.payload_type != PAYLOAD_TYPE {
        let found = &envelope.payload_type;
        return Err(malformed(&format!("payload of type {found:?}, expected {PAYLOAD_TYPE}")));
    }
    let statement: ReadStatement = serde_json::from_slice(&envelope.payload)
        .map_err(|error| malformed(&format!("in the payload: {error}")))?;
    let ReadStatement { kind, predicate_type, predicate } = statement;
    if (&*kind, &*predicate_type, predicate.version) != (STATEMENT, PREDICATE, VERSION) {
        return Err(malformed(&format!(
            "expected {PREDICATE} of version {VERSION} in a statement of {STATEMENT}"
        )));
    }
    let mut manifest = Manifest::default();
    for (file, number) in predicate.files.into_iter().zip(0..) {
        let added = file.add_to(&mut manifest);
        added.map_err(|why| malformed(&format!("file {number} of the payload: {why}")))?;
    }
    Ok(Some(manifest))
}

impl JsonEnvelope {
    fn decode(self) -> Option<Envelope> {
        let signature = |it: JsonSignature| {
            Some(EnvelopeSignature { key_id: it.keyid, signature: decode(&it.sig)? })
        };
        Some(Envelope {
            payload: decode(&self.payload)?,
            payload_type: self.payload_type,
            signatures: self.signatures.into_iter().map(signature).collect::<Option<_>>()?,
        })
    }
}

/// Decodes Base64 of the standard or the URL alphabet: DSSE allows both.
fn decode(text: &str) -> Option<Vec<u8>> {
    base64::decode(text.replace('-', "+").replace('_', "/").as_bytes())
}
