//! imactl as evmctl on metadata: HMACs, and directories themselves, compared with OpenSSL, with the installed
//! evmctl, and with the one in `IMA_EVM_UTILS_DIR`, which makes HMACs if it is built with `--enable-debug`.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{setxattr, XattrFlags};

use crate::evmctl::link;
use crate::support::*;

const UUID: &str = "28b23254-9467-44c0-b6ba-34b12e85a26f";
/// `cap_net_raw+ep` (`struct vfs_cap_data`)
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// In the order in which EVM covers them, and whether that needs `--smack`.
const ATTRIBUTES: &[(&str, &[u8], bool)] = &[
    ("security.SMACK64", b"_", false),
    ("security.SMACK64EXEC", b"System", true),
    ("security.SMACK64TRANSMUTE", b"TRUE", true),
    ("security.ima", &[1; 21], false),
    ("security.capability", CAPABILITY, false),
];

/// The evmctl that was built in `IMA_EVM_UTILS_DIR`.
pub(crate) fn built_evmctl() -> Option<PathBuf> {
    let built = Path::new(&std::env::var_os("IMA_EVM_UTILS_DIR")?).join("src/evmctl");
    built.is_file().then_some(built)
}

/// Whether an evmctl has the command `hmac`.
fn has_hmac(evmctl: &Path) -> bool {
    finish(Command::new(evmctl).arg("hmac")).stdout.contains("hmackey")
}

/// Makes files and directories with all these attributes.
fn with_attributes(directory: &Path) -> [PathBuf; 2] {
    let paths = ["file", "directory"].map(|name| directory.join(name));
    fs::write(&paths[0], "content").unwrap();
    fs::create_dir(&paths[1]).unwrap();
    fs::write(paths[1].join("file"), "content").unwrap();
    for path in &paths {
        for (name, value, _) in ATTRIBUTES {
            setxattr(path, *name, value, XattrFlags::empty()).unwrap();
        }
    }
    paths
}

/// What EVM makes an HMAC of (`evm_calc_hmac_or_hash`): values, then fields of the inode, then the UUID.
fn covered(path: &Path, smack: bool, bits: u32, generation: u32) -> Vec<u8> {
    let values = ATTRIBUTES.iter().filter(|(.., more)| smack || !more);
    let mut covered: Vec<u8> =
        values.filter_map(|(name, ..)| attribute(path, name)).flatten().collect();
    let metadata = path.metadata().unwrap();
    match bits {
        32 => covered.extend((metadata.ino() as u32).to_ne_bytes()),
        _ => covered.extend(metadata.ino().to_ne_bytes()),
    }
    for field in [generation, metadata.uid(), metadata.gid()] {
        covered.extend(field.to_ne_bytes());
    }
    covered.extend((metadata.mode() as u16).to_ne_bytes());
    covered.extend([0, 0]);
    let digits = UUID.replace('-', "");
    covered.extend((0..16).map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap()));
    covered
}

/// The generation of an inode, as lsattr reads it.
fn generation(path: &Path) -> Option<u32> {
    let shown = finish(tool("lsattr")?.arg("-dv").arg(path)).stdout;
    shown.split_whitespace().next()?.parse().ok()
}

