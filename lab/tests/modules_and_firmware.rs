//! Kernel modules and firmware: a module needs its own signature, forced by the kernel's
//! configuration, and the file's, asked for by the policy.

use std::path::PathBuf;

use anyhow::Result;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Observation};
use lab::on_each_kernel;
use lab::protocol::{Action, Errno};
use lab::scenario::{Enforced, DEFAULT_POLICY};

const FIRMWARE: &[u8] = b"firmware of the lab";

/// Puts `/lib/modules/NAME.ko` into the tree, with a module signature of `signer`'s.
fn add_module(
    root: &Tree,
    kernel: &Kernel,
    module: &str,
    name: &str,
    signer: Option<&KeyStore>,
) -> Result<()> {
    let path = format!("/lib/modules/{name}.ko");
    root.take(&kernel.module(module)?, &path)?;
    if let Some(store) = signer {
        let (key, certificate): (PathBuf, PathBuf) = store.module_key();
        kernel.sign_module(&root.path(&path), &key, &certificate)?;
    }
    Ok(())
}

fn load(guest: &mut Guest, name: &str) -> Result<Observation> {
    let path = format!("/lib/modules/{name}.ko");
    guest.request(Action::LoadModule { path, parameters: String::new() })
}

on_each_kernel! {
    fn modules_need_both_signatures(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let stranger = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        for (name, signer) in [
            ("signed", Some(&store)),
            ("without-module-signature", None),
            ("stranger", Some(&stranger)),
            ("tampered", Some(&store)),
        ] {
            add_module(&root, kernel, "test_module", name, signer)?;
        }
        root.sign_all(&store)?;
        root.tamper("/lib/modules/tampered.ko")?;
        add_module(&root, kernel, "test_module", "without-ima-signature", Some(&store))?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        load(&mut guest, "signed")?.is_allowed().says("test_module:");
        guest.request(Action::UnloadModule { name: "test_module".into() })?.is_allowed();

        load(&mut guest, "without-ima-signature")?
            .is_refused(Errno::EACCES, "IMA-signature-required");
        load(&mut guest, "tampered")?.is_refused(Errno::EACCES, "invalid-signature");
        // the file's signature is good; the module's own is missing, or nobody's that is known
        load(&mut guest, "without-module-signature")?
            .is_refused_silently(Errno::EKEYREJECTED)
            .says("unsigned module");
        load(&mut guest, "stranger")?
            .is_refused_silently(Errno::EKEYREJECTED)
            .says("module with unavailable key");
        Ok(())
    }

    fn firmware_needs_a_signature(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        add_module(&root, kernel, "test_firmware", "test_firmware", Some(&store))?;
        for name in ["signed", "tampered"] {
            root.write(&format!("/lib/firmware/{name}.bin"), FIRMWARE, 0o644)?;
        }
        root.sign_all(&store)?;
        root.tamper("/lib/firmware/tampered.bin")?;
        root.write("/lib/firmware/unsigned.bin", FIRMWARE, 0o644)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        load(&mut guest, "test_firmware")?.is_allowed();

        let mut firmware =
            |name: &str| guest.request(Action::RequestFirmware { name: format!("{name}.bin") });
        assert_eq!(firmware("signed")?.is_allowed().content(), FIRMWARE);
        firmware("unsigned")?.is_refused(Errno::EACCES, "IMA-signature-required");
        firmware("tampered")?.is_refused(Errno::EACCES, "invalid-signature");
        firmware("absent")?.is_refused_silently(Errno::ENOENT);
        Ok(())
    }
}
