//! fs-verity of an open file: enabled, and asked for its digest.
//!
//! Mirrors `include/uapi/linux/fsverity.h`. The calls go through libc.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::verity::{Parameters, BLOCK_SIZE};

use crate::container::ItemError;
use crate::digest::DigestKind;

/// `FS_IOC_ENABLE_VERITY`
const ENABLE: libc::Ioctl = request::<EnableArgument>(1, 133);
/// `FS_IOC_MEASURE_VERITY`, whose size is that of the header.
const MEASURE: libc::Ioctl = request::<[u8; 4]>(3, 134);

/// `_IOC(direction, 'f', number, size)`
const fn request<T>(direction: u32, number: u32) -> libc::Ioctl {
    (direction << 30 | (size_of::<T>() as u32) << 16 | (b'f' as u32) << 8 | number) as libc::Ioctl
}

/// `struct fsverity_enable_arg`
#[repr(C)]
struct EnableArgument {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved_1: u32,
    signature: u64,
    reserved_2: [u64; 11],
}

/// `struct fsverity_digest`
#[repr(C)]
struct MeasuredDigest {
    algorithm: u16,
    size: u16,
    digest: [u8; MAX_DIGEST_SIZE],
}

/// Enables fs-verity, unless it is enabled already, and sees that the kernel's digest is the one
/// that was made here.
pub(super) fn enable(
    file: BorrowedFd<'_>,
    parameters: Parameters,
    made: Option<(DigestKind, Digest)>,
) -> Result<(), ItemError> {
    let salt = parameters.salt;
    let argument = EnableArgument {
        version: 1,
        hash_algorithm: u32::from(parameters.number()),
        block_size: BLOCK_SIZE as u32,
        salt_size: salt.as_bytes().len() as u32,
        salt: salt.as_bytes().as_ptr() as u64,
        signature_size: 0,
        reserved_1: 0,
        signature: 0,
        reserved_2: [0; 11],
    };
    // SAFETY: the kernel reads the argument and the salt, which live until it returns
    let enabled = unsafe { libc::ioctl(file.as_raw_fd(), ENABLE, &argument) };
    if enabled != 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(ItemError::EnableVerity(error));
        }
    }
    let digest = measure(file).map_err(ItemError::EnableVerity)?;
    match made {
        Some((DigestKind::Verity(_), made)) if made == digest => Ok(()),
        _ => Err(ItemError::OtherVerity(digest)),
    }
}

/// The digest of a file with fs-verity.
fn measure(file: BorrowedFd<'_>) -> io::Result<Digest> {
    let size = MAX_DIGEST_SIZE as u16;
    let mut measured = MeasuredDigest { algorithm: 0, size, digest: [0; MAX_DIGEST_SIZE] };
    // SAFETY: the kernel writes at most `size` bytes of digest
    if unsafe { libc::ioctl(file.as_raw_fd(), MEASURE, &mut measured) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let algorithm = match measured.algorithm {
        1 => HashAlgorithm::Sha256,
        2 => HashAlgorithm::Sha512,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let digest = measured.digest.get(..usize::from(measured.size));
    let digest = digest.and_then(|digest| Digest::new(algorithm, digest));
    digest.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
