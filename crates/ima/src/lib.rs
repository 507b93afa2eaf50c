//! Linux file integrity (IMA/EVM): keys, signing, verifying.
//!
//! Input and output and cryptography on top of [`ima_format`]'s bytes. Nothing here prints
//! or exits: each operation returns what it did or an error with its path and cause, and a
//! bad signature is a [`verify::Verdict`], not an error.
//!
//! | module | purpose |
//! |---|---|
//! | [`key`] | signers, certificates, key stores: made, read, checked |
//! | [`digest`] | digests of bytes and files |
//! | [`sign`] | a digest to the bytes of an attribute |
//! | [`evm`] | what `security.evm` covers, and the verdict on it |
//! | [`verify`] | an attribute and a file to a verdict in the kernel's words |
//! | [`modsig`] | signatures appended to content |
//! | [`revoke`] | entries that deny digests and certificates |
//! | [`container`] | where files and their attributes are: trees, packages, archives, images |
//! | [`operation`] | signing, verifying, inspecting and clearing, in any container |
//! | [`advice`] | errors, and advice how to fix them |
//! | [`preflight`] | a root file system and a policy to the kernel's decisions |
//! | [`attest`] | measurement lists: read, replayed against PCRs, explained |
//! | [`selinux`] | the labels that files will have |
//! | [`capabilities`] | the capabilities that files will have |
//! | [`why`] | why this machine refuses a file |
//! | [`staging`] | files that are there whole, or not at all |
//! | [`input`] | files that are read whole, within bounds |
//! | [`initramfs`] | an initramfs with imactl-init |
//! | [`compression`] | unpacking streams, within bounds |
//! | [`system`] | this machine: its policy, keyrings, measurements |
//!
//! Sign a digest, and verify the value of `security.ima` that results:
//!
//! ```
//! use ima::digest::{DigestError, Hasher};
//! use ima::key::create::{create, KeyAlgorithm, Plan};
//! use ima::key::issue::{Profile, Purpose};
//! use ima::key::store::KeyStore;
//! use ima::key::Signer;
//! use ima::sign::Maker;
//! use ima::verify::{Keyring, Requirement, Rule, Verifier};
//! use ima::HashAlgorithm;
//! use ima_format::policy::kernel::KernelVersion;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let store = directory.path().join("keys");
//! let profile = Profile {
//!     hash: HashAlgorithm::Sha256,
//!     days: 1,
//!     organization: "Example".into(),
//!     common_name: "Example".into(),
//!     purpose: Purpose::Sample,
//! };
//! let algorithm = KeyAlgorithm::P256;
//! create(&store, &Plan { algorithm, ima_algorithm: algorithm, profile, passphrase: None })?;
//! let signer = KeyStore::open(&store)?.ima_signer(&mut |_| Ok(None))?;
//!
//! let digest = Hasher::new(HashAlgorithm::Sha256)?.digest(b"content")?;
//! let mut value = Vec::new();
//! Maker::of(&signer).session()?.make(&digest, &mut value)?;
//!
//! // the verdict that Linux 6.12 has on a file with this content and this attribute
//! let keyring = Keyring::of_public_key(signer.key_id(), signer.public_key().clone());
//! let rule = Rule::new(Requirement::Signature, KernelVersion::V6_12);
//! let mut verifier = Verifier::new(keyring);
//! let verdict = verifier.verdict(rule, Some(&value), |_| Ok::<_, DigestError>(digest))?;
//! assert!(verdict.is_valid());
//! assert_eq!(verifier.verdict(rule, None, |_| Ok::<_, DigestError>(digest))?.cause(),
//!     Some("IMA-signature-required"));
//! # Ok(())
//! # }
//! ```
//!
//! File and attribute calls go through libc, so that they work under `pseudo`
//! (OpenEmbedded's fakeroot), which replaces libc's functions.

#![warn(missing_docs)]

pub mod advice;
pub mod attest;
pub mod cache;
pub mod capabilities;
pub mod compression;
pub mod container;
pub mod digest;
pub mod evm;
mod fsuuid;
pub mod initramfs;
pub mod input;
pub mod key;
pub mod modsig;
pub mod operation;
pub mod preflight;
pub mod revoke;
pub mod selinux;
pub mod sign;
pub mod staging;
pub mod system;
pub mod verify;
pub mod why;

pub use ima_format::hash::{Digest, HashAlgorithm};
pub use ima_format::xattr::KeyId;
