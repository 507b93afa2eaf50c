//! What the lab asks of its agent in the guest, and what the agent answers.
//!
//! Both speak JSON lines over the virtio port [`PORT`]: the agent first sends a
//! [`Message::Hello`], then a [`Message::Reply`] to each [`Request`], in order. A reply
//! carries everything that the kernel said, to audit and to its log, while the action
//! ran.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of the virtio port (`/sys/class/virtio-ports/*/name`).
pub const PORT: &str = "lab.agent";

/// An action to perform, with whose rights.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Given back in the reply.
    pub id: u64,
    /// What to do.
    pub action: Action,
    /// With whose rights; the agent's own (root, all capabilities) where there are none.
    pub credentials: Option<Credentials>,
}

/// One thing to do in the guest; paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// `execve` of `argv[0]` in a child; answers [`Output::Exited`].
    Execute {
        /// The program's path, then its arguments.
        argv: Vec<String>,
        /// The whole environment.
        environment: Vec<(String, String)>,
    },
    /// `open` for reading and `mmap(PROT_READ | PROT_EXEC, MAP_PRIVATE)`.
    MapExecutable {
        /// The file.
        path: String,
    },
    /// `mmap(PROT_READ, MAP_PRIVATE)`, then `mprotect(PROT_READ | PROT_EXEC)`.
    ProtectExecutable {
        /// The file.
        path: String,
    },
    /// Reads a whole file, of whatever file system; answers [`Output::Content`].
    Read {
        /// The file.
        path: String,
    },
    /// Opens a file and closes it.
    Open {
        /// The file.
        path: String,
        /// What for.
        access: OpenFor,
    },
    /// Creates the file or empties it, and writes it.
    Write {
        /// The file.
        path: String,
        /// Its whole content.
        content: Bytes,
        /// Its permissions.
        mode: u32,
    },
    /// Changes bytes of a file that is there.
    Patch {
        /// The file.
        path: String,
        /// Where.
        position: Position,
        /// What is written there.
        content: Bytes,
    },
    /// Copies content, owner and permissions.
    Copy {
        /// From this file.
        from: String,
        /// To this file, created or emptied.
        to: String,
        /// Whether `security.*` attributes go along.
        attributes: Attributes,
    },
    /// Removes a file, or an empty directory.
    Remove {
        /// The file.
        path: String,
    },
    /// Makes a directory.
    MakeDirectory {
        /// The directory.
        path: String,
    },
    /// Sets owner and group.
    ChangeOwner {
        /// The file.
        path: String,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Sets permissions.
    ChangeMode {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// Sets an extended attribute.
    SetAttribute {
        /// The file.
        path: String,
        /// The attribute, as in `security.ima`.
        name: String,
        /// Its value.
        value: Bytes,
    },
    /// Reads an extended attribute; answers [`Output::Content`].
    ReadAttribute {
        /// The file.
        path: String,
        /// The attribute.
        name: String,
    },
    /// Removes an extended attribute.
    RemoveAttribute {
        /// The file.
        path: String,
        /// The attribute.
        name: String,
    },
    /// Mounts; the target is made if it is not there.
    Mount {
        /// The device, or any word for a file system without one.
        source: String,
        /// Where.
        target: String,
        /// The file system, as in `/proc/filesystems`.
        kind: String,
        /// May the mount be written to.
        access: Access,
        /// Options of the file system.
        options: String,
    },
    /// Mounts a directory once more, with owners that are mapped: 0 on the disk is `first` there, 1 is
    /// `first` + 1, and so on.
    MountMapped {
        /// The directory.
        path: String,
        /// Where; it is made if it is not there.
        target: String,
        /// The first owner and group.
        first: u32,
    },
    /// Unmounts.
    Unmount {
        /// Where.
        target: String,
    },
    /// `finit_module`.
    LoadModule {
        /// The module's file.
        path: String,
        /// Its parameters.
        parameters: String,
    },
    /// `kexec_file_load`: makes a kernel ready to be started in this one's place.
    LoadKernel {
        /// Its bzImage.
        path: String,
        /// Its initramfs, if it gets one.
        initramfs: Option<String>,
    },
    /// `kexec_load` of no segments, which forgets what was loaded.
    ForgetKernel,
    /// Starts the loaded kernel in this one's place, without a sync. If all goes well the answer is another
    /// [`Message::Hello`].
    StartKernel,
    /// `delete_module`.
    UnloadModule {
        /// The module's name.
        name: String,
    },
    /// Has the module `test_firmware` request a firmware file; answers
    /// [`Output::Content`] as the module got it.
    RequestFirmware {
        /// Its name below `/lib/firmware`.
        name: String,
    },
    /// Writes a path to `/sys/kernel/security/ima/policy`: the kernel reads the file.
    LoadPolicy {
        /// The policy file.
        path: String,
    },
    /// Writes the text of a policy to `/sys/kernel/security/ima/policy`.
    WritePolicy {
        /// The rules.
        text: String,
    },
    /// Offers policies to the kernel, one after the other, and takes each back: what comes in
    /// at one opening of `ima/policy` is dropped when one write of it fails, and the last does.
    /// Answers [`Output::Taken`].
    OfferPolicies {
        /// The policies.
        offers: Vec<Offer>,
    },
    /// `add_key` of type `asymmetric`.
    AddKey {
        /// The keyring's description in `/proc/keys`, as in `.ima`.
        keyring: String,
        /// A DER certificate.
        certificate: Bytes,
    },
    /// `add_key` of many certificates, one after the other. Answers [`Output::Taken`].
    AddKeys {
        /// The keyring and the certificate of each.
        offers: Vec<(String, Bytes)>,
    },
    /// `add_key` of type `blacklist` to `.blacklist`.
    Revoke {
        /// As in `bin:` and the digest in hexadecimal digits.
        entry: String,
        /// Its signature, PKCS#7.
        signature: Bytes,
    },
    /// Enables fs-verity on a file: SHA-256, blocks of 4096 bytes, no salt.
    EnableVerity {
        /// The file.
        path: String,
    },
    /// Moves the mounts below `root`, makes it the root and executes `argv[0]` in the
    /// agent's place. If all goes well the answer is another [`Message::Hello`].
    SwitchRoot {
        /// Where the new root is mounted.
        root: String,
        /// What to execute, seen from the new root.
        argv: Vec<String>,
    },
    /// A shell on the serial console, until it exits.
    Console {
        /// The shell and its arguments.
        argv: Vec<String>,
    },
    /// Writes everything back and powers off; no reply follows.
    PowerOff,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenFor {
    /// `O_RDONLY`
    Read,
    /// `O_RDONLY | O_DIRECT`
    ReadDirect,
    /// `O_WRONLY`
    Write,
    /// `O_WRONLY | O_APPEND`
    Append,
    /// `O_RDWR`
    ReadWrite,
}

/// A policy, and how it is handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offer {
    /// As a file whose path is written.
    File(Bytes),
    /// Written itself, as often as the kernel takes a part of it.
    Text(Bytes),
}

/// Where a [`Action::Patch`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// So many bytes from the start.
    Start(u64),
    /// After the last byte.
    End,
}

