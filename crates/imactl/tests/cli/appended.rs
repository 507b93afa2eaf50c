//! Appended signatures, compared with openssl's, whose form is that of `scripts/sign-file`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::signature_forms::peer;
use crate::support::*;

const MARKER: &[u8] = b"~Module signature appended~\n";

/// Content, message and trailer of a file.
fn split(file: &Path) -> (Vec<u8>, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let fields = bytes.strip_suffix(MARKER).unwrap();
    let (rest, fields) = fields.split_at(fields.len() - 12);
    assert_eq!(fields[..8], [0, 0, 2, 0, 0, 0, 0, 0]);
    let length = u32::from_be_bytes(fields[8..].try_into().unwrap()) as usize;
    let (content, message) = rest.split_at(rest.len() - length);
    (content.to_vec(), message.to_vec())
}

/// Appends openssl's signature, made with these options, to a file.
fn by_openssl(file: &Path, content: &[u8], key: &Path, options: &[&str]) {
    fs::write(file, content).unwrap();
    let message = file.with_extension("der");
    let mut cms = tool("openssl").unwrap();
    cms.args(["cms", "-sign", "-binary", "-nocerts", "-nosmimecap", "-outform", "DER"]);
    cms.args(options).arg("-inkey").arg(key).arg("-signer").arg(key.with_extension("crt"));
    finish(cms.arg("-in").arg(file).arg("-out").arg(&message)).exits(0);
    let message = fs::read(message).unwrap();
    let length = (message.len() as u32).to_be_bytes();
    let trailer = [&[0, 0, 2, 0, 0, 0, 0, 0], &length[..], MARKER].concat();
    fs::write(file, [content, &message, &trailer].concat()).unwrap();
}

fn module_key(keys: &Path) -> PathBuf {
    keys.join("modsign_keys/modsign_key.key")
}

fn store(directory: &Path, name: &str, algorithm: &str) -> PathBuf {
    let keys = directory.join(name);
    run(args!["keys", "create", "--sample", "--algorithm", algorithm, keys]).exits(0);
    keys
}

#[test]
fn signatures_are_those_of_openssl_and_both_are_verified() {
    let directory = directory();
    let file = directory.path().join("module.ko");
    for algorithm in ["rsa-2048", "p-256"] {
        let keys = store(directory.path(), algorithm, algorithm);
        let key = module_key(&keys);
        for hash in ["sha256", "sha512"] {
            fs::write(&file, "content").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            run(args!["sign", "--appended", "--hash", hash, "--keys", keys, file]).exits(0);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
            let (content, ours) = split(&file);
            assert_eq!(content, b"content");
            run(args!["verify", "--appended", "--keys", keys, file]).exits(0);
            // signing again replaces the signature
            run(args!["sign", "--appended", "--hash", hash, "--keys", keys, file]).exits(0);
            assert_eq!(split(&file).0, b"content");

            let message = directory.path().join("message");
            let plain = directory.path().join("plain");
            fs::write(&message, &ours).unwrap();
            fs::write(&plain, &content).unwrap();
            let mut cms = tool("openssl").unwrap();
            cms.args(["cms", "-verify", "-binary", "-inform", "DER", "-noverify", "-nointern"]);
            cms.arg("-certfile").arg(key.with_extension("crt"));
            finish(cms.arg("-in").arg(&message).arg("-content").arg(&plain)).exits(0);

            by_openssl(&file, b"content", &key, &["-noattr", "-md", hash]);
            let (_, theirs) = split(&file);
            match algorithm {
                "rsa-2048" => assert_eq!(ours, theirs),
                // the length of an ECDSA signature varies with its numbers
                _ => assert!(ours.len().abs_diff(theirs.len()) <= 4),
            }
            run(args!["verify", "--appended", "--keys", keys, file]).exits(0);
            by_openssl(&file, b"content", &key, &["-noattr", "-keyid", "-md", hash]);
            run(args!["verify", "--appended", "--keys", keys, file]).exits(0);
        }
    }
}

