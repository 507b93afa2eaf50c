//! Signing, certifying and showing keys in tokens.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::device::*;
use crate::support::*;

#[test]
fn openssl_accepts_what_a_token_signs() {
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    for (label, _, kind) in KEYS {
        let public = token.public_key(label);
        let mut hashes = vec!["sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256"];
        if kind.starts_with("rsa") {
            hashes.push("sha3-512");
        }
        for hash in hashes {
            token.sign(&token.uri(&format!("object={label}")), &["--hash", hash]).exits(0);
            let signature = token.path("signature");
            fs::write(&signature, &fs::read(file.with_extension("sig")).unwrap()[9..]).unwrap();
            openssl(args![
                "dgst",
                format!("-{hash}"),
                "-verify",
                public,
                "-signature",
                signature,
                file
            ]);
        }
    }
}

#[test]
fn evmctl_and_imactl_accept_what_a_token_signs() {
    let Some(token) = token() else { return };
    let files = token.path("files");
    if !security_attributes(&files) || tool("evmctl").is_none() {
        return;
    }
    for (label, ..) in KEYS {
        let certificate = token.certificate(label);
        let uri = token.uri(&format!("object={label};type=private"));
        let args = args!["sign", "--passphrase-env", "PIN", "--key", uri, files];
        token.imactl(args).exits(0);
        run(args!["verify", "--cert", certificate, files]).exits(0);
        let mut evmctl = tool("evmctl").unwrap();
        evmctl.args(["ima_verify", "-k"]).arg(&certificate).arg(files.join("07"));
        let verified = finish(&mut evmctl);
        let said = verified.stdout + &verified.stderr;
        assert!(said.contains("verification is OK"), "{label}: {said}");
    }
}

#[test]
fn an_rsa_signature_is_the_same_from_a_token_and_from_a_file() {
    let Some(token) = token() else { return };
    let key = token.path("imported.pem");
    openssl(args!["genrsa", "-out", key, "2048"]);
    let der = token.path("imported.der");
    openssl(args!["rsa", "-in", key, "-outform", "DER", "-traditional", "-out", der]);
    let text = der.to_str().unwrap();
    let import = ["--write-object", text, "--type", "privkey", "--label", "imported", "--id", "77"];
    token.tool(&import);
    let file = token.path("files/00");
    run(args!["sign", "--detached", "--key", key, file]).exits(0);
    let from_file = fs::read(file.with_extension("sig")).unwrap();
    // without a public key object, the public key is read from the private one
    token.sign(&token.uri("object=imported"), &[]).exits(0);
    assert_eq!(fs::read(file.with_extension("sig")).unwrap(), from_file);
}

#[test]
fn openssl_accepts_what_a_token_appends() {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    let content = fs::read(&file).unwrap();
    let plain = token.path("plain");
    fs::write(&plain, &content).unwrap();
    for (label, ..) in KEYS {
        let certificate = token.certificate(label);
        let (uri, hash) = (token.uri(&format!("object={label}")), "sha384");
        let options = args!["sign", "--appended", "--hash", hash, "--passphrase-env", "PIN"];
        let key = args!["--key", uri, "--cert", certificate, file];
        token.imactl(options.into_iter().chain(key)).exits(0);
        run(args!["verify", "--appended", "--cert", certificate, file]).exits(0);
        let bytes = fs::read(&file).unwrap();
        let message = bytes.strip_prefix(&*content).and_then(|rest| rest.strip_suffix(MARKER));
        let der = token.path("message");
        let message = message.unwrap();
        fs::write(&der, &message[..message.len() - 12]).unwrap();
        let pem = token.path("certificate.pem");
        openssl(args!["x509", "-inform", "DER", "-in", certificate, "-out", pem]);
        let cms = args!["cms", "-verify", "-binary", "-inform", "DER", "-noverify", "-nointern"];
        let input = args!["-certfile", pem, "-in", der, "-content", plain];
        openssl(cms.into_iter().chain(input));
    }
    // the signer has no name without a certificate
    let before = fs::read(&file).unwrap();
    let options = args!["sign", "--appended", "--passphrase-env", "PIN"];
    let nameless = args!["--key", token.uri("object=p-256"), file];
    let refused = token.imactl(options.into_iter().chain(nameless)).exits(2);
    assert!(refused.stderr.contains("give --cert FILE"), "{}", refused.stderr);
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn the_key_id_is_the_certificates() {
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    let uri = token.uri("object=p-256");
    let own = token.certificate_with("p-256", "01020304a1b2c3d4");
    token.sign(&uri, &[]).exits(0);
    let from_key = key_id(&file);
    token.sign(&uri, &["--keyid", "cafe0001"]).exits(0);
    assert_eq!(key_id(&file), "cafe0001");
    token.sign(&uri, &["--cert", own.to_str().unwrap()]).exits(0);
    assert_eq!(key_id(&file), "a1b2c3d4");
    assert_ne!(from_key, "a1b2c3d4");

    // another key's certificate is not used, neither if given nor with the same CKA_ID
    let other = token.certificate_with("p-384", "0badc0de");
    let refused = token.sign(&uri, &["--cert", other.to_str().unwrap()]).exits(2);
    assert!(refused.stderr.contains("--cert must certify --key"), "{}", refused.stderr);
    let put = |path: &Path, id: &str| {
        let path = path.to_str().unwrap();
        token.tool(&["--write-object", path, "--type", "cert", "--label", "cert", "--id", id]);
    };
    put(&other, "03");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(key_id(&file), from_key);
    // the key's own certificate is used, even with another CKA_ID
    put(&own, "99");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(key_id(&file), "a1b2c3d4");
    // if the CKA_ID identifies one of two, that one is used
    let renewed = token.certificate_with("p-256", "0102030455667788");
    put(&renewed, "98");
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("key ids: 55667788, a1b2c3d4"), "{}", refused.stderr);
    put(&renewed, "03");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(key_id(&file), "55667788");
}

