//! QEMU as a process: started, watched, killed.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::qemu::{self, Console};
use super::{console, tpm, Ending, Machine, Record, Tpm};
use crate::host;

/// A running QEMU and its TPM; both are killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    qemu: Child,
    tpm: Option<Child>,
    directory: TempDir,
    agent: UnixListener,
}

/// The interval between checks whether the process has ended.
const PAUSE: Duration = Duration::from_millis(5);

impl Process {
    pub(super) fn start(machine: &Machine, console: Console) -> Result<Self> {
        // the paths of sockets are limited: not below the target directory
        let directory = tempfile::Builder::new().prefix("lab-machine-").tempdir()?;
        let place = directory.path();
        match &machine.secure_boot {
            Some(secure_boot) => {
                secure_boot.prepare(machine, &qemu::words(machine).join(" "), place)?
            }
            None => machine.kernel.write_trusting(&machine.certificates, &place.join("kernel"))?,
        }
        let agent = UnixListener::bind(directory.path().join("agent"))?;
        agent.set_nonblocking(true)?;
        let tpm = match machine.tpm {
            Tpm::Absent => None,
            Tpm::Version2 => Some(tpm::start(directory.path(), machine.tpm_state.as_deref())?),
        };
        let (name, package) = machine.kernel.architecture().qemu();
        let mut command = host::command(name, package)?;
        command.args(qemu::arguments(machine, directory.path(), console)?);
        command.stderr(fs::File::create(directory.path().join("qemu.err"))?);
        if console == Console::File {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        let qemu = command.spawn().with_context(|| format!("run {name}"))?;
        Ok(Self { qemu, tpm, directory, agent })
    }

    /// Accepts QEMU's connection to the agent's port, which QEMU opens before it starts the guest.
    pub(super) fn port(&mut self, patience: Duration) -> Option<UnixStream> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.agent.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(_) if self.has_ended() => return None,
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        None
    }

    /// Waits until the console shows some words; returns the machine's record if it ends before, or the
    /// words do not come in time.
    pub(super) fn says(&mut self, words: &str, patience: Duration) -> Option<Record> {
        let deadline = Instant::now() + patience;
        while !self.console().contains(words) {
            if self.has_ended() || Instant::now() >= deadline {
                return Some(self.end(Duration::ZERO));
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.qemu.try_wait(), Ok(Some(_)))
    }

    /// Waits for the end; kills QEMU after `patience`.
    pub(super) fn end(&mut self, patience: Duration) -> Record {
        let deadline = Instant::now() + patience;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        let hung = !self.has_ended();
        self.kill();
        let console = self.console();
        let ending = match (console::panic(&console), self.qemu.try_wait()) {
            (Some(message), _) => Ending::Panicked(message),
            (None, _) if hung => Ending::Hung,
            (None, Ok(Some(status))) if status.success() => Ending::Off,
            _ => Ending::Failed(self.file("qemu.err")),
        };
        Record { ending, console }
    }

    /// The output on the serial console so far.
    pub(super) fn console(&self) -> String {
        self.file("console")
    }

    fn file(&self, name: &str) -> String {
        let bytes = fs::read(self.directory.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn kill(&mut self) {
        for process in [Some(&mut self.qemu), self.tpm.as_mut()].into_iter().flatten() {
            // it may have ended already
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
