//! The UUID of a mounted file system, as EVM covers it and as policies compare it (`fsuuid=`): `s_uuid` of
//! `struct super_block`.
//!
//! | source, in this order | for |
//! |---|---|
//! | `FS_IOC_GETFSUUID` (`include/uapi/linux/fs.h`) | Linux 6.9 and newer |
//! | `BTRFS_IOC_FS_INFO` (`include/uapi/linux/btrfs.h`) | btrfs, whose files have no block device as `st_dev` |
//! | the superblock on the block device, which `blkid` reads | others, if the device is readable: as root |
//! | `/dev/disk/by-uuid` | the same for other users, where udev runs |

use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ima_format::policy::ast::Uuid;
use ima_format::policy::filesystem::with_magic;
use ima_format::superblock;
use rustix::fs::{fstat, fstatfs, major, minor, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, Getter, Updater};

const GET_UUID: rustix::ioctl::Opcode = opcode::read::<Answer>(0x15, 0);
const BTRFS_INFO: rustix::ioctl::Opcode = opcode::read::<BtrfsInfo>(0x94, 31);
const BTRFS_MAGIC: u64 = 0x9123_683e;

/// `struct fsuuid2`
#[repr(C)]
struct Answer {
    length: u8,
    uuid: [u8; 16],
}

/// `struct btrfs_ioctl_fs_info_args`
#[repr(C)]
struct BtrfsInfo {
    max_id: u64,
    devices: u64,
    uuid: [u8; 16],
    rest: [u64; 124],
}

/// The UUID of the file system that an open file is on; `None` if it cannot be found.
///
/// # Errors
/// Those of the kernel's own call, except that it does not have it.
pub(crate) fn of(file: BorrowedFd<'_>) -> io::Result<Option<Uuid>> {
    // SAFETY: the kernel writes a `struct fsuuid2`.
    match unsafe { ioctl(file, Getter::<GET_UUID, Answer>::new()) } {
        Ok(Answer { length: 16, uuid }) => return Ok(Some(Uuid(uuid))),
        Ok(_) | Err(Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(before_6_9(file))
}

/// The same on kernels without `FS_IOC_GETFSUUID`.
fn before_6_9(file: BorrowedFd<'_>) -> Option<Uuid> {
    let magic = fstatfs(file).ok()?.f_type as u64;
    if magic == BTRFS_MAGIC {
        return of_btrfs(file);
    }
    let device = fstat(file).ok()?.st_dev;
    of_superblock(device, magic).or_else(|| of_udev(device))
}

fn of_btrfs(file: BorrowedFd<'_>) -> Option<Uuid> {
    let mut info = BtrfsInfo { max_id: 0, devices: 0, uuid: [0; 16], rest: [0; 124] };
    // SAFETY: the kernel reads and writes a `struct btrfs_ioctl_fs_info_args`, 1024 bytes.
    unsafe { ioctl(file, Updater::<BTRFS_INFO, BtrfsInfo>::new(&mut info)) }.ok()?;
    Some(Uuid(info.uuid))
}

/// The UUID in the superblock of the type that is mounted.
fn of_superblock(device: u64, magic: u64) -> Option<Uuid> {
    let device = open_device(device)?;
    let read = |offset| {
        let mut bytes = vec![0; superblock::HEAD_SIZE];
        device.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    };
    let (head, at_btrfs) = (read(0)?, read(superblock::BTRFS_OFFSET).unwrap_or_default());
    let is_mounted =
        |types: &[&str]| with_magic(magic).any(|mounted| types.contains(&mounted.name));
    let uuid = superblock::all(&head, &at_btrfs).find(|found| is_mounted(found.types))?.uuid?;
    Uuid::parse(uuid.as_bytes())
}

/// Opens a block device by its number: udev's link to it, or the kernel's name of it in `/dev`.
fn open_device(device: u64) -> Option<File> {
    let number = format!("{}:{}", major(device), minor(device));
    let link = Path::new("/dev/block").join(&number);
    let named = || {
        let directory = fs::read_link(Path::new("/sys/dev/block").join(&number)).ok()?;
        // a slash in the name is written as an exclamation mark
        let name = directory.file_name()?.to_str()?.replace('!', "/");
        Some(Path::new("/dev").join(name))
    };
    let open = |path: PathBuf| {
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let is_it = metadata.file_type().is_block_device() && metadata.rdev() == device;
        is_it.then_some(file)
    };
    open(link).or_else(|| open(named()?))
}

/// The UUID that udev found on a block device.
fn of_udev(device: u64) -> Option<Uuid> {
    let links = fs::read_dir("/dev/disk/by-uuid").into_iter().flatten().flatten();
    links
        .filter(|link| fs::metadata(link.path()).is_ok_and(|node| node.rdev() == device))
        .find_map(|link| Uuid::parse(link.file_name().to_str()?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Needs Linux 6.9, and a root file system whose device is readable.
    #[test]
    fn the_superblock_has_the_uuid_of_the_kernel() {
        let root = File::open("/").unwrap();
        // SAFETY: as above
        let answer = unsafe { ioctl(&root, Getter::<GET_UUID, Answer>::new()) };
        let (Ok(Answer { uuid, .. }), Some(found)) = (answer, before_6_9(root.as_fd())) else {
            return;
        };
        assert_eq!(found, Uuid(uuid));
    }

    #[test]
    fn a_file_system_without_a_device_has_no_uuid() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(of(file.as_fd()).unwrap(), None);
    }
}