#[test]
fn verdicts_are_the_kernels() {
    let directory = directory();
    let (keys, other) =
        (store(directory.path(), "keys", "p-256"), store(directory.path(), "other", "p-256"));
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let file = |name: &str| root.join(name);
    let sign = |keys: &Path, file: &Path| {
        fs::write(file, "content").unwrap();
        run(args!["sign", "--appended", "--keys", keys, file]).exits(0);
    };
    sign(&keys, &file("good"));
    sign(&other, &file("foreign"));
    sign(&keys, &file("changed"));
    let mut bytes = fs::read(file("changed")).unwrap();
    bytes[0] ^= 1;
    fs::write(file("changed"), bytes).unwrap();
    fs::write(file("none"), "content").unwrap();
    let mut bytes = fs::read(file("good")).unwrap();
    let length = bytes.len();
    bytes[length - 28 - 10] = 1;
    fs::write(file("other-type"), bytes).unwrap();
    by_openssl(&file("attributes"), b"content", &module_key(&keys), &["-md", "sha256"]);
    fs::remove_file(file("attributes.der")).unwrap();
    by_openssl(&file("attached"), b"content", &module_key(&keys), &["-nodetach", "-noattr"]);
    fs::remove_file(file("attached.der")).unwrap();

    let verified = run(args!["verify", "--json", "--appended", "--keys", keys, root]).exits(1);
    for (name, verdict, detail) in [
        ("good", "valid", "appended sha256 signature by key"),
        ("foreign", "invalid-signature", "unknown key"),
        ("changed", "invalid-signature", "not an appended signature by key"),
        ("none", "IMA-signature-required", "no appended signature"),
        ("other-type", "IMA-signature-required", "not of type PKCS#7"),
        ("attributes", "invalid-signature", "signed attributes"),
        ("attached", "invalid-signature", "content of its own"),
    ] {
        let line = verified.json_for(&file(name));
        assert_eq!(line["verdict"], verdict, "{line}");
        assert!(line["detail"].as_str().unwrap().contains(detail), "{line}");
    }
    let inspected = run(args!["inspect", "--json", file("good"), file("other-type")]).exits(1);
    let good = &inspected.json_for(&file("good"))["appended"];
    assert_eq!(
        (good["hash"].as_str(), good["size"].as_u64()),
        (Some("sha256"), Some(length as u64 - 7))
    );
    let mut x509 = tool("openssl").unwrap();
    x509.args(["x509", "-noout", "-serial", "-in"]);
    let serial = finish(x509.arg(module_key(&keys).with_extension("crt"))).exits(0).stdout;
    let serial = serial.trim().to_ascii_lowercase();
    assert_eq!(format!("serial={}", good["serial"].as_str().unwrap()), serial);
    assert!(inspected.json_for(&file("other-type"))["appended"]["malformed"].is_string());

    // valid files stay, unsigned and changed ones are signed, malformed ones are errors
    let args = args!["sign", "--json", "--changed", "--appended", "--keys", keys, root];
    let signed = run(args).exits(2);
    assert_eq!(signed.json_for(&file("good"))["result"], "unchanged");
    assert_eq!(signed.json_for(&file("changed"))["result"], "signed");
    assert!(signed.json_for(&file("other-type"))["error"].is_string());
    run(args!["clear", "--appended", file("good"), file("changed"), file("none")]).exits(0);
    assert_eq!(fs::read(file("good")).unwrap(), b"content");
    let cleared = run(args!["clear", "--json", "--appended", file("good")]).exits(0);
    assert_eq!(cleared.json_for(&file("good"))["result"], "unsigned");
}

