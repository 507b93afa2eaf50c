//! procfs, sysfs and securityfs, wherever and whether they are mounted.

use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags, CWD};
use rustix::io::{self, Errno};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use crate::file;

/// A file system that the kernel makes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pseudo {
    /// As `/proc/filesystems` calls it.
    pub kind: &'static str,
    /// Where it belongs.
    pub path: &'static str,
    /// `f_type`, of `include/uapi/linux/magic.h`.
    magic: u32,
}

/// procfs.
pub const PROC: Pseudo = Pseudo { kind: "proc", path: "/proc", magic: 0x9fa0 };
/// sysfs.
pub const SYS: Pseudo = Pseudo { kind: "sysfs", path: "/sys", magic: 0x6265_6572 };
/// securityfs.
pub const SECURITY: Pseudo =
    Pseudo { kind: "securityfs", path: "/sys/kernel/security", magic: 0x7363_6673 };
/// The EFI variables.
pub const EFI_VARIABLES: Pseudo =
    Pseudo { kind: "efivarfs", path: "/sys/firmware/efi/efivars", magic: 0xde5e_81e4 };

/// Short waits of the kernel for its readers (RCU), for as long as this lives.
///
/// Each policy is put in force with such a wait: some 10 ms, the most that the step takes.
#[derive(Debug)]
pub struct Hurry {
    switch: OwnedFd,
    before: Vec<u8>,
}

impl Hurry {
    /// Begins it, where the kernel has a switch for it.
    pub fn begin() -> Option<Self> {
        let sys = SYS.open().ok()?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let switch = fs::openat(sys, "kernel/rcu_expedited", flags, Mode::empty()).ok()?;
        let before = file::read(&switch, 64).ok()?;
        io::pwrite(&switch, b"1\n", 0).ok()?;
        Some(Self { switch, before })
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        match io::pwrite(&self.switch, &self.before, 0) {
            Ok(_) | Err(_) => {} // it was written before; at worst the kernel stays in a hurry
        }
    }
}

impl Pseudo {
    /// Its root directory: where it belongs if it is there, else in a mount of our own that
    /// nobody else sees and that goes away with the descriptor.
    pub fn open(self) -> Result<OwnedFd, Errno> {
        match self.open_in_place() {
            Ok(directory) => Ok(directory),
            Err(_) => match self.open_detached() {
                // Before Linux 5.2; ENODEV is a kernel without the file system.
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.mount()?;
                    self.open_in_place()
                }
                result => result,
            },
        }
    }

    /// Mounts it where it belongs, unless it is there.
    pub fn mount(self) -> Result<(), Errno> {
        if self.open_in_place().is_ok() {
            return Ok(());
        }
        match fs::mkdir(self.path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(_) => {} // mount says better what is wrong
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount::mount(self.kind, self.path, self.kind, flags, None)
    }

    fn open_in_place(self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::openat(CWD, self.path, flags, Mode::empty())?;
        match fs::fstatfs(&directory)?.f_type as u32 == self.magic {
            true => Ok(directory),
            false => Err(Errno::NOENT),
        }
    }

    fn open_detached(self) -> Result<OwnedFd, Errno> {
        let context = mount::fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }
}
