//! The terminal's settings, given back when the program is told to end at a prompt.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A terminal, and how it was set before a prompt switched its echo off.
struct Settings {
    terminal: File,
    before: libc::termios,
}

static KEPT: Mutex<Option<Settings>> = Mutex::new(None);

fn kept() -> MutexGuard<'static, Option<Settings>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, [`restore`] gives the terminal its settings back.
pub(crate) struct Keeper;

impl Drop for Keeper {
    fn drop(&mut self) {
        *kept() = None;
    }
}

/// Keeps the settings that the terminal has now.
pub(crate) fn keep(terminal: File) -> Keeper {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the descriptor is open, and there is room for a termios
    let got = unsafe { libc::tcgetattr(terminal.as_raw_fd(), before.as_mut_ptr()) };
    if got == 0 {
        // SAFETY: tcgetattr succeeded, so that it is filled
        let before = unsafe { before.assume_init() };
        *kept() = Some(Settings { terminal, before });
    }
    Keeper
}

/// Gives the terminal back its settings, if a prompt has changed them.
pub(crate) fn restore() {
    if let Some(Settings { terminal, before }) = &*kept() {
        // SAFETY: the descriptor is open, the settings are those that it had
        unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, before) };
    }
}
