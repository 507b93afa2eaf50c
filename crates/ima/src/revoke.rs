//! Revocation: entries that deny digests and certificates, and their signatures.
//!
//! Mirrors `ima_check_blacklist()` in `security/integrity/ima/ima_appraise.c` (which digest of a file is
//! looked up) and `x509_get_sig_params()` in `crypto/asymmetric_keys/x509_public_key.c` (which of a
//! certificate). The entries are in [`ima_format::blacklist`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ima_format::blacklist::{Entry, Kind};
use ima_format::hash::HashAlgorithm;
use ima_format::policy::decide::attribute_algorithm;
use ima_format::policy::kernel::{Kernel, KernelVersion};
use ima_format::x509;
use ima_format::xattr::XATTR_NAME_IMA;
use rustix::io::Errno;

use crate::advice::Advice;
use crate::digest::{DigestError, FileHasher, Hasher};
use crate::input::{self, ReadError, TEXT_MAX};
use crate::key::certificate::Certificate;
use crate::key::{Message, SignError, Signer};
use crate::modsig::{self, Over};
use crate::verify::Revocations;

/// Why revocations could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has something else.
    #[error("{}: neither a blacklist entry nor a certificate: {text:?}", path.display())]
    NotAnEntry {
        /// The file.
        path: PathBuf,
        /// What it has.
        text: String,
    },
}

impl Advice for RevocationError {
    fn advice(&self) -> Option<&'static str> {
        matches!(self, Self::NotAnEntry { .. }).then_some(
            "give a signed entry, a certificate, or a list as CONFIG_SYSTEM_BLACKLIST_HASH_LIST \
             has it",
        )
    }
}

/// Reads revocations from a file: a signed entry, a certificate, or a list of entries.
///
/// # Errors
/// It cannot be read, or has something else.
pub fn read(path: &Path, into: &mut Revocations) -> Result<(), RevocationError> {
    let bytes = input::read_path(path, TEXT_MAX)?;
    if let Some(entry) = Entry::split_signed(&bytes).and_then(|(text, _)| Entry::parse(text)) {
        into.added.push(entry);
        return Ok(());
    }
    let certificates = Certificate::parse_all(&bytes).unwrap_or_default();
    if !certificates.is_empty() {
        into.certificates.extend(certificates);
        return Ok(());
    }
    let is_between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b',');
    for text in bytes.split(is_between).filter(|text| !text.is_empty()) {
        let not_an_entry = || RevocationError::NotAnEntry {
            path: path.to_owned(),
            text: String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned(),
        };
        into.built_in.push(Entry::parse(text).ok_or_else(not_an_entry)?);
    }
    Ok(())
}

/// The entries that deny a file: its digest, by the algorithm of its `security.ima` or else
/// SHA-256, and that of its content before an appended signature, by that one's.
///
/// # Errors
/// Those of reading it; a file that is not regular, or changed.
pub fn entries_of(path: &Path) -> Result<Vec<Entry>, DigestError> {
    let file = File::open(path).map_err(DigestError::Read)?;
    let metadata = file.metadata().map_err(DigestError::Read)?;
    if !metadata.is_file() {
        return Err(DigestError::Read(io::Error::other("not a regular file")));
    }
    let size = metadata.len();
    let found = modsig::read(size, |offset, to| {
        rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut *to, offset))
            .map_err(io::Error::from)
    });
    let mut digested = vec![(looked_up_by(attribute_of(&file)?.as_deref()), size)];
    if let Some(Ok(appended)) = found.map_err(DigestError::Read)? {
        let message = ima_format::modsig::Message::parse(&appended.message);
        let signers = message.map(|message| message.signers).unwrap_or_default();
        let hashes = signers.iter().filter_map(|signer| signer.hash);
        digested.extend(hashes.map(|hash| (hash, appended.content)));
    }
    let mut hasher = FileHasher::default();
    let entry = |(algorithm, size): (HashAlgorithm, u64)| match hasher.digest(
        &file,
        size,
        algorithm,
        &|_| {},
    )? {
        (digest, read) if read == size => {
            Ok(Entry { kind: Kind::Binary, digest: digest.as_bytes().to_vec() })
        }
        _ => Err(DigestError::Read(io::Error::other("changed while it was read"))),
    };
    digested.into_iter().map(entry).collect()
}

/// The algorithm of the digest that the kernel looks up, by the `security.ima` of a file. Older kernels
/// do not read all that the newest reads, and deny it for that.
pub(crate) fn looked_up_by(attribute: Option<&[u8]>) -> HashAlgorithm {
    attribute_algorithm(attribute, &Kernel::new(KernelVersion::V7_3))
}

fn attribute_of(file: &File) -> Result<Option<Vec<u8>>, DigestError> {
    let mut value = vec![0; 1 << 16];
    match rustix::fs::fgetxattr(file, XATTR_NAME_IMA, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(DigestError::Read(error.into())),
    }
}

/// The entries that deny a certificate: its signed part by SHA-256, as Linux 7.2 looks it up, and
/// by the algorithm of its own signature, as Linux 6.12 does. None for one that no kernel can read.
///
/// # Errors
/// The hash algorithm is not at hand.
pub fn entries_of_certificate(certificate: &Certificate) -> Result<Vec<Entry>, DigestError> {
    let Ok(fields) = x509::Certificate::parse(certificate.der()) else { return Ok(Vec::new()) };
    let own = fields.signature_algorithm.hash();
    let own = own.filter(|hash| *hash != HashAlgorithm::Sha256);
    let hashes = [HashAlgorithm::Sha256].into_iter().chain(own);
    let entry = |hash| {
        let digest = Hasher::new(hash)?.digest(fields.signed)?;
        Ok(Entry { kind: Kind::Certificate, digest: digest.as_bytes().to_vec() })
    };
    hashes.map(entry).collect()
}

/// An entry with a signature of its text, for a kernel that has the certificate built in.
///
/// # Errors
/// Those of [`modsig::message`].
pub fn sign(
    entry: &Entry,
    signer: &dyn Signer,
    certificate: &Certificate,
) -> Result<Vec<u8>, SignError> {
    let text = entry.to_string();
    let signed = match Over::of(signer.public_key().key_type(), HashAlgorithm::Sha256) {
        Over::Digest(hash) => Message::Digest(Hasher::new(hash)?.digest(text.as_bytes())?),
        Over::Content => Message::Bytes(text.clone().into_bytes()),
    };
    let message = modsig::message(signer, certificate, &signed)?;
    Ok([text.as_bytes(), b"\n", &message].concat())
}
