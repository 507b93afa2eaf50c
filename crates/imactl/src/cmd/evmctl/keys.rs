//! The keys that evmctl's options name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ima::key::certificate::Certificate;
use ima::key::passphrase::Passphrase;
use ima::key::private::PrivateKey;
use ima::key::token::Pin;
use ima::key::{PublicKey, Signer};
use ima::verify::Keyring;
use ima::KeyId;
use ima_format::hex;
use ima_format::pkcs11::{is_uri, Uri};

use super::options::Options;
use super::version_1;
use crate::error::{hinted, Error, Result};
use crate::passphrase::PassphraseArgs;
use crate::token;

/// The variable with the passphrase.
const PASSWORD: &str = "EVMCTL_KEY_PASSWORD";
const PRIVATE_KEY: &str = "/etc/keys/privkey_evm.pem";
const CERTIFICATE: &str = "/etc/keys/x509_evm.der";

/// The key that signs.
pub(super) fn signer(options: &Options) -> Result<Box<dyn Signer>> {
    let path = options.path("key").unwrap_or_else(|| PRIVATE_KEY.into());
    if is_uri(path.as_os_str().as_encoded_bytes()) {
        return token_signer(options, &path);
    }
    let key = PrivateKey::read(&path, &mut |path| passphrase_of(options, path))?;
    let key_id = match (given_key_id(options)?, key.certificate()) {
        (Some(key_id), _) => key_id,
        (None, Some(certificate)) => certificate.key_id(),
        (None, None) => key.public_key().default_key_id().map_err(openssl)?,
    };
    Ok(Box::new(key.into_signer(key_id)?))
}

/// A key in a token. PKCS#11 is called directly, without OpenSSL's engines and providers.
fn token_signer(options: &Options, path: &Path) -> Result<Box<dyn Signer>> {
    let (uri, mut pin) = split_pin(path.as_os_str().as_encoded_bytes());
    let uri = token::uri(Path::new(OsStr::from_bytes(&uri)));
    // type=public names the same key
    let uri = Uri { class: None, ..uri.ok_or_else(|| Error::new("not a PKCS#11 URI"))?? };
    let mut token = token::find(&uri)?;
    token.log_in(&uri, &mut |request| match pin.take() {
        Some(pin) => Ok(Some(Pin::Stored(pin))),
        None => PassphraseArgs::default().ask_pin(request),
    })?;
    let key = token.key(&uri)?;
    let key_id = match (given_key_id(options)?, key.certificate()?) {
        (Some(key_id), _) => key_id,
        (None, Some(certificate)) => certificate.key_id(),
        (None, None) => key.public_key()?.default_key_id().map_err(openssl)?,
    };
    Ok(Box::new(token.into_signer(key, key_id)?))
}

fn openssl(error: impl std::fmt::Display) -> Error {
    Error::new(format!("OpenSSL: {error}"))
}

/// `--keyid`, `--keyid-from-cert`
fn given_key_id(options: &Options) -> Result<Option<KeyId>> {
    if let Some(path) = options.path("keyid-from-cert") {
        let certificate = Certificate::read_all(&path)?.into_iter().next();
        let none = || Error::new(format!("{}: no certificate", path.display()));
        return Ok(Some(certificate.ok_or_else(none)?.key_id()));
    }
    let Some(text) = options.text("keyid")? else { return Ok(None) };
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u32::from_str_radix(digits, 16) {
        Ok(number) if number != 0 => Ok(Some(KeyId(number.to_be_bytes()))),
        _ => Err(Error::new(format!("--keyid {text}: not 32 bits in hexadecimal, or zero"))),
    }
}

/// The passphrase: from the command line, the environment, or a prompt.
fn passphrase_of(options: &Options, key: &Path) -> std::io::Result<Option<Passphrase>> {
    if let Some(password) = options.value("pass") {
        return Ok(Some(Passphrase::new(password.as_bytes().to_vec())));
    }
    match std::env::var_os(PASSWORD) {
        Some(password) => Ok(Some(Passphrase::new(password.as_bytes().to_vec()))),
        None => PassphraseArgs::default().ask(key),
    }
}

/// The keys that verify, each under the key ID of its certificate and that of the bare key.
pub(super) fn keyring(keys: &[(PathBuf, PublicKey)]) -> Result<Keyring> {
    let mut keyring = Keyring::default();
    for (path, key) in keys {
        keyring.add(key.default_key_id().map_err(openssl)?, key.clone());
        for certificate in Certificate::read_all(path).unwrap_or_default() {
            keyring.add(certificate.key_id(), certificate.public_key().clone());
        }
    }
    Ok(keyring)
}

/// The certificates and public keys of a comma-separated list; at least one must be readable.
pub(super) fn given(options: &Options) -> Result<Vec<(PathBuf, PublicKey)>> {
    let default = if options.has("rsa") { version_1::PUBLIC_KEY } else { CERTIFICATE };
    let list = options.path("key").unwrap_or_else(|| default.into());
    let list = list.to_str().ok_or_else(|| Error::new("--key: not text"))?;
    let mut keys = Vec::new();
    for path in list.split(',').filter(|path| !path.is_empty()).map(PathBuf::from) {
        match PublicKey::read(&path) {
            Ok(key) => keys.push((path, key)),
            Err(error) => eprintln!("{}: {}", path.display(), Error::from(error)),
        }
    }
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(hinted(
            format!("no public key could be read from {list}"),
            "give --key CERTIFICATE[,CERTIFICATE...]",
        )),
    }
}

/// Removes the PIN from a URI, where OpenSSL's engine expects it. imactl itself refuses a PIN there:
/// every user of the machine can read the command line.
fn split_pin(uri: &[u8]) -> (Vec<u8>, Option<Passphrase>) {
    let Some(at) = uri.iter().position(|byte| *byte == b'?') else { return (uri.to_vec(), None) };
    let (path, query) = uri.split_at(at);
    let is_pin = |attribute: &&[u8]| attribute.starts_with(b"pin-value=");
    let (pins, rest): (Vec<_>, Vec<_>) = query[1..].split(|byte| *byte == b'&').partition(is_pin);
    let pin = pins.first().map(|pin| Passphrase::new(unescaped(&pin[b"pin-value=".len()..])));
    let rest = rest.join(&b'&');
    match rest.is_empty() {
        true => (path.to_vec(), pin),
        false => ([path, b"?", &rest].concat(), pin),
    }
}

/// Replaces `%` and two hexadecimal digits with their byte.
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        let escaped = rest.get(..2).filter(|_| *first == b'%').and_then(|it| hex::decode(it).ok());
        bytes.push(escaped.as_ref().map_or(*first, |byte| byte[0]));
        text = if escaped.is_some() { &rest[2..] } else { rest };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_taken_out_of_its_uri() {
        for (uri, rest, pin) in [
            ("pkcs11:token=a?pin-value=12%4034", "pkcs11:token=a", Some("12@34")),
            ("pkcs11:token=a?x=1&pin-value=12%4&y=2", "pkcs11:token=a?x=1&y=2", Some("12%4")),
            ("pkcs11:token=a?x=1", "pkcs11:token=a?x=1", None),
            ("pkcs11:token=a", "pkcs11:token=a", None),
        ] {
            let (left, found) = split_pin(uri.as_bytes());
            assert_eq!(left, rest.as_bytes());
            assert_eq!(found.as_ref().map(Passphrase::as_bytes), pin.map(str::as_bytes), "{uri}");
        }
    }
}
