//! Acceptance by all kernel versions of interest.

use std::fmt;

use ima_format::policy::kernel::KernelVersion;

use super::keyring::Keyring;
use super::keyrings::Keyrings;
use super::refusal::Refusal;
use super::rules::Rules;

/// The versions that are tried, oldest first.
const VERSIONS: [KernelVersion; 4] =
    [KernelVersion::V6_1, KernelVersion::V6_12, KernelVersion::V7_2, KernelVersion::V7_3];

/// A certificate that kernels reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The keyring.
    pub keyring: Keyring,
    /// Why the newest of these versions rejects it.
    pub refusal: Refusal,
    by: Vec<KernelVersion>,
}

/// Whether kernels with the layer's options, and these trusted certificates built in, reject a certificate;
/// `None` if all accept it.
pub fn refused<'a>(
    keyring: Keyring,
    der: &[u8],
    trusted: impl Iterator<Item = &'a [u8]> + Clone,
) -> Option<Refused> {
    let mut refused: Option<Refused> = None;
    for version in VERSIONS {
        let mut kernel = Keyrings::new(Rules::new(version));
        for issuer in trusted.clone() {
            // a certificate that the kernel cannot read is not an issuer
            kernel.build_in(Keyring::BuiltinTrusted, issuer).unwrap_or_default();
        }
        let Err(refusal) = kernel.accept(keyring, der) else { continue };
        let mut by = refused.take().map(|refused| refused.by).unwrap_or_default();
        by.push(version);
        refused = Some(Refused { keyring, refusal, by });
    }
    refused
}

/// The same, without a check of the issuer.
pub fn refused_for_itself(keyring: Keyring, der: &[u8]) -> Option<Refused> {
    let refused = refused(keyring, der, std::iter::empty())?;
    (!refused.refusal.is_about_issuer()).then_some(refused)
}

impl Refused {
    /// Whether the newest version rejects it, not only older ones.
    pub fn by_newest(&self) -> bool {
        self.by.last() == VERSIONS.last()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keyring, refusal, by } = self;
        match (by.as_slice(), self.by_newest()) {
            ([oldest, ..], true) if by.len() < VERSIONS.len() => {
                write!(f, "{keyring} of Linux {oldest} and newer rejects it: {refusal}")
            }
            ([.., newest], false) => {
                write!(f, "{keyring} of Linux {newest} and older rejects it: {refusal}")
            }
            _ => write!(f, "{keyring} rejects it: {refusal}"),
        }
    }
}
