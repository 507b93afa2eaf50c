//! The fields of an inode that an EVM signature or HMAC for one machine covers, besides owner and mode.

use std::io;
use std::os::fd::BorrowedFd;

use ima_format::evm::InodeId;
use rustix::ioctl::{ioctl, opcode, Getter};

use crate::fsuuid;

/// `FS_IOC_GETVERSION` (`include/uapi/linux/fs.h`): a `long` in its number, an `int` in fact.
const GET_VERSION: rustix::ioctl::Opcode = opcode::read::<std::ffi::c_long>(b'v', 1);

/// The inode of an open file; without the UUID if it cannot be found.
///
/// # Errors
/// A file system that has no generations.
pub(super) fn id_of(file: BorrowedFd<'_>, number: u64) -> io::Result<InodeId> {
    // SAFETY: the kernel writes an `int` (`ioctl_getversion`, `ext4_ioctl`), which fits a `long`.
    let generation = unsafe { ioctl(file, Getter::<GET_VERSION, [u32; 2]>::new()) }?;
    let fsuuid = fsuuid::of(file)?.map(|uuid| uuid.0);
    Ok(InodeId { number, generation: generation[0], fsuuid })
}
