//! Caveats about a key before it signs: the kernels that can verify its signatures, and its strength.
//!
//! | kernel source | content |
//! |---|---|
//! | `crypto/rsa.c`, `rsa_check_key_length` | the sizes of RSA keys |
//! | `crypto/rsa-pkcs1pad.c`, `rsa_asn1_templates` | the hash algorithms of RSA: SHA-3 came with Linux 6.7 |
//! | `crypto/asymmetric_keys/public_key.c`, `software_key_determine_akcipher` | the hash algorithms of ECDSA: SHA-3 came with Linux 6.7 |
//! | `include/uapi/linux/hash_info.h` | the hash algorithms that an attribute can name: SHA-3 came with Linux 6.7 |
//! | `crypto/ecdsa.c` | the curves: P-521 came with Linux 6.10 |
//!
//! The versions of signatures that they verify are in [`form`](super::form).

use ima_format::hash::HashAlgorithm;
use ima_format::policy::Severity;
use ima_format::xattr::SignatureVersion;

use super::{Curve, KeyType};

/// A caveat, with a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveat {
    /// The severity.
    pub severity: Severity,
    /// A stable name in kebab case.
    pub name: &'static str,
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub hint: &'static str,
}

/// The sizes of RSA keys, in bits, that the kernel accepts.
const RSA_SIZES: [u32; 6] = [512, 1024, 1536, 2048, 3072, 4096];

/// The size as the kernel computes it (`mpi_get_size`): in whole words of 64 bits.
fn in_words(bits: u32) -> u32 {
    bits.div_ceil(64) * 64
}

/// Whether the kernel can verify signatures of RSA keys of this size.
pub(super) fn is_rsa_size(bits: u32) -> bool {
    RSA_SIZES.contains(&in_words(bits))
}

/// The caveat of keys of this type.
pub fn of_key(key_type: KeyType) -> Option<Caveat> {
    let (severity, name, message, hint) = match key_type {
        KeyType::Rsa(bits) if !is_rsa_size(bits) => {
            let message = format!("RSA with {bits} bits: the kernel accepts 2048, 3072 and 4096");
            (
                Severity::Error,
                "unsupported-key-size",
                message,
                "use RSA-2048, 3072 or 4096, or P-256",
            )
        }
        KeyType::Rsa(bits) if bits < 2048 => {
            let message = format!("RSA with {bits} bits: too short to be safe");
            (Severity::Error, "weak-key", message, "use RSA-2048 or more, or P-256")
        }
        KeyType::Ecdsa(Curve::P192) => {
            let message = "P-192: too short to be safe".to_owned();
            (Severity::Error, "weak-key", message, "use P-256 or P-384")
        }
        KeyType::Ecdsa(Curve::P521) => {
            let message = "P-521: only Linux 6.10 and newer verify with it".to_owned();
            (Severity::Note, "newer-kernel", message, "use P-384 for older kernels")
        }
        KeyType::MlDsa(set) => {
            let message = format!("{}: only Linux 7.2 and newer verify with it", set.name());
            (Severity::Note, "newer-kernel", message, "use RSA or P-256 for older kernels")
        }
        _ if !key_type.verifiable_over(HashAlgorithm::Sha256) => {
            let message = format!("{key_type}: the kernel cannot verify files with it");
            let hint = "use RSA, P-256 or P-384 (P-521 from Linux 6.10 on, ML-DSA from 7.2 on)";
            (Severity::Error, "unsuitable-key", message, hint)
        }
        _ => return None,
    };
    Some(Caveat { severity, name, message, hint })
}

/// The caveat of signatures of this version on files.
pub fn of_version(version: SignatureVersion) -> Option<Caveat> {
    (version == SignatureVersion::V3).then(|| Caveat {
        severity: Severity::Note,
        name: "newer-kernel",
        message: "signatures of version 3: only Linux 7.1 and newer verify them".to_owned(),
        hint: "use version 2 for older kernels; --for-kernel chooses",
    })
}

/// The caveat of attributes with this hash algorithm, signatures or digests.
pub fn of_hash(algorithm: HashAlgorithm) -> Option<Caveat> {
    use HashAlgorithm::{Sha3_256, Sha3_384, Sha3_512};
    matches!(algorithm, Sha3_256 | Sha3_384 | Sha3_512).then(|| Caveat {
        severity: Severity::Note,
        name: "newer-kernel",
        message: format!("{algorithm}: only Linux 6.7 and newer know it in attributes"),
        hint: "use sha256, sha384 or sha512 for older kernels",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_that_the_kernel_refuses_is_an_error() {
        for (bits, name) in [
            (1024, Some("weak-key")),
            (2000, Some("weak-key")),
            (1984, Some("unsupported-key-size")),
            (2048, None),
            (2560, Some("unsupported-key-size")),
            (3072, None),
            (4096, None),
            (8192, Some("unsupported-key-size")),
        ] {
            let caveat = of_key(KeyType::Rsa(bits));
            assert_eq!(caveat.as_ref().map(|caveat| caveat.name), name, "{bits}");
            assert!(caveat.map_or(true, |caveat| caveat.severity == Severity::Error));
        }
    }
}
