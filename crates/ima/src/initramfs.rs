//! An initramfs that needs nothing else: imactl-init, a certificate, a policy.
//!
//! Where the kernel and imactl-init look for what:
//!
//! | name | |
//! |---|---|
//! | `init` | imactl-init |
//! | `dev/console` | what the kernel gives `/init` as its terminal |
//! | `etc/keys/x509_ima.der` | the kernel's own: `CONFIG_IMA_X509_PATH` |
//! | `etc/ima/ima_policy.default` | the default policy |
//! | `etc/ima/ima_policy` | in its place, where there is one |
//!
//! The same input gives the same bytes: no time, no names of the machine that made it.

use std::io::{self, Write};

use flate2::{Compression as Level, GzBuilder};
use ima_format::cpio::{TooLarge, Writer};

use crate::key::certificate::Certificate;

/// What goes into an initramfs.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The program imactl-init.
    pub init: &'a [u8],
    /// The certificate for the `.ima` keyring.
    pub certificate: &'a Certificate,
    /// The policy without which nothing else is said.
    pub default_policy: &'a [u8],
    /// A policy in place of it.
    pub policy: Option<&'a [u8]>,
}

/// How an initramfs is compressed; the kernel tells by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `CONFIG_RD_GZIP`
    Gzip,
    /// `CONFIG_RD_ZSTD`
    Zstd,
}

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitramfsError {
    /// A file is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The archive cannot be compressed.
    #[error("compress the initramfs: {0}")]
    Compress(#[from] io::Error),
}

/// Makes an initramfs.
pub fn create(
    contents: &Contents<'_>,
    compression: Compression,
) -> Result<Vec<u8>, InitramfsError> {
    let mut archive = Writer::new();
    for directory in ["dev", "etc", "etc/ima", "etc/keys", "proc", "root", "sys", "sysroot"] {
        archive.directory(directory.as_bytes(), 0o755)?;
    }
    archive.character_device(b"dev/console", 0o600, (5, 1))?;
    archive.file(b"etc/ima/ima_policy.default", 0o400, contents.default_policy)?;
    if let Some(policy) = contents.policy {
        archive.file(b"etc/ima/ima_policy", 0o400, policy)?;
    }
    archive.file(b"etc/keys/x509_ima.der", 0o444, contents.certificate.der())?;
    archive.file(b"init", 0o755, contents.init)?;
    Ok(compression.apply(archive.finish())?)
}

/// What the kernel's own `usr/gen_initramfs.sh` would say: best, and slow.
const ZSTD_LEVEL: i32 = 19;

impl Compression {
    fn apply(self, archive: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(archive),
            Self::Gzip => {
                // neither name nor time in the header
                let mut encoder = GzBuilder::new().write(Vec::new(), Level::best());
                encoder.write_all(&archive)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(&archive, ZSTD_LEVEL),
        }
    }
}
