//! Login: the source of the PIN. A wrong PIN is tried only once.

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

/// A request for a PIN.
#[derive(Debug, Clone, Copy)]
pub struct PinRequest<'a> {
    /// The token's name.
    pub token: &'a str,
    /// The tries that are left.
    pub tries: Tries,
    /// The place where the PIN is typed.
    pub entry: PinEntry,
}

/// The tries that are left on a token, as far as it reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// The token reports no failed tries.
    Unknown,
    /// There were wrong PINs since the last login (`CKF_USER_PIN_COUNT_LOW`).
    Few,
    /// The next wrong PIN locks the token (`CKF_USER_PIN_FINAL_TRY`).
    Last,
}

/// The place where a PIN is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinEntry {
    /// Here.
    Here,
    /// On the device (`CKF_PROTECTED_AUTHENTICATION_PATH`). The answer `None` means that it is typed there; a PIN
    /// that is given anyway is passed on.
    Device,
}

/// A PIN.
#[derive(Debug)]
pub enum Pin {
    /// Just typed by a person.
    Typed(Passphrase),
    /// From a file, a variable or another program.
    Stored(Passphrase),
}

/// Provides the PIN. It is called at most once; `None` means that there is no PIN.
pub type AskPin<'a> = dyn FnMut(&PinRequest<'_>) -> io::Result<Option<Pin>> + 'a;

/// Logs in if the token requires it; returns the PIN.
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

/// The PIN in a `pin-source`: the first line of the file.
fn read(path: &[u8]) -> io::Result<Passphrase> {
    let path = Path::new(OsStr::from_bytes(path));
    let content = input::read_path(path, KEY_MAX)
        .map(Zeroizing::new)
        .map_err(|error| io::Error::new(error.source.kind(), format!("pin-source {error}")))?;
    Ok(Passphrase::first_line(&content))
}
