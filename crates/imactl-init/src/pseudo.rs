//! procfs, sysfs and securityfs, mounted or not.

use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags, CWD};
use rustix::io::{self, Errno};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use crate::file;

/// A pseudo file system of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pseudo {
    /// Its name in `/proc/filesystems`.
    pub kind: &'static str,
    /// Its usual mount point.
    pub path: &'static str,
    /// `f_type`, from `include/uapi/linux/magic.h`.
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

/// While this exists, the kernel's RCU grace periods are short.
///
/// Putting a policy in force waits for one: some 10 ms, most of the time of the step.
#[derive(Debug)]
pub struct Hurry {
    switch: OwnedFd,
    before: Vec<u8>,
}

impl Hurry {
    /// Expedites grace periods, if the kernel has the switch for it.
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
            Ok(_) | Err(_) => {} // the same write succeeded before; at worst grace periods stay expedited
        }
    }
}

impl Pseudo {
    /// Its root directory: at the usual mount point, else in a detached mount that no other process sees
    /// and that ends with the descriptor.
    pub fn open(self) -> Result<OwnedFd, Errno> {
        match self.open_in_place() {
            Ok(directory) => Ok(directory),
            Err(_) => match self.open_detached() {
                // The kernel is older than Linux 5.2; ENODEV would mean that it lacks the file system.
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.mount()?;
                    self.open_in_place()
                }
                result => result,
            },
        }
    }

    /// Mounts it at the usual mount point, unless it is mounted.
    pub fn mount(self) -> Result<(), Errno> {
        if self.open_in_place().is_ok() {
            return Ok(());
        }
        match fs::mkdir(self.path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(_) => {} // mount reports the error
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
