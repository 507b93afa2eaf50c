//! Processors that the lab has kernels for.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};

/// A processor's architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// The host's.
    X86_64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM.
    Arm,
}

impl Architecture {
    /// All.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Arm64, Self::Arm];

    /// As the kernel's `make` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// As Debian names it.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Arm => "armhf",
        }
    }

    /// As the directory of its libraries is named.
    pub const fn multiarch(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
            Self::Arm => "arm-linux-gnueabihf",
        }
    }

    /// As Rust names it.
    pub const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
            Self::Arm => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// What the names of its compiler and binary utilities begin with, and the package that
    /// has the compiler.
    pub(crate) const fn cross(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("", "gcc"),
            Self::Arm64 => ("aarch64-linux-gnu-", "gcc-aarch64-linux-gnu"),
            Self::Arm => ("arm-linux-gnueabihf-", "gcc-arm-linux-gnueabihf"),
        }
    }

    /// QEMU for it, and the package that has it.
    pub(crate) const fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
            Self::Arm => ("qemu-system-arm", "qemu-system-arm"),
        }
    }

    /// The fragment of the lab's that makes a guest of it.
    pub(super) const fn fragment(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64.cfg",
            Self::Arm64 => "arm64.cfg",
            Self::Arm => "arm.cfg",
        }
    }

    /// What boot loaders take, in the object tree: its directory and its name.
    pub(super) const fn image(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("arch/x86/boot", "bzImage"),
            Self::Arm64 => ("arch/arm64/boot", "Image"),
            Self::Arm => ("arch/arm/boot", "Image"),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name).with_context(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no architecture {name}: there are {names}")
        })
    }
}
