//! The real root: what `root=` means, which device that is, and mounting it.

mod mount;
mod partition;
mod superblock;

use alloc::string::String;
use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags, CWD};
use rustix::io::{self, Errno};

use crate::file;
use crate::pseudo;
use crate::text::Printable;
pub use mount::{mount, Mounted};
use superblock::Superblock;

/// `root=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `/dev/NAME`.
    Device(Vec<u8>),
    /// `MAJOR:MINOR`.
    Number(u32, u32),
    /// `UUID=`, of the file system.
    Uuid(Vec<u8>),
    /// `LABEL=`, of the file system.
    Label(Vec<u8>),
    /// `PARTUUID=`, of the partition.
    PartUuid(Vec<u8>),
    /// `PARTLABEL=`, of the GPT partition.
    PartLabel(Vec<u8>),
    /// Anything else, as file systems without a block device want it: `ubi0:NAME`, `mtd:NAME`,
    /// a virtiofs or 9p tag.
    Source(Vec<u8>),
}

impl Root {
    /// Reads the value of `root=`.
    pub fn parse(value: &[u8]) -> Self {
        type Make = fn(Vec<u8>) -> Root;
        const FORMS: [(&[u8], Make); 9] = [
            (b"UUID=", Root::Uuid),
            (b"LABEL=", Root::Label),
            (b"PARTUUID=", Root::PartUuid),
            (b"PARTLABEL=", Root::PartLabel),
            // There is no udev that would make these links.
            (b"/dev/disk/by-uuid/", Root::Uuid),
            (b"/dev/disk/by-label/", Root::Label),
            (b"/dev/disk/by-partuuid/", Root::PartUuid),
            (b"/dev/disk/by-partlabel/", Root::PartLabel),
            (b"/dev/", Root::device),
        ];
        for (prefix, make) in FORMS {
            if let Some(rest) = value.strip_prefix(prefix) {
                return make(rest.into());
            }
        }
        number(value).unwrap_or_else(|| Self::Source(value.into()))
    }

    fn device(name: Vec<u8>) -> Self {
        Self::Device([b"/dev/", &name[..]].concat())
    }

    fn is(&self, device: &Device) -> bool {
        let same = |text: &Option<String>, wanted: &[u8]| {
            text.as_ref().is_some_and(|text| text.as_bytes().eq_ignore_ascii_case(wanted))
        };
        let superblock = device.superblock.as_ref();
        match self {
            Self::Device(path) => *path == device.path(),
            Self::Number(major, minor) => device.number == Some((*major, *minor)),
            Self::Uuid(uuid) => superblock.is_some_and(|found| same(&found.uuid, uuid)),
            Self::Label(label) => {
                superblock.is_some_and(|found| found.label.as_deref() == Some(label))
            }
            Self::PartUuid(uuid) => same(&device.partuuid, uuid),
            Self::PartLabel(label) => device.partlabel.as_deref() == Some(label),
            Self::Source(_) => false,
        }
    }
}

fn number(value: &[u8]) -> Option<Root> {
    let (major, minor) = core::str::from_utf8(value).ok()?.split_once(':')?;
    Some(Root::Number(major.parse().ok()?, minor.parse().ok()?))
}

impl core::fmt::Display for Root {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Device(value) | Self::Source(value) => Printable(value).fmt(f),
            Self::Number(major, minor) => write!(f, "{major}:{minor}"),
            Self::Uuid(value) => write!(f, "UUID={}", Printable(value)),
            Self::Label(value) => write!(f, "LABEL={}", Printable(value)),
            Self::PartUuid(value) => write!(f, "PARTUUID={}", Printable(value)),
            Self::PartLabel(value) => write!(f, "PARTLABEL={}", Printable(value)),
        }
    }
}

/// What to mount: a source for `mount(2)`, and the types to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A device's path, or whatever the file system takes.
    pub path: Vec<u8>,
    /// Types by the superblock, the best first; empty if it says nothing.
    pub types: &'static [&'static str],
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Below `/dev`.
    name: Vec<u8>,
    number: Option<(u32, u32)>,
    partuuid: Option<String>,
    partlabel: Option<Vec<u8>>,
    superblock: Option<Superblock>,
}

impl Device {
    /// Whether `root=` may name it by anything but its name: `ram0` and the like say nothing.
    pub fn is_of_interest(&self) -> bool {
        self.superblock.is_some() || self.partuuid.is_some() || self.partlabel.is_some()
    }

    fn path(&self) -> Vec<u8> {
        [b"/dev/", &self.name[..]].concat()
    }
}

impl core::fmt::Display for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Printable(&self.path()).fmt(f)?;
        if let Some(superblock) = &self.superblock {
            write!(f, " {}", superblock.types.first().unwrap_or(&""))?;
            if let Some(uuid) = &superblock.uuid {
                write!(f, " UUID={uuid}")?;
            }
            if let Some(label) = &superblock.label {
                write!(f, " LABEL={}", Printable(label))?;
            }
        }
        if let Some(partuuid) = &self.partuuid {
            write!(f, " PARTUUID={partuuid}")?;
        }
        if let Some(partlabel) = &self.partlabel {
            write!(f, " PARTLABEL={}", Printable(partlabel))?;
        }
        Ok(())
    }
}

