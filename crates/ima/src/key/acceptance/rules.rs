//! The rules of keyrings, from a kernel's version and configuration.

use ima_format::hash::HashAlgorithm;
use ima_format::kernel_config::KernelConfig;
use ima_format::policy::kernel::{Available, Built, Feature, Kernel, KernelVersion};
use ima_format::x509::{Curve, KeyAlgorithm, SignatureAlgorithm};

use super::keyring::Keyring;
use super::refusal::Refusal;

/// A kernel, as far as certificates depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Its version.
    pub version: KernelVersion,
    /// The hash algorithms that it can compute; unknown ones are assumed to be available.
    pub hashes: Available,
    /// `CONFIG_INTEGRITY_TRUSTED_KEYRING`: without it, `.ima` and `.evm` accept any certificate (and are named
    /// `_ima` and `_evm`).
    pub trusted_keyring: Built,
    /// The issuers that `.ima` and `.evm` accept.
    pub ima_issuers: ImaIssuers,
    /// The secondary keyring.
    pub secondary: Secondary,
    /// The machine keyring.
    pub machine: MachineRule,
    /// `CONFIG_INTEGRITY_PLATFORM_KEYRING`
    pub platform: Built,
    /// `CONFIG_IMA_BLACKLIST_KEYRING`
    pub ima_blacklist: Built,
    /// `CONFIG_EVM`
    pub evm: Built,
}

/// The issuers that `.ima` and `.evm` accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImaIssuers {
    /// Built-in keys.
    Builtin,
    /// `CONFIG_IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY`: built-in, secondary and machine keys.
    BuiltinOrSecondary,
}

/// `.secondary_trusted_keys`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secondary {
    /// `CONFIG_SECONDARY_TRUSTED_KEYRING` is not set.
    Absent,
    /// It accepts certificates that any trusted key signed.
    SignedByTrusted,
    /// `CONFIG_SECONDARY_TRUSTED_KEYRING_SIGNED_BY_BUILTIN`
    SignedByBuiltin,
}

/// `.machine`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineRule {
    /// `CONFIG_INTEGRITY_MACHINE_KEYRING` is not set.
    Absent,
    /// It accepts every key.
    Any,
    /// `CONFIG_INTEGRITY_CA_MACHINE_KEYRING`
    Authorities,
    /// `CONFIG_INTEGRITY_CA_MACHINE_KEYRING_MAX`: CAs that sign only certificates.
    OnlyAuthorities,
}

impl Rules {
    /// A kernel of this version, with the configuration of the fragments of the `meta-integrity` layer.
    pub fn new(version: KernelVersion) -> Self {
        Self::of(&Kernel::new(version))
    }

    /// The rules of a kernel; options that [`Kernel`] lacks are those of the fragments.
    pub fn of(kernel: &Kernel) -> Self {
        Self {
            version: kernel.version,
            hashes: kernel.algorithms,
            trusted_keyring: Built::In,
            ima_issuers: ImaIssuers::BuiltinOrSecondary,
            secondary: Secondary::SignedByTrusted,
            machine: MachineRule::Absent,
            platform: Built::Out,
            ima_blacklist: Built::In,
            evm: Built::In,
        }
    }

    /// The rules of a kernel with this configuration.
    #[must_use]
    pub fn configured(self, config: &KernelConfig<'_>) -> Self {
        let built = |option: &str| config.built(option);
        let is_set = |option: &str| built(option) == Built::In;
        Self {
            trusted_keyring: built("INTEGRITY_TRUSTED_KEYRING"),
            ima_issuers: match is_set("IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY") {
                true => ImaIssuers::BuiltinOrSecondary,
                false => ImaIssuers::Builtin,
            },
            secondary: match is_set("SECONDARY_TRUSTED_KEYRING") {
                false => Secondary::Absent,
                true if is_set("SECONDARY_TRUSTED_KEYRING_SIGNED_BY_BUILTIN") => {
                    Secondary::SignedByBuiltin
                }
                true => Secondary::SignedByTrusted,
            },
            machine: match is_set("INTEGRITY_MACHINE_KEYRING") {
                false => MachineRule::Absent,
                true if is_set("INTEGRITY_CA_MACHINE_KEYRING_MAX") => MachineRule::OnlyAuthorities,
                true if is_set("INTEGRITY_CA_MACHINE_KEYRING") => MachineRule::Authorities,
                true => MachineRule::Any,
            },
            platform: built("INTEGRITY_PLATFORM_KEYRING"),
            ima_blacklist: built("IMA_BLACKLIST_KEYRING"),
            evm: built("EVM"),
            ..self
        }
    }

    pub(super) fn has(&self, keyring: Keyring) -> bool {
        match keyring {
            Keyring::BuiltinTrusted | Keyring::Ima => true,
            Keyring::SecondaryTrusted => self.secondary != Secondary::Absent,
            Keyring::Machine => self.machine != MachineRule::Absent,
            Keyring::Platform => self.platform == Built::In,
            Keyring::Evm => self.evm == Built::In,
            Keyring::ImaBlacklist => self.ima_blacklist == Built::In,
        }
    }

    pub(super) fn computes(&self, hash: HashAlgorithm) -> bool {
        match self.hashes {
            Available::AtLeast(_) => hash != HashAlgorithm::Md4,
            Available::Exactly(hashes) => hashes.contains(hash),
        }
    }

    pub(super) fn check_signature(&self, algorithm: SignatureAlgorithm) -> Result<(), Refusal> {
        let since = match algorithm {
            // removed in the version that added SHA-3
            SignatureAlgorithm::Rsa(HashAlgorithm::Md4) if self.version.has(Feature::Sha3) => {
                return Err(Refusal::UnknownSignatureAlgorithm)
            }
            SignatureAlgorithm::Unknown => return Err(Refusal::UnknownSignatureAlgorithm),
            SignatureAlgorithm::MlDsa(_) => Some(Feature::MlDsa),
            SignatureAlgorithm::Rsa(hash) => Feature::of_algorithm(hash),
            SignatureAlgorithm::Ecdsa(hash) => {
                Some(Feature::of_algorithm(hash).unwrap_or(Feature::Ecdsa))
            }
            SignatureAlgorithm::EcRdsa(_) => None,
        };
        match since {
            Some(feature) if !self.version.has(feature) => {
                Err(Refusal::NewerSignatureAlgorithm(feature))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_key(&self, algorithm: KeyAlgorithm) -> Result<(), Refusal> {
        let since = match algorithm {
            KeyAlgorithm::Rsa | KeyAlgorithm::EcRdsa => return Ok(()),
            KeyAlgorithm::Unknown => return Err(Refusal::UnknownKeyAlgorithm),
            KeyAlgorithm::UnnamedCurve => return Err(Refusal::UnnamedCurve),
            KeyAlgorithm::Ecdsa(Curve::P521) => Feature::EcdsaP521,
            KeyAlgorithm::Ecdsa(_) => Feature::Ecdsa,
            KeyAlgorithm::MlDsa(_) => Feature::MlDsa,
        };
        match self.version.has(since) {
            true => Ok(()),
            false => Err(Refusal::NewerKeyAlgorithm(since)),
        }
    }
}
