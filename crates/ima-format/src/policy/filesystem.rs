//! File systems by name and magic number: `include/uapi/linux/magic.h`, and the `.name` and `s_magic` of each file
//! system.

/// The purpose of a file system, as far as policies depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Files on a disk of this machine.
    Disk,
    /// A disk format of removable media.
    Removable,
    /// Files in memory, which users can usually write.
    Memory,
    /// Files on another machine.
    Network,
    /// Files that a user-space program serves.
    User,
    /// A file system on top of another.
    Stacked,
    /// The kernel's state: its files cannot have attributes.
    Pseudo,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileSystem {
    /// For `fsname=`.
    pub name: &'static str,
    /// For `fsmagic=`.
    pub magic: u64,
    /// Its purpose.
    pub purpose: Purpose,
}

const fn known(name: &'static str, magic: u64, purpose: Purpose) -> FileSystem {
    FileSystem { name, magic, purpose }
}

/// The file systems that policies commonly name. Several may share a magic number.
pub const FILE_SYSTEMS: &[FileSystem] = &[
    known("ext4", 0xef53, Purpose::Disk),
    known("ext2", 0xef53, Purpose::Disk),
    known("xfs", 0x5846_5342, Purpose::Disk),
    known("btrfs", 0x9123_683e, Purpose::Disk),
    known("f2fs", 0xf2f5_2010, Purpose::Disk),
    known("squashfs", 0x7371_7368, Purpose::Disk),
    known("erofs", 0xe0f5_e1e2, Purpose::Disk),
    known("cramfs", 0x28cd_3d45, Purpose::Disk),
    known("ubifs", 0x2405_1905, Purpose::Disk),
    known("jffs2", 0x72b6, Purpose::Disk),
    known("vfat", 0x4d44, Purpose::Removable),
    known("exfat", 0x2011_bab0, Purpose::Removable),
    known("iso9660", 0x9660, Purpose::Removable),
    known("tmpfs", 0x0102_1994, Purpose::Memory),
    known("rootfs", 0x0102_1994, Purpose::Memory),
    known("devtmpfs", 0x0102_1994, Purpose::Memory),
    known("ramfs", 0x8584_58f6, Purpose::Memory),
    known("rootfs", 0x8584_58f6, Purpose::Memory),
    known("hugetlbfs", 0x9584_58f6, Purpose::Memory),
    known("nfs", 0x6969, Purpose::Network),
    known("nfs4", 0x6969, Purpose::Network),
    known("cifs", 0xff53_4d42, Purpose::Network),
    known("smb3", 0xfe53_4d42, Purpose::Network),
    known("ceph", 0x00c3_6400, Purpose::Network),
    known("9p", 0x0102_1997, Purpose::Network),
    known("fuse", 0x6573_5546, Purpose::User),
    known("fuseblk", 0x6573_5546, Purpose::User),
    known("virtiofs", 0x6573_5546, Purpose::User),
    known("overlay", 0x794c_7630, Purpose::Stacked),
    known("proc", 0x9fa0, Purpose::Pseudo),
    known("sysfs", 0x6265_6572, Purpose::Pseudo),
    known("debugfs", 0x6462_6720, Purpose::Pseudo),
    known("tracefs", 0x7472_6163, Purpose::Pseudo),
    known("securityfs", 0x7363_6673, Purpose::Pseudo),
    known("selinuxfs", 0xf97c_ff8c, Purpose::Pseudo),
    known("smackfs", 0x4341_5d53, Purpose::Pseudo),
    known("devpts", 0x1cd1, Purpose::Pseudo),
    known("cgroup", 0x0027_e0eb, Purpose::Pseudo),
    known("cgroup2", 0x6367_7270, Purpose::Pseudo),
    known("binfmt_misc", 0x4249_4e4d, Purpose::Pseudo),
    known("nsfs", 0x6e73_6673, Purpose::Pseudo),
    known("efivarfs", 0xde5e_81e4, Purpose::Pseudo),
    known("configfs", 0x6265_6570, Purpose::Pseudo),
    known("pstore", 0x6165_676c, Purpose::Pseudo),
    known("bpf", 0xcafe_4a11, Purpose::Pseudo),
    known("fusectl", 0x6573_5543, Purpose::Pseudo),
    known("mqueue", 0x1980_0202, Purpose::Pseudo),
];

/// The file systems with this magic number.
pub fn with_magic(magic: u64) -> impl Iterator<Item = &'static FileSystem> {
    FILE_SYSTEMS.iter().filter(move |known| known.magic == magic)
}

/// The file systems with this name.
pub fn with_name(name: &[u8]) -> impl Iterator<Item = &'static FileSystem> + '_ {
    FILE_SYSTEMS.iter().filter(move |known| known.name.as_bytes() == name)
}

/// Whether a file system is created in one piece and never written.
pub fn is_read_only(name: &str) -> bool {
    matches!(name, "squashfs" | "erofs" | "cramfs" | "iso9660")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_system_is_listed_twice() {
        for (index, one) in FILE_SYSTEMS.iter().enumerate() {
            let same = |other: &&FileSystem| (other.name, other.magic) == (one.name, one.magic);
            assert_eq!(FILE_SYSTEMS.iter().filter(same).count(), 1, "{index} {}", one.name);
        }
    }
}
