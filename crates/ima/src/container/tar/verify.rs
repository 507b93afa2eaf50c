//! Verifies the files in an archive.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use ima_format::hash::HashAlgorithm;
use ima_format::tar::Member;
use ima_format::xattr::Attribute;

use super::content::Data;
use super::run::{self, path_of, Operation, Target, Wants};
use super::{Archive, Extent, MemberError, Sink, TarError};
use crate::container::Progress;
use crate::digest::FileHasher;
use crate::verify::{Keyring, Requirement, Verdict, Verifier};

/// How files are verified.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// The trusted keys.
    pub keyring: &'a Keyring,
    /// What is asked of a file.
    pub requirement: Requirement,
}

/// Gives the verdict on each selected file of an archive.
///
/// # Errors
/// Any defect of the archive.
pub fn verify(
    archive: Archive<'_>,
    options: &VerifyOptions<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Verdict>,
) -> Result<Extent, TarError> {
    run::run(archive, &Verify { options, progress }, None, progress, sink)
}

struct Verify<'a> {
    options: &'a VerifyOptions<'a>,
    progress: &'a dyn Progress,
}

/// The algorithm of the digest that a member's label hangs on.
pub(super) fn algorithm_of(member: &Member) -> Option<HashAlgorithm> {
    // the reader saw that it can be read
    let label = member.label().ok().flatten()?;
    match Attribute::decode(&label).ok()? {
        Attribute::Digest(digest) | Attribute::DigestNg(digest) => Some(digest.algorithm()),
        Attribute::Signature(signature) => Some(signature.algorithm),
        Attribute::EvmHmac(_) | Attribute::SignatureV1(_) => None,
    }
}

impl Operation for Verify<'_> {
    type Outcome = Verdict;
    type Worker = (FileHasher, Verifier);

    fn wants(&self, member: &Member) -> Wants<'_> {
        algorithm_of(member).map_or(Wants::Nothing, Wants::Digest)
    }

    fn worker(&self) -> Self::Worker {
        (FileHasher::default(), Verifier::new(self.options.keyring.clone()))
    }

    fn file(
        &self,
        (hasher, verifier): &mut Self::Worker,
        member: &mut Member,
        data: &Data,
    ) -> Result<Verdict, TarError> {
        let label = member.label().ok().flatten();
        let digest_of = |algorithm| {
            run::digest(hasher, member, data, algorithm, self.progress)
                .map_err(|source| TarError::Digest { path: path_of(member), source })
        };
        verifier.verdict(self.options.requirement, label.as_deref(), digest_of)
    }

    fn link(&self, member: &mut Member, target: Target) -> Result<Option<Verdict>, MemberError> {
        link_error(member, target).map_or(Ok(None), Err)
    }
}

/// Why what is found of its file does not hold for a hard link.
pub(super) fn link_error(member: &Member, target: Target) -> Option<MemberError> {
    let path = OsString::from_vec(member.link.clone()).into();
    match target {
        Target::SameLabel => None,
        Target::OtherLabel => Some(MemberError::LinkLabel { target: path }),
        Target::NotSelected => Some(MemberError::LinkSelection { target: path }),
        Target::Missing => Some(MemberError::LinkTarget { target: path }),
    }
}
