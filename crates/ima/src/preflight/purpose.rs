//! The purpose of a file: how the kernel uses it, and the files that this requires.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ima_format::elf::{Elf, Kind, MAGIC};
use ima_format::policy::decide::{AccessSet, Operation};
use ima_format::spelled;

use crate::container::source::{part, Entry, SourceError, SourceFile};

spelled! {
    /// The use of a file: an operation of the kernel on it.
    Use {
        /// An ELF program, executed.
        Program = "program",
        /// A script with a `#!` line, executed.
        Script = "script",
        /// A shared library, mapped.
        Library = "library",
        /// A kernel module, loaded from the file as it stands, compressed or not.
        Module = "module",
        /// Firmware, loaded from the file as it stands, compressed or not.
        Firmware = "firmware",
        /// A policy in `/etc/ima`, or dracut's `/etc/sysconfig/ima-policy`.
        Policy = "policy",
        /// A certificate in `/etc/keys` or `/etc/keys/ima`, read.
        Certificate = "certificate",
        /// Anything else, read by root. Listed where the policy appraises that.
        Data = "data",
    }
}

impl Use {
    /// The operation of the kernel.
    pub const fn operation(self) -> Operation {
        match self {
            Self::Program => Operation::Execute,
            Self::Script => Operation::ExecuteScript,
            Self::Library => Operation::MapExecutable,
            Self::Module => Operation::LoadModule,
            Self::Firmware => Operation::LoadFirmware,
            Self::Policy => Operation::LoadPolicy,
            Self::Certificate | Self::Data => Operation::Open(AccessSet::READ),
        }
    }
}

/// The kind of a file, by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Nature {
    Elf(Box<Elf>),
    Script(Shebang),
    Other,
}

/// A `#!` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shebang {
    pub(crate) interpreter: PathBuf,
    /// The program that `env` is to find.
    pub(crate) by_env: Option<Vec<u8>>,
}

impl Nature {
    pub(crate) fn of(content: &dyn SourceFile) -> Result<Self, SourceError> {
        let head = part(content, 0, BINPRM_BUF_SIZE)?;
        if head.starts_with(MAGIC) {
            let mut read = |offset: u64, length: usize| match head.get(offset as usize..) {
                Some(rest) if rest.len() >= length => Ok(rest[..length].to_vec()),
                _ => part(content, offset, length),
            };
            // the kernel does not run malformed files: they are data
            return Ok(Elf::read(&mut read)?.map_or(Self::Other, |elf| Self::Elf(elf.into())));
        }
        Ok(Shebang::parse(&head).map_or(Self::Other, Self::Script))
    }
}

/// The bytes that `execve` looks at.
const BINPRM_BUF_SIZE: usize = 256;

impl Shebang {
    /// `load_script` (`fs/binfmt_script.c`): the interpreter, then at most one argument.
    fn parse(head: &[u8]) -> Option<Self> {
        let line = head.strip_prefix(b"#!")?;
        let line = line.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default();
        let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
        let line = &line[start..];
        let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
        let (interpreter, argument) = line.split_at(end);
        if interpreter.is_empty() {
            return None;
        }
        let interpreter = PathBuf::from(OsStr::from_bytes(interpreter));
        let is_env = interpreter.file_name() == Some(OsStr::new("env"));
        let by_env = if is_env { found_by_env(argument) } else { None };
        Some(Self { interpreter, by_env })
    }
}

/// The program in `env`'s argument: behind `-S`, options and assignments.
fn found_by_env(argument: &[u8]) -> Option<Vec<u8>> {
    let mut words = argument
        .split(|byte| byte.is_ascii_whitespace())
        .map(|word| word.strip_prefix(b"-S").unwrap_or(word));
    words
        .find(|word| !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'='))
        .map(<[u8]>::to_vec)
}

/// Where `env` and shells look.
pub(super) const PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The use of a file. A shared library that is also a program is treated as a library.
pub(crate) fn of(entry: &Entry, nature: &Nature) -> Use {
    if is_module(entry) {
        return Use::Module;
    }
    if is_below(&entry.path, "/lib/firmware") || is_below(&entry.path, "/usr/lib/firmware") {
        return Use::Firmware;
    }
    let in_directory = |directory: &str| entry.path.parent() == Some(Path::new(directory));
    if in_directory("/etc/ima") && is_policy_name(entry.name())
        || entry.path == Path::new(DRACUT_POLICY)
    {
        return Use::Policy;
    }
    if in_directory("/etc/keys") && entry.name().ends_with(b".der") || in_directory(DRACUT_KEYS) {
        return Use::Certificate;
    }
    match nature {
        Nature::Elf(elf) => match (elf.kind, entry.is_executable()) {
            (Kind::Executable, true) => Use::Program,
            (Kind::Shared, _) if elf.soname.is_some() => Use::Library,
            (Kind::Shared, true) if elf.interpreter.is_some() || elf.pie => Use::Program,
            (Kind::Shared, _) => Use::Library,
            _ => Use::Data,
        },
        Nature::Script(_) if entry.is_executable() => Use::Script,
        // the kernel appraises it before it looks for a format; a shell then reads it
        Nature::Other if entry.is_executable() => Use::Program,
        _ => Use::Data,
    }
}

fn is_module(entry: &Entry) -> bool {
    let ends = [&b".ko"[..], b".ko.gz", b".ko.xz", b".ko.zst"];
    ends.iter().any(|end| entry.name().ends_with(end))
}

/// Whether a module's file is compressed.
pub(super) fn is_compressed_module(entry: &Entry) -> bool {
    is_module(entry) && !entry.name().ends_with(b".ko")
}

/// The files that the boot stage and systemd load.
fn is_policy_name(name: &[u8]) -> bool {
    name.starts_with(b"ima_policy") || name.starts_with(b"ima-policy")
}

/// Where dracut looks for certificates of `.ima`, whatever their names.
pub(super) const DRACUT_KEYS: &str = "/etc/keys/ima";
/// Where dracut looks for a policy, whose path it gives to the kernel.
const DRACUT_POLICY: &str = "/etc/sysconfig/ima-policy";

/// Bytes as a path.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// Whether `path` is `directory` or below it.
fn is_below(path: &Path, directory: &str) -> bool {
    path.starts_with(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shebang(line: &str) -> Option<(String, Option<String>)> {
        let shebang = Shebang::parse(line.as_bytes())?;
        let by_env = shebang.by_env.map(|name| String::from_utf8(name).unwrap());
        Some((shebang.interpreter.to_str().unwrap().to_owned(), by_env))
    }

    #[test]
    fn interpreters_are_read_as_the_kernel_reads_them() {
        let found = |interpreter: &str, by_env: Option<&str>| {
            Some((interpreter.to_owned(), by_env.map(str::to_owned)))
        };
        assert_eq!(shebang("#!/bin/sh\necho"), found("/bin/sh", None));
        assert_eq!(shebang("#! \t/bin/sh -e\n"), found("/bin/sh", None));
        assert_eq!(shebang("#!/usr/bin/env python3\n"), found("/usr/bin/env", Some("python3")));
        assert_eq!(shebang("#!/usr/bin/env -S A=b perl -w\n"), found("/usr/bin/env", Some("perl")));
        assert_eq!(shebang("#!/usr/bin/env -Sperl -w\n"), found("/usr/bin/env", Some("perl")));
        assert_eq!(shebang("#!/bin/sh"), found("/bin/sh", None));
        assert_eq!(shebang("#!\n/bin/sh"), None);
        assert_eq!(shebang("# !/bin/sh"), None);
    }
}
