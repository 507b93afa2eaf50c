//! EVM: portable signatures over owner, mode, labels and capabilities, verified by the kernels.

mod encrypted_key;
mod further;
mod generated;
mod inode_bound;
mod peer_tests;
mod status;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use lab::boot::Boot;
use lab::image::Tree;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, Issuer, KeyStore, Signer};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::{Access, Action, Attributes, Errno};
use lab::random::{cases, seed};
use rustix::fs::XattrFlags;
use serde_json::Value;
use tempfile::NamedTempFile;

use encrypted_key::encrypted;
use generated::{Bits, Keys};

const CERTIFICATE: &str = "/etc/keys/x509_evm.der";
/// A program whose EVM signature is by a key that is revoked before it is executed.
const REVOKED: &str = "/srv/revoked";
const SWITCH: &str = "/sys/kernel/security/evm";
const ATTRIBUTES: &str = "/sys/kernel/security/integrity/evm/evm_xattrs";
const LABEL: &[u8] = b"system_u:object_r:bin_t:s0\0";
/// `cap_net_raw+ep`, `cap_sys_admin+ep` (`struct vfs_cap_data`).
const NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SYS_ADMIN: &[u8] = &[1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn set(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty())
        .with_context(|| format!("set {name} of {}", path.display()))
}

fn get(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut value = vec![0; 1 << 14];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn remove(path: &Path, name: &str) -> Result<()> {
    Ok(rustix::fs::removexattr(path, name)?)
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    Ok(std::fs::set_permissions(path, Permissions::from_mode(mode))?)
}

/// A change of a file after it was signed.
type Change = fn(&Path) -> Result<()>;
const CHANGES: [(&str, Change); 13] = [
    ("plain", |_| Ok(())),
    ("owner", |path| Ok(chown(path, Some(1000), None)?)),
    ("group", |path| Ok(chown(path, None, Some(1000))?)),
    ("mode", |path| mode(path, 0o4755)),
    ("label", |path| set(path, "security.selinux", b"system_u:object_r:init_exec_t:s0\0")),
    ("without-label", |path| remove(path, "security.selinux")),
    ("capability", |path| set(path, "security.capability", SYS_ADMIN)),
    ("without-capability", |path| remove(path, "security.capability")),
    // not covered by EVM
    ("other-attribute", |path| set(path, "user.comment", b"x")),
    ("moved", |path| move_attributes(path, &["security.evm"])),
    ("both-moved", |path| move_attributes(path, &["security.evm", "security.ima"])),
    ("without", |path| remove(path, "security.evm")),
    ("without-both", |path| remove(path, "security.evm").and(remove(path, "security.ima"))),
];

/// Copies attributes to a file from another program.
fn move_attributes(path: &Path, names: &[&str]) -> Result<()> {
    let other = path.with_file_name("other");
    names.iter().try_for_each(|name| set(path, name, &get(&other, name)?))
}

/// A root whose files have portable signatures; those in `/opt` are changed afterwards.
fn root(store: &KeyStore, other: &Signer) -> Result<Tree> {
    let root = Tree::small_root()?;
    root.install_imactl()?;
    root.write("/etc/keys/x509_ima.der", store.ima_certificate()?, 0o644)?;
    root.write("/etc/keys/evm/x509_evm.der", store.evm_certificate()?, 0o644)?;
    for (name, _) in CHANGES {
        let path = root.path(&format!("/opt/{name}"));
        root.copy("/usr/bin/true", &format!("/opt/{name}"))?;
        set(&path, "security.selinux", LABEL)?;
        set(&path, "security.capability", NET_RAW)?;
    }
    root.copy("/usr/bin/dash", "/opt/other")?;
    store.sign_with(&["--evm"], root.directory())?;
    for (name, change) in CHANGES {
        change(&root.path(&format!("/opt/{name}")))?;
    }
    // signed by other keys, with other algorithms and options
    let stranger = KeyStore::create(Algorithm::P256)?;
    let sign = |name: &str, store: &KeyStore, options: &[&str]| {
        let path = format!("/opt/{name}");
        root.copy("/usr/bin/true", &path)?;
        store.sign_with(&[&["--evm"], options].concat(), &root.path(&path))
    };
    sign("sha512", store, &["--hash", "sha512"])?;
    sign("version-3", store, &["--signature-version", "3"])?;
    sign("32-bit", store, &["--word-size", "32"])?;
    sign("strangers", store, &[])?;
    stranger.sign_with(&["--evm", "--evm-only"], &root.path("/opt/strangers"))?;
    sign("other-key", store, &[])?;
    other.sign_evm(&store.directory(), &root.path("/opt/other-key"))?;
    root.copy("/usr/bin/true", REVOKED)?;
    store.sign_with(&["--evm"], &root.path(REVOKED))?;
    other.sign_evm(&store.directory(), &root.path(REVOKED))?;
    Ok(root)
}

/// The verdicts of `imactl verify --evm` on the files in `/opt`: `valid`, or the cause.
fn predicted(root: &Tree, store: &KeyStore, kernel: &Kernel) -> Result<BTreeMap<String, String>> {
    let mut verify = lab::programs::imactl()?;
    verify.args(["verify", "--evm", "--json", "--kernel", kernel.version(), "--keys"]);
    let output = verify.arg(store.directory()).arg(root.path("/opt")).output()?;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut verdicts = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let name = line["path"].as_str().and_then(|path| Path::new(path).file_name());
        if let Some(name) = name.filter(|_| line["type"] == "file") {
            verdicts.insert(
                format!("/opt/{}", name.to_string_lossy()),
                line["verdict"].as_str().unwrap_or_default().to_owned(),
            );
        }
    }
    Ok(verdicts)
}

