//! The value of `root=`.
//!
//! | form | which device |
//! |---|---|
//! | `/dev/NAME`, `MAJOR:MINOR` | this device |
//! | `UUID=`, `LABEL=`, `/dev/disk/by-uuid/`, `/dev/disk/by-label/` | the one with this file system |
//! | `PARTUUID=`, `PARTLABEL=`, `/dev/disk/by-partuuid/`, `/dev/disk/by-partlabel/` | the one with this partition |
//! | `PARTUUID=.../PARTNROFF=N` | the partition whose number is N higher (`devt_from_partuuid()`) |
//!
//! UUIDs are compared without regard to case. A value may be in quotes (`LABEL="my root"`), and the
//! characters of a label may be escaped as udev escapes them in link names (`my\x20root`).

use alloc::vec::Vec;

use super::{Device, Place};
use ima_format::printable::Printable;

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
    /// `PARTUUID=` of the partition, and the offset to add to its number.
    PartUuid(Vec<u8>, i32),
    /// `PARTLABEL=`, of the GPT partition.
    PartLabel(Vec<u8>),
    /// Any other value, for file systems without a block device: `ubi0:NAME`, `mtd:NAME`, a virtiofs or
    /// 9p tag.
    Source(Vec<u8>),
}

impl Root {
    /// Reads the value of `root=`.
    pub fn parse(value: &[u8]) -> Self {
        type Make = fn(&[u8]) -> Root;
        const FORMS: [(&[u8], Make); 9] = [
            (b"UUID=", |value| Root::Uuid(unquoted(value).into())),
            (b"LABEL=", |value| Root::Label(unquoted(value).into())),
            (b"PARTUUID=", |value| Root::part_uuid(unquoted(value))),
            (b"PARTLABEL=", |value| Root::PartLabel(unquoted(value).into())),
            // These links are made by udev, which is not running.
            (b"/dev/disk/by-uuid/", |value| Root::Uuid(value.into())),
            (b"/dev/disk/by-label/", |value| Root::Label(value.into())),
            (b"/dev/disk/by-partuuid/", |value| Root::PartUuid(value.into(), 0)),
            (b"/dev/disk/by-partlabel/", |value| Root::PartLabel(value.into())),
            (b"/dev/", |value| Root::Device([b"/dev/", value].concat())),
        ];
        for (prefix, make) in FORMS {
            if let Some(rest) = value.strip_prefix(prefix) {
                return make(rest);
            }
        }
        number(value).unwrap_or_else(|| Self::Source(value.into()))
    }

    /// `UUID` or `UUID/PARTNROFF=N`. Any other text after a slash matches no device.
    fn part_uuid(value: &[u8]) -> Self {
        let slash = value.iter().position(|&byte| byte == b'/');
        let (uuid, rest) = value.split_at(slash.unwrap_or(value.len()));
        let offset = rest
            .strip_prefix(b"/PARTNROFF=")
            .and_then(|offset| core::str::from_utf8(offset).ok()?.parse().ok());
        match (rest.is_empty(), offset) {
            (true, _) => Self::PartUuid(uuid.into(), 0),
            (false, Some(offset)) => Self::PartUuid(uuid.into(), offset),
            (false, None) => Self::PartUuid(value.into(), 0),
        }
    }

    /// Finds the device in a list of all devices.
    pub(super) fn among(&self, devices: Vec<Device>) -> Option<Device> {
        let found = devices.iter().position(|device| self.is(device))?;
        let Self::PartUuid(_, offset @ (..=-1 | 1..)) = self else {
            return devices.into_iter().nth(found);
        };
        let Place { disk, number } = devices.get(found)?.place.clone()?;
        let place = Some(Place { disk, number: number.checked_add_signed(*offset)? });
        devices.into_iter().find(|device| device.place == place)
    }

