//! Kernels: built from Debian's source packages and the layer's fragments, cached, and given the
//! certificates that they trust.

mod architecture;
mod build;
mod certificate;
mod compressed;
mod config;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{ensure, Context, Result};

pub use architecture::Architecture;
pub use build::{prepare, prepare_for};
pub use source::{look_for_newest, source_archive};

use crate::host;
use certificate::{Form, Places};

/// A series of kernels, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// Linux 6.1, the oldest kernel that the project supports.
    Linux6_1,
    /// Linux 6.12.
    Linux6_12,
    /// The newest Linux 7 that Debian's archive offers.
    Linux7,
}

impl Series {
    /// All series, oldest first.
    pub const ALL: [Self; 3] = [Self::Linux6_1, Self::Linux6_12, Self::Linux7];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
            Self::Linux7 => "7",
        }
    }

    /// Fragments with options of a guest that not all series have.
    const fn guest_fragments(self) -> &'static [&'static str] {
        match self {
            Self::Linux6_1 | Self::Linux6_12 => &["until-6.cfg"],
            Self::Linux7 => &[],
        }
    }

    /// Fragments with options of scenarios that not all series have.
    const fn scenario_fragments(self) -> &'static [&'static str] {
        match self {
            Self::Linux6_1 => &[],
            Self::Linux6_12 => &["since-6.12.cfg"],
            Self::Linux7 => &["since-6.12.cfg", "since-7.cfg"],
        }
    }
}

/// The kernels for other architectures than the host's.
pub const FOREIGN: [(Architecture, Series); 2] =
    [(Architecture::Arm64, Series::Linux6_12), (Architecture::Arm, Series::Linux6_12)];

/// The kernels whose variants scenarios boot.
pub const SERIES_OF_VARIANTS: Series = Series::Linux7;

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.name())
    }
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|series| series.name() == name).with_context(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no kernel {name}: there are {names}")
        })
    }
}

/// The options that a kernel lacks, compared with the full configuration. Options that most of the
/// kernel's code depends on are not variants, since each would recompile everything:
/// `Machine::without` of the lab has the same effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Nothing: the guest's base and all of the layer's fragments.
    Full,
    /// Without `CONFIG_IMA_WRITE_POLICY`: only one policy can be loaded after the boot.
    WithoutWritePolicy,
    /// Without `CONFIG_IMA_LOAD_X509`: `.ima` is empty when the init starts.
    WithoutLoadX509,
}

impl Variant {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Full, Self::WithoutWritePolicy, Self::WithoutLoadX509];

    /// Its name on the command line and in the cache.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WithoutWritePolicy => "without-write-policy",
            Self::WithoutLoadX509 => "without-load-x509",
        }
    }

    /// The disabled options, without `CONFIG_`.
    const fn off(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::WithoutWritePolicy => &["IMA_WRITE_POLICY"],
            Self::WithoutLoadX509 => &["IMA_LOAD_X509"],
        }
    }

    /// Options that are lost with them: prefixes of their names.
    const fn lost(self) -> &'static [&'static str] {
        match self {
            Self::Full | Self::WithoutWritePolicy => &[],
            Self::WithoutLoadX509 => &["IMA_X509_PATH"],
        }
    }
}

impl FromStr for Variant {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name).with_context(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no variant {name}: there are {names}")
        })
    }
}

/// A built kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    architecture: Architecture,
    series: Series,
    version: String,
    variant: Variant,
    directory: PathBuf,
}

impl Kernel {
    /// Its architecture.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Its series.
    pub fn series(&self) -> Series {
        self.series
    }

    /// Its version, as in `7.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its variant.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The directory of `vmlinux`, `image`, `System.map`, `config`, `modules/` and `sign-file`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The image for boot loaders and kexec.
    pub fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    /// The path of a module by its name; it is not signed.
    pub fn module(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join("modules").join(name).with_extension("ko");
        ensure!(path.exists(), "{} was built without the module {name}", self.series);
        Ok(path)
    }

    /// Appends a signature to a module with the kernel's `scripts/sign-file`.
    pub fn sign_module(&self, module: &Path, key: &Path, certificate: &Path) -> Result<()> {
        let mut sign = std::process::Command::new(self.directory.join("sign-file"));
        host::run(sign.arg("sha256").args([key, certificate, module])).map(drop)
    }

    /// Writes a copy of the kernel for QEMU that trusts `certificates` (DER, one after the other): it loads
    /// them into `.builtin_trusted_keys`.
    pub fn write_trusting(&self, certificates: &[u8], to: &Path) -> Result<()> {
        let vmlinux = self.read("vmlinux")?;
        let form = match self.architecture {
            Architecture::X86_64 => Form::Elf(&vmlinux),
            Architecture::Arm64 | Architecture::Arm => Form::Memory,
        };
        let places = Places::find(&vmlinux, form)?;
        let mut image = match form {
            Form::Elf(_) => vmlinux,
            Form::Memory => self.read("image")?,
        };
        places
            .insert(&mut image, certificates)
            .with_context(|| format!("put certificates into {}", self.directory.display()))?;
        if self.architecture == Architecture::Arm {
            let header = uboot_header(u32::try_from(image.len())?);
            image.splice(..0, header);
        }
        fs::write(to, image).with_context(|| format!("write {}", to.display()))
    }

    /// The same for firmware and boot loaders: a `bzImage` for x86-64.
    pub fn write_bootable(&self, certificates: &[u8], to: &Path) -> Result<()> {
        let mut image = self.read("image")?;
        if !certificates.is_empty() {
            let vmlinux = self.read("vmlinux")?;
            compressed::change(&mut image, |kernel| {
                Places::find(&vmlinux, Form::Elf(kernel))?.insert(kernel, certificates)
            })?;
        }
        fs::write(to, image).with_context(|| format!("write {}", to.display()))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.directory.join(name);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }
}

/// The header of U-Boot's legacy images (`include/image.h` there), big-endian, without checksums, which
/// QEMU ignores. Without the header, QEMU loads a 32-bit `Image` to an address where it cannot run.
fn uboot_header(size: u32) -> [u8; 64] {
    // the start of memory of QEMU's virt machine, and the kernel's TEXT_OFFSET
    const ADDRESS: u32 = 0x4000_0000 + 0x8000;
    // magic number, header checksum, time, size, load address, entry, data checksum.
    let words = [0x2705_1956, 0, 0, size, ADDRESS, ADDRESS, 0];
    // Linux, ARM, a kernel, not compressed.
    let bytes = [5, 2, 2, 0];
    let mut header = [0; 64];
    let content = words.iter().flat_map(|word: &u32| word.to_be_bytes()).chain(bytes);
    header.iter_mut().zip(content).for_each(|(to, byte)| *to = byte);
    header
}
