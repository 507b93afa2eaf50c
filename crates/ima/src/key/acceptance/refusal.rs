//! Why a keyring rejects a certificate: the kernel's errors, and hints.

use ima_format::hash::HashAlgorithm;
use ima_format::policy::kernel::Feature;
use ima_format::{x509, Error, ErrorKind};

use super::keyring::Keyring;

/// Why a keyring rejects a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The kernel has no such keyring.
    #[error("the kernel has no {0} keyring")]
    NoKeyring(Keyring),
    /// The certificate is in PEM, but the kernel reads only DER.
    #[error("PEM, but the kernel reads DER only")]
    Pem,
    /// The certificate is larger than the limit of the kernel's decoder.
    #[error("larger than 65535 bytes")]
    TooLarge,
    /// Shorter than 260 bytes with its header, which ends the kernel's list of compiled-in certificates.
    #[error("shorter than 260 bytes: the kernel stops reading its compiled-in certificates here")]
    TooShortToBuildIn,
    /// The certificate is not valid DER.
    #[error("{0}")]
    Malformed(Error),
    /// An extension that the kernel rejects.
    #[error("{0}")]
    Usage(x509::Fault),
    /// An authority key identifier that the kernel cannot read.
    #[error("authority key identifier with a name that is not a directory name")]
    AuthorityNames,
    /// The algorithm or curve of the key is supported by no kernel.
    #[error("key of an algorithm or curve that the kernel does not know")]
    UnknownKeyAlgorithm,
    /// The elliptic curve is given by its parameters.
    #[error("elliptic curve given by parameters: the kernel needs its name")]
    UnnamedCurve,
    /// The algorithm of the key was added in a later version.
    #[error("key of an algorithm that the kernel supports since Linux {}", .0.since())]
    NewerKeyAlgorithm(Feature),
    /// The algorithm of the signature is supported by no kernel.
    #[error("signed by an algorithm that the kernel does not know")]
    UnknownSignatureAlgorithm,
    /// The algorithm of the signature was added in a later version.
    #[error("signed by an algorithm that the kernel supports since Linux {}", .0.since())]
    NewerSignatureAlgorithm(Feature),
    /// The kernel does not have the hash algorithm of the signature.
    #[error("signed over {0}, which this kernel does not compute")]
    MissingHash(HashAlgorithm),
    /// The certificate is in `.blacklist`.
    #[error("blacklisted: its hash is in .blacklist")]
    Blacklisted,
    /// The certificate names itself as its issuer, but its key did not sign it.
    #[error("names itself as its issuer, but is not signed by its own key")]
    BadSelfSignature,
    /// Only one part of the authority key identifier names the certificate itself.
    #[error(
        "one part of its authority key identifier names itself, the other part another certificate"
    )]
    SelfContradicting,
    /// The key usage lacks digitalSignature.
    #[error("key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// `CA:TRUE`, but the keyring accepts only signers.
    #[error("a CA (CA:TRUE)")]
    Authority,
    /// keyCertSign, but the keyring accepts only signers.
    #[error("key usage has keyCertSign")]
    KeyCertSign,
    /// Not `CA:TRUE`, but the keyring accepts only CAs.
    #[error("not a CA (CA:TRUE)")]
    NoAuthority,
    /// A CA without keyCertSign.
    #[error("a CA whose key usage lacks keyCertSign")]
    NoKeyCertSign,
    /// A CA that may also sign other data.
    #[error("a CA whose key usage has digitalSignature")]
    AuthorityThatSigns,
    /// There is no authority key identifier, which the kernel needs.
    #[error("no authority key identifier, by which Linux before 5.17 finds the issuer")]
    NoAuthorityKeyIdentifier,
    /// No key in the keyrings is that of the issuer.
    #[error("no trusted key has the name or identifier of its issuer")]
    UnknownIssuer,
    /// The key with the serial number in the authority key identifier has another key identifier.
    #[error("the key identifier of its issuer's certificate is not the one that it names")]
    IssuerDiffers,
    /// The issuer is trusted, but not built in.
    #[error("its issuer is not compiled into the kernel")]
    IssuerNotBuiltin,
    /// The issuer's key cannot have made a signature of this algorithm.
    #[error("signed by another algorithm than its issuer's key has")]
    IssuerOfAnotherAlgorithm,
    /// The kernel does not support RSA keys of this size.
    #[error("signed by an RSA key of {0} bits, with which the kernel does not verify")]
    RsaSize(u32),
    /// The issuer's key did not make the signature.
    #[error("not signed by the key of its issuer")]
    BadSignature,
    /// Several keys match, and the kernel tries only the first that it finds.
    #[error("several trusted keys have the identifier of its issuer, and not all signed it")]
    SeveralIssuers,
    /// OpenSSL cannot verify the signature.
    #[error("its signature cannot be verified here")]
    NotVerifiableHere,
}

