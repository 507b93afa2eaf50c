//! Signatures for an inode, made on the machine itself. The kernel covers the UUID of the file system; only Linux 6.9
//! and newer give it to programs.

use anyhow::Result;
use lab::image::{Image, Tree};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::Errno;

use super::boot;

const SIGN: &[&str] = &[
    "/usr/bin/imactl",
    "sign",
    "--evm",
    "--evm-type",
    "inode",
    "--key",
    "/opt/keys/x509_ima.key",
    "--evm-key",
    "/opt/keys/x509_evm.key",
];
const EVMCTL_CONTENT: &[&str] = &["/usr/bin/evmctl", "ima_sign", "-k", "/opt/keys/x509_ima.key"];
const EVMCTL_METADATA: &[&str] = &["/usr/bin/evmctl", "sign", "-k", "/opt/keys/x509_evm.key"];

/// A root with imactl, also as evmctl, and the private keys.
fn root(store: &KeyStore) -> Result<Tree> {
    let root = Tree::small_root()?;
    root.install_imactl()?;
    root.symlink("/usr/bin/evmctl", "/usr/bin/imactl")?;
    for name in ["ima_keys/x509_ima.key", "evm_keys/x509_evm.key"] {
        let path = store.directory().join(name);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        root.write(&format!("/opt/keys/{file}"), std::fs::read(&path)?, 0o600)?;
    }
    store.sign_with(&["--evm"], root.directory())?;
    Ok(root)
}

/// A new program, signed in the guest with these command lines.
fn signed(guest: &mut Guest, path: &str, commands: &[&[&str]]) -> Result<()> {
    guest.copy("/usr/bin/true", path)?.is_allowed();
    for command in commands {
        guest.execute(&[command, &[path][..]].concat())?.exits(0);
    }
    Ok(())
}

on_each_kernel! {
    fn inode_bound_signatures_are_made_without_a_uuid(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let boot = boot(kernel, &store, root(&store)?)?.disk(Image::f2fs()?);
        let mut guest = boot.up()?;
        guest.mount("/dev/vdb", "f2fs", "/mnt/f2fs")?.is_allowed();
        for directory in ["/opt", "/mnt/f2fs"] {
            let [imactl, evmctl] = ["imactl", "evmctl"].map(|name| format!("{directory}/{name}"));
            signed(&mut guest, &imactl, &[SIGN])?;
            guest.execute(&[&imactl])?.is_allowed();
            signed(&mut guest, &evmctl, &[EVMCTL_CONTENT, EVMCTL_METADATA])?;
            guest.execute(&[&evmctl])?.is_allowed();
        }
        let other = [SIGN, &["--fsuuid", "12345678-1234-5678-9abc-def012345678"]].concat();
        signed(&mut guest, "/opt/other", &[&other])?;
        guest.execute(&["/opt/other"])?.is_denied(Errno::EACCES, "invalid-HMAC");
        // its portable signature makes it immutable
        let denied = guest.execute(&[SIGN, &["/usr/bin/true"]].concat())?.exits(2);
        assert!(denied.contains("a valid portable security.evm"), "{denied}");
        Ok(())
    }
}
