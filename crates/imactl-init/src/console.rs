//! Messages: to the kernel's log, and to the standard error, coloured on a terminal.
//!
//! The kernel's log keeps them with their severity and shows them on the console itself as
//! far as `loglevel=` and `quiet` let it. So on the console only that is written directly
//! which the kernel holds back and which people must see; anywhere else (a pipe, a terminal
//! of somebody logged in) everything is.

use alloc::vec::Vec;
use core::fmt;

use rustix::fd::OwnedFd;
use rustix::fs::{self, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::{stdio, termios};

use crate::file;
use crate::syscall::standard_error;

/// How bad it is: the level of the kernel's log (`include/linux/kern_levels.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The boot stops.
    Critical = 2,
    /// Something was refused.
    Error = 3,
    /// Something weakens the machine, or is odd.
    Warning = 4,
    /// What people want to see of a good boot.
    Notice = 5,
    /// Each thing that was done.
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

/// Where messages go.
#[derive(Debug)]
pub struct Console {
    kernel_log: Option<OwnedFd>,
    standard_error: Place,
    /// Levels below this are shown on the console by the kernel.
    kernel_shows_below: i32,
    /// What `/proc/sys/kernel/printk_devkmsg` was, where it was changed.
    rate_limit: Option<Vec<u8>>,
}

/// What the standard error is.
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
    /// A console, as far as there is one before /proc and /dev are there.
    pub fn open() -> Self {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        Self {
            kernel_log: fs::openat(CWD, "/dev/kmsg", flags, Mode::empty()).ok(),
            standard_error: place(),
            kernel_shows_below: 0,
            rate_limit: None,
        }
    }

    /// Learns from /proc what the kernel shows, and has it take more than ten messages in
    /// five seconds, as user space may write by default.
    pub fn learn(&mut self, proc: &OwnedFd) {
        let Ok(before) = file::read_at(proc, PRINTK_DEVKMSG, 64) else { return };
        if !before.starts_with(b"on") {
            if set(proc, PRINTK_DEVKMSG, b"on\n").is_err() {
                return; // fixed by printk.devkmsg=: messages may get lost on that way
            }
            self.rate_limit = Some(before);
        }
        let levels = file::read_at(proc, PRINTK, 64).unwrap_or_default();
        let levels = core::str::from_utf8(&levels).unwrap_or_default();
        let level = levels.split_ascii_whitespace().next().and_then(|level| level.parse().ok());
        self.kernel_shows_below = level.unwrap_or(0);
    }

    /// Puts back what [`learn`](Self::learn) changed.
    pub fn restore(&mut self, proc: &OwnedFd) {
        if let Some(before) = self.rate_limit.take() {
            match set(proc, PRINTK_DEVKMSG, &before) {
                Ok(()) | Err(_) => {} // more messages than before do no harm
            }
        }
    }

    /// Says one line.
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

/// Prints a text for somebody who called the program by hand.
pub fn print(text: &str) {
    write_to_standard_error(text);
}

fn write_to_standard_error(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(standard_error(), rest) {
            Ok(count @ 1..) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return, // there is nobody left to tell
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

/// Says a line of a severity: `say!(console, Warning, "no {thing}")`.
#[macro_export]
macro_rules! say {
    ($console:expr, $severity:ident, $($message:tt)+) => {
        $console.say($crate::console::Severity::$severity, format_args!($($message)+))
    };
}
