//! imactl as evmctl in scripts of distributions: their options, the messages that they match, and the exit
//! statuses that they branch on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::evmctl::link;
use crate::support::*;

/// The options of evmctl 1.6.2: the short name, the long name, and whether it has a value (`opts` and the
/// letters for `getopt_long` in its source).
const OPTIONS: &[(&str, &str, &str)] = &[
    ("h", "help", ""),
    ("v", "", ""),
    ("n", "", ""),
    ("s", "imasig", ""),
    ("d", "imahash", ""),
    ("a", "hashalgo", "needed"),
    ("o", "portable", ""),
    ("p", "pass", "optional"),
    ("f", "sigfile", ""),
    ("u", "uuid", "optional"),
    ("k", "key", "needed"),
    ("t", "type", "needed"),
    ("r", "recursive", ""),
    ("i", "", ""),
    ("", "rsa", ""),
    ("", "m32", ""),
    ("", "m64", ""),
    ("", "smack", ""),
    ("", "version", ""),
    ("", "inode", "needed"),
    ("", "uid", "needed"),
    ("", "gid", "needed"),
    ("", "mode", "needed"),
    ("", "generation", "needed"),
    ("", "ima", "needed"),
    ("", "selinux", "needed"),
    ("", "caps", "optional"),
    ("", "verify-sig", ""),
    ("", "engine", "needed"),
    ("", "xattr-user", ""),
    ("", "ignore-violations", ""),
    ("", "pcrs", "needed"),
    ("", "verify-bank", "needed"),
    ("", "keyid", "needed"),
    ("", "keyid-from-cert", "needed"),
    ("", "veritysig", ""),
    ("", "hwtpm", ""),
    ("", "hmackey", "needed"),
    ("", "provider", "needed"),
    // newer than 1.6.2
    ("", "v2", ""),
    ("", "v3", ""),
];

#[test]
fn options_are_those_of_evmctl() {
    let help = |args: &[&str]| finish(imactl().arg("evmctl").args(args)).code;
    let text = finish(imactl().args(["evmctl", "--help"])).exits(0).stdout;
    for (short, long, value) in OPTIONS {
        let (short, long) = (format!("-{short}"), format!("--{long}"));
        for option in
            [&*short, &*long].into_iter().filter(|option| !option.trim_matches('-').is_empty())
        {
            let attached = match option.starts_with("--") {
                true => format!("{option}=x"),
                false => format!("{option}x"),
            };
            assert!(text.contains(option), "evmctl --help does not list {option}");
            match *value {
                "" => assert_eq!(help(&["help", option]), Some(0), "{option}"),
                "needed" => {
                    assert_eq!(help(&["help", option, "x"]), Some(0), "{option}");
                    assert_eq!(help(&["help", &attached]), Some(0), "{option}");
                    assert_eq!(help(&["help", option]), Some(125), "{option}");
                }
                _ => {
                    assert_eq!(help(&["help", option]), Some(0), "{option}");
                    assert_eq!(help(&["help", &attached]), Some(0), "{option}");
                }
            }
        }
    }
    // the installed one has no other options
    let Some(mut evmctl) = tool("evmctl") else { return };
    let theirs = finish(evmctl.arg("--help"));
    let theirs = format!("{}{}", theirs.stdout, theirs.stderr);
    let words = theirs.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let named: Vec<_> = words.filter_map(|word| word.strip_prefix("--")).collect();
    assert!(named.contains(&"keyid-from-cert"), "{named:?}");
    for name in named {
        // an abbreviation, as getopt_long accepts it
        let is_known = OPTIONS.iter().any(|(_, long, _)| *long == name) || name == "ino";
        assert!(is_known, "evmctl has --{name}");
    }
}

