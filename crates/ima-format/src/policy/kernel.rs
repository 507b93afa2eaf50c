//! A kernel as a policy meets it: its version, its configuration, its state.
//!
//! The defaults of [`Kernel`] are those of the configuration fragments of the `meta-integrity`
//! layer.

use alloc::vec::Vec;

use super::ast::{AlgorithmSet, Name};
pub use super::version::{Feature, KernelVersion, KernelVersionError};
use crate::hash::HashAlgorithm;

/// `builtin_templates` in `ima_template.c`: names, fields, and what brought them.
pub const TEMPLATES: &[(&str, &str, Option<Feature>)] = &[
    ("ima", "d|n", None),
    ("ima-ng", "d-ng|n-ng", None),
    ("ima-sig", "d-ng|n-ng|sig", None),
    ("ima-ngv2", "d-ngv2|n-ng", Some(Feature::Verity)),
    ("ima-sigv2", "d-ngv2|n-ng|sig", Some(Feature::Verity)),
    ("ima-buf", "d-ng|n-ng|buf", None),
    ("ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig", None),
    (
        "evm-sig",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
        Some(Feature::EvmSigTemplate),
    ),
];

/// Whether something was built into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Built {
    /// `=y`
    In,
    /// `is not set`
    Out,
}

/// What a kernel makes of `obj_type=` and its kin (`CONFIG_IMA_LSM_RULES`, and a security
/// module in force that has such labels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LsmRules {
    /// No module knows any label. Such a rule is refused in the first custom policy;
    /// accepted in a later one, where it matches nothing.
    Undefined,
    /// A module knows every label of the policy.
    Defined,
    /// Not known here: such rules are taken to be accepted.
    Unknown,
}

/// The policy in force when another is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InForce {
    /// What the command line asked for, or none: the policy to be loaded replaces it.
    Builtin,
    /// A custom one: the policy to be loaded is appended to it.
    Custom,
}

/// The hash algorithms that a kernel can compute (`crypto_has_alg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Available {
    /// These for certain, others perhaps.
    AtLeast(AlgorithmSet),
    /// These and no others.
    Exactly(AlgorithmSet),
}

/// How wide `unsigned long` is, which bounds `fsmagic=` and `pcr=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LongSize {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// A kernel as a policy meets it: version, configuration, command line, state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its version.
    pub version: KernelVersion,
    /// `CONFIG_IMA_APPRAISE_MODSIG`: `appraise_type=imasig|modsig`.
    pub modsig: Built,
    /// `CONFIG_IMA_MEASURE_ASYMMETRIC_KEYS`: `func=KEY_CHECK`, `keyrings=`.
    pub asymmetric_keys: Built,
    /// What it makes of labels.
    pub lsm_rules: LsmRules,
    /// What is in force.
    pub in_force: InForce,
    /// What it can compute.
    pub algorithms: Available,
    /// `ima_hash=` or `CONFIG_IMA_DEFAULT_HASH`: for files without an attribute.
    pub default_hash: HashAlgorithm,
    /// `ima_template=` or `CONFIG_IMA_DEFAULT_TEMPLATE`: a name or fields.
    pub default_template: Name,
    /// `ima_template_fmt=`: fields that `template=` may name besides the built-in ones.
    pub custom_template: Option<Name>,
    /// `CONFIG_IMA_MEASURE_PCR_IDX`
    pub default_pcr: u8,
    /// `CONFIG_IMA_WRITE_POLICY`: more than one custom policy; bears on `appraise_tcb`.
    pub write_policy: Built,
    /// `CONFIG_IMA_APPRAISE_SIGNED_INIT`: bears on `appraise_tcb`.
    pub signed_init: Built,
    /// `fail_securely` among the values of `ima_policy=`.
    pub fail_securely: bool,
    /// `unsigned long`
    pub long_size: LongSize,
}

impl Kernel {
    /// A 64-bit kernel of `version`, configured with the layer's fragments, before its first
    /// custom policy. Whether it has a security module is not known.
    pub fn new(version: KernelVersion) -> Self {
        const ALGORITHMS: AlgorithmSet = AlgorithmSet::EMPTY
            .with(HashAlgorithm::Sha1)
            .with(HashAlgorithm::Sha224)
            .with(HashAlgorithm::Sha256)
            .with(HashAlgorithm::Sha384)
            .with(HashAlgorithm::Sha512);
        Self {
            version,
            modsig: Built::In,
            asymmetric_keys: Built::In,
            lsm_rules: LsmRules::Unknown,
            in_force: InForce::Builtin,
            algorithms: Available::AtLeast(ALGORITHMS),
            default_hash: HashAlgorithm::Sha256,
            default_template: Name::literal("ima-sig"),
            custom_template: None,
            default_pcr: 10,
            write_policy: Built::In,
            signed_init: Built::Out,
            fail_securely: false,
            long_size: LongSize::Bits64,
        }
    }

    /// The fields of the template with this name or these fields (`lookup_template_desc`).
    pub fn template_fields<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        let custom = self.custom_template.as_ref().map(Name::as_bytes);
        let builtin = TEMPLATES.iter().find(|(template, fields, feature)| {
            (template.as_bytes() == name || fields.as_bytes() == name)
                && feature.map_or(true, |feature| self.version.has(feature))
        });
        builtin.map(|(_, fields, _)| fields.as_bytes()).or(custom.filter(|fields| *fields == name))
    }

    /// The names of the templates that it has.
    pub fn template_names(&self) -> Vec<&'static str> {
        let present =
            |feature: &Option<Feature>| feature.map_or(true, |feature| self.version.has(feature));
        TEMPLATES
            .iter()
            .filter(|(_, _, feature)| present(feature))
            .map(|(name, _, _)| *name)
            .collect()
    }
}

/// Linux 6.12, a long-term release.
impl Default for Kernel {
    fn default() -> Self {
        Self::new(KernelVersion::V6_12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_go_by_name_or_fields() {
        let kernel = Kernel::new(KernelVersion::V5_15);
        assert_eq!(kernel.template_fields(b"ima-ng"), Some(&b"d-ng|n-ng"[..]));
        assert_eq!(kernel.template_fields(b"d-ng|n-ng"), Some(&b"d-ng|n-ng"[..]));
        assert_eq!(kernel.template_fields(b"ima-ngv2"), None, "since 5.19");
        assert_eq!(kernel.template_fields(b"n-ng|d-ng"), None);
        let custom_template = Some(Name::literal("n-ng|d-ng"));
        let kernel = Kernel { custom_template, ..kernel };
        assert_eq!(kernel.template_fields(b"n-ng|d-ng"), Some(&b"n-ng|d-ng"[..]));
    }
}
