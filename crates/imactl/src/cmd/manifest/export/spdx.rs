//! A document of SPDX 2.3, in JSON.
//!
//! A file of SPDX 2.3 needs a SHA-1 digest, which a manifest seldom has. So each digest of a file is a package with
//! purpose FILE, which may have any digest.

use std::time::{SystemTime, UNIX_EPOCH};

use ima::attest::manifest::Manifest;
use ima::digest::Hasher;
use ima::HashAlgorithm;
use serde::Serialize;

use super::{hex, name, no_name, to_json};
use crate::cmd::manifest::text;
use crate::error::{hinted, Result};
use crate::output::Output;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: &'a str,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package<'a>>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package<'a> {
    #[serde(rename = "SPDXID")]
    id: String,
    name: &'a str,
    package_file_name: &'a str,
    primary_package_purpose: &'static str,
    download_location: &'static str,
    files_analyzed: bool,
    checksums: [Checksum; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: &'static str,
    relationship_type: &'static str,
    related_spdx_element: String,
}

const DOCUMENT: &str = "SPDXRef-DOCUMENT";

/// The document. Its time is SOURCE_DATE_EPOCH if that is set, so that the output is reproducible.
pub(super) fn document(
    manifest: &Manifest,
    document_name: &str,
    output: &mut Output,
) -> Result<Vec<u8>> {
    let mut packages = Vec::new();
    for (path, expected) in &manifest.0 {
        let Some(name) = name(path, output) else { continue };
        for digest in &expected.digests {
            let algorithm = match digest.algorithm() {
                HashAlgorithm::Md5 => "MD5",
                HashAlgorithm::Sha1 => "SHA1",
                HashAlgorithm::Sha224 => "SHA224",
                HashAlgorithm::Sha256 => "SHA256",
                HashAlgorithm::Sha384 => "SHA384",
                HashAlgorithm::Sha512 => "SHA512",
                HashAlgorithm::Sha3_256 => "SHA3-256",
                HashAlgorithm::Sha3_384 => "SHA3-384",
                HashAlgorithm::Sha3_512 => "SHA3-512",
                other => return Err(no_name("SPDX", name, other)),
            };
            packages.push(Package {
                id: format!("SPDXRef-{}", packages.len()),
                name,
                package_file_name: name,
                primary_package_purpose: "FILE",
                download_location: "NOASSERTION",
                files_analyzed: false,
                checksums: [Checksum { algorithm, checksum_value: hex(digest) }],
            });
        }
    }
    let describes = |package: &Package<'_>| Relationship {
        spdx_element_id: DOCUMENT,
        relationship_type: "DESCRIBES",
        related_spdx_element: package.id.clone(),
    };
    let digest = Hasher::new(HashAlgorithm::Sha256)?.digest(&text::lines(manifest)?)?;
    to_json(&Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: document_name,
        document_namespace: format!("urn:imactl:manifest:v1:{digest}"),
        creation_info: CreationInfo {
            created: rfc3339(now()?),
            creators: [format!("Tool: imactl-{}", env!("CARGO_PKG_VERSION"))],
        },
        relationships: packages.iter().map(describes).collect(),
        packages,
    })
}

/// Seconds since 1970.
fn now() -> Result<u64> {
    let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    };
    let seconds = given.to_str().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds <= LAST).ok_or_else(|| {
        hinted("SOURCE_DATE_EPOCH is not a number of seconds", "set it to one, or unset it")
    })
}

/// 9999-12-31T23:59:59Z: later years need more digits.
const LAST: u64 = 253_402_300_799;

/// The time in UTC, of the Gregorian calendar.
fn rfc3339(seconds: u64) -> String {
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, hour, minute, second) = (days + 1, second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u --date=@SECONDS` prints them.
    #[test]
    fn times_are_those_of_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
