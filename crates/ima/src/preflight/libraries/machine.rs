//! What glibc's loader knows of machines and processors.
//!
//! | what | glibc |
//! |---|---|
//! | levels of processors, and the directories of `glibc-hwcaps` named after them | `sysdeps/*/dl-hwcaps_subdirs.c` |
//! | flags in `/etc/ld.so.cache` | `sysdeps/generic/ldconfig.h`, `dl-cache.h` of each machine |
//! | `$PLATFORM` | `AT_PLATFORM` of the kernel (`ELF_PLATFORM`) |

use ima_format::elf::{Class, Machine};

/// The levels of a machine's processors, the least one first. It has no directory; a processor
/// of another one looks into its own, then into those below it.
pub(super) fn levels(machine: Machine) -> &'static [&'static str] {
    match (machine.number, machine.class) {
        (62, Class::Bits64) => &["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"],
        (21, Class::Bits64) => &["power8", "power9", "power10"],
        (22, Class::Bits64) => &["zEC12", "z13", "z14", "z15", "z16"],
        _ => &["any"],
    }
}

/// The flags of a machine's libraries in the cache; none where that is not known.
pub(super) fn cache_flags(machine: Machine) -> &'static [u32] {
    match (machine.number, machine.class) {
        (62, Class::Bits64) => &[0x0303],
        (62, Class::Bits32) => &[0x0803],
        (3, _) => &[0x0003],
        (183, Class::Bits64) => &[0x0a03],
        (40, _) => &[0x0903, 0x0b03],
        (21, Class::Bits64) => &[0x0503],
        (22, Class::Bits64) => &[0x0403],
        (243, Class::Bits64) => &[0x1003, 0x0f03],
        _ => &[],
    }
}

/// Debian's directory of a machine's libraries.
pub(super) fn multiarch(machine: Machine) -> Option<&'static str> {
    Some(match (machine.number, machine.class) {
        (62, Class::Bits64) => "x86_64-linux-gnu",
        (3, _) => "i386-linux-gnu",
        (183, _) => "aarch64-linux-gnu",
        (40, _) => "arm-linux-gnueabihf",
        (243, Class::Bits64) => "riscv64-linux-gnu",
        (21, _) => "powerpc64le-linux-gnu",
        (22, Class::Bits64) => "s390x-linux-gnu",
        _ => return None,
    })
}

/// What stands for `$PLATFORM`, where all processors of a machine have the same.
pub(super) fn platform(machine: Machine) -> Option<&'static str> {
    Some(match machine.number {
        62 => "x86_64",
        3 => "i686",
        183 => "aarch64",
        40 => "v7l",
        _ => return None,
    })
}