/// Looks for the root once.
pub fn find(root: &Root) -> Option<Source> {
    if let Root::Source(path) = root {
        return Some(Source { path: path.clone(), types: &[] });
    }
    if let Root::Device(path) = root {
        // It need not be in /sys/class/block: /dev/mapper/NAME is a link.
        let file = open(path).ok()?;
        let types = probe(&file).map_or(&[][..], |superblock| superblock.types);
        return Some(Source { path: path.clone(), types });
    }
    let device = devices().ok()?.into_iter().find(|device| root.is(device))?;
    let types = device.superblock.as_ref().map_or(&[][..], |superblock| superblock.types);
    Some(Source { path: device.path(), types })
}

/// Every block device there is, by name.
pub fn devices() -> Result<Vec<Device>, Errno> {
    let sys = pseudo::SYS.open()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let class = fs::openat(&sys, "class/block", flags, Mode::empty())?;
    let mut names = file::names(&class)?;
    names.sort();
    Ok(names.into_iter().map(|name| describe(&class, name)).collect())
}

/// Reads what sysfs, the superblock and the partition table say of a device.
fn describe(class: &OwnedFd, sys_name: Vec<u8>) -> Device {
    let read = |tail: &[u8]| file::read_at(class, &[&sys_name[..], tail].concat(), 4096).ok();
    let event = read(b"/uevent").unwrap_or_default();
    let value =
        |name: &[u8]| event.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name));
    let integer = |name| core::str::from_utf8(value(name)?).ok()?.parse::<u32>().ok();
    let name = value(b"DEVNAME=").unwrap_or(&sys_name).to_vec();
    let mut device = Device {
        number: integer(b"MAJOR=").zip(integer(b"MINOR=")),
        partuuid: None,
        partlabel: value(b"PARTNAME=").map(Vec::from),
        superblock: None,
        name,
    };
    if let Some(partition) = integer(b"PARTN=") {
        device.partuuid = partuuid(class, &sys_name, partition);
    }
    if let Ok(opened) = open(&device.path()) {
        device.superblock = probe(&opened);
    }
    device
}

/// A partition's directory in sysfs is inside its disk's.
fn partuuid(class: &OwnedFd, sys_name: &[u8], partition: u32) -> Option<String> {
    let link = fs::readlinkat(class, sys_name, Vec::new()).ok()?;
    let disk = link.to_bytes().rsplit(|&byte| byte == b'/').nth(1)?;
    let size = file::read_at(class, &[disk, b"/queue/logical_block_size"].concat(), 64).ok();
    let size = size.and_then(|size| core::str::from_utf8(&size).ok()?.trim_end().parse().ok());
    // sysfs has `!` where names in /dev have `/`.
    let disk: Vec<u8> = disk.iter().map(|&byte| if byte == b'!' { b'/' } else { byte }).collect();
    let disk = open(&[b"/dev/", &disk[..]].concat()).ok()?;
    let read = |offset, buffer: &mut [u8]| read_exact_at(&disk, offset, buffer);
    partition::partuuid(&read, size.unwrap_or(512), partition)
}

fn open(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    fs::openat(CWD, path, flags, Mode::empty())
}

fn probe(device: &OwnedFd) -> Option<Superblock> {
    let mut head = alloc::vec![0; superblock::HEAD_SIZE];
    let mut at_btrfs = alloc::vec![0; superblock::HEAD_SIZE];
    read_exact_at(device, 0, &mut head)?;
    let tail: &[u8] = match read_exact_at(device, superblock::BTRFS_OFFSET, &mut at_btrfs) {
        Some(()) => &at_btrfs,
        None => &[],
    };
    superblock::identify(&head, tail)
}

fn read_exact_at(file: &OwnedFd, mut offset: u64, mut buffer: &mut [u8]) -> Option<()> {
    while !buffer.is_empty() {
        match io::retry_on_intr(|| io::pread(file, &mut *buffer, offset)).ok()? {
            0 => return None,
            count => {
                offset += count as u64;
                buffer = buffer.get_mut(count..)?;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn device() -> Device {
        Device {
            name: b"vda2".to_vec(),
            number: Some((254, 2)),
            partuuid: Some("00c0ffee-02".into()),
            partlabel: Some(b"root fs".to_vec()),
            superblock: Some(Superblock {
                types: &["ext4"],
                uuid: Some("00112233-4455-6677-8899-aabbccddeeff".into()),
                label: Some(b"my root".to_vec()),
            }),
        }
    }

    #[test]
    fn every_form_of_root_finds_its_device() {
        let device = device();
        for form in [
            "/dev/vda2",
            "254:2",
            "UUID=00112233-4455-6677-8899-AABBCCDDEEFF",
            "LABEL=my root",
            "PARTUUID=00C0FFEE-02",
            "PARTLABEL=root fs",
            "/dev/disk/by-uuid/00112233-4455-6677-8899-aabbccddeeff",
            "/dev/disk/by-label/my root",
        ] {
            assert!(Root::parse(form.as_bytes()).is(&device), "{form}");
        }
        for form in ["/dev/vda", "254:1", "UUID=", "LABEL=My root", "PARTUUID=00c0ffee-01"] {
            assert!(!Root::parse(form.as_bytes()).is(&device), "{form}");
        }
    }

    #[test]
    fn what_is_no_block_device_is_kept_as_it_is() {
        for form in ["ubi0:rootfs", "mtd:data", "tag", ""] {
            assert_eq!(Root::parse(form.as_bytes()), Root::Source(form.into()));
        }
    }

    #[test]
    fn a_device_is_described_by_what_root_may_say() {
        assert_eq!(
            device().to_string(),
            "/dev/vda2 ext4 UUID=00112233-4455-6677-8899-aabbccddeeff LABEL=my root \
             PARTUUID=00c0ffee-02 PARTLABEL=root fs"
        );
    }
}
