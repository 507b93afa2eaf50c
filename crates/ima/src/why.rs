//! Why the kernel of this machine lets root use a file, or does not.
//!
//! The same judge as [`preflight`](crate::preflight)'s looks at one file where it lies: on
//! which file system, with which attribute, under the policy and the keys that are in force.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use ima_format::policy::ast::{Policy, Uuid};
use ima_format::policy::decide::{Credentials, Operation};
use ima_format::policy::filesystem;
use ima_format::policy::kernel::Kernel;
use ima_format::xattr::{Attribute, KeyId, XATTR_NAME_EVM, XATTR_NAME_IMA};
use rustix::io::Errno;

use crate::advice::Advice;
use crate::container::tree::Directory;
use crate::container::AttributeName;
use crate::digest::FileHasher;
use crate::evm;
use crate::fsuuid;
use crate::key::certificate::Certificate;
use crate::preflight::{
    evm_verdict, purpose_of, Answer, Attributes, Bench, Evm, Judge, Mount, Nature, Owners, Source,
    SourceError, SourceFile, Use,
};
use crate::verify::{Keyring, Requirement, Revocations, Rule, Verdict, Verifier};

/// The policy and keys by which a file is judged.
#[derive(Debug)]
pub struct Grounds<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The certificates at hand whose keys the kernel trusts.
    pub trusted: &'a [Certificate],
    /// Other certificates at hand, one of which may have been meant.
    pub others: &'a [Certificate],
    /// The revoked digests and keys.
    pub revoked: &'a Revocations,
    /// EVM, if it is active, with the keys in `.evm` whose certificates are at hand.
    pub evm: Option<&'a Evm>,
    /// The other keys in `.evm`; `None` if they cannot be seen.
    pub evm_others: Option<&'a [KeyId]>,
}

/// The account of a file.
#[derive(Debug)]
pub struct Account {
    /// Where it lies: links followed.
    pub path: PathBuf,
    /// Its use.
    pub purpose: Use,
    /// The kernel's answers to root: first for the file's own use, then for the rest of
    /// [`OPERATIONS`].
    pub answers: Vec<(Operation, Answer)>,
    /// The program that its `#!` line names: a file of its own.
    pub interpreter: Option<PathBuf>,
    /// The file system.
    pub mount: Mount,
    /// Whether the file system is mounted `noexec`, which holds root, too.
    pub noexec: bool,
    /// Whether no one may execute it, not even root.
    pub not_executable: bool,
    /// Its attribute, whatever the policy asks for.
    pub attribute: Verdict,
    /// Whether it carries `security.evm`.
    pub has_evm: bool,
    /// EVM's verdict, if it is active and everything that it covers can be read.
    pub evm: Option<evm::Verdict>,
    /// Whether the answers depend on that verdict. They do not if only the kernel has its key.
    pub considers_evm: bool,
    /// For a signature by an unknown key, or by none of that id: the certificate that made it.
    pub signer: Option<Certificate>,
}

/// The operations that root may be denied: to execute, map, load as a module, as firmware, as a policy.
pub const OPERATIONS: [Operation; 5] = [
    Operation::Execute,
    Operation::MapExecutable,
    Operation::LoadModule,
    Operation::LoadFirmware,
    Operation::LoadPolicy,
];

/// Why nothing can be said about a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyError {
    /// It cannot be looked at.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: SourceError,
    },
    /// It is a directory, a device, a socket.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
}

impl Advice for WhyError {}

