//! The kernel version of each feature, as one table.
//!
//! The rows are from the sources of five kernels: Linux 5.10, 6.1, 6.12, 7.2 and 7.3, in their stable releases
//! 5.10.223, 6.1.192, 6.12.117, 7.2.13 and 7.3.4 ([`KernelVersion::is_verified`]). If a row names a version
//! between two of them, the newer source has the feature and the older one does not; the exact version is from
//! the kernel's history. A distribution may have backported a feature to an older kernel.

use core::fmt;
use core::str::FromStr;

use crate::hash::HashAlgorithm;

/// A kernel version without its stable release, such as `6.12`: stable releases do not change the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelVersion {
    major: u16,
    minor: u16,
}

impl KernelVersion {
    /// The oldest version that the table covers, a long-term release, whose source was read.
    pub const V5_10: Self = Self::new(5, 10);
    /// A long-term release.
    pub const V5_15: Self = Self::new(5, 15);
    /// A long-term release, whose source was read.
    pub const V6_1: Self = Self::new(6, 1);
    /// A long-term release.
    pub const V6_6: Self = Self::new(6, 6);
    /// A long-term release, whose source was read.
    pub const V6_12: Self = Self::new(6, 12);
    /// A long-term release.
    pub const V6_18: Self = Self::new(6, 18);
    /// A release whose source was read.
    pub const V7_2: Self = Self::new(7, 2);
    /// The newest release whose source was read.
    pub const V7_3: Self = Self::new(7, 3);
    /// The versions whose sources were read, oldest first.
    pub const READ: &'static [Self] =
        &[Self::V5_10, Self::V6_1, Self::V6_12, Self::V7_2, Self::V7_3];

    /// The long-term releases that the table covers, oldest first.
    pub const LONG_TERM: &'static [Self] =
        &[Self::V5_10, Self::V5_15, Self::V6_1, Self::V6_6, Self::V6_12, Self::V6_18];

    const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether the grammar was verified against the source of this version.
    pub fn is_verified(self) -> bool {
        Self::READ.contains(&self)
    }

    /// The nearest versions whose sources were read: the newest before this one, and the oldest that is not
    /// before it. The second has the features of this version, the first does not. Unless the two are consecutive
    /// releases, the exact version between them is from the kernel's history.
    pub fn read_around(self) -> (Option<Self>, Option<Self>) {
        let before = Self::READ.iter().rev().find(|read| **read < self);
        let from = Self::READ.iter().find(|read| **read >= self);
        (before.copied(), from.copied())
    }

    /// Whether it has `feature`.
    pub fn has(self, feature: Feature) -> bool {
        self >= feature.since()
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a text is not a kernel version of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelVersionError {
    /// Not `MAJOR.MINOR`.
    Malformed,
    /// Before 5.10.
    TooOld,
}

impl fmt::Display for KernelVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("a kernel version is two numbers, as in 6.12"),
            Self::TooOld => {
                write!(f, "versions before {} are not known here", KernelVersion::V5_10)
            }
        }
    }
}

#[cfg(feature = "std")]
impl std::error::Error for KernelVersionError {}

/// Parses `6.12`, and the output of `uname -r`: `6.12.117-yocto-standard`.
impl FromStr for KernelVersion {
    type Err = KernelVersionError;

    fn from_str(text: &str) -> Result<Self, KernelVersionError> {
        let (major, rest) = text.split_once('.').ok_or(KernelVersionError::Malformed)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = |text: &str| text.parse::<u16>().map_err(|_| KernelVersionError::Malformed);
        let minor = rest.get(..end).unwrap_or_default();
        let version = Self::new(number(major)?, number(minor)?);
        if version < Self::V5_10 {
            return Err(KernelVersionError::TooOld);
        }
        Ok(version)
    }
}

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $major:literal, $minor:literal;)+) => {
        /// A feature that a version added, as far as policies depend on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Feature {
            $($(#[$doc])* $variant,)+
        }

        impl Feature {
            /// All features, oldest first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The first version that has it.
            pub const fn since(self) -> KernelVersion {
                match self {
                    $(Self::$variant => KernelVersion::new($major, $minor),)+
                }
            }
        }
    };
}

