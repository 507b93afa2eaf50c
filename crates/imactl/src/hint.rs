//! What to do about an error: one line beside it.

use std::fmt;
use std::io;

use ima::container::image::ImageError;
use ima::container::tar::TarError;
use ima::key::private::PrivateKeyError;
use ima::key::store::StoreError;
use ima::key::token::TokenError;
use ima::key::SignError;
use ima::system::LoadError;
use ima_format::ErrorKind;

/// An error of the command line's own, with its hint.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: &'static str,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// An error that says what to do.
pub(crate) fn hinted(message: impl Into<String>, hint: &'static str) -> anyhow::Error {
    Hinted { message: message.into(), hint }.into()
}

/// An error with its causes. Many tell their cause themselves: then it is not said again.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

/// The hint that goes with an error, where there is one.
pub(crate) fn of(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            return Some(hinted.hint);
        }
        if let Some(error) = cause.downcast_ref::<LoadError>() {
            return error.hint();
        }
        if let Some(error) = cause.downcast_ref::<TokenError>() {
            return error.hint();
        }
        if let Some(error) = cause.downcast_ref::<SignError>() {
            return error.hint();
        }
        if let Some(ErrorKind::Pkcs11(fault)) =
            cause.downcast_ref::<ima_format::Error>().map(|error| &error.kind)
        {
            return Some(fault.hint());
        }
        if let Some(error) = cause.downcast_ref::<ImageError>() {
            return error.hint();
        }
        if let Some(error) = cause.downcast_ref::<TarError>() {
            return error.hint();
        }
        let key = cause.downcast_ref::<PrivateKeyError>();
        if let Some(StoreError::PrivateKey(error)) = cause.downcast_ref::<StoreError>() {
            return of_key(error);
        }
        if let Some(StoreError::Read { source, .. }) = cause.downcast_ref::<StoreError>() {
            return match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("key stores are open to their owner alone: run as the owner")
                }
                io::ErrorKind::NotFound => Some("make one with: imactl keys create DIR"),
                _ => None,
            };
        }
        if let Some(StoreError::NotAStore { .. }) = cause.downcast_ref::<StoreError>() {
            return Some("make one with: imactl keys create DIR");
        }
        key.and_then(of_key)
    })
}

fn of_key(error: &PrivateKeyError) -> Option<&'static str> {
    Some(match error {
        PrivateKeyError::PassphraseNeeded { .. } => {
            "give it with --passphrase-file, --passphrase-env or --passphrase-fd"
        }
        PrivateKeyError::NotAKey { .. } => {
            "PEM (PKCS#8, traditional RSA or EC) and DER are read; is it a certificate?"
        }
        PrivateKeyError::Unsuitable { .. } => "use an RSA key, or ECDSA on P-256 or P-384",
        _ => return None,
    })
}
