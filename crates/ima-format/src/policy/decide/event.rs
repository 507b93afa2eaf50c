//! What the kernel asks its policy about.

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

/// The ids of a process, and the capabilities that bear on `euid=` and `egid=`.
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

    /// The process after `execve` of a program that is set-user-ID to `setuid` and
    /// set-group-ID to `setgid`: it has all capabilities if its effective user is root, none
    /// otherwise (file capabilities, ambient ones and secure bits are not looked at).
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

/// What a rule can ask about a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileFacts {
    /// Its owner, as the mount shows it.
    pub owner: u32,
    /// Its group, as the mount shows it.
    pub group: u32,
    /// `s_magic` of its file system: `statfs(2)`'s `f_type`, but for a few file systems.
    pub fsmagic: u64,
    /// The file system's type, as in `/proc/filesystems`.
    pub fsname: Vec<u8>,
    /// The part of a FUSE type behind the dot: `sshfs` of `fuse.sshfs`.
    pub fs_subtype: Option<Vec<u8>>,
    /// The file system's UUID; null where it has none.
    pub fsuuid: Uuid,
}

impl FileFacts {
    /// A file of root's on an ext4 file system without UUID.
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

/// What is known of labels (`obj_type=` and its kin).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Labels {
    /// No security module knows labels: no rule that asks for one matches.
    None,
    /// A rule that asks for one may match or not.
    Unknown,
    /// These, compared byte for byte. (SELinux compares types and roles so; a user too.)
    Known(LsmConditions),
}

/// One question to the policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// From where.
    pub func: Func,
    /// For what.
    pub access: AccessSet,
    /// On whose behalf.
    pub credentials: Credentials,
    /// About which file; `None` for keys and critical data.
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
