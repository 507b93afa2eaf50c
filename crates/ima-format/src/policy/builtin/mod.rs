//! Policies that need not be written: the kernel's built-in ones, and the presets of imactl.
//!
//! The kernel's are tables in its source that change with version and configuration. They are kept as text, in
//! the kernel's order, and parsed like any other policy: lints, decisions and comparisons need only one form of
//! a rule.

use alloc::string::String;
use alloc::vec::Vec;

use super::kernel::{ArchOptions, Built, Feature, Kernel};

spelled! {
    /// A policy that is compiled into the kernel, selected by `ima_policy=` on its command line: the tables of
    /// `ima_policy.c`, which are the same in Linux 5.10, 6.1 and 6.12 and differ since. The order is that in which the
    /// kernel concatenates them.
    ///
    /// A custom policy replaces all of them except [`Self::Arch`]. The text differs from the kernel's tables in one
    /// respect: the kernel's own rules that require a signature do not check the blacklist.
    Builtin {
        /// Not selected on the command line. A kernel with `CONFIG_IMA_ARCH_POLICY` that was booted under Secure
        /// Boot has these rules before all others, including those of a custom policy (`sb_arch_rules` in
        /// `ima_efi.c`; in 5.10, `arch/x86/kernel/ima_arch.c`).
        Arch = "arch",
        /// Measure programs, and files that real root reads (`original_measurement_rules`).
        OriginalTcb = "ima_tcb",
        /// Measure programs, files that root reads, and policies.
        Tcb = "tcb",
        /// Files that the kernel reads must be signed.
        SecureBoot = "secure_boot",
        /// Files owned by root must have a digest or a signature.
        AppraiseTcb = "appraise_tcb",
        /// Measure the data that subsystems report.
        CriticalData = "critical_data",
    }
}

impl Builtin {
    /// Its rules, one per line; empty if this version does not have it.
    pub fn text(self, kernel: &Kernel) -> String {
        const MEASURED: &[&str] =
            &["measure func=MMAP_CHECK mask=MAY_EXEC", "measure func=BPRM_CHECK mask=MAY_EXEC"];
        let version = kernel.version;
        let mut rules = Vec::new();
        match self {
            Self::OriginalTcb | Self::Tcb => {
                rules.extend(NOT_MEASURED.iter().map(|rule| match *rule {
                    TMPFS if version.has(Feature::TmpfsProgramsMeasured) => TMPFS_FILES,
                    other => other,
                }));
                rules.extend(version.has(Feature::ConfigfsExcluded).then_some(NO_CONFIGFS));
                rules.extend_from_slice(MEASURED);
                rules.extend_from_slice(match self {
                    Self::Tcb => &[
                        "measure func=FILE_CHECK mask=^MAY_READ euid=0",
                        "measure func=FILE_CHECK mask=^MAY_READ uid=0",
                    ],
                    _ => &["measure func=FILE_CHECK mask=MAY_READ uid=0"],
                });
                rules.extend_from_slice(&[
                    "measure func=MODULE_CHECK",
                    "measure func=FIRMWARE_CHECK",
                ]);
                if self == Self::Tcb {
                    rules.push("measure func=POLICY_CHECK");
                }
            }
            Self::SecureBoot => rules.extend_from_slice(&[
                match version.has(Feature::SecureBootModsig) {
                    true => "appraise func=MODULE_CHECK appraise_type=imasig|modsig",
                    false => "appraise func=MODULE_CHECK appraise_type=imasig",
                },
                "appraise func=FIRMWARE_CHECK appraise_type=imasig",
                "appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig",
                "appraise func=POLICY_CHECK appraise_type=imasig",
            ]),
            Self::AppraiseTcb => {
                rules.extend_from_slice(NOT_APPRAISED);
                let configfs = "dont_appraise fsmagic=0x62656570";
                rules.extend(version.has(Feature::ConfigfsExcluded).then_some(configfs));
                if kernel.write_policy == Built::In {
                    rules.push("appraise func=POLICY_CHECK appraise_type=imasig");
                }
                rules.push(match kernel.signed_init {
                    Built::In => "appraise fowner=0 appraise_type=imasig",
                    Built::Out => "appraise fowner=0",
                });
            }
            Self::CriticalData if kernel.version.has(Feature::CriticalData) => {
                rules.push("measure func=CRITICAL_DATA");
            }
            Self::CriticalData => {}
            Self::Arch => rules.extend(arch_rules(kernel)),
        }
        let mut text = String::new();
        for rule in rules {
            text.push_str(rule);
            text.push('\n');
        }
        text
    }
}

