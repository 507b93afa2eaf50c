//! Machines: a kernel, an initramfs and discs under QEMU, and how they end.

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

/// How long the guest may take to bring its agent up, or to answer, or to end: much more
/// than the seconds that it takes, for machines that do other work besides.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine to be switched on.
#[derive(Debug)]
pub struct Machine {
    kernel: Kernel,
    certificates: Vec<u8>,
    initramfs: Option<PathBuf>,
    discs: Vec<(PathBuf, Disc)>,
    append: Vec<String>,
    memory: u32,
    tpm: Tpm,
    tpm_state: Option<PathBuf>,
    secure_boot: Option<SecureBoot>,
    clock: Clock,
    patience: Duration,
}

/// What becomes of what a guest writes to a disc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disc {
    /// Forgotten: the image stays as it is, and may be in several machines.
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

/// What makes a machine's time pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's.
    Host,
    /// Its own instructions, a nanosecond each: what it takes does not depend on the host,
    /// nor on what else the host does, but for waiting for its discs.
    Instructions,
}

/// A part of the kernel that a machine can be without, for all that its programs can see:
/// the kernel has it but does not initialize it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// IMA: no `ima` in securityfs, no `.ima` keyring.
    Ima,
    /// securityfs: it cannot be mounted, and there is nowhere to.
    Securityfs,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It powered itself off, or rebooted.
    Off,
    /// The kernel panicked, with these words.
    Panicked(String),
    /// It did not get on in the time that it was given, and was killed.
    Hung,
    /// QEMU itself failed, with these words.
    Failed(String),
}

/// What is left of a machine.
#[derive(Debug, Clone)]
pub struct Record {
    /// How it ended.
    pub ending: Ending,
    /// All that was written to its serial console.
    pub console: String,
}

/// A machine that ended when it was not meant to.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Ended {
    /// While what was waited for.
    pub during: String,
    /// What is left.
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
    /// A machine with this kernel, 512 MiB, one processor and nothing else.
    pub fn new(kernel: &Kernel) -> Self {
        Self {
            kernel: kernel.clone(),
            certificates: Vec::new(),
            initramfs: None,
            discs: Vec::new(),
            append: Vec::new(),
            memory: 512,
            tpm: Tpm::Absent,
            tpm_state: None,
            secure_boot: None,
            clock: Clock::Host,
            patience: PATIENCE,
        }
    }

    /// Its kernel has this certificate (DER) in `.builtin_trusted_keys`; there may be more
    /// than one.
    pub fn trusting(mut self, certificate: &[u8]) -> Self {
        self.certificates.extend_from_slice(certificate);
        self
    }

    /// Its initramfs.
    pub fn initramfs(mut self, image: &Image) -> Self {
        self.initramfs = Some(image.path().to_owned());
        self
    }

    /// An initramfs made by others.
    pub fn initramfs_file(mut self, path: &Path) -> Self {
        self.initramfs = Some(path.to_owned());
        self
    }

    /// A disc; the first is `/dev/vda`.
    pub fn disc(mut self, image: &Image, disc: Disc) -> Self {
        self.discs.push((image.path().to_owned(), disc));
        self
    }

    /// Its kernel does without a part.
    pub fn without(self, part: Part) -> Self {
        // Linux 7 initializes them with all security modules of the same level
        let word = match (part, self.kernel.series()) {
            (Part::Ima, Series::Linux7) => "security_initcall_late,ima_mok_init",
            (Part::Ima, _) => "init_ima,ima_mok_init",
            (Part::Securityfs, Series::Linux7) => "security_initcall_core",
            (Part::Securityfs, _) => "securityfs_init",
        };
        self.append(&format!("initcall_blacklist={word}"))
    }

    /// A word for the kernel's command line.
    pub fn append(mut self, word: &str) -> Self {
        self.append.push(word.to_owned());
        self
    }

    /// MiB of memory.
    pub fn memory(mut self, memory: u32) -> Self {
        self.memory = memory;
        self
    }

    /// Its TPM.
    pub fn tpm(mut self, tpm: Tpm) -> Self {
        self.tpm = tpm;
        self
    }

    /// Where its TPM keeps its state, for the next machine with this TPM; else it is a new one.
    pub fn tpm_state(mut self, directory: &Path) -> Self {
        self.tpm_state = Some(directory.to_owned());
        self
    }

    /// Firmware with Secure Boot starts it, from a unified image of kernel, initramfs and command line.
    pub fn secure_boot(mut self, secure_boot: &SecureBoot) -> Self {
        self.secure_boot = Some(secure_boot.clone());
        self
    }

    /// Its clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long it may take for each thing that is waited for.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Switches it on and waits for the agent; an error that tells how it ended instead is
    /// an [`Ended`].
    pub fn boot(self) -> Result<Guest> {
        let patience = self.patience;
        Guest::meet(Process::start(&self, Console::File)?, patience)
    }

    /// As [`Machine::boot`]; when its console has said `words`, `then` is done on the host.
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

    /// Switches it on and waits until its console has some words; gives the console, and an [`Ended`] where
    /// the machine ends or nothing of them comes.
    pub fn run_until(self, words: &str) -> Result<String> {
        let mut process = Process::start(&self, Console::File)?;
        match process.says(words, self.patience) {
            Some(record) => Err(Ended { during: format!("waiting for {words:?}"), record }.into()),
            None => Ok(process.console()),
        }
    }

    /// Switches it on and waits for its end; for machines without an agent.
    pub fn run(self) -> Result<Record> {
        let mut process = Process::start(&self, Console::File)?;
        Ok(process.end(self.patience))
    }
}

/// Keeps the log of a console for whoever looks into the failed test that this thread runs.
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
