//! The terminal's settings, restored when a signal ends the program at a prompt.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A terminal, and its settings before a prompt disabled the echo.
struct Settings {
    terminal: File,
    before: libc::termios,
}

static KEPT: Mutex<Option<Settings>> = Mutex::new(None);

fn kept() -> MutexGuard<'static, Option<Settings>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it exists, [`restore`] restores the terminal's settings.
pub(crate) struct Keeper;

impl Drop for Keeper {
    fn drop(&mut self) {
        *kept() = None;
    }
}

/// Saves the current settings of a terminal.
pub(crate) fn keep(terminal: File) -> Keeper {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the descriptor is open, and `before` has room for a termios
    let got = unsafe { libc::tcgetattr(terminal.as_raw_fd(), before.as_mut_ptr()) };
    if got == 0 {
        // SAFETY: tcgetattr succeeded, so `before` is initialized
        let before = unsafe { before.assume_init() };
        *kept() = Some(Settings { terminal, before });
    }
    Keeper
}

/// Restores the settings of the terminal, if a prompt has changed them.
pub(crate) fn restore() {
    if let Some(Settings { terminal, before }) = &*kept() {
        // SAFETY: the descriptor is open, and the settings are those of tcgetattr
        unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, before) };
    }
}