/// The same from `imactl preflight --evm`.
fn before_boot(root: &Tree, store: &KeyStore, kernel: &Kernel) -> Result<BTreeMap<String, String>> {
    let mut preflight = lab::programs::imactl()?;
    preflight.args(["preflight", "--evm", "--json", "--details", "--policy", "default:appraise"]);
    preflight.args(["--kernel", kernel.version(), "--keys"]).arg(store.directory());
    let output = preflight.arg(root.directory()).output()?;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut verdicts = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let ("file", Some(path)) = (line["type"].as_str().unwrap_or(""), line["path"].as_str()) {
            let cause = line["cause"].as_str().unwrap_or("valid");
            verdicts.insert(path.to_owned(), cause.to_owned());
        }
    }
    verdicts.retain(|path, _| path.starts_with("/opt/"));
    Ok(verdicts)
}

/// A machine whose imactl-init finds an EVM certificate in the initramfs; the root is writable.
fn boot(kernel: &Kernel, store: &KeyStore, root: Tree) -> Result<Boot> {
    let mut boot = Boot::new(kernel, store)?.append("rw");
    boot.initramfs.write(CERTIFICATE, store.evm_certificate()?, 0o644)?;
    boot.root = root;
    Ok(boot)
}

/// Makes imactl-init load the HMAC key, which is encrypted with a user key.
fn with_hmac_key(boot: &Boot, variables: &str) -> Result<()> {
    let (initramfs, master) = (&boot.initramfs, [0x22; 32]);
    let variables = format!("EVMKEY=\"/etc/keys/evm.blob\"\n{variables}");
    initramfs.write("/etc/sysconfig/evm", variables, 0o644)?;
    initramfs.write("/etc/sysconfig/masterkey", "MASTERKEYTYPE=user\n", 0o644)?;
    initramfs.write("/etc/keys/kmk-user.blob", master, 0o600)?;
    let blob = encrypted(&KEY, ("user:kmk-user", &master))?;
    initramfs.write("/etc/keys/evm.blob", blob, 0o600)
}

/// The last message of imactl-init about EVM.
fn said(guest: &Guest) -> String {
    let console = guest.console();
    let line = console.lines().rev().find(|line| line.contains("EVM") && line.contains("imactl"));
    line.unwrap_or_default().to_owned()
}

/// Checks that the kernel runs a file, or denies it with the predicted cause.
fn judges(guest: &mut Guest, path: &str, verdict: &str) -> Result<()> {
    let execution = guest.execute(&[path, "-c", "exit 0"])?;
    match verdict {
        "valid" => drop(execution.is_allowed()),
        cause => drop(execution.is_denied(Errno::EACCES, cause)),
    }
    Ok(())
}

