//! Takes the labels out of an archive.

use std::io::Write;

use ima_format::tar::Member;

use super::content::Data;
use super::run::{self, Operation, Target, Wants};
use super::{Archive, Extent, MemberError, Sink, TarError};
use crate::container::tree::Cleared;
use crate::container::Progress;

/// Takes out the labels of the selected files and writes the archive without them.
///
/// # Errors
/// Any defect of the archive; what was written then is of no use.
pub fn clear(
    archive: Archive<'_>,
    output: &mut dyn Write,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Cleared>,
) -> Result<Extent, TarError> {
    run::run(archive, &Clear, Some(output), progress, sink)
}

struct Clear;

impl Operation for Clear {
    type Outcome = Cleared;
    type Worker = ();

    fn wants(&self, _: &Member) -> Wants<'_> {
        Wants::Nothing
    }

    fn worker(&self) {}

    fn file(&self, (): &mut (), member: &mut Member, _: &Data) -> Result<Cleared, TarError> {
        let had_one = member.mentions_label();
        super::set_label(member, None)?;
        Ok(if had_one { Cleared::Cleared } else { Cleared::Bare })
    }

    fn link(&self, member: &mut Member, _: Target) -> Result<Option<Cleared>, MemberError> {
        if !member.mentions_label() {
            return Ok(None);
        }
        // the reader saw that its records can be read
        member.set_label(None).ok();
        Ok(Some(Cleared::Cleared))
    }
}
