//! The kernels that verify each form of signature, as one table.
//!
//! | since | form | kernel source |
//! |---|---|---|
//! | always | version 2, by RSA | `asymmetric_verify` in `security/integrity/digsig_asymmetric.c` |
//! | 5.13 | by ECDSA | `crypto/ecdsa.c` |
//! | 5.19 | version 3 of fs-verity digests, which have no version 2 | `xattr_verify` in `ima_appraise.c` |
//! | 6.7 | over SHA-3 | `include/uapi/linux/hash_info.h` |
//! | 6.10 | by P-521 | `crypto/ecdsa.c` |
//! | 7.1 | version 3 of files and of EVM | `integrity_digsig_verify` in `digsig.c` |
//! | 7.2 | by ML-DSA, in version 3 only | `asymmetric_verify_v3_hashless` in `digsig_asymmetric.c` |

use std::fmt;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::policy::kernel::{Feature, KernelVersion};
use ima_format::xattr::{Signature, SignatureKind, SignatureVersion};

use super::{Curve, KeyType};
use crate::advice::Advice;
use crate::digest::{DigestError, Hasher};

/// A form of signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The object that it signs.
    pub kind: SignatureKind,
    /// The structure of the signed bytes.
    pub version: SignatureVersion,
    /// The type of the key.
    pub key: KeyType,
    /// The hash algorithm of the file's digest.
    pub algorithm: HashAlgorithm,
}

impl Form {
    /// The features that the kernel needs to verify it; `None` if no kernel can.
    fn needs(self) -> Option<[Option<Feature>; 3]> {
        use SignatureVersion::{V2, V3};
        if !self.key.verifiable_over(self.algorithm) {
            return None;
        }
        let version = match (self.kind, self.version) {
            (SignatureKind::Ima | SignatureKind::EvmPortable, V2) => None,
            (SignatureKind::Ima | SignatureKind::EvmPortable, V3) => Some(Feature::FileSigv3),
            (SignatureKind::Verity, V2) => return None,
            (SignatureKind::Verity, V3) => Some(Feature::Verity),
        };
        let key = match (self.key, self.version) {
            (KeyType::Rsa(_), _) => None,
            (KeyType::Ecdsa(Curve::P521), _) => Some(Feature::EcdsaP521),
            (KeyType::Ecdsa(_), _) => Some(Feature::Ecdsa),
            (KeyType::MlDsa(_), V3) => Some(Feature::MlDsa),
            (KeyType::MlDsa(_), V2) | (KeyType::Other(_), _) => return None,
        };
        Some([version, key, Feature::of_algorithm(self.algorithm)])
    }

    /// Whether this kernel can verify it.
    pub fn is_verified_by(self, kernel: KernelVersion) -> bool {
        self.needs().is_some_and(|needs| needs.into_iter().flatten().all(|it| kernel.has(it)))
    }

    /// The first kernel that can verify it; `None` if no kernel can.
    pub fn since(self) -> Option<KernelVersion> {
        let needs = self.needs()?.into_iter().flatten().map(Feature::since);
        Some(needs.max().unwrap_or(KernelVersion::V5_10))
    }

    /// The newest version of this form that all of these kernels can verify.
    ///
    /// # Errors
    /// No version can be verified by all of them, with the reason.
    pub fn for_kernels(self, kernels: &[KernelVersion]) -> Result<Self, NoForm> {
        let versions = [SignatureVersion::V3, SignatureVersion::V2];
        let mut forms = versions.into_iter().map(|version| Self { version, ..self });
        let all = |form: &Self| kernels.iter().all(|kernel| form.is_verified_by(*kernel));
        forms.find(all).ok_or_else(|| NoForm {
            kernels: kernels.to_vec(),
            forms: versions.map(|version| Self { version, ..self }),
        })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, key, algorithm, kind } = self;
        let of = match kind {
            SignatureKind::Ima => "",
            SignatureKind::EvmPortable => " for EVM",
            SignatureKind::Verity => " of fs-verity",
        };
        write!(f, "version {version}{of} by {key} over {algorithm}")
    }
}