/// HMAC-SHA-1 by OpenSSL's program.
fn openssl_hmac(key: &[u8], message: &Path) -> String {
    // the kernel's key has 128 bytes, the rest of them zero
    let key: String = (0..128).map(|at| format!("{:02x}", key.get(at).unwrap_or(&0))).collect();
    let mut openssl = tool("openssl").unwrap();
    openssl.args(["dgst", "-sha1", "-mac", "hmac", "-macopt", &format!("hexkey:{key}")]);
    let printed = finish(openssl.arg(message)).exits(0).stdout;
    printed.trim().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn hmacs_are_those_of_openssl_and_evmctl() {
    let directory = directory();
    let Some(_) = tool("openssl") else { return };
    if !security_attributes(directory.path()) {
        return;
    }
    let (key, message) = (directory.path().join("key"), directory.path().join("message"));
    let ours = link(directory.path());
    let theirs = built_evmctl().filter(|evmctl| has_hmac(evmctl));
    if theirs.is_none() {
        eprintln!("SKIPPED: no evmctl with hmac in IMA_EVM_UTILS_DIR");
    }
    let uuid = format!("--uuid={UUID}");
    let run = |program: &Path, args: &[&str], path: &Path| {
        let mut command = Command::new(program);
        command.args(["hmac", "-v", &uuid, "--hmackey"]).arg(&key).args(args).arg(path);
        finish(&mut command)
    };
    for path in with_attributes(directory.path()) {
        let Some(generation) = generation(&path) else {
            return missing("a file system with generations of inodes");
        };
        for (args, smack, bits) in [
            (&["-n"][..], false, 64),
            (&["-n", "--smack"], true, 64),
            (&["-n", "--m32"], false, 32),
            (&["-a", "sha256", "--m64", "--smack"], true, 64),
        ] {
            for length in [32, 64, 65, 128] {
                let bytes: Vec<u8> = (1..=length).collect();
                fs::write(&key, &bytes).unwrap();
                fs::write(&message, covered(&path, smack, bits, generation)).unwrap();
                let hmac = openssl_hmac(&bytes, &message);
                for program in [&ours].into_iter().chain(&theirs) {
                    let made = run(program, args, &path).exits(0);
                    let shown = format!("{}{}", made.stdout, made.stderr);
                    let line = format!("hmac: {hmac}");
                    assert!(shown.lines().any(|it| it == line), "{program:?} {args:?}: {made:?}");
                    let written = attribute(&path, "security.evm");
                    let written =
                        written.map(|it| it.iter().map(|it| format!("{it:02x}")).collect());
                    let expected = (args[0] != "-n").then(|| format!("02{hmac}"));
                    assert_eq!(written, expected, "{program:?} {args:?}");
                    let _ = rustix::fs::removexattr(&path, "security.evm");
                }
            }
        }
    }
    // with the content's signature or digest, which it covers
    let keys = store(directory.path(), "rsa-2048");
    let signing_key = keys.join("ima_keys/x509_ima.key").display().to_string();
    fs::write(&key, [1; 32]).unwrap();
    let file = directory.path().join("file");
    for args in [&["--imasig", "-k", &signing_key][..], &["--imahash"]] {
        let values = [&ours].into_iter().chain(&theirs).map(|program| {
            run(program, &[args, &["-a", "sha256"]].concat(), &file).exits(0);
            ["security.ima", "security.evm"].map(|name| attribute(&file, name).unwrap())
        });
        let values: Vec<_> = values.collect();
        let kind = if args.len() > 1 { 3 } else { 4 };
        assert_eq!((values[0][0][0], values[0][1][0]), (kind, 2));
        assert!(values.iter().all(|value| *value == values[0]), "{args:?}");
    }
    // a key that is longer than the kernel's
    fs::write(&key, [1; 129]).unwrap();
    assert_ne!(run(&ours, &["-n"], &directory.path().join("file")).code, Some(0));
    // a directory has no content
    fs::write(&key, [1; 32]).unwrap();
    let refused = run(&ours, &["--imahash"], &directory.path().join("directory")).exits(125);
    assert!(refused.stderr.contains("a directory"), "{refused:?}");
}

#[test]
fn directories_are_signed_themselves_as_evmctl_signs_them() {
    let directory = directory();
    let Some(_) = tool("evmctl") else { return };
    if !security_attributes(directory.path()) {
        return;
    }
    let keys = store(directory.path(), "rsa-2048");
    let [key, certificate] =
        ["key", "der"].map(|it| keys.join("evm_keys/x509_evm").with_extension(it));
    let ours = link(directory.path());
    let [_, signed] = with_attributes(directory.path());
    let below = signed.join("file");
    setxattr(&below, "security.evm", b"kept", XattrFlags::empty()).unwrap();
    let run = |program: &Path, args: &[&str], key: &Path, path: &Path| {
        let mut command = Command::new(program);
        finish(command.args(args).arg("--key").arg(key).arg(path)).code
    };
    let programs = [PathBuf::from("evmctl")].into_iter().chain(built_evmctl());
    for theirs in programs {
        for args in [
            &["-a", "sha256", "--portable"][..],
            &["-a", "sha512", "--portable", "--m32", "--uid", "1000", "--mode", "16877"],
            // evmctl takes 0 for the generation of a directory, in signatures
            &["-a", "sha256", "--uuid=28b23254-9467-44c0-b6ba-34b12e85a26f", "--generation", "0"],
        ] {
            let [sign, verify] = ["sign", "verify"].map(|it| [&[it], args].concat());
            // the attributes that evmctl leaves out of its portable signatures
            let [sign, verify] = [sign, verify].map(|it| [&it[..], &["--smack"]].concat());
            let mut values = Vec::new();
            for (maker, verifier) in [(&ours, &theirs), (&theirs, &ours)] {
                assert_eq!(run(maker, &sign, &key, &signed), Some(0), "{maker:?} {sign:?}");
                for verifier in [verifier, &ours] {
                    let code = run(verifier, &verify, &certificate, &signed);
                    assert_eq!(code, Some(0), "{verifier:?} {verify:?}");
                }
                values.push(attribute(&signed, "security.evm").unwrap());
                let label = setxattr(&signed, "security.SMACK64", b"^", XattrFlags::empty());
                label.unwrap();
                for verifier in [verifier, &ours] {
                    assert_ne!(run(verifier, &verify, &certificate, &signed), Some(0));
                }
                setxattr(&signed, "security.SMACK64", b"_", XattrFlags::empty()).unwrap();
            }
            assert_eq!(values[0], values[1], "{args:?}");
        }
    }
    // not the files in it, and with -r these alone
    assert_eq!(attribute(&below, "security.evm").unwrap(), b"kept");
    let before = attribute(&signed, "security.evm");
    let all = ["sign", "-r", "--portable", "--imahash"];
    assert_eq!(run(&ours, &all, &key, &signed), Some(0));
    assert_eq!(attribute(&below, "security.evm").unwrap()[0], 5);
    assert_eq!(attribute(&signed, "security.evm"), before);
    finish(Command::new(&ours).arg("ima_clear").arg(&signed)).exits(0);
    assert_eq!(attribute(&signed, "security.evm"), None);
    assert!(attribute(&below, "security.evm").is_some());
    // a portable signature covers security.ima, which a directory does not have by itself
    assert_eq!(run(&ours, &["sign", "--portable"], &key, &signed), Some(1));

    let (pipe, links) = (directory.path().join("pipe"), directory.path().join("link"));
    let Some(mut mkfifo) = tool("mkfifo") else { return };
    finish(mkfifo.arg(&pipe)).exits(0);
    symlink(&signed, &links).unwrap();
    for refused in [&pipe, &links] {
        assert_eq!(run(&ours, &["sign", "--generation", "0"], &key, refused), Some(1));
    }
}
