//! Which certificates the kernel's keyrings accept.
//!
//! Mirrors `x509_key_preparse()` and `restrict_link_by_*()` of `crypto/asymmetric_keys`,
//! `certs/system_keyring.c`, `security/integrity/digsig.c` and `ima/ima_mok.c`, as they are in
//! Linux 5.10, 6.1, 6.12, 7.2 and 7.3. Every keyring wants a certificate that the kernel can read:
//! DER, known algorithms, not blacklisted, a good signature where it is self-signed. Then:
//!
//! | keyring | how keys get in | rule |
//! |---|---|---|
//! | `.builtin_trusted_keys` | compiled in, or in the reserved area | none; each begins with the octets 30 82 |
//! | `.secondary_trusted_keys` | `add_key` | signed by a key in it, in the built-in or in the machine keyring |
//! | `.machine` | firmware, at boot | with CONFIG_INTEGRITY_CA_MACHINE_KEYRING CA:TRUE and keyCertSign |
//! | `.platform` | firmware, at boot | none |
//! | `.ima`, `.evm` | the kernel at boot, `add_key` | signed by a trusted key; since 6.6 digitalSignature, and neither CA:TRUE nor keyCertSign |
//! | `.ima_blacklist` | `add_key` | signed by a built-in key |
//!
//! A trusted key need not be a CA's. Extended key usage, validity, path lengths and the version of
//! the certificate are not looked at. With CONFIG_IMA_APPRAISE_MODSIG the kernel puts the
//! certificate of CONFIG_MODULE_SIG_KEY into `.ima` itself, whatever it says.
//!
//! The issuer's key is looked up by the authority key identifier: serial number and issuer first,
//! else the key identifier, exactly; if both are given both must be its. Without either it is looked
//! up by the issuer's name (since 5.17). Only the first key found is tried.

mod key;
mod keyring;
mod keyrings;
mod refusal;
mod rules;
mod signature;
mod versions;

pub use keyring::Keyring;
pub use keyrings::Keyrings;
pub use refusal::Refusal;
pub use rules::{ImaIssuers, MachineRule, Rules, Secondary};
pub use versions::{refused, refused_for_itself, Refused};

#[cfg(test)]
mod tests;
