//! A kernel, as far as a policy depends on it: version, configuration, state.
//!
//! The defaults of [`Kernel`] are those of the configuration fragments of the `meta-integrity`
//! layer.

use alloc::vec::Vec;

use super::ast::{AlgorithmSet, AppraiseType, Func, Key, Name, Rule};
pub use super::version::{Feature, KernelVersion, KernelVersionError};
use crate::hash::HashAlgorithm;
pub use crate::kernel_config::Built;
use crate::kernel_config::KernelConfig;
use crate::measure::Endian;

/// `builtin_templates` in `ima_template.c`: names, fields, and the features that added them.
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

/// How a kernel handles `obj_type=` and the like (`CONFIG_IMA_LSM_RULES`, and a security module in force that has such
/// labels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LsmRules {
    /// No security module has labels. Such a rule is rejected in the first custom policy; in a later one it is accepted
    /// and matches nothing.
    Undefined,
    /// A security module has every label of the policy.
    Defined,
    /// Unknown: such rules are assumed to be accepted.
    Unknown,
}

/// The kind of policy in force when another is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InForce {
    /// A built-in policy, or no policy: the loaded policy replaces it.
    Builtin,
    /// A custom policy: the loaded policy is appended to it.
    Custom,
}

/// The hash algorithms that a kernel can compute (`crypto_has_alg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Available {
    /// At least these algorithms; others are possible.
    AtLeast(AlgorithmSet),
    /// Exactly these algorithms.
    Exactly(AlgorithmSet),
}

/// The width of `unsigned long`, which limits `fsmagic=` and `pcr=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LongSize {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// The source of a kernel's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Configuration {
    /// The configuration is unknown: that of the layer's fragments is assumed.
    Assumed,
    /// The configuration was read.
    Read,
}

/// The options that select the rules which a kernel adds under Secure Boot (`CONFIG_IMA_ARCH_POLICY`,
/// `sb_arch_rules` in `ima_efi.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArchOptions {
    /// `CONFIG_IMA_ARCH_POLICY`
    pub policy: Built,
    /// `CONFIG_KEXEC_SIG`: the kernel verifies kernels itself.
    pub kexec_sig: Built,
    /// `CONFIG_MODULE_SIG`: the kernel verifies modules itself.
    pub module_sig: Built,
    /// `CONFIG_INTEGRITY_MACHINE_KEYRING` and
    /// `CONFIG_IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY`
    pub machine_keys: Built,
}

/// The options that select the attributes and the metadata which EVM covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EvmOptions {
    /// `CONFIG_EVM`
    pub evm: Built,
    /// `CONFIG_SECURITY_SELINUX`
    pub selinux: Built,
    /// `CONFIG_SECURITY_SMACK`
    pub smack: Built,
    /// `CONFIG_EVM_EXTRA_SMACK_XATTRS`
    pub extra_smack: Built,
    /// `CONFIG_SECURITY_APPARMOR`
    pub apparmor: Built,
    /// `CONFIG_EVM_ADD_XATTRS`: root adds attributes at run time.
    pub add_xattrs: Built,
    /// `CONFIG_EVM_ATTR_FSUUID`
    pub fsuuid: Built,
}

/// A kernel, as far as a policy depends on it: version, configuration, command line, state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its version.
    pub version: KernelVersion,
    /// The source of its configuration.
    pub configuration: Configuration,
    /// `CONFIG_IMA_APPRAISE`: without it, `appraise` rules are accepted and have no effect.
    pub appraise: Built,
    /// `CONFIG_FS_VERITY`: files have an fs-verity digest.
    pub verity: Built,
    /// The options of the rules under Secure Boot.
    pub arch: ArchOptions,
    /// `CONFIG_MODULE_SIG_FORCE`: a module without a valid signature of its own is not loaded.
    pub module_sig_force: Built,
    /// `CONFIG_IMA_APPRAISE_MODSIG`: `appraise_type=imasig|modsig`.
    pub modsig: Built,
    /// `CONFIG_IMA_MEASURE_ASYMMETRIC_KEYS`: `func=KEY_CHECK`, `keyrings=`.
    pub asymmetric_keys: Built,
    /// How it handles labels.
    pub lsm_rules: LsmRules,
    /// The kind of policy in force.
    pub in_force: InForce,
    /// The algorithms that it can compute.
    pub algorithms: Available,
    /// `ima_hash=` or `CONFIG_IMA_DEFAULT_HASH`: for files without an attribute.
    pub default_hash: HashAlgorithm,
    /// `ima_template=` or `CONFIG_IMA_DEFAULT_TEMPLATE`: a name or fields.
    pub default_template: Name,
    /// `ima_template_fmt=`: fields that `template=` may name in addition to the built-in templates.
    pub custom_template: Option<Name>,
    /// `CONFIG_IMA_MEASURE_PCR_IDX`
    pub default_pcr: u8,
    /// `CONFIG_IMA_WRITE_POLICY`: several custom policies can be loaded; changes `appraise_tcb`.
    pub write_policy: Built,
    /// `CONFIG_IMA_APPRAISE_SIGNED_INIT`: changes `appraise_tcb`.
    pub signed_init: Built,
    /// `fail_securely` among the values of `ima_policy=`.
    pub fail_securely: bool,
    /// `unsigned long`
    pub long_size: LongSize,
    /// `CONFIG_CPU_BIG_ENDIAN`
    pub endian: Endian,
    /// The options of EVM.
    pub evm: EvmOptions,
}

