//! Keys in tokens, as the command line names them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ima::key::token::Token;
use ima_format::pkcs11::{is_uri, Uri};

use crate::error::{Context, Result};
use crate::passphrase::PassphraseArgs;

/// Names the PKCS#11 module for URIs without one; OpenSSL's engine reads it, too.
const MODULE_VARIABLE: &str = "PKCS11_MODULE_PATH";

/// The URI, if the text is one and not a file name. A file of such a name is `./pkcs11:...`.
pub(crate) fn uri(text: &Path) -> Option<Result<Uri>> {
    let text = Some(text.as_os_str().as_bytes()).filter(|text| is_uri(text))?;
    // do not print the URI: the faulty part may be a PIN
    Some(Uri::parse(text).context("the key's URI"))
}

/// Finds the token.
pub(crate) fn find(uri: &Uri) -> Result<Token> {
    let module = std::env::var_os(MODULE_VARIABLE).filter(|path| path != OsStr::new(""));
    Ok(Token::find(uri, module.map(PathBuf::from).as_deref())?)
}

/// Finds the token and logs in. The PIN is from the options, else from the URI's pin-source, else from the
/// terminal.
pub(crate) fn open(uri: &Uri, passphrase: &PassphraseArgs) -> Result<Token> {
    let mut token = find(uri)?;
    let mut uri = uri.clone();
    if passphrase.is_given() {
        uri.pin_source = None;
    }
    token.log_in(&uri, &mut |request| passphrase.ask_pin(request))?;
    Ok(token)
}