#[test]
fn files_that_cannot_have_one_are_reported() {
    let directory = directory();
    let keys = store(directory.path(), "keys", "p-256");
    let sign = |file: &Path| run(args!["sign", "--appended", "--keys", keys, file]);
    let module = directory.path().join("module.ko");
    fs::copy("/bin/true", &module).unwrap();
    for tool_name in ["xz", "zstd", "gzip"] {
        let mut compress = tool(tool_name).unwrap();
        finish(compress.args(["-k", "-q"]).arg(&module)).exits(0);
    }
    for extension in ["xz", "zst", "gz"] {
        let compressed = PathBuf::from(format!("{}.{extension}", module.display()));
        let before = fs::read(&compressed).unwrap();
        let refused = sign(&compressed).exits(2);
        assert!(refused.stderr.contains("a module compressed by"), "{}", refused.stderr);
        assert_eq!(fs::read(&compressed).unwrap(), before);
    }
    fs::hard_link(&module, directory.path().join("link")).unwrap();
    assert!(sign(&module).exits(2).stderr.contains("several names"));
    let archive = directory.path().join("archive.tar");
    finish(tool("tar").unwrap().arg("-cf").arg(&archive).arg("-C").arg(&keys).arg(".")).exits(0);
    let refused = sign(&archive).exits(2);
    assert!(refused.stderr.contains("--appended applies only to files"), "{}", refused.stderr);
    let weak = run(args!["sign", "--appended", "--hash", "sha1", "--keys", keys, module]).exits(2);
    assert!(weak.stderr.contains("it is weak"), "{}", weak.stderr);
    let key = module_key(&keys);
    let bare = directory.path().join("bare.key");
    fs::copy(&key, &bare).unwrap();
    let nameless = run(args!["sign", "--appended", "--key", bare, module]).exits(2);
    assert!(nameless.stderr.contains("give --cert FILE"), "{}", nameless.stderr);
}

/// The module key of a store with ML-DSA keys; `None`, with a message, if the linked OpenSSL does not support them.
fn ml_dsa_store(directory: &Path, algorithm: &str) -> Option<PathBuf> {
    let keys = directory.join(algorithm);
    let made = run(args!["keys", "create", "--sample", "--algorithm", algorithm, keys]);
    if made.code == Some(0) {
        return Some(keys);
    }
    assert!(made.stderr.contains("the linked OpenSSL has no ML-DSA"), "{}", made.stderr);
    missing("this OpenSSL has no ML-DSA");
    None
}

#[test]
fn ml_dsa_keys_sign_the_content() {
    let directory = directory();
    let Some(_) = peer() else { return };
    for (algorithm, oid, size) in [
        ("ml-dsa-44", "2.16.840.1.101.3.4.3.17", 2420),
        ("ml-dsa-65", "2.16.840.1.101.3.4.3.18", 3309),
        ("ml-dsa-87", "2.16.840.1.101.3.4.3.19", 4627),
    ] {
        let Some(keys) = ml_dsa_store(directory.path(), algorithm) else { return };
        let file = directory.path().join("module.ko");
        fs::write(&file, "content").unwrap();
        let signed = run(args!["sign", "--appended", "--keys", keys, file]).exits(0);
        assert!(signed.stderr.contains("only Linux 7.2 and newer"), "{}", signed.stderr);
        let (content, message) = split(&file);
        assert_eq!(content, b"content");

        let [plain, signature, der] =
            ["plain", "signature", "message"].map(|name| directory.path().join(name));
        fs::write(&plain, &content).unwrap();
        // without unsigned attributes it is the last value
        fs::write(&signature, &message[message.len() - size..]).unwrap();
        let certificate = module_key(&keys).with_extension("der");
        let mut theirs = peer().unwrap();
        finish(theirs.arg("verify-content").arg(certificate).arg(&signature).arg(&plain)).exits(0);
        fs::write(&der, &message).unwrap();
        let mut parse = tool("openssl").unwrap();
        let parsed = finish(parse.args(["asn1parse", "-inform", "DER", "-in"]).arg(&der)).exits(0);
        let named = parsed.stdout.to_lowercase();
        assert!(named.contains(oid) || named.contains(algorithm), "{named}");
        assert_eq!(named.matches(":sha512").count(), 2, "RFC 9882: {named}");

        let verify = |kernel: &str| {
            let args = args!["verify", "--json", "--appended", "--kernel", kernel, "--keys", keys];
            run(args.into_iter().chain([file.clone().into()]))
        };
        assert_eq!(verify("7.2").exits(0).json_for(&file)["verdict"], "valid");
        let older = verify("6.12").exits(1).json_for(&file);
        assert_eq!(older["verdict"], "IMA-signature-required");
        assert!(older["detail"].as_str().unwrap().contains("from Linux 7.2 on"), "{older}");
        let inspected = run(args!["inspect", "--json", file]).exits(0).json_for(&file);
        assert_eq!(inspected["appended"]["key"], algorithm);
        assert!(inspected["appended"]["hash"].is_null(), "{inspected}");
        let again = args!["sign", "--json", "--changed", "--appended", "--keys", keys, file];
        assert_eq!(run(again).exits(0).json_for(&file)["result"], "unchanged");
        let mut bytes = fs::read(&file).unwrap();
        bytes[0] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(verify("7.2").exits(1).json_for(&file)["verdict"], "invalid-signature");
        let hashed = run(args!["sign", "--appended", "--hash", "sha512", "--keys", keys, file]);
        assert!(hashed.exits(2).stderr.contains("sign the content itself"));
    }
}

