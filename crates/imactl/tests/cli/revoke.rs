//! Revocation: entries compared with those of openssl and sha256sum, and the affected files.

use std::fs;

use crate::support::*;

#[test]
fn entries_are_signed_for_the_kernel_and_affected_files_are_listed() {
    let directory = directory();
    let keys = directory.path().join("keys");
    run(args!["keys", "create", "--sample", "--algorithm", "p-256", keys]).exits(0);
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    for (name, content) in [("old", "old"), ("copy", "old"), ("new", "new")] {
        fs::write(root.join(name), content).unwrap();
    }
    let archive = directory.path().join("root.tar");
    finish(tool("tar").unwrap().arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".")).exits(0);

    let theirs = finish(tool("sha256sum").unwrap().arg(root.join("old"))).exits(0).stdout;
    let digest = theirs.split(' ').next().unwrap();
    let (result, list) = (directory.path().join("result"), directory.path().join("list"));
    let args = args!["revoke", "--json", "--keys", keys, "--file", root.join("old")];
    let mut revoke = imactl();
    revoke.args(args).arg("-o").arg(&result).arg("--hash-list").arg(&list).arg(&root);
    let revoked = finish(&mut revoke).exits(0);
    assert_eq!(revoked.json()[0]["entry"], format!("bin:{digest}"));
    for name in ["old", "copy"] {
        assert_eq!(revoked.json_for(&root.join(name))["affected_by"], "digest");
    }
    let summary = revoked.json().pop().unwrap();
    assert_eq!((&summary["affected"], &summary["unaffected"]), (&2.into(), &1.into()));
    assert_eq!(fs::read_to_string(&list).unwrap(), format!("\"bin:{digest}\"\n"));
    let in_archive = run(args!["revoke", "--digest", digest, archive]).exits(0);
    assert_eq!(in_archive.stdout.matches("digest  ").count(), 2, "{}", in_archive.stdout);

    // the arguments of add_key: the text, and its signature by the built-in key
    let file = result.join(format!("blacklist_{}.entry", &digest[..16]));
    let bytes = fs::read(file).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    assert_eq!(bytes[..end], *format!("bin:{digest}").as_bytes());
    let (text, message) = (directory.path().join("text"), directory.path().join("message"));
    fs::write(&text, &bytes[..end]).unwrap();
    fs::write(&message, &bytes[end + 1..]).unwrap();
    let mut cms = tool("openssl").unwrap();
    cms.args(["cms", "-verify", "-binary", "-inform", "DER", "-noverify", "-nointern"]);
    cms.arg("-certfile").arg(keys.join("system_trusted_keys/system_trusted_key.crt"));
    finish(cms.arg("-in").arg(&message).arg("-content").arg(&text)).exits(0);
}

#[test]
fn certificates_are_denied_by_their_signed_part_and_their_key() {
    let directory = directory();
    let keys = directory.path().join("keys");
    run(args!["keys", "create", "--sample", "--algorithm", "p-256", keys]).exits(0);
    let certificate = keys.join("ima_keys/x509_ima.der");
    // the signed part, extracted with openssl
    let signed = directory.path().join("signed");
    let mut parse = tool("openssl").unwrap();
    parse.args(["asn1parse", "-inform", "DER", "-strparse", "4", "-noout", "-in"]);
    finish(parse.arg(&certificate).arg("-out").arg(&signed)).exits(0);
    let theirs = finish(tool("sha256sum").unwrap().arg(&signed)).exits(0).stdout;
    let digest = theirs.split(' ').next().unwrap();
    let result = directory.path().join("result");
    let mut revoke = imactl();
    revoke.args(args!["revoke", "--cert", certificate, "-o", result]);
    let revoked = finish(&mut revoke).exits(0);
    assert!(revoked.stdout.starts_with(&format!("tbs:{digest} ")), "{}", revoked.stdout);
    let written = names(&result);
    assert_eq!(written.len(), 1);
    assert_eq!(fs::read(result.join(&written[0])).unwrap(), fs::read(&certificate).unwrap());

    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    if !security_attributes(&root) {
        return;
    }
    for name in ["signed", "unsigned"] {
        fs::write(root.join(name), name).unwrap();
    }
    run(args!["sign", "--keys", keys, root.join("signed")]).exits(0);
    let found = run(args!["revoke", "--json", "--cert", certificate, root]).exits(0);
    assert_eq!(found.json_for(&root.join("signed"))["affected_by"], "key");
    assert_eq!(found.json().pop().unwrap()["affected"], 1);

    let preflight = |blacklist: &std::path::Path| {
        fs::create_dir_all(root.join("bin")).unwrap();
        let (program, policy) = (root.join("bin/program"), directory.path().join("policy"));
        fs::copy("/bin/true", &program).unwrap();
        run(args!["sign", "--keys", keys, program]).exits(0);
        fs::write(&policy, "appraise func=BPRM_CHECK appraise_type=imasig\n").unwrap();
        let mut preflight = imactl();
        preflight.args(args!["preflight", "--json", "--details", "--no-init", "--all-root"]);
        preflight.args(args!["--kernel", "6.12", "--policy", policy, "--keys", keys]);
        preflight.arg("--blacklist").arg(blacklist).arg(&root);
        finish(&mut preflight).exits(1).json_for("/bin/program".as_ref())
    };
    let by_key = preflight(&certificate);
    assert_eq!(
        (&by_key["result"], &by_key["cause"]),
        (&"denied".into(), &"invalid-signature".into())
    );
    let list = directory.path().join("list");
    // tbs: a compiled-in list, so the certificate is in no keyring
    fs::write(&list, format!("\"tbs:{digest}\"\n")).unwrap();
    let by_certificate = preflight(&list);
    assert_eq!(by_certificate["cause"], "invalid-signature", "{by_certificate}");
    assert!(by_certificate["unknown_key"].is_string(), "{by_certificate}");
    let mut revoke = imactl();
    revoke.args(args!["revoke", "--file", root.join("bin/program"), "--hash-list", list]);
    finish(&mut revoke).exits(0);
    let by_digest = preflight(&list);
    assert_eq!(by_digest["result"], "denied", "{by_digest}");
    assert_ne!(by_digest["cause"], "invalid-signature");
}

#[test]
fn what_cannot_be_revoked_is_told() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    let nothing = run(args!["revoke", file]).exits(2);
    assert!(nothing.stderr.contains("give --file, --digest or --cert"), "{}", nothing.stderr);
    run(args!["revoke", "--digest", "00"]).exits(2);
    run(args!["revoke", "--file", directory.path()]).exits(2);
    let keyless = run(args!["revoke", "--file", file, "-o", directory.path()]).exits(2);
    assert!(keyless.stderr.contains("no key to sign entries with"), "{}", keyless.stderr);
}
