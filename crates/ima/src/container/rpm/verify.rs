//! Verifies packages: each file's signature over the digest that the header lists, and where
//! it is asked for the content of the payload.

use std::{fmt, io};

use ima_format::hash::HashAlgorithm;
use ima_format::rpm::File;

use super::payload::{self, PayloadFinding};
use super::{Content, Crew, Identity, PackageError, Packages, Sink};
use crate::container::LeftOver;
use crate::container::Progress;
use crate::verify::{Keyring, Requirement, Verdict, Verifier};

/// How packages are verified.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// The trusted keys.
    pub keyring: &'a Keyring,
    /// What is read.
    pub payload: Payload,
}

/// Whether the payload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Only the headers are.
    Left,
    /// It is unpacked, and each file's content compared with its digest.
    Unpacked,
}

/// What was found of a package.
#[derive(Debug)]
pub struct Verification {
    /// Which package it is.
    pub identity: Identity,
    /// The algorithm of its file digests.
    pub algorithm: HashAlgorithm,
    /// The digests that it has of itself.
    pub digests: Vec<DigestCheck>,
    /// Its files, in its own order.
    pub files: Vec<FileVerification>,
    /// What is wrong with the payload as a whole.
    pub payload: Vec<PayloadFinding>,
}

/// A digest that a package has of a part of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestCheck {
    /// Of which part: `header`, `payload`, `header+payload`.
    pub part: &'static str,
    /// Its algorithm.
    pub algorithm: HashAlgorithm,
    /// Whether it fits.
    pub matches: bool,
}

/// What was found of a file.
#[derive(Debug)]
pub struct FileVerification {
    /// Its path.
    pub path: Vec<u8>,
    /// Its size in bytes.
    pub size: u64,
    /// Of its signature; directories, links, devices and ghosts should have none.
    pub verdict: Option<FileVerdict>,
    /// Of its content, where the payload was unpacked.
    pub content: Option<FileContent>,
}

/// What the kernel would say of a file, once it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileVerdict {
    /// This.
    Kernel(Verdict),
    /// The signature is over a digest of this algorithm, which the header does not have.
    OtherAlgorithm(HashAlgorithm),
    /// The header has no digest of this regular file: rpm does not install it.
    NoDigest,
    /// The header says another digest or size than of the name of this hard link that has the
    /// content.
    NameDisagrees,
    /// It has a signature, and no content: a directory, a link, a device or a ghost.
    NoContent,
}

/// Whether a file's content is what the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent {
    /// It is.
    Matches,
    /// It is not.
    Differs,
    /// The payload does not have it.
    Missing,
    /// The header has no digest to compare it with.
    NoDigest,
}

impl fmt::Display for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Matches => "the content matches",
            Self::Differs => "the payload has another content than the header says",
            Self::Missing => "the payload does not have it",
            Self::NoDigest => "the header has no digest of it",
        })
    }
}

impl FileVerification {
    /// Whether there is nothing to complain of.
    pub fn is_good(&self) -> bool {
        let signed = match &self.verdict {
            None => true,
            Some(FileVerdict::Kernel(verdict)) => verdict.is_valid(),
            Some(_) => false,
        };
        signed && matches!(self.content, None | Some(FileContent::Matches))
    }
}

impl Verification {
    /// Whether there is nothing to complain of.
    pub fn is_good(&self) -> bool {
        self.digests.iter().all(|digest| digest.matches)
            && self.files.iter().all(FileVerification::is_good)
            && self.payload.is_empty()
    }
}

/// Verifies packages.
///
/// # Errors
/// Those of `sink`; a package's are in its report.
pub fn verify(
    packages: &Packages,
    options: &VerifyOptions<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Verification>,
) -> io::Result<()> {
    let crew = Crew::new(packages.jobs.get());
    let start = || |content: &Content<'_>| verify_one(content, options, &crew);
    packages.run(LeftOver::Found, progress, &crew, start, sink)
}

fn verify_one(
    content: &Content<'_>,
    options: &VerifyOptions<'_>,
    crew: &Crew,
) -> Result<Verification, PackageError> {
    let list = &content.files;
    let signatures = content.signature.file_signatures(list.len())?.unwrap_or_default();
    let entries: Vec<_> = list.iter().zip(list.content_holders()).collect();
    let verdicts = crew.for_each(entries.len(), || {
        let mut verifier = Verifier::new(options.keyring.clone());
        let (entries, signatures) = (&entries, &signatures);
        Ok::<_, PackageError>(move |index: usize| {
            let value = signatures.get(index).map(Vec::as_slice);
            let (file, holder) = entries[index];
            let holder = list.get(holder).unwrap_or(file);
            Ok(verdict(&mut verifier, value, file, holder))
        })
    })?;
    let mut digests: Vec<DigestCheck> = content
        .header_digests()?
        .into_iter()
        .map(|own| DigestCheck { part: "header", algorithm: own.algorithm, matches: own.matches })
        .collect();
    let mut payload = Vec::new();
    let mut contents = vec![None; entries.len()];
    if options.payload == Payload::Unpacked {
        let unpacked = payload::unpack(content)?;
        digests.extend(unpacked.digests);
        payload.extend(unpacked.finding);
        contents = unpacked.files;
    }
    content.open.check_unchanged()?;
    let found = entries.iter().zip(verdicts).zip(contents);
    Ok(Verification {
        identity: content.identity.clone(),
        algorithm: list.algorithm(),
        digests,
        files: found
            .filter(|(((file, _), _), _)| content.selects(file))
            .map(|(((file, _), verdict), content)| FileVerification {
                path: list.path(file),
                size: file.size,
                verdict,
                content,
            })
            .collect(),
        payload,
    })
}

/// The verdict on a file, of which `holder` is the name with the content.
fn verdict(
    verifier: &mut Verifier,
    value: Option<&[u8]>,
    file: &File,
    holder: &File,
) -> Option<FileVerdict> {
    let has_signature = value.is_some_and(|value| !value.is_empty());
    let Some(digest) = file.digest else {
        return match file.has_content() {
            true => Some(FileVerdict::NoDigest),
            false => has_signature.then_some(FileVerdict::NoContent),
        };
    };
    if !file.agrees_with(holder) {
        return Some(FileVerdict::NameDisagrees);
    }
    let digest_of = |algorithm| match digest.algorithm() == algorithm {
        true => Ok(digest),
        false => Err(algorithm),
    };
    Some(match verifier.verdict(Requirement::Signature, value, digest_of) {
        Ok(verdict) => FileVerdict::Kernel(verdict),
        Err(algorithm) => FileVerdict::OtherAlgorithm(algorithm),
    })
}