impl Refusal {
    /// A stable name in kebab case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoKeyring(_) => "no-keyring",
            Self::Pem => "not-der",
            Self::TooLarge | Self::TooShortToBuildIn => "certificate-size",
            Self::Malformed(_) | Self::Usage(_) | Self::AuthorityNames => "malformed-certificate",
            Self::UnknownKeyAlgorithm | Self::UnnamedCurve | Self::NewerKeyAlgorithm(_) => {
                "unsuitable-key"
            }
            Self::UnknownSignatureAlgorithm
            | Self::NewerSignatureAlgorithm(_)
            | Self::MissingHash(_) => "unsuitable-signature",
            Self::Blacklisted => "blacklisted",
            Self::BadSelfSignature
            | Self::SelfContradicting
            | Self::BadSignature
            | Self::IssuerOfAnotherAlgorithm => "bad-chain",
            Self::NoDigitalSignature | Self::Authority | Self::KeyCertSign => "signer-usage",
            Self::NoAuthority | Self::NoKeyCertSign | Self::AuthorityThatSigns => "ca-usage",
            Self::NoAuthorityKeyIdentifier => "no-authority-key-identifier",
            Self::UnknownIssuer => "issuer-missing",
            Self::IssuerDiffers => "issuer-differs",
            Self::IssuerNotBuiltin => "issuer-not-built-in",
            Self::RsaSize(_) => "issuer-key",
            Self::SeveralIssuers => "issuer-ambiguous",
            Self::NotVerifiableHere => "not-verifiable",
        }
    }

    /// Whether it is a fault of the issuer, so that another issuer would fix it.
    pub fn is_about_issuer(&self) -> bool {
        matches!(
            self,
            Self::UnknownIssuer
                | Self::IssuerDiffers
                | Self::IssuerNotBuiltin
                | Self::IssuerOfAnotherAlgorithm
                | Self::RsaSize(_)
                | Self::BadSignature
                | Self::SeveralIssuers
                | Self::NotVerifiableHere
        )
    }

    /// The errors that `add_key` returns. For an invalid signature, the error depends on its bytes.
    pub fn errors(&self) -> &'static [i32] {
        use libc::{EBADMSG, EINVAL, EKEYREJECTED, EMSGSIZE, ENOENT, ENOKEY, ENOPKG};
        match self {
            Self::Malformed(Error { kind: ErrorKind::X509(x509::Fault::Algorithms), .. }) => {
                &[EINVAL]
            }
            Self::Pem
            | Self::Malformed(_)
            | Self::Usage(_)
            | Self::AuthorityNames
            | Self::UnnamedCurve => &[EBADMSG],
            Self::TooLarge => &[EMSGSIZE],
            Self::UnknownKeyAlgorithm
            | Self::NewerKeyAlgorithm(_)
            | Self::UnknownSignatureAlgorithm
            | Self::NewerSignatureAlgorithm(_)
            | Self::MissingHash(_) => &[ENOPKG],
            Self::Blacklisted | Self::SelfContradicting | Self::IssuerOfAnotherAlgorithm => {
                &[EKEYREJECTED]
            }
            Self::RsaSize(_) => &[EINVAL],
            Self::BadSelfSignature | Self::BadSignature => &[EKEYREJECTED, EBADMSG, EINVAL],
            Self::NoKeyring(_)
            | Self::NoDigitalSignature
            | Self::Authority
            | Self::KeyCertSign
            | Self::NoAuthority
            | Self::NoKeyCertSign
            | Self::AuthorityThatSigns
            | Self::NoAuthorityKeyIdentifier
            | Self::UnknownIssuer
            | Self::IssuerDiffers
            | Self::IssuerNotBuiltin => &[ENOKEY],
            Self::SeveralIssuers | Self::TooShortToBuildIn | Self::NotVerifiableHere => {
                &[ENOKEY, EKEYREJECTED, EBADMSG, EINVAL, ENOPKG, ENOENT]
            }
        }
    }

    /// How to fix it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoKeyring(_) => "see docs/boot.md for the options that the kernel needs",
            Self::Pem => "convert it: openssl x509 -in FILE -outform DER -out FILE.der",
            Self::TooLarge | Self::Malformed(_) => {
                "issue it again; imactl keys create and keys certify make suitable certificates"
            }
            Self::TooShortToBuildIn => "use a key with a longer certificate, such as RSA or P-384",
            Self::Usage(x509::Fault::BasicConstraints) => {
                "issue it again with basicConstraints=critical,CA:FALSE as an empty sequence (DER)"
            }
            Self::Usage(_) | Self::NoDigitalSignature | Self::KeyCertSign => {
                "issue it again with keyUsage=critical,digitalSignature"
            }
            Self::Authority => "issue it again with basicConstraints=critical,CA:FALSE",
            Self::UnknownKeyAlgorithm | Self::UnnamedCurve => "use RSA-2048 or more, or P-256",
            Self::NewerKeyAlgorithm(_) => "use RSA or P-256 for older kernels",
            Self::UnknownSignatureAlgorithm | Self::MissingHash(_) => {
                "have it signed over sha256, sha384 or sha512, by PKCS#1 v1.5 if the CA has RSA"
            }
            Self::NewerSignatureAlgorithm(_) => "have it signed by an RSA key for older kernels",
            Self::Blacklisted => "issue a certificate for another key",
            Self::BadSelfSignature => {
                "give it a subject other than the issuer's, and authorityKeyIdentifier=keyid"
            }
            Self::SelfContradicting | Self::AuthorityNames => {
                "issue it again with authorityKeyIdentifier=keyid"
            }
            Self::NoAuthority | Self::NoKeyCertSign | Self::AuthorityThatSigns => {
                "issue it again with basicConstraints=critical,CA:TRUE and \
                 keyUsage=critical,keyCertSign,cRLSign"
            }
            Self::NoAuthorityKeyIdentifier => {
                "issue it again with authorityKeyIdentifier=keyid, or use Linux 5.17 or newer"
            }
            Self::UnknownIssuer => "have it signed by a key that the kernel trusts",
            Self::IssuerDiffers => {
                "issue it again with authorityKeyIdentifier=keyid, without serial and issuer"
            }
            Self::IssuerNotBuiltin => "have it signed by a key that is compiled into the kernel",
            Self::IssuerOfAnotherAlgorithm | Self::BadSignature => {
                "have it signed by the key that it names as its issuer"
            }
            Self::RsaSize(_) => "use an RSA key of 2048, 3072 or 4096 bits for the CA",
            Self::SeveralIssuers => "give each CA a subject key identifier of its own",
            Self::NotVerifiableHere => "let the kernel decide: imactl keys load",
        }
    }
}
