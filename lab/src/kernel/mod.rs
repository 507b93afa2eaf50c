//! Kernels: built from Debian's source packages and the layer's own fragments, cached, and
//! given the certificates that they are to trust.

mod build;
mod certificate;
mod config;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{ensure, Context, Result};

pub use build::prepare;

use crate::host;

/// A series of kernels, as Debian packages its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// Linux 6.1, the oldest that the project is held to.
    Linux6_1,
    /// Linux 6.12.
    Linux6_12,
}

impl Series {
    /// All, oldest first.
    pub const ALL: [Self; 2] = [Self::Linux6_1, Self::Linux6_12];

    /// As Debian writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.name())
    }
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|series| series.name() == name)
            .with_context(|| format!("no kernel {name}: the lab has 6.1 and 6.12"))
    }
}

/// What a kernel lacks of the full configuration. Options that most of the kernel's code
/// looks at are not among them, since all would have to be compiled for each:
/// [`crate::machine::Machine::without`] does as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Nothing: the guest's base and all of the layer's fragments.
    Full,
    /// `CONFIG_IMA_WRITE_POLICY`: one policy after the boot, no more.
    WithoutWritePolicy,
    /// `CONFIG_IMA_LOAD_X509`: `.ima` is empty when the init is started.
    WithoutLoadX509,
}

impl Variant {
    /// All.
    pub const ALL: [Self; 3] = [Self::Full, Self::WithoutWritePolicy, Self::WithoutLoadX509];

    /// Its name on the command line and in the cache.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WithoutWritePolicy => "without-write-policy",
            Self::WithoutLoadX509 => "without-load-x509",
        }
    }

    /// Options switched off, without `CONFIG_`.
    const fn off(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::WithoutWritePolicy => &["IMA_WRITE_POLICY"],
            Self::WithoutLoadX509 => &["IMA_LOAD_X509"],
        }
    }

    /// Options that go with those switched off: beginnings of their names.
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

/// A kernel that was built.
#[derive(Debug, Clone)]
pub struct Kernel {
    series: Series,
    variant: Variant,
    directory: PathBuf,
}

impl Kernel {
    /// Its series.
    pub fn series(&self) -> Series {
        self.series
    }

    /// What it lacks.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Where it is kept: `vmlinux`, `bzImage`, `System.map`, `config`, `modules/`, `sign-file`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The image of it that boot loaders take, and kexec.
    pub fn image(&self) -> PathBuf {
        self.directory.join("bzImage")
    }

    /// A module by its name; it carries no signature.
    pub fn module(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join("modules").join(name).with_extension("ko");
        ensure!(path.exists(), "{} was built without the module {name}", self.series);
        Ok(path)
    }

    /// Appends a signature to a module, as the kernel's own `scripts/sign-file` does.
    pub fn sign_module(&self, module: &Path, key: &Path, certificate: &Path) -> Result<()> {
        let mut sign = std::process::Command::new(self.directory.join("sign-file"));
        host::run(sign.arg("sha256").args([key, certificate, module])).map(drop)
    }

    /// Writes a copy of the kernel that trusts `certificates` (DER, one after the other): it
    /// loads them into `.builtin_trusted_keys`.
    pub fn write_trusting(&self, certificates: &[u8], to: &Path) -> Result<()> {
        let vmlinux = self.directory.join("vmlinux");
        let mut image =
            std::fs::read(&vmlinux).with_context(|| format!("read {}", vmlinux.display()))?;
        certificate::insert(&mut image, certificates)
            .with_context(|| format!("put certificates into {}", vmlinux.display()))?;
        std::fs::write(to, image).with_context(|| format!("write {}", to.display()))
    }
}
