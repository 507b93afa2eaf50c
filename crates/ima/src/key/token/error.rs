//! Errors of tokens.

use std::io;
use std::path::PathBuf;

use openssl::error::ErrorStack;

use super::{LoadFailure, Refusal, TokenInfo};
use crate::advice::Advice;
use crate::key::KeyType;

/// Why a token, or a key on it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // `token` names the token, `key` the key, by its URI
pub enum TokenError {
    /// No module was given, and the default one was not found.
    #[error("no PKCS#11 module given, and p11-kit was not found: {source}")]
    NoModule {
        /// The dynamic linker's error.
        source: LoadFailure,
    },
    /// The module cannot be used.
    #[error("PKCS#11 module {}: {source}", path.display())]
    Module {
        /// Its file.
        path: PathBuf,
        /// The reason.
        source: LoadFailure,
    },
    /// The module cannot list its tokens.
    #[error("cannot list the tokens: {source}")]
    List {
        /// The module's error.
        source: Refusal,
    },
    /// No token matches the URI.
    #[error("no such token; {}", listed("none found", present))]
    NoToken {
        /// The URIs of the tokens that were found.
        present: Vec<String>,
    },
    /// The URI matches more than one token.
    #[error("{} tokens fit: {}", matching.len(), matching.join(", "))]
    SeveralTokens {
        /// Their URIs.
        matching: Vec<String>,
    },
    /// The token rejected a call, or failed.
    #[error("{token}: {source}")]
    Refused {
        token: String,
        /// The token's error.
        source: Refusal,
    },
    /// The token needs a PIN, and there is none.
    #[error("{token}: needs a PIN, and none was given")]
    PinNeeded { token: String },
    /// The PIN could not be read or asked for.
    #[error("{token}: cannot get the PIN: {source}")]
    Ask {
        token: String,
        /// The system's error.
        source: io::Error,
    },
    /// The PIN is wrong. It was tried once.
    #[error("{token}: the PIN is wrong; it was tried once{left}")]
    WrongPin {
        token: String,
        /// The number of tries that are left, if the token reports it.
        left: &'static str,
    },
    /// One try is left, and the PIN was not typed by a person.
    #[error("{token}: one more wrong PIN locks it, so only a typed PIN is tried")]
    LastTry { token: String },
    /// The PIN is locked.
    #[error("{token}: its PIN is locked")]
    PinLocked { token: String },
    /// The token has no PIN yet.
    #[error("{token}: it has no user PIN yet")]
    PinNotSet { token: String },
    /// The type in the URI cannot sign.
    #[error("an object of type {class} does not sign")]
    NotAPrivateKey {
        /// The URI's type.
        class: &'static str,
    },
    /// No private key matches the URI.
    #[error("{token}: no such private key; {}", listed("none found", present))]
    NoKey {
        token: String,
        /// The URIs of the keys that were found.
        present: Vec<String>,
    },
    /// The URI matches more than one private key.
    #[error("{token}: {} private keys fit: {}", matching.len(), matching.join(", "))]
    SeveralKeys {
        token: String,
        /// Their URIs.
        matching: Vec<String>,
    },
    /// No public key matches the URI.
    #[error(
        "{token}: no such public key or certificate, and the private key alone does not show it"
    )]
    NoPublicKeyObject { token: String },
    /// The URI matches more than one public key.
    #[error("{token}: {count} public keys fit")]
    SeveralPublicKeys {
        token: String,
        /// Their number.
        count: usize,
    },
    /// The key is not for signing.
    #[error("{key}: the token does not let this key sign (CKA_SIGN)")]
    MayNotSign { key: String },
    /// The token has neither the public key nor a certificate of the key.
    #[error("{key}: neither its public key nor a certificate is on the token")]
    NoPublicKey { key: String },
    /// The given certificate is that of another key.
    #[error("{key}: not the certificate's key")]
    Mismatch { key: String },
    /// The certificates on the token give the key different key IDs.
    #[error("{key}: several certificates on the token, with different key ids: {}", ids.join(", "))]
    SeveralCertificates {
        key: String,
        /// The key ids.
        ids: Vec<String>,
    },
    /// The key is neither RSA nor ECDSA on a curve of the kernel.
    #[error("{key}: a {key_type} key cannot sign files for the kernel")]
    Unsuitable {
        key: String,
        /// The type of the key.
        key_type: KeyType,
    },
    /// A key or certificate on the token cannot be parsed.
    #[error("{object}: OpenSSL: {source}")]
    OpenSsl {
        /// The object's URI.
        object: String,
        /// OpenSSL's error.
        source: ErrorStack,
    },
    /// The signature that the token returned is not by this key.
    #[error("{key}: the token did not make a signature by this key; nothing was signed")]
    BadSignature { key: String },
}

fn listed(none: &str, some: &[String]) -> String {
    match some.is_empty() {
        true => none.to_owned(),
        false => format!("there is {}", some.join(", ")),
    }
}

pub(super) fn refused(token: &TokenInfo, source: Refusal) -> TokenError {
    TokenError::Refused { token: token.to_string(), source }
}

impl Advice for TokenError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoModule { .. } => {
                "name the token's module in the URI (?module-path=/usr/lib/.../libsofthsm2.so), \
                 or install p11-kit, which finds the modules of the system"
            }
            Self::Module { .. } => "module-path must name the PKCS#11 module of the token",
            Self::NoToken { .. } => {
                "is it plugged in, and its service running? module-path must be its module"
            }
            Self::SeveralTokens { .. } => "select one: token=, serial=, model= or slot-id=",
            Self::PinNeeded { .. } => {
                "give it with --passphrase-file, --passphrase-env, --passphrase-fd, or \
                 ?pin-source=file:PATH in the URI"
            }
            Self::WrongPin { .. } => "check it carefully: further wrong PINs may lock the token",
            Self::LastTry { .. } => "run it on a terminal without a PIN option, and type the PIN",
            Self::PinLocked { .. } => "the security officer can unlock it (pkcs11-tool --init-pin)",
            Self::PinNotSet { .. } => "the security officer sets it (pkcs11-tool --init-pin)",
            Self::NotAPrivateKey { .. } => "leave type= out, or say type=private",
            Self::NoKey { .. } | Self::SeveralKeys { .. } | Self::SeveralPublicKeys { .. } => {
                "select one: object=LABEL or id=%01%02; imactl keys show URI lists them"
            }
            Self::NoPublicKeyObject { .. } => {
                "some tokens show public keys only after a login: export it (pkcs11-tool --login \
                 --read-object --type pubkey) and give the file"
            }
            Self::NoPublicKey { .. } => {
                "store one of them next to it (with the same CKA_ID), or give the certificate \
                 with --cert"
            }
            Self::Mismatch { .. } => "--cert must certify --key",
            Self::SeveralCertificates { .. } => "select one: --cert FILE, or --keyid",
            Self::Unsuitable { .. } => "use an RSA key, or ECDSA on P-256 or P-384",
            _ => return None,
        })
    }
}
