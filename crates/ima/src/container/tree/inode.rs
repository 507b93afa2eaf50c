//! The fields of an inode that an EVM signature or HMAC for one machine covers, besides owner and mode.

use std::io;
use std::os::fd::BorrowedFd;

use ima_format::evm::InodeId;
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, Getter};

/// `FS_IOC_GETVERSION` (`include/uapi/linux/fs.h`): a `long` in its number, an `int` in fact.
const GET_VERSION: rustix::ioctl::Opcode = opcode::read::<std::ffi::c_long>(b'v', 1);
/// `FS_IOC_GETFSUUID`, since Linux 6.9.
const GET_UUID: rustix::ioctl::Opcode = opcode::read::<Uuid>(0x15, 0);

/// `struct fsuuid2`
#[repr(C)]
struct Uuid {
    length: u8,
    uuid: [u8; 16],
}

/// The inode of an open file; without the UUID where the kernel does not give it.
///
/// # Errors
/// A file system that has no generations.
pub(super) fn id_of(file: BorrowedFd<'_>, number: u64) -> io::Result<InodeId> {
    // SAFETY: the kernel writes an `int` (`ioctl_getversion`, `ext4_ioctl`), which fits a `long`.
    let generation = unsafe { ioctl(file, Getter::<GET_VERSION, [u32; 2]>::new()) }?;
    // SAFETY: the kernel writes a `struct fsuuid2`.
    let fsuuid = match unsafe { ioctl(file, Getter::<GET_UUID, Uuid>::new()) } {
        Ok(Uuid { length: 16, uuid }) => Some(uuid),
        Ok(_) | Err(Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(InodeId { number, generation: generation[0], fsuuid })
}
