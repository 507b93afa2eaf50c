//! The byte formats of Linux file integrity (IMA and EVM): bytes to types and back.
//!
//! No I/O, no cryptography, no `unsafe`; `no_std` with `alloc`. Every parser takes bytes
//! that nobody vouches for: it returns an [`Error`] with the offset of what is wrong, does
//! not panic, and reserves no more memory than its input justifies.
//!
//! | module | reads and writes | mirrors |
//! |---|---|---|
//! | [`loader_cache`] | where glibc finds libraries | `elf/dl-cache.c` of glibc |
//! | [`elf`] | the files that programs need before they run | `include/uapi/linux/elf.h`, `fs/binfmt_elf.c` |
//! | [`hash`] | algorithm ids, names, sizes | `include/uapi/linux/hash_info.h`, `crypto/hash_info.c` |
//! | [`xattr`] | `security.ima`, `security.evm` | `security/integrity/integrity.h` |
//! | [`evm`] | the bytes that `security.evm` is over | `security/integrity/evm/evm_crypto.c` |
//! | [`capability`] | capabilities of files | `include/uapi/linux/capability.h`, libcap's `cap_text.c` |
//! | [`file_contexts`] | SELinux's labels of paths | libselinux's `label_file.h`, `label_file.c` |
//! | [`audit`] | the kernel's records of denied accesses | `security/integrity/integrity_audit.c` |
//! | [`cpio`] | the archive of an initramfs | `init/initramfs.c` |
//! | [`policy`] | IMA policies and their decisions | `security/integrity/ima/ima_policy.c`, `ima_appraise.c`, `ima_main.c` |
//! | [`rpm`] | RPM packages, their files and signatures | rpm's `lib/header.cc`, `sign/rpmsignfiles.cc` |
//! | [`tar`] | tar archives, member by member | POSIX `pax`, GNU tar's `tar.h` |
//! | [`oci`] | container images: manifests, configurations, descriptors | OCI image-spec 1.1 |
//! | [`json`] | JSON that is changed in place | RFC 8259, Go's `encoding/json` |
//! | [`pkcs11`] | URIs of keys in tokens | RFC 7512 |
//! | [`ext4`] | ext2, ext3 and ext4 images: files and attributes | `fs/ext4/ext4.h`, `xattr.h` |
//! | [`erofs`] | EROFS images: files, content, attributes | `fs/erofs/erofs_fs.h`, `zmap.c`, `xattr.c` |
//! | [`parquet`] | tables, written | parquet-format's `parquet.thrift` |
//! | [`partition`] | GPT and MBR | `block/partitions/efi.c`, `msdos.c` |
//! | [`superblock`] | the file system of a device or partition: type, UUID, label | the superblocks of `fs/` |
//! | [`measure`] | measurement lists, binary and ASCII | `security/integrity/ima/ima_fs.c`, `ima_template.c` |
//! | [`tpm`] | quotes, their signatures and keys | TCG TPM 2.0 Library, Part 2 |
//! | [`der`], [`x509`] | the few fields of certificates that keyrings look at | `crypto/asymmetric_keys/x509_cert_parser.c` |
//! | [`modsig`] | signatures appended to modules and kernels | `include/linux/module_signature.h`, `crypto/asymmetric_keys/pkcs7_parser.c` |
//! | [`blacklist`] | entries that deny digests | `certs/blacklist.c` |
//! | [`keyring`] | `/proc/keys`, descriptions of keys | `security/keys/proc.c` |
//! | [`boot`] | the command line; `ima_appraise=` as the kernel obeys it | `lib/cmdline.c`, `ima_appraise.c` |
//! | [`base64`], [`hex`], [`cbor`] | other forms of bytes, written | |
//! | [`printable`] | foreign text for terminals and logs | |
//! | [`kind`] | the content of a file, by its first bytes | |
//! | [`reader`] | a cursor over bytes | |
//!
//! Decode the value of `security.ima`:
//!
//! ```
//! use ima_format::xattr::Attribute;
//!
//! // type 4 (IMA_XATTR_DIGEST_NG), SHA-256, the digest of "abc"
//! let value = [
//!     0x04, 0x04, 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
//!     0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00,
//!     0x15, 0xad,
//! ];
//! let attribute = Attribute::decode(&value)?;
//! assert_eq!(attribute.encode(), value);
//!
//! // an error has the offset of the byte that is wrong
//! let error = Attribute::decode(&value[..20]).unwrap_err();
//! assert!(error.to_string().contains("at offset"), "{error}");
//! # Ok::<(), ima_format::Error>(())
//! ```
//!
//! Read a policy as a kernel does, and ask for a decision:
//!
//! ```
//! use ima_format::policy::kernel::Kernel;
//! use ima_format::policy::{read, Loading};
//!
//! let text = b"appraise func=BPRM_CHECK uid=0 appraise_type=imasig\n";
//! let reading = read(text, &Kernel::default(), Loading::File);
//! assert!(reading.refusals.is_empty());
//! assert_eq!(reading.policy.rules().count(), 1);
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

#[macro_use]
mod spelled;

pub mod audit;
pub mod base64;
pub mod blacklist;
pub mod boot;
pub mod capability;
pub mod cbor;
pub mod cpio;
mod crc32c;
pub mod der;
pub mod elf;
pub mod erofs;
pub mod error;
pub mod evm;
pub mod ext4;
pub mod file_contexts;
pub mod hash;
pub mod hex;
pub mod json;
pub mod kernel_config;
pub mod keyring;
pub mod kind;
pub mod loader_cache;
pub mod measure;
pub mod modsig;
pub mod oci;
pub mod parquet;
pub mod partition;
pub mod pkcs11;
pub mod policy;
pub mod printable;
pub mod reader;
pub mod rpm;
pub mod superblock;
pub mod tar;
pub mod tpm;
pub mod verity;
pub mod x509;
pub mod xattr;

pub use error::{Error, ErrorKind};
