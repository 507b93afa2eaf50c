//! The properties that a new file inherits from the one that it replaces: owner, group, mode, access
//! control lists and other extended attributes. The content differs, and so `security.ima` and
//! `security.evm` of the old file are not taken over.

use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{fchown, MetadataExt, PermissionsExt};

use rustix::fs::{
    fgetxattr, flistxattr, fremovexattr, fsetxattr, openat, statat, AtFlags, FileType, Mode,
    OFlags, XattrFlags,
};
use rustix::io::Errno;

use super::Location;

/// The kernel's limits (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_MAX: usize = 1 << 16;
const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// Gives `new` the properties of `old` besides its content. What only root can set, an ordinary user's
/// file does without.
///
/// # Errors
/// A mode or an attribute that needs no privilege, and cannot be set.
pub(super) fn inherit(old: &File, new: &File) -> io::Result<()> {
    let (before, after) = (old.metadata()?, new.metadata()?);
    let mut mode = before.mode() & 0o7777;
    if (after.uid(), after.gid()) != (before.uid(), before.gid()) {
        match fchown(new, Some(before.uid()), Some(before.gid())) {
            // another owner's file does not run as that owner
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => mode &= 0o1777,
            other => other?,
        }
    }
    new.set_permissions(Permissions::from_mode(mode))?;
    let names = attributes(old)?;
    for name in &names {
        let mut value = vec![0; ATTRIBUTE_MAX];
        let set = fgetxattr(old, name.as_c_str(), &mut value[..])
            .and_then(|size| fsetxattr(new, name.as_c_str(), &value[..size], XattrFlags::empty()));
        match set {
            Err(error) if name.as_bytes().starts_with(b"user.") => return Err(error.into()),
            // the rest is for root, or of a file system's own
            _ => {}
        }
    }
    // a list that the directory gave it
    if !names.iter().any(|name| name.as_c_str() == ACCESS_LIST) {
        fremovexattr(new, ACCESS_LIST).ok();
    }
    Ok(())
}

/// The regular file whose place another will take; `None` where there is none.
///
/// # Errors
/// One that cannot be opened.
pub(super) fn replaced(place: &Location) -> io::Result<Option<File>> {
    match statat(&*place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // not through a link, nor waiting for a writer, should it be something else by now
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&*place.directory, &place.name, flags, Mode::empty())?;
    Ok(Some(file.into()))
}

/// The names of a file's attributes, without `security.ima` and `security.evm`.
fn attributes(file: &File) -> io::Result<Vec<CString>> {
    let mut names = vec![0; ATTRIBUTE_MAX];
    let size = match flistxattr(file, &mut names[..]) {
        Ok(size) => size,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.filter(|name| !matches!(*name, b"security.ima" | b"security.evm"));
    // between two zero bytes there is none
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}
