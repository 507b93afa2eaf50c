//! Stopping the machine.

use rustix::fs;
use rustix::system::{self, RebootCommand};
use rustix::thread::{self, Timespec};

use crate::console::Console;
use crate::say;

/// Stops the machine for good: reboots it after `timeout` seconds, or halts it without one.
pub fn machine(console: &Console, timeout: Option<u32>) -> ! {
    fs::sync();
    match timeout {
        Some(seconds) => {
            say!(console, Critical, "rebooting in {seconds} seconds (imactl.timeout)");
            sleep_milliseconds(u64::from(seconds) * 1000);
            request(RebootCommand::Restart);
        }
        None => {
            say!(console, Critical, "the machine halts; imactl.timeout=SECONDS would reboot it");
            request(RebootCommand::Halt);
        }
    }
    // CAP_SYS_BOOT is missing, as in a container.
    say!(console, Critical, "the kernel does not let this process stop the machine");
    loop {
        sleep_milliseconds(3_600_000);
    }
}

fn request(command: RebootCommand) {
    match system::reboot(command) {
        Ok(()) | Err(_) => {} // the caller continues
    }
}

/// Sleeps for the full time, even if signals arrive.
pub fn sleep_milliseconds(milliseconds: u64) {
    let mut left = Timespec {
        tv_sec: (milliseconds / 1000).try_into().unwrap_or(i64::MAX),
        tv_nsec: ((milliseconds % 1000) * 1_000_000) as _,
    };
    while let thread::NanosleepRelativeResult::Interrupted(rest) = thread::nanosleep(&left) {
        left = rest;
    }
}