/// Metadata covered by a valid portable signature cannot be changed, even by root; a copy with the same
/// attributes can replace the file.
fn changes_are_denied(guest: &mut Guest) -> Result<()> {
    let path = "/opt/plain".to_owned();
    let set = |name: &str, value: &[u8]| Action::SetAttribute {
        path: "/opt/plain".to_owned(),
        name: name.to_owned(),
        value: value.into(),
    };
    for action in [
        Action::ChangeMode { path: path.clone(), mode: 0o700 },
        Action::ChangeOwner { path: path.clone(), uid: 1000, gid: 0 },
    ] {
        guest.request(action)?.is_denied(Errno::EPERM, "pass_immutable");
    }
    let evm = "security.evm".to_owned();
    for action in [
        set("security.capability", SYS_ADMIN),
        set("security.SMACK64", b"_"),
        set("security.ima", &[4, 4]),
        Action::RemoveAttribute { path: path.clone(), name: evm },
    ] {
        guest.request(action)?.is_denied_silently(Errno::EPERM);
    }
    // writing the same value is allowed
    guest.request(set("security.capability", NET_RAW))?.is_allowed();
    guest.request(Action::ChangeMode { path: path.clone(), mode: 0o755 })?.is_allowed();
    guest.execute(&[&path])?.is_allowed();
    let (to, attributes) = ("/opt/update".to_owned(), Attributes::Kept);
    guest.request(Action::Copy { from: path, to: to.clone(), attributes })?.is_allowed();
    guest.execute(&[&to])?.is_allowed();
    Ok(())
}

/// `imactl why` in the guest gives the kernel's causes.
fn why_says_the_same(guest: &mut Guest, predicted: &BTreeMap<String, String>) -> Result<()> {
    for (path, verdict) in predicted {
        let told = guest.execute(&["/usr/bin/imactl", "why", path])?;
        let (text, expected) = (
            told.text(),
            match verdict.as_str() {
                "valid" => "execute  allowed".to_owned(),
                cause => format!("execute  denied    {cause}, by: "),
            },
        );
        assert!(text.contains(&expected) && text.contains("EVM is active"), "{verdict}: {told}");
    }
    Ok(())
}

/// On an overlay, files of the lower layer keep their own signatures.
fn layers_are_judged_as_their_files(
    guest: &mut Guest,
    predicted: &BTreeMap<String, String>,
) -> Result<()> {
    guest.mount("tmpfs", "tmpfs", "/mnt")?.is_allowed();
    for path in ["/mnt/upper", "/mnt/work"] {
        guest.request(Action::MakeDirectory { path: path.into() })?.is_allowed();
    }
    let options = "lowerdir=/opt,upperdir=/mnt/upper,workdir=/mnt/work".into();
    let (source, kind) = ("overlay".to_owned(), "overlay".to_owned());
    let (target, access) = ("/mnt/merged".to_owned(), Access::ReadWrite);
    guest.request(Action::Mount { source, target, kind, access, options })?.is_allowed();
    for (path, verdict) in predicted {
        judges(guest, &path.replace("/opt", "/mnt/merged"), verdict)?;
    }
    let path = "/mnt/merged/plain".to_owned();
    let changed = guest.request(Action::ChangeMode { path: path.clone(), mode: 0o700 })?;
    changed.is_denied(Errno::EPERM, "pass_immutable");
    guest.execute(&[&path])?.is_allowed();
    Ok(())
}

/// On an idmapped mount, the owners on disk count. Setting the same owner again is not a change.
fn mapped_owners_are_those_on_the_disk(
    guest: &mut Guest,
    predicted: &BTreeMap<String, String>,
) -> Result<()> {
    let (path, target) = ("/opt".to_owned(), "/mnt/mapped".to_owned());
    guest.request(Action::MountMapped { path, target, first: 3000 })?.is_allowed();
    for (path, verdict) in predicted {
        judges(guest, &path.replace("/opt", "/mnt/mapped"), verdict)?;
    }
    let path = "/mnt/mapped/other".to_owned();
    let owner = |uid| Action::ChangeOwner { path: path.clone(), uid, gid: 3000 };
    guest.request(owner(3001))?.is_denied(Errno::EPERM, "pass_immutable");
    guest.request(owner(3000))?.is_allowed();
    judges(guest, &path, "valid")
}

/// The HMAC key.
const KEY: [u8; 32] = [0x33; 32];

