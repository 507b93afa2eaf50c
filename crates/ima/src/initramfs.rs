//! An initramfs that needs nothing else: imactl-init, a certificate, a policy.
//!
//! The paths where the kernel and imactl-init look for files:
//!
//! | name | |
//! |---|---|
//! | `init` | imactl-init |
//! | `dev/console` | the terminal that the kernel gives `/init` |
//! | `etc/keys/x509_ima.der` | the kernel's own: `CONFIG_IMA_X509_PATH` |
//! | `etc/keys/x509_ima_KEYID.der` | certificates of earlier generations, which imactl-init loads |
//! | `etc/keys/evm/x509_evm.der` | for EVM, which imactl-init enables then; not where the kernel would find it and enable EVM before the policy is loaded |
//! | `etc/ima/ima_policy.default` | the default policy |
//! | `etc/ima/ima_policy` | in its place, where there is one |
//! | `etc/ima/ima_policy.sig` | its signature, where there is one |
//! | `etc/imactl/cmdline` | words that imactl-init reads before the kernel's command line |
//!
//! The same input gives the same bytes: no time, no names of the machine that made it.

use std::io::{self, Write};

use std::convert::Infallible;

use flate2::{Compression as Level, GzBuilder};
use ima_format::boot::{is_parameter, Words};
use ima_format::cpio::{TooLarge, Writer};
use ima_format::elf::{Elf, Kind};

use crate::advice::Advice;
use crate::key::certificate::Certificate;

/// The contents of an initramfs.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The program imactl-init.
    pub init: &'a [u8],
    /// The certificate for the `.ima` keyring.
    pub certificate: &'a Certificate,
    /// Those of earlier generations.
    pub earlier: &'a [Certificate],
    /// A certificate for the `.evm` keyring, if EVM is to be enabled.
    pub evm_certificate: Option<&'a Certificate>,
    /// Those of earlier generations.
    pub earlier_evm: &'a [Certificate],
    /// The policy without which nothing else is said.
    pub default_policy: &'a [u8],
    /// A policy in place of it.
    pub policy: Option<&'a [u8]>,
    /// The signature of that, as the value of `security.ima`.
    pub policy_signature: Option<&'a [u8]>,
    /// Revocations, by the ends of their names: `.der` a certificate, `.entry` a signed entry.
    pub revocations: &'a [(&'static str, Vec<u8>)],
    /// Words for imactl-init ([`check_words`]).
    pub words: Option<&'a str>,
}

/// How an initramfs is compressed; the kernel detects it from the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `CONFIG_RD_GZIP`
    Gzip,
    /// `CONFIG_RD_ZSTD`
    Zstd,
}

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitramfsError {
    /// A file is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The archive cannot be compressed.
    #[error("compress the initramfs: {0}")]
    Compress(#[from] io::Error),
}

impl Advice for InitramfsError {}

/// Why a program cannot be the init of an initramfs that holds nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// The kernel cannot execute it, or starts an interpreter that is not there.
    #[error("not a program: {0}")]
    NotElf(ima_format::Error),
    /// It wants a loader, which is not there.
    #[error("it is dynamically linked: it needs {0}, which is not in the initramfs")]
    Dynamic(String),
    /// It is a library, an object or a core.
    #[error("it is an ELF file, but not a program")]
    NoProgram,
    /// No kernel is known for it.
    #[error("it is for an unknown machine (ELF machine {0})")]
    UnknownMachine(u16),
}

/// Machines that Linux runs on, by `e_machine` (`include/uapi/linux/elf-em.h`).
const MACHINES: [(u16, &str); 16] = [
    (2, "SPARC"),
    (3, "x86, 32 bits"),
    (4, "m68k"),
    (8, "MIPS"),
    (15, "PA-RISC"),
    (20, "PowerPC"),
    (21, "PowerPC, 64 bits"),
    (22, "s390"),
    (40, "ARM"),
    (42, "SuperH"),
    (43, "SPARC, 64 bits"),
    (62, "x86-64"),
    (94, "Xtensa"),
    (183, "AArch64"),
    (243, "RISC-V"),
    (258, "LoongArch"),
];

