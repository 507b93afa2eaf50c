//! Keys that stay in hardware: smart cards, USB tokens and HSMs, through PKCS#11.
//!
//! A [`Uri`] (RFC 7512) names the module, the token and the key. One login is used for the whole run; each thread
//! signs in its own session if the token allows it.
//!
//! | module | purpose |
//! |---|---|
//! | `module` | calls the PKCS#11 module; the only `unsafe` here |
//! | `login` | the PIN: its source, and the single try |
//! | `object` | keys and certificates on a token |
//! | `signer` | signatures |

mod error;
mod login;
mod module;
mod object;
mod signer;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cryptoki_sys::*;
use ima_format::pkcs11::{Uri, Version};

pub use error::TokenError;
pub use login::{AskPin, Pin, PinEntry, PinRequest, Tries};
use module::{text, Module};
pub use module::{LoadFailure, Refusal};
pub use object::{TokenCertificate, TokenKey};
pub use signer::TokenSigner;

use super::passphrase::Passphrase;

/// The module that reaches all tokens of the system (p11-kit).
const PROXY_MODULE: &str = "p11-kit-proxy.so";
/// The usual directories of modules, besides those of the dynamic linker.
const MODULE_DIRECTORIES: [&str; 4] =
    ["/usr/lib/pkcs11", "/usr/lib64/pkcs11", "/usr/local/lib/pkcs11", "/usr/local/lib"];

/// A token that was found.
pub struct Token {
    module: Arc<Module>,
    slot: CK_SLOT_ID,
    info: TokenInfo,
    /// The session of the login: the login ends with the token's last session.
    session: module::Session,
    /// Kept for keys that require it for each signature.
    pin: Option<Passphrase>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The description of a token.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields of CK_TOKEN_INFO
pub struct TokenInfo {
    pub label: String,
    pub manufacturer: String,
    pub model: String,
    pub serial: String,
    flags: CK_FLAGS,
}

impl TokenInfo {
    fn has(&self, flag: CK_FLAGS) -> bool {
        self.flags & flag != 0
    }

    fn uri(&self) -> Uri {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Uri { token: given(&self.label), serial: given(&self.serial), ..Uri::default() }
    }
}

/// The token's label, or its model if the label is empty.
impl std::fmt::Display for TokenInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.label.is_empty() {
            true => write!(f, "token without label ({}, serial {})", self.model, self.serial),
            false => write!(f, "token {:?}", self.label),
        }
    }
}

impl Token {
    /// Finds the token of a URI.
    ///
    /// `module` is used if the URI names none; without either, the module is p11-kit's proxy.
    ///
    /// # Errors
    /// There is no module, no such token, or more than one.
    pub fn find(uri: &Uri, module: Option<&Path>) -> Result<Self, TokenError> {
        let module = load(uri, module)?;
        let (slot, info) = find(&module, uri)?;
        let session = module.open_session(slot).map_err(|source| error::refused(&info, source))?;
        Ok(Self { module, slot, info, session, pin: None })
    }

    /// Logs in if the token requires it, which makes private keys visible. The PIN is that of the URI's
    /// `pin-source`, otherwise `ask` provides it.
    ///
    /// # Errors
    /// The PIN is missing or wrong. A wrong PIN is not tried again.
    pub fn log_in(&mut self, uri: &Uri, ask: &mut AskPin<'_>) -> Result<(), TokenError> {
        self.pin = login::login(self, uri, ask)?;
        Ok(())
    }

    /// Its description.
    pub fn info(&self) -> &TokenInfo {
        &self.info
    }

    fn refused(&self, source: Refusal) -> TokenError {
        error::refused(&self.info, source)
    }
}

/// Loads the module of the URI, or the default one.
fn load(uri: &Uri, default: Option<&Path>) -> Result<Arc<Module>, TokenError> {
    let by_default = uri.module_path.is_none() && uri.module_name.is_none() && default.is_none();
    let (path, others) = module_files(uri, default);
    match Module::load(&path) {
        Ok(module) => Ok(module),
        Err(source) if by_default => Err(TokenError::NoModule { source }),
        Err(source @ LoadFailure::Library(_)) => others
            .iter()
            .find_map(|other| Module::load(other).ok())
            .ok_or(TokenError::Module { path, source }),
        // the module exists, but is broken: no other module is tried in its place
        Err(source) => Err(TokenError::Module { path, source }),
    }
}