features! {
    /// `func=CRITICAL_DATA` and `label=`.
    CriticalData = 5, 12;
    /// Keys and signatures of ECDSA in certificates.
    Ecdsa = 5, 13;
    /// A change of owner or mode no longer removes `security.ima` if no rule appraises.
    SetattrKeepsAttribute = 5, 14;
    /// `template=evm-sig`.
    EvmSigTemplate = 5, 14;
    /// Portable EVM signatures cover attributes of modules that the kernel does not have, too, allow a digest where
    /// a rule asks for a signature, and have a cause of their own if they do not match (`evm_main.c`).
    EvmPortable = 5, 14;
    /// `func=SETXATTR_CHECK` and `appraise_algos=`.
    AppraiseAlgos = 5, 15;
    /// `gid`, `egid` and `fgroup`.
    Groups = 5, 16;
    /// The issuer of a certificate without an authority key identifier is found by its name.
    IssuerByName = 5, 17;
    /// `digest_type=verity`, `appraise_type=sigv3`, the templates `ima-ngv2` and `ima-sigv2`.
    Verity = 5, 19;
    /// `func=MMAP_CHECK_REQPROT`.
    MmapCheckReqprot = 6, 3;
    /// The kernel parses the key usage and basic constraints of a certificate.
    CertificateUsage = 6, 4;
    /// `.ima` and `.evm` accept only keys whose certificates have digitalSignature and are not those of a CA.
    DigitalSignature = 6, 6;
    /// The rules under Secure Boot (`sb_arch_rules`) require signed policies if `.machine` is trusted.
    ArchSignedPolicy = 6, 6;
    /// Every rule that requires a signature checks the blacklist, and `appraise_flag=` is ignored; earlier
    /// kernels check it only with the flag.
    BlacklistByDefault = 6, 6;
    /// The algorithms `sha3-256`, `sha3-384` and `sha3-512`.
    Sha3 = 6, 7;
    /// Keys on the curve P-521: earlier kernels reject such certificates.
    EcdsaP521 = 6, 10;
    /// The same violation of the same file is not recorded twice. Added in 6.15 and backported to the stable
    /// releases of 6.12.
    LimitedViolations = 6, 12;
    /// Authority key identifiers whose issuer name is not a directory name are accepted, too. In 6.12, not in
    /// 6.1; the exact version is unknown.
    AuthorityNames = 6, 12;
    /// A comment after a rule is ignored.
    TrailingComments = 6, 14;
    /// `execveat(AT_EXECVE_CHECK)`: an interpreter asks whether a script may run.
    ExecveCheck = 6, 14;
    /// The built-in measure rules exclude only files that are opened on tmpfs; programs that are run from it are
    /// measured.
    TmpfsProgramsMeasured = 6, 14;
    /// `func=CREDS_CHECK` sees the user of a set-user-ID program; from 5.8 until then it saw the caller.
    CredsCheckSeesSetuid = 6, 19;
    /// The action `dont_audit`.
    DontAudit = 6, 19;
    /// `fs_subtype=`.
    FsSubtype = 6, 19;
    /// A module that the kernel decompresses is measured and appraised in its decompressed form, with the
    /// signature that is appended to it.
    ModulesDecompressed = 6, 19;
    /// The built-in policy `secure_boot` accepts appended signatures on modules.
    SecureBootModsig = 6, 19;
    /// Signatures of version 3 on files, and `appraise_type=sigv3` for them: without `digest_type=verity`, or
    /// with it in any order.
    FileSigv3 = 7, 1;
    /// Keys and signatures of ML-DSA, in version 3 only.
    MlDsa = 7, 2;
    /// The policy is measured: written rules by `func=POLICY_CHECK`, and the rules in force as critical data
    /// `ima_policy`.
    PolicyMeasured = 7, 3;
    /// The built-in policies exclude configfs.
    ConfigfsExcluded = 7, 3;
}

impl Feature {
    /// The feature of a hash algorithm's name; `None` for algorithms that every version has.
    pub const fn of_algorithm(algorithm: HashAlgorithm) -> Option<Self> {
        match algorithm {
            HashAlgorithm::Sha3_256 | HashAlgorithm::Sha3_384 | HashAlgorithm::Sha3_512 => {
                Some(Self::Sha3)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn versions_are_read_as_uname_prints_them() {
        assert_eq!("6.12".parse(), Ok(KernelVersion::V6_12));
        assert_eq!("6.1.192-yocto-standard".parse(), Ok(KernelVersion::V6_1));
        assert_eq!("6.19-rc3".parse::<KernelVersion>().unwrap().to_string(), "6.19");
        assert!("6.2".parse::<KernelVersion>().unwrap() < KernelVersion::V6_12);
        assert_eq!("5.4".parse::<KernelVersion>(), Err(KernelVersionError::TooOld));
        for text in ["6", "6.", "6.x", "", "v6.1", "-6.1", "6.99999999"] {
            assert_eq!(text.parse::<KernelVersion>(), Err(KernelVersionError::Malformed), "{text}");
        }
    }

    #[test]
    fn features_are_between_two_versions_that_were_read() {
        for feature in Feature::ALL {
            let (before, from) = feature.since().read_around();
            assert!(before.is_some_and(|before| !before.has(*feature)), "{feature:?}");
            assert!(from.is_some_and(|from| from.has(*feature)), "{feature:?}");
        }
        let around = |text: &str| text.parse::<KernelVersion>().unwrap().read_around();
        assert_eq!(around("6.1"), (Some(KernelVersion::V5_10), Some(KernelVersion::V6_1)));
        assert_eq!(around("7.9"), (Some(KernelVersion::V7_3), None));
    }

    #[test]
    fn the_table_is_in_the_order_of_history() {
        let versions: Vec<_> = Feature::ALL.iter().map(|feature| feature.since()).collect();
        let mut sorted = versions.clone();
        sorted.sort();
        assert_eq!(versions, sorted);
    }
}