/// For which machine a program is that can be the init: static, ELF.
///
/// # Errors
/// Why it cannot.
pub fn machine_of_init(program: &[u8]) -> Result<&'static str, InitError> {
    if program.is_empty() {
        return Err(InitError::Empty);
    }
    let mut read = |offset: u64, length: usize| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(program.len());
        let end = start.saturating_add(length).min(program.len());
        Ok::<_, Infallible>(program.get(start..end).unwrap_or_default().to_vec())
    };
    let elf = match Elf::read(&mut read) {
        Ok(elf) => elf.map_err(InitError::NotElf)?,
        Err(never) => match never {},
    };
    if let Some(loader) = elf.interpreter.as_ref().or_else(|| elf.needed.first()) {
        return Err(InitError::Dynamic(String::from_utf8_lossy(loader).into_owned()));
    }
    if !matches!(elf.kind, Kind::Executable | Kind::Shared) || elf.soname.is_some() {
        return Err(InitError::NoProgram);
    }
    let number = elf.machine.number;
    let known = MACHINES.iter().find(|(known, _)| *known == number);
    known.map(|(_, name)| *name).ok_or(InitError::UnknownMachine(number))
}

/// A word that imactl-init does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word}: unknown to imactl-init")]
pub struct UnknownWord {
    /// The word, with its value.
    pub word: String,
}

/// Checks the words for `etc/imactl/cmdline`. imactl-init ignores names that it does not know, and
/// takes values that it does not know as the safe ones.
///
/// # Errors
/// The first word with an unknown name or value.
pub fn check_words(words: &str) -> Result<(), UnknownWord> {
    let known = |name: &[u8], value: &[u8]| match value {
        b"enforce" | b"permissive" => is_parameter(name, b"imactl.mode"),
        b"load" | b"skip" => is_parameter(name, b"imactl.root_certificates"),
        seconds => {
            let text = std::str::from_utf8(seconds).unwrap_or_default();
            is_parameter(name, b"imactl.timeout") && text.parse::<u32>().is_ok()
        }
    };
    let mut words = Words::new(words.as_bytes());
    match words.find(|(name, value)| !known(name, value.unwrap_or_default())) {
        None => Ok(()),
        Some((name, value)) => {
            let word = match value {
                Some(value) => [name, b"=", value].concat(),
                None => name.to_vec(),
            };
            Err(UnknownWord { word: String::from_utf8_lossy(&word).into_owned() })
        }
    }
}

/// Makes an initramfs.
pub fn create(
    contents: &Contents<'_>,
    compression: Compression,
) -> Result<Vec<u8>, InitramfsError> {
    let mut archive = Writer::new();
    for directory in ["dev", "etc", "etc/ima", "etc/keys", "proc", "root", "sys", "sysroot"] {
        archive.directory(directory.as_bytes(), 0o755)?;
    }
    archive.character_device(b"dev/console", 0o600, (5, 1))?;
    archive.file(b"etc/ima/ima_policy.default", 0o400, contents.default_policy)?;
    if let Some(policy) = contents.policy {
        archive.file(b"etc/ima/ima_policy", 0o400, policy)?;
    }
    if let Some(signature) = contents.policy_signature {
        archive.file(b"etc/ima/ima_policy.sig", 0o400, signature)?;
    }
    if let Some(words) = contents.words {
        archive.directory(b"etc/imactl", 0o755)?;
        archive.file(b"etc/imactl/cmdline", 0o444, format!("{words}\n").as_bytes())?;
    }
    if let Some(certificate) = contents.evm_certificate {
        archive.directory(b"etc/keys/evm", 0o755)?;
        archive.file(b"etc/keys/evm/x509_evm.der", 0o444, certificate.der())?;
        for earlier in contents.earlier_evm {
            let name = format!("etc/keys/evm/x509_evm_{}.der", earlier.key_id());
            archive.file(name.as_bytes(), 0o444, earlier.der())?;
        }
    }
    archive.file(b"etc/keys/x509_ima.der", 0o444, contents.certificate.der())?;
    for earlier in contents.earlier {
        let name = format!("etc/keys/x509_ima_{}.der", earlier.key_id());
        archive.file(name.as_bytes(), 0o444, earlier.der())?;
    }
    for (number, (end, content)) in contents.revocations.iter().enumerate() {
        let name = format!("etc/keys/blacklist_{number}{end}");
        archive.file(name.as_bytes(), 0o444, content)?;
    }
    archive.file(b"init", 0o755, contents.init)?;
    Ok(compression.apply(archive.finish())?)
}

/// What the kernel's own `usr/gen_initramfs.sh` would say: best, and slow.
const ZSTD_LEVEL: i32 = 19;

impl Compression {
    fn apply(self, archive: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(archive),
            Self::Gzip => {
                // neither name nor time in the header
                let mut encoder = GzBuilder::new().write(Vec::new(), Level::best());
                encoder.write_all(&archive)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(&archive, ZSTD_LEVEL),
        }
    }
}