/// `sb_arch_rules`
fn arch_rules(kernel: &Kernel) -> Vec<&'static str> {
    let ArchOptions { policy, kexec_sig, module_sig, machine_keys } = kernel.arch;
    let mut rules = Vec::new();
    if policy == Built::Out {
        return rules;
    }
    if kexec_sig == Built::Out {
        rules.push("appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig");
    }
    rules.push("measure func=KEXEC_KERNEL_CHECK");
    if module_sig == Built::Out {
        rules.push("appraise func=MODULE_CHECK appraise_type=imasig");
    }
    if machine_keys == Built::In && kernel.version.has(Feature::ArchSignedPolicy) {
        rules.push("appraise func=POLICY_CHECK appraise_type=imasig");
    } else if kernel.version.has(Feature::PolicyMeasured) {
        rules.push("measure func=CRITICAL_DATA label=ima_policy");
    }
    rules.push("measure func=MODULE_CHECK");
    rules
}

/// No rule measures files on tmpfs.
const TMPFS: &str = "dont_measure fsmagic=0x1021994";
/// No rule measures files that are opened on tmpfs; programs that are run from it are measured.
const TMPFS_FILES: &str = "dont_measure func=FILE_CHECK fsmagic=0x1021994";
/// No rule measures files on configfs.
const NO_CONFIGFS: &str = "dont_measure fsmagic=0x62656570";

/// `dont_measure_rules`: proc, sysfs, debugfs, tmpfs, devpts, binfmt_misc, securityfs,
/// selinuxfs, smackfs, cgroup, cgroup2, nsfs, efivarfs.
const NOT_MEASURED: &[&str] = &[
    "dont_measure fsmagic=0x9fa0",
    "dont_measure fsmagic=0x62656572",
    "dont_measure fsmagic=0x64626720",
    TMPFS,
    "dont_measure fsmagic=0x1cd1",
    "dont_measure fsmagic=0x42494e4d",
    "dont_measure fsmagic=0x73636673",
    "dont_measure fsmagic=0xf97cff8c",
    "dont_measure fsmagic=0x43415d53",
    "dont_measure fsmagic=0x27e0eb",
    "dont_measure fsmagic=0x63677270",
    "dont_measure fsmagic=0x6e736673",
    "dont_measure fsmagic=0xde5e81e4",
];

/// The start of `default_appraise_rules`: the same file systems and ramfs, in another order.
const NOT_APPRAISED: &[&str] = &[
    "dont_appraise fsmagic=0x9fa0",
    "dont_appraise fsmagic=0x62656572",
    "dont_appraise fsmagic=0x64626720",
    "dont_appraise fsmagic=0x1021994",
    "dont_appraise fsmagic=0x858458f6",
    "dont_appraise fsmagic=0x1cd1",
    "dont_appraise fsmagic=0x42494e4d",
    "dont_appraise fsmagic=0x73636673",
    "dont_appraise fsmagic=0xf97cff8c",
    "dont_appraise fsmagic=0x43415d53",
    "dont_appraise fsmagic=0x6e736673",
    "dont_appraise fsmagic=0xde5e81e4",
    "dont_appraise fsmagic=0x27e0eb",
    "dont_appraise fsmagic=0x63677270",
];

spelled! {
    /// A preset of imactl, with comments for its readers; the default is the first.
    Preset {
        /// Programs that root runs and files that the kernel reads for root must be signed.
        Appraise = "appraise",
        /// Programs that anyone runs and files that the kernel reads must be signed.
        Strict = "strict",
        /// Programs, and files that root and the kernel read, are measured.
        Measure = "measure",
    }
}

