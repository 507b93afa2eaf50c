//! Arguments about fs-verity.

use clap::{Args, ValueEnum};
use ima::digest::DigestKind;
use ima::HashAlgorithm;
use ima_format::verity::{Parameters, Salt};
use ima_format::xattr::SignatureKind;

use crate::error::{hinted, Result};

/// The digest that signatures cover
#[derive(Debug, Args)]
#[command(next_help_heading = "Signature")]
pub(crate) struct SignedDigestArgs {
    /// Digest to sign: of the file's content, or its fs-verity digest, for rules with
    /// digest_type=verity [default: content]
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["hash_only", "evm_only"])]
    digest: Option<SignedDigest>,
    /// Salt of fs-verity, at most 32 bytes in hexadecimal digits [default: none]
    #[arg(long, value_name = "HEX", requires = "digest")]
    verity_salt: Option<Salt>,
    /// Enable fs-verity on each file after signing it; the file can never be written again
    #[arg(long, requires = "digest")]
    enable_verity: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignedDigest {
    Content,
    Verity,
}

impl SignedDigestArgs {
    pub(crate) fn kind(&self) -> SignatureKind {
        match self.digest {
            None | Some(SignedDigest::Content) => SignatureKind::Ima,
            Some(SignedDigest::Verity) => SignatureKind::Verity,
        }
    }

    /// The kind of digest to sign.
    pub(crate) fn digest(&self, hash: HashAlgorithm) -> Result<DigestKind> {
        Ok(match self.kind() {
            SignatureKind::Verity => DigestKind::Verity(parameters(hash, self.verity_salt)?),
            _ if self.enable_verity || self.verity_salt.is_some() => {
                let message = "--verity-salt and --enable-verity are about fs-verity";
                return Err(hinted(message, "give --digest verity, too"));
            }
            _ => DigestKind::Content(hash),
        })
    }

    /// The parameters for enabling fs-verity; `None` without `--enable-verity`.
    pub(crate) fn enabled(&self, hash: HashAlgorithm) -> Result<Option<Parameters>> {
        self.enable_verity.then(|| parameters(hash, self.verity_salt)).transpose()
    }
}

/// The parameters of a Merkle tree.
pub(crate) fn parameters(hash: HashAlgorithm, salt: Option<Salt>) -> Result<Parameters> {
    Parameters::new(hash, salt.unwrap_or_default())
        .ok_or_else(|| hinted(format!("fs-verity does not know {hash}"), "use sha256 or sha512"))
}