#[test]
fn preflight_judges_ml_dsa_by_version() {
    let directory = directory();
    let Some(keys) = ml_dsa_store(directory.path(), "ml-dsa-65") else { return };
    let root = directory.path().join("root");
    let module = root.join("lib/modules/7.3.0/kernel/good.ko");
    fs::create_dir_all(module.parent().unwrap()).unwrap();
    fs::copy("/bin/true", &module).unwrap();
    run(args!["sign", "--appended", "--keys", keys, module]).exits(0);
    let policy = directory.path().join("policy");
    fs::write(&policy, "appraise func=MODULE_CHECK appraise_type=imasig|modsig\n").unwrap();
    for (kernel, code, result, says) in [
        ("7.3", 0, "allowed", "appended ML-DSA signature by key"),
        ("6.12", 1, "denied", "verifies from Linux 7.2 on"),
    ] {
        let options = args!["--json", "--details", "--no-init", "--kernel", kernel, "--all-root"];
        let mut preflight = imactl();
        preflight.arg("preflight").args(options).arg("--policy").arg(&policy);
        let report = finish(preflight.arg("--keys").arg(&keys).arg(&root)).exits(code);
        let line = report.json_for(Path::new("/lib/modules/7.3.0/kernel/good.ko"));
        assert_eq!(line["result"], result, "{kernel}: {line}");
        assert!(line["module_signature"].as_str().unwrap().contains(says), "{kernel}: {line}");
    }
}

