//! The events about which the kernel consults its policy.

use alloc::vec::Vec;

use crate::policy::ast::{AccessSet, Func, LsmConditions, Uuid};

/// Whether a process has a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability {
    /// It does.
    Held,
    /// It does not.
    Absent,
}

/// The ids of a process, and the capabilities that affect `euid=` and `egid=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // `struct cred`
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    /// `CAP_SETUID`
    pub cap_setuid: Capability,
    /// `CAP_SETGID`
    pub cap_setgid: Capability,
}

impl Credentials {
    /// The superuser.
    pub const ROOT: Self =
        Self { cap_setuid: Capability::Held, cap_setgid: Capability::Held, ..Self::user(0, 0) };

    /// A user without privilege.
    pub const fn user(uid: u32, gid: u32) -> Self {
        Self {
            uid,
            euid: uid,
            suid: uid,
            gid,
            egid: gid,
            sgid: gid,
            cap_setuid: Capability::Absent,
            cap_setgid: Capability::Absent,
        }
    }

    /// The process after `execve` of a program that is set-user-ID to `setuid` and set-group-ID to `setgid`. It has all
    /// capabilities if its effective user is root, and none otherwise: file capabilities, ambient capabilities and
    /// secure bits are ignored.
    #[must_use]
    pub fn executing(self, setuid: Option<u32>, setgid: Option<u32>) -> Self {
        let euid = setuid.unwrap_or(self.euid);
        let egid = setgid.unwrap_or(self.egid);
        let capability = if euid == 0 { Capability::Held } else { Capability::Absent };
        Self {
            euid,
            suid: euid,
            egid,
            sgid: egid,
            cap_setuid: capability,
            cap_setgid: capability,
            ..self
        }
    }
}

/// The properties of a file that rules compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileFacts {
    /// Its owner, as the mount shows it.
    pub owner: u32,
    /// Its group, as the mount shows it.
    pub group: u32,
    /// `s_magic` of its file system: the same as `f_type` of `statfs(2)`, except for a few file systems.
    pub fsmagic: u64,
    /// The file system's type, as in `/proc/filesystems`.
    pub fsname: Vec<u8>,
    /// The part of a FUSE type after the dot: `sshfs` of `fuse.sshfs`.
    pub fs_subtype: Option<Vec<u8>>,
    /// The file system's UUID; null if it has none.
    pub fsuuid: Uuid,
}

impl FileFacts {
    /// A file of root on an ext4 file system without a UUID.
    pub fn on_ext4() -> Self {
        Self {
            owner: 0,
            group: 0,
            fsmagic: 0xef53,
            fsname: b"ext4".to_vec(),
            fs_subtype: None,
            fsuuid: Uuid::NULL,
        }
    }
}

/// The labels of an event, as far as they are known (`obj_type=` and the like).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Labels {
    /// No security module has labels: no rule with a condition on labels matches.
    None,
    /// The labels are unknown: a rule with a condition on labels may match or not.
    Unknown,
    /// These labels, compared byte for byte, as SELinux compares users, roles and types.
    Known(LsmConditions),
}

/// An event about which the policy is consulted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The hook.
    pub func: Func,
    /// The access.
    pub access: AccessSet,
    /// The credentials of the process.
    pub credentials: Credentials,
    /// The file; `None` for keys and critical data.
    pub file: Option<FileFacts>,
    /// Labels of the file and of the process.
    pub labels: Labels,
    /// The keyring's name for `KEY_CHECK`, the label for `CRITICAL_DATA`.
    pub data: Option<Vec<u8>>,
}

impl Event {
    /// An event about a file, without labels.
    pub fn on_file(
        func: Func,
        access: AccessSet,
        credentials: Credentials,
        file: FileFacts,
    ) -> Self {
        Self { func, access, credentials, file: Some(file), labels: Labels::None, data: None }
    }
}
