//! The role of `/init`: the first process, from its start by the kernel to the real init.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use ima_format::printable::Printable;
use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode};
use rustix::io::Errno;
use rustix::mount::{self, MountFlags};

use crate::cmdline::{Access, CommandLine, Wait};
use crate::console::{self, Console};
use crate::pseudo;
use crate::root::{self, Root, Source};
use crate::say;
use crate::stop;
use crate::switch_root::{self, Init};
use crate::text::Reason;

/// The mount point of the real root while the initramfs is the root.
const SYSROOT: &str = "/sysroot";
/// The init that is executed without `init=`.
const DEFAULT_INIT: &str = "/sbin/init";
/// The first pause between two lookups of the root device, in milliseconds; it doubles up to the longest.
const FIRST_PAUSE: u64 = 5;
const LONGEST_PAUSE: u64 = 100;

/// Boots. Arguments and environment come from the kernel, and are passed on to the real init.
pub fn run(arguments: Vec<&CStr>, environment: Vec<&CStr>) -> ! {
    let devices = mount_devices();
    // Without a /dev/console in the initramfs, the kernel starts /init without open descriptors.
    console::take_console();
    let mut console = Console::open();
    if let Err(errno) = devices {
        say!(console, Error, "cannot mount devtmpfs (CONFIG_DEVTMPFS): {}", Reason(errno));
    }
    for pseudo in [pseudo::PROC, pseudo::SYS] {
        if let Err(errno) = pseudo.mount() {
            let (kind, path, reason) = (pseudo.kind, pseudo.path, Reason(errno));
            say!(console, Error, "cannot mount {kind} at {path}: {reason}");
        }
    }
    let proc = match pseudo::PROC.open() {
        Ok(proc) => proc,
        Err(errno) => {
            say!(console, Critical, "cannot boot without /proc: {}", Reason(errno));
            stop::machine(&console, None)
        }
    };
    console.learn(&proc);
    let command_line = crate::command_line(&console, &proc);
    let mounted = mount_root(&console, &proc, &command_line);
    if mounted.is_err() {
        say!(console, Critical, "the boot stops: there is no root file system");
        stop::machine(&console, command_line.timeout);
    }
    // For programs that run later; the step does not need it, and reports if there is none.
    match pseudo::SECURITY.mount() {
        Ok(()) | Err(_) => {}
    }
    crate::secure_or_stop(&console, &proc, SYSROOT.as_bytes(), &command_line);
    console.restore(&proc);
    drop(proc);
    let path = command_line.init.unwrap_or_else(|| DEFAULT_INIT.into());
    let path = CString::new(path).unwrap_or_default(); // /proc/cmdline has no NUL
    let arguments = arguments.into_iter().skip(1).collect();
    let init = Init { path, arguments, environment };
    let failure = switch_root::switch(&console, SYSROOT.as_bytes(), &init);
    let path = Printable(init.path.to_bytes());
    say!(console, Critical, "the boot stops: cannot hand over to {path}: {failure}");
    stop::machine(&console, command_line.timeout)
}

/// The kernel itself mounts devtmpfs only without an initramfs.
fn mount_devices() -> Result<(), Errno> {
    match fs::mkdir("/dev", Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(_) => {} // mount reports the error
    }
    let data = CStr::from_bytes_with_nul(b"mode=0755\0").ok();
    match mount::mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, data) {
        Err(Errno::BUSY) => Ok(()),
        result => result,
    }
}

/// Finds and mounts the root; errors are reported.
fn mount_root(console: &Console, proc: &OwnedFd, command_line: &CommandLine) -> Result<(), ()> {
    let Some(root) = &command_line.root else {
        say!(console, Error, "no root= on the command line");
        return Err(());
    };
    stop::sleep_milliseconds(u64::from(command_line.delay) * 1000);
    let source = wait_for(console, root, command_line.wait)?;
    match fs::mkdir(SYSROOT, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(_) => {} // mount reports the error
    }
    let path = Printable(&source.path);
    match root::mount(&source, command_line, proc, SYSROOT) {
        Ok(mounted) => {
            let kind = Printable(&mounted.kind);
            let access = match mounted.access {
                Access::ReadOnly => "read-only",
                Access::ReadWrite => "writable",
            };
            say!(console, Info, "root {root} is {path}, {kind}, mounted {access}");
            Ok(())
        }
        Err(failures) => {
            for (kind, errno) in failures {
                let (kind, reason) = (Printable(&kind), Reason(errno));
                say!(console, Error, "cannot mount {path} as {kind}: {reason}");
            }
            Err(())
        }
    }
}

/// Waits for the root device as long as `rootwait=` permits.
fn wait_for(console: &Console, root: &Root, wait: Wait) -> Result<Source, ()> {
    let (mut waited, mut pause, mut told) = (0, FIRST_PAUSE, false);
    loop {
        if let Some(source) = root::find(root) {
            return Ok(source);
        }
        if let Wait::Seconds(limit) = wait {
            if waited >= u64::from(limit) * 1000 {
                break;
            }
        }
        if waited > 1000 && !told {
            say!(console, Notice, "waiting for root {root}");
            told = true;
        }
        stop::sleep_milliseconds(pause);
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    say!(console, Error, "root {root} did not appear within {} seconds; found:", waited / 1000);
    for device in root::devices().unwrap_or_default() {
        if device.is_of_interest() {
            say!(console, Error, "  {device}");
        }
    }
    Err(())
}
