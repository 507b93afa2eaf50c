//! The kernel's keyrings for certificates.

use ima_format::spelled;

spelled! {
    /// A keyring of the kernel.
    #[allow(missing_docs)] // their names say it
    Keyring {
        BuiltinTrusted = ".builtin_trusted_keys",
        SecondaryTrusted = ".secondary_trusted_keys",
        Machine = ".machine",
        Platform = ".platform",
        Ima = ".ima",
        Evm = ".evm",
        ImaBlacklist = ".ima_blacklist",
    }
}

impl Keyring {
    /// Whether programs can add keys to it, not only the kernel.
    pub const fn takes_keys_from_programs(self) -> bool {
        !matches!(self, Self::BuiltinTrusted | Self::Machine | Self::Platform)
    }
}
