//! Machines: a kernel, an initramfs and disks under QEMU, and how they end.

mod console;
mod firmware;
mod guest;
mod observation;
mod process;
mod qemu;
mod tpm;

pub use firmware::SecureBoot;
pub use guest::Guest;
pub use observation::Observation;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::host;
use crate::image::Image;
use crate::kernel::{Kernel, Series};
use process::Process;
use qemu::Console;

/// How long the guest may take to start its agent, to answer, or to end: much more than the seconds
/// that it needs, for hosts under load.
const PATIENCE: Duration = Duration::from_secs(120);

/// The configuration of a machine.
#[derive(Debug)]
pub struct Machine {
    kernel: Kernel,
    certificates: Vec<u8>,
    initramfs: Option<PathBuf>,
    disks: Vec<(PathBuf, Disk)>,
    append: Vec<String>,
    memory: u32,
    tpm: Tpm,
    tpm_state: Option<PathBuf>,
    secure_boot: Option<SecureBoot>,
    clock: Clock,
    patience: Duration,
}

/// How writes of the guest to a disk are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Discarded: the image is not changed, and several machines may use it.
    Discarded,
    /// Kept in the image.
    Kept,
    /// The guest cannot write.
    ReadOnly,
}

/// Whether a machine has a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tpm {
    /// None.
    Absent,
    /// A TPM 2.0, by swtpm.
    Version2,
}

/// The source of a machine's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's.
    Host,
    /// Its own instructions, one nanosecond each: durations do not depend on the host or its load, except
    /// when the guest waits for its disks.
    Instructions,
}

/// A part of the kernel that can be disabled at boot. It is compiled in but not initialized, which
/// programs cannot distinguish from a kernel without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// IMA: no `ima` in securityfs, no `.ima` keyring.
    Ima,
    /// securityfs: it cannot be mounted, and its mount point does not exist.
    Securityfs,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It powered itself off, or rebooted.
    Off,
    /// The kernel panicked, with this message.
    Panicked(String),
    /// It did not proceed within its time limit, and was killed.
    Hung,
    /// QEMU itself failed, with this message.
    Failed(String),
}

/// The remains of a machine.
#[derive(Debug, Clone)]
pub struct Record {
    /// How it ended.
    pub ending: Ending,
    /// The output on its serial console.
    pub console: String,
}

/// A machine that ended unexpectedly.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Ended {
    /// The operation that was awaited.
    pub during: String,
    /// The remains of the machine.
    pub record: Record,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.record.console.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n  ");
        write!(f, "{}: {:?}; the console's last lines:\n  {tail}", self.during, self.record.ending)
    }
}

impl Machine {
    /// A machine with this kernel, 512 MiB of memory, one processor and nothing else.
    pub fn new(kernel: &Kernel) -> Self {
        Self {
            kernel: kernel.clone(),
            certificates: Vec::new(),
            initramfs: None,
            disks: Vec::new(),
            append: Vec::new(),
            memory: 512,
            tpm: Tpm::Absent,
            tpm_state: None,
            secure_boot: None,
            clock: Clock::Host,
            patience: PATIENCE,
        }
    }

    /// Adds a certificate (DER) to the kernel's `.builtin_trusted_keys`; may be repeated.
    pub fn trusting(mut self, certificate: &[u8]) -> Self {
        self.certificates.extend_from_slice(certificate);
        self
    }

    /// Sets the initramfs.
    pub fn initramfs(mut self, image: &Image) -> Self {
        self.initramfs = Some(image.path().to_owned());
        self
    }

    /// Sets the initramfs of another program.
    pub fn initramfs_file(mut self, path: &Path) -> Self {
        self.initramfs = Some(path.to_owned());
        self
    }

    /// Adds a disk; the first one is `/dev/vda`.
    pub fn disk(mut self, image: &Image, disk: Disk) -> Self {
        self.disks.push((image.path().to_owned(), disk));
        self
    }

    /// Disables a part of the kernel.
    pub fn without(self, part: Part) -> Self {
        // Linux 7 initializes it with all security modules of the same level
        let word = match (part, self.kernel.series()) {
            (Part::Ima, Series::Linux7) => "security_initcall_late,ima_mok_init",
            (Part::Ima, _) => "init_ima,ima_mok_init",
            (Part::Securityfs, Series::Linux7) => "security_initcall_core",
            (Part::Securityfs, _) => "securityfs_init",
        };
        self.append(&format!("initcall_blacklist={word}"))
    }

    /// Appends a word to the kernel's command line.
    pub fn append(mut self, word: &str) -> Self {
        self.append.push(word.to_owned());
        self
    }

    /// Sets the memory, in MiB.
    pub fn memory(mut self, memory: u32) -> Self {
        self.memory = memory;
        self
    }

    /// Sets the TPM.
    pub fn tpm(mut self, tpm: Tpm) -> Self {
        self.tpm = tpm;
        self
    }

    /// Sets the directory with the state of the TPM, for several machines with the same one; else it is new.
    pub fn tpm_state(mut self, directory: &Path) -> Self {
        self.tpm_state = Some(directory.to_owned());
        self
    }

    /// Boots through firmware with Secure Boot, from a unified image of kernel, initramfs and command line.
    pub fn secure_boot(mut self, secure_boot: &SecureBoot) -> Self {
        self.secure_boot = Some(secure_boot.clone());
        self
    }

    /// Sets the clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the time limit for each operation.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the machine and waits for the agent. If it ends instead, the error is an [`Ended`].
    pub fn boot(self) -> Result<Guest> {
        let patience = self.patience;
        Guest::meet(Process::start(&self, Console::File)?, patience)
    }

    /// As [`Machine::boot`], and calls `then` on the host once the console shows `words`.
    pub fn boot_with(self, words: &str, then: impl FnOnce() -> Result<()>) -> Result<Guest> {
        let mut process = Process::start(&self, Console::File)?;
        if let Some(record) = process.says(words, self.patience) {
            return Err(Ended { during: format!("waiting for {words:?}"), record }.into());
        }
        then()?;
        Guest::meet(process, self.patience)
    }

    /// As [`Machine::boot`], with the serial console on this terminal.
    pub fn boot_on_terminal(self) -> Result<Guest> {
        let patience = self.patience;
        Guest::meet(Process::start(&self, Console::Terminal)?, patience)
    }

    /// Starts the machine and waits until its console shows some words; returns the console. The error is an
    /// [`Ended`] if the machine ends or the words do not come.
    pub fn run_until(self, words: &str) -> Result<String> {
        let mut process = Process::start(&self, Console::File)?;
        match process.says(words, self.patience) {
            Some(record) => Err(Ended { during: format!("waiting for {words:?}"), record }.into()),
            None => Ok(process.console()),
        }
    }

    /// Starts the machine and waits for its end; for machines without an agent.
    pub fn run(self) -> Result<Record> {
        let mut process = Process::start(&self, Console::File)?;
        Ok(process.end(self.patience))
    }
}

/// Keeps the log of a console, for the failed test that this thread runs.
pub(crate) fn keep_console(console: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("machine").replace("::", "-");
    let directory = host::target_directory().join("lab/failed");
    let path = directory.join(name).with_extension("log");
    match std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&path, console)) {
        Ok(()) => host::say(&format!("the console's log is in {}", path.display())),
        Err(error) => host::say(&format!("{}: {error}", path.display())),
    }
}
