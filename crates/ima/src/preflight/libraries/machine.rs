//! Machines as glibc's loader knows them: their flags in `/etc/ld.so.cache`
//! (`sysdeps/generic/ldconfig.h`, `dl-cache.h` of each machine), and Debian's directories.

use ima_format::elf::{ByteOrder, Class, Machine};

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
        (21, _) if machine.order == ByteOrder::Big => "powerpc64-linux-gnu",
        (21, _) => "powerpc64le-linux-gnu",
        (22, Class::Bits64) => "s390x-linux-gnu",
        _ => return None,
    })
}
