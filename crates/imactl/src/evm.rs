//! Arguments about `security.evm`: as typed, and resolved.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use ima::container::source::Source;
use ima::container::tree::Directory;
use ima::container::AnyContainer;
use ima::evm::{machine_of, Binding, Coverage, Given, HmacKey, Versions};
use ima::input::{self, KEY_MAX};
use ima_format::elf::Class;
use ima_format::evm::{Machine, NameFault, Protected};
use ima_format::hex;
use ima_format::measure::Endian;
use ima_format::policy::kernel::{Built, Configuration, Kernel};

use crate::error::{hinted, Result};
use crate::inputs::Inputs;

/// The metadata that EVM covers
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
pub(crate) struct CoverageArgs {
    /// Owner and group that the files will have, if they differ from the input
    #[arg(long, value_name = "UID:GID")]
    owner: Option<Owner>,
    /// Word size and byte order of the target's kernel: 64, 32, 64be or 32be [default: that
    /// of --kernel-config, or of the programs in the root, else 64]
    #[arg(long, value_name = "SIZE")]
    word_size: Option<WordSize>,
    /// The UUID of the file system, which HMACs and inode-bound signatures cover; none for a kernel
    /// without CONFIG_EVM_ATTR_FSUUID [default: that of the file system]
    #[arg(long, value_name = "UUID|none")]
    fsuuid: Option<FsUuid>,
}

/// The attributes that EVM covers
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
pub(crate) struct ProtectedArgs {
    /// A further attribute that EVM covers, security.NAME, as root of the target writes it to
    /// /sys/kernel/security/integrity/evm/evm_xattrs; may be repeated, in that order
    #[arg(long, value_name = "NAME", requires = "evm")]
    evm_xattr: Vec<String>,
}

impl ProtectedArgs {
    /// The attributes that EVM of a kernel covers.
    pub(crate) fn resolve(&self, kernel: &Kernel) -> Result<Protected> {
        if kernel.evm.evm == Built::Out {
            let message = "CONFIG_EVM is not set: this kernel does not look at security.evm";
            return Err(hinted(message, "give the configuration of the kernel that will run"));
        }
        let mut protected = Protected::of(kernel);
        if let (Some(name), Built::Out) = (self.evm_xattr.first(), kernel.evm.add_xattrs) {
            let message = format!(
                "--evm-xattr {name}: CONFIG_EVM_ADD_XATTRS is not set: this kernel has no evm_xattrs"
            );
            return Err(hinted(message, "set the option, or leave out --evm-xattr"));
        }
        for name in &self.evm_xattr {
            protected.add(name).map_err(|fault| {
                let hint = match fault {
                    NameFault::Present if kernel.configuration == Configuration::Assumed => {
                        "leave it out; --kernel-config shows which attributes a kernel covers itself"
                    }
                    NameFault::Present => "leave it out",
                    _ => "give the names in the order in which the target writes them",
                };
                hinted(format!("--evm-xattr {name}: {fault}"), hint)
            })?;
        }
        Ok(protected)
    }
}

/// Which signatures EVM accepts
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
pub(crate) struct VersionsArgs {
    /// Only signatures of version 3 are valid, as on a kernel with bit 8 of EVM (Linux 7.1)
    #[arg(long, requires = "evm")]
    evm_sigv3: bool,
}

impl VersionsArgs {
    pub(crate) fn resolve(&self) -> Versions {
        match self.evm_sigv3 {
            true => Versions::V3,
            false => Versions::All,
        }
    }
}

/// The type of security.evm to make
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvmType {
    /// A signature that is valid on any machine; the file is immutable there
    Portable,
    /// A signature for this inode of this file system
    Inode,
    /// An HMAC for this inode, as the kernel makes it
    Hmac,
}

/// Two numbers.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>();
        let both = text.split_once(':').map(|(uid, gid)| (number(uid), number(gid)));
        match both {
            Some((Ok(uid), Ok(gid))) => Ok(Self { uid, gid }),
            _ => Err("not two numbers, as in 0:0".to_owned()),
        }
    }
}

/// A UUID; `None` for kernels that do not cover it.
#[derive(Debug, Clone, Copy)]
struct FsUuid(Option<[u8; 16]>);

impl FromStr for FsUuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let uuid = hex::decode(text.replace('-', "").as_bytes()).ok();
        let uuid = uuid.and_then(|uuid| uuid.try_into().ok());
        uuid.map(|uuid| Self(Some(uuid))).ok_or_else(|| "not a UUID".to_owned())
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct WordSize(pub(crate) Machine);

