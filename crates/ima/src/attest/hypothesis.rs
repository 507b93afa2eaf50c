//! How a list and a PCR can differ.

/// How a list and a PCR can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hypothesis {
    /// The bank was extended by SHA-1 digests that were padded with zeros, as kernels before 5.8 do.
    /// Nothing is wrong.
    PaddedSha1,
    /// The data of a record, the first of them, were changed after it was measured.
    Changed {
        /// The record.
        index: u64,
    },
    /// Without this record the list results in the value.
    Added {
        /// The record.
        index: u64,
    },
    /// With this record and the next exchanged, the list results in the value.
    Swapped {
        /// The first of them.
        index: u64,
    },
    /// This record is a violation in the list alone: the digest of its data extended the PCR.
    ForgedViolation {
        /// The record.
        index: u64,
    },
    /// The list was rewritten in the other byte order.
    OtherByteOrder,
    /// Records before this one belong to an earlier boot, and the PCR was reset since.
    EarlierBoot {
        /// The first record of this boot.
        index: u64,
    },
    /// The value is that of another PCR.
    OtherPcr {
        /// The PCR that has it.
        pcr: u32,
    },
    /// The records of all PCRs extended this one.
    AllPcrs,
    /// Violations extended it by zeros, which no kernel does.
    ZeroViolations,
    /// The PCR was never extended since it was reset.
    NeverExtended,
    /// The list does not begin with a boot_aggregate: records before it were trimmed or staged.
    HeadMissing,
    /// Records between loading a kernel and starting it were lost.
    LostInKexec {
        /// The first record of the kernel that was started.
        index: u64,
    },
    /// The list could not be read beyond this number of records.
    Unread {
        /// The first record that could not be read.
        index: u64,
    },
    /// Nothing else explains it: records at the end are missing, or some were removed, added or
    /// replaced.
    Unknown,
}

impl Hypothesis {
    /// It in a word, as JSON has it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::PaddedSha1 => "padded-sha1",
            Self::Changed { .. } => "changed-entry",
            Self::Added { .. } => "added-entry",
            Self::Swapped { .. } => "swapped-entries",
            Self::ForgedViolation { .. } => "forged-violation",
            Self::OtherByteOrder => "other-byte-order",
            Self::EarlierBoot { .. } => "earlier-boot",
            Self::OtherPcr { .. } => "other-pcr",
            Self::AllPcrs => "all-pcrs",
            Self::ZeroViolations => "zero-violations",
            Self::NeverExtended => "never-extended",
            Self::HeadMissing => "head-missing",
            Self::LostInKexec { .. } => "lost-in-kexec",
            Self::Unread { .. } => "unread",
            Self::Unknown => "unknown",
        }
    }

    /// The record to look at first, if it points at one.
    pub fn first(&self) -> Option<u64> {
        match *self {
            Self::Changed { index }
            | Self::Added { index }
            | Self::Swapped { index }
            | Self::ForgedViolation { index }
            | Self::EarlierBoot { index }
            | Self::LostInKexec { index }
            | Self::Unread { index } => Some(index),
            Self::HeadMissing => Some(0),
            _ => None,
        }
    }
}
