//! Logging in: where the PIN comes from, and that a wrong one is tried once.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cryptoki_sys::*;
use ima_format::pkcs11::Uri;
use zeroize::Zeroizing;

use super::module::User;
use super::{Refusal, Token, TokenError};
use crate::input::{self, KEY_MAX};
use crate::key::passphrase::Passphrase;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PinRequest<'a> {
    /// The token's name.
    pub token: &'a str,
    /// How many wrong PINs it still suffers.
    pub tries: Tries,
    /// Where the PIN is typed.
    pub entry: PinEntry,
}

/// How many wrong PINs a token still suffers, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Nothing is known against it.
    Unknown,
    /// There were wrong ones since the last right one (`CKF_USER_PIN_COUNT_LOW`).
    Few,
    /// The next wrong one locks it (`CKF_USER_PIN_FINAL_TRY`).
    Last,
}

/// Where a PIN is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinEntry {
    /// Here.
    Here,
    /// At the device (`CKF_PROTECTED_AUTHENTICATION_PATH`). The answer `None` means that it will
    /// be; a PIN that is given anyway is passed on.
    Device,
}

/// A PIN.
#[derive(Debug)]
pub enum Pin {
    /// From a person, just now.
    Typed(Passphrase),
    /// From a file, a variable or another program.
    Stored(Passphrase),
}

/// Where a PIN comes from: asked at most once; `None` means that there is none.
pub type AskPin<'a> = dyn FnMut(&PinRequest<'_>) -> io::Result<Option<Pin>> + 'a;

/// Logs in, if the token wants it; gives the PIN back.
pub(super) fn login(
    token: &Token,
    uri: &Uri,
    ask: &mut AskPin<'_>,
) -> Result<Option<Passphrase>, TokenError> {
    let info = &token.info;
    let name = || info.to_string();
    if !info.has(CKF_LOGIN_REQUIRED) {
        return Ok(None);
    }
    if info.has(CKF_USER_PIN_LOCKED) {
        return Err(TokenError::PinLocked { token: name() });
    }
    let entry = match info.has(CKF_PROTECTED_AUTHENTICATION_PATH) {
        true => PinEntry::Device,
        false => PinEntry::Here,
    };
    if entry == PinEntry::Here && !info.has(CKF_USER_PIN_INITIALIZED) {
        return Err(TokenError::PinNotSet { token: name() });
    }
    let tries = tries_left(info.flags);
    let pin = match &uri.pin_source {
        Some(path) => Some(Pin::Stored(
            read(path).map_err(|source| TokenError::Ask { token: name(), source })?,
        )),
        None => ask(&PinRequest { token: &name(), tries, entry })
            .map_err(|source| TokenError::Ask { token: name(), source })?,
    };
    let pin = match pin {
        Some(Pin::Stored(_)) if tries == Tries::Last => {
            return Err(TokenError::LastTry { token: name() });
        }
        Some(Pin::Typed(pin) | Pin::Stored(pin)) => Some(pin),
        None => None,
    };
    if entry == PinEntry::Here && pin.as_ref().map_or(true, |pin| pin.as_bytes().is_empty()) {
        return Err(TokenError::PinNeeded { token: name() });
    }
    match token.session.login(User::User, pin.as_ref().map(Passphrase::as_bytes)) {
        Ok(()) | Err(Refusal { code: CKR_USER_ALREADY_LOGGED_IN, .. }) => Ok(pin),
        Err(Refusal { code: CKR_PIN_LOCKED, .. }) => Err(TokenError::PinLocked { token: name() }),
        Err(Refusal { code: CKR_PIN_INCORRECT | CKR_PIN_LEN_RANGE | CKR_PIN_INVALID, .. }) => {
            let flags = token.module.token_info(token.slot).map_or(0, |info| info.flags);
            let left = match tries_left(flags) {
                _ if flags & CKF_USER_PIN_LOCKED != 0 => ", and is locked now",
                Tries::Last => ", and one more wrong PIN locks it",
                Tries::Few | Tries::Unknown => "",
            };
            Err(TokenError::WrongPin { token: name(), left })
        }
        Err(source) => Err(token.refused(source)),
    }
}

fn tries_left(flags: CK_FLAGS) -> Tries {
    if flags & CKF_USER_PIN_FINAL_TRY != 0 {
        Tries::Last
    } else if flags & CKF_USER_PIN_COUNT_LOW != 0 {
        Tries::Few
    } else {
        Tries::Unknown
    }
}

/// The PIN that a `pin-source` holds: the file's first line.
fn read(path: &[u8]) -> io::Result<Passphrase> {
    let path = Path::new(OsStr::from_bytes(path));
    let content = input::read_path(path, KEY_MAX).map(Zeroizing::new).map_err(|error| {
        io::Error::new(error.kind(), format!("pin-source {}: {error}", path.display()))
    })?;
    Ok(Passphrase::first_line(&content))
}
