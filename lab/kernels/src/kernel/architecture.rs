//! The architectures that the lab has kernels for.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};

/// An architecture.
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
    /// All architectures.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Arm64, Self::Arm];

    /// Its name for the kernel's `make`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// Its name in Debian.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Arm => "armhf",
        }
    }

    /// The name of its library directory.
    pub const fn multiarch(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
            Self::Arm => "arm-linux-gnueabihf",
        }
    }

    /// The target triple of Rust.
    pub const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
            Self::Arm => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// The prefix of its compiler and binary utilities, and the package of the compiler.
    pub const fn cross(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("", "gcc"),
            Self::Arm64 => ("aarch64-linux-gnu-", "gcc-aarch64-linux-gnu"),
            Self::Arm => ("arm-linux-gnueabihf-", "gcc-arm-linux-gnueabihf"),
        }
    }

    /// Its QEMU, and the package of that.
    pub const fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
            Self::Arm => ("qemu-system-arm", "qemu-system-arm"),
        }
    }

    /// The lab's configuration fragment for its guests.
    pub(super) const fn fragment(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64.cfg",
            Self::Arm64 => "arm64.cfg",
            Self::Arm => "arm.cfg",
        }
    }

    /// The boot loader's image in the object tree: directory and name.
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
