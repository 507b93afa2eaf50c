//! Signs the files of packages.

use std::io;
use std::sync::{Arc, OnceLock};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::rpm::{File, PackageType, ReservedSpace};
use ima_format::xattr::KeyId;

use super::write::{write, Destination};
use super::{payload, Content, Crew, PackageError, Packages, Payload, Sink};
use crate::container::Progress;
use crate::container::{ItemError, LeftOver};
use crate::key::Signer;
use crate::operation::SignMode;
use crate::sign::Labeler;

/// How packages are signed.
#[allow(missing_debug_implementations)] // a signer may hold a device
pub struct SignOptions<'a> {
    /// With which key.
    pub signer: &'a dyn Signer,
    /// Where to.
    pub destination: Destination,
    /// What becomes of the filler.
    pub reserved: ReservedSpace,
    /// Which packages need it.
    pub mode: SignMode,
    /// Whether digests that collisions can be made of are signed.
    pub weak_digests: WeakDigests,
    /// Whether the payload is read first, and compared with the digests that are signed.
    pub payload: Payload,
    /// Whether source packages are signed.
    pub source_packages: bool,
    /// Whether to change anything.
    pub dry_run: bool,
}

/// What is done with digests that collisions can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeakDigests {
    /// They are not signed.
    Refused,
    /// They are.
    Signed,
}

/// What became of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Whether it was written; in a dry run, whether it would have been.
    pub changed: bool,
    /// How many of its files have a signature.
    pub files: u64,
    /// The signing key.
    pub key_id: KeyId,
    /// The digests' algorithm.
    pub algorithm: HashAlgorithm,
}

/// Signs packages, each on its own: one that fails does not stop the others.
///
/// # Errors
/// Those of `sink`; a package's are in its report.
pub fn sign(
    packages: &Packages,
    options: &SignOptions<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Signed>,
) -> io::Result<()> {
    let crew = Crew::new(packages.jobs.get());
    // set by the first package at which the key was lost
    let key_lost = OnceLock::new();
    let start = || {
        |content: &Content<'_>| {
            if let Some(error) = key_lost.get() {
                return Err(ItemError::KeyLost(Arc::clone(error)).into());
            }
            let signed = sign_one(content, options, &crew);
            if let Err(PackageError::File(ItemError::Sign(error))) = &signed {
                if error.is_lasting() {
                    key_lost.get_or_init(|| Arc::clone(error));
                }
            }
            signed
        }
    };
    packages.run(LeftOver::LeftOut, progress, &crew, start, sink)
}

fn sign_one(
    content: &Content<'_>,
    options: &SignOptions<'_>,
    crew: &Crew,
) -> Result<Signed, PackageError> {
    if content.identity.package_type == PackageType::Source && !options.source_packages {
        return Err(PackageError::Source);
    }
    let algorithm = content.files.algorithm();
    if algorithm.is_weak() && options.weak_digests == WeakDigests::Refused {
        return Err(PackageError::WeakDigests(algorithm));
    }
    content.check_header()?;
    if let Some((one, other)) = content.files.names_that_disagree() {
        let name = |file| String::from_utf8_lossy(&content.files.path(file)).into_owned();
        return Err(PackageError::NamesDisagree(name(one), name(other)));
    }
    let labeler = Labeler::Signature(options.signer);
    let selected = |file: &File| file.digest.filter(|_| content.selects(file));
    let digests: Vec<Option<Digest>> = content.files.iter().map(selected).collect();
    // of files that are not meant, what they have stays
    let mut existing = match content.selects_all() {
        true => None,
        false => content.signature.file_signatures(digests.len())?,
    };
    let signed = Signed {
        changed: false,
        files: digests.iter().flatten().count() as u64,
        key_id: options.signer.key_id(),
        algorithm,
    };
    if options.mode == SignMode::Changed && is_signed(content, labeler, &digests)? {
        write(content, content.signature.bytes(), &options.destination, options.dry_run)?;
        return Ok(signed);
    }
    if options.payload == Payload::Unpacked {
        payload::unpack(content)?.check(&content.files)?;
    }
    let mut signatures = crew.for_each(digests.len(), || {
        let mut session = None;
        let digests = &digests;
        Ok::<_, PackageError>(move |index: usize| {
            let mut value = Vec::new();
            if let Some(digest) = digests[index] {
                let session = match &mut session {
                    Some(session) => session,
                    none => none.insert(labeler.session()?),
                };
                session.label(&digest, &mut value)?;
            }
            Ok(value)
        })
    })?;
    for (index, file) in content.files.iter().enumerate() {
        let kept = existing.as_mut().and_then(|existing| existing.get_mut(index));
        if let (Some(kept), false) = (kept, content.selects(file)) {
            signatures[index] = std::mem::take(kept);
        }
    }
    let header = content.signature.with_file_signatures(&signatures, options.reserved)?;
    let changed = header != content.signature.bytes();
    write(content, &header, &options.destination, options.dry_run)?;
    Ok(Signed { changed, ..signed })
}

/// Whether every file has a good signature by this key already.
fn is_signed(
    content: &Content<'_>,
    labeler: Labeler<'_>,
    digests: &[Option<Digest>],
) -> Result<bool, PackageError> {
    let Some(existing) = content.signature.file_signatures(digests.len())? else {
        return Ok(digests.iter().all(Option::is_none));
    };
    let mut session = labeler.session()?;
    let selected = content.files.iter().map(|file| content.selects(file));
    for ((existing, digest), selected) in existing.iter().zip(digests).zip(selected) {
        let good = match digest {
            Some(digest) => session.keeps(existing, digest)?,
            None if !selected => true,
            None => existing.is_empty(),
        };
        if !good {
            return Ok(false);
        }
    }
    Ok(true)
}