impl Preset {
    /// The whole file, with comments.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Appraise => include_str!("appraise.policy"),
            Self::Strict => include_str!("strict.policy"),
            Self::Measure => include_str!("measure.policy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use super::*;
    use crate::policy::ast::Policy;
    use crate::policy::decide::{AppraiseMode, Decider};
    use crate::policy::diagnostic::Severity;
    use crate::policy::kernel::KernelVersion;
    use crate::policy::{check, Loading};

    #[test]
    fn every_kernel_accepts_its_own_policies() {
        for version in KernelVersion::LONG_TERM.iter().chain(KernelVersion::READ) {
            let kernel = Kernel::new(*version);
            for builtin in Builtin::ALL {
                let text = builtin.text(&kernel);
                let missing = *builtin == Builtin::CriticalData && *version == KernelVersion::V5_10;
                assert_eq!(text.is_empty(), missing, "{builtin} {version}");
                let policy = Policy::parse(text.as_bytes(), &kernel);
                assert!(missing || policy.unwrap().to_string() == text, "{builtin} {version}");
            }
        }
    }

    #[test]
    fn they_differ_by_version() {
        let rules =
            |builtin: Builtin, version: &str| builtin.text(&Kernel::new(version.parse().unwrap()));
        for (builtin, rule, since) in [
            (Builtin::Tcb, "dont_measure func=FILE_CHECK fsmagic=0x1021994\n", "6.14"),
            (Builtin::SecureBoot, "func=MODULE_CHECK appraise_type=imasig|modsig\n", "6.19"),
            (Builtin::Tcb, "dont_measure fsmagic=0x62656570\n", "7.3"),
            (Builtin::AppraiseTcb, "dont_appraise fsmagic=0x62656570\n", "7.3"),
        ] {
            assert!(rules(builtin, since).contains(rule), "{builtin} {since}");
            assert!(!rules(builtin, "6.12").contains(rule), "{builtin} 6.12");
        }
    }

    #[test]
    fn names_lead_back() {
        for builtin in Builtin::ALL {
            assert_eq!(Builtin::from_name(builtin.name().as_bytes()), Some(*builtin));
        }
        for preset in Preset::ALL {
            assert_eq!(Preset::from_name(preset.name().as_bytes()), Some(*preset));
        }
        assert_eq!((Builtin::from_name(b""), Preset::from_name(b"tcb")), (None, None));
    }

    #[test]
    fn ours_are_accepted_and_without_findings() {
        for version in
            [KernelVersion::V5_15, KernelVersion::V6_1, KernelVersion::V6_12, KernelVersion::V7_3]
        {
            for preset in Preset::ALL {
                let found = check(preset.text().as_bytes(), &Kernel::new(version), Loading::File);
                let told: vec::Vec<_> =
                    found.iter().filter(|it| it.severity >= Severity::Note).collect();
                assert!(told.is_empty(), "{preset} {version}: {told:#?}");
            }
        }
    }

    #[test]
    fn the_default_holds_root_and_what_goes_into_the_kernel() {
        let kernel = Kernel::default();
        let policy = Policy::parse(Preset::Appraise.text().as_bytes(), &kernel).unwrap();
        let rules: vec::Vec<_> = policy.rules().map(|rule| rule.to_string()).collect();
        let expected = [
            "MMAP_CHECK euid=0",
            "BPRM_CHECK euid=0",
            "MODULE_CHECK",
            "FIRMWARE_CHECK",
            "POLICY_CHECK",
            "KEXEC_KERNEL_CHECK",
            "KEXEC_INITRAMFS_CHECK",
        ]
        .map(|whose| std::format!("appraise func={whose} appraise_type=imasig"));
        assert_eq!(rules, expected);
        let decider = Decider::new(&policy, &kernel, AppraiseMode::Enforce);
        assert!(decider.has_appraise_rule(crate::policy::ast::Func::PolicyCheck));
    }

    #[test]
    fn the_default_is_the_layers_file() {
        let layer = concat!(env!("CARGO_MANIFEST_DIR"), "/../../meta-integrity");
        if !std::path::Path::new(layer).exists() {
            std::eprintln!("SKIPPED: the crate stands alone, there is no layer next to it");
            return;
        }
        let path = std::format!("{layer}/recipes-support/ima-policy/files/ima_policy.default");
        assert_eq!(std::fs::read_to_string(path).unwrap(), Preset::Appraise.text());
    }
}
