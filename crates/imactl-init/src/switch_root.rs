//! From the initramfs to the real root, in one process.
//!
//! The root file system of an initramfs cannot be unmounted: the real root is moved over it, and its
//! files are removed to free their memory. No program is executed but the real init.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;

use ima_format::printable::Printable;
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{self, UnmountFlags};
use rustix::process;

use crate::console::{self, Console};
use crate::file::{self, Tree};
use crate::say;
use crate::syscall;
use crate::text::Reason;

/// The program to execute in the new root.
#[derive(Debug)]
pub struct Init<'a> {
    /// Its path there.
    pub path: CString,
    /// Its arguments, without its name.
    pub arguments: Vec<&'a CStr>,
    /// Its environment.
    pub environment: Vec<&'a CStr>,
}

/// Why the root was not switched.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The new root cannot be used.
    NewRoot(&'static str, Errno),
    /// The new root is not a mount point.
    NoMountPoint,
    /// Init does not exist, or cannot be executed.
    NoInit(Errno),
    /// The new root cannot be moved to `/`.
    Move(Errno),
    /// The kernel did not execute init. The new root is in place; there is no way back.
    Execute(Errno),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewRoot(what, errno) => write!(f, "cannot {what}: {}", Reason(*errno)),
            Self::NoMountPoint => f.write_str("nothing is mounted there"),
            Self::NoInit(errno) => write!(f, "init is not there: {}", Reason(*errno)),
            Self::Move(errno) => write!(f, "the mount cannot be moved to /: {}", Reason(*errno)),
            Self::Execute(Errno::ACCESS) => f.write_str(
                "EACCES: permission denied: init, its interpreter or one of its libraries is not \
                 signed by a key in .ima, was changed after it was signed, or is not executable; see \
                 the audit message before this one for name and cause",
            ),
            Self::Execute(errno) => {
                write!(f, "cannot execute init or its interpreter: {}", Reason(*errno))
            }
        }
    }
}

/// Mounts that are moved to the new root.
const MOVED: [&str; 4] = ["dev", "proc", "sys", "run"];

/// `statfs` types of an initramfs: `RAMFS_MAGIC`, `TMPFS_MAGIC`.
const IN_MEMORY: [u32; 2] = [0x8584_58f6, 0x0102_1994];

/// Makes the mount at `new_root` the root and executes init there; returns only on failure.
pub fn switch(console: &Console, new_root: &[u8], init: &Init<'_>) -> Failure {
    match prepare(console, new_root, &init.path).and_then(|tree| enter(console, &tree)) {
        Err(failure) => failure,
        Ok(()) => {
            // Descriptors that init inherits would keep the initramfs busy.
            console::take_console();
            let arguments: Vec<&CStr> =
                [&*init.path].into_iter().chain(init.arguments.iter().copied()).collect();
            Failure::Execute(syscall::execute(&init.path, &arguments, &init.environment))
        }
    }
}

/// Checks everything that can be checked before the point of no return, and moves the other mounts.
fn prepare(console: &Console, new_root: &[u8], init: &CStr) -> Result<Tree, Failure> {
    let unusable = |errno| Failure::NewRoot("open it", errno);
    let tree = Tree::open(new_root).map_err(unusable)?;
    if device(b"/") == Some(tree.device().map_err(unusable)?) {
        return Err(Failure::NoMountPoint);
    }
    let found = tree.find(init.to_bytes()).map_err(Failure::NoInit)?;
    let status = fs::fstat(&found).map_err(Failure::NoInit)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Failure::NoInit(Errno::INVAL));
    }
    for name in MOVED {
        let old = alloc::format!("/{name}");
        // A directory that is not a mount point stays in the initramfs.
        if device(old.as_bytes()).is_some() && device(old.as_bytes()) != device(b"/") {
            move_mount(console, &tree, &old);
        }
    }
    Ok(tree)
}

/// Moves the mount at `old` to the same place in the new root. If that place does not exist, the mount
/// is detached, so that the initramfs can be freed.
///
/// The place is resolved once, inside the new root. The kernel would resolve its path from the
/// initramfs, where a link of the new root such as `/proc -> /etc` leads out of it.
fn move_mount(console: &Console, new_root: &Tree, old: &str) {
    let name = old.as_bytes().strip_prefix(b"/").unwrap_or_default();
    let moved = new_root.enter_directory(name).and_then(|()| mount::mount_move(old, "."));
    if let Err(errno) = moved {
        let new = new_root.path_of(name);
        let (new, reason) = (Printable(&new), Reason(errno));
        say!(console, Warning, "{old} not moved to {new}, so detached: {reason}");
        if let Err(errno) = mount::unmount(old, UnmountFlags::DETACH) {
            say!(console, Warning, "cannot detach {old}: {}", Reason(errno));
        }
    }
}

/// Moves the new root over `/`. There is no way back after this.
fn enter(console: &Console, new_root: &Tree) -> Result<(), Failure> {
    let step = |what, result: Result<(), Errno>| result.map_err(|e| Failure::NewRoot(what, e));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = fs::openat(CWD, "/", flags, Mode::empty())
        .map_err(|errno| Failure::NewRoot("open the old root", errno))?;
    step("change to it", new_root.enter())?;
    mount::mount_move(".", "/").map_err(Failure::Move)?;
    step("make it the root", process::chroot("."))?;
    step("change to it", process::chdir("/"))?;
    let in_memory =
        fs::fstatfs(&old).is_ok_and(|status| IN_MEMORY.contains(&(status.f_type as u32)));
    if in_memory {
        if let (Ok(status), count @ 1..) = (fs::fstat(&old), remove_contents(&old)) {
            let device = status.st_dev;
            say!(
                console,
                Warning,
                "{count} files of the initramfs (device {device}) stay in memory"
            );
        }
    }
    Ok(())
}

/// Removes everything below a directory that is on the same file system; returns the number of names
/// that could not be removed.
fn remove_contents(directory: &OwnedFd) -> usize {
    let Ok(device) = fs::fstat(directory).map(|status| status.st_dev) else { return 1 };
    let Ok(names) = file::names(directory) else { return 1 };
    let mut left = 0;
    for name in names {
        let Ok(status) = fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            left += 1;
            continue;
        };
        if status.st_dev != device {
            continue; // another mount: its files do not belong to the initramfs
        }
        let mut how = AtFlags::empty();
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            left += match fs::openat(directory, &name, flags, Mode::empty()) {
                Ok(below) => remove_contents(&below),
                Err(_) => 1,
            };
            how = AtFlags::REMOVEDIR;
        }
        if fs::unlinkat(directory, &name, how).is_err() {
            left += 1;
        }
    }
    left
}

fn device(path: &[u8]) -> Option<u64> {
    fs::stat(path).ok().map(|status| status.st_dev)
}
