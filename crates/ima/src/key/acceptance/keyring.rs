//! The kernel's keyrings for certificates.

use std::fmt;

/// A keyring of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // their names say it
pub enum Keyring {
    BuiltinTrusted,
    SecondaryTrusted,
    Machine,
    Platform,
    Ima,
    Evm,
    ImaBlacklist,
}

impl Keyring {
    /// All keyrings.
    pub const ALL: [Self; 7] = [
        Self::BuiltinTrusted,
        Self::SecondaryTrusted,
        Self::Machine,
        Self::Platform,
        Self::Ima,
        Self::Evm,
        Self::ImaBlacklist,
    ];

    /// The kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BuiltinTrusted => ".builtin_trusted_keys",
            Self::SecondaryTrusted => ".secondary_trusted_keys",
            Self::Machine => ".machine",
            Self::Platform => ".platform",
            Self::Ima => ".ima",
            Self::Evm => ".evm",
            Self::ImaBlacklist => ".ima_blacklist",
        }
    }

    /// The keyring with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|keyring| keyring.name() == name)
    }

    /// Whether programs can add keys to it, not only the kernel.
    pub const fn takes_keys_from_programs(self) -> bool {
        !matches!(self, Self::BuiltinTrusted | Self::Machine | Self::Platform)
    }
}

impl fmt::Display for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
