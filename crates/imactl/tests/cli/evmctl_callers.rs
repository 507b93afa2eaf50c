//! Programs that call evmctl: the command lines of distributions' scripts, image classes and tests, with imactl as
//! evmctl.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::evmctl::link;
use crate::evmctl_metadata::built_evmctl;
use crate::evmctl_scripts::Scripts;
use crate::support::*;

/// openSUSE's tests (`tests/security/ima/{ima,evm}_verify.pm`) match the message for a file without the
/// attribute, and that labelling prints nothing.
#[test]
fn a_missing_attribute_is_reported_as_evmctl_reports_it() {
    let directory = directory();
    let Some(_) = tool("evmctl") else { return };
    let keys = store(directory.path(), "rsa-2048");
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    let ours = link(directory.path());
    let expected = format!("getxattr failed: {}\nerrno: No data available (61)\n", file.display());
    for command in ["ima_verify", "verify"] {
        let theirs = [PathBuf::from("evmctl")].into_iter().chain(built_evmctl());
        for program in theirs.chain([ours.clone()]) {
            let mut evmctl = Command::new(&program);
            evmctl.args([command, "-k"]).arg(keys.join("ima_keys/x509_ima.der"));
            let run = finish(evmctl.arg(&file));
            assert_ne!(run.code, Some(0), "{program:?}");
            let shown = format!("{}{}", run.stdout, run.stderr);
            assert!(shown.ends_with(&expected), "{program:?} {command}: {shown}");
        }
    }
    let key = keys.join("ima_keys/x509_ima.key");
    for command in [&["ima_hash"][..], &["ima_sign", "-k", key.to_str().unwrap()]] {
        let mut evmctl = Command::new(&ours);
        evmctl.args(["-a", "sha256"]).args(command).arg("--xattr-user").arg(&file);
        let run = finish(&mut evmctl).exits(0);
        assert_eq!((&*run.stdout, &*run.stderr), ("", ""), "{command:?}");
    }
}

/// The loop of `ima-add-sigs` over `rpm -q --queryformat '[%{FILENAMES}|%{FILESIGNATURES}\n]'`: a signature that
/// does not verify is removed again.
#[test]
fn signatures_from_the_package_database_are_kept_if_they_verify() {
    let Some(scripts) = Scripts::privileged(&["setfattr", "getfattr", "bash"], "p-256") else {
        return;
    };
    let said = scripts.run(
        r#"
        mkdir root; cert=$keys/ima_keys/x509_ima.der
        for file in good changed plain; do echo $file > root/$file; done
        for file in good changed; do
            echo "root/$file|$(evmctl ima_sign -n --key "$keys/ima_keys/x509_ima.key" root/$file)"
        done > database
        echo "root/plain|" >> database
        echo more >> root/changed
        export cert
        bash -ec '
            while IFS="|" read -r path sig; do
                if [[ "$sig" != "0"* || ! -f "$path" ]]; then continue; fi
                setfattr -n security.ima "$path" -v "0x$sig"
                if ! evmctl ima_verify -k "$cert" "$path" &>/dev/null; then
                    setfattr -x security.ima "$path"
                fi
            done < database
        '
        for file in good changed plain; do
            echo $file $(getfattr -m security.ima -d -e hex root/$file | grep -c security.ima=0x0302)
        done
        "#,
    );
    assert_eq!(said.exits(0).stdout, "good 1\nchanged 0\nplain 0\n");
}

/// meta-security's and OpenBMC's image classes, and older ones that pass the files by xargs. The word size is that
/// of the root's libc.
#[test]
fn image_classes_sign_for_the_word_size_of_the_root() {
    let Some(scripts) = Scripts::privileged(&["getfattr", "setfattr", "xargs"], "rsa-2048") else {
        return;
    };
    let said = scripts.run(
        r#"
        mkdir -p "rootfs/lib" "rootfs/a dir"
        for file in lib/libc.so.6 "a dir/a file" other; do echo $file > "rootfs/$file"; done
        IMA_EVM_PRIVKEY=$keys/ima_keys/x509_ima.key IMA_EVM_X509=$keys/ima_keys/x509_ima.der
        IMA_EVM_PRIVKEY_KEYID_OPT="--keyid-from-cert $keys/ima_keys/x509_ima.crt"
        IMAGE_ROOTFS=$PWD/rootfs
        export EVMCTL_KEY_PASSWORD=
        for evmctl_param in --m32 ""; do
            evmctl sign --imasig ${evmctl_param} --portable -a sha256 \
                --key "${IMA_EVM_PRIVKEY}" ${IMA_EVM_PRIVKEY_KEYID_OPT} -r "${IMAGE_ROOTFS}"
            evmctl ima_verify ${evmctl_param} --key "${IMA_EVM_X509}" "${IMAGE_ROOTFS}/lib/libc.so.6" || exit 1
            evmctl verify     ${evmctl_param} --key "${IMA_EVM_X509}" "${IMAGE_ROOTFS}/lib/libc.so.6" || exit 1
            getfattr -n security.evm -e hex --only-values "rootfs/a dir/a file" | sha256sum
        done > sums
        uniq sums | wc -l
        ! evmctl verify --m32 --key "${IMA_EVM_X509}" "${IMAGE_ROOTFS}/lib/libc.so.6" || exit 1

        find rootfs -type f -exec setfattr -x security.ima '{}' \; -exec setfattr -x security.evm '{}' \;
        cd rootfs
        find . -type f | xargs -d "\n" --no-run-if-empty --verbose evmctl ima_sign --key ${IMA_EVM_PRIVKEY}
        find . -type f -exec getfattr -m security.ima -d -e hex '{}' + | grep -c security.ima=0x0302
        find . -name other | xargs -d "\n" --max-args=1 --no-run-if-empty --verbose evmctl ima_hash
        find . -type f -exec getfattr -m security.ima -d -e hex '{}' + | grep -c security.ima=0x0302
        evmctl sign -r --imasig --hashalgo sha256 --key ${IMA_EVM_PRIVKEY} ${IMAGE_ROOTFS}/
        find . -type f -exec getfattr -m security.evm -d -e hex '{}' + | grep -c security.evm=0x0302
        "#,
    );
    assert_eq!(said.exits(0).stdout, "2\n3\n2\n3\n");
}

