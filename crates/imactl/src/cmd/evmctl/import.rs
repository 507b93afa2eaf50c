//! `evmctl import`: hands a certificate to the kernel.

use std::path::Path;

use ima::key::certificate::Certificate;
use ima::system::add_certificate;

use super::options::Options;
use crate::error::{Error, Result};
use crate::Outcome;

/// Adds a certificate to a keyring, and prints the key's serial number.
pub(super) fn import(options: &Options) -> Result<Outcome> {
    let mut operands = options.operands.iter().skip(1);
    let path = operands.next().map_or(Path::new("/etc/keys/x509_evm.der"), Path::new);
    let keyring = match operands.next().and_then(|keyring| keyring.to_str()) {
        Some("@t") => -1,
        Some("@p") => -2,
        Some("@s") => -3,
        None | Some("@u") => -4,
        Some("@us") => -5,
        Some("@g") => -6,
        Some(number) => {
            let parsed = match number.strip_prefix("0x") {
                Some(digits) => i32::from_str_radix(digits, 16).ok(),
                None => number.parse().ok(),
            };
            parsed.ok_or_else(|| Error::new(format!("{number}: not a keyring")))?
        }
    };
    let certificate = Certificate::read_all(path)?.into_iter().next();
    let none = || Error::new(format!("{}: no certificate", path.display()));
    let serial = add_certificate(keyring, &certificate.ok_or_else(none)?)?;
    println!("{serial}");
    Ok(Outcome::Good)
}