/// The option table in evmctl's source, if that is available.
#[test]
fn the_source_of_evmctl_has_no_further_options() {
    let Some(peer) = std::env::var_os("IMA_EVM_UTILS_DIR").map(PathBuf::from) else {
        eprintln!("SKIPPED: IMA_EVM_UTILS_DIR does not name the sources of ima-evm-utils");
        return;
    };
    let source = fs::read_to_string(peer.join("src/evmctl.c")).unwrap();
    let table = source.split_once("static struct option opts[] = {").unwrap().1;
    let table = table.split_once("\n};").unwrap().0;
    let rows: Vec<_> =
        table.lines().filter_map(|line| line.split_once("{\"")?.1.split_once('"')).collect();
    assert!(rows.len() > 30, "{rows:?}");
    for (name, rest) in rows {
        let row = OPTIONS.iter().find(|(_, long, _)| *long == name);
        let (_, _, value) = row.unwrap_or_else(|| panic!("evmctl has --{name}"));
        let theirs = rest.trim_start_matches([',', ' ']).chars().next();
        let ours = match *value {
            "" => '0',
            "needed" => '1',
            _ => '2',
        };
        // evmctl's help shows a value, but its parser does not accept one
        assert!(theirs == Some(ours) || name == "verify-bank", "--{name}: {theirs:?}");
    }
    let letters = source.split_once("getopt_long(argc, argv, \"").unwrap().1;
    let letters = letters.split_once('"').unwrap().0;
    for letter in letters.chars().filter(|letter| *letter != ':') {
        assert!(OPTIONS.iter().any(|(short, ..)| *short == letter.to_string()), "-{letter}");
    }
    let commands = source.split_once("struct command cmds[] = {").unwrap().1;
    let commands = commands.split_once("\n};").unwrap().0;
    let text = finish(imactl().args(["evmctl", "help"])).exits(0).stdout;
    for (name, _) in commands.lines().filter_map(|line| line.split_once("{\"")?.1.split_once('"')) {
        assert!(text.contains(name), "evmctl has the command {name}");
    }
}

/// A directory with a link called evmctl and a key store, for scripts.
pub(crate) struct Scripts {
    directory: tempfile::TempDir,
    pub(crate) keys: PathBuf,
}

impl Scripts {
    /// `None` if a program that the scripts need is not installed.
    pub(crate) fn new(programs: &[&str], algorithm: &str) -> Option<Self> {
        programs.iter().all(|name| tool(name).is_some()).then(|| {
            let directory = directory();
            let keys = store(directory.path(), algorithm);
            link(directory.path());
            Self { directory, keys }
        })
    }