#[test]
fn a_key_whose_public_half_is_not_on_the_token_needs_its_certificate() {
    let Some(token) = token() else { return };
    let certificate = token.certificate("p-256");
    let stranger = token.certificate("p-384");
    token.tool(&["--delete-object", "--type", "pubkey", "--label", "p-256"]);
    let uri = token.uri("object=p-256");
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("--cert"), "{}", refused.stderr);
    token.sign(&uri, &["--cert", certificate.to_str().unwrap()]).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
    // a wrong one is detected by the first signature
    let refused = token.sign(&uri, &["--cert", stranger.to_str().unwrap()]).exits(2);
    assert!(refused.stderr.contains("did not make a signature by this key"), "{}", refused.stderr);
    run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
}

#[test]
fn what_does_not_fit_is_told() {
    let Some(mut token) = token() else { return };
    let module = format!("?module-path={}", token.module.display());
    let refuses = |uri: &str, reasons: &[&str]| {
        let refused = token.sign(uri, &[]).exits(2);
        for reason in reasons {
            assert!(refused.stderr.contains(reason), "{uri}: {reason}:\n{}", refused.stderr);
        }
        assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    };
    refuses(&format!("pkcs11:token=Other{module}"), &["no such token", "token=Vault;serial="]);
    refuses(&format!("pkcs11:token=Vault{module}"), &["5 private keys fit", "object=rsa-3072"]);
    refuses(&format!("pkcs11:object=other{module}"), &["no such private key", "object=p-384"]);
    refuses(&format!("pkcs11:id=%09{module}"), &["no such private key", "id=%04"]);
    refuses(&format!("pkcs11:object=p-256;type=cert{module}"), &["type cert does not sign"]);
    refuses(&format!("pkcs11:library-version=99{module}"), &["no such token"]);
    refuses("pkcs11:token=Vault?module-path=/nonexistent.so", &["/nonexistent.so"]);
    refuses("pkcs11:token=Vault?module-path=libc.so.6", &["libc.so.6", "not a PKCS#11 module"]);
    refuses("pkcs11:token=Vault?module-name=nonexistent", &["libnonexistent.so"]);
    refuses("pkcs11:token=my token", &["offset 15", "%20"]);
    // without p11-kit there is no module unless one is named
    let broken = token.path("libraries");
    write_tree(&broken, &[("p11-kit-proxy.so", b"no library")]);
    token.environment.insert("LD_LIBRARY_PATH", broken.into());
    let refused = token.sign("pkcs11:token=Vault;object=p-256", &[]).exits(2);
    assert!(refused.stderr.contains("p11-kit was not found"), "{}", refused.stderr);
    assert!(refused.stderr.contains("module-path="), "{}", refused.stderr);
    token.environment.remove("LD_LIBRARY_PATH");
    // a second token with the same name
    let mut util = tool("softhsm2-util").unwrap();
    util.env("SOFTHSM2_CONF", token.path("softhsm2.conf"));
    util.args(["--init-token", "--free", "--label", "Vault", "--so-pin", "12345678"]);
    finish(util.args(["--pin", PIN])).exits(0);
    let uri = token.uri("object=p-256");
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("2 tokens fit"), "{}", refused.stderr);
    assert_eq!(token.signatures(), 0);
    // the serial number distinguishes them, whatever the module's name is
    let serial = original().map(|(directory, _)| serial_in(directory.path())).unwrap();
    let directory = token.module.parent().unwrap().display().to_string();
    let by_name =
        format!("pkcs11:serial={serial};object=p-256?module-path={directory}&module-name=softhsm2");
    token.sign(&by_name, &[]).exits(0);
    token.environment.insert("PKCS11_MODULE_PATH", token.module.clone().into());
    token.sign(&format!("pkcs11:serial={serial};id=%03"), &[]).exits(0);
}

