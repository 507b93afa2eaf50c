//! `evmctl import`: adds a certificate to a keyring of the kernel.

use std::ffi::OsString;
use std::path::Path;

use ima::key::certificate::Certificate;
use ima::system::add_certificate;

use super::options::Options;
use crate::error::{Error, Result};
use crate::Outcome;

/// Adds a certificate to a keyring, and prints the key's serial number.
pub(super) fn import(options: &Options) -> Result<Outcome> {
    let path = options.operands.get(1).map_or(Path::new("/etc/keys/x509_evm.der"), Path::new);
    let keyring = keyring(options.operands.get(2))?;
    let certificate = Certificate::read_all(path)?.into_iter().next();
    let none = || Error::new(format!("{}: no certificate", path.display()));
    let serial = add_certificate(keyring, &certificate.ok_or_else(none)?)?;
    println!("{serial}");
    Ok(Outcome::Good)
}

/// The serial number of a keyring: decimal, hexadecimal after `0x`, or a special one as keyctl names it (`@u`).
pub(super) fn keyring(operand: Option<&OsString>) -> Result<i32> {
    let Some(operand) = operand else { return keyring(Some(&"@u".into())) };
    let text = operand.to_str().unwrap_or_default();
    let number = match (text, text.strip_prefix("0x")) {
        ("@t", _) => Some(-1),
        ("@p", _) => Some(-2),
        ("@s", _) => Some(-3),
        ("@u", _) => Some(-4),
        ("@us", _) => Some(-5),
        ("@g", _) => Some(-6),
        (_, Some(digits)) => i32::from_str_radix(digits, 16).ok(),
        (number, None) => number.parse().ok(),
    };
    number.ok_or_else(|| Error::new(format!("{}: not a keyring", operand.to_string_lossy())))
}
