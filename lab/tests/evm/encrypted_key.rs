//! Encrypted keys in the kernel's format (`security/keys/encrypted-keys/encrypted.c`): `FORMAT MASTER
//! LENGTH` and, in hexadecimal digits, the initialization vector, a zero byte, the key (AES-256-CBC), and
//! an HMAC-SHA-256 of all of that with zero bytes in place of the spaces.

use anyhow::Result;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;
use openssl::symm::{Cipher, Crypter, Mode};

/// A key, encrypted with a user key with this description and content.
pub(crate) fn encrypted(key: &[u8], master: (&str, &[u8])) -> Result<String> {
    let (description, master) = master;
    let initialization = [0x5a; 16];
    let cipher = Cipher::aes_256_cbc();
    let derived = derived_key("ENC_KEY", master);
    let mut crypter = Crypter::new(cipher, Mode::Encrypt, &derived, Some(&initialization))?;
    crypter.pad(false);
    let mut content = vec![0; key.len() + 16];
    let length = crypter.update(key, &mut content)?;
    content.truncate(length);

    let size = key.len().to_string();
    let binary = [&initialization[..], &[0], &content].concat();
    let head = format!("default\0{description}\0{size}\0");
    let authentication = PKey::hmac(&derived_key("AUTH_KEY", master))?;
    let mut signer = Signer::new(MessageDigest::sha256(), &authentication)?;
    let hmac = signer.sign_oneshot_to_vec(&[head.as_bytes(), &binary].concat())?;
    let digits: String = binary.iter().chain(&hmac).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("default {description} {size} {digits}\n"))
}

/// `get_derived_key()`: SHA-256 of the purpose, a zero byte and the master key, padded with zeros to the
/// length for `AUTH_KEY`, at least 32 bytes.
fn derived_key(purpose: &str, master: &[u8]) -> [u8; 32] {
    let mut buffer = [purpose.as_bytes(), &[0], master].concat();
    buffer.resize(("AUTH_KEY".len() + 1 + master.len()).max(32), 0);
    sha256(&buffer)
}