/// As ostree's extension runs it on a temporary file, from which it takes `user.ima`: by its bare name, in its
/// directory.
#[test]
fn ostree_signs_a_temporary_file() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-2048");
    let (ours, work) = (link(directory.path()), directory.path().join("work"));
    fs::create_dir(&work).unwrap();
    fs::write(work.join(".tmpA1b2C3"), "object").unwrap();
    let mut evmctl = Command::new(&ours);
    evmctl.current_dir(&work).stdout(Stdio::null()).stderr(Stdio::piped());
    evmctl.args(["ima_sign", "--xattr-user", "--key"]).arg(keys.join("ima_keys/x509_ima.key"));
    evmctl.args(["--hashalgo", "sha256"]).arg(".tmpA1b2C3");
    assert!(evmctl.output().unwrap().status.success());
    let value = attribute(&work.join(".tmpA1b2C3"), "user.ima").unwrap();
    assert_eq!((value[..3].to_vec(), value.len()), (vec![3, 2, 4], 9 + 256));
    assert_eq!(names(&work), [".tmpA1b2C3"]);
}

/// Scripts label files and directories one by one, with a key in a file.
#[test]
fn trees_are_labelled_with_hmacs() {
    let Some(scripts) = Scripts::privileged(&[], "p-256") else { return };
    let said = scripts.run(
        r#"
        mkdir -p root/sub; echo a > root/a; echo b > root/sub/b
        head -c 32 /dev/urandom > evm-key-plain
        uuid=28b23254-9467-44c0-b6ba-34b12e85a26f
        find root \( -type f -o -type d \) -exec evmctl hmac --imahash -v --hmackey evm-key-plain --uuid=$uuid '{}' \; \
            > out 2>&1 || true
        grep -c '^hmac: ' out
        evmctl hmac --uuid=$uuid -a sha1 -v --hmackey evm-key-plain root/a 2>&1 | grep -c '^hmac: '
        "#,
    );
    assert_eq!(said.exits(0).stdout, "2\n1\n");
    for file in ["root/a", "root/sub/b"] {
        let value = attribute(&scripts.path().join(file), "security.evm").unwrap();
        assert_eq!((value[0], value.len()), (2, 21));
    }
}

/// evmctl changes `security.ima` below a `security.evm`, too; only imactl says so.
#[test]
fn a_security_evm_that_no_longer_fits_is_reported() {
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    let keys = store(directory.path(), "p-256");
    let (file, key) = (directory.path().join("file"), keys.join("ima_keys/x509_ima.key"));
    let ours = link(directory.path());
    let run = |command: &[&str]| {
        let mut evmctl = Command::new(&ours);
        evmctl.args(command).arg("-k").arg(&key).arg(&file);
        finish(&mut evmctl).exits(0)
    };
    fs::write(&file, "content").unwrap();
    assert_eq!(run(&["sign", "--imasig", "--portable", "-a", "sha256"]).stderr, "");
    let evm = attribute(&file, "security.evm");
    assert_eq!(run(&["ima_sign", "-n", "-a", "sha512"]).stderr, "");
    let warning = format!("warning: {}: security.evm covers the old security.ima", file.display());
    for command in [&["ima_sign", "-a", "sha512"][..], &["ima_hash", "-a", "sha256"]] {
        let run = run(command);
        assert!(run.stderr.starts_with(&warning) && run.stdout.is_empty(), "{run:?}");
        assert_eq!(attribute(&file, "security.evm"), evm);
    }
    fs::write(directory.path().join("file.sig"), [3, 2, 4]).unwrap();
    assert!(run(&["ima_setxattr"]).stderr.starts_with(&warning));
}

/// On a file system without a device, and without generations.
#[test]
fn a_uuid_that_is_not_found_is_reported_as_evmctl_reports_it() {
    let directory = directory();
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let (keys, file) = (store(directory.path(), "p-256"), memory.path().join("file"));
    fs::write(&file, "content").unwrap();
    let key = keys.join("ima_keys/x509_ima.key");
    for program in [link(directory.path())].into_iter().chain(built_evmctl()) {
        let mut evmctl = Command::new(&program);
        evmctl.args(["sign", "-a", "sha256", "--generation", "1", "--ino", "1", "-k"]);
        let run = finish(evmctl.arg(&key).arg(&file));
        assert_ne!(run.code, Some(0), "{program:?}");
        let words = "Failed to read UUID. Root access might require.\n";
        assert!(run.stderr.contains(words), "{program:?}: {run:?}");
    }
}