/// The serial number of the only token in a SoftHSM directory.
fn serial_in(directory: &Path) -> String {
    let mut util = tool("softhsm2-util").unwrap();
    util.env("SOFTHSM2_CONF", directory.join("softhsm2.conf")).arg("--show-slots");
    let slots = finish(&mut util).exits(0).stdout;
    let lines = slots.lines().filter_map(|line| line.trim().strip_prefix("Serial number:"));
    lines.map(str::trim).find(|serial| !serial.is_empty()).unwrap().to_owned()
}

#[test]
fn p11_kit_knows_where_the_token_is() {
    let Some(token) = token() else { return };
    if !Path::new("/usr/share/p11-kit/modules/softhsm2.module").exists() {
        return missing("p11-kit does not know SoftHSM");
    }
    token.sign("pkcs11:token=Vault;object=p-256", &[]).exits(0);
}

#[test]
fn a_pin_comes_from_anywhere_but_the_command_line() {
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    let pin = token.path("pin");
    fs::write(&pin, format!("{PIN}\n")).unwrap();
    let uri = token.uri("object=p-256");
    let sign = |more: &[OsString], uri: &str| {
        let args = args!["sign", "--detached", "--key", uri, file];
        token.imactl(args.iter().chain(more).cloned())
    };
    sign(&args!["--passphrase-file", pin], &uri).exits(0);
    sign(&[], &format!("{uri}&pin-source=file:{}", pin.display())).exits(0);
    sign(&[], &format!("{uri}&pin-source={}", pin.display())).exits(0);
    // an option overrides the URI
    sign(&args!["--passphrase-file", pin], &format!("{uri}&pin-source=/nonexistent")).exits(0);
    let refused = sign(&[], &format!("{uri}&pin-source=/nonexistent")).exits(2);
    assert!(refused.stderr.contains("pin-source /nonexistent"), "{}", refused.stderr);
    let refused = sign(&[], &format!("{uri}&pin-value={PIN}")).exits(2);
    assert!(refused.stderr.contains("pin-source=file:"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(PIN), "{}", refused.stderr);
    // no terminal, no PIN
    let mut setsid = tool("setsid").expect("setsid");
    setsid.env("SOFTHSM2_CONF", token.path("softhsm2.conf"));
    setsid.arg("--wait").arg(imactl().get_program());
    let refused = finish(setsid.args(args!["sign", "--detached", "--key", uri, file])).exits(2);
    assert!(refused.stderr.contains("--passphrase-file"), "{}", refused.stderr);
}

#[test]
fn policies_are_signed_by_a_token_too() {
    let Some(token) = token() else { return };
    let (policy, certificate) = (token.path("policy"), token.certificate("rsa-2048"));
    fs::write(&policy, "appraise func=BPRM_CHECK appraise_type=imasig\n").unwrap();
    let uri = token.uri("object=rsa-2048");
    let args =
        args!["policy", "sign", "--detached", "--passphrase-env", "PIN", "--key", uri, policy];
    token.imactl(args).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, policy]).exits(0);
}

