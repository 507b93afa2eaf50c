//! Mounting the real root.
//!
//! As the kernel does without an initramfs (`mount_root_generic()` of `init/do_mounts.c`): read-only
//! unless `rw` is given; the types of `rootfstype=`, else those of the superblock, else all that the
//! kernel has; once more read-only if no type mounts writable.

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mount::{self, MountFlags};

use super::Source;
use crate::cmdline::{Access, CommandLine};
use crate::file;

/// A mounted root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The type of its file system.
    pub kind: Vec<u8>,
    /// How it is mounted; possibly read-only although `rw` was requested.
    pub access: Access,
}

/// Mounts the root at `target`, or returns the error of each type.
pub fn mount(
    source: &Source,
    command_line: &CommandLine,
    proc: &OwnedFd,
    target: &str,
) -> Result<Mounted, Vec<(Vec<u8>, Errno)>> {
    let options = Options::parse(&command_line.root_flags);
    let types = types(source, &command_line.root_types, proc);
    let mut failures = Vec::new();
    for access in accesses(options.access.unwrap_or(command_line.access)) {
        failures.clear();
        let mut flags = options.flags;
        if *access == Access::ReadOnly {
            flags |= MountFlags::RDONLY;
        }
        if types.len() > 1 {
            flags |= MountFlags::SILENT; // most of them are expected to fail
        }
        for kind in &types {
            let data = CString::new(&options.rest[..]).unwrap_or_default();
            match mount::mount(&source.path, target, kind, flags, &*data) {
                Ok(()) => return Ok(Mounted { kind: kind.clone(), access: *access }),
                Err(errno) => failures.push((kind.clone(), errno)),
            }
        }
    }
    Err(failures)
}

fn accesses(wanted: Access) -> &'static [Access] {
    match wanted {
        Access::ReadOnly => &[Access::ReadOnly],
        Access::ReadWrite => &[Access::ReadWrite, Access::ReadOnly],
    }
}

fn types(source: &Source, wanted: &[Vec<u8>], proc: &OwnedFd) -> Vec<Vec<u8>> {
    if !wanted.is_empty() {
        return wanted.to_vec();
    }
    if source.path.starts_with(b"ubi") {
        return alloc::vec![b"ubifs".to_vec()];
    }
    if !source.types.is_empty() {
        return source.types.iter().map(|kind| kind.as_bytes().into()).collect();
    }
    block_types(&file::read_at(proc, b"filesystems", 1 << 16).unwrap_or_default())
}

/// The file systems for block devices in `/proc/filesystems`.
fn block_types(list: &[u8]) -> Vec<Vec<u8>> {
    let lines = list.split(|&byte| byte == b'\n');
    lines.filter_map(|line| line.strip_prefix(b"\t")).map(Vec::from).collect()
}

/// `rootflags=`: the flags of `mount(2)`, and the options of the file system.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MountFlags,
    access: Option<Access>,
    rest: String,
}

impl Options {
    /// Splits them as mount(8) does, so that options from fstab work.
    fn parse(text: &[u8]) -> Self {
        let mut options = Self { flags: MountFlags::empty(), access: None, rest: String::new() };
        let text = String::from_utf8_lossy(text);
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ro" => options.access = Some(Access::ReadOnly),
                "rw" => options.access = Some(Access::ReadWrite),
                "defaults" => {}
                _ => match flag(word) {
                    Some(flag) => options.flags |= flag,
                    None => {
                        if !options.rest.is_empty() {
                            options.rest.push(',');
                        }
                        options.rest.push_str(word);
                    }
                },
            }
        }
        options
    }
}

/// `SB_I_VERSION`. As an option, ext4 rejects it since Linux 6.1, where it is always on; as a flag,
/// every version accepts it.
const I_VERSION: MountFlags = MountFlags::from_bits_retain(1 << 23);

fn flag(word: &str) -> Option<MountFlags> {
    Some(match word {
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "strictatime" => MountFlags::STRICTATIME,
        "lazytime" => MountFlags::LAZYTIME,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "silent" => MountFlags::SILENT,
        "iversion" | "i_version" => I_VERSION,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_file_systems() {
        let options = Options::parse(b"noatime,data=journal,,iversion,rw,commit=5,defaults");
        assert_eq!(options.flags, MountFlags::NOATIME | I_VERSION);
        assert_eq!(options.access, Some(Access::ReadWrite));
        assert_eq!(options.rest, "data=journal,commit=5");
    }

    #[test]
    fn a_list_of_types_leaves_out_those_without_a_device() {
        let list = b"nodev\tsysfs\n\text4\nnodev\tproc\n\tsquashfs\n";
        assert_eq!(block_types(list), [b"ext4".to_vec(), b"squashfs".to_vec()]);
    }

    #[test]
    fn types_come_from_the_user_then_the_superblock() {
        let proc = pseudo_proc();
        let source = Source { path: b"/dev/vda".to_vec(), types: &["ext4", "ext3"] };
        assert_eq!(types(&source, &[b"xfs".to_vec()], &proc), [b"xfs".to_vec()]);
        assert_eq!(types(&source, &[], &proc), [b"ext4".to_vec(), b"ext3".to_vec()]);
        let ubi = Source { path: b"ubi0:root".to_vec(), types: &[] };
        assert_eq!(types(&ubi, &[], &proc), [b"ubifs".to_vec()]);
    }

    fn pseudo_proc() -> OwnedFd {
        crate::pseudo::PROC.open().unwrap()
    }
}
