//! Manifests in the forms of other verifiers, read with their own libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{json, Value};

use crate::log::generate::{ascii, file, Entry, USUAL};
use crate::log::signatures::{record, signed};
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

/// The output of a Python program for some files, as JSON.
fn python_reads(module: &str, program: &str, files: &[&Path]) -> Option<Value> {
    let mut command = Command::new(python_with(module)?);
    let said = finish(command.args(["-c", program]).args(files)).exits(0).stdout;
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
    let Some(read) = python_reads("spdx_tools", PROGRAM, &[&document]) else { return };
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

/// Validates with the CDDL of the draft, and reads the triples with a CBOR library.
#[test]
fn corim_has_a_reference_triple_for_each_digest() {
    const PROGRAM: &str = "
import cbor2, json, sys
from cddl_verifier import validate
# the only rule of draft-ietf-rats-eat-measured-component that the CDDL of CoRIM uses
modules = {'measured-component': 'digest = [ alg: (int / text), val: bytes ]'}
schema, content = open(sys.argv[2]).read(), open(sys.argv[1], 'rb').read()
result = validate(schema, content, 'corim', modules=modules)
assert result.valid, [str(fault) for fault in result.diagnostics]
# the validator looks into the tag that is bytes in the CoRIM
assert not validate(schema, content.replace(b'\\x65board', b'\\x45board'), 'corim', modules=modules).valid
names = {1: 'sha256', 7: 'sha384', 8: 'sha512'}
corim = cbor2.loads(content)
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
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/corim-11.cddl");
    let files = [&*corim, &schema];
    let Some(read) = python_reads("cddl_verifier", PROGRAM, &files) else { return };
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

/// Validates with the schema of the CycloneDX project, and reads with its library.
#[test]
fn cyclonedx_is_valid() {
    const PROGRAM: &str = "
import json, sys
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
validator = JsonStrictValidator(SchemaVersion.V1_6)
fault = validator.validate_str(text)
assert fault is None, fault
assert validator.validate_str(text.replace('SHA-256', 'SHA256')) is not None
found = []
for component in Bom.from_json(json.loads(text)).components:
    (digest,) = component.hashes
    found.append([component.name, component.type.value, digest.alg.value, digest.content])
print(json.dumps(sorted(found)))
";
    let directory = directory();
    let [one, other] = manifests(directory.path());
    let bill = directory.path().join("bill.cdx.json");
    run(args!["manifest", "export", "--to", "cyclonedx", "-o", bill, one, other]).exits(0);
    let Some(read) = python_reads("cyclonedx", PROGRAM, &[&bill]) else { return };
    let [sha256, sha512] = [ima::HashAlgorithm::Sha256, ima::HashAlgorithm::Sha512];
    let expected = json!([
        ["/etc/gr\u{fc}n", "file", "SHA-256", digest(sha256, b"green")],
        ["/etc/gr\u{fc}n", "file", "SHA-512", digest(sha512, b"green")],
        ["/usr/bin/a b", "file", "SHA-256", digest(sha256, b"first")],
        ["/usr/bin/a b", "file", "SHA-512", digest(sha512, b"second")],
    ]);
    assert_eq!(read, expected);
}

/// Keylime's validator accepts the policy, `keylime-policy create runtime` makes the same one of the same root, and with
/// both its verifier accepts the same lists.
#[test]
fn keylime_makes_and_accepts_the_same_policy() {
    const PROGRAM: &str = "
import json, sys, types
# imported for signatures of policies; not on PyPI
sys.modules['gpg'] = types.ModuleType('gpg')
from keylime.cmd.keylime_policy import main
from keylime.common.algorithms import Hash
from keylime.ima import file_signatures, ima
root, certificate, ours, theirs, *lists = sys.argv[1:]
sys.argv = ['keylime-policy', 'create', 'runtime', '--rootfs', root, '--algo', 'sha256', '-m', '/dev/null', '-o', theirs,
            '--add-ima-signature-verification-key', certificate]
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
policies = [json.load(open(path)) for path in (ours, theirs)]
for policy in policies:
    ima.validate_runtime_policy(policy)
def accepted(policy, path):
    lines = open(path, encoding='utf-8').read().splitlines()
    keyrings = file_signatures.ImaKeyrings()
    keyring = file_signatures.ImaKeyring.from_string(policy['verification-keys'])
    keyrings.set_tenant_keyring(keyring)
    _, failure = ima.process_measurement_list(
        None, lines, runtime_policy=policy, ima_keyrings=keyrings, hash_alg=Hash.SHA1)
    return not failure
broken = dict(policies[0], release='0')
try:
    ima.validate_runtime_policy(broken)
    refused = False
except Exception:
    refused = True
results = [[accepted(policy, path) for path in lists] for policy in policies]
for policy in policies:
    # the version and the time of the program that made it
    del policy['meta']
    keys = json.loads(policy['verification-keys'])
    policy['verification-keys'] = [keys['keyids'], keys['pubkeys']]
print(json.dumps([refused, results, policies]))
";
    let directory = directory();
    let directory = directory.path();
    let [manifest, _] = manifests(directory);
    let root = directory.join("root");
    fs::write(root.join("usr/bin/a b"), b"first").unwrap();
    fs::hard_link(root.join("usr/bin/a b"), root.join("etc/hard")).unwrap();
    std::os::unix::fs::symlink("a b", root.join("usr/bin/symbolic")).unwrap();
    run(args!["manifest", "create", "-o", manifest, root]).exits(0);
    let keys = store(directory, "rsa-2048");
    let (certificate, other) = (keys.join("ima_keys/x509_ima.der"), store(directory, "p-256"));
    let [ours, theirs] = ["ours", "theirs"].map(|name| directory.join(name));
    let mut export = imactl();
    export.args(["manifest", "export", "--to", "keylime", "--cert"]).arg(&certificate);
    finish(export.arg("-o").arg(&ours).arg(&manifest)).exits(0);
    let endian = USUAL.endian;
    let good = [file(endian, "/usr/bin/a_b", b"first"), file(endian, "/etc/gr\u{fc}n", b"green")];
    let mut lists = vec![(good.to_vec(), true)];
    let mut add = |entry: Entry, accepted| lists.push(([&good[..], &[entry]].concat(), accepted));
    add(file(endian, "/etc/hard", b"changed"), false);
    // the content has changed, and is signed
    let signature = |keys: &Path| signed(directory, keys, b"changed");
    if let (Some(trusted), Some(unknown)) = (signature(&keys), signature(&other)) {
        add(record("/etc/hard", b"changed", &trusted), true);
        add(record("/etc/hard", b"other", &trusted), false);
        add(record("/etc/hard", b"changed", &unknown), false);
    }
    let accepted: Vec<_> = lists.iter().map(|(_, accepted)| *accepted).collect();
    let mut files = vec![root, certificate, ours, theirs];
    for (number, (entries, _)) in lists.iter().enumerate() {
        files.push(directory.join(format!("list{number}")));
        fs::write(&files[4 + number], ascii(USUAL, entries)).unwrap();
    }
    let files: Vec<_> = files.iter().map(|file| &**file).collect();
    let Some(read) = python_reads("keylime", PROGRAM, &files) else { return };
    assert_eq!(read[0], true, "the validator accepts anything");
    assert_eq!(read[1], json!([accepted, accepted]));
    assert_eq!(read[2][0], read[2][1]);
    assert_eq!(read[2][0]["digests"].as_object().unwrap().len(), 3);
}
