//! The program: an entry point, an allocator and a panic handler in place of std.
//!
//! Built by `cargo xtask init`, which sets `panic=abort`.

#![no_std]
#![no_main]

extern crate alloc;

mod start;

use core::panic::PanicInfo;

use imactl_init::console::Console;
use imactl_init::{say, stop, EXIT_UNABLE};
use rustix::process;

#[global_allocator]
static HEAP: start::heap::Heap = start::heap::Heap::new();

/// A bug in this program fails closed: the first process stops the machine, any other reports an error.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let console = Console::open();
    say!(console, Critical, "internal error: {info}");
    if process::getpid() == process::Pid::INIT {
        stop::machine(&console, None);
    }
    start::exit(EXIT_UNABLE)
}