/// Predicts the kernel's answers to root about a file of this machine.
///
/// # Errors
/// The file cannot be read.
pub fn ask(file: &Path, grounds: &Grounds<'_>) -> Result<Account, WhyError> {
    let read = |source| WhyError::Read { path: file.to_owned(), source };
    let looked = |error: io::Error| read(error.into());
    let path = fs::canonicalize(file).map_err(looked)?;
    let here = Directory::open(Path::new("/")).map_err(looked)?;
    let entry = here.look_up(&path).map_err(looked)?;
    let Some(size) = entry.size() else { return Err(WhyError::NotAFile { path }) };
    let content = here.open(&entry).map_err(read)?;
    let nature = Nature::of(&*content).map_err(read)?;
    let purpose = purpose_of(&entry, &nature);
    let (mount, noexec) = mount_of(&path).map_err(looked)?;

    let mut keyring = Keyring::of_certificates(grounds.trusted);
    keyring.revoke(grounds.revoked);
    let mounts = [mount];
    let evm = grounds.evm.and_then(|evm| {
        let mut verifier = evm.verifier(grounds.kernel.version, None);
        // the UUID of the file system may not be known
        evm_verdict(&mut verifier, &entry, &*content).ok()
    });
    let considered = grounds.evm.filter(|_| evm.as_ref().is_some_and(|it| grounds.knows(it)));
    let bench = Bench::new(grounds.policy, grounds.kernel, &keyring, &mounts, Owners::Kept)
        .with_evm(considered);
    let mut judge = Judge::new(&bench);
    let mut case = judge.open(&entry, size, &*content, &|_| {}).map_err(read)?;
    let mut answers = Vec::new();
    let is_script = matches!(nature, Nature::Script(_));
    for operation in operations(purpose, is_script) {
        answers.push((operation, case.answer(operation, Credentials::ROOT).map_err(read)?));
    }
    drop(case);
    let (attribute, signer) = attribute(size, &*content, &keyring, grounds).map_err(read)?;
    let [mount] = mounts;
    Ok(Account {
        purpose,
        answers,
        interpreter: match nature {
            Nature::Script(shebang) => Some(shebang.interpreter),
            _ => None,
        },
        mount,
        noexec,
        not_executable: !entry.is_executable(),
        attribute,
        has_evm: rustix::fs::getxattr(&path, XATTR_NAME_EVM, &mut [0; 0][..]).is_ok(),
        evm,
        considers_evm: considered.is_some(),
        signer,
        path,
    })
}

impl Grounds<'_> {
    /// Whether the kernel comes to the same verdict on `security.evm`.
    fn knows(&self, verdict: &evm::Verdict) -> bool {
        match verdict {
            evm::Verdict::NoHmacKey => false,
            evm::Verdict::UnknownKey(key_id, _) => {
                self.evm_others.is_some_and(|others| !others.contains(key_id))
            }
            _ => true,
        }
    }
}

/// All operations, the file's own use first.
fn operations(purpose: Use, is_script: bool) -> Vec<Operation> {
    let executed = if is_script { Operation::ExecuteScript } else { Operation::Execute };
    let first = match purpose {
        Use::Certificate | Use::Data => None,
        purpose => Some(purpose.operation()),
    };
    let rest = OPERATIONS.map(|operation| match operation {
        Operation::Execute => executed,
        other => other,
    });
    let rest = rest.into_iter().filter(|operation| Some(*operation) != first);
    first.into_iter().chain(rest).collect()
}

/// The attribute, and who made the signature in it.
fn attribute(
    size: u64,
    content: &dyn SourceFile,
    keyring: &Keyring,
    grounds: &Grounds<'_>,
) -> Result<(Verdict, Option<Certificate>), SourceError> {
    let value = content.attribute(AttributeName::Ima)?;
    let value = value.as_deref();
    let mut hasher = FileHasher::default();
    let mut digest_of = |kind| content.digest(&mut hasher, size, kind, &|_| {});
    let mut verifier = Verifier::new(keyring.clone());
    let rule = Rule::new(Requirement::Signature, grounds.kernel.version);
    let verdict = verifier.verdict(rule, value, &mut digest_of)?;
    let unexplained = matches!(verdict, Verdict::UnknownKey(_) | Verdict::InvalidSignature(_));
    let attribute = value.map(Attribute::decode);
    let Some(Ok(Attribute::Signature(mut signature))) = attribute.filter(|_| unexplained) else {
        return Ok((verdict, None));
    };
    let Some(kind) = rule.digest_of(&signature) else { return Ok((verdict, None)) };
    let digest = digest_of(kind)?;
    let mut candidates = grounds.others.iter().chain(grounds.trusted);
    let signer = candidates.find(|certificate| {
        // whatever the id: it may have been given by hand, or be another certificate's
        signature.key_id = certificate.key_id();
        Verifier::new(Keyring::of_certificates([*certificate])).accepts(&signature, &digest)
    });
    Ok((verdict, signer.cloned()))
}