/// What becomes of `security.*` attributes in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attributes {
    /// As `cp -a` as root does.
    Kept,
    /// As `cp` does.
    Dropped,
}

/// Whether a file system may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// `MS_RDONLY`.
    ReadOnly,
    /// Without it.
    ReadWrite,
}

/// Real, effective and saved id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// `setresuid`'s first argument.
    pub real: u32,
    /// Its second.
    pub effective: u32,
    /// Its third.
    pub saved: u32,
}

impl Ids {
    /// The same id three times.
    pub const fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id }
    }
}

/// The rights with which an action is performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User ids.
    pub uid: Ids,
    /// Group ids.
    pub gid: Ids,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Permitted and effective capabilities as a mask (bit `CAP_SETUID` is 7); none said,
    /// it is what the kernel leaves after the change of user.
    pub capabilities: Option<u64>,
}

impl Credentials {
    /// An ordinary user, in the group of the same number.
    pub const fn user(id: u32) -> Self {
        Self { uid: Ids::all(id), gid: Ids::all(id), groups: Vec::new(), capabilities: None }
    }
}

/// `CAP_SETGID` as a mask for [`Credentials::capabilities`].
pub const CAP_SETGID: u64 = 1 << 6;
/// `CAP_SETUID` as a mask for [`Credentials::capabilities`].
pub const CAP_SETUID: u64 = 1 << 7;

/// What the agent sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Message {
    /// The agent is there.
    Hello(Hello),
    /// An action was performed.
    Reply(Reply),
}

/// The agent's first words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's process id: 1 where it is the init.
    pub pid: u32,
    /// All that the kernel said since it was started.
    pub heard: Heard,
}

/// What came of an action.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// What came of it.
    pub outcome: Result<Output, Failure>,
    /// What the kernel said meanwhile.
    pub heard: Heard,
}

/// What an action gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// It was done.
    Done,
    /// The program was executed and ended.
    Exited {
        /// How it ended.
        status: Status,
        /// Its standard output.
        stdout: Bytes,
        /// Its standard error.
        stderr: Bytes,
    },
    /// Bytes that were read.
    Content(Bytes),
    /// For each offer the error of the system call that the kernel refused, if it refused one.
    Taken(Vec<Option<Errno>>),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A system call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The call and its object, as in `execve /bin/x`.
    pub call: String,
    /// Its error.
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno)
    }
}

/// What the kernel said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Audit records, in order; none where the kernel has no audit.
    pub audit: Vec<AuditLine>,
    /// Other kernel messages, in order.
    pub messages: Vec<KernelMessage>,
    /// Why some of it may be missing. Nothing may be concluded from silence then.
    pub lost: Option<String>,
}

/// An audit record as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its type, as in `AUDIT_INTEGRITY_DATA`, 1800.
    pub kind: u16,
    /// `audit(time:serial): ...`
    pub text: String,
}

/// A record of the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelMessage {
    /// Since the start of the kernel.
    pub microseconds: u64,
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// The text, without its time.
    pub text: String,
}

/// An error number of Linux; both ends are x86-64.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Self = Self(libc::$name);)*

            /// The kernel's name, where it is one that tests meet.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT EIO ENXIO E2BIG ENOEXEC EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV
    ENOTDIR EISDIR EINVAL ETXTBSY EFBIG ENOSPC EROFS ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP
    ENODATA EBADMSG EOPNOTSUPP ETIMEDOUT ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED
    ENOPKG ELIBBAD
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes, hexadecimal on the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// As text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl<T: Into<Vec<u8>>> From<T> for Bytes {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.len() <= 400 => write!(f, "{text:?}"),
            _ => write!(f, "{} bytes", self.0.len()),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
        let text: String =
            self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.as_bytes()
            .chunks(2)
            .map(|pair| {
                let pair = std::str::from_utf8(pair).map_err(serde::de::Error::custom)?;
                u8::from_str_radix(pair, 16).map_err(serde::de::Error::custom)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_wire() {
        let bytes = Bytes((0..=255).collect());
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        assert!(serde_json::from_str::<Bytes>("\"0g\"").is_err());
    }

    #[test]
    fn errors_have_the_kernels_names() {
        assert_eq!(Errno::EACCES.to_string(), "EACCES");
        assert_eq!(Errno(4095).to_string(), "errno 4095");
    }
}