#[test]
fn a_tokens_key_is_certified_for_the_kernel() {
    let Some(token) = token() else { return };
    let authority = token.authority();
    let system = authority.join("system_trusted_keys/system_trusted_key.crt");
    for (label, ..) in KEYS {
        let certificate = token.certificate(label);
        let pem = token.path("certificate.pem");
        openssl(args!["x509", "-inform", "DER", "-in", certificate, "-out", pem]);
        openssl(args!["verify", "-x509_strict", "-CAfile", system, pem]);
        let checked = run(args!["keys", "check", "--json", certificate, system]).exits(0);
        let names = checked.json().iter().map(|line| line["name"].clone()).collect::<Vec<_>>();
        let expected = if label == "p-521" { vec!["newer-kernel"] } else { vec![] };
        assert_eq!(names, expected, "{label}");
    }
    let again = args!["keys", "certify", "--keys", authority, token.uri("object=p-256"), "-o"];
    let again = again.into_iter().chain([token.certificate("p-256").into()]);
    assert!(token.imactl(again).exits(2).stderr.contains(": exists"));
    // a bare public key, a request and a certificate work as well, and so does PEM
    let (key, request) = (token.path("rsa.key"), token.path("rsa.csr"));
    let subject = args!["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"];
    openssl(subject.into_iter().chain(args!["-keyout", key, "-out", request]));
    let to = token.path("certified.pem");
    for from in [&token.public_key("p-384"), &request, &token.certificate("p-384")] {
        run(args!["keys", "certify", "--keys", authority, from, "--output", to]).exits(0);
        openssl(args!["verify", "-x509_strict", "-CAfile", system, to]);
        fs::remove_file(&to).unwrap();
    }
    let refused = run(args!["keys", "certify", "--keys", authority, key, "-o", to]).exits(2);
    assert!(refused.stderr.contains("no public key"), "{}", refused.stderr);
    let der = token.path("rsa.der");
    openssl(args!["req", "-in", request, "-outform", "DER", "-out", der]);
    let mut tampered = fs::read(&der).unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    fs::write(&der, tampered).unwrap();
    let refused = run(args!["keys", "certify", "--keys", authority, der, "-o", to]).exits(2);
    assert!(refused.stderr.contains("not signed by its own key"), "{}", refused.stderr);
    assert!(!to.exists());
}

#[test]
fn what_is_on_a_token_is_shown() {
    let Some(token) = token() else { return };
    let certificate = token.certificate("p-256");
    let text = certificate.to_str().unwrap();
    token.tool(&["--write-object", text, "--type", "cert", "--label", "p-256", "--id", "03"]);
    token.tool(&["--delete-object", "--type", "pubkey", "--label", "p-384"]);
    let uri = format!("pkcs11:token=Vault?module-path={}", token.module.display());
    let args = args!["keys", "show", "--passphrase-env", "PIN", uri];
    let shown = token.imactl(args.iter().cloned().chain(args!["--json"])).exits(0);
    let lines = shown.json();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("key"), of("certificate")), (5, 1), "{}", shown.stdout);
    for line in lines.iter().filter(|line| line["type"] == "key") {
        let path = line["path"].as_str().unwrap();
        let expected = KEYS.iter().find(|(label, ..)| path.contains(&format!("object={label};")));
        let (label, id, _) = expected.unwrap();
        assert!(path.contains(&format!("id=%{id};type=private")), "{path}");
        let algorithm = Some(*label).filter(|label| *label != "p-384");
        assert_eq!(line["algorithm"].as_str(), algorithm);
    }
    let text = token.imactl(args).exits(0).stdout;
    assert!(text.contains("p-384") && text.contains("its public key was not found"), "{text}");
}

#[test]
fn packages_archives_and_images_are_signed_by_a_token() {
    let Some(mut token) = token() else { return };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_6.rpm");
    let (rpm, tar, image) = (token.path("p.rpm"), token.path("a.tar"), token.path("i.ext4"));
    fs::copy(package, &rpm).unwrap();
    let (Some(mut pack), Some(mut mke2fs)) = (tool("tar"), tool("mke2fs")) else { return };
    finish(pack.arg("-C").arg(token.path("files")).arg("-cf").arg(&tar).arg(".")).exits(0);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(token.path("files"));
    finish(mke2fs.arg(&image).arg("8M")).exits(0);
    for label in ["rsa-2048", "p-256"] {
        let certificate = token.certificate(label);
        for container in [&rpm, &tar, &image] {
            let uri = token.uri(&format!("object={label}"));
            let args = args!["sign", "--passphrase-env", "PIN", "--key", uri, container];
            token.imactl(args).exits(0);
            run(args!["verify", "--cert", certificate, container]).exits(0);
        }
    }
    // a token that disappears during the run: an error, and existing files stay
    token.behaves(&[("SHIM_REMOVED_AFTER", "1")]);
    for container in [&rpm, &tar, &image] {
        let before = fs::read(container).unwrap();
        let uri = token.uri("object=p-256");
        let args = args!["sign", "--passphrase-env", "PIN", "--key", uri, container];
        let signed = token.imactl(args).exits(2);
        let told = signed.stderr.contains("CKR_DEVICE_REMOVED");
        assert!(told, "{}: {}", container.display(), signed.stderr);
        assert!(fs::read(container).unwrap() == before);
    }
}
