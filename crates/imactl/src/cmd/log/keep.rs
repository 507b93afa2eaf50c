//! `imactl log keep`

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use ima::advice::Advice;
use ima::attest::keep::{Cycle, KeepError, Keeper, Publisher, Securityfs};
use ima::system::Machine;

use crate::error::{with_causes, Context, Result};
use crate::output::{count, Level, Output};
use crate::Outcome;

/// Move the measurement list from kernel memory to files
///
/// Needs Linux 7.2 with CONFIG_IMA_STAGING, a TPM, and root. Whenever the kernel has enough entries, they are
/// staged and written to a new segment in DIR. They are deleted in the kernel only after all segments and the
/// rest of the list were replayed and result in the PCR values. imactl may be killed at any time: no entry
/// is lost, and none is kept twice. A new boot is detected by the PCR values; its segments go to another
/// directory in DIR. A full disk or a kexec stops it until the next try; the entries stay in the kernel. The
/// exit status is 2 if the kernel cannot stage, there is no TPM, another imactl log keep uses DIR, or the
/// list does not result in the PCR values.
#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// The directory of the segments: DIR/boot-NUMBER/NUMBER
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Move the entries that the kernel has now, and exit
    #[arg(long, conflicts_with_all = ["publish", "socket", "entries", "interval"])]
    once: bool,
    /// Move entries when the kernel has this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    entries: u64,
    /// Milliseconds between two looks at the list
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Write the complete list to binary_runtime_measurements and ascii_runtime_measurements in this directory,
    /// and append new entries at every look, also while entries cannot be moved
    #[arg(long, value_name = "DIR")]
    publish: Option<PathBuf>,
    /// Write the complete list, as it is at that time, to every connection to this Unix socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

type Shared = Mutex<Keeper<Securityfs>>;

/// Locks the keeper, also after a panic: a cycle that failed leaves it as it was.
fn lock(keeper: &Shared) -> MutexGuard<'_, Keeper<Securityfs>> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeepArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let kernel = Securityfs::of(&Machine::here())?;
        let keeper = Mutex::new(Keeper::open(kernel, &self.directory)?);
        if self.once {
            // the first cycle moves entries that an earlier run staged and did not move
            for _ in 0..2 {
                print(&lock(&keeper).cycle()?, output)?;
            }
            return Ok(Outcome::Good);
        }
        let listener = match &self.socket {
            Some(path) => Some(listen(path).at(path)?),
            None => None,
        };
        let keeper = Arc::new(keeper);
        if let Some(listener) = listener {
            let keeper = Arc::clone(&keeper);
            thread::spawn(move || serve(&listener, &keeper));
        }
        self.watch(&keeper, output)
    }

    /// Polls the list, every `--interval` milliseconds.
    fn watch(&self, keeper: &Shared, output: &mut Output) -> Result<Outcome> {
        let (mut publisher, mut complaint) = (None, String::new());
        loop {
            match self.look(keeper, &mut publisher, output)? {
                Ok(()) => complaint.clear(),
                Err(error) if !error.may_pass() => return Err(error.into()),
                Err(error) => {
                    let said = with_causes(&error);
                    if said != complaint {
                        output.warn(&match error.advice() {
                            Some(advice) => format!("{said} ({advice})"),
                            None => said.clone(),
                        });
                    }
                    complaint = said;
                }
            }
            output.flush()?;
            thread::sleep(Duration::from_millis(self.interval));
        }
    }

    /// Moves entries if there are enough, and publishes the new ones.
    fn look(
        &self,
        keeper: &Shared,
        publisher: &mut Option<Publisher>,
        output: &mut Output,
    ) -> Result<Result<(), KeepError>> {
        let mut keeper = lock(keeper);
        let cycle = keeper.waiting().and_then(|waiting| match waiting >= self.entries {
            true => keeper.cycle(),
            false => Ok(Cycle::Nothing),
        });
        let moved = match cycle {
            Ok(cycle) => Ok(print(&cycle, output)?),
            // publish the entries that could not be moved, too
            Err(error) if error.may_pass() => Err(error),
            Err(error) => return Ok(Err(error)),
        };
        let published = match (publisher.as_mut(), &self.publish) {
            (Some(publisher), _) => publisher.update(&keeper),
            (None, Some(directory)) => {
                Publisher::create(directory, &keeper).map(|new| *publisher = Some(new))
            }
            (None, None) => Ok(()),
        };
        Ok(moved.and(published))
    }
}

fn print(cycle: &Cycle, output: &mut Output) -> io::Result<()> {
    let Cycle::Moved { segment, records } = cycle else { return Ok(()) };
    output.object("moved").path(&**segment).field("entries", *records).end()?;
    let entries = count(*records, "entry");
    output.line(Level::Normal, format_args!("{}: {entries} in all segments", segment.display()))
}

/// Listens on a socket that only its owner can connect to; replaces the socket of an earlier process.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The most connections that are served at a time; further ones are closed.
const CONNECTIONS: usize = 16;
/// A reader that pauses longer is disconnected.
const PATIENCE: Duration = Duration::from_secs(30);

fn serve(listener: &UnixListener, keeper: &Shared) {
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // no file descriptors, or no memory: try again
                thread::sleep(Duration::from_secs(1));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let open = &open;
            scope.spawn(move || {
                // the error of one reader does not affect the keeper
                drop(send(stream, keeper));
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn send(mut stream: UnixStream, keeper: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let snapshot = lock(keeper).snapshot().map_err(io::Error::other)?;
    snapshot.write_from(0, &mut stream).map(drop)
}
