//! `lab boot`: boots the initramfs and the root file system of a user who follows the tutorial.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{bail, Result};
use clap::Args;
use lab::image::Image;
use lab::kernel::{self, Series, Variant};
use lab::keys::KeyStore;
use lab::machine::{Disk, Ending, Machine};

/// Boot a signed root file system until its init powers off, and print the console
///
/// The kernel trusts the CA of the key store, and enforces. The file system is not changed.
#[derive(Debug, Args)]
pub(crate) struct Boot {
    /// The key store
    #[arg(long)]
    keys: PathBuf,
    /// The initramfs, as imactl initramfs create makes it
    #[arg(long)]
    initramfs: PathBuf,
    /// 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// The image of the root file system
    root: PathBuf,
}

impl Boot {
    pub(crate) fn run(self) -> Result<()> {
        let store = KeyStore::at(self.keys);
        let record = Machine::new(&kernel::prepare(self.kernel, Variant::Full)?)
            .trusting(&store.system_certificate()?)
            .append("root=/dev/vda rw ima_appraise=enforce printk.time=0")
            .initramfs_file(&self.initramfs)
            .disk(&Image::copy_of(&self.root)?, Disk::Discarded)
            .run()?;
        io::stdout().write_all(record.console.as_bytes())?;
        match record.ending {
            Ending::Off => Ok(()),
            ending => bail!("the machine did not power off: {ending:?}"),
        }
    }
}
