//! Shows what packages carry, without judging it.

use std::io;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::rpm::{tag, FILE_CONFIG, FILE_GHOST};
use ima_format::xattr::Attribute;
use ima_format::Error as FormatError;

use super::{Content, Crew, Identity, Packages, Sink};
use crate::container::LeftOver;
use crate::container::Progress;

/// What a package carries.
#[derive(Debug)]
pub struct Inspection {
    /// Which package it is.
    pub identity: Identity,
    /// The algorithm of its file digests.
    pub algorithm: HashAlgorithm,
    /// Its files, in its own order.
    pub files: Vec<FileInspection>,
    /// Whether it has file signatures at all.
    pub has_signatures: bool,
    /// Size of the signature header, its pad included, in bytes.
    pub signature_header_size: usize,
    /// Bytes of it that are filler.
    pub reserved_space: usize,
}

/// What a file of a package carries.
#[derive(Debug)]
pub struct FileInspection {
    /// Its path.
    pub path: Vec<u8>,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the administrator may change it.
    pub is_config: bool,
    /// Whether the package only lays claim to it.
    pub is_ghost: bool,
    /// The digest of its content.
    pub digest: Option<Digest>,
    /// Its file signature: the value of `security.ima`.
    pub value: Option<Vec<u8>>,
    /// The value decoded, or what is malformed in it.
    pub attribute: Option<Result<Attribute, FormatError>>,
}

/// Reads the file signatures of packages.
///
/// # Errors
/// Those of `sink`; a package's are in its report.
pub fn inspect(
    packages: &Packages,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Inspection>,
) -> io::Result<()> {
    let crew = Crew::new(packages.jobs.get());
    let start = || {
        |content: &Content<'_>| {
            let Content { files, signature, .. } = content;
            let signatures = signature.file_signatures(files.len())?;
            let has_signatures = signatures.is_some();
            let mut values = signatures.unwrap_or_default().into_iter();
            let filler = [tag::SIG_RESERVED, tag::SIG_RESERVEDSPACE];
            let filler = filler.iter().find_map(|tag| signature.find(*tag));
            Ok(Inspection {
                identity: content.identity.clone(),
                algorithm: files.algorithm(),
                files: files
                    .iter()
                    .map(|file| (file, values.next().filter(|value| !value.is_empty())))
                    .filter(|(file, _)| content.selects(file))
                    .map(|(file, value)| FileInspection {
                        path: files.path(file),
                        size: file.size,
                        is_config: file.flags & FILE_CONFIG != 0,
                        is_ghost: file.flags & FILE_GHOST != 0,
                        digest: file.digest,
                        attribute: value.as_deref().map(Attribute::decode),
                        value,
                    })
                    .collect(),
                has_signatures,
                signature_header_size: signature.bytes().len(),
                reserved_space: filler.map_or(0, |entry| entry.count as usize),
            })
        }
    };
    packages.run(LeftOver::Found, progress, &crew, start, sink)
}