/// The file system that a file is on, and whether it is mounted `noexec`.
fn mount_of(path: &Path) -> io::Result<(Mount, bool)> {
    let magic = rustix::fs::statfs(path)?.f_type as u64;
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    let mountinfo = String::from_utf8_lossy(&mountinfo);
    let lines = mountinfo.lines().filter_map(MountLine::parse);
    // the deepest, and of several on one directory the one on top
    let line = lines.filter(|line| path.starts_with(&line.point));
    let line = line.max_by_key(|line| line.point.components().count());
    let name = line.as_ref().map(|line| line.kind.to_owned());
    let name = name.or_else(|| filesystem::with_magic(magic).next().map(|it| it.name.to_owned()));
    let mut value = [0; 0];
    let attributes = match rustix::fs::getxattr(path, XATTR_NAME_IMA, &mut value[..]) {
        Err(Errno::OPNOTSUPP) => Attributes::None,
        _ => Attributes::Kept,
    };
    let mount = Mount {
        path: "/".into(),
        name: name.unwrap_or_default().into(),
        magic,
        uuid: fsuuid::of(File::open(path)?.as_fd())?.unwrap_or(Uuid::NULL),
        attributes,
    };
    Ok((mount, line.is_some_and(|line| line.options.split(',').any(|word| word == "noexec"))))
}

/// A line of `/proc/self/mountinfo` (`Documentation/filesystems/proc.rst`, 3.5).
struct MountLine<'a> {
    point: PathBuf,
    options: &'a str,
    kind: &'a str,
}

impl<'a> MountLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(4);
        let point = unescape(head.next()?);
        Some(Self { point, options: head.next()?, kind: tail.split(' ').next()? })
    }
}

/// Space, tab, line end and backslash stand as `\040` and so on.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Asks the kernel itself: maps the file executable, and unmaps it. As root this is what the
/// loader does with a library; the kernel measures and logs it as such.
///
/// # Errors
/// The kernel's denial, `EACCES` if it is IMA's; those of opening.
pub fn map_executable(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // nothing can be mapped of an empty file
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).clamp(1, 4096);
    // SAFETY: a new mapping at an address of the kernel's choice, of which nothing is read,
    // written or executed; the descriptor is open
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping that was just made, which nothing refers to
    match unsafe { libc::munmap(mapped, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The certificates among `known` whose key ids the keyring holds, and the others.
pub fn split_by_trust(
    known: Vec<Certificate>,
    held: &[KeyId],
) -> (Vec<Certificate>, Vec<Certificate>) {
    known.into_iter().partition(|certificate| held.contains(&certificate.key_id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_escapes() {
        let line = r"36 35 98:0 /mnt1 /a\040b\134 rw,noexec master:1 - ext3 /dev/root rw";
        let line = MountLine::parse(line).unwrap();
        assert_eq!(line.point, Path::new(r"/a b\"));
        assert_eq!((line.kind, line.options), ("ext3", "rw,noexec"));
        assert!(MountLine::parse("36 35 98:0 /").is_none());
    }

    #[test]
    fn what_a_file_is_for_comes_first_and_nothing_twice() {
        let module = operations(Use::Module, false);
        assert_eq!(module[0], Operation::LoadModule);
        assert_eq!(module.len(), OPERATIONS.len());
        let script = operations(Use::Script, true);
        assert_eq!(script[0], Operation::ExecuteScript);
        assert_eq!(script.len(), OPERATIONS.len());
        assert_eq!(operations(Use::Data, false), OPERATIONS);
    }
}