impl Kernel {
    /// A 64-bit kernel of `version`, with the configuration of the layer's fragments, before its first custom policy.
    /// Whether it has a security module is unknown.
    pub fn new(version: KernelVersion) -> Self {
        const ALGORITHMS: AlgorithmSet = AlgorithmSet::EMPTY
            .with(HashAlgorithm::Sha1)
            .with(HashAlgorithm::Sha224)
            .with(HashAlgorithm::Sha256)
            .with(HashAlgorithm::Sha384)
            .with(HashAlgorithm::Sha512);
        Self {
            version,
            configuration: Configuration::Assumed,
            appraise: Built::In,
            verity: Built::In,
            arch: ArchOptions {
                policy: Built::In,
                kexec_sig: Built::Out,
                module_sig: Built::In,
                machine_keys: Built::Out,
            },
            module_sig_force: Built::Out,
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
            endian: Endian::Little,
            evm: EvmOptions {
                evm: Built::In,
                selinux: Built::In,
                smack: Built::In,
                extra_smack: Built::In,
                apparmor: Built::In,
                add_xattrs: Built::In,
                fsuuid: Built::In,
            },
        }
    }

    /// The same kernel with this configuration.
    #[must_use]
    pub fn configured(self, config: &KernelConfig<'_>) -> Self {
        let machine_keys = [
            config.built("INTEGRITY_MACHINE_KEYRING"),
            config.built("IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY"),
        ];
        let name = |option| Name::new(config.string(option)?.as_bytes());
        let hash = config.string("IMA_DEFAULT_HASH").and_then(|name| name.parse().ok());
        let pcr = config.value("IMA_MEASURE_PCR_IDX").and_then(|value| value.parse().ok());
        Self {
            configuration: Configuration::Read,
            appraise: config.built("IMA_APPRAISE"),
            verity: config.built("FS_VERITY"),
            arch: ArchOptions {
                policy: config.built("IMA_ARCH_POLICY"),
                kexec_sig: config.built("KEXEC_SIG"),
                module_sig: config.built("MODULE_SIG"),
                machine_keys: match machine_keys {
                    [Built::In, Built::In] => Built::In,
                    _ => Built::Out,
                },
            },
            module_sig_force: config.built("MODULE_SIG_FORCE"),
            modsig: config.built("IMA_APPRAISE_MODSIG"),
            asymmetric_keys: config.built("IMA_MEASURE_ASYMMETRIC_KEYS"),
            lsm_rules: match config.built("IMA_LSM_RULES") {
                Built::In => LsmRules::Unknown,
                Built::Out => LsmRules::Undefined,
            },
            algorithms: Available::Exactly(algorithms(config)),
            default_hash: hash.unwrap_or(self.default_hash),
            default_template: name("IMA_DEFAULT_TEMPLATE").unwrap_or(self.default_template),
            default_pcr: pcr.unwrap_or(self.default_pcr),
            write_policy: config.built("IMA_WRITE_POLICY"),
            signed_init: config.built("IMA_APPRAISE_SIGNED_INIT"),
            long_size: match config.built("64BIT") {
                Built::In => LongSize::Bits64,
                Built::Out => LongSize::Bits32,
            },
            endian: match config.built("CPU_BIG_ENDIAN") {
                Built::In => Endian::Big,
                Built::Out => Endian::Little,
            },
            evm: EvmOptions {
                evm: config.built("EVM"),
                selinux: config.built("SECURITY_SELINUX"),
                smack: config.built("SECURITY_SMACK"),
                extra_smack: config.built("EVM_EXTRA_SMACK_XATTRS"),
                apparmor: config.built("SECURITY_APPARMOR"),
                add_xattrs: config.built("EVM_ADD_XATTRS"),
                fsuuid: config.built("EVM_ATTR_FSUUID"),
            },
            ..self
        }
    }

