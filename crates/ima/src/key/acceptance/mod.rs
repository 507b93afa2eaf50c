//! Which certificates the kernel's keyrings accept.
//!
//! Mirrors `x509_key_preparse()` and `restrict_link_by_*()` of `crypto/asymmetric_keys`,
//! `certs/system_keyring.c`, `security/integrity/digsig.c` and `ima/ima_mok.c`, as they are in Linux 5.10, 6.1,
//! 6.12, 7.2 and 7.3. Every keyring requires a certificate that the kernel can read: DER, known algorithms, not
//! blacklisted, and a valid signature if it is self-signed. Then:
//!
//! | keyring | how keys get in | rule |
//! |---|---|---|
//! | `.builtin_trusted_keys` | compiled in, or in the reserved area | none; each must begin with the octets 30 82 |
//! | `.secondary_trusted_keys` | `add_key` | signed by a key in it, in the built-in or in the machine keyring |
//! | `.machine` | firmware, at boot | CA:TRUE and keyCertSign, with CONFIG_INTEGRITY_CA_MACHINE_KEYRING |
//! | `.platform` | firmware, at boot | none |
//! | `.ima`, `.evm` | the kernel at boot, `add_key` | signed by a trusted key; since 6.6 with digitalSignature, and without CA:TRUE and keyCertSign |
//! | `.ima_blacklist` | `add_key` | signed by a built-in key |
//!
//! A trusted key need not be that of a CA. Extended key usage, validity, path lengths and the version of the
//! certificate are ignored. With CONFIG_IMA_APPRAISE_MODSIG, the kernel adds the certificate of
//! CONFIG_MODULE_SIG_KEY to `.ima` without a check.
//!
//! The issuer's key is found by the authority key identifier: by serial number and issuer first, otherwise by the
//! key identifier, which must be equal; if both are given, both must match. Without an authority key identifier
//! it is found by the issuer's name (since 5.17). Only the first key that is found is tried.

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
