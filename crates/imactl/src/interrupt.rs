//! Cleanup when a signal ends the program: remove temporary files, restore the terminal's
//! echo.
//!
//! A signal handler may call few functions. It only passes the signal to a thread, which cleans up
//! and then lets the signal end the process with its default action.

use std::io::Read;
use std::mem;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use crate::terminal;

const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The descriptor to which the handler writes the signal's number.
static TO_THREAD: AtomicI32 = AtomicI32::new(-1);

/// Installs the handlers. If no descriptor or thread is available, signals end the program without
/// cleanup.
pub(crate) fn install() {
    let Ok((mut from_handler, to_thread)) = UnixStream::pair() else { return };
    let wait = move || {
        let mut number = [0];
        if from_handler.read_exact(&mut number).is_ok() {
            end(number[0].into());
        }
    };
    if thread::Builder::new().name("signals".into()).spawn(wait).is_err() {
        return;
    }
    TO_THREAD.store(to_thread.into_raw_fd(), Ordering::Relaxed);
    for signal in SIGNALS {
        handle(signal);
    }
}

fn handle(signal: libc::c_int) {
    // SAFETY: all zeros is a sigaction: no flags, an empty mask, the default action
    let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { mem::zeroed() };
    // SAFETY: `before` has room for the answer, and the null pointer changes nothing
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut before) };
    // signals that are ignored (nohup, a shell's &) stay ignored
    if asked != 0 || before.sa_sigaction == libc::SIG_IGN {
        return;
    }
    let handler: extern "C" fn(libc::c_int) = pass_on;
    action.sa_sigaction = handler as libc::sighandler_t;
    // a second signal ends the program at once
    action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
    // SAFETY: the handler calls nothing but write, which is async-signal-safe
    unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
}

extern "C" fn pass_on(signal: libc::c_int) {
    let number = [signal as u8];
    // SAFETY: errno belongs to this thread and is restored; the descriptor is never closed; `number`
    // has one byte to read
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(TO_THREAD.load(Ordering::Relaxed), number.as_ptr().cast(), 1);
        *errno = before;
    }
}

/// Cleans up, and ends the process by the signal.
fn end(signal: libc::c_int) {
    terminal::restore();
    ima::staging::abandon();
    // SAFETY: `signal` is one of `SIGNALS`, and the process signals itself
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
}
