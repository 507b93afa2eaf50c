//! Machines that imactl-init boots.

use std::path::Path;

use anyhow::Result;

use crate::image::{Image, Tree};
use crate::kernel::Kernel;
use crate::keys::KeyStore;
use crate::machine::{Clock, Disk, Guest, Machine, Part, Record};
use crate::programs;
use crate::scenario::DEFAULT_POLICY;

/// The size of a root disk in bytes; most of it is a hole.
const ROOT_SIZE: u64 = 256 << 20;

const LARGE_ROOT_SIZE: u64 = 512 << 20;

/// A machine with imactl-init in its initramfs and a root disk, configured step by step.
#[derive(Debug)]
pub struct Boot {
    /// The initramfs: init, certificate, and the layer's policy as the default one.
    pub initramfs: Tree,
    /// The root, with the agent as init; not yet signed.
    pub root: Tree,
    machine: Machine,
    others: Vec<Image>,
}

/// The file system of the root disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// squashfs.
    Squashfs,
    /// erofs.
    Erofs,
}

impl Boot {
    /// A machine whose init is imactl-init; the agent is the init of its root.
    pub fn new(kernel: &Kernel, store: &KeyStore) -> Result<Self> {
        let initramfs = Tree::boot_initramfs_for(kernel.architecture(), store, DEFAULT_POLICY)?;
        Self::with(kernel, store, initramfs).map(|boot| boot.append("root=/dev/vda"))
    }

    /// A machine whose init is the agent, with imactl-init as `/usr/bin/imactl-init`.
    pub fn step(kernel: &Kernel, store: &KeyStore) -> Result<Self> {
        let architecture = kernel.architecture();
        let initramfs = Tree::small_initramfs_for(architecture, store, DEFAULT_POLICY)?;
        initramfs.take(programs::imactl_init_for(architecture)?, "/usr/bin/imactl-init")?;
        Self::with(kernel, store, initramfs)
    }

    /// A machine whose init is imactl-init, with any root, and memory for a distribution.
    pub fn of(kernel: &Kernel, store: &KeyStore, root: Tree) -> Result<Self> {
        let initramfs = Tree::boot_initramfs(store, DEFAULT_POLICY)?;
        let machine = Machine::new(kernel).trusting(&store.system_certificate()?).memory(1024);
        Ok(Self { initramfs, root, machine, others: Vec::new() })
    }

    fn with(kernel: &Kernel, store: &KeyStore, initramfs: Tree) -> Result<Self> {
        let root = Tree::small_root_for(kernel.architecture())?;
        let machine = Machine::new(kernel).trusting(&store.system_certificate()?);
        Ok(Self { initramfs, root, machine, others: Vec::new() })
    }

    /// Appends words to the kernel command line.
    pub fn append(mut self, words: &str) -> Self {
        self.machine = self.machine.append(words);
        self
    }

    /// Makes the kernel also trust the system key of another store.
    pub fn trusting(mut self, store: &KeyStore) -> Result<Self> {
        self.machine = self.machine.trusting(&store.system_certificate()?);
        Ok(self)
    }

    /// Adds a disk after that of the root, discarded after use: `/dev/vdb` and following.
    pub fn disk(mut self, image: Image) -> Self {
        self.others.push(image);
        self
    }

    /// Sets the clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.machine = self.machine.clock(clock);
        self
    }

    /// Boots as if the kernel had been built without a part.
    pub fn without(mut self, part: Part) -> Self {
        self.machine = self.machine.without(part);
        self
    }

    /// Boots until an agent is up.
    pub fn up(self) -> Result<Guest> {
        self.up_from(FileSystem::Ext4)
    }

    /// Boots from a root disk with another file system.
    pub fn up_from(self, root: FileSystem) -> Result<Guest> {
        let root = match root {
            FileSystem::Ext4 => self.root.ext4(ROOT_SIZE)?,
            FileSystem::Squashfs => self.root.squashfs()?,
            FileSystem::Erofs => self.root.erofs()?,
        };
        self.up_from_disk(&root)
    }

    /// Boots from an ext4 disk that is large enough for a distribution.
    pub fn up_large(self) -> Result<Guest> {
        let root = self.root.ext4(LARGE_ROOT_SIZE)?;
        self.up_from_disk(&root)
    }

    /// Boots from any disk.
    pub fn up_from_disk(self, disk: &Image) -> Result<Guest> {
        let initramfs = self.initramfs.initramfs()?;
        let machine = self.machine.initramfs(&initramfs).disk(disk, Disk::Discarded);
        let add = |machine: Machine, image| machine.disk(image, Disk::Discarded);
        self.others.iter().fold(machine, add).boot()
    }

    /// Boots with a disk that stays blank until the console shows `words`; then the file system is
    /// written to it.
    pub fn up_from_late_disk(self, root: &Image, words: &str) -> Result<Guest> {
        let initramfs = self.initramfs.initramfs()?;
        let content = std::fs::read(root.path())?;
        let disk = Image::blank(content.len() as u64)?;
        let machine = self.machine.initramfs(&initramfs).disk(&disk, Disk::Discarded);
        machine.boot_with(words, || Ok(std::fs::write(disk.path(), &content)?))
    }

    /// Boots with another program's initramfs until an agent is up.
    pub fn up_with(self, initramfs: &Path) -> Result<Guest> {
        let root = self.root.ext4(ROOT_SIZE)?;
        self.machine.initramfs_file(initramfs).disk(&root, Disk::Discarded).boot()
    }

    /// Boots a machine that must not reach its agent, and waits for its end. Such machines reboot at once
    /// when they stop, which ends QEMU.
    pub fn ends(self) -> Result<Record> {
        let (initramfs, root) = (self.initramfs.initramfs()?, self.root.ext4(ROOT_SIZE)?);
        let machine = self.machine.append("imactl.timeout=0").initramfs(&initramfs);
        machine.disk(&root, Disk::Discarded).run()
    }
}

/// Boots a machine of [`Boot::step`] and mounts its root at `/sysroot`.
pub fn mounted(boot: Boot) -> Result<Guest> {
    let mut guest = boot.up()?;
    guest.mount("/dev/vda", "ext4", "/sysroot")?.is_allowed();
    Ok(guest)
}
