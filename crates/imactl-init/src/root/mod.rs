//! The real root: the meaning of `root=`, the device, and the mount.

mod mount;
pub(crate) mod name;

use alloc::string::String;
use alloc::vec::Vec;

use ima_format::partition;
use ima_format::printable::Printable;
use ima_format::superblock::{self, Superblock};
use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags, CWD};
use rustix::io::{self, Errno};

use crate::file;
use crate::pseudo;
pub use mount::{mount, Mounted};
pub use name::Root;

/// The arguments of the mount: a source for `mount(2)`, and the types to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path of a device, or any source that the file system accepts.
    pub path: Vec<u8>,
    /// Types according to the superblock, the best first; empty if it is not recognised.
    pub types: &'static [&'static str],
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The name below `/dev`.
    name: Vec<u8>,
    number: Option<(u32, u32)>,
    partuuid: Option<String>,
    partlabel: Option<Vec<u8>>,
    place: Option<Place>,
    superblock: Option<Superblock>,
}

/// The location of a partition or a whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The disk's name in sysfs.
    disk: Vec<u8>,
    /// The partition number, from 1; 0 is the whole disk.
    number: u32,
}

impl Device {
    /// Whether the device has any identifier for `root=` besides its name; devices like `ram0` have none.
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

/// Looks the root up once.
pub fn find(root: &Root) -> Option<Source> {
    if let Root::Source(path) = root {
        return Some(Source { path: path.clone(), types: &[] });
    }
    if let Root::Device(path) = root {
        // It may not be in /sys/class/block: /dev/mapper/NAME is a link.
        let file = open(path).ok()?;
        let types = probe(&file).map_or(&[][..], |superblock| superblock.types);
        return Some(Source { path: path.clone(), types });
    }
    let device = root.among(devices().ok()?)?;
    let types = device.superblock.as_ref().map_or(&[][..], |superblock| superblock.types);
    Some(Source { path: device.path(), types })
}

/// All block devices, by name.
pub fn devices() -> Result<Vec<Device>, Errno> {
    let sys = pseudo::SYS.open()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let class = fs::openat(&sys, "class/block", flags, Mode::empty())?;
    let mut names = file::names(&class)?;
    names.sort();
    Ok(names.into_iter().map(|name| describe(&class, name)).collect())
}

/// Reads the properties of a device from sysfs, its superblock and the partition table.
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
        place: None,
        superblock: None,
        name,
    };
    match integer(b"PARTN=") {
        Some(number) => {
            device.place = disk(class, &sys_name).map(|disk| Place { disk, number });
            device.partuuid = device.place.as_ref().and_then(|place| partuuid(class, place));
        }
        None => device.place = Some(Place { disk: sys_name, number: 0 }),
    }
    if let Ok(opened) = open(&device.path()) {
        device.superblock = probe(&opened);
    }
    device
}

/// The disk of a partition, whose directory in sysfs is inside the disk's.
fn disk(class: &OwnedFd, sys_name: &[u8]) -> Option<Vec<u8>> {
    let link = fs::readlinkat(class, sys_name, Vec::new()).ok()?;
    link.to_bytes().rsplit(|&byte| byte == b'/').nth(1).map(Vec::from)
}

fn partuuid(class: &OwnedFd, Place { disk, number }: &Place) -> Option<String> {
    let size = file::read_at(class, &[disk, &b"/queue/logical_block_size"[..]].concat(), 64).ok();
    let size = size.and_then(|size| core::str::from_utf8(&size).ok()?.trim_end().parse().ok());
    // sysfs writes `!` for `/` in the names of devices.
    let disk: Vec<u8> = disk.iter().map(|&byte| if byte == b'!' { b'/' } else { byte }).collect();
    let disk = open(&[b"/dev/", &disk[..]].concat()).ok()?;
    let read = |offset, buffer: &mut [u8]| read_exact_at(&disk, offset, buffer);
    partition::partuuid(&read, size.unwrap_or(512), *number)
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

    pub(super) fn device() -> Device {
        Device {
            name: b"vda2".to_vec(),
            number: Some((254, 2)),
            partuuid: Some("00c0ffee-02".into()),
            partlabel: Some(b"root fs".to_vec()),
            place: Some(Place { disk: b"vda".to_vec(), number: 2 }),
            superblock: Some(Superblock {
                types: &["ext4"],
                uuid: Some("00112233-4455-6677-8899-aabbccddeeff".into()),
                label: Some(b"my root".to_vec()),
            }),
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
