//! Reference values for verifiers of the RATS architecture: a Concise Reference Integrity Manifest (CoRIM) with a
//! Concise Module Identifier tag (CoMID), draft-ietf-rats-corim-11, in CBOR (RFC 8949).
//!
//! ```text
//! 501({0: id, 1: [506(<< {1: {0: id},                            CoRIM, CoMID
//!                         4: {0: [triple, ...]}} >>)]})          reference triples
//! triple      [environment, [measurement]]                       one state of one file
//! environment {0: {1: vendor, 2: model}}
//! measurement {0: path, 1: {2: [[algorithm, digest]]}}
//! ```
//!
//! A triple is one possible state of the environment, so each digest of each file has one. Algorithms are numbers
//! of IANA's Named Information Hash Algorithm Registry.

use ima::attest::manifest::Manifest;
use ima::digest::Hasher;
use ima::HashAlgorithm;
use ima_format::cbor::Writer;

use super::{name, no_name};
use crate::cmd::manifest::text;
use crate::error::{Error, Result};
use crate::output::Output;

const UNSIGNED_CORIM: u64 = 501;
const COMID: u64 = 506;

/// The CoRIM.
pub(super) fn corim(
    manifest: &Manifest,
    vendor: &str,
    model: &str,
    output: &mut Output,
) -> Result<Vec<u8>> {
    let (mut triples, mut count) = (Vec::new(), 0);
    for (path, expected) in &manifest.as_measured().0 {
        let Some(path) = name(path, output) else { continue };
        for digest in &expected.digests {
            let algorithm = named_information(digest.algorithm());
            let algorithm = algorithm.ok_or_else(|| no_name("CoRIM", path, digest.algorithm()))?;
            let mut triple = Writer(&mut triples);
            triple.array(2);
            triple.map(1).number(0).map(2).number(1).text(vendor).number(2).text(model);
            triple.array(1).map(2).number(0).text(path);
            triple.number(1).map(1).number(2).array(1);
            triple.array(2).number(algorithm).bytes(digest.as_bytes());
            count += 1;
        }
    }
    if count == 0 {
        return Err(Error::new("no file to list: a CoRIM has at least one"));
    }
    let digest = Hasher::new(HashAlgorithm::Sha256)?.digest(&text::lines(manifest)?)?;
    let id = format!("urn:imactl:manifest:v1:{digest}");
    let (mut comid, mut corim) = (Vec::new(), Vec::new());
    let mut writer = Writer(&mut comid);
    writer.map(2).number(1).map(1).number(0).text(&id);
    writer.number(4).map(1).number(0).array(count);
    comid.append(&mut triples);
    let mut writer = Writer(&mut corim);
    writer.tag(UNSIGNED_CORIM).map(2).number(0).text(&id);
    writer.number(1).array(1).tag(COMID).bytes(&comid);
    Ok(corim)
}

/// The number of an algorithm in the Named Information Hash Algorithm Registry, which has no SHA-1.
fn named_information(algorithm: HashAlgorithm) -> Option<u64> {
    Some(match algorithm {
        HashAlgorithm::Sha256 => 1,
        HashAlgorithm::Sha384 => 7,
        HashAlgorithm::Sha512 => 8,
        HashAlgorithm::Sha3_256 => 10,
        HashAlgorithm::Sha3_384 => 11,
        HashAlgorithm::Sha3_512 => 12,
        _ => return None,
    })
}