/// The paths of the module: the first one, and the others.
fn module_files(uri: &Uri, default: Option<&Path>) -> (PathBuf, Vec<PathBuf>) {
    let named = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    match (&uri.module_path, &uri.module_name) {
        (Some(path), Some(name)) if named(path).is_dir() => {
            let [first, second] = file_names(name).map(|file| named(path).join(file));
            (first, vec![second])
        }
        (Some(path), _) => (named(path), Vec::new()),
        (None, Some(name)) => {
            let [first, second] = file_names(name);
            let in_directories = MODULE_DIRECTORIES.iter().flat_map(|directory| {
                [&first, &second].map(|file| Path::new(directory).join(file))
            });
            let others = in_directories.chain([second.clone()]).collect();
            (first, others)
        }
        (None, None) => (default.map_or_else(|| PROXY_MODULE.into(), Path::to_owned), Vec::new()),
    }
}

/// The possible names of a module's file.
fn file_names(name: &[u8]) -> [PathBuf; 2] {
    ["lib", ""].map(|prefix| {
        let mut file = OsStr::new(prefix).to_owned();
        file.push(OsStr::from_bytes(name));
        file.push(".so");
        file.into()
    })
}

/// The one token that matches the URI.
fn find(module: &Arc<Module>, uri: &Uri) -> Result<(CK_SLOT_ID, TokenInfo), TokenError> {
    let failed = |source| TokenError::List { source };
    let (mut matching, mut others) = (Vec::new(), Vec::new());
    if !names_library(uri, &module.info().map_err(failed)?) {
        return Err(TokenError::NoToken { present: Vec::new() });
    }
    for slot in module.slots().map_err(failed)? {
        let info = match module.token_info(slot) {
            Ok(info) if info.flags & CKF_TOKEN_INITIALIZED != 0 => info,
            Ok(_) => continue,
            // unplugged in the meantime, or a token that the module does not support
            Err(Refusal { code: CKR_TOKEN_NOT_PRESENT | CKR_TOKEN_NOT_RECOGNIZED, .. }) => continue,
            Err(source) => return Err(failed(source)),
        };
        let info = TokenInfo {
            label: text(&info.label),
            manufacturer: text(&info.manufacturerID),
            model: text(&info.model),
            serial: text(&info.serialNumber),
            flags: info.flags,
        };
        let slot_info = module.slot_info(slot).map_err(failed)?;
        match names_token(uri, slot, &slot_info, &info) {
            true => matching.push((slot, info)),
            false => others.push(info),
        }
    }
    let uris = |infos: &mut dyn Iterator<Item = &TokenInfo>| {
        infos.map(|info| info.uri().to_string()).collect::<Vec<_>>()
    };
    match matching.len() {
        0 => Err(TokenError::NoToken { present: uris(&mut others.iter()) }),
        1 => Ok(matching.remove(0)),
        _ => Err(TokenError::SeveralTokens {
            matching: uris(&mut matching.iter().map(|(_, info)| info)),
        }),
    }
}

/// Whether a value is that of the URI, if the URI has one.
fn agrees<T: PartialEq + ?Sized>(wanted: Option<&T>, value: &T) -> bool {
    wanted.map_or(true, |wanted| wanted == value)
}

fn names_library(uri: &Uri, info: &CK_INFO) -> bool {
    let CK_VERSION { major, minor } = info.libraryVersion;
    agrees(uri.library_manufacturer.as_deref(), &text(&info.manufacturerID))
        && agrees(uri.library_description.as_deref(), &text(&info.libraryDescription))
        && agrees(uri.library_version.as_ref(), &Version { major, minor })
}

fn names_token(uri: &Uri, slot: CK_SLOT_ID, slot_info: &CK_SLOT_INFO, info: &TokenInfo) -> bool {
    // the number of a slot has the size of a C long, which has 32 bits on some machines
    #[allow(clippy::useless_conversion)]
    let slot = u64::from(slot);
    agrees(uri.slot_id.as_ref(), &slot)
        && agrees(uri.slot_description.as_deref(), &text(&slot_info.slotDescription))
        && agrees(uri.slot_manufacturer.as_deref(), &text(&slot_info.manufacturerID))
        && agrees(uri.token.as_deref(), &info.label)
        && agrees(uri.manufacturer.as_deref(), &info.manufacturer)
        && agrees(uri.serial.as_deref(), &info.serial)
        && agrees(uri.model.as_deref(), &info.model)
}
