//! Shows what the files in an archive carry, without judging it.

use ima_format::tar::Member;
use ima_format::xattr::Attribute;

use super::content::Data;
use super::run::{self, Operation, Target, Wants};
use super::verify::link_error;
use super::{Archive, Extent, MemberError, Sink, TarError};
use crate::container::tree::{Fit, Inspection};
use crate::container::Progress;
use crate::digest::FileHasher;

/// Reads the label of each selected file of an archive.
///
/// # Errors
/// Any defect of the archive.
pub fn inspect(
    archive: Archive<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Inspection>,
) -> Result<Extent, TarError> {
    run::run(archive, &Inspect { progress }, None, progress, sink)
}

struct Inspect<'a> {
    progress: &'a dyn Progress,
}

impl Operation for Inspect<'_> {
    type Outcome = Inspection;
    type Worker = FileHasher;

    fn wants(&self, member: &Member) -> Wants<'_> {
        let label = member.label().ok().flatten();
        match label.as_deref().map(Attribute::decode) {
            Some(Ok(Attribute::Digest(digest) | Attribute::DigestNg(digest))) => {
                Wants::Digest(digest.algorithm())
            }
            _ => Wants::Nothing,
        }
    }

    fn worker(&self) -> FileHasher {
        FileHasher::default()
    }

    fn file(
        &self,
        hasher: &mut FileHasher,
        member: &mut Member,
        data: &Data,
    ) -> Result<Inspection, TarError> {
        let value = member.label().ok().flatten();
        let attribute = value.as_deref().map(Attribute::decode);
        let fit = match &attribute {
            Some(Ok(Attribute::Digest(expected) | Attribute::DigestNg(expected))) => {
                let algorithm = expected.algorithm();
                Some(match run::digest(hasher, member, data, algorithm, self.progress) {
                    Ok(digest) if digest == *expected => Fit::Matches,
                    Ok(_) => Fit::Differs,
                    Err(_) => Fit::Unknown,
                })
            }
            _ => None,
        };
        Ok(Inspection { value, attribute, fit })
    }

    fn link(&self, member: &mut Member, target: Target) -> Result<Option<Inspection>, MemberError> {
        link_error(member, target).map_or(Ok(None), Err)
    }
}
