//! Manifests in the forms of other verifiers, read with their own libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{json, Value};

use crate::support::*;

/// Manifests of two versions of a root.
fn manifests(directory: &Path) -> [PathBuf; 2] {
    let root = directory.join("root");
    write_tree(&root, &[("usr/bin/a b", b"first"), ("etc/gr\u{fc}n", b"green")]);
    let [one, other] = ["one", "other"].map(|name| directory.join(name));
    run(args!["manifest", "create", "-o", one, root]).exits(0);
    fs::write(root.join("usr/bin/a b"), b"second").unwrap();
    run(args!["manifest", "create", "--hash", "sha512", "-o", other, root]).exits(0);
    [one, other]
}

/// The digest of a file, computed with hashlib.
fn digest(algorithm: ima::HashAlgorithm, content: &[u8]) -> String {
    let digest = ima::digest::Hasher::new(algorithm).unwrap().digest(content).unwrap();
    ima_format::hex::Hex(digest.as_bytes()).to_string()
}

/// The output of a Python program for a file, as JSON.
fn python_reads(module: &str, program: &str, file: &Path) -> Option<Value> {
    let mut command = Command::new(python_with(module)?);
    let said = finish(command.args(["-c", program]).arg(file)).exits(0).stdout;
    Some(serde_json::from_str(&said).unwrap())
}

/// Validates with the validator of the SPDX project.
#[test]
fn spdx_is_valid() {
    const PROGRAM: &str = "
import json, sys
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
document = parse_file(sys.argv[1])
errors = [message.validation_message for message in validate_full_spdx_document(document)]
packages = [[p.name, p.checksums[0].algorithm.name, p.checksums[0].value, p.primary_package_purpose.name]
            for p in document.packages]
print(json.dumps([errors, str(document.creation_info.created), document.creation_info.name, packages]))
";
    let directory = directory();
    let [one, other] = manifests(directory.path());
    // the parser detects the format from the file name
    let document = directory.path().join("document.spdx.json");
    let export = args!["manifest", "export", "--to", "spdx", "--model", "board", one, other];
    let mut command = imactl();
    command.env("SOURCE_DATE_EPOCH", "951868799").args(export).arg("-o").arg(&document);
    finish(&mut command).exits(0);
    let Some(read) = python_reads("spdx_tools", PROGRAM, &document) else { return };
    let [sha256, sha512] = [ima::HashAlgorithm::Sha256, ima::HashAlgorithm::Sha512];
    let expected = json!([
        [],
        "2000-02-29 23:59:59",
        "board",
        [
            ["/etc/gr\u{fc}n", "SHA256", digest(sha256, b"green"), "FILE"],
            ["/etc/gr\u{fc}n", "SHA512", digest(sha512, b"green"), "FILE"],
            ["/usr/bin/a b", "SHA256", digest(sha256, b"first"), "FILE"],
            ["/usr/bin/a b", "SHA512", digest(sha512, b"second"), "FILE"],
        ]
    ]);
    assert_eq!(read, expected);
}

/// Validates with the CDDL of the draft, using a CBOR library.
#[test]
fn corim_has_a_reference_triple_for_each_digest() {
    const PROGRAM: &str = "
import cbor2, json, sys
names = {1: 'sha256', 7: 'sha384', 8: 'sha512'}
corim = cbor2.load(open(sys.argv[1], 'rb'))
assert corim.tag == 501 and set(corim.value) == {0, 1}, corim
(tag,) = corim.value[1]
assert tag.tag == 506 and isinstance(tag.value, bytes)
comid = cbor2.loads(tag.value)
assert cbor2.dumps(comid, canonical=True) == tag.value
assert set(comid) == {1, 4} and set(comid[4]) == {0} and comid[1] == {0: corim.value[0]}
found = []
for environment, measurements in comid[4][0]:
    assert environment == {0: {1: 'Example', 2: 'board'}}, environment
    (measurement,) = measurements
    ((algorithm, digest),) = measurement[1][2]
    assert set(measurement) == {0, 1} and set(measurement[1]) == {2}
    found.append([measurement[0], names[algorithm], digest.hex()])
print(json.dumps(found))
";
    let directory = directory();
    let [one, other] = manifests(directory.path());
    let corim = directory.path().join("corim");
    let export = |more: &[&str]| {
        let mut command = imactl();
        command.args(["manifest", "export", "--to", "corim", "-o"]).arg(&corim).args(more);
        finish(command.arg(&one).arg(&other))
    };
    assert!(export(&["--model", "board"]).exits(2).stderr.contains("--vendor"));
    export(&["--vendor", "Example", "--model", "board"]).exits(0);
    let Some(read) = python_reads("cbor2", PROGRAM, &corim) else { return };
    let [sha256, sha512] = [ima::HashAlgorithm::Sha256, ima::HashAlgorithm::Sha512];
    // as the kernel writes the name in the list
    let expected = json!([
        ["/etc/gr\u{fc}n", "sha256", digest(sha256, b"green")],
        ["/etc/gr\u{fc}n", "sha512", digest(sha512, b"green")],
        ["/usr/bin/a_b", "sha256", digest(sha256, b"first")],
        ["/usr/bin/a_b", "sha512", digest(sha512, b"second")],
    ]);
    assert_eq!(read, expected);
}
