//! The bytes that EVM hashes: a file's protected attributes, its owner and its mode.
//!
//! Mirrors `evm_calc_hmac_or_hash` and `hmac_add_misc` in `security/integrity/evm/evm_crypto.c`, and
//! `evm_config_default_xattrnames` in `evm_main.c` (Linux 5.10 to 7.3).
//!
//! First come the values of the protected attributes that the file has, in the order of
//! [`Protected`]: no names, no lengths, no separators. Then comes `struct h_misc`, in the word size and byte
//! order of the machine that verifies:
//!
//! | 64-bit | 32-bit | size | field |
//! |---|---|---|---|
//! | 0 | 0 | 8 or 4 | inode number (`unsigned long`); 0 in a portable signature |
//! | 8 | 4 | 4 | inode generation (`FS_IOC_GETVERSION`); 0 in a portable signature |
//! | 12 | 8 | 4 | user ID, of the initial user namespace |
//! | 16 | 12 | 4 | group ID |
//! | 20 | 16 | 2 | mode, with the file type |
//! | 22 | 18 | 2 | zeros |
//!
//! Unless the signature is portable, the 16 bytes of the file system's UUID follow on a kernel with
//! `CONFIG_EVM_ATTR_FSUUID`. The hash algorithm is the one in the signature's header; an HMAC is
//! HMAC-SHA-1 with a key of 128 bytes, zero-padded (`MAX_KEY_SIZE`).
//!
//! The kernel rejects a portable signature of a file without `security.ima` (`EPERM`).

mod protected;

use alloc::vec::Vec;
use core::fmt;

use crate::elf::Class;
use crate::measure::Endian;
use crate::policy::kernel::{Kernel, LongSize};
pub use protected::{NameFault, Protected};

/// The file type of a regular file in [`Metadata::mode`] (`S_IFREG`).
pub const REGULAR: u16 = 0o100_000;

/// Owner and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions and its type (`st_mode`).
    pub mode: u16,
}

/// The inode that an HMAC or a signature is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InodeId {
    /// Its number.
    pub number: u64,
    /// Its generation.
    pub generation: u32,
    /// The UUID of its file system, for a kernel that includes it; `None` if it is not known.
    pub fsuuid: Option<[u8; 16]>,
}

/// How the machine that verifies lays out `struct h_misc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The size of `unsigned long`.
    pub word_size: Class,
    /// The order of bytes in integers.
    pub endian: Endian,
}

impl Machine {
    /// Most machines: 64 bits, little-endian.
    pub const DEFAULT: Self = Self { word_size: Class::Bits64, endian: Endian::Little };

    /// The machine that a kernel of this configuration runs on.
    pub fn of_kernel(kernel: &Kernel) -> Self {
        let word_size = match kernel.long_size {
            LongSize::Bits32 => Class::Bits32,
            LongSize::Bits64 => Class::Bits64,
        };
        Self { word_size, endian: kernel.endian }
    }

    /// The machine that an ELF file is for, by its first bytes.
    pub fn of_elf(head: &[u8]) -> Option<Self> {
        let (class, order) = match head.strip_prefix(b"\x7fELF")? {
            [class, order, ..] => (*class, *order),
            _ => return None,
        };
        let word_size = match class {
            1 => Class::Bits32,
            2 => Class::Bits64,
            _ => return None,
        };
        let endian = match order {
            1 => Endian::Little,
            2 => Endian::Big,
            _ => return None,
        };
        Some(Self { word_size, endian })
    }

    /// All layouts, this one first: nothing in a signature says which one it is over.
    pub fn all(self) -> [Self; 4] {
        let Self { word_size, endian } = self;
        let other_endian = endian.other();
        let other_size = match word_size {
            Class::Bits32 => Class::Bits64,
            Class::Bits64 => Class::Bits32,
        };
        [
            self,
            Self { word_size: other_size, endian },
            Self { word_size, endian: other_endian },
            Self { word_size: other_size, endian: other_endian },
        ]
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.word_size {
            Class::Bits32 => 32,
            Class::Bits64 => 64,
        };
        write!(f, "{bits}-bit {}", self.endian)
    }
}

impl Metadata {
    /// Appends `struct h_misc` and the UUID to the values of the attributes; portable without an
    /// inode.
    pub fn append_to(self, message: &mut Vec<u8>, inode: Option<InodeId>, machine: Machine) {
        let endian = machine.endian;
        let (number, generation) = inode.map_or((0, 0), |inode| (inode.number, inode.generation));
        match machine.word_size {
            Class::Bits64 => message.extend_from_slice(&endian.u64_bytes(number)),
            // as the assignment to an `unsigned long` of 32 bits
            Class::Bits32 => message.extend_from_slice(&endian.bytes(number as u32)),
        }
        for word in [generation, self.uid, self.gid] {
            message.extend_from_slice(&endian.bytes(word));
        }
        message.extend_from_slice(&endian.u16_bytes(self.mode));
        message.extend_from_slice(&[0; 2]);
        if let Some(fsuuid) = inode.and_then(|inode| inode.fsuuid) {
            message.extend_from_slice(&fsuuid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;
    use crate::hex::Hex;

    const FILE: Metadata = Metadata { uid: 1000, gid: 1001, mode: 0o100_755 };

    fn misc(inode: Option<InodeId>, word_size: Class, endian: Endian) -> String {
        let mut message = Vec::new();
        FILE.append_to(&mut message, inode, Machine { word_size, endian });
        std::format!("{}", Hex(&message))
    }

    /// What `evmctl sign -v` of ima-evm-utils 1.6.2 prints as `hmac_misc`, and as `uuid`.
    #[test]
    fn bytes_are_evmctls() {
        use Class::{Bits32, Bits64};
        use Endian::Little;
        let fsuuid = [
            0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x34,
            0x56, 0x78,
        ];
        let bare = InodeId { number: 1234, generation: 99, fsuuid: None };
        let with_uuid = InodeId { fsuuid: Some(fsuuid), ..bare };
        for (inode, word_size, expected) in [
            (None, Bits64, "000000000000000000000000e8030000e9030000ed810000"),
            (None, Bits32, "0000000000000000e8030000e9030000ed810000"),
            (Some(bare), Bits64, "d20400000000000063000000e8030000e9030000ed810000"),
            (
                Some(with_uuid),
                Bits64,
                "d20400000000000063000000e8030000e9030000ed81000012345678123456789abcdef012345678",
            ),
            (
                Some(with_uuid),
                Bits32,
                "d204000063000000e8030000e9030000ed81000012345678123456789abcdef012345678",
            ),
        ] {
            assert_eq!(misc(inode, word_size, Little), expected);
        }
    }

    #[test]
    fn a_big_endian_machine_has_other_bytes() {
        let inode = Some(InodeId { number: 1234, generation: 99, fsuuid: None });
        let expected = "00000000000004d200000063000003e8000003e981ed0000";
        assert_eq!(misc(inode, Class::Bits64, Endian::Big), expected);
        let expected = "000004d200000063000003e8000003e981ed0000";
        assert_eq!(misc(inode, Class::Bits32, Endian::Big), expected);
    }

    #[test]
    fn all_layouts_differ() {
        let layouts = Machine::DEFAULT.all().map(|it| misc(None, it.word_size, it.endian));
        let different: std::collections::BTreeSet<_> = layouts.iter().collect();
        assert_eq!(different.len(), 4);
    }
}