    /// As [`Self::new`]; `None` also if `security.ima` cannot be set.
    pub(crate) fn privileged(programs: &[&str], algorithm: &str) -> Option<Self> {
        Self::new(programs, algorithm).filter(|it| security_attributes(it.path()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a script; `$keys` is the store.
    pub(crate) fn run(&self, text: &str) -> Run {
        script(self.path(), &self.keys, text)
    }
}

/// Runs a script in a directory, which is in its path; `$keys` is a store.
pub(crate) fn script(directory: &Path, keys: &Path, text: &str) -> Run {
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", text]).env("PATH", path).env("keys", keys).current_dir(directory);
    finish(&mut shell)
}

#[test]
fn version_1_is_evmctls() {
    let directory = directory();
    let Some(_) = tool("evmctl") else { return };
    let (keys, ours) = (store(directory.path(), "rsa-2048"), link(directory.path()));
    let key = keys.join("ima_keys/x509_ima.key");
    let [public, other] = ["public.pem", "other.pem"].map(|name| directory.path().join(name));
    for (key, public) in [(&key, &public), (&keys.join("evm_keys/x509_evm.key"), &other)] {
        let mut openssl = tool("openssl").unwrap();
        finish(openssl.args(["pkey", "-pubout", "-in"]).arg(key).arg("-out").arg(public)).exits(0);
    }
    let file = directory.path().join("file");
    let theirs = Path::new("evmctl");
    let run = |program: &Path, args: &[&str], key: &Path| {
        let mut command = Command::new(program);
        command.env("SOURCE_DATE_EPOCH", "1700000000").args(args).args(["--rsa", "--key"]);
        finish(command.arg(key).arg(&file)).code
    };
    let user = ["--xattr-user"];
    let has_security = security_attributes(directory.path());
    for (maker, verifier) in [(&*ours, theirs), (theirs, &*ours), (&*ours, &*ours)] {
        fs::write(&file, "content").unwrap();
        for algorithm in ["sha1", "sha256"] {
            assert_eq!(run(maker, &["ima_sign", "-a", algorithm, user[0]], &key), Some(0));
            assert_eq!(run(verifier, &["ima_verify", user[0]], &public), Some(0), "{algorithm}");
            assert_ne!(run(verifier, &["ima_verify", user[0]], &other), Some(0), "{algorithm}");
        }
        if has_security {
            let [sign, verify] =
                ["sign", "verify"].map(|it| [it, "--uuid", "--generation", "0", "-a", "sha1"]);
            assert_eq!(run(maker, &sign, &key), Some(0));
            assert_eq!(run(verifier, &verify, &public), Some(0));
            assert_ne!(run(&ours, &verify, &other), Some(0));
            fs::set_permissions(&file, PermissionsExt::from_mode(0o604)).unwrap();
            assert_ne!(run(&ours, &verify, &public), Some(0));
            fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        }
        fs::write(&file, "changed").unwrap();
        assert_ne!(run(&ours, &["ima_verify", user[0]], &public), Some(0));
    }
    if has_security {
        let mut sign = Command::new(&ours);
        sign.args(["sign", "--portable", "--rsa", "--imahash", "--key"]).arg(&key).arg(&file);
        assert!(finish(&mut sign).exits(0).stderr.contains("no kernel verifies"));
    }
    // in a header of 16 bytes: the time, RSA, SHA-256; one integer of 2048 bits
    assert_eq!(run(&ours, &["ima_sign", "-a", "sha256", user[0]], &key), Some(0));
    let value = attribute(&file, "user.ima").unwrap();
    assert_eq!(value[..8], [&[3, 1][..], &1_700_000_000_u32.to_ne_bytes(), &[0, 1]].concat());
    assert_eq!((value.len(), &value[16..19]), (19 + 256, &[1, 8, 0][..]));
    assert_eq!(run(&ours, &["ima_sign", "-a", "sha512", user[0]], &key), Some(1));

    // the keys with which kernels verify them
    let converted = |program: &Path| {
        finish(Command::new(program).args(["convert", "--rsa"]).arg(&public)).exits(0);
        ["bin", "keyid"].map(|end| fs::read(format!("{}.{end}", public.display())).unwrap())
    };
    assert_eq!(converted(&ours), converted(theirs));
}

/// The commands of `rpm-plugin-ima` users after an upgrade: write the attribute from the package, and verify
/// it.
#[test]
fn attributes_that_setfattr_sets_are_verified() {
    let Some(scripts) = Scripts::privileged(&["setfattr", "getfattr"], "rsa-2048") else { return };
    let said = scripts.run(
        r#"
        mkdir root; echo good > root/good; echo bad > root/bad; echo plain > root/plain
        evmctl ima_sign --key "$keys/ima_keys/x509_ima.key" root/good
        value=$(getfattr -n security.ima -e hex --absolute-names root/good | sed -n 's/^security.ima=//p')
        for file in good bad; do setfattr -n security.ima root/$file -v "$value"; done
        find root -type f | sort | while read -r file; do
            if getfattr -m security.ima -d -e hex "$file" 2>/dev/null | grep -qs security.ima=0x03 &&
                ! evmctl ima_verify -k "$keys/ima_keys/x509_ima.der" "$file" 2>/dev/null; then
                echo "failed: $file"
            fi
        done
        evmctl ima_verify -a sha256 -v -k "$keys/ima_keys/x509_ima.der" root/good 2>&1 | grep 'verification is OK'
        "#,
    );
    assert_eq!(said.exits(0).stdout, "failed: root/bad\nroot/good: verification is OK\n");
}

/// An image is signed by a step after its recipes, and a failure of any step must fail the build.
#[test]
fn a_root_is_signed_as_image_classes_do() {
    let Some(scripts) = Scripts::privileged(&["getfattr"], "p-256") else { return };
    for content in ["--imasig", "--imahash"] {
        let text = r#"
            rm -rf rootfs; mkdir -p rootfs/lib rootfs/etc/ima; ln -s libc.so.6 rootfs/lib/libc.so
            for file in lib/libc.so.6 etc/passwd etc/ima/ima-policy; do echo $file > rootfs/$file; done
            export EVMCTL_KEY_PASSWORD=
            set -- --portable -a sha256 --key "$keys/ima_keys/x509_ima.key" \
                --keyid-from-cert "$keys/ima_keys/x509_ima.crt"
            evmctl sign CONTENT "$@" -r rootfs
            [ CONTENT = --imahash ] || evmctl ima_verify --key "$keys/ima_keys/x509_ima.der" rootfs/lib/libc.so.6
            evmctl verify --key "$keys/ima_keys/x509_ima.der" rootfs/lib/libc.so.6
            evmctl sign --imasig "$@" rootfs/etc/ima/ima-policy
            find rootfs -type f -exec getfattr -m security.ima -e hex --dump {} + | grep -c '^security.ima=0x0'
            chmod 755 rootfs/lib/libc.so.6
            ! evmctl verify --key "$keys/ima_keys/x509_ima.der" rootfs/lib/libc.so.6
        "#;
        let said = scripts.run(&text.replace("CONTENT", content));
        assert_eq!(said.exits(0).stdout, "3\n", "{content}");
    }
}

/// ostree's ima-sign: on a copy, in `user.ima`, which becomes `security.ima` in the repository. Users who cannot
/// set attributes use the detached signature.
#[test]
fn signatures_are_made_without_privileges() {
    let Some(scripts) = Scripts::new(&["getfattr"], "rsa-2048") else { return };
    let said = scripts.run(
        r#"
        echo object > .tmpfile
        evmctl ima_sign --xattr-user --key "$keys/ima_keys/x509_ima.key" --hashalgo sha256 ./.tmpfile >/dev/null
        getfattr -n user.ima -e hex .tmpfile | grep -o '^user.ima=0x030204'
        mkdir -m 777 open; echo file > open/file
        "#,
    );
    assert_eq!(said.exits(0).stdout, "user.ima=0x030204\n");
    if rustix::process::geteuid().is_root() {
        let Some(mut setpriv) = tool("setpriv") else { return };
        let file = scripts.path().join("open/file");
        // without a capability, security.ima cannot be set
        setpriv.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--"]);
        setpriv.arg(scripts.path().join("evmctl")).args(["ima_sign", "--sigfile", "--key"]);
        setpriv.arg(scripts.keys.join("ima_keys/x509_ima.key")).arg(&file);
        finish(&mut setpriv).exits(1);
        let signature = fs::read(scripts.path().join("open/file.sig")).unwrap();
        assert_eq!(signature[..3], [3, 2, 4]);
        let certificate = scripts.keys.join("ima_keys/x509_ima.der");
        finish(imactl().args(["evmctl", "ima_verify", "-f", "-k"]).arg(certificate).arg(file))
            .exits(0);
    }
}

/// The Linux Test Project and Red Hat's tests compare versions.
#[test]
fn the_version_is_one_that_scripts_accept() {
    let Some(scripts) = Scripts::new(&[], "p-256") else { return };
    let text =
        "evmctl --version | cut -d' ' -f2 | cut -d. -f1-2; evmctl --version | awk '{print $NF}'";
    let said = scripts.run(text);
    assert_eq!(said.exits(0).stdout, "1.6\n1.6.2\n");
}

/// dracut and the Linux Test Project import certificates into keyrings by their number.
#[test]
fn certificates_are_imported() {
    let Some(mut keyctl) = tool("keyctl") else { return };
    if finish(keyctl.args(["newring", "imactl-test", "@p"])).code != Some(0) {
        return missing("a keyring: this machine does not let keyctl make one");
    }
    let Some(scripts) = Scripts::new(&[], "rsa-2048") else { return };
    let said = scripts.run(
        r#"
        openssl pkey -pubout -in "$keys/ima_keys/x509_ima.key" -out public.pem
        keyctl session - sh -euc '
            ring=$(keyctl newring _ima @s)
            evmctl import "$keys/ima_keys/x509_ima.der" "$ring" > serial || { echo refused; exit; }
            keyctl rlist "$ring" | grep -x "$(cat serial)" > /dev/null
            keyctl describe "$(cat serial)" | grep -o asymmetric
            evmctl import --rsa public.pem "$ring" > serial
            evmctl convert public.pem
            [ "$(keyctl rdescribe "$(cat serial)" | sed "s/.*;//")" = "$(cat public.pem.keyid)" ]
        ' 2>/dev/null
        "#,
    );
    let said = said.exits(0).stdout;
    match said.contains("refused") {
        true => missing("a kernel that reads certificates"),
        false => assert!(said.contains("asymmetric"), "{said}"),
    }
}