    /// The fields of the template with this name, or with these fields (`lookup_template_desc`).
    pub fn template_fields<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        let custom = self.custom_template.as_ref().map(Name::as_bytes);
        let builtin = TEMPLATES.iter().find(|(template, fields, feature)| {
            (template.as_bytes() == name || fields.as_bytes() == name)
                && feature.map_or(true, |feature| self.version.has(feature))
        });
        builtin.map(|(_, fields, _)| fields.as_bytes()).or(custom.filter(|fields| *fields == name))
    }

    /// The names of its templates.
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

/// An option of a kernel's configuration that a rule needs.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    /// Its name.
    pub option: &'static str,
    /// Whether a kernel has it.
    pub built: fn(&Kernel) -> Built,
}

/// The options that a rule needs, each with the key that needs it. Labels and algorithms are not included: see
/// [`LsmRules`] and [`Available`].
pub fn needed_options(rule: &Rule) -> Vec<(Key, Needed)> {
    const MODSIG: Needed = Needed { option: "CONFIG_IMA_APPRAISE_MODSIG", built: |it| it.modsig };
    const KEYS: Needed = Needed {
        option: "CONFIG_IMA_MEASURE_ASYMMETRIC_KEYS",
        built: |kernel| kernel.asymmetric_keys,
    };
    const VERITY: Needed = Needed { option: "CONFIG_FS_VERITY", built: |kernel| kernel.verity };
    let modsig = rule.appraise_type.is_some_and(AppraiseType::allows_modsig);
    let keys = rule.func == Some(Func::KeyCheck);
    let mut needed = Vec::new();
    needed.extend(modsig.then_some((Key::AppraiseType, MODSIG)));
    needed.extend(keys.then_some((Key::Func, KEYS)));
    needed.extend(rule.digest_type.map(|_| (Key::DigestType, VERITY)));
    needed
}

/// The algorithms of a configuration, built in or as modules, which `crypto_has_alg()` loads.
fn algorithms(config: &KernelConfig<'_>) -> AlgorithmSet {
    use HashAlgorithm::*;
    const OPTIONS: &[(&str, &[HashAlgorithm])] = &[
        ("CRYPTO_MD4", &[Md4]),
        ("CRYPTO_MD5", &[Md5]),
        ("CRYPTO_SHA1", &[Sha1]),
        ("CRYPTO_RMD160", &[Rmd160]),
        ("CRYPTO_SHA256", &[Sha224, Sha256]),
        ("CRYPTO_SHA512", &[Sha384, Sha512]),
        ("CRYPTO_WP512", &[Wp256, Wp384, Wp512]),
        ("CRYPTO_SM3", &[Sm3]),
        ("CRYPTO_SM3_GENERIC", &[Sm3]),
        ("CRYPTO_STREEBOG", &[Streebog256, Streebog512]),
        ("CRYPTO_SHA3", &[Sha3_256, Sha3_384, Sha3_512]),
    ];
    let built = OPTIONS.iter().filter(|(option, _)| config.has(option));
    let algorithms = built.flat_map(|(_, algorithms)| *algorithms);
    algorithms.fold(AlgorithmSet::EMPTY, |set, algorithm| set.with(*algorithm))
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
    fn a_configuration_settles_what_is_assumed() {
        let text = "CONFIG_64BIT=y\nCONFIG_IMA_APPRAISE=y\nCONFIG_IMA_DEFAULT_HASH=\"sha512\"\n\
            CONFIG_IMA_DEFAULT_TEMPLATE=\"ima-ng\"\nCONFIG_IMA_MEASURE_PCR_IDX=11\n\
            CONFIG_CRYPTO_SHA256=y\nCONFIG_CRYPTO_SM3_GENERIC=m\nCONFIG_KEXEC_SIG=y\n";
        let config = KernelConfig::parse(text).unwrap();
        let kernel = Kernel::default().configured(&config);
        assert_eq!(kernel.configuration, Configuration::Read);
        assert_eq!((kernel.modsig, kernel.asymmetric_keys), (Built::Out, Built::Out));
        assert_eq!((kernel.appraise, kernel.arch.kexec_sig), (Built::In, Built::In));
        assert_eq!((kernel.lsm_rules, kernel.default_pcr), (LsmRules::Undefined, 11));
        assert_eq!(kernel.default_hash, HashAlgorithm::Sha512);
        assert_eq!(kernel.default_template, Name::literal("ima-ng"));
        let expected = [HashAlgorithm::Sha224, HashAlgorithm::Sha256, HashAlgorithm::Sm3];
        let set = expected.into_iter().fold(AlgorithmSet::EMPTY, AlgorithmSet::with);
        assert_eq!(kernel.algorithms, Available::Exactly(set));
    }

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
