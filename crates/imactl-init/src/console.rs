//! Messages: to the kernel's log, and to the standard error, coloured on a terminal.
//!
//! The kernel's log keeps them with their severity, and shows them on the console as far as `loglevel=`
//! and `quiet` permit. Directly to the console go only messages that the kernel does not show and
//! people must see. Any other standard error (a pipe, the terminal of a user who is logged in)
//! receives all of them.

use alloc::vec::Vec;
use core::fmt;

use rustix::fd::OwnedFd;
use rustix::fs::{self, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::{stdio, termios};

use crate::file;
use crate::syscall::standard_error;

/// The severity: the level of the kernel's log (`include/linux/kern_levels.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The boot stops.
    Critical = 2,
    /// Something was denied or rejected.
    Error = 3,
    /// Something weakens the machine, or is unusual.
    Warning = 4,
    /// The summary of a good boot.
    Notice = 5,
    /// Each action.
    Info = 6,
}

impl Severity {
    fn colour(self) -> &'static str {
        match self {
            Self::Critical => "\x1b[1;31m",
            Self::Error => "\x1b[31m",
            Self::Warning => "\x1b[33m",
            Self::Notice => "\x1b[32m",
            Self::Info => "",
        }
    }
}

/// The outputs for messages.
#[derive(Debug)]
pub struct Console {
    kernel_log: Option<OwnedFd>,
    standard_error: Place,
    /// The kernel shows levels below this on the console.
    kernel_shows_below: i32,
    /// The previous value of `/proc/sys/kernel/printk_devkmsg`, if it was changed.
    rate_limit: Option<Vec<u8>>,
}

/// The type of the standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Closed,
    /// A terminal that is the kernel's console.
    KernelConsole,
    Terminal,
    Other,
}

/// The kernel's log rejects a longer line.
const LINE_LIMIT: usize = 900;
const PRINTK: &[u8] = b"sys/kernel/printk";
const PRINTK_DEVKMSG: &[u8] = b"sys/kernel/printk_devkmsg";

impl Console {
    /// Opens the log; /proc and /dev may not be mounted yet.
    pub fn open() -> Self {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        Self {
            kernel_log: fs::openat(CWD, "/dev/kmsg", flags, Mode::empty()).ok(),
            standard_error: place(),
            kernel_shows_below: 0,
            rate_limit: None,
        }
    }

    /// Reads from /proc which levels the kernel shows, and removes the limit on messages from user
    /// space: ten in five seconds by default.
    pub fn learn(&mut self, proc: &OwnedFd) {
        let Ok(before) = file::read_at(proc, PRINTK_DEVKMSG, 64) else { return };
        if !before.starts_with(b"on") {
            if set(proc, PRINTK_DEVKMSG, b"on\n").is_err() {
                return; // printk.devkmsg= fixed the value: the limit stays, and messages may be lost
            }
            self.rate_limit = Some(before);
        }
        let levels = file::read_at(proc, PRINTK, 64).unwrap_or_default();
        let levels = core::str::from_utf8(&levels).unwrap_or_default();
        let level = levels.split_ascii_whitespace().next().and_then(|level| level.parse().ok());
        self.kernel_shows_below = level.unwrap_or(0);
    }

    /// Restores the value that [`learn`](Self::learn) changed.
    pub fn restore(&mut self, proc: &OwnedFd) {
        if let Some(before) = self.rate_limit.take() {
            match set(proc, PRINTK_DEVKMSG, &before) {
                Ok(()) | Err(_) => {} // more messages than before do no harm
            }
        }
    }

    /// Writes one line; longer ones are cut.
    pub fn say(&self, severity: Severity, message: fmt::Arguments<'_>) {
        let mut line = alloc::format!("imactl-init: {message}");
        if line.len() > LINE_LIMIT {
            let end = (0..=LINE_LIMIT).rev().find(|&end| line.is_char_boundary(end));
            line.truncate(end.unwrap_or(0));
            line.push_str("...");
        }
        let level = severity as i32;
        let logged = self.kernel_log.as_ref().is_some_and(|log| {
            file::write_all(log, alloc::format!("<{level}>{line}\n").as_bytes()).is_ok()
        });
        let shown_by_kernel = logged && level < self.kernel_shows_below;
        let wanted = match self.standard_error {
            Place::Closed => false,
            Place::KernelConsole => !shown_by_kernel && (severity <= Severity::Warning || !logged),
            Place::Terminal | Place::Other => true,
        };
        if wanted {
            self.write(severity, &line);
        }
    }

    fn write(&self, severity: Severity, line: &str) {
        let text = match (self.standard_error, severity.colour()) {
            (Place::Other, _) | (_, "") => [line, "\n"].concat(),
            (_, colour) => [colour, line, "\x1b[0m\n"].concat(),
        };
        write_to_standard_error(&text);
    }
}

/// Makes `/dev/console` the standard input, output and error, if it can be opened.
pub fn take_console() {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    if let Ok(console) = fs::openat(CWD, "/dev/console", flags, Mode::empty()) {
        let results = [
            stdio::dup2_stdin(&console),
            stdio::dup2_stdout(&console),
            stdio::dup2_stderr(&console),
        ];
        debug_assert!(results.iter().all(Result::is_ok));
    }
}

/// Prints a text for a user who called the program by hand.
pub fn print(text: &str) {
    write_to_standard_error(text);
}

fn write_to_standard_error(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(standard_error(), rest) {
            Ok(count @ 1..) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return, // no one reads it any more
        }
    }
}

/// `/dev/console` is character device 5:1.
fn place() -> Place {
    let Ok(status) = fs::fstat(standard_error()) else { return Place::Closed };
    let device = (fs::major(status.st_rdev), fs::minor(status.st_rdev));
    match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice if device == (5, 1) => Place::KernelConsole,
        FileType::CharacterDevice if termios::isatty(standard_error()) => Place::Terminal,
        FileType::Directory => Place::Closed, // see syscall::fill_standard_descriptors
        _ => Place::Other,
    }
}

fn set(proc: &OwnedFd, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    let file = fs::openat(proc, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    file::write_all(&file, value)
}

/// Writes a message with a severity: `say!(console, Warning, "no {thing}")`.
#[macro_export]
macro_rules! say {
    ($console:expr, $severity:ident, $($message:tt)+) => {
        $console.say($crate::console::Severity::$severity, format_args!($($message)+))
    };
}