/// No form of signature can be verified by all kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoForm {
    kernels: Vec<KernelVersion>,
    forms: [Form; 2],
}

impl fmt::Display for NoForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels: Vec<_> = self.kernels.iter().map(ToString::to_string).collect();
        let forms = self.forms.map(|form| match form.since() {
            Some(since) => format!("{form} needs Linux {since}"),
            None => format!("no kernel verifies {form}"),
        });
        let (kernels, forms) = (kernels.join(", "), forms.join("; "));
        write!(f, "no signature is verified by all of Linux {kernels}: {forms}")
    }
}

impl std::error::Error for NoForm {}

impl Advice for NoForm {
    fn advice(&self) -> Option<&'static str> {
        Some("use RSA or P-256 with sha256, or sign for the newer kernels separately")
    }
}

/// The input of a key's signature algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A digest: RSA, with DigestInfo, and ECDSA.
    Digest(Digest),
    /// Bytes that are not hashed first: ML-DSA.
    Bytes(Vec<u8>),
    /// A SHA-1 digest without DigestInfo: RSA, in signatures of version 1.
    Bare([u8; 20]),
}

impl Message {
    /// The input of a signature of this form, for a file (or its metadata) with this digest; `None` if there is
    /// no such form.
    ///
    /// # Errors
    /// The hash algorithm is not available.
    pub fn of(
        kind: SignatureKind,
        version: SignatureVersion,
        key: KeyType,
        digest: &Digest,
    ) -> Result<Option<Self>, DigestError> {
        let algorithm = digest.algorithm();
        if (Form { kind, version, key, algorithm }).since().is_none() {
            return Ok(None);
        }
        if version == SignatureVersion::V2 {
            return Ok(Some(Self::Digest(*digest)));
        }
        let file_id = Signature::file_id(kind, digest);
        Ok(Some(match key {
            KeyType::MlDsa(_) => Self::Bytes(file_id),
            _ => Self::Digest(Hasher::new(algorithm)?.digest(&file_id)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use ima_format::x509::MlDsa;

    use super::*;

    #[test]
    fn forms_are_verified_since_the_version_that_brought_them() {
        use HashAlgorithm::{Sha256, Sha3_256};
        use SignatureKind::{EvmPortable, Ima, Verity};
        use SignatureVersion::{V2, V3};
        let (rsa, p256, p521) =
            (KeyType::Rsa(2048), KeyType::Ecdsa(Curve::P256), KeyType::Ecdsa(Curve::P521));
        let ml_dsa = KeyType::MlDsa(MlDsa::MlDsa65);
        for (kind, version, key, algorithm, since) in [
            (Ima, V2, rsa, Sha256, Some("5.10")),
            (Ima, V2, p256, Sha256, Some("5.13")),
            (Ima, V2, p521, Sha256, Some("6.10")),
            (Ima, V2, rsa, Sha3_256, Some("6.7")),
            (Ima, V3, rsa, Sha256, Some("7.1")),
            (EvmPortable, V3, rsa, Sha256, Some("7.1")),
            (Verity, V3, rsa, Sha256, Some("5.19")),
            (Verity, V3, p521, Sha256, Some("6.10")),
            (Verity, V2, rsa, Sha256, None),
            (Ima, V3, ml_dsa, Sha256, Some("7.2")),
            (Verity, V3, ml_dsa, Sha256, Some("7.2")),
            (Ima, V2, ml_dsa, Sha256, None),
        ] {
            let form = Form { kind, version, key, algorithm };
            let since: Option<KernelVersion> = since.map(|text| text.parse().unwrap());
            assert_eq!(form.since(), since, "{form}");
            for kernel in KernelVersion::READ {
                let verified = since.is_some_and(|since| *kernel >= since);
                assert_eq!(form.is_verified_by(*kernel), verified, "{form} {kernel}");
            }
        }
    }
}