fn tempfile(content: &[u8]) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, content)?;
    Ok(file)
}

on_each_kernel! {
    fn portable_signatures_are_judged_as_predicted(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let other = store.another_signer("another EVM key", Issuer::System)?;
        let root = root(&store, &other)?;
        let mut predicted = predicted(&root, &store, kernel)?;
        let before_boot = before_boot(&root, &store, kernel)?;
        let boot = boot(kernel, &store, root)?;
        // of another key that the same CA certified
        boot.initramfs.write("/etc/keys/evm/other.der", other.certificate()?, 0o644)?;
        let mut guest = boot.up()?;
        let said = said(&guest);
        assert!(said.contains("EVM in force: signatures (bits 0x2, locked)"), "{said}");
        for bits in ["1", "4", "0x80000006"] {
            let (path, content) = (SWITCH.to_owned(), bits.as_bytes().into());
            guest.request(Action::Write { path, content, mode: 0o660 })?.fails(Errno::EPERM);
        }

        judges(&mut guest, "/opt/other-key", "valid")?;
        // only the guest has its certificate
        for (path, verdict) in predicted.iter().filter(|(path, _)| *path != "/opt/other-key") {
            judges(&mut guest, path, verdict)?;
        }
        let verdict = |name: &str| predicted[&format!("/opt/{name}")].as_str();
        assert_eq!(predicted.len(), CHANGES.len() + 6);
        for name in ["plain", "other-attribute", "other", "sha512"] {
            assert_eq!(verdict(name), "valid", "{name}");
        }
        assert_eq!(verdict("without"), "missing-HMAC");
        assert_eq!(verdict("without-both"), "IMA-signature-required");
        let has_version_3 = kernel.series() == Series::Linux7;
        assert_eq!(verdict("version-3") == "valid", has_version_3);
        assert_eq!(before_boot, predicted, "preflight says the same");
        changes_are_denied(&mut guest)?;
        predicted.remove("/opt/other-key");
        why_says_the_same(&mut guest, &predicted)?;
        layers_are_judged_as_their_files(&mut guest, &predicted)?;
        mapped_owners_are_those_on_the_disk(&mut guest, &predicted)?;
        // .ima_blacklist also revokes keys in .evm: they become unknown keys
        let (keyring, certificate) = (".ima_blacklist".to_owned(), other.certificate()?.into());
        guest.request(Action::AddKey { keyring, certificate })?.is_allowed();
        judges(&mut guest, REVOKED, &predicted["/opt/strangers"])
    }

    fn attributes_are_added_before_evm_is_enabled(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let root = Tree::small_root()?;
        for name in ["without", "with"] {
            root.copy("/usr/bin/true", &format!("/opt/{name}"))?;
        }
        set(&root.path("/opt/with"), "security.one", b"value")?;
        store.sign_with(&["--evm"], root.directory())?;
        let boot = boot(kernel, &store, root)?;
        let variables = "EVM_XATTRS=\"security.two security.one\"\n";
        boot.initramfs.write("/etc/sysconfig/evm", variables, 0o644)?;
        let mut guest = boot.up()?;
        let list = guest.read(ATTRIBUTES)?.text();
        assert!(list.ends_with("security.two\nsecurity.one\n"), "{list}");
        let (path, content) = (ATTRIBUTES.to_owned(), b"security.three".as_slice().into());
        guest.request(Action::Write { path, content, mode: 0o660 })?.fails(Errno::EPERM);
        judges(&mut guest, "/opt/without", "valid")?;
        // its signature covers no further attributes
        judges(&mut guest, "/opt/with", "invalid-fail-immutable")
    }

    fn hmacs_are_judged_as_predicted(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let (key, wrong) = (tempfile(&KEY)?, tempfile(&[0x11; 32])?);
        let root = Tree::small_root()?;
        for name in ["portable", "hmac", "hmac-changed", "wrong", "inode", "inode-changed"] {
            root.copy("/usr/bin/true", &format!("/opt/{name}"))?;
        }
        store.sign_with(&["--evm"], root.directory())?;
        let boot = boot(kernel, &store, root)?;
        with_hmac_key(&boot, "")?;
        let disk = boot.root.ext4(64 << 20)?;
        let sign = |glob: &str, options: &[&str]| {
            let only = ["--evm", "--evm-only", "--include", glob];
            store.sign_with(&[&only[..], options].concat(), disk.path())
        };
        let hmac = |path: &NamedTempFile| path.path().to_string_lossy().into_owned();
        let (key, wrong) = (hmac(&key), hmac(&wrong));
        sign("/opt/hmac*", &["--evm-type", "hmac", "--hmac-key", &key])?;
        sign("/opt/wrong", &["--evm-type", "hmac", "--hmac-key", &wrong])?;
        sign("/opt/inode*", &["--evm-type", "inode"])?;
        let mut debugfs = lab::host::command("debugfs", "e2fsprogs")?;
        for name in ["hmac-changed", "inode-changed"] {
            debugfs.args(["-w", "-R", &format!("set_inode_field /opt/{name} uid 1000")]);
            lab::host::run(debugfs.arg(disk.path()))?;
            debugfs = lab::host::command("debugfs", "e2fsprogs")?;
        }

        let mut guest = boot.up_from_disk(&disk)?;
        let said = said(&guest);
        assert!(said.contains("EVM in force: HMAC and signatures (bits 0x3, locked)"), "{said}");
        for name in ["portable", "hmac", "inode"] {
            judges(&mut guest, &format!("/opt/{name}"), "valid")?;
        }
        for name in ["hmac-changed", "wrong", "inode-changed"] {
            judges(&mut guest, &format!("/opt/{name}"), "invalid-HMAC")?;
        }
        // the kernel replaces an inode-bound signature with an HMAC, and a changed file gets one, too
        let evm = |guest: &mut Guest, name: &str| -> Result<Vec<u8>> {
            let (path, name) = (format!("/opt/{name}"), "security.evm".to_owned());
            Ok(guest.request(Action::ReadAttribute { path, name })?.content().to_vec())
        };
        assert_eq!(evm(&mut guest, "inode")?[0], 2);
        assert_eq!(evm(&mut guest, "portable")?[0], 5);
        let before = evm(&mut guest, "hmac")?;
        let path = "/opt/hmac".to_owned();
        guest.request(Action::ChangeMode { path, mode: 0o700 })?.is_allowed();
        assert_ne!(evm(&mut guest, "hmac")?, before);
        judges(&mut guest, "/opt/hmac", "valid")?;
        let path = "/opt/portable".to_owned();
        let changed = guest.request(Action::ChangeMode { path, mode: 0o700 })?;
        changed.is_denied(Errno::EPERM, "pass_immutable");
        // imactl-init removed the key
        let keys = guest.read("/proc/keys")?.text();
        assert!(!keys.contains("evm-key") && !keys.contains("kmk-user"), "{keys}");
        Ok(())
    }

    fn generated_files_are_judged_as_predicted(kernel) {
        let number = cases(300);
        let seed = seed(0xe7 + kernel.series() as u64);
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let known = store.another_signer("another EVM key", Issuer::System)?;
        let hmac = tempfile(&KEY)?;
        let others = generated::others()?;
        let keys = Keys { store: &store, known: &known, hmac: hmac.path(), others };
        let bits = Bits::pick(kernel, seed);
        let root = Tree::small_root()?;
        store.sign_with(bits.options(), root.directory())?;
        let image = generated::image(&root, &keys, number, seed)?;
        let mut boot = boot(kernel, &store, root)?.append("loglevel=4");
        match bits.has_hmac() {
            true => with_hmac_key(&boot, bits.variable())?,
            false => boot.initramfs.write("/etc/sysconfig/evm", bits.variable(), 0o644)?,
        }
        boot.initramfs.write("/etc/keys/evm/known.der", known.certificate()?, 0o644)?;
        for (name, store) in &keys.others {
            // a certificate that the kernel cannot parse stops the boot
            if *name != "ml-dsa-44" || kernel.series() == Series::Linux7 {
                let path = format!("/etc/keys/evm/{name}.der");
                boot.initramfs.write(&path, store.ima_certificate()?, 0o644)?;
                boot = boot.trusting(store)?;
            }
        }
        let mut guest = boot.up_from_disk(&image)?;
        generated::all_are_judged_as_predicted(&mut guest, &image, &keys, kernel, bits, number)
            .with_context(|| format!("seed {seed}, {bits:?}"))
    }
}
