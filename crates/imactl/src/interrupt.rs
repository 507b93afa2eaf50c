//! What is put in order when the program is told to end: temporary files go, the terminal
//! echoes again.
//!
//! A handler may do next to nothing, so it hands the signal to a thread, which does the work
//! and then lets the signal end the process as it would have without.

use std::io::Read;
use std::mem;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use crate::terminal;

const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Where the handler writes the signal's number.
static TO_THREAD: AtomicI32 = AtomicI32::new(-1);

/// Has the signals that end a program handled. Without descriptors or threads to spare they
/// end it as they are.
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
    // SAFETY: there is room for the answer, and nothing is set
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut before) };
    // signals that nohup or a shell's & ignores stay ignored
    if asked != 0 || before.sa_sigaction == libc::SIG_IGN {
        return;
    }
    let handler: extern "C" fn(libc::c_int) = pass_on;
    action.sa_sigaction = handler as libc::sighandler_t;
    // a second one ends the program at once
    action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
    // SAFETY: the handler calls nothing but write, which is async-signal-safe
    unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
}

extern "C" fn pass_on(signal: libc::c_int) {
    let number = [signal as u8];
    // SAFETY: errno is this thread's own and is put back; the descriptor is never closed, and
    // one byte is there to be read
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(TO_THREAD.load(Ordering::Relaxed), number.as_ptr().cast(), 1);
        *errno = before;
    }
}

/// Puts things in order, and ends the process by the signal.
fn end(signal: libc::c_int) {
    terminal::restore();
    ima::staging::abandon();
    // SAFETY: the signal is one of ours and goes to this process
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
}
