//! The keys that evmctl's options name.

use std::path::Path;

use ima::key::certificate::Certificate;
use ima::key::passphrase::Passphrase;
use ima::key::private::PrivateKey;
use ima::key::{PublicKey, Signer};
use ima::verify::Keyring;
use ima::KeyId;
use ima_format::pkcs11::is_uri;

use super::options::Options;
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

/// A key in a token: PKCS#11 is spoken without OpenSSL's engines and providers.
fn token_signer(options: &Options, path: &Path) -> Result<Box<dyn Signer>> {
    let uri = token::uri(path).ok_or_else(|| Error::new("not a PKCS#11 URI"))??;
    let mut token = token::find(&uri)?;
    token.log_in(&uri, &mut |request| PassphraseArgs::default().ask_pin(request))?;
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

/// The passphrase: of the command line, of the environment, or asked for.
fn passphrase_of(options: &Options, key: &Path) -> std::io::Result<Option<Passphrase>> {
    use std::os::unix::ffi::OsStrExt;
    if let Some(password) = options.value("pass") {
        return Ok(Some(Passphrase::new(password.as_bytes().to_vec())));
    }
    match std::env::var_os(PASSWORD) {
        Some(password) => Ok(Some(Passphrase::new(password.as_bytes().to_vec()))),
        None => PassphraseArgs::default().ask(key),
    }
}

/// The keys that verify: a comma list of certificates and public keys, of which one at least must be
/// readable. Each is found by the key ID of its certificate, and by that of the key itself.
pub(super) fn keyring(options: &Options) -> Result<Keyring> {
    let list = options.path("key").unwrap_or_else(|| CERTIFICATE.into());
    let list = list.to_str().ok_or_else(|| Error::new("--key: not text"))?;
    let mut keyring = Keyring::default();
    for path in list.split(',').filter(|path| !path.is_empty()).map(Path::new) {
        match PublicKey::read(path) {
            Ok(key) => keyring.add(key.default_key_id().map_err(openssl)?, key),
            Err(error) => {
                eprintln!("{}: {}", path.display(), Error::from(error));
                continue;
            }
        }
        for certificate in Certificate::read_all(path).unwrap_or_default() {
            keyring.add(certificate.key_id(), certificate.public_key().clone());
        }
    }
    match keyring.is_empty() {
        false => Ok(keyring),
        true => Err(hinted(
            format!("no public key could be read from {list}"),
            "give --key CERTIFICATE[,CERTIFICATE...]",
        )),
    }
}