#[test]
fn preflight_judges_appended_signatures() {
    let directory = directory();
    let (keys, other) =
        (store(directory.path(), "keys", "p-256"), store(directory.path(), "other", "p-256"));
    let root = directory.path().join("root");
    let modules = root.join("lib/modules/6.12.0/kernel");
    fs::create_dir_all(&modules).unwrap();
    for (name, keys) in [("good", Some(&keys)), ("foreign", Some(&other)), ("none", None)] {
        let module = modules.join(name).with_extension("ko");
        fs::copy("/bin/true", &module).unwrap();
        if let Some(keys) = keys {
            run(args!["sign", "--appended", "--keys", keys, module]).exits(0);
        }
    }
    let policy = directory.path().join("policy");
    let judge = |text: &str| {
        fs::write(&policy, text).unwrap();
        let options = args!["--json", "--details", "--no-init", "--kernel", "6.12", "--all-root"];
        let mut preflight = imactl();
        preflight.arg("preflight").args(options).arg("--policy").arg(&policy);
        finish(preflight.arg("--keys").arg(&keys).arg(&root))
    };
    let report = judge("appraise func=MODULE_CHECK appraise_type=imasig|modsig\n").exits(1);
    for (name, result, cause, signature) in [
        ("good", "allowed", None, "appended sha256 signature by key"),
        ("foreign", "denied", Some("invalid-signature"), "unknown key"),
        ("none", "denied", Some("IMA-signature-required"), "no appended signature"),
    ] {
        let line =
            report.json_for(&Path::new("/lib/modules/6.12.0/kernel").join(format!("{name}.ko")));
        assert_eq!(
            (line["result"].as_str(), line["cause"].as_str()),
            (Some(result), cause),
            "{line}"
        );
        assert!(line["module_signature"].as_str().unwrap().contains(signature), "{line}");
    }
    let unjudged = "dont_appraise func=MODULE_CHECK\n";
    judge(unjudged).exits(0);
    // the module loader may require signatures, whatever the policy is
    let config = directory.path().join("config");
    fs::write(&config, "CONFIG_IMA=y\nCONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_FORCE=y\n").unwrap();
    let forced = ["--kernel", "6.12", "--kernel-config", config.to_str().unwrap()];
    for insists in [&["--secure-boot"][..], &forced] {
        let mut preflight = imactl();
        preflight.args(["preflight", "--json", "--details", "--no-init", "--all-root"]);
        preflight.args(insists).arg("--policy").arg(&policy).arg("--keys").arg(&keys).arg(&root);
        let report = finish(&mut preflight).exits(1);
        for (name, result) in [("good", "allowed"), ("foreign", "denied"), ("none", "denied")] {
            let path = Path::new("/lib/modules/6.12.0/kernel").join(format!("{name}.ko"));
            assert_eq!(report.json_for(&path)["result"], result, "{insists:?} {name}");
        }
    }
}

#[test]
fn inspect_shows_appended_signatures_in_containers() {
    let directory = directory();
    let keys = store(directory.path(), "keys", "p-256");
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    // larger than the limit for members in memory, and sizes around its blocks
    let sizes = [("small", 700), ("large", (1 << 20) + 512), ("larger", (3 << 20) + 77)];
    for (name, size) in sizes {
        fs::write(root.join(name), vec![b'm'; size]).unwrap();
    }
    run(args!["sign", "--appended", "--keys", keys, root]).exits(0);
    fs::write(root.join("none"), vec![b'n'; (1 << 20) + 1]).unwrap();
    let expected: Vec<_> = sizes
        .iter()
        .map(|(name, _)| {
            let shown = run(args!["inspect", "--json", root.join(name)]).exits(0);
            (*name, shown.json_for(&root.join(name))["appended"].clone())
        })
        .collect();
    assert!(expected.iter().all(|(_, appended)| appended["key"] == "ecdsa"), "{expected:?}");

    let archive = directory.path().join("root.tar");
    let mut tar = tool("tar").unwrap();
    finish(
        tar.arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&root)
            .args(["small", "large"])
            .args(["larger", "none"]),
    )
    .exits(0);
    let mut containers = vec![archive];
    if let Some(mut make) = tool("mke2fs") {
        let image = directory.path().join("root.ext4");
        make.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("16M");
        finish(&mut make).exits(0);
        containers.push(image);
    }
    if let Some(mut make) = tool("mksquashfs") {
        let image = directory.path().join("root.squashfs");
        finish(make.arg(&root).arg(&image).args(["-quiet", "-no-progress"])).exits(0);
        containers.push(image);
    }
    for container in containers {
        let shown = run(args!["inspect", "--json", container]).exits(0);
        for (name, appended) in &expected {
            let line = shown.json_for(Path::new(name));
            assert_eq!(line["appended"], *appended, "{}: {line}", container.display());
        }
        assert!(shown.json_for(Path::new("none"))["appended"].is_null());
        let text = run(args!["inspect", container]).exits(0).stdout;
        assert_eq!(text.matches("appended signature: ecdsa, sha256").count(), 3, "{text}");
    }
}
