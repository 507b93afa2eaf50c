//! Whether a file system can store attributes of some size: asked with a file that has no name.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{fsetxattr, open, Mode, OFlags, XattrFlags};

use super::file::attribute_error;
use super::{Place, Tree};
use crate::container::error::{ContainerError, ItemError};
use crate::container::AttributeName;

impl Tree {
    /// Checks that a new file in each root can have all these attributes. Where that cannot be tried,
    /// it shows at the first file.
    pub(in crate::container) fn check_room(
        &self,
        attributes: &[(AttributeName, usize)],
    ) -> Result<(), ContainerError> {
        for root in &self.roots {
            let directory = match (root.is_dir(), root.parent()) {
                (true, _) => root,
                (false, Some(parent)) if !parent.as_os_str().is_empty() => parent,
                (false, _) => Path::new("."),
            };
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let Ok(file) = open(directory, flags, Mode::RUSR | Mode::WUSR) else { continue };
            if let Err(source @ ItemError::NoRoom { .. }) = set(&file, self.place, attributes) {
                return Err(ContainerError::Item { path: root.clone(), source });
            }
        }
        Ok(())
    }
}

fn set(
    file: &OwnedFd,
    place: Place,
    attributes: &[(AttributeName, usize)],
) -> Result<(), ItemError> {
    for (name, size) in attributes {
        let Some(name) = place.name_of(*name) else { continue };
        fsetxattr(file, name, &vec![0; *size], XattrFlags::empty())
            .map_err(|errno| attribute_error(errno, *size))?;
    }
    Ok(())
}
