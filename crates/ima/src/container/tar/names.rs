//! The role that an archive has given to each name so far.
//!
//! Programs that unpack do not agree on a name that is used in two roles. A member below a symbolic
//! link is written through the link by some and not by others; GNU tar makes links that lead out of
//! the root at the end, after later members put something in their place. So each name keeps the role
//! that its first member gives it, and only files can be replaced: the content that is digested is the
//! one that every program leaves there.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ima_format::tar::{Fault, FileType, Member};

use super::{below_root, path_of, TarError};

/// How many names, with those of directories, an archive can have: at most 256 MiB of memory.
const NAMES_MAX: usize = 7 << 20;

/// A name's last member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    /// To this target, as a hash.
    SymbolicLink(u64),
    /// A device or a FIFO.
    Special,
    /// A file that is not selected.
    NotSelected,
    /// A file with these values of the attributes ([`Names::hash`]).
    File(u64),
}

/// The use of a name, which does not change.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    Directory,
    SymbolicLink(u64),
    Special,
    File,
}

impl Found {
    fn role(self) -> Role {
        match self {
            Self::Directory => Role::Directory,
            Self::SymbolicLink(target) => Role::SymbolicLink(target),
            Self::Special => Role::Special,
            Self::NotSelected | Self::File(_) => Role::File,
        }
    }
}

/// The names, as keyed hashes: an archive cannot be made to have collisions.
#[derive(Debug)]
pub(super) struct Names {
    limit: usize,
    key: RandomState,
    known: HashMap<u64, Found>,
    /// The directory of the last member: the next ones are often in it, too.
    directory: PathBuf,
}

impl Default for Names {
    fn default() -> Self {
        Self::with_limit(NAMES_MAX)
    }
}

impl Names {
    fn with_limit(limit: usize) -> Self {
        let (key, known, directory) = (RandomState::new(), HashMap::new(), PathBuf::new());
        Self { limit, key, known, directory }
    }

    /// The hash of a name, or of the values of attributes.
    pub(super) fn hash<T: std::hash::Hash + ?Sized>(&self, value: &T) -> u64 {
        self.key.hash_one(value)
    }

    /// Enters a member without content of its own.
    pub(super) fn enter_other(&mut self, member: &Member) -> Result<(), TarError> {
        let found = match member.file_type() {
            FileType::Directory => Found::Directory,
            FileType::SymbolicLink => Found::SymbolicLink(self.hash(&member.link)),
            FileType::Special => Found::Special,
            FileType::File | FileType::HardLink | FileType::VolumeLabel => return Ok(()),
        };
        self.enter(member, found)
    }

    /// Enters a member, which is refused where a program would find something else in its way.
    pub(super) fn enter(&mut self, member: &Member, found: Found) -> Result<(), TarError> {
        let malformed =
            |fault: Fault| TarError::Malformed { offset: member.offset, kind: fault.into() };
        let path = below_root(&path_of(member));
        // the root itself has no parent
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent != self.directory {
            for directory in parent.ancestors().filter(|path| !path.as_os_str().is_empty()) {
                let entered = self.put(directory, Found::Directory);
                entered.map_err(|fault| match fault {
                    Fault::OtherRole => malformed(Fault::ThroughOther),
                    fault => malformed(fault),
                })?;
            }
            self.directory = parent.to_owned();
        }
        self.put(&path, found).map_err(malformed)
    }

    /// Enters another name for the target of a hard link, if there is one.
    pub(super) fn link(&mut self, member: &Member) -> Result<Option<Found>, TarError> {
        let target = below_root(Path::new(OsStr::from_bytes(&member.link)));
        if target == below_root(&path_of(member)) {
            let kind = Fault::LinkToItself.into();
            return Err(TarError::Malformed { offset: member.offset, kind });
        }
        let found = self.known.get(&self.hash(&target)).copied();
        found.map_or(Ok(()), |found| self.enter(member, found))?;
        Ok(found)
    }

    fn put(&mut self, path: &Path, found: Found) -> Result<(), Fault> {
        let is_full = self.known.len() >= self.limit;
        match self.known.entry(self.key.hash_one(path)) {
            Entry::Occupied(mut known) if known.get().role() == found.role() => {
                known.insert(found);
                Ok(())
            }
            Entry::Occupied(_) => Err(Fault::OtherRole),
            Entry::Vacant(_) if is_full => Err(Fault::TooManyNames(self.limit)),
            Entry::Vacant(new) => {
                new.insert(found);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ima_format::tar::{AfterEnd, Item, Parser, Slice};

    use super::*;

    #[test]
    fn directories_count_and_names_that_come_again_do_not() {
        let archive =
            include_bytes!("../../../../../testdata/tar/name_of_a_directory_of_others.tar");
        let Ok(Some(Item::Member(member))) =
            Parser::new(AfterEnd::Refuse).next(&mut Slice::new(archive))
        else {
            panic!("no member");
        };
        let mut names = Names::with_limit(2);
        names.enter(&member, Found::NotSelected).unwrap();
        names.enter(&member, Found::File(1)).unwrap();
        let error = Names::with_limit(1).enter(&member, Found::NotSelected).unwrap_err();
        assert_eq!(error.to_string(), "more than 1 names in one archive at offset 0");
    }
}
