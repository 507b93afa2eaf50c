//! EVM: portable signatures over owner, mode, labels and capabilities, judged by the kernels.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use lab::image::Tree;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::{Access, Action, Attributes, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};
use rustix::fs::XattrFlags;
use serde_json::Value;

/// Signatures (2), and no further change (bit 31).
const SIGNATURES: &str = "0x80000002";
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

/// What happens to a file after it was signed, by the names of the files.
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
    // not covered
    ("other-attribute", |path| set(path, "user.comment", b"x")),
    ("moved", |path| move_attributes(path, &["security.evm"])),
    ("both-moved", |path| move_attributes(path, &["security.evm", "security.ima"])),
    ("without", |path| remove(path, "security.evm")),
    ("without-both", |path| remove(path, "security.evm").and(remove(path, "security.ima"))),
];

/// Gives a file the attributes of another program.
fn move_attributes(path: &Path, names: &[&str]) -> Result<()> {
    let other = path.with_file_name("other");
    names.iter().try_for_each(|name| set(path, name, &get(&other, name)?))
}

/// A root whose files have portable signatures; those in `/opt` are changed after that.
fn root(store: &KeyStore) -> Result<Tree> {
    let root = Tree::small_root()?;
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
    // by other keys, other algorithms and other options
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
    Ok(root)
}

/// `imactl verify --evm` of the files in `/opt`: `None` where a file is valid, or the cause.
fn predicted(root: &Tree, store: &KeyStore, kernel: &Kernel) -> Result<BTreeMap<String, Value>> {
    let mut verify = lab::programs::imactl()?;
    verify.args(["verify", "--evm", "--json", "--kernel", kernel.version(), "--keys"]);
    let output = verify.arg(store.directory()).arg(root.path("/opt")).output()?;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut verdicts = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let name = line["path"].as_str().and_then(|path| Path::new(path).file_name());
        if let Some(name) = name.filter(|_| line["type"] == "file") {
            verdicts.insert(format!("/opt/{}", name.to_string_lossy()), line["verdict"].clone());
        }
    }
    Ok(verdicts)
}

/// A machine whose kernel loads the EVM certificate from the initramfs.
fn boot(kernel: &Kernel, store: &KeyStore, root: &Tree) -> Result<Guest> {
    let initramfs = Tree::small_initramfs(store, DEFAULT_POLICY)?;
    initramfs.write("/etc/keys/x509_evm.der", store.evm_certificate()?, 0o644)?;
    let initramfs = initramfs.initramfs()?;
    let mut enforced = Enforced::new(kernel, store, root, DEFAULT_POLICY)?;
    enforced.machine = enforced.machine.initramfs(&initramfs);
    enforced.boot()
}

fn switch_on(guest: &mut Guest, bits: &str) -> Result<()> {
    guest
        .request(Action::Write {
            path: "/sys/kernel/security/evm".into(),
            content: bits.as_bytes().into(),
            mode: 0o660,
        })?
        .is_allowed();
    Ok(())
}

/// What a portable signature covers cannot be changed while it is valid, not even by root; a
/// copy with its attributes can be put in its place.
fn changes_are_refused(guest: &mut Guest) -> Result<()> {
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
        guest.request(action)?.is_refused(Errno::EPERM, "pass_immutable");
    }
    let evm = "security.evm".to_owned();
    for action in [
        set("security.capability", SYS_ADMIN),
        set("security.SMACK64", b"_"),
        set("security.ima", &[4, 4]),
        Action::RemoveAttribute { path: path.clone(), name: evm },
    ] {
        guest.request(action)?.is_refused_silently(Errno::EPERM);
    }
    // what does not change anything is allowed
    guest.request(set("security.capability", NET_RAW))?.is_allowed();
    guest.request(Action::ChangeMode { path: path.clone(), mode: 0o755 })?.is_allowed();
    guest.execute(&[&path])?.is_allowed();
    let (to, attributes) = ("/opt/update".to_owned(), Attributes::Kept);
    guest.request(Action::Copy { from: path, to: to.clone(), attributes })?.is_allowed();
    guest.execute(&[&to])?.is_allowed();
    Ok(())
}

/// On an overlay, the files of the lower layer have their own signatures, and keep them.
fn layers_are_judged_as_their_files(
    guest: &mut Guest,
    predicted: &BTreeMap<String, Value>,
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
        let path = path.replace("/opt", "/mnt/merged");
        let execution = guest.execute(&[&path, "-c", "exit 0"])?;
        match verdict.as_str() {
            Some("valid") => drop(execution.is_allowed()),
            Some(cause) => drop(execution.is_refused(Errno::EACCES, cause)),
            None => {}
        }
    }
    let path = "/mnt/merged/plain".to_owned();
    let changed = guest.request(Action::ChangeMode { path: path.clone(), mode: 0o700 })?;
    changed.is_refused(Errno::EPERM, "pass_immutable");
    guest.execute(&[&path])?.is_allowed();
    Ok(())
}

on_each_kernel! {
    fn portable_signatures_are_judged_as_predicted(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = root(&store)?;
        let predicted = predicted(&root, &store, kernel)?;
        let mut guest = boot(kernel, &store, &root)?;
        switch_on(&mut guest, SIGNATURES)?;

        for (path, verdict) in &predicted {
            let execution = guest.execute(&[path, "-c", "exit 0"])?;
            match verdict.as_str() {
                Some("valid") => drop(execution.is_allowed()),
                Some(cause) => drop(execution.is_refused(Errno::EACCES, cause)),
                None => panic!("no verdict: {path}"),
            }
        }
        let verdict = |name: &str| predicted[&format!("/opt/{name}")].as_str();
        assert_eq!(predicted.len(), CHANGES.len() + 5);
        for name in ["plain", "other-attribute", "other", "sha512"] {
            assert_eq!(verdict(name), Some("valid"), "{name}");
        }
        assert_eq!(verdict("without"), Some("missing-HMAC"));
        assert_eq!(verdict("without-both"), Some("IMA-signature-required"));
        let has_version_3 = kernel.series() == Series::Linux7;
        assert_eq!(verdict("version-3") == Some("valid"), has_version_3);
        changes_are_refused(&mut guest)?;
        layers_are_judged_as_their_files(&mut guest, &predicted)
    }
}