impl FromStr for WordSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word_size, endian) = match text {
            "64" => (Class::Bits64, Endian::Little),
            "32" => (Class::Bits32, Endian::Little),
            "64be" => (Class::Bits64, Endian::Big),
            "32be" => (Class::Bits32, Endian::Big),
            _ => return Err("not 64, 32, 64be or 32be".to_owned()),
        };
        Ok(Self(Machine { word_size, endian }))
    }
}

impl CoverageArgs {
    /// The metadata that a kernel's EVM covers for the files in these inputs.
    pub(crate) fn resolve(
        &self,
        binding: Binding,
        inputs: &Inputs,
        (kernel, protected): (&Kernel, Protected),
    ) -> Result<Coverage> {
        let machine = match self.word_size {
            Some(WordSize(machine)) => machine,
            None => match machine_of_config(kernel) {
                Some(machine) => machine,
                None => machine_of_all(&inputs.containers)?,
            },
        };
        let given = self.given(kernel);
        Ok(Coverage { binding, machine, protected, given })
    }

    /// What replaces the metadata of the files on a machine with this kernel.
    pub(crate) fn given(&self, kernel: &Kernel) -> Given {
        let owner = self.owner;
        Given {
            uid: owner.map(|owner| owner.uid),
            gid: owner.map(|owner| owner.gid),
            fsuuid: covered_uuid(kernel, self.fsuuid.map(|FsUuid(uuid)| uuid)),
            ..Given::default()
        }
    }
}

/// The machine that a kernel is for, if its configuration is known.
pub(crate) fn machine_of_config(kernel: &Kernel) -> Option<Machine> {
    let is_known = kernel.configuration == Configuration::Read;
    is_known.then(|| Machine::of_kernel(kernel))
}

/// The UUID that EVM of a kernel covers: the given one, or none without `CONFIG_EVM_ATTR_FSUUID`.
pub(crate) fn covered_uuid(
    kernel: &Kernel,
    given: Option<Option<[u8; 16]>>,
) -> Option<Option<[u8; 16]>> {
    match kernel.evm.fsuuid {
        Built::In => given,
        Built::Out => given.or(Some(None)),
    }
}

/// The machine that the programs of all roots are for.
fn machine_of_all(containers: &[AnyContainer]) -> Result<Machine> {
    let mut found: Option<(&Path, Machine)> = None;
    for (path, machine) in containers.iter().flat_map(machines) {
        match found {
            Some((first, other)) if other != machine => {
                let (first, path) = (first.display(), path.display());
                let message =
                    format!("{first} is for a {other} machine, {path} for a {machine} one");
                return Err(hinted(message, "sign them in runs of their own, or give --word-size"));
            }
            _ => found = Some((path, machine)),
        }
    }
    Ok(found.map_or(Machine::DEFAULT, |(_, machine)| machine))
}

/// The machines of the roots of a container that have programs.
fn machines(container: &AnyContainer) -> impl Iterator<Item = (&Path, Machine)> {
    roots(container).into_iter().filter_map(|(path, root)| Some((path, machine_of(&*root)?)))
}

/// The roots of a container. An archive is read only once, later, and so has none.
pub(crate) fn roots(container: &AnyContainer) -> Vec<(&Path, Box<dyn Source>)> {
    // a container that cannot be read is reported later
    match container {
        AnyContainer::Tree(tree) => {
            let root = |path: &PathBuf| Directory::open(path).ok().map(|it| Box::new(it) as Box<_>);
            tree.roots.iter().filter_map(|path| Some((path.as_path(), root(path)?))).collect()
        }
        AnyContainer::Image(image) => {
            let sources = image.sources().unwrap_or_default();
            sources.into_iter().map(|source| (image.path.as_path(), source)).collect()
        }
        _ => Vec::new(),
    }
}

/// Reads an HMAC key: at most 128 bytes, the limit of the kernel's encrypted keys.
pub(crate) fn hmac_key(path: &Path) -> Result<HmacKey> {
    let bytes = input::read_path(path, KEY_MAX)?;
    HmacKey::new(&bytes).ok_or_else(|| {
        let message = format!("{}: {} bytes, and an EVM key has 128", path.display(), bytes.len());
        hinted(message, "give the bytes of the key, neither encrypted nor in hexadecimal")
    })
}
