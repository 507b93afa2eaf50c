//! Reasons why a list and a PCR differ.

/// A reason why a list and a PCR differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hypothesis {
    /// The bank was extended by SHA-1 digests padded with zeros, as in kernels before 5.8. This is not a fault of
    /// the list.
    PaddedSha1,
    /// The data of records, of which this is the first, were changed after they were measured.
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
    /// This record is a violation only in the list: the PCR was extended by the digest of its data.
    ForgedViolation {
        /// The record.
        index: u64,
    },
    /// The list was converted to the other byte order.
    OtherByteOrder,
    /// Records before this one did not extend the PCR: it was reset in between, or they were added.
    EarlierBoot {
        /// The first record of this boot.
        index: u64,
    },
    /// Another PCR has the value.
    OtherPcr {
        /// The other PCR.
        pcr: u32,
    },
    /// The records of all PCRs were extended into this one.
    AllPcrs,
    /// Violations extended it by zeros; no kernel does this.
    ZeroViolations,
    /// The PCR was not extended since its reset.
    NeverExtended,
    /// The list does not begin with a boot_aggregate: the records before it were probably trimmed or staged.
    HeadMissing,
    /// Records between loading a kernel and starting it were probably lost.
    LostInKexec {
        /// The first record of the kernel that was started.
        index: u64,
    },
    /// The list could not be read from this record on.
    Unread {
        /// The first record that could not be read.
        index: u64,
    },
    /// No other hypothesis applies: records at the end are missing, or several were removed, added or replaced.
    Unknown,
}

impl Hypothesis {
    /// The name of the hypothesis in JSON.
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

    /// The record to inspect first, if the hypothesis names one.
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
