//! `evmctl sign_hash`: signs digests that other programs computed.

use std::io::{self, BufRead, Write};

use ima::{Digest, HashAlgorithm};
use ima_format::hex::{self, Hex};
use ima_format::xattr::{SignatureKind, SignatureVersion};

use super::{keys, Evmctl};
use crate::error::{Context, Error, Result};
use crate::Outcome;
use ima::sign::Maker;

/// Signs each line of standard input, `HEX FILE` of `sha256sum` or with --veritysig `ALGO:HEX FILE` of
/// `fsverity digest`, and prints it with the attribute's value in hexadecimal.
pub(super) fn sign(evmctl: &Evmctl<'_>) -> Result<Outcome> {
    let signer = keys::signer(evmctl.options)?;
    let maker = match evmctl.options.has("veritysig") {
        true => Maker::Signature {
            signer: &*signer,
            kind: SignatureKind::Verity,
            version: SignatureVersion::V3,
        },
        false => evmctl.maker(&*signer, SignatureKind::Ima),
    };
    let mut session = maker.session()?;
    let (mut lines, mut value) = (0_u64, Vec::new());
    for line in io::stdin().lock().lines() {
        let line = line?;
        lines += 1;
        let given = evmctl.hash()?;
        let digest = digest(&line, evmctl.options.has("veritysig"), given);
        let digest = digest.with_context(|| format!("line {lines}"))?;
        session.make(&digest, &mut value)?;
        writeln!(io::stdout(), "{line} {}", Hex(&value))?;
    }
    match lines {
        0 => Err(Error::new("Parameters missing: no digests on standard input")),
        _ => Ok(Outcome::Good),
    }
}

fn digest(line: &str, is_verity: bool, given: HashAlgorithm) -> Result<Digest> {
    let first = line.split([' ', '\t']).next().unwrap_or_default();
    let (algorithm, digits) = match (is_verity, first.split_once(':')) {
        (true, Some((name, digits))) => {
            let algorithm: Result<HashAlgorithm, _> = name.parse();
            (algorithm.map_err(|error| Error::new(error.to_string()))?, digits)
        }
        (true, None) => return Err(Error::new("Missing/invalid fsverity hash algorithm")),
        (false, _) => (given, first),
    };
    let bytes = hex::decode(digits.as_bytes()).unwrap_or_default();
    let wrong = || Error::new(format!("not a digest by {algorithm}"));
    Digest::new(algorithm, &bytes).ok_or_else(wrong)
}