    /// Whether this is the named device.
    pub(super) fn is(&self, device: &Device) -> bool {
        let same = |text: Option<&alloc::string::String>, wanted: &[u8]| {
            text.is_some_and(|text| text.as_bytes().eq_ignore_ascii_case(wanted))
        };
        let is_label = |label: Option<&Vec<u8>>, wanted: &[u8]| {
            label.is_some_and(|label| label == wanted || *label == unescaped(wanted))
        };
        let superblock = device.superblock.as_ref();
        match self {
            Self::Device(path) => *path == device.path(),
            Self::Number(major, minor) => device.number == Some((*major, *minor)),
            Self::Uuid(uuid) => same(superblock.and_then(|found| found.uuid.as_ref()), uuid),
            Self::Label(label) => {
                is_label(superblock.and_then(|found| found.label.as_ref()), label)
            }
            Self::PartUuid(uuid, _) => same(device.partuuid.as_ref(), uuid),
            Self::PartLabel(label) => is_label(device.partlabel.as_ref(), label),
            Self::Source(_) => false,
        }
    }
}

fn number(value: &[u8]) -> Option<Root> {
    let (major, minor) = core::str::from_utf8(value).ok()?.split_once(':')?;
    Some(Root::Number(major.parse().ok()?, minor.parse().ok()?))
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// `\xNN` as the byte; other backslashes stay.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|digits| digits.get(..2));
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits
            .and_then(|digits| u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { rest.get(4..).unwrap_or_default() } else { tail };
    }
    bytes
}

impl core::fmt::Display for Root {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Device(value) | Self::Source(value) => Printable(value).fmt(f),
            Self::Number(major, minor) => write!(f, "{major}:{minor}"),
            Self::Uuid(value) => write!(f, "UUID={}", Printable(value)),
            Self::Label(value) => write!(f, "LABEL={}", Printable(value)),
            Self::PartUuid(value, 0) => write!(f, "PARTUUID={}", Printable(value)),
            Self::PartUuid(value, offset) => {
                write!(f, "PARTUUID={}/PARTNROFF={offset}", Printable(value))
            }
            Self::PartLabel(value) => write!(f, "PARTLABEL={}", Printable(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::super::tests::device;
    use super::*;

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
            "LABEL=\"my root\"",
            r"LABEL=my\x20root",
            r"PARTLABEL=\x72oot\x20fs",
            "PARTUUID=\"00c0ffee-02\"",
            "/dev/disk/by-partuuid/00C0FFEE-02",
            r"/dev/disk/by-label/my\x20root",
            r"/dev/disk/by-partlabel/root\x20fs",
            "/dev/disk/by-uuid/00112233-4455-6677-8899-aabbccddeeff",
            "/dev/disk/by-label/my root",
        ] {
            assert!(Root::parse(form.as_bytes()).is(&device), "{form}");
        }
        for form in [
            "/dev/vda",
            "254:1",
            "UUID=",
            "LABEL=My root",
            "PARTUUID=00c0ffee-01",
            r"LABEL=my\x2xroot",
            "LABEL=\"my root",
            "PARTUUID=00c0ffee-02/2",
            "PARTUUID=/PARTNROFF=1",
        ] {
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
    fn a_partition_is_found_by_its_distance_from_another() {
        let partition = |number: u32| Device {
            name: alloc::format!("vda{number}").into_bytes(),
            partuuid: (number > 0).then(|| alloc::format!("00c0ffee-{number:02x}")),
            place: Some(Place { disk: b"vda".to_vec(), number }),
            ..device()
        };
        let other = Device { place: Some(Place { disk: b"vdb".to_vec(), number: 3 }), ..device() };
        let devices =
            || alloc::vec![partition(0), partition(1), partition(2), other.clone(), partition(3)];
        for (offset, name) in [("1", "vda3"), ("-1", "vda1"), ("0", "vda2"), ("-2", "vda0")] {
            let form = alloc::format!("PARTUUID=00C0FFEE-02/PARTNROFF={offset}");
            let root = Root::parse(form.as_bytes());
            let found = root.among(devices()).unwrap();
            assert_eq!(found.name, name.as_bytes(), "{form}");
            assert_eq!(root.to_string().contains("PARTNROFF"), offset != "0");
        }
        for form in ["PARTUUID=00c0ffee-02/PARTNROFF=2", "PARTUUID=00c0ffee-02/PARTNROFF=-3"] {
            assert_eq!(Root::parse(form.as_bytes()).among(devices()), None, "{form}");
        }
    }
}
